"""Starting our own programs as processes, and the signals that ask them to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end: Ctrl-C, `kill`, a terminal that closes."""


def start_module(
    module: str, *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """`python -m module arguments…` with the sources that we run from; `options` are those of `Popen`.

    It has a session of its own: what is sent to our terminal's processes, Ctrl-C above all, does not reach it.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **(environment or {}), "PYTHONPATH": path},
        start_new_session=True,
        **options,
    )
