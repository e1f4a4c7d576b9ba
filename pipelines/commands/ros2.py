"""`sim2real ros2`: recordings as bags, an arm on topics. Its subcommands are the files of `_ros2/`."""

import argparse

from pipelines.commands import _subcommands

SUMMARY = "ROS 2 without a ROS installation: a bridge to an arm, bags there and back"
GROUP = "from recordings"
HELP = "ROS 2. See `sim2real ros2 SUBCOMMAND --help` for each of the subcommands."
EXAMPLES = """  sim2real ros2 bridge --port emulated --out runs/bridge
  sim2real ros2 bag recordings/lift --out lift.mcap
  sim2real ros2 bag lift.mcap --out recordings/again"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _subcommands.add_arguments(parser, "_ros2")


def run(args: argparse.Namespace) -> int:
    return _subcommands.run(args, "_ros2")
