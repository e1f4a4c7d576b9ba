"""From a robot description and a USB cable to a policy you can trust on the arm."""

import os
import zlib
from pathlib import Path

__version__ = "0.1.0"


def _compiled_code_belongs_to_these_sources() -> None:
    """Name numba's cache after the state of our sources.

    Numba looks at the file of a compiled function only, not at those of the functions it calls: after an update
    of one file, callers elsewhere would silently go on with the old code, the gate's among it.
    """
    stamps = []
    for folder in (
        Path(__file__).parent,
        Path(__file__).parent / "tasks",
        Path(__file__).parent / "simulation",
    ):
        with os.scandir(folder) as entries:
            stamps += [
                (entry.path, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".py")
            ]
    key = zlib.crc32(repr(sorted(stamps)).encode())
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(cache, "sim2real", f"{__version__}-{key:08x}"))


_compiled_code_belongs_to_these_sources()
