"""Frames of the policy server's protocol: exact bytes, limits, and anything that is no message."""

import json
import socket
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.policies.messages import (
    MAX_HEADER,
    Line,
    Message,
    MessageError,
    decode,
    encode,
    parse_address,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    # TCP options do not exist on socket pairs; the framing is the same.
    line = Line.__new__(Line)
    line.socket, line.max_payload = ours, 1000
    yield line, theirs
    ours.close()
    theirs.close()


def test_the_bytes_of_a_message():
    data = encode(Message("chunk", {"number": 7}, {"chunk": np.array([[1.0, 2.0]])}))
    header = json.dumps(
        {
            "type": "chunk",
            "number": 7,
            "parts": [{"name": "chunk", "kind": "float64", "shape": [1, 2]}],
        }
    ).encode()
    assert data == b"S2R1" + struct.pack("<II", len(header), 16) + header + struct.pack("<2d", 1.0, 2.0)


def test_arrays_and_pictures_come_back():
    sent = Message(
        "observation",
        {"number": 1},
        {"a": np.arange(6.0).reshape(2, 3), "b": np.array([0.5], np.float32), "c": np.zeros((0, 4))},
        {"front": b"\xff\xd8 picture"},
        {"front": 12.5},
    )
    data = encode(sent)
    _, header, _ = struct.unpack("<4sII", data[:12])
    got = decode(data[12 : 12 + header], data[12 + header :])
    assert got.type == "observation" and got.fields == {"number": 1}
    for name, array in sent.arrays.items():
        assert got.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(got.arrays[name], array)
    assert got.pictures == sent.pictures and got.times == sent.times


@pytest.mark.parametrize(
    ("header", "payload", "why"),
    [
        (b"", b"", "JSONDecodeError"),
        (b"[1]", b"", "TypeError"),
        (b"7", b"", "AttributeError"),
        (b"{}", b"", "KeyError: 'type'"),
        (b'{"type": 3}', b"", "must be a text"),
        (b'{"type": "x"}', b"left over", "the payload 9"),
        (b'{"type": "x", "parts": [{"name": "a", "kind": "object", "shape": [1]}]}', b"12345678", "'object'"),
        (b'{"type": "x", "parts": [{"name": "a", "kind": "float64", "shape": [2]}]}', b"12345678", "longer"),
        (b'{"type": "x", "parts": [{"name": "a", "kind": "float64", "shape": [-1]}]}', b"", "no length"),
        (b'{"type": "x", "parts": [{"name": "a", "kind": "float64", "shape": [true]}]}', b"", "no length"),
        (
            b'{"type": "x", "parts": [{"name": "a", "kind": "float64", "shape": [16000000,16000000]}]}',
            b"",
            "longer",
        ),
        (b'{"type": "x", "parts": [{"name": "a", "kind": "jpeg", "bytes": 4}]}', b"123", "the payload 3"),
        (b'{"type": "x", "parts": [{"name": ["a"], "kind": "jpeg", "bytes": 0}]}', b"", "must be a text"),
        (b'{"type": "x", "parts": ' + b"[" * 20000, b"", "Error"),
        (b'{"type": "x", "n": ' + b"9" * 5000 + b"}", b"", "ValueError"),
        (b"\xff\xfe", b"", "UnicodeDecodeError"),
    ],
)
def test_what_is_no_message(header, payload, why):
    with pytest.raises(MessageError, match="not a message of this protocol") as caught:
        decode(header, payload)
    assert why in str(caught.value)


@settings(max_examples=300, derandomize=True)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "parts", "name", "kind", "shape", "bytes", "time"]),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.binary(max_size=40),
)
def test_no_bytes_raise_anything_else(header, payload):
    try:
        assert isinstance(decode(header, payload), Message)
    except MessageError:
        pass


def test_a_stream_that_is_something_else(pair):
    line, other = pair
    other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(MessageError, match="does not speak this protocol"):
        line.receive(5)


@pytest.mark.parametrize("lengths", [(MAX_HEADER + 1, 0), (10, 1001), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_lengths_beyond_the_limits_are_not_waited_for(pair, lengths):
    line, other = pair
    other.sendall(b"S2R1" + struct.pack("<II", *lengths))
    with pytest.raises(MessageError, match="too long"):
        line.receive(5)


def test_a_message_in_pieces_and_one_that_stays_incomplete(pair):
    line, other = pair
    data = encode(Message("bye"))
    other.sendall(data[:5])
    with pytest.raises(MessageError, match="not answered within 0.05 s"):
        line.receive(0.05)
    other.sendall(data)
    assert line.socket.recv(0, socket.MSG_PEEK) == b"", "still open"
    other.close()
    assert line.receive(5).type == "bye"
    with pytest.raises(MessageError, match="closed the connection"):
        line.receive(5)


def test_addresses():
    assert parse_address("tcp://127.0.0.1:5555") == ("127.0.0.1", 5555)
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("5555", "tcp://:5555", "host:", "host:port", "host:70000", "tcp://host"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_address(wrong)
