"""The emulated half-duplex line: bytes in, bytes out, each at the time it would pass on a real wire.

No threads, no clock of its own: `receive` is told the time, `due` says what has arrived by a time. The same
object runs behind a pty in real time and under a test's stepped clock. What the bytes mean is the business of a
`Dialect`, one per family of servos.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hardware.emulator.dialect import Dialect
from hardware.emulator.plant import Plant
from hardware.emulator.servos import EmulatedServo

PROTECTION_PERIOD = 0.01
"""How often the servos look at temperature, voltage and overload, s of plant time."""

STALL = 0.25
"""Longest stretch that is caught up with, s."""

FRAGMENT_TIMEOUT = 0.1
"""A packet whose bytes pause for longer is forgotten by the servos, s: what the vendors' manuals allow between two
bytes. Programs that write byte by byte, or that the system interrupts, are understood."""

SUPPLY_RESISTANCE = 0.08  # Ω of the supply and its cable


@dataclass(frozen=True)
class Reply:
    """Bytes from servo `id` whose last byte has passed the wire at `due`, s."""

    due: float
    id: int
    data: bytes


class EmulatedBus:
    """Servos of one family on one line, with the plant they move.

    `tamper`, if set, sees every reply before it is queued and returns what really goes out (none, several,
    changed, later); `overhear`, if set, sees what the master says, and when, and returns what the servos hear of it:
    the places where faults are injected.
    """

    def __init__(self, servos: Sequence[EmulatedServo], plant: Plant, dialect: Dialect | None = None) -> None:
        self.servos = list(servos)
        self.plant = plant
        self.dialect = dialect or self.servos[0].dialect()
        self.tamper: Callable[[Reply], Iterable[Reply]] | None = None
        self.overhear: Callable[[bytes, float], bytes] | None = None
        self.requests = 0
        self._byte_time = 0.0  # of the request being answered, s
        self._free = 0.0  # when the line is quiet again
        self._queue: deque[Reply] = deque()
        self._time = 0.0
        self._heard = 0.0  # when the master last said something

    def advance(self, now: float) -> None:
        """Let the plant and the servos' own protections catch up with `now`, s."""
        # What the machine was too slow for is skipped, or the delay would grow.
        self._time = max(self._time, now - STALL)
        while self._time < now:
            step = min(now, self._time + PROTECTION_PERIOD)
            self.plant.advance(step)
            if step - self._time < PROTECTION_PERIOD * 0.999:
                break
            drawn = float(sum(abs(self.plant.current * self.plant.duty)))
            voltage = self.plant.supply - SUPPLY_RESISTANCE * drawn
            for servo in self.servos:
                servo.update(step, step - self._time, voltage)
            self._time = step

    def receive(self, data: bytes, now: float, baud: int | None = None) -> None:
        """Take bytes from the master at `now`, s, sent at `baud` (None: at whatever rate the servos use)."""
        self.advance(now)
        if now - self._heard > FRAGMENT_TIMEOUT:
            self.dialect.clear()
        self._heard = now
        rate = baud or (self.servos[0].baud if self.servos else 0) or 1_000_000
        self._byte_time = 10 / rate
        self._free = max(now, self._free) + len(data) * self._byte_time
        if self.overhear is not None:
            data = self.overhear(data, now)
        for request in self.dialect.feed(data):
            self.requests += 1
            # A servo hears only what is sent at its own rate.
            listening = [
                servo
                for servo in self.servos
                if servo.hears(now) and (baud is None or _same_rate(servo.baud, baud))
            ]
            self.dialect.handle(request, listening, now, self._answer)

    def due(self, now: float) -> bytes:
        """Everything that has passed the wire by `now` and was not handed out yet."""
        out = b""
        while self._queue and self._queue[0].due <= now:
            out += self._queue.popleft().data
        return out

    def backlog(self, now: float) -> float:
        """How long the line needs for what has been said to it by `now`, replies included, s."""
        return self._free - now

    @property
    def next_due(self) -> float | None:
        """When the next reply is complete, s."""
        return self._queue[0].due if self._queue else None

    def burst_end(self, window: float) -> float | None:
        """When the last of the replies that follow the next one within `window` s is complete."""
        if not self._queue:
            return None
        limit = self._queue[0].due + window
        end = self._queue[0].due
        for entry in self._queue:
            if entry.due > limit:
                break
            end = max(end, entry.due)
        return end

    def _answer(self, id: int, delay: float, packet: bytes) -> None:
        self._free += delay + len(packet) * self._byte_time
        out = Reply(self._free, id, packet)
        if self.tamper is None:
            self._queue.append(out)
        else:
            self._queue.extend(self.tamper(out))
            self._queue = deque(sorted(self._queue, key=lambda entry: entry.due))


def _same_rate(a: int, b: int) -> bool:
    return abs(a - b) <= 0.03 * a
