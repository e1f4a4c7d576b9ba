"""The arguments of commands that read real logs: a LeRobot data set of an arm, or runs of a servo bench."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.identification.logs import ArmLog
    from sim2real.robot import Robot


UNITS = ("auto", "normalised", "degrees", "radians", "old-degrees")
"""The units of `sim2real.lerobot.units`, which help pages do not load."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--data or --bench, and what says how to read them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data", metavar="DIR", help="a LeRobot data set of teleoperation or of a policy, or a ROS 2 bag"
    )
    source.add_argument("--bench", metavar="DIR", help="runs of single servos with a pendulum (index.csv)")
    add_reading(parser)
    parser.add_argument("--runs", metavar="WORD", help="with --bench: only files whose name contains this")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """What says how to read a LeRobot data set."""
    add(
        parser,
        robot={"default": None, "help": "name or TOML file (default: what the data say, else so101)"},
        calibration="default: DIR/calibration.json",
    )
    parser.add_argument(
        "--units", default="auto", choices=UNITS, help="how joint angles are stored (default: find out)"
    )
    parser.add_argument("--arm", metavar="NAME", help="which of several: left takes joints named left_…")
    parser.add_argument("--episodes", metavar="A:B", help="as in Python, or several: 0:4,6 (default: all)")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        dest="mapping",
        metavar="THEIRS=OURS",
        help="what a feature, a joint or a camera of the data set is called here (again for each)",
    )
    parser.add_argument("--fps", type=rate, metavar="HZ", help="the true rate, where the data set is wrong")


def names_of(args: argparse.Namespace) -> dict[str, str]:
    """What --map says. Raises UserError."""
    from sim2real.lerobot.mapping import parse_names

    return parse_names(args.mapping)


def rate(text: str) -> float:
    """--fps: what recordings of arms have."""
    value = float(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be 1 to 1000 Hz, got {text}")
    return value


def load(args: argparse.Namespace) -> "tuple[ArmLog, Robot]":
    """The data set that --data names; says on standard error how it was read. Raises UserError."""
    from pipelines.identification.source import read_log

    root, robot, reading = _reading(args)
    log = read_log(root, robot, **reading)
    _say(log, robot)
    return log, robot


def load_all(args: argparse.Namespace, nominal: "Mapping[str, float]") -> "tuple[list[ArmLog], Robot]":
    """The data set that --data names, a log for each rate in it, to be judged by the twin `nominal`: a gripper only
    where nothing stops it.

    Says on standard error how it was read. Raises UserError.
    """
    from pipelines.identification.holding import without_held
    from pipelines.identification.source import read_logs

    root, robot, reading = _reading(args)
    logs = [without_held(log, robot) for log in read_logs(root, robot, nominal=nominal, **reading)]
    _say(logs[0], robot)
    return logs, robot


def _reading(args: argparse.Namespace) -> "tuple[Path, Robot, dict[str, Any]]":
    """The data set's folder, the robot, and what says how to read it."""
    from pipelines.identification.source import robot_of
    from pipelines.ros2.convert import as_dataset
    from sim2real.errors import UserError

    if args.runs is not None:
        raise UserError("--runs selects bench runs and needs --bench; with --data use --episodes A:B")
    root = as_dataset(args.data, args.robot)
    robot, remarks = robot_of(args.robot, root)
    how = {name: getattr(args, name) for name in ("calibration", "units", "episodes", "arm", "fps")}
    return root, robot, how | {"remarks": remarks, "names": names_of(args)}


def _say(log: "ArmLog", robot: "Robot") -> None:
    print(f"robot: {robot.name}, units: {log.units} ({log.reason})", file=sys.stderr)
    for remark in log.remarks:
        print(f"note: {remark}", file=sys.stderr)
