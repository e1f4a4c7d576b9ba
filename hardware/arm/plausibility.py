"""Which positions a servo can really have reported, given what it reported before.

Checksums let some damage through (a Feetech's does not see compensating errors), and an encoder can jump. A
servo cannot: it turns no faster than its kind does, and no further than its own speed says.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

JUMP_MARGIN = 0.06
"""rad that a reading may differ from the last good one besides real motion: noise, backlash, timing."""

JUMPED_AFTER = 5
"""Implausible readings in a row after which a joint's encoder counts as having jumped, until it is re-armed."""


class Plausibility:
    """Remembers the last believed reading of n joints. `max_speed` (n,) rad/s is what no servo exceeds."""

    def __init__(self, max_speed: Array) -> None:
        n = len(max_speed)
        self.max_speed = max_speed
        self.position = np.full(n, np.nan)
        self.velocity = np.zeros(n)
        self.at = np.full(n, -np.inf)
        """(n,) when each joint was last believed."""
        self._heard_at = np.full(n, -np.inf)
        self._rejected = np.zeros(n, dtype=np.int64)

    def forget(self) -> None:
        """Take the next reading as it comes: the arm may have been moved by hand."""
        self.at[:] = -np.inf
        self._heard_at[:] = -np.inf
        self._rejected[:] = 0

    def judge(
        self, position: Array, velocity: Array, now: float, answered: Mask, low: Array, high: Array
    ) -> Mask:
        """(n,) which of the readings (rad, rad/s) to believe; those are remembered. `low`, `high` (n,) rad are
        the ends of what an encoder can say."""
        possible = (position >= low) & (position <= high) & (np.abs(velocity) <= 2 * self.max_speed)
        usual = answered & possible & (np.abs(position - self.position) <= JUMP_MARGIN)
        if usual.all() and not self._rejected.any():
            # Everybody answered and nobody went far: near whatever the speeds, so that nothing else need be asked.
            self.position, self.velocity = position, velocity
            self.at = self._heard_at = np.full(len(position), now)
            return usual
        # While a joint is silent it may go anywhere at full speed; while it is heard but not believed, no
        # further than its speed says, nor any other way: otherwise a jump would become plausible by waiting, and
        # one that the servo's own controller takes back by turning.
        unheard = np.minimum(now - self._heard_at, 1e3)
        first = ~np.isfinite(self.at)
        disbelieved = np.where(first, 0.0, np.maximum(now - self.at - unheard, 0.0))
        forth = np.minimum(1.5 * np.maximum(np.maximum(self.velocity, velocity), 0.0), self.max_speed)
        back = np.maximum(1.5 * np.minimum(np.minimum(self.velocity, velocity), 0.0), -self.max_speed)
        anyway = self.max_speed * unheard + JUMP_MARGIN
        step = position - self.position
        near = first | ((step <= anyway + forth * disbelieved) & (step >= back * disbelieved - anyway))
        good = answered & possible & near & (self._rejected < JUMPED_AFTER)
        self._rejected = np.where(good, 0, self._rejected + (answered & ~good))
        self._heard_at = np.where(answered, now, self._heard_at)
        self.position = np.where(good, position, self.position)
        self.velocity = np.where(good, velocity, self.velocity)
        self.at = np.where(good, now, self.at)
        return good
