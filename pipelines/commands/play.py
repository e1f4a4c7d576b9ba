"""`sim2real play`: play a recorded episode on an arm."""

import argparse

from pipelines.commands._options import add

SUMMARY = "play a recorded episode on an arm"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Play what was executed in a recorded episode on an arm, through the safety gate: the arm goes slowly to the "
    "episode's first pose, follows, goes home and is lowered to rest. Says how far each joint was from where it was "
    "sent and from where it was in the recording, and what the gate changed. Another robot's data set is refused."
)
EXAMPLES = """  sim2real play --dataset runs/recorded --episode 0 --port emulated --out runs/played
  sim2real play --dataset runs/recorded --episode 3 --speed 0.5 --port /dev/ttyACM0 \\
      --calibration my_arm.json --out runs/played --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, metavar="DIR", help="a LeRobot data set")
    parser.add_argument(
        "--episode", type=int, default=0, metavar="N", help="which of its episodes, from 0 (%(default)s)"
    )
    add(parser, port={"required": True})
    add(
        parser, "robot", "calibration", speed="how fast, up to 1; also scales the gate's limits (%(default)s)"
    )
    add(parser, "yes", "view", "out", "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.deployment.request import Options
    from pipelines.deployment.result import summary
    from pipelines.deployment.run import run as deploy

    names = ("port", "out", "robot", "calibration", "dataset", "episode", "speed", "yes", "view")
    result, status = deploy(Options(command="play", **{name: getattr(args, name) for name in names}))
    print(json.dumps(result) if args.json else summary(result), flush=True)
    return status
