"""How Dynamixel servos (Protocol 2.0) understand requests and answer them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hardware.emulator.dialect import Answer
from hardware.servos.dynamixel.protocol import (
    ALERT,
    BROADCAST,
    HEADER,
    MAX_ID,
    MAX_PARAMETERS,
    Instruction,
    Packet,
    Parser,
    clear,
    crc,
    reply,
)

PING_SLOT = 0.003
"""How long each servo waits per ID when all are pinged at once, s."""

FAST_BULK_READ, BACKUP = 0x9A, 0x20
"""Instructions that our own driver never sends."""

EEPROM_END = 64

_BACKUP_KEY = b"\x01CTRL"
_CLEAR_KEY = clear(0)[8:-2]

_RESULT, _UNKNOWN, _DAMAGED, _LENGTH = 1, 2, 3, 5


@dataclass(frozen=True)
class Damaged:
    """A request to servo `id` whose CRC was wrong."""

    id: int


class Addressee(Protocol):
    """A servo as requests see it. Methods that return an int say what was wrong: an error number, 0 for nothing."""

    @property
    def id(self) -> int: ...
    @property
    def secondary_id(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def return_delay(self) -> float: ...
    @property
    def return_level(self) -> int: ...
    @property
    def identity(self) -> bytes: ...
    def heard(self, now: float) -> None: ...
    def read(self, address: int, size: int) -> tuple[int, bytes]: ...
    def write(self, address: int, data: bytes) -> int: ...
    def reg_write(self, address: int, data: bytes) -> int: ...
    def action(self) -> int: ...
    def factory_reset(self, keep: int) -> None: ...
    def clear_turns(self) -> int: ...
    def store_backup(self) -> int: ...
    def restart(self, now: float) -> None: ...


class DynamixelLine:
    """The `Dialect` of Dynamixel X servos."""

    def __init__(self) -> None:
        self._parser = Parser()

    def clear(self) -> None:
        self._parser.clear()

    def feed(self, data: bytes) -> "list[Packet | Damaged]":
        before = self._parser.checksum_errors
        requests: list[Packet | Damaged] = [
            packet for packet in self._parser.feed(data) if packet.code != Instruction.STATUS
        ]
        damaged = min(self._parser.checksum_errors - before, len(self._parser.suspects))
        suspects = list(self._parser.suspects)[len(self._parser.suspects) - damaged :]
        return requests + [Damaged(id) for id in suspects]

    def handle(
        self, request: "Packet | Damaged", servos: Sequence[Addressee], now: float, answer: Answer
    ) -> None:
        by_id = {servo.id: servo for servo in servos}
        if isinstance(request, Damaged):
            if request.id in by_id and by_id[request.id].return_level == 2:
                _reply(by_id[request.id], _DAMAGED, b"", answer)
            return
        for servo in servos:
            servo.heard(now)
        data, to_all = request.data, request.id == BROADCAST
        match request.code:
            case Instruction.SYNC_READ if to_all and len(data) >= 4:
                address, size = _span(data)
                for id in data[4:]:
                    if id in by_id:
                        _read(by_id[id], address, size, answer)
            case Instruction.FAST_SYNC_READ if to_all and len(data) >= 4:
                address, size = _span(data)
                _fast_read([(id, address, size) for id in data[4:]], by_id, answer)
            case int(code) if code == FAST_BULK_READ and to_all:
                _fast_read(list(_spans(data)), by_id, answer)
            case Instruction.BULK_READ if to_all:
                for id, address, size in _spans(data):
                    if id in by_id:
                        _read(by_id[id], address, size, answer)
            case Instruction.SYNC_WRITE if to_all and len(data) >= 4:
                address, size = _span(data)
                for at in range(4, len(data) - size, size + 1):
                    if data[at] in by_id:
                        by_id[data[at]].write(address, data[at + 1 : at + 1 + size])
            case Instruction.BULK_WRITE if to_all:
                at = 0
                while at + 5 <= len(data):
                    address, size = _span(data[at + 1 :])
                    part = data[at + 5 : at + 5 + size]
                    if data[at] in by_id and len(part) == size:
                        by_id[data[at]].write(address, part)
                    at += 5 + size
            case Instruction.PING if to_all:
                spoken = 0
                for servo in sorted(servos, key=lambda servo: servo.id):
                    packet = reply(servo.id, ALERT if servo.status else 0, servo.identity)
                    answer(servo.id, (servo.id - spoken) * PING_SLOT, packet)
                    spoken = servo.id
            case _:
                for servo in servos:
                    if request.id in (servo.id, BROADCAST):
                        _command(servo, request, now, None if to_all else answer)
                    elif request.id == servo.secondary_id <= MAX_ID and not _stores(request):
                        _command(servo, request, now, None)


def _reply(servo: Addressee, error: int, data: bytes, answer: Answer, id: int | None = None) -> None:
    id = servo.id if id is None else id
    alert = ALERT if servo.status else 0
    answer(id, servo.return_delay, reply(id, error | alert, data))


def _read(servo: Addressee, address: int, size: int, answer: Answer) -> None:
    if servo.return_level >= 1:
        _reply(servo, *servo.read(address, size), answer)


def _fast_read(spans: list[tuple[int, int, int]], by_id: dict[int, Addressee], answer: Answer) -> None:
    """Each servo adds its part when it has heard those before it: behind a missing one nobody speaks."""
    length = 1 + sum(size + 4 for _, _, size in spans)
    if length > MAX_PARAMETERS:
        return
    said = HEADER + bytes((BROADCAST,)) + length.to_bytes(2, "little") + bytes((Instruction.STATUS,))
    value = crc(said)
    for k, (id, address, size) in enumerate(spans):
        servo = by_id.get(id)
        if servo is None or servo.return_level < 1:
            return
        error, data = servo.read(address, size)
        alert = ALERT if servo.status else 0
        part = bytes((error | alert, id)) + data.ljust(size, b"\0")
        value = crc(part, value)
        check = value.to_bytes(2, "little")
        value = crc(check, value)
        answer(id, 0.0 if k else servo.return_delay, (b"" if k else said) + part + check)


def _command(servo: Addressee, request: Packet, now: float, answer: Answer | None) -> None:
    """A request to one servo; it is answered through `answer`, if there is one."""
    data = request.data
    id = servo.id  # a new ID holds from the next request on
    error, result, level = 0, b"", 2
    restart = False
    match request.code:
        case Instruction.PING:
            result, level = servo.identity, 0
        case Instruction.READ:
            level = 1
            error, result = servo.read(*_span(data)) if len(data) == 4 else (_LENGTH, b"")
        case Instruction.WRITE:
            error = servo.write(_address(data), data[2:]) if len(data) > 2 else _LENGTH
        case Instruction.REG_WRITE:
            error = servo.reg_write(_address(data), data[2:]) if len(data) > 2 else _LENGTH
        case Instruction.ACTION:
            error = servo.action()
        case Instruction.FACTORY_RESET:
            if answer is None and data[:1] == b"\xff":
                return  # everybody at once would end up with the same ID
            servo.factory_reset(data[0] if data else 0xFF)
            restart = True
        case Instruction.REBOOT:
            restart = True
        case Instruction.CLEAR:
            error = servo.clear_turns() if data == _CLEAR_KEY else _RESULT
        case int(code) if code == BACKUP:
            error = servo.store_backup() if data == _BACKUP_KEY else _RESULT
        case _:
            error = _UNKNOWN
    if answer is not None and servo.return_level >= level:
        _reply(servo, error, result, answer, id)
    if restart:
        servo.restart(now)


def _stores(request: Packet) -> bool:
    """Whether a request would change the EEPROM area, which a secondary ID cannot."""
    if request.code == Instruction.FACTORY_RESET:
        return True
    writes = request.code in (Instruction.WRITE, Instruction.REG_WRITE)
    return writes and len(request.data) > 2 and _address(request.data) < EEPROM_END


def _address(data: bytes) -> int:
    return data[0] | data[1] << 8


def _span(data: bytes) -> tuple[int, int]:
    return data[0] | data[1] << 8, data[2] | data[3] << 8


def _spans(data: bytes) -> Iterator[tuple[int, int, int]]:
    for at in range(0, len(data) - 4, 5):
        yield data[at], *_span(data[at + 1 :])
