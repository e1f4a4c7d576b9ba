"""Rollouts that worker processes can import: cheap stand-ins with the faults that a simulation may have."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim2real.errors import UserError
from sim2real.parameters import Draw


@dataclass(frozen=True)
class Ball:
    """Succeeds where x + noise > 0.3; misbehaves at the draws named. As a factory it hands out itself."""

    kill: frozenset[int] = frozenset()
    kill_once: frozenset[int] = frozenset()
    fail: frozenset[int] = frozenset()
    hang: frozenset[int] = frozenset()
    stop_midway: frozenset[int] = frozenset()
    """Stopped in the middle of a message."""
    die_midway: frozenset[int] = frozenset()
    """Dies in the middle of a message, and what it has started keeps its end of the line until `scratch/over`."""
    interrupt: int | None = None
    scratch: Path | None = None
    slow: float = 0.0
    bulk: int = 0

    def __call__(self, draw: Draw | None = None) -> Any:
        if draw is None:
            return self
        if self.scratch is not None:
            # Which draws ran, in this or in other processes.
            with open(self.scratch / "ran", "a") as file:
                file.write(f"{draw.index}\n")
        if draw.index in self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if draw.index in self.kill_once:
            assert self.scratch is not None
            marker = self.scratch / f"killed-{draw.index}"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if draw.index in self.fail:
            raise ZeroDivisionError(f"draw {draw.index}")
        if draw.index in self.hang:
            time.sleep(600)
        if draw.index in self.stop_midway:
            _say_half()
            os.kill(os.getpid(), signal.SIGSTOP)
        if draw.index in self.die_midway:
            _say_half()
            if os.fork() == 0:
                assert self.scratch is not None
                while not (self.scratch / "over").exists():
                    time.sleep(0.05)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        if draw.index == self.interrupt:
            os.killpg(0, signal.SIGINT)  # as Ctrl-C does
        time.sleep(self.slow)
        return {**self.row(draw), **({"bulk": bytes(self.bulk)} if self.bulk else {})}

    @staticmethod
    def row(draw: Draw) -> Mapping[str, Any]:
        rng = np.random.default_rng(draw.seed)
        score = draw.values["x"] + 0.1 * rng.standard_normal()
        return {
            "success": score > 0.3,
            "stage": "done" if score > 0.3 else "started",
            "failure": "too low",
            "seconds": 1.0 + score,
        }


def _say_half() -> None:
    """Tell the caller that many bytes will come, and send four."""
    for name in os.listdir("/proc/self/fd"):
        try:
            line = os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue  # the listing's own
        if line:
            os.write(int(name), b"\0\0\1\0" * 2 + b"half")


def hanging_factory() -> Any:
    time.sleep(600)


def broken_factory() -> Any:
    raise UserError("there is no such task")


def raising_factory() -> Any:
    raise KeyError("bug")


def dying_factory() -> Any:
    os._exit(7)


@dataclass(frozen=True)
class DyingOnce:
    """Dies while the first of its workers starts; after that it is a ball."""

    scratch: Path

    def __call__(self) -> Any:
        try:
            (self.scratch / "died").touch(exist_ok=False)
        except FileExistsError:
            return Ball()()
        os.kill(os.getpid(), signal.SIGKILL)


def refusing_factory() -> Any:
    return _refuse


def _refuse(draw: Draw) -> Mapping[str, Any]:
    raise UserError("the policy returned nonsense")
