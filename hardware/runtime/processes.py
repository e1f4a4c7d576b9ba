"""Finding the control processes of this machine, by a name that they give themselves."""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

from hardware.servos.port_users import programs_on

NAME: Final = "sim2real-arm"
"""What the system calls the control process (15 characters at most)."""

_PR_SET_NAME = 15


def take_name() -> None:
    """This process drives an arm, and answers SIGUSR1 with an emergency stop. Ends with the process."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    except (OSError, AttributeError):
        pass


def control_processes(port: str | None = None) -> list[int]:
    """Process numbers of all control processes of this user (of those that have `port` open)."""
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*") if is_control(int(path.name))]
    if port is not None:
        open_in = {program.pid for program in programs_on(port)}
        found = [pid for pid in found if pid in open_in]
    return sorted(found)


def is_control(pid: int) -> bool:
    """Whether the process drives an arm and will take SIGUSR1 for an emergency stop, instead of dying of it."""
    try:
        folder = Path("/proc") / str(pid)
        if os.getuid() not in (folder.stat().st_uid, 0) or (folder / "comm").read_text().strip() != NAME:
            return False
        caught = next(
            line.split()[1]
            for line in (folder / "status").read_text().splitlines()
            if line.startswith("SigCgt")
        )
        return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)
    except (OSError, StopIteration, ValueError):
        return False
