"""Dynamixel packets against the vendor's own packet code, and the parser against damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.servos.dynamixel import protocol

ids = st.integers(0, protocol.MAX_ID)
# Rich in what has to be stuffed.
parameters = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from([b"\xff\xff\xfd", b"\xff\xff", b"\xfd"])), max_size=12
).map(b"".join)
codes = st.sampled_from([code for code in protocol.Instruction if code is not protocol.Instruction.STATUS])


class Line:
    """Takes what the vendor's code sends, and plays a reply to it."""

    is_using = False

    def __init__(self, reply: bytes = b"") -> None:
        self.sent = b""
        self.reply = reply

    def clearPort(self) -> None: ...

    def writePort(self, packet: list[int]) -> int:
        self.sent = bytes(packet)
        return len(packet)

    def setPacketTimeout(self, length: int) -> None: ...

    def setPacketTimeoutMillis(self, milliseconds: float) -> None: ...

    def readPort(self, size: int) -> bytes:
        data, self.reply = self.reply[:size], self.reply[size:]
        return data

    def isPacketTimeout(self) -> bool:
        return not self.reply


@pytest.fixture(scope="module")
def sdk():  # type: ignore[no-untyped-def]
    return pytest.importorskip("dynamixel_sdk").Protocol2PacketHandler()


@given(ids, codes, parameters)
def test_requests_are_the_vendors_bytes(sdk, id: int, code: int, data: bytes) -> None:  # type: ignore[no-untyped-def]
    length = len(data) + 3
    # Stuffing and CRC by themselves: `txPacket` forgets the stuffed packet when it has grown.
    packet = sdk.addStuffing([0xFF, 0xFF, 0xFD, 0, id, length & 0xFF, length >> 8, int(code), *data, 0, 0])
    check = sdk.updateCRC(0, packet, len(packet) - 2)
    assert protocol.encode(id, code, data) == bytes(packet[:-2]) + check.to_bytes(2, "little")


@given(ids, st.integers(0, 255), parameters)
def test_replies_are_read_by_the_vendor(sdk, id: int, error: int, data: bytes) -> None:  # type: ignore[no-untyped-def]
    packet, result = sdk.rxPacket(Line(protocol.reply(id, error, data)), False)
    assert result == 0
    length = packet[5] | packet[6] << 8
    assert bytes(packet[8 : 8 + length - 3]) == bytes((error,)) + data


@given(
    st.integers(1, 12).flatmap(
        lambda size: st.lists(
            st.tuples(ids, st.integers(0, 255), st.binary(min_size=size, max_size=size)),
            min_size=1,
            max_size=8,
            unique_by=lambda part: part[0],
        )
    )
)
def test_fast_sync_replies_are_read_by_the_vendor(sdk, parts: list[tuple[int, int, bytes]]) -> None:  # type: ignore[no-untyped-def]
    whole = protocol.fast_sync_reply(parts)
    size = len(parts[0][2])
    data, result, _ = sdk.fastSyncReadRx(Line(whole), protocol.BROADCAST, (size + 4) * len(parts))
    assert result == 0
    for k, (id, _, values) in enumerate(parts):
        at = k * (size + 4)
        # The first error byte is not among the parameters for the vendor; ours start with it.
        assert bytes(data[at + 1 : at + 2 + size]) == bytes((id,)) + values
    assert protocol.fast_sync_rows(whole, [part[0] for part in parts], size) == [
        (error, values) for _, error, values in parts
    ]


def test_group_requests_are_the_vendors_bytes(sdk) -> None:  # type: ignore[no-untyped-def]
    from dynamixel_sdk import GroupBulkRead, GroupBulkWrite, GroupSyncRead, GroupSyncWrite

    line = Line()
    read = GroupSyncRead(line, sdk, 126, 10)
    for id in (1, 2, 5):
        read.addParam(id)
    read.txPacket()
    assert protocol.sync_read(126, 10, (1, 2, 5)) == line.sent
    line.is_using = False
    read.fastSyncReadTxPacket()
    assert protocol.fast_sync_read(126, 10, (1, 2, 5)) == line.sent
    line.is_using = False
    write = GroupSyncWrite(line, sdk, 116, 4)
    write.addParam(1, [1, 2, 3, 4])
    write.addParam(7, [5, 6, 7, 8])
    write.txPacket()
    values = [(1, b"\1\2\3\4"), (7, b"\5\6\7\x08")]
    assert protocol.sync_write(116, 4, values) == line.sent
    line.is_using = False
    bulk = GroupBulkRead(line, sdk)
    bulk.addParam(1, 132, 4)
    bulk.addParam(2, 70, 1)
    bulk.txPacket()
    assert protocol.bulk_read([(1, 132, 4), (2, 70, 1)]) == line.sent
    line.is_using = False
    bulk_write = GroupBulkWrite(line, sdk)
    bulk_write.addParam(1, 116, 4, [1, 2, 3, 4])
    bulk_write.addParam(2, 64, 1, [1])
    bulk_write.txPacket()
    assert protocol.bulk_write([(1, 116, b"\1\2\3\4"), (2, 64, b"\1")]) == line.sent


def test_packets_from_the_vendors_manual() -> None:
    assert protocol.ping(1) == bytes.fromhex("FFFFFD00 01 0300 01 194E")
    assert protocol.read(1, 132, 4) == bytes.fromhex("FFFFFD00 01 0700 02 84000400 1D15")
    assert protocol.write(1, 116, (512).to_bytes(4, "little")) == bytes.fromhex(
        "FFFFFD00 01 0900 03 7400 00020000 CA89"
    )
    assert protocol.reboot(1) == bytes.fromhex("FFFFFD00 01 0300 08 2F4E")


@given(st.lists(st.tuples(ids, st.integers(0, 255), parameters), max_size=5), st.data())
def test_packets_are_found_however_they_are_cut_up(
    sent: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(protocol.reply(*packet) for packet in sent)
    parser = protocol.Parser()
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:cut])
        stream = stream[cut:]
    assert [(packet.id, packet.error, packet.data) for packet in found] == sent
    assert parser.garbage == 0 and parser.pending == 0


@given(st.binary(max_size=40), ids, parameters)
def test_a_packet_behind_garbage_is_found(garbage: bytes, id: int, data: bytes) -> None:
    parser = protocol.Parser(max_length=200)
    found = parser.feed(garbage + protocol.reply(id, 0, data) + bytes(220))
    assert (id, data) in [(packet.id, packet.data) for packet in found]


@given(ids, parameters, st.data())
def test_no_single_flipped_bit_passes(id: int, values: bytes, data: st.DataObject) -> None:
    packet = bytearray(protocol.reply(id, 0, values))
    bit = data.draw(st.integers(0, 8 * len(packet) - 1))
    packet[bit // 8] ^= 1 << bit % 8
    assert protocol.Parser().feed(bytes(packet)) == []


@given(st.binary(max_size=400))
def test_noise_is_counted_to_the_byte(noise: bytes) -> None:
    parser = protocol.Parser()
    parser.feed(noise)
    parser.clear()
    assert parser.garbage == len(noise)


@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 255))
def test_the_parts_before_a_damaged_one_are_kept(count: int, damaged: int, flip: int) -> None:
    damaged %= count
    parts = [(k + 1, 0, bytes((k, 2 * k, 3 * k))) for k in range(count)]
    packet = bytearray(protocol.fast_sync_reply(parts))
    packet[8 + 7 * damaged + 3] ^= flip
    rows = protocol.fast_sync_rows(bytes(packet), range(1, count + 1), 3)
    assert [row is not None for row in rows] == [k < damaged for k in range(count)]


def test_refuses_impossible_packets() -> None:
    with pytest.raises(ValueError, match="0 to 252"):
        protocol.encode(253, protocol.Instruction.PING)
    with pytest.raises(ValueError, match="at most 1000"):
        protocol.encode(1, protocol.Instruction.WRITE, bytes(1001))
    with pytest.raises(ValueError, match="sync write of 4 bytes to servo 2"):
        protocol.sync_write(116, 4, [(2, b"\0\0")])
