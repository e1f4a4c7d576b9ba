"""Where the arm's joints were a moment ago, in shared memory: the control loop writes, a camera's process reads.

Neither waits for the other. The row that is being written is always the oldest, which nobody asks for.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.spawning import context

Array = NDArray[np.float64]

ROWS = 128
"""Readings that are kept: more than a second at 100 Hz."""
FRESH = 0.15
"""s from the nearest reading beyond which where the arm was is not known."""
EXPOSED = 0.04
"""s by which a picture was typically exposed before it arrived here."""


class JointTrail:
    """The last readings of `n` joints. Hand it over when a process is started.

    `exposed`: s by which pictures are stamped later than they were exposed.
    """

    def __init__(self, n: int, exposed: float = EXPOSED) -> None:
        self.n, self.exposed = n, exposed
        self._shared = context.RawArray("d", ROWS * (1 + n))
        self._attach()
        self.clear()

    def clear(self) -> None:
        """Forget all readings: the clock begins anew."""
        self._rows[:, 0] = -np.inf
        self._next = 0

    def _attach(self) -> None:
        self._rows = np.frombuffer(self._shared, dtype=np.float64).reshape(ROWS, 1 + self.n)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def tell(self, time: float, position: Array) -> None:
        """The joints were at `position` (n,) rad at `time`, s on the pictures' clock. One process only calls this."""
        row = self._rows[self._next % ROWS]
        row[0] = -np.inf
        row[1:] = position
        row[0] = time
        self._next += 1

    def at(self, time: float) -> Array | None:
        """(n,) rad at `time`, between readings by straight lines; None when no reading is from about then."""
        rows = self._rows.copy()
        rows = rows[np.isfinite(rows).all(axis=1)]
        if not len(rows) or np.abs(rows[:, 0] - time).min() > FRESH:
            return None
        rows = rows[np.argsort(rows[:, 0])]
        return np.array([np.interp(time, rows[:, 0], column) for column in rows[:, 1:].T])

    def at_picture(self, stamp: float) -> Array | None:
        """(n,) rad when the picture with this time stamp, s, was exposed; None when that is not known."""
        return self.at(stamp - self.exposed)
