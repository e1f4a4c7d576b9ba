"""Commands of several parts: a subcommand is a file of a folder beside the command's, declared as commands are."""

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType


def names(folder: str) -> tuple[str, ...]:
    """Subcommands in `folder` of this package, from the names of its files."""
    files = (Path(__file__).parent / folder).glob("*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files if not file.stem.startswith("_")))


def module(folder: str, name: str) -> ModuleType:
    """The module of a subcommand: SUMMARY, HELP, EXAMPLES, add_arguments, run."""
    return import_module(f"pipelines.commands.{folder}.{name.replace('-', '_')}")


def add_arguments(parser: argparse.ArgumentParser, folder: str) -> None:
    """A parser for each subcommand of `folder`."""
    parsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name in names(folder):
        part = module(folder, name)
        sub = parsers.add_parser(
            name,
            help=part.SUMMARY,
            description=part.HELP,
            epilog=f"examples:\n{part.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        part.add_arguments(sub)


def run(args: argparse.Namespace, folder: str) -> int:
    """Run the subcommand that was chosen; its exit status."""
    return int(module(folder, args.subcommand).run(args) or 0)
