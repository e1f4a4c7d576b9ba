"""Processes of our own that know nothing of the program that starts them.

Python's `spawn` runs the caller's script once more in every child, so that what the script defines is there. A script
without `if __name__ == "__main__":` would then start itself again and again, and none of our processes needs anything
of it: they are handed all they work on. `spawning.context` is `spawn` without that.
"""

import multiprocessing.context
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

_starting = threading.Lock()


@contextmanager
def _script_set_aside() -> Iterator[None]:
    """While this lasts `__main__` looks like an interactive session's: it has no source that could be run again."""
    main = sys.modules["__main__"]
    with _starting:
        kept: dict[str, Any] = {k: vars(main)[k] for k in ("__spec__", "__file__") if k in vars(main)}
        main.__spec__ = None
        vars(main).pop("__file__", None)
        try:
            yield
        finally:
            vars(main).update(kept)


class _Process(multiprocessing.context.SpawnProcess):
    def start(self) -> None:
        with _script_set_aside():
            super().start()


class _Context(multiprocessing.context.SpawnContext):
    Process = _Process


context = _Context()
"""In the place of `multiprocessing.get_context("spawn")`."""

KILLED = 10.0
"""s that a killed process is waited for: only the system itself can keep it for longer."""


def end_process(process: BaseProcess, patience: float) -> None:
    """Wait `patience` s for a process to end, then kill it."""
    process.join(patience)
    if process.is_alive():
        process.kill()
        process.join(KILLED)
