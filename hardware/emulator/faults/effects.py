"""What each fault of the catalogue does to an emulated arm.

One small class per fault; `EFFECTS` maps names to them. Faults without an entry have no effect of their own here:
the owner of the place (camera, policy, process, disk) asks the injector whether they are active.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from hardware.emulator.faults.catalogue import DYNAMIXEL
from hardware.emulator.faults.fault import Fault
from hardware.emulator.wire import EmulatedBus, Reply

_DYNAMIXEL_HEADER = b"\xff\xff\xfd\x00"

_OVERLOAD = 1 << 5  # in the status byte of both families

Wrapper = Callable[..., Any]


class Plug(Protocol):
    """The plug of an emulated arm."""

    def unplug(self) -> None:
        """Make the port disappear; a process that has it open finds it gone."""

    def plug(self, *, renamed: bool) -> None:
        """Make the port appear again, under another name if `renamed`."""


@dataclass(frozen=True)
class Target:
    """The arm that faults act on: its line with the servos, its plug (None: it has none), and where chance comes
    from."""

    bus: EmulatedBus
    plug: Plug | None
    rng: np.random.Generator


class FaultEffect:
    """A fault in effect. Does nothing by itself."""

    def __init__(self, fault: Fault, target: Target) -> None:
        self.fault, self.target, self.rng = fault, target, target.rng
        id = int(fault.values.get("id", 0))
        self.servos: list[Any] = [servo for servo in target.bus.servos if id in (0, servo.id)]
        self._ids = {servo.id for servo in self.servos}

    def begin(self, now: float) -> None:
        """Called when the fault begins, at `now` s."""

    def step(self, now: float) -> None:
        """Called in every step of the clock while the fault lasts."""

    def end(self) -> None:
        """Called when the fault is over."""

    def request(self, data: bytes) -> bytes:
        """What the servos hear of what the master said."""
        return data

    def reply(self, reply: Reply) -> list[Reply]:
        """What goes out in place of a reply."""
        if reply.id not in self._ids or self.rng.random() >= self.fault.values.get("p", 1.0):
            return [reply]
        if not reply.data:
            return [reply]  # another fault has left nothing of it
        return self.hit(reply)

    def hit(self, reply: Reply) -> list[Reply]:
        """What goes out in place of a reply that this fault is meant for."""
        return [reply]


class BitFlip(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        data = bytearray(reply.data)
        for bit in self.rng.integers(8 * len(data), size=int(self.fault["bits"])):
            data[bit // 8] ^= 1 << bit % 8
        return [replace(reply, data=bytes(data))]


class Truncate(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        return [replace(reply, data=reply.data[: int(self.rng.integers(len(reply.data)))])]


class Garbage(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        noise = self.rng.integers(0, 256, int(self.fault["bytes"]), dtype=np.uint8).tobytes()
        return [replace(reply, data=noise + reply.data)]


class Compensate(FaultEffect):
    """One byte up, another down by as much: Feetech's sum cannot see it."""

    def hit(self, reply: Reply) -> list[Reply]:
        first = 9 if reply.data.startswith(_DYNAMIXEL_HEADER) else 5
        last = len(reply.data) - (2 if first == 9 else 1)
        if last - first < 2:
            return [reply]
        data = bytearray(reply.data)
        i, j = self.rng.choice(np.arange(first, last), size=2, replace=False)
        by = min(int(self.fault["by"]), 255 - data[i], data[j])
        data[i] += by
        data[j] -= by
        return [replace(reply, data=bytes(data))]


class WrongId(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        ids = sorted({servo.id for servo in self.target.bus.servos} - {reply.id}) or [reply.id + 1]
        return [replace(reply, data=_reframed(reply.data, id=int(self.rng.choice(ids))))]


class Duplicate(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        return [reply, reply]


class Late(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        return [replace(reply, due=reply.due + self.fault["ms"] / 1000)]


class Empty(FaultEffect):
    def hit(self, reply: Reply) -> list[Reply]:
        return [replace(reply, data=_reframed(reply.data, empty=True))]


class Mute(FaultEffect):
    """No replies. (What the servo is told, it does.)"""

    def hit(self, reply: Reply) -> list[Reply]:
        return []


class WrongBaud(FaultEffect):
    """The servos hear nothing that is sent at the old rate. The line is not told: what they say is noise.

    Several may overlap: the last one that ends puts the rate right.
    """

    def begin(self, now: float) -> None:
        for servo in self.servos:
            code, count = servo.__dict__.get("_right_rate", (servo.get("baud_rate"), 0))
            servo._right_rate = code, count + 1
            servo._put("baud_rate", code + 1 if code < 3 else code - 1)

    def end(self) -> None:
        for servo in self.servos:
            code, count = servo._right_rate
            servo._right_rate = code, count - 1
            if count == 1:
                del servo._right_rate
                servo._put("baud_rate", code)

    def hit(self, reply: Reply) -> list[Reply]:
        return []


class Wrapped(FaultEffect):
    """Stands between the line and a method of the servos."""

    method = "write"

    def begin(self, now: float) -> None:
        self._wrappers = [_wrap(servo, self.method, partial(self.call, servo)) for servo in self.servos]

    def end(self) -> None:
        for servo, wrapper in zip(self.servos, self._wrappers):
            _unwrap(servo, self.method, wrapper)

    def call(self, servo: Any, original: Wrapper, address: int, what: Any) -> Any:
        """In place of the method: `what` are the bytes to write, or the number of bytes to read."""
        raise NotImplementedError


class IgnoreWrites(Wrapped):
    """Goals are lost; everything else works."""

    def call(self, servo: Any, original: Wrapper, address: int, what: Any) -> Any:
        goal = servo.table["goal_position"]
        if address < goal.end and address + len(what) > goal.address:
            return 0
        return original(address, what)


class SecondMaster(FaultEffect):
    """Another program reads all positions, now and then; the answers reach everybody on the line."""

    def begin(self, now: float) -> None:
        self._next = now

    def step(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + 1 / self.fault["rate"]
        self.target.bus.receive(_position_request(self.servos), now)


class Unplug(FaultEffect):
    def begin(self, now: float) -> None:
        assert self.target.plug is not None
        self.target.plug.unplug()

    def end(self) -> None:
        assert self.target.plug is not None
        self.target.plug.plug(renamed=self.fault.name == "rename")


class BrownOut(FaultEffect):
    """RAM is lost and the torque goes: one servo resets, or the supply of all of them dips."""

    def begin(self, now: float) -> None:
        for servo in self.servos:
            servo.power_up()


class Overload(FaultEffect):
    """The servo measures more load than it allows, and reduces its torque or cuts it, as its family does."""

    def step(self, now: float) -> None:
        for servo in self.servos:
            servo.trip(_OVERLOAD)


class Overheat(FaultEffect):
    def step(self, now: float) -> None:
        for servo in self.servos:
            servo.temperature = self.fault["to"]

    def end(self) -> None:
        for servo in self.servos:
            servo.temperature = servo.thermal.ambient + 3.0


class WatchdogTrip(FaultEffect):
    def begin(self, now: float) -> None:
        for servo in self.servos:
            servo.halt()


class EncoderJump(FaultEffect):
    """The encoder turns against its shaft: what is read jumps, and the servo turns to where its goal now is."""

    def begin(self, now: float) -> None:
        for servo in self.servos:
            servo.zero += self.fault["by"] / servo.tick

    def end(self) -> None:
        for servo in self.servos:
            servo.zero -= self.fault["by"] / servo.tick


class Wrap(Wrapped):
    """What is read is one turn off; the servo's own controller is not affected."""

    method = "read"

    def call(self, servo: Any, original: Wrapper, address: int, what: Any) -> Any:
        entry = servo.table["present_position"]
        turn = round(2 * math.pi / servo.tick) * int(self.fault["turns"])
        answer = original(address, what)
        # A Dynamixel's answer has an error code before the bytes.
        data = bytearray(answer[1] if isinstance(answer, tuple) else answer)
        at = entry.address - address
        if 0 <= at and at + entry.size <= len(data):
            value = entry.decode(data[at : at + entry.size]) + turn
            data[at : at + entry.size] = entry.encode(max(entry.low, min(value, entry.high)))
        return (answer[0], bytes(data)) if isinstance(answer, tuple) else bytes(data)


class EepromLocked(Wrapped):
    """What is written to the EEPROM is answered as ever, and forgotten."""

    def call(self, servo: Any, original: Wrapper, address: int, what: Any) -> Any:
        if address < max(r.end for r in servo.table.values() if r.area == "eeprom"):
            return 0
        return original(address, what)


EFFECTS: dict[str, type[FaultEffect]] = {
    "bit_flip": BitFlip, "truncate": Truncate, "garbage": Garbage, "compensate": Compensate,
    "wrong_id": WrongId, "duplicate": Duplicate, "late": Late, "empty": Empty, "mute": Mute, "mute_all": Mute,
    "wrong_baud": WrongBaud, "ignore_writes": IgnoreWrites, "second_master": SecondMaster, "unplug": Unplug,
    "rename": Unplug, "brown_out": BrownOut, "overload": Overload, "overheat": Overheat,
    "watchdog_trip": WatchdogTrip, "encoder_jump": EncoderJump, "wrap": Wrap, "eeprom_locked": EepromLocked,
}  # fmt: skip


def effect_of(fault: Fault, target: Target) -> FaultEffect:
    """What `fault` does on the arm."""
    return EFFECTS.get(fault.name, FaultEffect)(fault, target)


def _reframed(data: bytes, *, id: int | None = None, empty: bool = False) -> bytes:
    """A reply with another ID, or without parameters, and the right checksum.

    A part of a fast sync reply is no packet: it loses its end, or its ID changes under its checksum. What another
    fault has made too short for a packet stays as it is.
    """
    if data.startswith(_DYNAMIXEL_HEADER):
        if len(data) < 11:
            return data
        from hardware.servos.dynamixel import protocol as dynamixel

        if data[4] == 0xFE:
            return data[:8] if empty else data[:9] + bytes((id or 0,)) + data[10:]
        body = data[8:-2] if not empty else data[8:9]
        return dynamixel.reply(data[4] if id is None else id, body[0], body[1:])
    from hardware.servos.feetech import protocol as feetech

    if not data.startswith(feetech.HEADER):
        return data[:1] if empty else data[:1] + bytes((id or 0,)) + data[2:]
    if len(data) < 6:
        return data
    return feetech.reply(data[2] if id is None else id, data[4], b"" if empty else data[5:-1])


def _position_request(servos: list[Any]) -> bytes:
    """A sync read of all positions in the servos' own protocol."""
    entry = servos[0].table["present_position"]
    ids = [servo.id for servo in servos]
    if servos[0].family == DYNAMIXEL:
        from hardware.servos.dynamixel import protocol as dynamixel

        return dynamixel.sync_read(entry.address, entry.size, ids)
    from hardware.servos.feetech import protocol as feetech

    return feetech.sync_read(entry.address, entry.size, ids)


def _wrap(servo: Any, method: str, wrapper: Wrapper) -> Wrapper:
    """Let `wrapper(original, …)` stand in for a method of one servo; several stack. Returns what `_unwrap` takes."""
    layers: list[Wrapper] = servo.__dict__.setdefault("_layers", {}).setdefault(method, [])
    layers.append(wrapper)
    original = getattr(type(servo), method).__get__(servo)

    def call(*args: Any) -> Any:
        function = original
        for layer in layers:
            function = partial(layer, function)
        return function(*args)

    setattr(servo, method, call)
    return wrapper


def _unwrap(servo: Any, method: str, wrapper: Wrapper) -> None:
    layers = servo.__dict__["_layers"][method]
    layers.remove(wrapper)
    if not layers:
        del servo.__dict__[method]
