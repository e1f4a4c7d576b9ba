"""Random and damaged bytes for parsers, buses and arms, and the checks that none of it is believed too much.

`fuzz_parser` feeds a parser alone. `fuzz_arm` puts a whole `SerialArm` on an emulated line whose replies are
damaged on their way, and compares what the arm believes with where its joints are.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.wire import Reply
from hardware.servos.family import ServoFamily

Array = NDArray[np.float64]

BELIEVABLE = 0.06
"""rad: a wrong position this near the right one cannot be told from noise, backlash and timing."""


def _flip(packet: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(packet)
    for bit in rng.integers(8 * len(data), size=int(rng.integers(1, 4))):
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def _burst(packet: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(packet)))
    end = min(start + int(rng.integers(1, 6)), len(packet))
    return packet[:start] + rng.bytes(end - start) + packet[end:]


def _replace(packet: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(packet)))
    return packet[:at] + rng.bytes(1) + packet[at + 1 :]


def _insert(packet: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(packet) + 1))
    return packet[:at] + rng.bytes(int(rng.integers(1, 4))) + packet[at:]


def _delete(packet: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(packet)))
    return packet[:at] + packet[at + int(rng.integers(1, 4)) :]


def _truncate(packet: bytes, rng: np.random.Generator) -> bytes:
    return packet[: int(rng.integers(len(packet)))]


def _swap(packet: bytes, rng: np.random.Generator) -> bytes:
    i, j = rng.integers(len(packet), size=2)
    data = bytearray(packet)
    data[i], data[j] = data[j], data[i]
    return bytes(data)


def _compensate(packet: bytes, rng: np.random.Generator) -> bytes:
    """One byte up, another down: a plain sum does not see it."""
    i, j = rng.integers(4, len(packet), size=2) - 2
    data = bytearray(packet)
    by = min(int(rng.integers(1, 256)), 255 - data[i], data[j])
    data[i] += by
    data[j] -= by
    return bytes(data)


def _noise(packet: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 30)))


def _duplicate(packet: bytes, rng: np.random.Generator) -> bytes:
    return packet + packet


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip": _flip, "burst": _burst, "replace": _replace, "insert": _insert, "delete": _delete,
    "truncate": _truncate, "swap": _swap, "noise": _noise, "duplicate": _duplicate, "compensate": _compensate,
}  # fmt: skip
"""Ways to damage a packet, by name."""


@dataclass
class FuzzReport:
    """What came of a number of damaged bytes. Reports add up."""

    bytes: int = 0
    intact: int = 0
    """Packets (or readings of a joint) that were sent undamaged."""
    recovered: int = 0
    """Packets found with the content of one that was sent (some damage leaves it as it was)."""
    damaged: Counter[str] = field(default_factory=Counter)
    """Packets that were damaged, by the way they were."""
    passed: Counter[str] = field(default_factory=Counter)
    """Damaged packets whose checksum came out right although the content is another one, by the way of damage."""
    wrong: int = 0
    """Readings that the arm believed and that were wrong by more than `BELIEVABLE`."""
    readings: int = 0
    """Readings that the arm believed."""
    worst: float = 0.0
    """The largest error of a believed position, rad."""

    def add(self, other: "FuzzReport") -> None:
        for name in ("bytes", "intact", "recovered", "wrong", "readings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.damaged += other.damaged
        self.passed += other.passed
        self.worst = max(self.worst, other.worst)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "damaged": dict(self.damaged), "passed": dict(self.passed)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "FuzzReport":
        counters = {name: Counter(plain[name]) for name in ("damaged", "passed")}
        return cls(**(plain | counters))


def fuzz_parser(family: ServoFamily, size: int, seed: int) -> FuzzReport:
    """Feed the family's parser about `size` bytes: half of the packets damaged, some of it pure noise.

    Raises AssertionError for a packet that the stream does not contain, checksum and length included; anything
    else that the parser raises comes through.
    """
    rng = np.random.default_rng(seed)
    packets: Any = family.packets
    parser: Any = packets.Parser(max_length=32)
    names = list(MUTATIONS)
    report, tail, held = FuzzReport(), b"", set[tuple[int, int, bytes]]()
    while report.bytes < size:
        parts, said, sent = [], set(), 0
        for _ in range(60):
            id, error = int(rng.integers(0, 253)), int(rng.integers(0, 64))
            data = rng.bytes(int(rng.integers(0, 18)))
            packet = packets.reply(id, error, data)
            said.add((id, error, data))
            if rng.random() < 0.5:
                sent += 1
            else:
                name = names[int(rng.integers(len(names)))]
                report.damaged[name] += 1
                packet = MUTATIONS[name](packet, rng)
                alone = packets.Parser(max_length=32).feed(packet)
                report.passed[name] += any(_content(one) != (id, error, data) for one in alone)
            parts.append(packet)
        stream = b"".join(parts)
        report.bytes += len(stream)
        for found in _fed(parser, stream, rng):
            assert _encoded(packets, found, tail + stream), f"a packet out of nothing: {found}"
            report.recovered += _content(found) in said or _content(found) in held
        assert parser.pending <= 64, "the parser hoards bytes"
        report.intact += sent
        tail, held = stream[-400:], said
    return report


def _fed(parser: Any, stream: bytes, rng: np.random.Generator) -> list[Any]:
    """The packets of a stream that arrives in pieces."""
    found: list[Any] = []
    at = 0
    while at < len(stream):
        step = int(rng.integers(1, 300))
        found += parser.feed(stream[at : at + step])
        at += step
    return found


def _content(packet: Any) -> tuple[int, int, bytes]:
    """(ID, error, data) of a reply of either family."""
    return packet.id, getattr(packet, "error", packet.code), packet.data


def _encoded(packets: Any, packet: Any, stream: bytes) -> bool:
    """Whether `stream` holds this packet, with the checksum that it must have."""
    if not hasattr(packet, "error"):
        return packets.encode(packet.id, packet.code, packet.data) in stream
    body = packet.data
    if packet.code == packets.Instruction.STATUS and packet.id != packets.BROADCAST:
        body = bytes((packet.error,)) + body
    if packets.encode(packet.id, packet.code, body) in stream:
        return True
    # A mark that nobody stuffed can only be noise with the right CRC.
    frame = packets.HEADER + bytes((packet.id,)) + (len(body) + 3).to_bytes(2, "little")
    frame += bytes((packet.code,)) + body
    return frame + packets.crc(frame).to_bytes(2, "little") in stream


class Tamperer:
    """Damages a share of the replies on an emulated line, in one of `names` ways each."""

    def __init__(
        self, rng: np.random.Generator, share: float, names: tuple[str, ...], report: FuzzReport
    ) -> None:
        self.rng, self.share, self.names, self.report = rng, share, names, report
        self._last = b""

    def __call__(self, reply: Reply) -> list[Reply]:
        data, rng = reply.data, self.rng
        previous, self._last = self._last, data
        if rng.random() < self.share:
            name = self.names[int(rng.integers(len(self.names)))]
            self.report.damaged[name] += 1
            if name == "stale":
                # Another servo's reply, or an earlier one, in front.
                data = previous + data
            elif name == "late":
                self.report.bytes += len(data)
                return [replace(reply, due=reply.due + float(rng.uniform(0.002, 0.05)))]
            elif len(data) > 7:
                data = MUTATIONS[name](data, rng)
        self.report.bytes += len(data)
        return [replace(reply, data=data)] if data else []


ON_A_LINE = (*MUTATIONS, "stale", "late")
"""What happens to replies on a line."""


def fuzz_arm(arm: Any, line: Any, plant: Any, clock: Any, size: int, seed: int) -> FuzzReport:
    """Read `arm`, whose joints move gently, until about `size` bytes have come over a line that damages them.

    Joints wander within a fifth of a radian, at 0.3 rad/s at most. A reading counts as wrong when it is believed
    and off by more than `BELIEVABLE`.
    """
    from sim2real.errors import BusError

    rng = np.random.default_rng(seed)
    report = FuzzReport()
    n = arm.robot.n
    middle = np.array(arm.robot.home)
    phase = rng.uniform(0, 2 * np.pi, n)
    line.tamper = Tamperer(rng, 0.3, ON_A_LINE, report)
    start = clock.now()
    fresh = np.zeros(n)
    while report.bytes < size:
        begin = clock.now()
        plant.position = middle + 0.2 * np.sin(1.5 * (begin - start) + phase)
        try:
            state = arm.observe()
        except BusError:
            clock.sleep_until(begin + 0.01)
            continue
        error = np.abs(state.position - plant.position)[state.valid]
        report.readings += int(state.valid.sum())
        report.wrong += int((error > BELIEVABLE).sum())
        report.worst = max(report.worst, float(error.max()))
        fresh = np.where(state.valid, 0.0, fresh + 0.01)
        if (fresh > 0.5).any():
            # Disbelieved for good: what an operator resolves by arming again.
            arm._feedback.forget()
        clock.sleep_until(begin + 0.01)
    line.tamper = None
    return report
