"""Who else has a serial port open.

The lock that we take on a port keeps out only programs that ask for one, and most do not. Two programs on one bus take
each other's replies and send each other's servos goals, so a program that is about to write looks first.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from sim2real.errors import PortError, UserError

_SHOWN = 60
"""Characters of a command line that are shown."""


class PortShared(PortError, UserError):
    """Another program has the port open. The message says which and what to do."""

    exit_code = UserError.exit_code


@dataclass(frozen=True)
class Program:
    """A process, and its command line."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid}, {self.command}" if self.command else f"process {self.pid}"


def programs_on(name: str) -> tuple[Program, ...]:
    """The other programs that have the device `name` open, under whatever name, as far as this user may look.

    What is behind a pseudo-terminal, such as an emulator, is the device itself. Empty where the system has no /proc.
    """
    try:
        found = os.stat(name)
    except OSError:
        return ()
    if not stat.S_ISCHR(found.st_mode):
        return ()
    terminal = re.fullmatch(r"/dev/pts/(\d+)", os.path.realpath(name))
    index = None if terminal is None else int(terminal[1])
    users = []
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid != os.getpid() and _uses(process, found.st_rdev, index):
            users.append(Program(pid, _command(process)))
    return tuple(sorted(users, key=lambda one: one.pid))


def require_alone(name: str) -> None:
    """Raise PortShared when another program has the port open."""
    if others := programs_on(name):
        raise PortShared(
            f"{name} is also open in another program ({'; '.join(map(str, others))}): two programs on one bus take "
            "each other's replies and move each other's joints; close that program and try again"
        )


def _uses(process: Path, device: int, terminal: int | None) -> bool:
    """Whether a process has the device open, and is not itself behind the pseudo-terminal of that number."""
    uses = False
    try:
        for link in (process / "fd").iterdir():
            target = os.readlink(link)
            if terminal is not None and target.endswith("/ptmx") and _index(process, link.name) == terminal:
                return False
            # Nothing else than a device is looked at: what lies on a dead network drive would make us wait.
            uses = uses or (target.startswith("/dev/") and os.stat(link).st_rdev == device)
    except OSError:
        pass  # it has ended, or is another user's
    return uses


def _index(process: Path, descriptor: str) -> int | None:
    """Which pseudo-terminal a descriptor is the other end of."""
    try:
        found = re.search(r"^tty-index:\s*(\d+)", (process / "fdinfo" / descriptor).read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1])


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        text = " ".join(word.decode(errors="replace") for word in words if word)
    except OSError:
        return ""
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
