"""An emulated bus without pty and without real time: a `Port` whose clock stands still unless somebody waits.

Tests of drivers, arm and control loop run on it deterministically, bytes included.
"""

from hardware.emulator.wire import EmulatedBus
from sim2real.clock import SimulatedClock
from sim2real.errors import PortError


class SteppedPort:
    """A port to an `EmulatedBus` in simulated time; waiting for a reply is what moves the clock."""

    def __init__(
        self, bus: EmulatedBus, clock: SimulatedClock | None = None, *, baud: int = 1_000_000
    ) -> None:
        self.name = "stepped"
        self.baud = baud
        self.bus = bus
        self.clock = clock or SimulatedClock()
        self.plugged = True  # a test pulls the plug by setting this to False
        self._input = bytearray()

    def now(self) -> float:
        return self.clock.now()

    def write(self, data: bytes) -> None:
        self._check()
        self.bus.receive(data, self.now(), self.baud)

    def read(self, size: int, deadline: float) -> bytes:
        self._check()
        while True:
            self._input += self.bus.due(self.now())
            if self._input:
                data = bytes(self._input[:size])
                del self._input[:size]
                return data
            due = self.bus.next_due
            if due is None or due > deadline:
                self.clock.sleep_until(deadline)
                return b""
            self.clock.sleep_until(due)

    def discard_input(self) -> int:
        self._check()
        self._input += self.bus.due(self.now())
        dropped = len(self._input)
        self._input.clear()
        return dropped

    def close(self) -> None:
        self.plugged = False

    def _check(self) -> None:
        if not self.plugged:
            raise PortError(f"{self.name} has gone away: check plug and power, then connect again")
