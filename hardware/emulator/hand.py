"""A hand that moves the emulated arm: joints follow a path in time, as far as the hand is strong enough.

A path is a JSON list of `{"time": s, "position": [rad, …]}`, one number or null per joint in the robot's order; null
leaves the joint alone until the next point that names it not. The hand begins where the joint is, goes in straight
lines, and lets go after the last point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

MAX_DURATION = 3600.0  # s
FORMAT = 'a hand\'s path is a JSON list of {"time": s, "position": [rad or null, one per joint]}'


@dataclass(frozen=True)
class HandPath:
    """`time` (k,) s, increasing, after the beginning; `position` (k, n) rad, NaN where the joint is left alone."""

    time: Array
    position: Array

    def __post_init__(self) -> None:
        if self.time.ndim != 1 or not len(self.time) or self.position.shape[:1] != self.time.shape:
            raise UserError(f"{FORMAT}, with at least one point")
        if not (np.isfinite(self.time).all() and self.time[0] > 0 and (np.diff(self.time) > 0).all()):
            raise UserError(
                f"the times of a hand's path must be above 0 and increase, got {self.time.tolist()}"
            )
        if self.time[-1] > MAX_DURATION:
            raise UserError(f"a hand's path takes at most {MAX_DURATION:.0f} s, got {self.time[-1]:g} s")
        if np.isinf(self.position).any():
            raise UserError(
                "the angles of a hand's path must be finite, or null for a joint that is left alone"
            )

    @property
    def duration(self) -> float:
        """When the hand lets go, s."""
        return float(self.time[-1])

    @classmethod
    def parse(cls, content: Any, n: int) -> "HandPath":
        """From JSON content. Raises UserError that names the first point that is wrong."""
        if not isinstance(content, list) or not content:
            raise UserError(f"{FORMAT}; got {_short(content)}")
        times, rows = [], []
        for k, point in enumerate(content):
            if not isinstance(point, dict) or set(point) != {"time", "position"}:
                raise UserError(f"{FORMAT}; point {k} is {_short(point)}")
            row = point["position"]
            if not isinstance(row, list) or len(row) != n or not all(x is None or _number(x) for x in row):
                raise UserError(
                    f"point {k} of the hand's path needs {n} joint angles in rad (or null), got {_short(row)}"
                )
            if not _number(point["time"]):
                raise UserError(
                    f"point {k} of the hand's path needs a time in s, got {_short(point['time'])}"
                )
            times.append(float(point["time"]))
            rows.append([math.nan if x is None else float(x) for x in row])
        return cls(np.array(times), np.array(rows))

    @classmethod
    def through(cls, points: Sequence[tuple[float, Sequence[float | None]]]) -> "HandPath":
        """From (time, joint angles) pairs."""
        return cls.parse([{"time": t, "position": list(q)} for t, q in points], len(points[0][1]))


class Hand:
    """At most one path at a time, on the plant's clock."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.path: HandPath | None = None
        self._begin = 0.0
        self._times: Array = np.zeros(0)
        self._points: Array = np.zeros((0, n))

    @property
    def holding(self) -> bool:
        return self.path is not None

    def follow(self, path: HandPath) -> None:
        """Begin with `path` at the plant's next step; what the hand did before ends."""
        if path.position.shape[1] != self.n:
            raise UserError(
                f"the hand's path has {path.position.shape[1]} angles per point, the arm {self.n} joints"
            )
        self.path = path
        self._times = np.zeros(0)

    def let_go(self) -> None:
        self.path = None

    def target(self, time: float, position: Array) -> tuple[Array, Array]:
        """Where the hand wants the joints (n,) at `time`, rad, and how fast, rad/s; NaN for those it does not hold."""
        nothing = np.full(self.n, np.nan)
        if self.path is None:
            return nothing, nothing
        if not len(self._times):
            self._begin = time
            self._times = np.concatenate(([0.0], self.path.time))
            self._points = np.vstack([position, self.path.position])
        elapsed = time - self._begin
        if elapsed > self.path.duration:
            self.let_go()
            return nothing, nothing
        k = int(np.searchsorted(self._times, elapsed, side="right").clip(1, len(self._times) - 1))
        last, after = self._points[k - 1], self._points[k]
        # A joint that is taken up again in mid-path is taken up where it is.
        taken = np.isnan(last) & np.isfinite(after)
        if taken.any():
            last = self._points[k - 1] = np.where(taken, position, last)
        span = self._times[k] - self._times[k - 1]
        speed = (after - last) / span
        return last + speed * (elapsed - self._times[k - 1]), speed


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
