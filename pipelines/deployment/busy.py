"""Processes that keep the other cores and the memory busy, to measure beside them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import numpy as np

from sim2real.spawning import context

BLOCK = 1 << 22
"""Bytes that each process copies to and fro: more than a core has to itself."""


def others() -> int:
    """How many cores are left beside the one that is measured on; 1 at least."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """As long as this lasts, so many processes do nothing but compute and copy."""
    with ExitStack() as stack:
        for _ in range(processes):
            theirs, end = context.Pipe()
            stack.callback(end.close)
            process = context.Process(target=_toil, args=(theirs,), name="sim2real-load", daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
            theirs.close()
            # It has begun, and will not be measured while it is still starting.
            end.recv()
        yield


def _toil(end: Connection) -> None:
    block, other = np.ones(BLOCK // 8), np.empty(BLOCK // 8)
    end.send(None)
    # The other end is closed when the process that measures has gone, however it went.
    while not end.poll():
        np.copyto(other, block)
        sum(i * i for i in range(10_000))
