"""Messages between an arm and a policy server: a JSON header and raw arrays, framed, limited, no pickle.

    "S2R1" | header bytes (uint32) | payload bytes (uint32) | header (UTF-8 JSON object) | payload

Integers are little-endian. The header's `type` says what the message is; its `parts` describe what the payload
holds, in order: `{"name", "kind": "float64" | "float32", "shape"}` for C-ordered little-endian arrays,
`{"name", "kind": "jpeg", "bytes", "time"}` for pictures, `{"name", "kind": "bytes", "bytes"}` for bytes of another
format. Whatever does not fit is a `MessageError`, never data:
a wrong magic number, a length beyond the limits, parts that do not add up to the payload.
"""

import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import HardwareError, UserError
from sim2real.text import printable

VERSION = 1
"""Of the protocol; the last character of the magic number."""

MAGIC: Final = b"S2R1"
MAX_HEADER = 1 << 16  # bytes
MAX_PAYLOAD = 1 << 24  # bytes: an observation with a few pictures

MAX_DIGITS = 18
"""Of a whole number in a header: as many as 64 bits hold."""

_PREFIX = struct.Struct("<4sII")
_KINDS: Final[dict[str, np.dtype[Any]]] = {"float64": np.dtype("<f8"), "float32": np.dtype("<f4")}


class MessageError(HardwareError):
    """The other side has gone, is late, or sent what is no message of this protocol."""


@dataclass(frozen=True)
class Message:
    """One message. `pictures` are JPEG files; `times` when each was taken, s on the arm's clock."""

    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Bytes that mean something to both sides and nothing here."""


def encode(message: Message) -> bytes:
    """The bytes of a message. float32 arrays stay float32, everything else becomes float64."""
    parts: list[dict[str, Any]] = []
    payload = []
    for name, values in message.arrays.items():
        kind = "float32" if np.asarray(values).dtype == np.float32 else "float64"
        array = np.ascontiguousarray(values, dtype=_KINDS[kind])
        parts.append({"name": name, "kind": kind, "shape": list(array.shape)})
        payload.append(array.tobytes())
    for name, jpeg in message.pictures.items():
        part = {"name": name, "kind": "jpeg", "bytes": len(jpeg), "time": message.times.get(name)}
        parts.append(part)
        payload.append(jpeg)
    for name, blob in message.blobs.items():
        parts.append({"name": name, "kind": "bytes", "bytes": len(blob)})
        payload.append(blob)
    header = json.dumps({"type": message.type, **message.fields, "parts": parts}).encode()
    body = b"".join(payload)
    if len(header) > MAX_HEADER or len(body) > MAX_PAYLOAD:
        raise MessageError(
            f"a message of {len(header)} + {len(body)} bytes is too long; {MAX_HEADER} + {MAX_PAYLOAD} are allowed"
        )
    return _PREFIX.pack(MAGIC, len(header), len(body)) + header + body


def decode(header: bytes, payload: bytes) -> Message:
    """The message of a frame's two halves. Raises MessageError."""
    try:
        fields = json.loads(
            header.decode("utf-8"), parse_int=_integer, parse_float=_number, parse_constant=_no_number
        )
        kind = fields.pop("type")
        parts = fields.pop("parts", [])
        if not isinstance(kind, str) or not isinstance(parts, list):
            raise TypeError("'type' must be a text and 'parts' a list")
        return _unpack(printable(kind), {key: _shown(value) for key, value in fields.items()}, parts, payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise MessageError(
            f"not a message of this protocol: {type(error).__name__}: {printable(error)}"
        ) from None


def _unpack(kind: str, fields: dict[str, Any], parts: list[Any], payload: bytes) -> Message:
    arrays: dict[str, NDArray[np.floating[Any]]] = {}
    pictures: dict[str, bytes] = {}
    times: dict[str, float] = {}
    blobs: dict[str, bytes] = {}
    at = 0
    for part in parts:
        name = part["name"]
        if not isinstance(name, str):
            raise TypeError("a part's name must be a text")
        if part["kind"] == "jpeg":
            size = _count(part["bytes"])
            pictures[name] = payload[at : at + size]
            if part.get("time") is not None:
                times[name] = float(part["time"])
        elif part["kind"] == "bytes":
            size = _count(part["bytes"])
            blobs[name] = payload[at : at + size]
        else:
            dtype = _KINDS[part["kind"]]
            shape = tuple(_count(length) for length in part["shape"])
            size = math.prod(shape) * dtype.itemsize
            if size > len(payload) - at:
                raise ValueError(f"part '{name}' is longer than the payload")
            arrays[name] = np.frombuffer(payload, dtype, math.prod(shape), at).reshape(shape)
        at += size
    if at != len(payload):
        raise ValueError(f"the parts have {at} bytes, the payload {len(payload)}")
    return Message(kind, fields, arrays, pictures, times, blobs)


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= 8 * MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"{printable(text, 20)} is no finite number")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _shown(value: Any) -> Any:
    """Texts that people will see: without control characters."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return {printable(k): _shown(v) for k, v in value.items()} if isinstance(value, dict) else value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PAYLOAD:
        raise ValueError(f"{value!r} is no length")
    return value


class Line:
    """One end of a connection. Every wait has a deadline; every failure is a MessageError."""

    def __init__(self, connection: socket.socket, *, max_payload: int = MAX_PAYLOAD) -> None:
        self.socket = connection
        self.max_payload = max_payload
        # Small messages must not wait for more to come.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer whose machine has died is noticed within half a minute, even when nobody speaks.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    @property
    def peer(self) -> str:
        """Who is at the other end, for people."""
        try:
            host, port = self.socket.getpeername()[:2]
        except OSError:
            return "somebody who has gone"
        return f"{host}:{port}"

    def send(self, message: Message, timeout: float = 5.0) -> None:
        """Send a message within `timeout`, s."""
        data = encode(message)
        self.socket.settimeout(timeout)
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise MessageError(f"the other side has taken no message for {timeout:g} s") from None
        except OSError as error:
            raise MessageError(f"the connection is broken: {error.strerror or error}") from None

    def receive(self, timeout: float = 5.0) -> Message:
        """The next message, complete within `timeout`, s."""
        end = time.monotonic() + timeout
        magic, header, payload = _PREFIX.unpack(self._exactly(_PREFIX.size, end, timeout))
        if magic != MAGIC:
            raise MessageError(
                f"the other side does not speak this protocol: it sent {magic!r}, expected {MAGIC!r}"
            )
        if header > MAX_HEADER or payload > self.max_payload:
            raise MessageError(
                f"a message of {header} + {payload} bytes is too long; "
                f"{MAX_HEADER} + {self.max_payload} are allowed"
            )
        return decode(self._exactly(header, end, timeout), self._exactly(payload, end, timeout))

    def _exactly(self, size: int, end: float, timeout: float) -> bytes:
        buffer = bytearray()
        while len(buffer) < size:
            remaining = end - time.monotonic()
            try:
                if remaining <= 0:
                    raise TimeoutError
                self.socket.settimeout(remaining)
                data = self.socket.recv(min(size - len(buffer), 1 << 18))
            except TimeoutError:
                raise MessageError(f"the other side has not answered within {timeout:g} s") from None
            except OSError as error:
                raise MessageError(f"the connection is broken: {error.strerror or error}") from None
            if not data:
                raise MessageError("the other side has closed the connection")
            buffer += data
        return bytes(buffer)

    def close(self) -> None:
        """Hang up; safe to call again."""
        self.socket.close()


def listening(text: str) -> socket.socket:
    """A socket that listens at what `--listen` says, "HOST:PORT" (port 0: a free one). Raises UserError where it
    cannot."""
    try:
        host, port = parse_address(text, "--listen")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on '{text}': {reason}; choose another --listen HOST:PORT") from None


def parse_address(text: str, what: str = "an address") -> tuple[str, int]:
    """("host", port) from "HOST:PORT", "[IPV6]:PORT" or either behind "tcp://". Raises ValueError."""
    host, separator, port = text.removeprefix("tcp://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{what} is HOST:PORT with a port up to 65535, got '{text}'")
    return host, int(port)
