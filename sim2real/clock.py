"""One clock for the control loop: real in deployment, simulated in tests."""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds and sleeping until an absolute time."""

    def now(self) -> float:
        """Seconds since an arbitrary origin; never goes backwards, blind to changes of the wall clock."""

    def sleep_until(self, deadline: float) -> None:
        """Return at or just after `deadline` (same time base as `now`); at once when it has passed."""


class RealClock:
    """`CLOCK_MONOTONIC`."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        # An absolute deadline: errors of single periods do not add up to drift.
        remaining = deadline - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


class SimulatedClock:
    """Time that passes only in calls of `sleep` and `advance`."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def sleep_until(self, deadline: float) -> None:
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        self._now += seconds
