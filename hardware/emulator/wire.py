"""The emulated half-duplex line: bytes in, bytes out, each at the time it would pass on a real wire.

No threads, no clock of its own: `receive` is told the time, `due` says what has arrived by a time. The same
object runs behind a pty in real time and under a test's stepped clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hardware.emulator.plant import Plant
from hardware.emulator.servos import EmulatedServo
from hardware.feetech.protocol import BROADCAST, Instruction, Packet, Parser, reply

PROTECTION_PERIOD = 0.01
"""How often the servos look at temperature, voltage and overload, s of plant time."""

STALL = 0.25
"""Longest stretch that is caught up with, s."""

FRAGMENT_TIMEOUT = 0.005
"""A packet that is not complete after this pause is forgotten by the servos, s."""

SUPPLY_RESISTANCE = 0.08  # Ω of the supply and its cable


@dataclass(frozen=True)
class Reply:
    """Bytes from servo `id` whose last byte has passed the wire at `due`, s."""

    due: float
    id: int
    data: bytes


class EmulatedBus:
    """Servos on one line, with the plant they move.

    `tamper`, if set, sees every reply before it is queued and returns what really goes out (none, several,
    changed, later): the place where faults are injected.
    """

    def __init__(self, servos: Sequence[EmulatedServo], plant: Plant) -> None:
        self.servos = list(servos)
        self.plant = plant
        self.tamper: Callable[[Reply], Iterable[Reply]] | None = None
        self.requests = 0
        self._parser = Parser()
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
            self._parser.clear()
        self._heard = now
        rate = baud or (self.servos[0].baud if self.servos else 1_000_000)
        self._free = max(now, self._free) + len(data) * 10 / rate
        for packet in self._parser.feed(data):
            self.requests += 1
            # A servo hears only what is sent at its own rate.
            listening = [servo for servo in self.servos if baud is None or _same_rate(servo.baud, baud)]
            self._handle(packet, listening, 10 / rate)

    def due(self, now: float) -> bytes:
        """Everything that has passed the wire by `now` and was not handed out yet."""
        out = b""
        while self._queue and self._queue[0].due <= now:
            out += self._queue.popleft().data
        return out

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

    def _answer(self, servo: EmulatedServo, data: bytes, byte_time: float) -> None:
        packet = reply(servo.id, servo.status, data)
        self._free += servo.return_delay + len(packet) * byte_time
        out = Reply(self._free, servo.id, packet)
        if self.tamper is None:
            self._queue.append(out)
        else:
            self._queue.extend(self.tamper(out))
            self._queue = deque(sorted(self._queue, key=lambda entry: entry.due))

    def _handle(self, packet: Packet, servos: Sequence[EmulatedServo], byte_time: float) -> None:
        data = packet.data
        match packet.code:
            case Instruction.SYNC_READ if packet.id == BROADCAST and len(data) >= 2:
                by_id = {servo.id: servo for servo in servos}
                for id in data[2:]:
                    if id in by_id:
                        self._answer(by_id[id], by_id[id].read(data[0], data[1]), byte_time)
            case Instruction.SYNC_WRITE if packet.id == BROADCAST and len(data) >= 2:
                address, size = data[0], data[1]
                by_id = {servo.id: servo for servo in servos}
                for at in range(2, len(data) - size, size + 1):
                    if data[at] in by_id:
                        by_id[data[at]].write(address, data[at + 1 : at + 1 + size])
            case _:
                for servo in servos:
                    if packet.id in (servo.id, BROADCAST):
                        self._command(servo, packet, byte_time)

    def _command(self, servo: EmulatedServo, packet: Packet, byte_time: float) -> None:
        """A request to one servo. To all at once it is carried out, but nobody answers (pings excepted)."""
        data, alone = packet.data, packet.id != BROADCAST
        match packet.code:
            case Instruction.PING:
                self._answer(servo, b"", byte_time)
                return
            case Instruction.READ if len(data) == 2:
                if alone:
                    self._answer(servo, servo.read(data[0], data[1]), byte_time)
                return
            case Instruction.WRITE if len(data) >= 2:
                id = servo.id
                servo.write(data[0], data[1:])
                if alone and servo.acknowledges:
                    # A new ID holds from the next request on.
                    new, servo.memory[5] = servo.memory[5], id
                    self._answer(servo, b"", byte_time)
                    servo.memory[5] = new
                return
            case Instruction.REG_WRITE if len(data) >= 2:
                servo.reg_write(data[0], data[1:])
            case Instruction.ACTION:
                servo.action()
            case Instruction.RECALIBRATE:
                servo.recalibrate(int.from_bytes(data[:2], "little") if len(data) == 2 else 2048)
            case Instruction.RESET:
                servo.factory_reset()
            case _:
                return
        if alone and servo.acknowledges:
            self._answer(servo, b"", byte_time)


def _same_rate(a: int, b: int) -> bool:
    return abs(a - b) <= 0.03 * a
