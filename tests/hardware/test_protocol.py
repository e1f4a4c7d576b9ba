"""Packets: byte for byte against the vendor's own builder, and the parser under noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.servos.feetech import protocol
from hardware.servos.feetech.protocol import Packet, Parser

IDS = st.integers(0, protocol.MAX_ID)
DATA = st.binary(max_size=40)


class _Wire:
    """Stands in for the vendor's port: keeps what is written, answers nothing."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_using = False

    def clearPort(self) -> None:
        pass

    def writePort(self, packet: list[int]) -> int:
        self.sent = bytes(packet)
        return len(packet)

    def setPacketTimeout(self, length: int) -> None:
        pass

    def readPort(self, length: int) -> bytes:
        return b""

    def isPacketTimeout(self) -> bool:
        return True


def _vendor_bytes(call: str, *arguments: object) -> bytes:
    handler = pytest.importorskip("scservo_sdk").protocol_packet_handler()
    wire = _Wire()
    getattr(handler, call)(wire, *arguments)
    return wire.sent


def test_requests_equal_the_vendors() -> None:
    assert _vendor_bytes("ping", 3) == protocol.ping(3)
    assert _vendor_bytes("readTx", 5, 56, 6) == protocol.read(5, 56, 6)
    assert _vendor_bytes("writeTxOnly", 2, 42, 2, [0x34, 0x12]) == protocol.write(2, 42, b"\x34\x12")
    assert _vendor_bytes("regWriteTxOnly", 2, 42, 2, [1, 2]) == protocol.reg_write(2, 42, b"\x01\x02")
    assert _vendor_bytes("action", 254) == protocol.action()
    assert _vendor_bytes("syncReadTx", 56, 6, [1, 2, 6], 3) == protocol.sync_read(56, 6, [1, 2, 6])
    assert _vendor_bytes("syncWriteTxOnly", 42, 2, [1, 9, 8, 4, 7, 6], 6) == protocol.sync_write(
        42, 2, [(1, b"\x09\x08"), (4, b"\x07\x06")]
    )


def test_known_bytes() -> None:
    assert protocol.ping(1) == bytes.fromhex("ffff010201fb")
    assert protocol.read(1, 56, 2) == bytes.fromhex("ffff0104023802be")
    assert protocol.reply(1, 0, b"\x00\x08") == bytes.fromhex("ffff0104000008f2")


@pytest.mark.parametrize("id", [-1, 255])
def test_impossible_ids_are_refused(id: int) -> None:
    with pytest.raises(ValueError, match="servo ID"):
        protocol.ping(id)


@given(
    st.lists(st.tuples(IDS, st.integers(0, 255), DATA), max_size=6), st.lists(st.integers(1, 9), min_size=1)
)
def test_packets_survive_any_fragmentation(packets: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    sent = [Packet(*fields) for fields in packets]
    stream = b"".join(protocol.encode(p.id, p.code, p.data) for p in sent)
    parser, found, position, i = Parser(), [], 0, 0
    while position < len(stream):
        step = cuts[i % len(cuts)]
        found += parser.feed(stream[position : position + step])
        position, i = position + step, i + 1
    assert found == sent
    assert parser.garbage == 0 and parser.pending == 0


@given(DATA, IDS, DATA)
def test_garbage_in_front_costs_no_packet(noise: bytes, id: int, data: bytes) -> None:
    # With LEN bounded by what can be expected, the parser is in step again after at most one false packet.
    parser = Parser(max_length=len(data) + 2)
    packet = protocol.encode(id, 0, data)
    found = parser.feed(noise + packet + packet + bytes(len(data) + 8))
    assert Packet(id, 0, data) in found


@given(IDS, st.binary(min_size=1, max_size=20), st.data())
def test_no_single_changed_byte_passes(id: int, payload: bytes, data: st.DataObject) -> None:
    packet = bytearray(protocol.reply(id, 0, payload))
    index = data.draw(st.integers(2, len(packet) - 1))
    packet[index] ^= data.draw(st.integers(1, 255))
    found = Parser(max_length=len(payload) + 2).feed(bytes(packet))
    assert Packet(id, 0, payload) not in found
    # What does pass must be a smaller packet that happens to lie inside.
    assert all(len(p.data) < len(payload) for p in found)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_consumed_or_pending(noise: bytes) -> None:
    parser = Parser(max_length=20)
    packets = parser.feed(noise)
    length = sum(len(protocol.encode(p.id, p.code, p.data)) for p in packets)
    assert parser.garbage + parser.pending + length == len(noise)
    assert parser.pending < 24


@pytest.mark.slow
def test_two_million_mutated_bytes() -> None:
    """No exception, no packet that fails its own sum, and every untouched packet is found."""
    rng = np.random.default_rng(5)
    parser = Parser(max_length=20)
    fed = intact = recovered = 0
    tail = b""
    while fed < 2_000_000:
        chunks = []
        for _ in range(50):
            packet = protocol.reply(int(rng.integers(0, 254)), 0, rng.bytes(int(rng.integers(0, 16))))
            kind = rng.random()
            if kind < 0.25:
                damaged = bytearray(packet)
                damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
                packet = bytes(damaged)
            elif kind < 0.4:
                packet = packet[: int(rng.integers(len(packet)))]
            elif kind < 0.5:
                packet = rng.bytes(int(rng.integers(1, 30)))
            else:
                intact += 1
            chunks.append(packet)
        stream = b"".join(chunks)
        fed += len(stream)
        for packet_found in parser.feed(stream):
            raw = protocol.encode(packet_found.id, packet_found.code, packet_found.data)
            assert raw in tail + stream
            recovered += 1
        tail = stream[-300:]
    assert recovered > 0.97 * intact
