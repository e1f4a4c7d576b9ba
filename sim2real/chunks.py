"""Timestamped action chunks and their execution."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim2real.errors import Sim2RealError


@dataclass(frozen=True)
class Chunk:
    """A run of joint goals: row i of `positions` (H, n), rad, is due at `start + (i + 1) * period` s."""

    start: float
    period: float
    positions: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or len(self.positions) == 0:
            raise ValueError(f"a chunk needs (H, n) positions with H >= 1, got shape {self.positions.shape}")
        if not self.period > 0:
            raise ValueError(f"a chunk needs a positive period, got {self.period}")

    @property
    def end(self) -> float:
        """When the last row is due."""
        return self.start + len(self.positions) * self.period


class ChunkPlayer:
    """Plays chunks as a continuous goal trajectory.

    Between rows it interpolates linearly, starting from wherever the goal was when the chunk came in; rows
    whose time has passed are skipped. A new chunk replaces the current one over `blend` seconds, so that
    two predictions that disagree do not make the goal jump. After the last row the goal stays where it is.
    """

    def __init__(self, blend: float = 1 / 30) -> None:
        self.blend = blend
        self._blending = False
        self._blend_start = 0.0
        self.reset(np.zeros(0), 0.0)

    def reset(self, position: NDArray[np.float64], time: float) -> None:
        """Forget every chunk; the goal is `position` (n,), rad, from `time` on."""
        self._times: NDArray[np.float64] = np.array([time], dtype=np.float64)
        self._goals: NDArray[np.float64] = np.array(position, dtype=np.float64, order="C")[None, :]
        self._old_times, self._old_goals = self._times, self._goals
        self._blending = False

    def add(self, chunk: Chunk, time: float) -> bool:
        """Take over a chunk at `time`; False when all of it has expired and it was dropped.

        Raises Sim2RealError for non-finite or wrongly sized actions: those are a policy fault, and the
        chunk being executed stays in force.
        """
        if chunk.positions.shape[1] != self._goals.shape[1]:
            raise Sim2RealError(
                f"the chunk has {chunk.positions.shape[1]} joints, the arm has {self._goals.shape[1]}"
            )
        if not np.isfinite(chunk.positions).all():
            raise Sim2RealError("the chunk holds values that are not finite")
        # Always the same kinds of arrays and numbers: for others the compiled functions would be compiled again,
        # in the middle of a control loop.
        positions = np.array(chunk.positions, dtype=np.float64, order="C")
        time = float(time)
        times, goals = _joined(float(chunk.start), float(chunk.period), positions, time, self.sample(time))
        if len(times) == 0:
            return False
        self._old_times, self._old_goals, self._blend_start = self._times, self._goals, time
        self._blending = self.blend > 0.0
        self._times, self._goals = times, goals
        return True

    def sample(self, time: float) -> NDArray[np.float64]:
        """The goal (n,), rad, at `time`."""
        time = float(time)
        if not self._blending:
            return _interpolate(self._times, self._goals, time)  # type: ignore[no-any-return]
        weight = (time - self._blend_start) / self.blend
        if weight >= 1.0:
            self._blending = False
            return _interpolate(self._times, self._goals, time)  # type: ignore[no-any-return]
        return _blended(  # type: ignore[no-any-return]
            self._times, self._goals, self._old_times, self._old_goals, max(weight, 0.0), time
        )

    def remaining(self, time: float) -> float:
        """Seconds until the last known action is due; negative once the player has run dry."""
        return float(self._times[-1] - time)


@njit(cache=True, nogil=True)
def _interpolate(times: NDArray[np.float64], goals: NDArray[np.float64], time: float) -> NDArray[np.float64]:
    i = np.searchsorted(times, time, side="right")
    if i == 0:
        return goals[0].copy()
    if i == len(times):
        return goals[-1].copy()
    fraction = (time - times[i - 1]) / (times[i] - times[i - 1])
    return goals[i - 1] + fraction * (goals[i] - goals[i - 1])


@njit(cache=True, nogil=True)
def _blended(
    times: NDArray[np.float64],
    goals: NDArray[np.float64],
    old_times: NDArray[np.float64],
    old_goals: NDArray[np.float64],
    weight: float,
    time: float,
) -> NDArray[np.float64]:
    """`weight` of the new trajectory, the rest of the old one."""
    return (1 - weight) * _interpolate(old_times, old_goals, time) + weight * _interpolate(times, goals, time)


@njit(cache=True, nogil=True)
def _joined(
    start: float, period: float, positions: NDArray[np.float64], time: float, current: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and goals from `time` on: from `current`, or from where a chunk that is under way is now.

    Empty when all of the chunk has expired.
    """
    rows, n = positions.shape
    first = 0
    while first < rows and start + period * (first + 1) <= time:
        first += 1
    if first == rows:
        return np.empty(0), np.empty((0, n))
    times, goals = np.empty(rows - first + 1), np.empty((rows - first + 1, n))
    times[0], goals[0] = time, current
    if first > 0:
        fraction = (time - (start + period * first)) / period
        goals[0] = positions[first - 1] + fraction * (positions[first] - positions[first - 1])
    for k in range(first, rows):
        times[k - first + 1] = start + period * (k + 1)
        goals[k - first + 1] = positions[k]
    return times, goals
