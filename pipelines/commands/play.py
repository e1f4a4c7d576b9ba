"""`sim2real play`: play a recorded episode on an arm."""

import argparse

from pipelines.commands.deploy import add_view_argument

HELP = (
    "Play what was executed in a recorded episode on an arm, through the safety gate: the arm goes slowly to the "
    "episode's first pose, follows, goes home and is lowered to rest. Says how far each joint was from where it was "
    "sent and from where it was in the recording, and what the gate changed. Another robot's data set is refused."
)
EXAMPLES = """  sim2real play --dataset runs/recorded --episode 0 --port emulated --out runs/played
  sim2real play --dataset runs/recorded --episode 3 --speed 0.5 --port /dev/ttyACM0 \\
      --calibration my_arm.json --out runs/played --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dataset", required=True, metavar="DIR", help="a LeRobot data set")
    add("--episode", type=int, default=0, metavar="N", help="which of its episodes, from 0 (%(default)s)")
    add("--port", required=True, metavar="PORT", help="serial port, or 'emulated' to start an arm")
    add("--robot", default="so101", metavar="R", help="robot or its TOML (%(default)s)")
    add("--calibration", metavar="FILE", help="calibration of this arm (default: what its servos store)")
    add(
        "--speed",
        type=float,
        default=1.0,
        metavar="F",
        help="how fast, up to 1; also scales the gate's limits (%(default)s)",
    )
    add("--yes", action="store_true", help="do not ask before the first motion")
    add_view_argument(parser)
    add("--out", required=True, metavar="DIR", help="directory for results and logs")
    add("--json", action="store_true", help="print JSON to standard output")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.deployment.request import Options
    from pipelines.deployment.result import summary
    from pipelines.deployment.run import run as deploy

    names = ("port", "out", "robot", "calibration", "dataset", "episode", "speed", "yes", "view")
    result, status = deploy(Options(command="play", **{name: getattr(args, name) for name in names}))
    print(json.dumps(result) if args.json else summary(result), flush=True)
    return status
