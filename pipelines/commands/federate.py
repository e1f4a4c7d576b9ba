"""`sim2real federate`: learning without pooling the data. Its subcommands are the files of `_federate/`."""

import argparse

from pipelines.commands import _subcommands

SUMMARY = "many arms learn together, and keep their data"
GROUP = "without an arm"
COMPILES = True
HELP = "Federated learning. See `sim2real federate SUBCOMMAND --help` for each of the subcommands."
EXAMPLES = """  sim2real federate simulate --clients 8 --rounds 10 --task reach --out runs/federated
  sim2real federate serve --task reach --rounds 20 --clients 3 --out runs/server
  sim2real federate join --server 127.0.0.1:5600 --name kitchen --data recorded --out runs/kitchen"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _subcommands.add_arguments(parser, "_federate")


def run(args: argparse.Namespace) -> int:
    return _subcommands.run(args, "_federate")
