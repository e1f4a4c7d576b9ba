"""`sim2real fleet simulate`: what many arms collect, wait for and need."""

import argparse
from typing import TYPE_CHECKING

from pipelines.commands._options import add

if TYPE_CHECKING:
    from pipelines.costs.inputs import Inputs

SUMMARY = "what many arms collect, and what they wait for, as discrete events"
HELP = (
    "Simulate a fleet as discrete events: robots that collect, fail and wait for people, break, train or wait for a "
    "computer, take up new policies and send their data. Without further options it runs the assumptions of the "
    "project brief, shows what each of them hides, and the same for 1, 10, 100 and 1,000 robots. Needs SimPy: "
    "pip install 'sim2real-transfer[fleet]'."
)
EXAMPLES = """  sim2real fleet simulate --robots 10 --days 30 --out runs/fleet
  sim2real fleet simulate --inputs                       # every input: value, unit, where from
  sim2real fleet simulate --robots 20 --benchmark runs/policy --set operators=2 --set operator_hours=8 --out runs/f
  sim2real fleet simulate --robots 20 --set success=0.8:0.9:0.95 --set mtbf=500 --runs 50 --out runs/g --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robots", type=int, default=10, metavar="N", help="robots (%(default)s)")
    parser.add_argument("--days", type=float, default=30, metavar="D", help="days (%(default)s)")
    parser.add_argument(
        "--pool",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether robots learn together, or each by itself, standing meanwhile (auto: two or more do)",
    )
    parser.add_argument("--scenario", metavar="FILE", help="TOML: title, and a table [inputs]")
    parser.add_argument(
        "--benchmark", metavar="DIR", help="success from what this run counted (or a JSON file of `evaluate`)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one input; may be repeated"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        metavar="R",
        help="repetitions that draw inputs from their ranges (%(default)s)",
    )
    parser.add_argument("--inputs", action="store_true", help="list the inputs instead")
    add(parser, "seed", out={"required": False})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.fleet import fleet_inputs, simulate_fleet
    from pipelines.costs.inputs import parse_setting
    from sim2real.errors import UserError

    settings = dict(parse_setting(text) for text in args.set)
    if args.inputs:
        inputs = fleet_inputs(args.scenario, benchmark=args.benchmark, settings=settings)
        rows = [one.to_dict() for one in inputs.by_name.values()]
        print(json.dumps({"inputs": rows}) if args.json else _listed(inputs))
        return 0
    if args.out is None:
        raise UserError("name a run directory with --out DIR, or list the inputs with --inputs")
    result = simulate_fleet(
        args.robots,
        args.days,
        args.scenario,
        benchmark=args.benchmark,
        settings=settings,
        pool={"auto": None, "yes": True, "no": False}[args.pool],
        runs=args.runs,
        seed=args.seed,
        out=args.out,
    )
    print(json.dumps(result.result) if args.json else result)
    return 0


def _listed(inputs: "Inputs") -> str:
    from pipelines.costs.words import inputs_text
    from pipelines.fleet.simulator.settings import GROUPS

    return inputs_text(inputs, GROUPS)
