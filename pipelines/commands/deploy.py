"""`sim2real deploy`: run a policy on an arm."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.deployment.request import Options

HELP = (
    "Run a policy on an arm: a 100 Hz loop behind the safety gate, with a watchdog process, and a defined way "
    "out of every end: hold, lower slowly to rest, let go. On a terminal it asks before the first motion; "
    "q or Ctrl-C stop it, space is an emergency stop (so is 'sim2real estop'). After more than three runs in a row "
    "that ended in a fault it refuses to go on until --acknowledge. This is not a safety-rated system: keep a power "
    "switch within reach."
)
EXAMPLES = """  sim2real deploy --policy runs/reach/policy.onnx --port emulated --episodes 5 --out runs/deployed
  sim2real deploy --policy runs/reach/policy.onnx --port /dev/ttyACM0 --calibration my_arm.json \\
      --goal 0.2,0.05,0.1 --speed 0.3 --out runs/first
  sim2real deploy --policy runs/lift/policy.onnx --port /dev/ttyACM0 --calibration my_arm.json \\
      --cameras cameras.toml --camera front=0 --episodes 20 --out runs/lift_arm --json
  sim2real deploy --policy expert --task reach --port emulated --seconds 300 --out runs/timing
  sim2real deploy --policy tcp://127.0.0.1:5555 --port /dev/ttyACM0 --out runs/remote
  sim2real deploy --acknowledge --port /dev/ttyACM0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        required=True,
        metavar="P",
        help="a policy file, expert, zero, random, module:Class or tcp://HOST:PORT (a policy server)",
    )
    parser.add_argument("--task", metavar="T", help="the task (default: the policy's)")
    add_arm_arguments(parser)
    parser.add_argument(
        "--acknowledge", action=_Acknowledge,
        help="run nothing: clear the count of failures of the arm at --port, after somebody has looked at it",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="everything but motion: torque stays off")
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


class _Acknowledge(argparse.Action):
    """A flag beside which only the port matters."""

    def __init__(self, option_strings: list[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, **more)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        setattr(namespace, self.dest, True)
        for action in parser._actions:
            action.required = action.dest == "port"


def add_arm_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that `deploy` and `record` share."""
    parser.add_argument(
        "--port", required=True, metavar="PORT", help="serial port, or 'emulated' to start an arm"
    )
    parser.add_argument("--robot", default="so101", metavar="R", help="robot or its TOML (%(default)s)")
    parser.add_argument(
        "--calibration", metavar="FILE", help="calibration of this arm (default: what its servos store)"
    )
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=SOURCE",
        help="a camera: index, device, file or stream; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--cameras", metavar="FILE", help="TOML, a table per camera: size, intrinsics, camera_to_base"
    )
    parser.add_argument(
        "--goal", metavar="X,Y,Z", help="goal in metres, base frame (default: drawn, or the mark)"
    )
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes of the task's duration (1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="one episode of this length instead")
    parser.add_argument(
        "--before-episode",
        metavar="CMD",
        help="shell command run before each episode (gets EPISODE, TASK, GOAL)",
    )
    parser.add_argument(
        "--success",
        metavar="CMD",
        help="shell command that judges each episode by its exit status (0: success)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of goals and policies (%(default)s)"
    )
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="F", help="scales the gate's limits (%(default)s)"
    )
    parser.add_argument(
        "--estop", action="append", default=[], metavar="PATH",
        help="emergency stop input: a serial port (its CTS line, or PORT:dsr), or a file whose first character is 0 "
        "while pressed, such as a GPIO's value; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--operator-timeout", type=float, metavar="S", help="stop when no key was pressed for S seconds"
    )
    parser.add_argument(
        "--on-fault",
        metavar="CMD",
        help="shell command run on a fault (gets FAULT, FAILURES, DISABLED, TASK, OUT)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before the first motion")
    add_view_argument(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for results and logs")


def add_view_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--view",
        nargs="?",
        const="",
        metavar="FILE",
        help="show joints, cameras and the supervisor live in rerun, or write them to FILE.rrd",
    )


def options_of(args: argparse.Namespace, command: str, **more: object) -> "Options":
    """The options of a run from the parsed flags."""
    from pipelines.deployment.request import Options

    shared = (
        "port", "out", "policy", "task", "robot", "calibration", "cameras", "goal", "episodes", "seconds",
        "before_episode", "success", "seed", "speed", "yes", "operator_timeout", "on_fault",
        "view",
    )  # fmt: skip
    values = {name: getattr(args, name) for name in shared} | more
    values |= {name: tuple(getattr(args, name)) for name in ("camera", "estop")}
    return Options(command=command, **values)


def run(args: argparse.Namespace) -> int:
    import json

    if args.acknowledge:
        return _acknowledge(args)
    from pipelines.deployment.result import summary
    from pipelines.deployment.run import run as deploy
    from pipelines.reports.report import try_report

    result, status = deploy(options_of(args, "deploy", dry_run=args.dry_run))
    print(json.dumps(result) if args.json else summary(result), flush=True)
    try_report(result["out"])
    return status


def _acknowledge(args: argparse.Namespace) -> int:
    import json

    from hardware.runtime.safety.escalation import Failures
    from sim2real.robot import Robot

    before = Failures(Robot.load(args.robot).name, args.port).acknowledge()
    if args.json:
        print(json.dumps({"arm": before.arm, "failures": before.failures, "last": before.last}))
    elif before.failures:
        print(f"{before.arm}: {before.failures} failures in a row acknowledged, the last one '{before.last}'")
    else:
        print(f"{before.arm}: there was nothing to acknowledge")
    return 0
