"""The `sim2real` command line.

Only the module of the chosen command is imported, and command modules import what is heavy when they run:
`--help` answers at once and no command loads torch unless it trains.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from sim2real import __version__
from sim2real.errors import Sim2RealError, UserError
from sim2real.text import printable_lines

COMMANDS = tuple(
    sorted(
        file.stem.replace("_", "-")
        for file in (Path(__file__).parent / "commands").glob("*.py")
        if not file.stem.startswith("_")
    )
)
"""Every command: a file in `commands/`, which declares `SUMMARY` (its line in the overview), `GROUP`, `HELP`,
`EXAMPLES`, `add_arguments(parser)`, `run(args)`, and `COMPILES = True` where it needs the compiled models."""

GROUPS = ("setting up", "in simulation", "on an arm", "from recordings", "without an arm")
"""How the overview is ordered."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors that are the disk's, or its permissions', and not ours."""

OVERVIEW = """From simulation to a serial-connected arm.

usage: sim2real COMMAND [options]      sim2real COMMAND --help

{commands}
options:
  --version   print the version
  --help      this page
"""


class _Parser(argparse.ArgumentParser):
    """Says a wrong flag in one line, with where to read on."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 could not, 2 a mistake of the user, 130 Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Set before anything can import onnxruntime, which would write files into the user's cache.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(OVERVIEW.format(commands=_overview()), end="")
        return 0
    if arguments[0] == "--version":
        print(f"sim2real {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "see 'sim2real --help'"
        print(f"sim2real: there is no command '{name}'; {hint}", file=sys.stderr)
        return 2
    try:
        module = command_module(name)
        parser = _parser(name, module)
        args = parser.parse_args(rest)
        _check_folder(parser, args)
        if getattr(module, "COMPILES", False) and not _compiled():
            print(f"sim2real {name}: the first start compiles for about a minute", file=sys.stderr)
        return int(module.run(args) or 0)
    except SystemExit as stop:  # argparse, after --help or a wrong flag
        return stop.code if isinstance(stop.code, int) else 2
    except Sim2RealError as error:
        print(f"sim2real {name}: {printable_lines(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\nsim2real {name}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"sim2real {name}: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
        return 1
    except Exception as error:
        # A compiler that is interrupted fails in its own way.
        if not _interrupted(error):
            raise
        print(f"\nsim2real {name}: stopped by Ctrl-C", file=sys.stderr)
        return 130


def command_module(name: str) -> ModuleType:
    """The module of one of `COMMANDS`."""
    return import_module(f"pipelines.commands.{name.replace('-', '_')}")


def _overview() -> str:
    modules = {name: command_module(name) for name in COMMANDS}
    width = max(map(len, COMMANDS))
    lines: list[str] = []
    for group in GROUPS:
        lines.append(f"{group}:")
        mine = [name for name, module in modules.items() if group == module.GROUP]
        lines += [f"  {name:{width}}  {modules[name].SUMMARY}" for name in mine]
        lines.append("")
    return "\n".join(lines)


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an error goes back to."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _compiled() -> bool:
    """Whether numba has left compiled code of these sources where `sim2real` tells it to, or the user does."""
    from sim2real.compiled_cache import cache_folder

    return next(cache_folder().rglob("*.nbc"), None) is not None


def _check_folder(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raise UserError when the folder that --out names cannot be made or written to, before any work is done."""
    wanted = next((action for action in _actions(parser, args) if action.dest == "out"), None)
    if wanted is None or wanted.metavar != "DIR" or args.out is None:
        return
    folder = Path(args.out)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out {args.out}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"--out {args.out}: {there} cannot be written to; name another folder")


def _actions(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[argparse.Action]:
    """The options of a command, and of the subcommand that was chosen."""
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices[getattr(args, action.dest)]._actions
    return found


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"sim2real {name}",
        description=module.HELP,
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
