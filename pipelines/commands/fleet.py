"""`sim2real fleet`: many arms. Its subcommands are the files of `_fleet/`."""

import argparse

from pipelines.commands import _subcommands

SUMMARY = "many arms: policies in stages, agents and a hub, and fleets simulated"
GROUP = "without an arm"
HELP = "Fleets of arms. See `sim2real fleet SUBCOMMAND --help` for each of the subcommands."
EXAMPLES = """  sim2real fleet publish runs/lift/policy.onnx --store fleet --alias stable
  sim2real fleet enroll a1 --store fleet
  sim2real fleet hub --store fleet
  sim2real fleet rollout candidate --store fleet --stages 1,10%,50%,100%
  sim2real fleet dashboard --store fleet
  sim2real fleet simulate --robots 10 --days 30 --out runs/fleet
  sim2real fleet simulate --inputs"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _subcommands.add_arguments(parser, "_fleet")


def run(args: argparse.Namespace) -> int:
    return _subcommands.run(args, "_fleet")
