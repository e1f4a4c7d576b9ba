"""`sim2real cost`: what an arm costs, what it saves, and what that hangs on."""

import argparse
from typing import TYPE_CHECKING

from pipelines.commands._options import add

if TYPE_CHECKING:
    from pipelines.costs.inputs import Inputs

SUMMARY = "what an arm costs, what it saves, and what that hangs on"
GROUP = "without an arm"
HELP = (
    "Total cost of ownership, cost per successful item and per new task, payback, net present value, internal rate "
    "and break-even of a robot cell, each with its 10th, 50th and 90th percentile; which inputs decide, and decisions "
    "with the probability of regret. Inputs are low, most likely and high values with unit, source and date; success "
    "can be the posterior of a benchmark."
)
EXAMPLES = """  sim2real cost --inputs                             # every input: values, unit, where from
  sim2real cost --out runs/cost                      # the defaults, most of which are assumptions
  sim2real cost --benchmark runs/policy --set demand=300000 --set wage=22:28:35 --out runs/cost
  sim2real cost --scenario cell.toml --fleet runs/fleet --teach fleet --out runs/cost --json

values of --set and of a scenario's [inputs]: NUMBER, NUMBER UNIT ("0.5 min", "90%"), or LOW:LIKELY:HIGH; in a
scenario also a table: {low = 1, likely = 2, high = 3, unit = "h", shape = "triangular", source = "an offer"}."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", metavar="FILE", help="TOML: title, and a table [inputs]")
    parser.add_argument(
        "--benchmark", metavar="DIR", help="success from what this run counted (or a JSON file of `evaluate`)"
    )
    parser.add_argument("--fleet", metavar="DIR", help="robots, episodes and waiting from `fleet simulate`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one input; may be repeated"
    )
    parser.add_argument(
        "--teach",
        default="pretraining",
        metavar="WAY",
        help="how tasks are taught: demonstrations, pretraining or fleet (%(default)s)",
    )
    parser.add_argument("--inputs", action="store_true", help="list the inputs instead")
    add(parser, draws={"default": 10_000, "help": "draws of the inputs (%(default)s)"})
    add(parser, "seed", out={"required": False})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.cost import cost, cost_inputs
    from pipelines.costs.inputs import parse_setting
    from sim2real.errors import UserError

    settings = dict(parse_setting(text) for text in args.set)
    if args.inputs:
        inputs = cost_inputs(args.scenario, benchmark=args.benchmark, fleet=args.fleet, settings=settings)
        rows = [one.to_dict() for one in inputs.by_name.values()]
        print(json.dumps({"inputs": rows}) if args.json else _listed(inputs))
        return 0
    if args.out is None:
        raise UserError("name a run directory with --out DIR, or list the inputs with --inputs")
    result = cost(
        args.scenario,
        benchmark=args.benchmark,
        fleet=args.fleet,
        settings=settings,
        draws=args.draws,
        seed=args.seed,
        teach=args.teach,
        out=args.out,
    )
    print(json.dumps(result.result) if args.json else result)
    return 0


def _listed(inputs: "Inputs") -> str:
    from pipelines.costs.inputs import GROUPS
    from pipelines.costs.words import inputs_text

    return inputs_text(inputs, GROUPS)
