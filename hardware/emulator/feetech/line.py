"""How Feetech servos understand requests and answer them."""

from collections.abc import Sequence
from typing import Protocol

from hardware.emulator.dialect import Answer
from hardware.servos.feetech.protocol import BROADCAST, MAX_PARAMETERS, Instruction, Packet, Parser, reply
from hardware.servos.feetech.registers import CENTRE


class Addressee(Protocol):
    """A servo as requests see it."""

    @property
    def id(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def return_delay(self) -> float: ...
    @property
    def acknowledges(self) -> bool: ...
    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...
    def reg_write(self, address: int, data: bytes) -> None: ...
    def action(self) -> None: ...
    def recalibrate(self, position: int) -> None: ...
    def factory_reset(self) -> None: ...


class FeetechLine:
    """The `Dialect` of STS and SMS servos."""

    def __init__(self) -> None:
        self._parser = Parser()

    def clear(self) -> None:
        self._parser.clear()

    def feed(self, data: bytes) -> list[Packet]:
        return self._parser.feed(data)

    def handle(self, request: Packet, servos: Sequence[Addressee], now: float, answer: Answer) -> None:
        data = request.data
        match request.code:
            case Instruction.SYNC_READ if (
                request.id == BROADCAST and len(data) >= 2 and data[1] <= MAX_PARAMETERS
            ):
                by_id = {servo.id: servo for servo in servos}
                for id in data[2:]:
                    if id in by_id:
                        _reply(by_id[id], by_id[id].read(data[0], data[1]), answer)
            case Instruction.SYNC_WRITE if request.id == BROADCAST and len(data) >= 2:
                address, size = data[0], data[1]
                by_id = {servo.id: servo for servo in servos}
                for at in range(2, len(data) - size, size + 1):
                    if data[at] in by_id:
                        by_id[data[at]].write(address, data[at + 1 : at + 1 + size])
            case _:
                for servo in servos:
                    if request.id in (servo.id, BROADCAST):
                        _command(servo, request, answer)


def _reply(servo: Addressee, data: bytes, answer: Answer, id: int | None = None) -> None:
    id = servo.id if id is None else id
    answer(id, servo.return_delay, reply(id, servo.status, data))


def _command(servo: Addressee, request: Packet, answer: Answer) -> None:
    """A request to one servo. To all at once it is carried out, but nobody answers (pings excepted)."""
    data, alone = request.data, request.id != BROADCAST
    id = servo.id  # a new ID holds from the next request on
    match request.code:
        case Instruction.PING:
            _reply(servo, b"", answer)
            return
        case Instruction.READ if len(data) == 2 and data[1] <= MAX_PARAMETERS:
            if alone:
                _reply(servo, servo.read(data[0], data[1]), answer)
            return
        case Instruction.WRITE if len(data) >= 2:
            servo.write(data[0], data[1:])
        case Instruction.REG_WRITE if len(data) >= 2:
            servo.reg_write(data[0], data[1:])
        case Instruction.ACTION:
            servo.action()
        case Instruction.RECALIBRATE:
            servo.recalibrate(int.from_bytes(data[:2], "little") if len(data) == 2 else CENTRE)
        case Instruction.RESET:
            servo.factory_reset()
        case _:
            return
    if alone and servo.acknowledges:
        _reply(servo, b"", answer, id)
