"""When the control loop's cycles begin: absolute deadlines, so that errors of single periods do not add up."""

from sim2real.clock import Clock


class LoopPace:
    """Cycles of `period` s on `clock`."""

    def __init__(self, clock: Clock, period: float) -> None:
        self.clock, self.period = clock, period
        self._deadline = clock.now()
        self._last_start: float | None = None

    def wait(self) -> tuple[float, float]:
        """Wait until the next cycle is due; (when it begins, by how much that is too late after the last one), s."""
        self.clock.sleep_until(self._deadline)
        start = self.clock.now()
        error = 0.0 if self._last_start is None else start - self._last_start - self.period
        self._last_start = start
        return start, error

    def resync(self) -> None:
        """Start a new time base: what was waited for on purpose is no overrun."""
        self._deadline = self.clock.now() + self.period
        self._last_start = None

    def finish(self) -> int:
        """The cycle is done; how many whole periods are skipped because it took too long."""
        if self._last_start is None:
            self._deadline = self.clock.now() + self.period
            return 0
        self._deadline += self.period
        # Whole periods are skipped: the phase stays, and no burst of commands follows a stall.
        missed = max(int((self.clock.now() - self._deadline) / self.period + 0.5), 0)
        self._deadline += missed * self.period
        return missed
