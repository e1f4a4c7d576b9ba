"""`sim2real federate`: learning without pooling the data. Its subcommands are the files of `_federate/`."""

import argparse

from pipelines.commands import _subcommands

SUMMARY = "many arms learn together, and keep their data"
GROUP = "without an arm"
COMPILES = True
HELP = "Federated learning. See `sim2real federate SUBCOMMAND --help` for each of the subcommands."
EXAMPLES = """  sim2real federate simulate --clients 8 --rounds 10 --task reach --out runs/federated"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _subcommands.add_arguments(parser, "_federate")


def run(args: argparse.Namespace) -> int:
    return _subcommands.run(args, "_federate")
