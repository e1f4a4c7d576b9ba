"""PyBullet without its chatter: its C code prints a build date when it is imported and remarks when it is set up.

Everything here imports it as `from sim2real.simulation.bullet import bullet`.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(descriptor: int) -> Iterator[None]:
    """Whatever C code prints to this file descriptor (1 output, 2 error) meanwhile is dropped."""
    library = ctypes.CDLL(None)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    library.fflush(None)
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield  # closed: there is nothing to keep clean
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        yield
    finally:
        library.fflush(None)
        os.dup2(kept, descriptor)
        os.close(kept)


with silenced(2):
    import pybullet as bullet

__all__ = ["bullet", "silenced"]
