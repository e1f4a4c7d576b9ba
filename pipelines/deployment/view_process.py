"""A viewer's process, and the pipe into it: records go in without waiting.

A viewer that cannot keep up, or has gone, costs frames of the view and nothing else.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from sim2real.spawning import context, end_process

PIPE_SIZE = 1 << 18

GOODBYE = 10.0
"""Seconds that writing what is left may take."""


class ViewProcess:
    """Runs `serve(*arguments, pipe)` in a process of its own, which ends when the pipe does."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        self.lost = 0
        """Records that the viewer did not take."""
        reader, self._pipe = context.Pipe(duplex=False)
        os.set_blocking(self._pipe.fileno(), False)
        fcntl.fcntl(self._pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._process = context.Process(
            target=serve, args=(*arguments, reader), name="sim2real-view", daemon=True
        )
        self._process.start()
        reader.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def join(self, timeout: float) -> None:
        self._process.join(timeout)

    def send(self, record: bytes) -> None:
        """Hand over a record, or lose it."""
        try:
            os.write(self._pipe.fileno(), record)
        except OSError:
            self.lost += 1

    def close(self, patience: float) -> str:
        """Let the viewer finish; returns what went wrong with it, "" if nothing did."""
        if not self._pipe.closed:
            self._pipe.close()
            end_process(self._process, patience)
        if self._process.exitcode != 0:
            return f"the viewer ended early (exit status {self._process.exitcode})"
        return f"the viewer missed {self.lost} frames" if self.lost else ""


def records(pipe: Connection, size: int) -> Iterator[bytes]:
    """Records of `size` bytes out of the pipe, until the other side has gone."""
    buffer = b""
    while data := os.read(pipe.fileno(), 1 << 16):
        buffer += data
        while len(buffer) >= size:
            yield buffer[:size]
            buffer = buffer[size:]
