"""Timestamped action chunks and their execution."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
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
        self._times: list[float] = [0.0]
        self._goals: NDArray[np.float64] = np.zeros((1, 0))
        self._old: tuple[list[float], NDArray[np.float64]] | None = None
        self._blend_start = 0.0

    def reset(self, position: NDArray[np.float64], time: float) -> None:
        """Forget every chunk; the goal is `position` (n,), rad, from `time` on."""
        self._times = [time]
        self._goals = np.array(position, dtype=np.float64)[None, :]
        self._old = None

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
        # Times are a plain list: for ten numbers that is several times as fast as an array.
        due = [chunk.start + chunk.period * k for k in range(1, len(chunk.positions) + 1)]
        first = bisect_right(due, time)
        if first == len(due):
            return False
        current = self.sample(time)
        if first > 0:
            # The chunk is already under way: join it where it is now, blended from the old trajectory.
            fraction = (time - due[first - 1]) / chunk.period
            join = chunk.positions[first - 1] + fraction * (
                chunk.positions[first] - chunk.positions[first - 1]
            )
        else:
            join = current
        self._old = (self._times, self._goals)
        self._blend_start = time
        self._times = [time, *due[first:]]
        self._goals = np.concatenate((join[None, :], chunk.positions[first:]))
        return True

    def sample(self, time: float) -> NDArray[np.float64]:
        """The goal (n,), rad, at `time`."""
        goal = _interpolate(self._times, self._goals, time)
        if self._old is None:
            return goal
        weight = (time - self._blend_start) / self.blend if self.blend > 0 else 1.0
        if weight >= 1.0:
            self._old = None
            return goal
        weight = max(weight, 0.0)
        return (1 - weight) * _interpolate(*self._old, time) + weight * goal

    def remaining(self, time: float) -> float:
        """Seconds until the last known action is due; negative once the player has run dry."""
        return self._times[-1] - time


def _interpolate(times: list[float], goals: NDArray[np.float64], time: float) -> NDArray[np.float64]:
    i = bisect_right(times, time)
    if i == 0:
        return goals[0].copy()
    if i == len(times):
        return goals[-1].copy()
    fraction = (time - times[i - 1]) / (times[i] - times[i - 1])
    return np.asarray(goals[i - 1] + fraction * (goals[i] - goals[i - 1]))
