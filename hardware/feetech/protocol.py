"""Feetech STS/SMS packets as pure functions of bytes.

    FF FF | ID | LEN | INSTRUCTION or ERROR | parameters | SUM

LEN counts what follows it; SUM is the complement of the sum of everything between header and SUM. The sum
does not see compensating errors (one byte +1, another −1), so values need plausibility checks of their own.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

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


class Parser:
    """Finds packets in a stream of bytes, whatever garbage lies between them.

    A candidate that turns out wrong costs its first byte only, so a genuine packet inside or behind it is
    still found. `max_length` bounds the LEN that is believed: without a bound, a damaged LEN would make the
    parser wait for bytes that never come.
    """

    def __init__(self, max_length: int = MAX_PARAMETERS + 2) -> None:
        self.max_length = max_length
        self.garbage = 0  # bytes that belonged to no packet
        self.checksum_errors = 0
        self.suspects: deque[int] = deque(maxlen=32)  # IDs in the headers of packets whose sum was wrong
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a packet that has begun and is not complete."""
        return len(self._buffer)

    def clear(self) -> int:
        """Forget what is incomplete; returns the number of bytes dropped."""
        dropped = len(self._buffer)
        self._buffer.clear()
        self.garbage += dropped
        return dropped

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that `data` completes, in order."""
        buffer = self._buffer
        buffer += data
        packets: list[Packet] = []
        position, size = 0, len(buffer)
        while True:
            start = buffer.find(HEADER, position)
            if start < 0:
                # The last byte may be the first half of a header.
                keep = size - 1 if size > position and buffer[-1] == 0xFF else size
                self.garbage += keep - position
                position = keep
                break
            self.garbage += start - position
            position = start
            if size - position < 4:
                if size - position == 3 and buffer[position + 2] == 0xFF:
                    position += 1
                    self.garbage += 1
                break
            length = buffer[position + 3]
            if buffer[position + 2] == 0xFF or not 2 <= length <= self.max_length:
                position += 1
                self.garbage += 1
                continue
            end = position + 4 + length
            if end > size:
                break
            if checksum(buffer[position + 2 : end - 1]) != buffer[end - 1]:
                self.checksum_errors += 1
                self.suspects.append(buffer[position + 2])
                position += 1
                self.garbage += 1
                continue
            packets.append(
                Packet(buffer[position + 2], buffer[position + 4], bytes(buffer[position + 5 : end - 1]))
            )
            position = end
        del buffer[:position]
        return packets
