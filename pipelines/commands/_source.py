"""The arguments of commands that read real logs: a LeRobot data set of an arm, or runs of a servo bench."""

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.logs import ArmLog
    from sim2real.robot import Robot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--data or --bench, and what says how to read them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR", help="a LeRobot data set of teleoperation or of a policy")
    source.add_argument("--bench", metavar="DIR", help="runs of single servos with a pendulum (index.csv)")
    parser.add_argument("--robot", default="so101", help="name or TOML file (default: so101)")
    parser.add_argument("--calibration", metavar="FILE", help="default: DIR/calibration.json")
    parser.add_argument("--units", default="auto", choices=["auto", "normalised", "degrees"])
    parser.add_argument("--episodes", metavar="A:B", help="as in Python; default: all")
    parser.add_argument("--runs", metavar="WORD", help="with --bench: only files whose name contains this")


def load(args: argparse.Namespace) -> "tuple[ArmLog, Robot]":
    """The data set that --data names; says on standard error how it was read. Raises UserError."""
    from pipelines.logs import load_arm_log
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    if args.runs is not None:
        raise UserError("--runs selects bench runs and needs --bench; with --data use --episodes A:B")
    robot = Robot.load(args.robot)
    log = load_arm_log(
        args.data, robot, calibration=args.calibration, units=args.units, episodes=args.episodes
    )
    print(f"units: {log.units} ({log.reason})", file=sys.stderr)
    for remark in log.remarks:
        print(f"note: {remark}", file=sys.stderr)
    return log, robot
