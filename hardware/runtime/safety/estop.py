"""Emergency stop by software: who pressed it, whether it is still pressed, and inputs that are watched for it.

Whatever the source, the supervisor brakes with the gate's full deceleration and holds (its state `estop`). This
needs the control process, the bus and the servos to work. It is not a substitute for a switch in the power supply.
"""

from typing import NamedTuple, Protocol

AGAIN = 1.0
"""s between two presses that count as two: a key that is held down repeats itself, and contacts bounce."""


class StopInput(Protocol):
    """An input that is pressed or not, watched by another thread or process: asking never waits."""

    name: str

    def state(self, now: float) -> tuple[bool, int]:
        """(whether it counts as pressed at `now`, how often it has been pressed)."""


class Reading(NamedTuple):
    """`held`: an input is pressed. `presses`: how often one was pressed. `source`: which one was last."""

    held: bool
    presses: int
    source: str


class EmergencyStop:
    """All inputs together. `press` may be called from a signal handler."""

    def __init__(self) -> None:
        self.inputs: list[StopInput] = []
        self._raw = 0
        self._source = ""
        self._seen = 0
        self._seen_inputs: list[int] = []
        self._last = float("-inf")
        self._presses = 0

    def press(self, source: str) -> None:
        """Take a press of the emergency stop; `source` is where it came from: a key, a signal."""
        self._source = source
        self._raw += 1

    def read(self, now: float) -> Reading:
        """As of `now`, s. Call it once per tick."""
        held = False
        raw = self._raw
        for i, source in enumerate(self.inputs):
            pressed, count = source.state(now)
            if i == len(self._seen_inputs):
                self._seen_inputs.append(0 if pressed else count)
            if count > self._seen_inputs[i]:
                self.press(source.name)
                raw = self._raw
            self._seen_inputs[i] = count
            held = held or pressed
        if raw != self._seen:
            self._seen = raw
            if now - self._last >= AGAIN:
                self._presses += 1
            self._last = now
        return Reading(held, self._presses, self._source)
