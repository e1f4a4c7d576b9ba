"""The last ten seconds of a run: raw bytes both ways, and what the loop knew and did in every tick.

Everything goes into one piece of shared memory of fixed size, overwriting the oldest: no allocation, no file, no
waiting in the loop. A process of its own (`blackbox_writer.py`) writes it to disk on every fault, a second later, so
that what followed is in it too; and at once when the control process dies.

A black box is a NumPy `.npz` file without pickled objects:

| array | content |
|---|---|
| `meta` | UTF-8 JSON as uint8: robot, protocol, joints, servo IDs, columns, rates, why it was written |
| `ticks` (T, k) float64 | one row per tick, `meta["scalars"]` names the columns; NaN where nothing is known |
| `joints` (T, 12, n) float64 | the same ticks by joint, `meta["vectors"]` names the rows |
| `exchanges` (E,) | `time` s, `kind` (0 sent, 1 received, 2 thrown away), `start` and `size` in `bytes` |
| `bytes` (B,) uint8 | what went over the line |
| `events` (V,) | `time` s, `text` UTF-8 |

Times are seconds of the loop's clock.
"""

import io
import json
import mmap
import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hardware.children import start_module
from sim2real.files import write_bytes

Array = NDArray[np.float64]

SECONDS: Final = 10.0
SCALARS: Final = (
    "t", "phase", "action", "request", "flags", "period_error", "work", "feedback_age", "remaining", "camera_age",
    "operator_age", "estop", "warned", "faulty", "episode",
)  # fmt: skip
VECTORS: Final = (
    "requested", "gated", "executed", "position", "velocity", "load", "voltage", "temperature", "current",
    "heating", "valid", "status",
)  # fmt: skip
SENT, RECEIVED, DROPPED = 0, 1, 2

VERSION = 1
_BYTES = 1 << 20
_EXCHANGES = 1 << 14
_EVENTS = 256
_META = 8192
_TEXT = 200

EXCHANGE: Final = np.dtype([("time", "f8"), ("start", "i8"), ("size", "i4"), ("kind", "i4")])
EVENT: Final = np.dtype([("time", "f8"), ("text", f"S{_TEXT}")])
_EXCHANGE = struct.Struct("=dqii")
_EVENT = struct.Struct(f"=d{_TEXT}s")
# Counters at the start of the memory: how many of each have ever been written.
_N_BYTES, _N_EXCHANGES, _N_EVENTS, _N_TICKS, _ROWS, _JOINTS, _META_SIZE = range(7)
_HEADER = 64


def size_of(rows: int, joints: int) -> int:
    """Bytes of the shared memory for `rows` ticks of an arm with so many joints."""
    width = len(SCALARS) + len(VECTORS) * joints
    return (
        _HEADER
        + _META
        + _EXCHANGES * EXCHANGE.itemsize
        + _EVENTS * EVENT.itemsize
        + _BYTES
        + rows * width * 8
    )


class BlackBoxMemory:
    """The ring in shared memory; both processes map it."""

    def __init__(self, descriptor: int, rows: int = 0, joints: int = 0) -> None:
        """`rows` and `joints` for the one that makes it; the other side finds them in it."""
        self.map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self.counts = np.frombuffer(self.map, np.int64, 8)
        if rows:
            self.counts[_ROWS], self.counts[_JOINTS] = rows, joints
        rows, joints = int(self.counts[_ROWS]), int(self.counts[_JOINTS])
        self.rows, self.joints = rows, joints
        at = _HEADER + _META
        self.exchanges_at, at = at, at + _EXCHANGES * EXCHANGE.itemsize
        self.events_at, at = at, at + _EVENTS * EVENT.itemsize
        self.bytes_at, at = at, at + _BYTES
        k, m = len(SCALARS), len(VECTORS)
        table = np.frombuffer(self.map, np.float64, rows * (k + m * joints), at).reshape(rows, k + m * joints)
        self.scalars = table[:, :k]
        self.vectors = [row[k:].reshape(m, joints) for row in table]
        self.table = table
        self.exchanges = np.frombuffer(self.map, EXCHANGE, _EXCHANGES, self.exchanges_at)
        self.events = np.frombuffer(self.map, EVENT, _EVENTS, self.events_at)
        self.bytes = np.frombuffer(self.map, np.uint8, _BYTES, self.bytes_at)

    @property
    def meta(self) -> dict[str, Any]:
        size = int(self.counts[_META_SIZE])
        return dict(json.loads(self.map[_HEADER : _HEADER + size].decode())) if size else {}

    @meta.setter
    def meta(self, value: Mapping[str, Any]) -> None:
        data = json.dumps(value).encode()
        if len(data) > _META:
            raise ValueError(f"the black box has room for {_META} bytes about the run, got {len(data)}")
        self.map[_HEADER : _HEADER + len(data)] = data
        self.counts[_META_SIZE] = len(data)

    def snapshot(self, why: str) -> dict[str, NDArray[Any]]:
        """The arrays of a black box file, oldest first. The other side may go on writing meanwhile."""
        before = self.counts.copy()
        copies = [self.table.copy(), self.exchanges.copy(), self.events.copy(), self.bytes.copy()]
        after = self.counts.copy()
        table = _ordered(copies[0], before[_N_TICKS], after[_N_TICKS])
        exchanges = _ordered(copies[1], before[_N_EXCHANGES], after[_N_EXCHANGES])
        events = _ordered(copies[2], before[_N_EVENTS], after[_N_EVENTS])
        # Only exchanges whose bytes have not been overwritten.
        exchanges = exchanges[
            (exchanges["start"] > after[_N_BYTES] - _BYTES)
            & (exchanges["time"] > _newest(table, events) - SECONDS)
        ]
        first = int(exchanges["start"][0]) if len(exchanges) else int(before[_N_BYTES])
        places = np.arange(first, int(before[_N_BYTES])) % _BYTES
        exchanges["start"] -= first
        k = len(SCALARS)
        meta = self.meta | {"why": why, "version": VERSION, "scalars": SCALARS, "vectors": VECTORS}
        return {
            "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
            "ticks": table[:, :k],
            "joints": table[:, k:].reshape(len(table), len(VECTORS), self.joints),
            "exchanges": exchanges,
            "bytes": copies[3][places],
            "events": events,
        }


def _ordered(ring: NDArray[Any], before: int, after: int) -> NDArray[Any]:
    """The entries of a ring from the oldest on, without those that were overwritten while it was copied."""
    size = len(ring)
    oldest = max(0, int(after) - size + 1) if after > size or after != before else max(0, int(after) - size)
    return ring[np.arange(oldest, int(before)) % size] if before > oldest else ring[:0]


def _newest(table: Array, events: NDArray[Any]) -> float:
    times = [float(table[-1, 0])] if len(table) else []
    times += [float(events["time"][-1])] if len(events) else []
    return max(times, default=float("inf"))


def save(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write a black box file, whole or not at all. Raises OSError."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(path, packed.getvalue())


class BlackBox:
    """The recording side. `meta` says what the run is (JSON); `rate` ticks per second are expected."""

    def __init__(self, joints: int, rate: float, meta: Mapping[str, Any]) -> None:
        rows = int(SECONDS * rate) + 1
        self._descriptor = os.memfd_create("sim2real-blackbox")
        os.ftruncate(self._descriptor, size_of(rows, joints))
        self.memory = BlackBoxMemory(self._descriptor, rows, joints)
        self.memory.meta = meta
        self.dumps = 0
        """How often it was asked to be written."""
        self._map = self.memory.map
        self._counts = memoryview(self.memory.map).cast("B")[: 8 * 8].cast("q")
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    # Recording: nothing here waits or allocates more than a few numbers.

    def exchange(self, time: float, kind: int, data: bytes, size: int | None = None) -> None:
        """Bytes that were sent or received; `size` alone for those that were thrown away unseen."""
        counts, memory = self._counts, self.memory
        at, number = counts[_N_BYTES], counts[_N_EXCHANGES]
        length = len(data)
        _EXCHANGE.pack_into(
            self._map,
            memory.exchanges_at + number % _EXCHANGES * EXCHANGE.itemsize,
            time, at, length if size is None else size, kind,
        )  # fmt: skip
        if length:
            begin = at % _BYTES
            base = memory.bytes_at
            if begin + length <= _BYTES:
                self._map[base + begin : base + begin + length] = data
            else:
                split = _BYTES - begin
                self._map[base + begin : base + _BYTES] = data[:split]
                self._map[base : base + length - split] = data[split:]
            counts[_N_BYTES] = at + length
        counts[_N_EXCHANGES] = number + 1

    def event(self, time: float, text: str) -> None:
        """Something that happened, in words."""
        counts = self._counts
        number = counts[_N_EVENTS]
        place = self.memory.events_at + number % _EVENTS * EVENT.itemsize
        _EVENT.pack_into(self._map, place, time, text.encode("utf-8", "replace")[:_TEXT])
        counts[_N_EVENTS] = number + 1

    def row(self, scalars: tuple[float, ...], vectors: tuple[Array | None, ...]) -> None:
        """One tick, in the order of SCALARS and VECTORS; None for what is not known."""
        counts, memory = self._counts, self.memory
        number = counts[_N_TICKS]
        row = number % memory.rows
        memory.scalars[row] = scalars
        block = memory.vectors[row]
        for i, vector in enumerate(vectors):
            block[i] = np.nan if vector is None else vector
        counts[_N_TICKS] = number + 1

    # Writing

    def start_writer(self, folder: Path) -> None:
        """Start the process that writes `blackbox-<n>.npz` into `folder`."""
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self._process = start_module(
            "hardware.runtime.recording.blackbox_writer",
            *("--pipe", str(theirs), "--memory", str(self._descriptor), "--out", str(folder)),
            pass_fds=(theirs, self._descriptor),
            stdin=subprocess.DEVNULL,
            stdout=2,
        )
        os.close(theirs)

    def dump(self) -> None:
        """Have the black box written by its writer, in a moment. Never waits."""
        self.dumps += 1
        self._tell(b"D")

    def _tell(self, what: bytes) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, what)
        except OSError:
            # Full: it has been asked often enough. Closed: there is nobody left to ask.
            pass

    def close(self) -> None:
        """Wait until what was asked for is on disk, and end the writer."""
        self._tell(b"Q")
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._process is not None:
            try:
                self._process.wait(20.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def tap(self, bus: Any) -> None:
        """Listen to a servo bus from now on."""
        bus.port = TappedPort(bus.port, self)


class TappedPort:
    """A port (see `ports.Port`) whose traffic goes into a black box as well."""

    def __init__(self, port: Any, box: BlackBox) -> None:
        self.port, self.box = port, box
        self.now = port.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self.port, name)

    def write(self, data: bytes) -> None:
        self.box.exchange(self.now(), SENT, data)
        self.port.write(data)

    def read(self, size: int, deadline: float) -> bytes:
        data: bytes = self.port.read(size, deadline)
        if data:
            self.box.exchange(self.now(), RECEIVED, data)
        return data

    def discard_input(self) -> int:
        dropped: int = self.port.discard_input()
        if dropped:
            self.box.exchange(self.now(), DROPPED, b"", dropped)
        return dropped
