"""Feetech STS/SMS packets as pure functions of bytes.

    FF FF | ID | LEN | INSTRUCTION or ERROR | parameters | SUM

LEN counts what follows it; SUM is the complement of the sum of everything between header and SUM. The sum
does not see compensating errors (one byte +1, another −1), so values need plausibility checks of their own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hardware.servos.packet_stream import NO_PACKET, UNFINISHED, PacketStream

HEADER = b"\xff\xff"
BROADCAST = 0xFE
MAX_ID = 0xFD
MAX_PARAMETERS = 250


class Instruction(IntEnum):
    """What a request asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RESET = 0x0A
    RECALIBRATE = 0x0B
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


@dataclass(frozen=True)
class Packet:
    """A request (`code` is its instruction) or a reply (`code` is the servo's error byte)."""

    id: int
    code: int
    data: bytes = b""


def checksum(body: bytes | bytearray | memoryview) -> int:
    """SUM over everything between the header and the sum itself."""
    return ~sum(body) & 0xFF


def encode(id: int, code: int, data: bytes = b"") -> bytes:
    """The bytes of one packet. Raises ValueError for an impossible ID or too many parameters."""
    if not 0 <= id <= BROADCAST:
        raise ValueError(f"a servo ID is 0 to {MAX_ID} ({BROADCAST} for all), got {id}")
    if len(data) > MAX_PARAMETERS:
        raise ValueError(f"a packet carries at most {MAX_PARAMETERS} parameter bytes, got {len(data)}")
    body = bytes((id, len(data) + 2, code)) + data
    return HEADER + body + bytes((checksum(body),))


def ping(id: int) -> bytes:
    return encode(id, Instruction.PING)


def read(id: int, address: int, size: int) -> bytes:
    return encode(id, Instruction.READ, bytes((address, size)))


def write(id: int, address: int, data: bytes) -> bytes:
    return encode(id, Instruction.WRITE, bytes((address,)) + data)


def reg_write(id: int, address: int, data: bytes) -> bytes:
    """A write that waits in the servo for `action`."""
    return encode(id, Instruction.REG_WRITE, bytes((address,)) + data)


def action(id: int = BROADCAST) -> bytes:
    return encode(id, Instruction.ACTION)


def sync_read(address: int, size: int, ids: Sequence[int]) -> bytes:
    """One request that every servo in `ids` answers, in that order."""
    return encode(BROADCAST, Instruction.SYNC_READ, bytes((address, size, *ids)))


def sync_write(address: int, size: int, values: Iterable[tuple[int, bytes]]) -> bytes:
    """`size` bytes for each of several servos; nobody answers. Raises ValueError for other sizes."""
    parts = [bytes((address, size))]
    for id, data in values:
        if len(data) != size:
            raise ValueError(f"sync write of {size} bytes to servo {id} was given {len(data)} bytes")
        parts += (bytes((id,)), data)
    return encode(BROADCAST, Instruction.SYNC_WRITE, b"".join(parts))


def reply(id: int, error: int, data: bytes = b"") -> bytes:
    return encode(id, error, data)


class Parser(PacketStream[Packet]):
    """See `PacketStream`."""

    header = HEADER

    def __init__(self, max_length: int = MAX_PARAMETERS + 2) -> None:
        super().__init__(max_length)

    def _end(self, buffer: bytearray, start: int, size: int) -> int:
        if size - start >= 3 and buffer[start + 2] == 0xFF:
            return NO_PACKET
        if size - start < 4:
            return UNFINISHED
        length = buffer[start + 3]
        return start + 4 + length if 2 <= length <= self.max_length else NO_PACKET

    def _open(self, packet: bytes) -> Packet | None:
        if checksum(packet[2:-1]) != packet[-1]:
            self.checksum_errors += 1
            self.suspects.append(packet[2])
            return None
        return Packet(packet[2], packet[4], packet[5:-1])
