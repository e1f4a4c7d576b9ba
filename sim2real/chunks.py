"""Timestamped action chunks and their execution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import Sim2RealError
from sim2real.model.kinematics import writable


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
        self._blend = blend
        self.reset(np.zeros(0), 0.0)

    def reset(self, position: NDArray[np.float64], time: float) -> None:
        """Forget every chunk; the goal is `position` (n,), rad, from `time` on."""
        self._n, self._room = len(position), _ROOM_AT_FIRST
        self._buffer: NDArray[np.float64] = _new_buffer(self._n, self._room, self._blend)
        times, goals = _trajectory(self._buffer, 0)
        times[0], goals[0] = time, position
        self._buffer[_LENGTH] = 1.0

    def add(self, chunk: Chunk, time: float) -> bool:
        """Take over a chunk at `time`; False when all of it has expired and it was dropped.

        Raises Sim2RealError for non-finite or wrongly sized actions: those are a policy fault, and the
        chunk being executed stays in force.
        """
        rows, n = chunk.positions.shape
        if n != self._n:
            raise Sim2RealError(f"the chunk has {n} joints, the arm has {self._n}")
        if rows >= self._room:
            self._room = rows + 1
            self._buffer = _with_room(self._buffer, self._room)
        # Always the same kinds of arrays and numbers: for others the compiled functions would be compiled again,
        # in the middle of a control loop.
        taken = _add(
            self._buffer, float(chunk.start), float(chunk.period), writable(chunk.positions), float(time)
        )
        if taken < 0:
            raise Sim2RealError("the chunk holds values that are not finite")
        return bool(taken)

    def sample(self, time: float) -> NDArray[np.float64]:
        """The goal (n,), rad, at `time`."""
        return _sample(self._buffer, float(time))  # type: ignore[no-any-return]

    def ahead(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The goals (K, n), rad, at `times` (K,) from now on, if no other chunk comes. Nothing is played by that."""
        return _ahead(self._buffer, times)  # type: ignore[no-any-return]

    def remaining(self, time: float) -> float:
        """Seconds until the last known action is due; negative once the player has run dry."""
        active = int(self._buffer[_ACTIVE])
        last = int(self._buffer[_LENGTH + active]) - 1
        return float(_trajectory(self._buffer, active)[0][last] - time)


# The player's state in one buffer, because a compiled call costs about 0.1 µs per array that is handed to it: this
# header, then twice times (rows,) and goals (rows, n): what is being played, and what was before.
_N, _ROOM, _ACTIVE, _LENGTH, _BLENDING, _BLEND_START, _BLEND = 0, 1, 2, 3, 5, 6, 7
_HEADER = 8
_ROOM_AT_FIRST = 16


def _new_buffer(n: int, room: int, blend: float) -> NDArray[np.float64]:
    buffer = np.zeros(_HEADER + 2 * room * (n + 1))
    buffer[[_N, _ROOM, _BLEND]] = n, room, blend
    return buffer


def _with_room(buffer: NDArray[np.float64], room: int) -> NDArray[np.float64]:
    """A copy of a player's state in a buffer for `room` rows."""
    larger = _new_buffer(int(buffer[_N]), room, float(buffer[_BLEND]))
    larger[_ACTIVE:_HEADER] = buffer[_ACTIVE:_HEADER]
    for which in (0, 1):
        for old, new in zip(_trajectory(buffer, which), _trajectory(larger, which)):
            new[: len(old)] = old
    return larger


@njit(cache=True, nogil=True)
def _trajectory(buffer: NDArray[np.float64], which: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n, rows = int(buffer[_N]), int(buffer[_ROOM])
    at = _HEADER + which * rows * (n + 1)
    return buffer[at : at + rows], buffer[at + rows : at + rows * (n + 1)].reshape(rows, n)


@njit(cache=True, nogil=True)
def _interpolate_into(buffer: NDArray[np.float64], which: int, time: float, out: NDArray[np.float64]) -> None:
    times, goals = _trajectory(buffer, which)
    count = int(buffer[_LENGTH + which])
    i = 0
    while i < count and times[i] <= time:
        i += 1
    if i == 0 or i == count:
        out[:] = goals[max(i - 1, 0)]
        return
    fraction = (time - times[i - 1]) / (times[i] - times[i - 1])
    for j in range(len(out)):
        out[j] = goals[i - 1, j] + fraction * (goals[i, j] - goals[i - 1, j])


@njit(cache=True, nogil=True)
def _sample(buffer: NDArray[np.float64], time: float) -> NDArray[np.float64]:
    n, active = int(buffer[_N]), int(buffer[_ACTIVE])
    out = np.empty(n)
    _interpolate_into(buffer, active, time, out)
    if buffer[_BLENDING] != 0.0:
        weight = max((time - buffer[_BLEND_START]) / buffer[_BLEND], 0.0)
        if weight >= 1.0:
            buffer[_BLENDING] = 0.0
            return out
        before = np.empty(n)
        _interpolate_into(buffer, 1 - active, time, before)
        for j in range(n):
            out[j] = (1 - weight) * before[j] + weight * out[j]
    return out


@njit(cache=True, nogil=True)
def _ahead(buffer: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    # To sample ends a blending that is over by then.
    blending = buffer[_BLENDING]
    out = np.empty((len(times), int(buffer[_N])))
    for k in range(len(times)):
        buffer[_BLENDING] = blending
        out[k] = _sample(buffer, times[k])
    buffer[_BLENDING] = blending
    return out


@njit(cache=True, nogil=True)
def _add(
    buffer: NDArray[np.float64], start: float, period: float, positions: NDArray[np.float64], time: float
) -> int:
    """1 if the chunk is now being played from `time` on, 0 if all of it has expired, -1 if it is not finite.

    It begins where the goal is, or, if it is under way, where it is now.
    """
    rows, n = positions.shape
    for k in range(rows):
        for j in range(n):
            if not np.isfinite(positions[k, j]):
                return -1
    first = 0
    while first < rows and start + period * (first + 1) <= time:
        first += 1
    if first == rows:
        return 0
    current = _sample(buffer, time)
    active = 1 - int(buffer[_ACTIVE])
    times, goals = _trajectory(buffer, active)
    times[0] = time
    if first > 0:
        fraction = (time - (start + period * first)) / period
        for j in range(n):
            goals[0, j] = positions[first - 1, j] + fraction * (positions[first, j] - positions[first - 1, j])
    else:
        goals[0] = current
    for k in range(first, rows):
        times[k - first + 1] = start + period * (k + 1)
        goals[k - first + 1] = positions[k]
    buffer[_ACTIVE], buffer[_LENGTH + active] = active, rows - first + 1
    buffer[_BLENDING], buffer[_BLEND_START] = 1.0 if buffer[_BLEND] > 0.0 else 0.0, time
    return 1
