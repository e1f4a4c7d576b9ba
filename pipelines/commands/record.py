"""`sim2real record`: record episodes on an arm as a LeRobot data set."""

import argparse

from pipelines.commands.deploy import add_arm_arguments, options_of

HELP = (
    "Record episodes of a policy (by default the task's scripted expert) on an arm as a LeRobot v3.0 data set: "
    "requested and executed actions, true capture times, what was observed, success, pictures. Finished "
    "episodes are safe whatever happens afterwards; recording into the same folder again adds to them."
)
EXAMPLES = """  sim2real record --task lift --port emulated --episodes 10 --out runs/recorded
  sim2real record --task reach --policy runs/reach/policy.onnx --port /dev/ttyACM0 \\
      --calibration my_arm.json --episodes 20 --out runs/recorded"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, metavar="T", help="reach, push, lift or module:Class")
    parser.add_argument(
        "--policy", default="expert", metavar="P", help="a policy file, expert or module:Class (%(default)s)"
    )
    add_arm_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.arm_result import summary
    from pipelines.deploy import run as deploy
    from pipelines.report import try_report

    result, status = deploy(options_of(args, "record", record=True))
    print(json.dumps(result) if args.json else summary(result), flush=True)
    try_report(args.out)
    return status
