"""`sim2real demo`: the whole loop on the emulated arm."""

import argparse

from pipelines.commands._options import add

SUMMARY = "the whole loop on the emulated arm"
GROUP = "without an arm"
COMPILES = True
HELP = (
    "Run the whole loop on the emulated arm: sweep, pretrain, deploy, record, identify, fine-tune, deploy "
    "again. Every step is one of the other commands, printed before it runs, so that you can repeat it."
)
EXAMPLES = """  sim2real demo --out runs/demo
  sim2real demo --out runs/quick --quick      # a few minutes less, weaker policies"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, out={"required": False, "default": "runs/demo", "help": "where to put results (%(default)s)"})
    add(parser, "seed")
    parser.add_argument("--quick", action="store_true", help="smaller everything: a smoke test of the loop")


def run(args: argparse.Namespace) -> int:
    from pipelines.demo import run_demo

    return run_demo(args.out, seed=args.seed, quick=args.quick)
