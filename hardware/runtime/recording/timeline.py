"""Reading a black box: what happened when, what went over the line packet by packet, where every joint was."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.recording.blackbox import DROPPED, SENT
from hardware.servos.family import FAMILIES, ServoFamily
from sim2real.errors import UserError

Array = NDArray[np.float64]

ARRAYS = ("meta", "ticks", "joints", "exchanges", "bytes", "events")


@dataclass(frozen=True)
class Transfer:
    """Something on the line: `time` s, `sent` (else received), its bytes, and what they mean, packet by packet."""

    time: float
    sent: bool
    data: bytes
    packets: tuple[str, ...]


class BlackBoxRecording:
    """A black box file. `zero` is the time of its last fault (its last tick where there was none), s."""

    def __init__(self, path: str | Path) -> None:
        """Raises UserError for anything that is no black box."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ARRAYS}
            self.meta: dict[str, Any] = json.loads(bytes(arrays["meta"]))
        except FileNotFoundError:
            raise UserError(f"there is no file {path}") from None
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            # What NumPy says of other files advises to unpickle them.
            why = f": {error.strerror}" if isinstance(error, OSError) else ""
            raise UserError(f"{path} is no black box (blackbox-<n>.npz of a run directory){why}") from None
        self.ticks: Array = arrays["ticks"]
        self.joints: Array = arrays["joints"]
        self._exchanges, self._bytes = arrays["exchanges"], arrays["bytes"].tobytes()
        self.events = [(float(e["time"]), e["text"].decode("utf-8", "replace")) for e in arrays["events"]]
        faults = [time for time, text in self.events if ": " in text]
        times = self.scalar("t")
        self.zero = faults[-1] if faults else float(times[-1]) if len(times) else 0.0

    def scalar(self, name: str) -> Array:
        """(T,) a column of the ticks."""
        return np.asarray(self.ticks[:, self.meta["scalars"].index(name)])

    def vector(self, name: str) -> Array:
        """(T, n) a quantity by joint."""
        return np.asarray(self.joints[:, self.meta["vectors"].index(name)])

    @property
    def faults(self) -> list[str]:
        """The faults that were latched, in words."""
        return [text.split(": ", 1)[1] for _, text in self.events if ": " in text]

    def states(self) -> list[tuple[float, str, float]]:
        """(when, state, for how long): what the supervisor went through, s."""
        times, codes = self.scalar("t"), self.scalar("phase").astype(int)
        if not len(times):
            return []
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        return [
            (float(times[a]), self.meta["phases"][codes[a]], float(times[min(b, len(times) - 1)] - times[a]))
            for a, b in pairwise(starts)
        ]

    def warnings(self) -> list[tuple[float, str]]:
        """(when, name) of every monitor that began to warn or to see a fault."""
        times, found = self.scalar("t"), []
        for column, word in (("warned", "warns"), ("faulty", "fault")):
            masks = self.scalar(column).astype(int)
            for bit, name in enumerate(self.meta["monitors"]):
                on = (masks >> bit & 1).astype(int)
                found += [
                    (float(times[i]), f"{name} {word}") for i in np.flatnonzero(np.diff(on, prepend=0) > 0)
                ]
        return sorted(found)

    def joint_table(self) -> dict[str, dict[str, float]]:
        """What was known of every joint when the last fault came (else last), by joint and quantity."""
        if not len(self.ticks):
            return {}
        row = min(int(np.searchsorted(self.scalar("t"), self.zero)), len(self.ticks) - 1)
        values = self.joints[row]
        return {
            joint: {name: float(values[k, i]) for k, name in enumerate(self.meta["vectors"])}
            for i, joint in enumerate(self.meta["joints"])
        }

    def lines(self, last: int | None = None) -> list[Transfer]:
        """What went over the line, oldest first; the `last` so many."""
        decoder = _Decoder(FAMILIES.get(self.meta.get("protocol", "")))
        first = 0 if last is None else max(len(self._exchanges) - last, 0)
        return list(decoder.lines(self._entries(first)))

    def _entries(self, first: int) -> Iterator[tuple[float, int, bytes, int]]:
        for e in self._exchanges[first:]:
            start, size = int(e["start"]), int(e["size"])
            kind = int(e["kind"])
            data = b"" if kind == DROPPED else self._bytes[start : start + size]
            yield float(e["time"]), kind, data, size


class _Decoder:
    """Packets in words. Replies are read in the light of the request before them."""

    def __init__(self, family: ServoFamily | None) -> None:
        self.family = family
        self._asked: tuple[int, int] | None = None  # address and size of the last read
        self._parser: Any = None
        self._wide = 2 if family is not None and family.name == "dynamixel" else 1

    def lines(self, entries: Iterator[tuple[float, int, bytes, int]]) -> Iterator[Transfer]:
        for time, kind, data, size in entries:
            if kind == DROPPED:
                yield Transfer(time, False, b"", (f"{size} bytes thrown away before a request",))
            elif self.family is None:
                yield Transfer(time, kind == SENT, data, ())
            elif kind == SENT:
                self._asked, self._parser = None, self.family.packets.Parser()
                packets = self.family.packets.Parser().feed(data)
                yield Transfer(time, True, data, tuple(self._request(packet) for packet in packets))
            else:
                packets = self._parser.feed(data) if self._parser is not None else []
                yield Transfer(time, False, data, tuple(self._reply(packet) for packet in packets))

    def _request(self, packet: Any) -> str:
        data, wide = packet.data, self._wide
        try:
            name = self._instruction(packet.code)
        except ValueError:
            return f"id {packet.id}: unknown instruction {packet.code:#04x} {data.hex(' ')}"
        whom = "all" if packet.id == 0xFE else f"id {packet.id}"
        address = int.from_bytes(data[:wide], "little")
        if name in ("read", "sync_read", "fast_sync_read"):
            size = int.from_bytes(data[wide : 2 * wide], "little")
            self._asked = address, size
            if name != "read":
                whom = "ids " + ", ".join(str(id) for id in data[2 * wide :])
            return f"{name} {self._names(address, size)} of {whom}"
        if name in ("write", "reg_write"):
            return f"{name} {self._values(address, data[wide:])} to {whom}"
        if name == "sync_write":
            size = int.from_bytes(data[wide : 2 * wide], "little")
            rows = [data[i : i + size + 1] for i in range(2 * wide, len(data), size + 1)]
            return f"{name} " + "; ".join(
                f"id {row[0]}: {self._values(address, row[1:])}" for row in rows if row
            )
        return f"{name} {whom}" + (f" {data.hex(' ')}" if data else "")

    def _reply(self, packet: Any) -> str:
        if packet.id == 0xFE and self._asked is not None:
            # The common reply to a fast sync read: error, ID, data and CRC of one servo after the other.
            size = self._asked[1]
            rows = [packet.data[i : i + size + 2] for i in range(0, len(packet.data), size + 4)]
            return "; ".join(self._answer(row[1], row[0], row[2:]) for row in rows if len(row) > 2)
        return self._answer(packet.id, getattr(packet, "error", packet.code), packet.data)

    def _answer(self, id: int, error: int, data: bytes) -> str:
        text = f"id {id}: error {error}" if error else f"id {id}:"
        if self._asked is not None and len(data) >= self._asked[1]:
            address, size = self._asked
            return f"{text} {self._values(address, data[:size])}"
        return f"{text} {data.hex(' ') or 'acknowledged'}"

    def _instruction(self, code: int) -> str:
        if self._wide == 2:
            from hardware.servos.dynamixel.protocol import Instruction
        else:
            from hardware.servos.feetech.protocol import Instruction  # type: ignore[assignment]
        return Instruction(code).name.lower()

    def _names(self, address: int, size: int) -> str:
        assert self.family is not None
        names = [register.name for register in self.family.table.within(address, size)]
        if len(names) > 3:
            names = [names[0], "…", names[-1]]
        return ", ".join(names) or f"{size} bytes at {address}"

    def _values(self, address: int, data: bytes) -> str:
        assert self.family is not None
        registers = self.family.table.within(address, len(data))
        if not registers:
            return f"{data.hex(' ')} at {address}"
        return ", ".join(
            f"{r.name} {r.decode(data[r.address - address : r.end - address])}" for r in registers
        )
