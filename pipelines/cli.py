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

COMMANDS = {
    "robots": "list the robots and what is known of them",
    "tasks": "list the tasks",
    "parameters": "list the simulation parameters that can be randomized",
    "setup": "find the port and the servos; give a servo its ID and baud rate",
    "calibrate": "record what each joint can turn, and write it into the servos",
    "check-calibration": "judge a calibration file, and compare it with an arm",
    "calibrate-camera": "find the lens of a camera and where it stands; print what that takes",
    "doctor": "check this installation and, with --port, the servos",
    "sweep": "run a task under many draws of the parameters and see what breaks it",
    "ranges": "widen the randomization as far as a policy can bear",
    "pretrain": "train a policy in simulation under randomization",
    "evaluate": "measure a policy in simulation",
    "record": "record episodes on an arm as a LeRobot data set",
    "play": "play a recorded episode on an arm",
    "data": "look at a data set: what is in it, what it can be used for",
    "replay": "replay recorded commands in simulation and measure the gap",
    "identify": "fit the simulated arm to recorded data",
    "excite": "record the motion that identification still needs",
    "finetune": "adapt a policy to recorded data",
    "deploy": "run a policy on an arm",
    "estop": "emergency stop of the arms that are being driven",
    "blackbox": "show what happened around a fault",
    "serve": "serve a policy to arms elsewhere",
    "emulate": "start an emulated arm on a virtual serial port",
    "chaos": "let random faults loose on an emulated arm and check that every promise is kept",
    "report": "write report.html for run directories",
    "demo": "the whole loop on the emulated arm",
}
"""Every command with its line in the overview; `commands/<name>.py` holds the rest."""

COMPILING = frozenset(
    (
        "sweep ranges pretrain evaluate record play replay identify excite calibrate-camera finetune deploy serve "
        "emulate chaos demo"
    ).split()
)
"""Commands that need the compiled models; compiling them takes a while once after each installation."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors that are the disk's, or its permissions', and not ours."""

OVERVIEW = """From simulation to a serial-connected arm.

usage: sim2real COMMAND [options]      sim2real COMMAND --help

commands:
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
        width = max(map(len, COMMANDS))
        lines = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
        print(OVERVIEW.format(commands=lines), end="")
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
        module = import_module(f"pipelines.commands.{name.replace('-', '_')}")
        parser = _parser(name, module)
        args = parser.parse_args(rest)
        _check_folder(parser, args)
        if name in COMPILING and not _compiled():
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


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an error goes back to."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _compiled() -> bool:
    """Whether numba has left compiled code of these sources where `sim2real` tells it to, or the user does."""
    return next(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbc"), None) is not None


def _check_folder(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raise UserError when the folder that --out names cannot be made or written to, before any work is done."""
    wanted = next((action for action in parser._actions if action.dest == "out"), None)
    if wanted is None or wanted.metavar != "DIR" or args.out is None:
        return
    folder = Path(args.out)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out {args.out}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"--out {args.out}: {there} cannot be written to; name another folder")


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
