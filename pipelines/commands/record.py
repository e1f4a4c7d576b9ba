"""`sim2real record`: record episodes on an arm as a LeRobot data set."""

import argparse

from pipelines.commands._options import add
from pipelines.commands.deploy import add_arm_arguments, add_leader_arguments, options_of

SUMMARY = "record episodes on an arm as a LeRobot data set"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Record episodes on an arm as a LeRobot v3.0 data set: requested and executed actions, true capture times, "
    "what was observed, temperature and current of the servos, the supervisor's state, success, pictures. Who acts "
    "is a policy (by default the task's scripted expert), a leader arm (--leader), keys (--keyboard) or your hands "
    "on the limp arm (--hand). Keys: s success, f failure, d discard, r redo, q stop, space EMERGENCY STOP; with a "
    "leader, keys or hands Enter begins each episode. Finished episodes are safe whatever happens, the one under way "
    "but for its last second; recording into the same folder again adds to them."
)
EXAMPLES = """  sim2real record --task lift --port emulated --episodes 10 --out runs/recorded
  sim2real record --task reach --policy runs/reach/policy.onnx --port /dev/ttyACM0 \\
      --calibration my_arm.json --episodes 20 --out runs/recorded
  sim2real record --task "put the cup on the shelf" --leader /dev/ttyACM1 --leader-calibration leader.json \\
      --port /dev/ttyACM0 --calibration my_arm.json --cameras cameras.toml --camera front=0 --out runs/cup
  sim2real record --task wave --hand --port /dev/ttyACM0 --calibration my_arm.json --out runs/wave
  sim2real record --task wave --keyboard --port emulated --out runs/keys"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        task="reach, push, lift, place, stack or module:Class; where a person acts, any name or instruction",
        policy="as in deploy (expert)",
    )
    add(parser, "object")
    add_leader_arguments(parser)
    parser.add_argument("--hand", action="store_true", help="the arm is limp and moved by hand")
    parser.add_argument("--keyboard", action="store_true", help="the arm is moved with keys")
    add_arm_arguments(parser)
    parser.add_argument(
        "--reset-time",
        type=float,
        metavar="S",
        help="where a person acts: seconds between episodes (default: Enter begins each)",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.deployment.result import summary
    from pipelines.deployment.run import run as deploy
    from pipelines.reports.report import try_report
    from sim2real.errors import UserError

    more = {
        name: getattr(args, name)
        for name in ("leader", "leader_calibration", "leader_robot", "hand", "keyboard", "reset_time")
    }
    options = options_of(args, "record", record=True, **more)
    if args.task is None:
        raise UserError(
            "--task is missing: the name of a task, or where a person acts any name or instruction"
        )
    result, status = deploy(options)
    print(json.dumps(result) if args.json else summary(result), flush=True)
    try_report(result["out"])
    return status
