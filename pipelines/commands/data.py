"""`sim2real data`: look at a data set before using it."""

import argparse
import json
import sys

from pipelines.commands import _source
from pipelines.commands._options import add

SUMMARY = "look at a data set: what is in it, what it can be used for"
GROUP = "from recordings"
HELP = (
    "What is in a LeRobot data set: episodes, rate, units, how far joints trail their commands, clipping, "
    "glitches, episodes that look wrong, and what it can and cannot be used for."
)
EXAMPLES = """  sim2real data recordings/lift
  sim2real data so101_tape --calibration my_arm.json --json
  sim2real data recordings/lift --recover                  after a crash: finish what it had begun
  sim2real data recordings/mine --task my.module:MyTask     can it teach a task of my own?
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DIR", help="the data set's folder (holds meta/ and data/), or a ROS 2 bag"
    )
    _source.add_reading(parser)
    add(parser, task={"action": "append", "help": "tasks to judge its use for (default: all that ship)"})
    parser.add_argument(
        "--recover",
        action="store_true",
        help="first finish what a recorder that died has left unfinished in the folder",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from pipelines.identification.dataset_check import check
    from pipelines.identification.dataset_text import as_text
    from pipelines.identification.source import robot_of
    from pipelines.ros2.convert import as_dataset
    from sim2real.lerobot import LeRobotDataset
    from sim2real.lerobot.journal import pending, recover
    from sim2real.tasks.registry import task_names

    if args.recover:
        for found in recover(args.data):
            print(
                f"recovered episode {found.index}: {found.frames} frames, {found.seconds:.1f} s; "
                "nobody has judged whether it succeeded",
                file=sys.stderr,
            )
    elif unfinished := pending(args.data):
        print(
            f"note: {unfinished} episode{'s' * (unfinished > 1)} here under way or broken off; "
            "--recover finishes what was broken off",
            file=sys.stderr,
        )
    root = as_dataset(args.data, args.robot)
    robot, remarks = robot_of(args.robot, root)
    report = check(
        LeRobotDataset.open(root, args.arm, _source.names_of(args)),
        robot,
        calibration=args.calibration,
        units=args.units,
        tasks=tuple(args.task or task_names()),
        episodes=args.episodes,
        fps=args.fps,
        remarks=remarks,
    )
    print(json.dumps(report, indent=2) if args.json else as_text(report))
    return 0
