"""Dynamixel Protocol 2.0 packets as pure functions of bytes.

    FF FF FD 00 | ID | LEN LEN | INSTRUCTION | parameters | CRC CRC

LEN counts what follows it. A reply has the instruction 55 and an error byte before its parameters. `FF FF FD`
inside instruction and parameters is followed by a stuffed `FD`, so that the header appears nowhere else; LEN
and CRC are those of the stuffed bytes. On receipt the CRC is checked before the stuffing is taken out.

A *fast* sync read is answered by one packet that the servos write together, without stuffing:

    FF FF FD 00 | FE | LEN LEN | 55 | ERROR ID data CRC CRC | ERROR ID data CRC CRC | …

Each CRC covers everything before it, so that the parts before a damaged or missing one can be trusted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hardware.servos.packet_stream import NO_PACKET, UNFINISHED, PacketStream

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
MAX_ID = 252
MAX_PARAMETERS = 1000

ALERT = 0x80
"""Bit of the error byte: the servo has a hardware error (register `status` says which)."""

ERRORS = {
    1: "could not carry out the instruction",
    2: "does not know the instruction",
    3: "received a damaged packet",
    4: "data out of range",
    5: "data of the wrong length",
    6: "data beyond a stored limit",
    7: "no access: read-only, or in the EEPROM area while the torque is on",
}
"""What the low bits of the error byte say."""

_MARK = b"\xff\xff\xfd"
_STUFFED = b"\xff\xff\xfd\xfd"
_FRAME = 7  # bytes up to and including LEN


class Instruction(IntEnum):
    """What a request asks for; STATUS marks a reply."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93


RESET_ALL, RESET_BUT_ID, RESET_BUT_ID_AND_BAUD = 0xFF, 0x01, 0x02
"""What a factory reset takes back."""

_CLEAR_TURNS = b"\x01\x44\x58\x4c\x22"


@dataclass(frozen=True)
class Packet:
    """A request (`code` is its instruction) or a reply (`code` is STATUS, `error` its error byte).

    `data` are the parameters without stuffing. A fast sync reply (its ID is BROADCAST) is not taken apart:
    its `data` is everything between instruction and last CRC, error bytes and inner CRCs included.
    """

    id: int
    code: int
    data: bytes = b""
    error: int = 0


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005) & 0xFFFF if value & 0x8000 else value << 1
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-16 (polynomial 8005, most significant bit first, from 0), continued from `value`."""
    table = _CRC
    for byte in data:
        value = (value & 0xFF) << 8 ^ table[value >> 8 ^ byte]
    return value


def encode(id: int, code: int, data: bytes = b"") -> bytes:
    """The bytes of one packet. Raises ValueError for an impossible ID or too many parameters."""
    if not 0 <= id <= MAX_ID and id != BROADCAST:
        raise ValueError(f"a servo ID is 0 to {MAX_ID} ({BROADCAST} for all), got {id}")
    if len(data) > MAX_PARAMETERS:
        raise ValueError(f"a packet carries at most {MAX_PARAMETERS} parameter bytes, got {len(data)}")
    body = bytes((code,)) + data
    if _MARK in body:
        body = body.replace(_MARK, _STUFFED)
    packet = HEADER + bytes((id,)) + (len(body) + 2).to_bytes(2, "little") + body
    return packet + crc(packet).to_bytes(2, "little")


def ping(id: int = BROADCAST) -> bytes:
    """Answered with model number and firmware version; sent to all, every servo answers in its turn."""
    return encode(id, Instruction.PING)


def read(id: int, address: int, size: int) -> bytes:
    return encode(id, Instruction.READ, _span(address, size))


def write(id: int, address: int, data: bytes) -> bytes:
    return encode(id, Instruction.WRITE, address.to_bytes(2, "little") + data)


def reg_write(id: int, address: int, data: bytes) -> bytes:
    """A write that waits in the servo for `action`."""
    return encode(id, Instruction.REG_WRITE, address.to_bytes(2, "little") + data)


def action(id: int = BROADCAST) -> bytes:
    return encode(id, Instruction.ACTION)


def factory_reset(id: int, keep: int = RESET_BUT_ID_AND_BAUD) -> bytes:
    return encode(id, Instruction.FACTORY_RESET, bytes((keep,)))


def reboot(id: int) -> bytes:
    return encode(id, Instruction.REBOOT)


def clear(id: int) -> bytes:
    """Forget whole turns: the present position becomes one within a turn."""
    return encode(id, Instruction.CLEAR, _CLEAR_TURNS)


def sync_read(address: int, size: int, ids: Sequence[int]) -> bytes:
    """One request that every servo in `ids` answers, in that order."""
    return encode(BROADCAST, Instruction.SYNC_READ, _span(address, size) + bytes(ids))


def fast_sync_read(address: int, size: int, ids: Sequence[int]) -> bytes:
    """One request that the servos in `ids` answer with one packet."""
    return encode(BROADCAST, Instruction.FAST_SYNC_READ, _span(address, size) + bytes(ids))


def sync_write(address: int, size: int, values: Iterable[tuple[int, bytes]]) -> bytes:
    """`size` bytes for each of several servos; nobody answers. Raises ValueError for other sizes."""
    parts = [_span(address, size)]
    for id, data in values:
        if len(data) != size:
            raise ValueError(f"sync write of {size} bytes to servo {id} was given {len(data)} bytes")
        parts += (bytes((id,)), data)
    return encode(BROADCAST, Instruction.SYNC_WRITE, b"".join(parts))


def bulk_read(spans: Iterable[tuple[int, int, int]]) -> bytes:
    """One request for (ID, address, size) of several servos, which answer in that order."""
    parts = [bytes((id,)) + _span(address, size) for id, address, size in spans]
    return encode(BROADCAST, Instruction.BULK_READ, b"".join(parts))


def bulk_write(values: Iterable[tuple[int, int, bytes]]) -> bytes:
    """(ID, address, data) for several servos; nobody answers."""
    parts = [bytes((id,)) + _span(address, len(data)) + data for id, address, data in values]
    return encode(BROADCAST, Instruction.BULK_WRITE, b"".join(parts))


def reply(id: int, error: int, data: bytes = b"") -> bytes:
    return encode(id, Instruction.STATUS, bytes((error,)) + data)


def fast_sync_head(size: int, count: int) -> bytes:
    """What the first of `count` servos sends before its own part of a fast sync reply of `size` bytes each."""
    length = 1 + count * (size + 4)
    return HEADER + bytes((BROADCAST,)) + length.to_bytes(2, "little") + bytes((Instruction.STATUS,))


def fast_sync_part(before: bytes, id: int, error: int, data: bytes) -> bytes:
    """One servo's part of a fast sync reply, given all that was sent `before` it (header included)."""
    part = bytes((error, id)) + data
    return part + crc(part, crc(before)).to_bytes(2, "little")


def fast_sync_reply(parts: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The whole reply of servos (ID, error, data) to a fast sync read."""
    packet = fast_sync_head(len(parts[0][2]), len(parts))
    for id, error, data in parts:
        packet += fast_sync_part(packet, id, error, data)
    return packet


def fast_sync_rows(packet: bytes, ids: Sequence[int], size: int) -> list[tuple[int, bytes] | None]:
    """(error, data) by servo from the bytes of a fast sync reply, complete or not; None where no sound part is.

    The first part that is missing, damaged or out of order ends the reply: those behind it cannot be trusted.
    """
    rows: list[tuple[int, bytes] | None] = [None] * len(ids)
    head = fast_sync_head(size, len(ids))
    if packet[: len(head)] != head:
        return rows
    at, value = len(head), crc(head)
    for i, id in enumerate(ids):
        end = at + size + 4
        part = packet[at : end - 2]
        value = crc(part, value)
        if len(packet) < end or part[1] != id or packet[end - 2 : end] != value.to_bytes(2, "little"):
            break
        rows[i] = part[0], part[2:]
        value = crc(packet[end - 2 : end], value)
        at = end
    return rows


class Parser(PacketStream[Packet]):
    """See `PacketStream`."""

    header = HEADER

    def __init__(self, max_length: int = MAX_PARAMETERS * 4 // 3 + 4) -> None:
        super().__init__(max_length)

    def _end(self, buffer: bytearray, start: int, size: int) -> int:
        if size - start < _FRAME:
            return UNFINISHED
        id = buffer[start + 4]
        length = buffer[start + 5] | buffer[start + 6] << 8
        if (id > MAX_ID and id != BROADCAST) or not 3 <= length <= self.max_length:
            return NO_PACKET
        return start + _FRAME + length

    def _open(self, packet: bytes) -> Packet | None:
        id, code, body = packet[4], packet[7], packet[8:-2]
        if crc(packet[:-2]) != packet[-2] | packet[-1] << 8:
            self.checksum_errors += 1
            self.suspects.append(id)
            return None
        if code == Instruction.STATUS and id == BROADCAST:
            return Packet(id, code, body)
        if _MARK in body:
            body = body.replace(_STUFFED, _MARK)
        if code != Instruction.STATUS:
            return Packet(id, code, body)
        return Packet(id, code, body[1:], body[0]) if body else None


def _span(address: int, size: int) -> bytes:
    return address.to_bytes(2, "little") + size.to_bytes(2, "little")
