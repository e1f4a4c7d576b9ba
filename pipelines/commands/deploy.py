"""`sim2real deploy`: run a policy on an arm."""

import argparse
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add, add_cameras, follow_instruction

if TYPE_CHECKING:
    from pipelines.deployment.request import Options

SUMMARY = "run a policy on an arm"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Run a policy on an arm: a 100 Hz loop behind the safety gate, with a watchdog process, and a defined way "
    "out of every end: hold, lower slowly to rest, let go. On a terminal it asks before the first motion; "
    "q or Ctrl-C stop it, space is an emergency stop (so is 'sim2real estop'). After more than three runs in a row "
    "that ended in a fault it refuses to go on until --acknowledge. A policy that answers too late for its chunks is "
    "refused before torque comes on. This is not a safety-rated system: keep a power "
    "switch within reach."
)
EXAMPLES = """  sim2real deploy --policy runs/reach/policy.onnx --port emulated --episodes 5 --out runs/deployed
  sim2real deploy --policy runs/reach/policy.onnx --port /dev/ttyACM0 --calibration my_arm.json \\
      --goal 0.2,0.05,0.1 --speed 0.3 --out runs/first
  sim2real deploy --policy runs/lift/policy.onnx --port /dev/ttyACM0 --calibration my_arm.json \\
      --cameras cameras.toml --camera front=0 --episodes 20 --out runs/lift_arm --json
  sim2real deploy --policy expert --task reach --port emulated --seconds 300 --out runs/timing
  sim2real deploy --policy tcp://127.0.0.1:5555 --port /dev/ttyACM0 --out runs/remote
  sim2real deploy --policy runs/lift/policy.onnx --port /dev/ttyACM0 --cameras cameras.toml --camera front=0 \\
      --episodes 20 --collect corrections --leader /dev/ttyACM1 --out runs/corrected
  sim2real deploy --acknowledge --port /dev/ttyACM0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        policy={
            "required": True,
            "help": "a policy file, expert, zero, random, module:Class or tcp://HOST:PORT (a policy server)",
        },
    )
    add(parser, "task", "object")
    add(parser, "instruction")
    add_arm_arguments(parser)
    parser.add_argument(
        "--acknowledge", action=_Acknowledge,
        help="run nothing: clear the count of failures of the arm at --port, after somebody has looked at it",
    )  # fmt: skip
    parser.add_argument(
        "--collect", choices=("corrections",),
        help="record the run as a LeRobot data set in --out, and let a person take over (key t) and hand back: with "
        "--leader, or with keys",
    )  # fmt: skip
    add_leader_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="everything but motion: torque stays off")
    add(parser, "json")


def add_leader_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that describe a leader arm."""
    parser.add_argument("--leader", metavar="PORT", help="a leader arm's port, or 'emulated' to start one")
    parser.add_argument("--leader-calibration", metavar="FILE", help="default: what its servos store")
    parser.add_argument("--leader-robot", metavar="R", help="what the leader is (default: as --robot)")


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
    add(parser, port={"required": True})
    add(parser, "robot", "calibration")
    add_cameras(parser)
    parser.add_argument(
        "--goal", metavar="X,Y,Z", help="goal in metres, base frame (default: drawn, or the mark)"
    )
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes of the task's duration (1)")
    add(parser, seconds="one episode of this length instead")
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
    add(parser, seed="of goals and policies (%(default)s)")
    add(parser, "speed")
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
    add(parser, "yes", "view", "out")


def options_of(args: argparse.Namespace, command: str, **more: object) -> "Options":
    """The options of a run from the parsed flags."""
    from pipelines.deployment.request import Options

    shared = (
        "port", "out", "policy", "task", "robot", "calibration", "cameras", "goal", "episodes", "seconds",
        "before_episode", "success", "seed", "speed", "yes", "operator_timeout", "on_fault",
        "view",
    )  # fmt: skip
    values = {name: getattr(args, name) for name in shared} | more
    values |= {name: tuple(getattr(args, name)) for name in ("camera", "estop", "object")}
    return Options(command=command, **values)


def run(args: argparse.Namespace) -> int:
    follow_instruction(args)
    import json

    if args.acknowledge:
        return _acknowledge(args)
    from pipelines.deployment.result import summary
    from pipelines.deployment.run import run as deploy
    from pipelines.reports.report import try_report
    from sim2real.errors import UserError

    if args.leader is not None and args.collect is None:
        raise UserError("--leader is whoever takes over from the policy: add --collect corrections")
    more = {
        name: getattr(args, name)
        for name in ("dry_run", "collect", "leader", "leader_calibration", "leader_robot")
    }
    result, status = deploy(options_of(args, "deploy", record=args.collect is not None, **more))
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
