"""`sim2real ranges`: how wide the randomization may be before a policy fails."""

import argparse

from pipelines.commands._options import add

SUMMARY = "widen the randomization as far as a policy can bear"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Widen the ranges of some parameters as far as a policy can bear, and write them as a space file to train or "
    "test under. The outer limits are those of --param; everything else is drawn from its range all the while. "
    "Methods: adr tests each end of each range by itself (automatic domain randomization); entropy widens all at "
    "once as far as a success rate allows (DORAEMON)."
)
EXAMPLES = """  sim2real ranges --task lift --param object.cube.mass=0.005:0.3 --out runs/r
  sim2real ranges --task lift --policy runs/lift/policy.onnx --method entropy --success 0.8 \\
      --param 'detector.bias_*=-0.02:0.02' --param 'servo.*.offset=-0.1:0.1' --out runs/ranges
  sim2real pretrain --task lift --space runs/ranges/space.toml --out runs/wider"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        task={"required": True, "help": "reach, push, lift, place, stack or module:Class"},
        policy={"default": "expert", "help": "expert, a policy file or module:Class (%(default)s)"},
    )
    add(
        parser,
        "robot",
        param="what to widen, and its outer limits",
        space="what else varies (default: every declared range)",
    )
    add(parser, "object", "twin", "cameras")
    parser.add_argument("--method", choices=("adr", "entropy"), default="adr", help="%(default)s")
    parser.add_argument(
        "--success", type=float, default=0.8, metavar="RATE", help="success to keep (%(default)s)"
    )
    add(parser, draws={"default": 2000, "help": "episodes in all (%(default)s)"})
    add(parser, "sees", "seed", "workers", out="where to put space.toml and the report")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import replace
    from pathlib import Path

    from pipelines.reports.report import try_report
    from pipelines.sweeps.ranges import find_ranges
    from pipelines.sweeps.simulated import plan_from, workers_for
    from randomization.space import parse_setting
    from sim2real.errors import UserError

    if not args.param:
        raise UserError(
            "name what to widen with --param NAME=LO:HI; `sim2real sweep` says which parameters matter"
        )
    plan = plan_from(args, draws=args.draws)
    plan = replace(plan, space=plan.space.with_parameters(args.param))
    answer = find_ranges(
        plan,
        tuple(parse_setting(text)[0] for text in args.param),
        Path(args.out),
        method=args.method,
        success=args.success,
        workers=workers_for(plan, args.workers),
    )
    try_report(args.out)
    if args.json:
        print(json.dumps(answer))
        return 0
    for name, (low, high) in answer["ranges"].items():
        outer = answer["outer"][name]
        print(f"{name}: {low:.4g} … {high:.4g}  (outer limits {outer[0]:.4g} … {outer[1]:.4g})")
    print(f"{answer['draws']} episodes; written to {answer['space']}")
    return 0
