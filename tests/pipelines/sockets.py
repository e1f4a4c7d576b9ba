"""Which TCP sockets processes listen with, from /proc."""

import os
from collections.abc import Iterable

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""127.0.0.1, ::1, and the first written as IPv6, in the kernel's byte order."""


def marked(name: str) -> list[int]:
    """Processes whose environment has this variable as it is here: other tests' processes listen as they like."""
    mark, found = f"{name}={os.environ[name]}".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if mark in environment.read():
                    found.append(int(pid))
        except OSError:
            pass  # it has ended, or is not ours
    return found


def listening(pids: Iterable[int]) -> tuple[set[str], set[str]]:
    """(on this machine alone, beyond it), as the kernel writes addresses."""
    sockets = set()
    for pid in pids:
        try:
            sockets |= {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        except OSError:
            pass
    near: set[str] = set()
    far: set[str] = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as table:
            for line in table.read().splitlines()[1:]:
                words = line.split()
                local, state, inode = words[1], words[3], words[9]
                if state == "0A" and f"socket:[{inode}]" in sockets:
                    (near if local.split(":")[0] in LOOPBACK else far).add(local)
    return near, far
