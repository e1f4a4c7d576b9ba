"""`sim2real evaluate`: success of a policy in simulation."""

import argparse

HELP = (
    "Measure a policy in simulation under randomization: how often it succeeds on draws it has not seen. A "
    "policy sees what the sensors and the camera's detector show, the expert the true state."
)
EXAMPLES = """  sim2real evaluate --policy runs/lift/policy.onnx --draws 500
  sim2real evaluate --policy runs/lift/policy.onnx --draws 200 --space runs/twin/space.toml --json
  sim2real evaluate --policy expert --task push --draws 200 --sees sensors
  sim2real evaluate --policy tcp://127.0.0.1:5555 --task reach --draws 50      (a policy server, without an arm)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        required=True,
        metavar="P",
        help="a policy file, expert, zero, random, module:Class, or tcp://HOST:PORT for a policy server",
    )
    parser.add_argument(
        "--task", metavar="T", help="reach, push, lift or module:Class (default: the policy's own)"
    )
    parser.add_argument("--draws", type=int, default=200, metavar="N", help="episodes (%(default)s)")
    parser.add_argument("--robot", default="so101", metavar="R", help="robot or its TOML (%(default)s)")
    parser.add_argument("--space", metavar="FILE", help="what varies (default: every declared range)")
    parser.add_argument("--twin", metavar="FILE", help="nominal parameters, as `identify` wrote them")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which draws (%(default)s)")
    parser.add_argument("--workers", type=int, metavar="W", help="processes (one per core; 0: in this one)")
    parser.add_argument(
        "--sees",
        choices=("sensors", "truth"),
        help="what the policy observes (default: truth for the expert)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.evaluate import evaluate

    result = evaluate(
        args.policy,
        args.task,
        args.robot,
        draws=args.draws,
        space=args.space,
        twin=args.twin,
        seed=args.seed,
        sees=args.sees,
        workers=args.workers,
    )
    print(json.dumps(result.result) if args.json else result)
    return 0
