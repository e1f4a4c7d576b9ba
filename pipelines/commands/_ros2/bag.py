"""`sim2real ros2 bag`: a data set as a bag, a bag as a data set."""

import argparse
from typing import Any

from pipelines.commands import _source
from pipelines.commands._options import add

SUMMARY = "a LeRobot data set as a ROS 2 bag, or a bag as a data set"
HELP = (
    "Write a LeRobot data set as a ROS 2 bag (MCAP), or a bag as a data set; which of them, the input decides. A bag "
    "needs joint states in radians and commands of the same joints: a trajectory, an array, or joint states on a topic "
    "that says so. Needs rosbags: pip install 'sim2real-transfer[ros2]'."
)
EXAMPLES = """  sim2real ros2 bag recordings/lift --out lift.mcap      one file; without .mcap a folder, as ROS makes it
  sim2real ros2 bag lift.mcap --out recordings/again
  sim2real ros2 bag my_bag --commands /arm_controller/joint_trajectory --robot arm.toml --fps 30 --out recordings/mine
  sim2real data my_bag                                       data, replay and identify read bags as they are"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="DATA|BAG", help="a LeRobot data set, or a bag: a folder, .mcap or .db3"
    )
    add(
        parser,
        out={"metavar": "PATH", "help": "the bag (.mcap, or a folder), or the data set's folder"},
        robot={"default": None, "help": "name or TOML file (default: what the input says, else so101)"},
    )
    parser.add_argument("--episodes", metavar="A:B", help="of a data set: as in Python, or several: 0:4,6")
    parser.add_argument("--no-pictures", action="store_true", help="of a data set: leave cameras out")
    parser.add_argument("--states", metavar="TOPIC", help="of a bag: joint states (default: /joint_states)")
    parser.add_argument("--commands", metavar="TOPIC", help="of a bag: commands (default: the one there is)")
    parser.add_argument("--fps", type=_source.rate, metavar="HZ", help="of a bag: take frames at this rate")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.ros2.bags import is_bag

    answer = _from_bag(args) if is_bag(args.input) else _to_bag(args)
    if args.json:
        print(json.dumps(answer))
        return 0
    for topic, count in answer["messages"].items():
        print(f"  {count:7} {topic}")
    for remark in answer["remarks"]:
        print(f"note: {remark}")
    print(
        f"{answer['episodes']} episodes, {answer['seconds']:.1f} s, of {answer['robot']}; written to {args.out}"
    )
    return 0


def _to_bag(args: argparse.Namespace) -> dict[str, Any]:
    from pipelines.identification.source import robot_of
    from pipelines.ros2.write_bag import write_bag

    _refuse(args, ("states", "commands", "fps"), "reads a bag, and the input is none")
    robot, remarks = robot_of(args.robot, args.input)
    found = write_bag(args.input, args.out, robot, episodes=args.episodes, pictures=not args.no_pictures)
    return {
        "robot": robot.name, "episodes": found.episodes, "seconds": found.seconds, "messages": dict(found.messages),
        "remarks": remarks, "path": str(found.path),
    }  # fmt: skip


def _from_bag(args: argparse.Namespace) -> dict[str, Any]:
    from pipelines.ros2.convert import bag_to_dataset

    _refuse(args, ("episodes", "no_pictures"), "reads a data set, and the input is a bag")
    found = bag_to_dataset(
        args.input, args.out, args.robot, states=args.states, commands=args.commands, fps=args.fps
    )
    return {
        "robot": found.robot.name,
        "episodes": len(found.episodes),
        "seconds": float(sum(episode.time[-1] for episode in found.episodes)),
        "messages": {},
        "states": found.states,
        "commands": found.commands,
        "remarks": found.remarks,
        "path": str(args.out),
    }


def _refuse(args: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    from sim2real.errors import UserError

    for name in names:
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')} {why}")
