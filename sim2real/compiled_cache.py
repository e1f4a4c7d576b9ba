"""Where compiled code is kept: a folder that belongs to the state of our sources.

Numba looks at the file of a compiled function only, not at those of the functions it calls: after an update of one
file, callers elsewhere would silently go on with the old code, the gate's among it.
"""

import os
import tempfile
import zlib
from pathlib import Path

PACKAGES = ("sim2real", "hardware")
"""Where compiled code is, and everything that it is compiled from: these packages import no others."""


def cache_folder() -> Path:
    """The folder: what the environment names, or else one named after the state of every source file."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named)
    root = Path(__file__).parents[1]
    stamps: list[tuple[str, int]] = []
    folders = [str(root / package) for package in PACKAGES if (root / package).is_dir()]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".py"):
                    stamps.append((entry.path, entry.stat().st_mtime_ns))
    key = zlib.crc32(repr(sorted(stamps)).encode())
    return Path(_own_folder()) / f"{key:08x}"


def _own_folder() -> str:
    """A folder for what can be made again: the user's own, or a private temporary one where there is no such.

    Numba gives up where it finds no place to keep what it compiles, as in a container without a home.
    """
    own = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    own = os.path.join(own, "sim2real")
    try:
        os.makedirs(own, exist_ok=True)
        if os.access(own, os.W_OK):
            return own
    except OSError:
        pass
    # What is read from there is executed: it must be nobody else's.
    temporary = os.path.join(tempfile.gettempdir(), f"sim2real-{os.getuid()}")
    try:
        os.makedirs(temporary, mode=0o700, exist_ok=True)
        state = os.lstat(temporary)
    except OSError:
        return own
    private = state.st_uid == os.getuid() and state.st_mode & 0o170077 == 0o040000
    return temporary if private else own
