"""Dynamixel servos reduced to memory and manners, on a stepped clock: what a driver's tests need, no physics."""

from collections.abc import Callable, Iterable

from hardware.servos.dynamixel import protocol
from hardware.servos.dynamixel.protocol import BROADCAST, Instruction, Packet
from hardware.servos.dynamixel.registers import TABLES
from sim2real.clock import SimulatedClock
from sim2real.errors import PortError

ACCESS, LIMIT, LENGTH, RANGE = 7, 6, 5, 4


class Servo:
    """Memory by the register table; `knows_fast` is about fast sync reads, `error` its hardware error."""

    def __init__(self, id: int, model: int = 1200, **values: int) -> None:
        self.table = TABLES[model]
        self.memory = bytearray(self.table.size)
        self.knows_fast = True
        for register in self.table.values():
            self.put(register.name, register.default)
        self.put("id", id)
        self.put("return_delay_time", 0)
        for name, value in values.items():
            self.put(name, value)
        self.waiting: tuple[int, bytes] | None = None
        self.restarts = 0

    def get(self, name: str) -> int:
        entry = self.table[name]
        return entry.decode(self.memory[entry.address : entry.end])

    def put(self, name: str, value: int) -> None:
        entry = self.table[name]
        self.memory[entry.address : entry.end] = entry.encode(value)

    @property
    def id(self) -> int:
        return self.memory[7]

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> int:
        """The error number; nothing is written unless it is 0."""
        for entry in self.table.touching(address, len(data)):
            if not entry.writable or (entry.area == "eeprom" and self.get("torque_enable")):
                return ACCESS
            if entry.address < address or entry.end > address + len(data):
                return LENGTH
            value = entry.decode(data[entry.address - address : entry.end - address])
            if not entry.low <= value <= entry.high:
                return RANGE
            low, high = self.get("min_position_limit"), self.get("max_position_limit")
            if entry.name == "goal_position" and not low <= value <= high:
                return LIMIT
        self.memory[address : address + len(data)] = data
        return 0

    def reboot(self) -> None:
        self.restarts += 1
        self.put("torque_enable", 0)
        self.put("status", 0)


class Line:
    """A `Port` to servos. `tamper(id, due, data)` sees each reply and returns the (due, data) that really come."""

    def __init__(self, servos: Iterable[Servo], baud: int = 1_000_000) -> None:
        self.servos = list(servos)
        self.name, self.baud = "line", baud
        self.clock = SimulatedClock()
        self.tamper: Callable[[int, float, bytes], Iterable[tuple[float, bytes]]] | None = None
        self.requests: list[Packet] = []
        self.plugged = True
        self._queue: list[tuple[float, bytes]] = []
        self._free = 0.0

    def now(self) -> float:
        return self.clock.now()

    def write(self, data: bytes) -> None:
        if not self.plugged:
            raise PortError("gone")
        self._free = max(self._free, self.now()) + len(data) * 10 / self.baud
        for packet in protocol.Parser().feed(data):
            self.requests.append(packet)
            self._handle(packet)

    def read(self, size: int, deadline: float) -> bytes:
        if not self.plugged:
            raise PortError("gone")
        if not self._queue or self._queue[0][0] > deadline:
            self.clock.sleep_until(deadline)
            return b""
        self.clock.sleep_until(self._queue[0][0])
        out = b""
        while self._queue and self._queue[0][0] <= self.now() and len(out) < size:
            due, data = self._queue.pop(0)
            taken = data[: size - len(out)]
            out += taken
            if len(taken) < len(data):
                self._queue.insert(0, (due, data[len(taken) :]))
        return out

    def discard_input(self) -> int:
        if not self.plugged:
            raise PortError("gone")
        arrived = [data for due, data in self._queue if due <= self.now()]
        self._queue = [(due, data) for due, data in self._queue if due > self.now()]
        return len(b"".join(arrived))

    def close(self) -> None:
        self.plugged = False

    def _answer(self, id: int, data: bytes) -> None:
        self._free += len(data) * 10 / self.baud
        replies = [(self._free, data)] if self.tamper is None else self.tamper(id, self._free, data)
        self._queue = sorted([*self._queue, *replies], key=lambda reply: reply[0])

    def _reply(self, servo: Servo, error: int = 0, data: bytes = b"") -> None:
        alert = protocol.ALERT if servo.get("status") else 0
        self._answer(servo.id, protocol.reply(servo.id, error | alert, data))

    def _handle(self, packet: Packet) -> None:
        by_id = {servo.id: servo for servo in self.servos}
        data = packet.data
        word = [int.from_bytes(data[k : k + 2], "little") for k in (0, 2)] if len(data) >= 4 else [0, 0]
        match packet.code:
            case Instruction.PING if packet.id == BROADCAST:
                for servo in sorted(self.servos, key=lambda servo: servo.id):
                    self._reply(servo, 0, servo.read(0, 2) + servo.read(6, 1))
            case Instruction.SYNC_READ:
                for id in data[4:]:
                    if id in by_id:
                        self._reply(by_id[id], 0, by_id[id].read(*word))
            case Instruction.FAST_SYNC_READ:
                whole = protocol.fast_sync_head(word[1], len(data) - 4)
                for k, id in enumerate(data[4:]):
                    servo = by_id.get(id)
                    if servo is None or not servo.knows_fast:
                        return
                    alert = protocol.ALERT if servo.get("status") else 0
                    part = protocol.fast_sync_part(whole, id, alert, servo.read(*word))[-word[1] - 4 :]
                    self._answer(id, part if k else whole + part)
                    whole += part
            case Instruction.SYNC_WRITE:
                for at in range(4, len(data), word[1] + 1):
                    if data[at] in by_id:
                        by_id[data[at]].write(word[0], data[at + 1 : at + 1 + word[1]])
            case Instruction.BULK_READ:
                for at in range(0, len(data), 5):
                    if data[at] in by_id:
                        span = [int.from_bytes(data[at + k : at + k + 2], "little") for k in (1, 3)]
                        self._reply(by_id[data[at]], 0, by_id[data[at]].read(*span))
            case Instruction.BULK_WRITE:
                at = 0
                while at < len(data):
                    address, size = (int.from_bytes(data[at + k : at + k + 2], "little") for k in (1, 3))
                    if data[at] in by_id:
                        by_id[data[at]].write(address, data[at + 5 : at + 5 + size])
                    at += 5 + size
            case _:
                for servo in self.servos:
                    if packet.id in (servo.id, BROADCAST):
                        self._command(servo, packet, word)

    def _command(self, servo: Servo, packet: Packet, word: list[int]) -> None:
        data = packet.data
        error, answer, silent = 0, b"", packet.id == BROADCAST
        match packet.code:
            case Instruction.PING:
                answer = servo.read(0, 2) + servo.read(6, 1)
            case Instruction.READ:
                answer = servo.read(*word)
            case Instruction.WRITE:
                error = servo.write(int.from_bytes(data[:2], "little"), data[2:])
                silent |= servo.get("status_return_level") < 2
            case Instruction.REG_WRITE:
                servo.waiting = int.from_bytes(data[:2], "little"), data[2:]
                servo.put("asynchronous_write", 1)
            case Instruction.ACTION if servo.waiting is not None:
                servo.write(*servo.waiting)
                servo.put("asynchronous_write", 0)
            case Instruction.REBOOT | Instruction.FACTORY_RESET:
                servo.reboot()
            case Instruction.CLEAR:
                servo.put("present_position", servo.get("present_position") % 4096)
        if not silent:
            self._reply(servo, error, answer)
