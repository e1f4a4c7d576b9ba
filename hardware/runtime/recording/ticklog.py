"""What happened in each tick, kept without allocating in the loop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import CODES, Phase
from hardware.runtime.control.tick import Tick

Array = NDArray[np.float64]

BLOCK = 6000
"""Rows that are allocated at a time: a minute at 100 Hz."""

SCALARS = (
    "t",
    "phase",
    "flags",
    "period_error",
    "work",
    "feedback_age",
    "remaining",
    "camera_age",
    "episode",
)


class TickLog:
    """One row per tick: scalars (see SCALARS) and three joint vectors (position, requested, executed).

    `t` is in s on the loop's clock, `phase` a code of the supervisor, `flags` the gate's mask, ages and
    errors in s, `work` what the tick took so far, waiting for the servos included. `limit` is the most rows that
    are kept; later ones are counted in `dropped` and lost.
    """

    def __init__(self, joint_names: tuple[str, ...], limit: int = 2_000_000) -> None:
        self.joint_names = joint_names
        self.limit = limit
        self.dropped = 0
        self._n = len(joint_names)
        self._width = len(SCALARS) + 3 * self._n
        self._blocks = [np.empty((BLOCK, self._width))]
        self._row = 0

    def __len__(self) -> int:
        return (len(self._blocks) - 1) * BLOCK + self._row

    def tick(self, tick: Tick) -> None:
        """See `TickSink`: append a row, once there is a reading."""
        if tick.reading is None:
            return
        if self._row == BLOCK:
            if len(self) >= self.limit:
                self.dropped += 1
                return
            self._blocks.append(np.empty((BLOCK, self._width)))
            self._row = 0
        row = self._blocks[-1][self._row]
        k, n, health = len(SCALARS), self._n, tick.health
        row[:k] = (
            tick.time, CODES[tick.state.phase], tick.flags, tick.period_error, tick.work, health.feedback_age,
            health.remaining, health.camera_age, tick.episode,
        )  # fmt: skip
        row[k : k + n] = tick.reading.position
        row[k + n : k + 2 * n] = tick.requested
        row[k + 2 * n :] = tick.executed
        self._row += 1

    def rows(self) -> Array:
        """(T, columns) a copy of everything so far."""
        return np.concatenate([*self._blocks[:-1], self._blocks[-1][: self._row]])

    def columns(self) -> dict[str, Array]:
        """The log by name: the scalars, and `position.<joint>`, `requested.<joint>`, `executed.<joint>`."""
        rows = self.rows()
        names = list(SCALARS)
        for what in ("position", "requested", "executed"):
            names += [f"{what}.{joint}" for joint in self.joint_names]
        return {name: rows[:, i] for i, name in enumerate(names)}

    def table(self) -> Any:
        """The log as a pyarrow table, states by name."""
        import pyarrow as pa

        names = [phase.value for phase in Phase]
        columns: dict[str, Any] = dict(self.columns())
        columns["state"] = [names[int(code)] for code in columns.pop("phase")]
        columns["flags"] = columns["flags"].astype(np.int64)
        columns["episode"] = columns["episode"].astype(np.int64)
        return pa.table(columns)
