"""`sim2real fleet`: many arms. Its subcommands are the files of `_fleet/`."""

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType

SUMMARY = "many arms: what a fleet collects, and what holds it up"
GROUP = "without an arm"
HELP = "Fleets of arms. See `sim2real fleet SUBCOMMAND --help` for each of the subcommands."
EXAMPLES = """  sim2real fleet simulate --robots 10 --days 30 --out runs/fleet
  sim2real fleet simulate --inputs"""

SUBCOMMANDS = tuple(
    sorted(
        file.stem.replace("_", "-")
        for file in (Path(__file__).parent / "_fleet").glob("*.py")
        if not file.stem.startswith("_")
    )
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name in SUBCOMMANDS:
        module = _module(name)
        sub = parsers.add_parser(
            name,
            help=module.SUMMARY,
            description=module.HELP,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    return int(_module(args.subcommand).run(args) or 0)


def _module(name: str) -> ModuleType:
    return import_module(f"pipelines.commands._fleet.{name.replace('-', '_')}")
