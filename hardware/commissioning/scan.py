"""From a bag of servos to a bus: which port, who is on it, and giving a servo its ID and baud rate.

A scan only pings and reads. `assign` writes, one servo at a time: two servos with one ID cannot be told apart by
any program, so nothing is written unless exactly one answers (or, with `only`, one of several that all differ).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hardware.commissioning.twins import HOW_TO_PART, IdCheck, turned
from hardware.servos.family import FAMILIES, ServoFamily
from hardware.servos.ports import Port, PortUnavailable, latency_timer
from sim2real.errors import BusError, HardwareError, UserError

OpenPort = Callable[[int], Port]
"""Opens the port in question at a baud rate."""

TAIL = 0.05
"""s of silence after the last answer to a ping to all before the line counts as quiet."""

BABBLE = 1.0
"""s after which a line that does not fall quiet is not listened to any more."""

BRIEF, THOROUGH = 3, 12
"""Rounds of questions by which several servos under one ID are found: when looking round, and before writing."""

ONE_PING = 0.02
CHECK = 0.3
"""s for an answer, retries included, when the servo is known to be there."""

ADAPTERS = {
    (0x1A86, None): "USB serial chip CH34x: bus adapters by Waveshare and Feetech have one",
    (0x0403, 0x6014): "FTDI FT232H: Robotis U2D2",
    (0x0403, None): "FTDI USB serial chip: many adapters",
    (0x2F5D, None): "Robotis OpenRB-150",
    (0x10C4, None): "Silicon Labs CP210x USB serial chip",
    (0x0483, None): "STM32 microcontroller",
    (0x2341, None): "Arduino",
    (0x2E8A, None): "Raspberry Pi Pico",
}
"""What an adapter probably is, by USB vendor and product (None: any other of that vendor)."""


@dataclass(frozen=True)
class Candidate:
    """A serial device of this machine, and what it probably is. `usb` False: built in, so hardly an arm's."""

    device: str
    kind: str
    serial_number: str | None
    usb: bool


def candidates() -> tuple[Candidate, ...]:
    """The serial devices that could be a servo bus: USB adapters first."""
    from serial.tools import list_ports

    found = []
    for port in sorted(list_ports.comports(), key=lambda port: (port.vid is None, port.device)):
        kind = ADAPTERS.get((port.vid, port.pid)) or ADAPTERS.get((port.vid, None)) or port.description
        kind = kind if kind and kind != "n/a" else "unknown"
        found.append(Candidate(port.device, kind, port.serial_number, port.vid is not None))
    return tuple(found)


def find_unplugged(before: Iterable[str], after: Iterable[str], again: Iterable[str]) -> str:
    """Which device went away and came back, from three listings. Raises UserError when that is not one."""
    gone, back = set(before) - set(after), set(again) - set(after)
    if len(back) == 1:
        # A device may come back under another name.
        return back.pop()
    if not gone:
        raise UserError("no serial device went away: was it this machine's adapter that you unplugged?")
    raise UserError(
        f"{', '.join(sorted(gone))} went away and {', '.join(sorted(back)) or 'nothing'} came back; "
        "try again with one adapter at a time"
    )


@dataclass(frozen=True)
class FoundServo:
    """One servo that answered. `model` is "" for a kind that nobody has declared; `shared`: several answered
    under this ID."""

    protocol: str
    baud: int
    id: int
    model: str
    model_number: int
    firmware: str
    torque: bool
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.model or f'model {self.model_number}'} with ID {self.id} at {self.baud} baud"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def scan(
    open_port: OpenPort,
    families: Sequence[ServoFamily] = tuple(FAMILIES.values()),
    bauds: Sequence[int] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[FoundServo, ...]:
    """Every servo that answers, of every family at every baud rate (of those given). Nothing is written.

    Raises PortError when the port goes away, PortUnavailable when it cannot be opened at any rate.
    """
    found: list[FoundServo] = []
    refusal: PortUnavailable | None = None
    opened = 0
    for family in families:
        for baud in family.bauds:
            if bauds is not None and baud not in bauds:
                continue
            if progress is not None:
                progress(f"{family.title} at {baud} baud")
            try:
                with _Line(open_port, family, baud) as line:
                    found += line.servos()
                opened += 1
            except PortUnavailable as error:
                # Not every adapter knows every rate.
                refusal = refusal or error
    if refusal is not None and not opened:
        raise refusal
    return tuple(found)


class _Line:
    """One port at one baud rate, as bytes and as a bus."""

    def __init__(self, open_port: OpenPort, family: ServoFamily, baud: int) -> None:
        self.family, self.baud = family, baud
        self.port = open_port(baud)
        self.bus = family.open_port(self.port, latency_timer(self.port.name) or 0.0)

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.close()

    def servos(self) -> list[FoundServo]:
        """Everybody on this line."""
        counts, damaged = self._roll_call()
        if counts:
            self.bus.settle(sorted(counts))
        if damaged:
            # Several spoke at once: ask one by one.
            for id in range(self.family.max_id + 1):
                if id not in counts and self.answers(id, ONE_PING):
                    counts[id] = 1
        return [self.describe(id, counts[id] > 1) for id in sorted(counts)]

    def _roll_call(self) -> tuple[Counter[int], bool]:
        """Who answers a ping to all, how often, and whether there was anything besides whole answers."""
        port, packets = self.port, self.family.packets
        port.discard_input()
        port.write(packets.ping(packets.BROADCAST))
        parser = packets.Parser()
        counts: Counter[int] = Counter()
        end = port.now() + self.family.roll_call
        last = end + BABBLE
        while port.now() < last and (data := port.read(4096, end)):
            counts.update(packet.id for packet in parser.feed(data) if packet.id <= self.family.max_id)
            end = max(end, port.now() + TAIL)
        parser.clear()
        return counts, parser.garbage > 0

    def answers(self, id: int, timeout: float) -> bool:
        try:
            self.bus.ping(id, timeout)
        except BusError:
            return False
        return True

    def describe(self, id: int, shared: bool = False) -> FoundServo:
        bus, family = self.bus, self.family
        try:
            bus.ping(id, CHECK)
            number = bus.read(id, "model_number", CHECK)
            firmware = ".".join(str(bus.read(id, name, CHECK)) for name in family.firmware)
            torque = bus.read(id, "torque_enable", CHECK) != family.torque_off
        except BusError:
            # An answer that cannot be relied on: several servos with one ID do that.
            number, firmware, torque, shared = 0, "", False, True
        shared = shared or bool(self.look(id, BRIEF).doubt)
        model = family.model_by_number(number)
        return FoundServo(
            family.name, self.baud, id, model.name if model else "", number, firmware, torque, shared
        )

    def look(self, id: int, rounds: int) -> IdCheck:
        """Find out whether one servo alone answers under `id`; reads only."""
        return IdCheck(self.port, self.family, id, self.bus.allowance).ask(rounds)

    def change(self, id: int, register: str, value: int) -> None:
        """Write a register that changes how the servo answers, so that it may acknowledge in the old way, in the
        new, or not at all."""
        if self.family.eeprom == "lock":
            self.bus.write(id, "lock", 0, CHECK, verify=True)
        entry = self.bus.tables.get(id, self.bus.table)[register]
        self.port.discard_input()
        self.port.write(self.family.packets.write(id, entry.address, entry.encode(value)))
        last = self.port.now() + BABBLE
        while self.port.now() < last and self.port.read(64, self.port.now() + TAIL):
            pass


def choose(found: Sequence[FoundServo], only: int | None = None) -> FoundServo:
    """The one servo that may be written to. Raises HardwareError when none answers, UserError when it is not
    clear which (several, or several with one ID)."""
    if not found:
        raise HardwareError(
            "no servo answers at any baud rate: check the power supply, the cable, and that the servo's light blinks "
            "when power comes on"
        )
    listed = "; ".join(map(str, found))
    chosen = [servo for servo in found if only is None or servo.id == only]
    if not chosen:
        raise UserError(f"no servo answers with ID {only}; there is {listed}")
    if len(chosen) > 1 or chosen[0].shared:
        raise UserError(
            f"several servos answer ({listed}{', some with the same ID' if any(s.shared for s in found) else ''}): "
            "connect one servo alone"
            + (f" ({HOW_TO_PART})" if any(s.shared for s in chosen) else "")
            + (
                ""
                if only is not None or len({s.id for s in found}) < len(found)
                else ", or say which with --id"
            )
        )
    if chosen[0].torque:
        raise UserError(
            f"{chosen[0]} holds its joint (torque on); its settings can be changed only while it is limp: switch its "
            "power off and on again"
        )
    return chosen[0]


def assign(
    open_port: OpenPort,
    found: Sequence[FoundServo],
    *,
    only: int | None = None,
    id: int | None = None,
    baud: int | None = None,
    turn: Callable[[str], bool] | None = None,
) -> FoundServo:
    """Give a servo a new ID, baud rate or both, verified; `found` is what a scan has just seen.

    Before anything is written the servo is looked at closely: replies that come twice or damaged, or that differ, are
    those of several. `turn` asks a person to turn the servo by hand and returns True when that was done, False when
    the person vouches for it instead; without it nobody is asked.

    Raises UserError for impossible values, an ID that is taken, or when it is not clear which servo is meant;
    HardwareError when the servo does not answer as it should afterwards, saying how it answers instead.
    """
    servo = choose(found, only)
    family = FAMILIES[servo.protocol]
    new_id, new_baud = servo.id if id is None else id, servo.baud if baud is None else baud
    if not 0 <= new_id <= family.max_id:
        raise UserError(f"an ID of a {family.title} servo is 0 to {family.max_id}, got {new_id}")
    if new_baud not in family.bauds:
        rates = ", ".join(map(str, sorted(family.bauds)))
        raise UserError(f"{family.title} servos run at {rates} baud, not at {new_baud}")
    if any(other != servo and other.id == new_id for other in found):
        raise UserError(f"the ID {new_id} is taken: {'; '.join(map(str, found))}; free it first")
    with _Line(open_port, family, servo.baud) as line:
        if not line.answers(servo.id, CHECK):
            raise HardwareError(f"{servo} no longer answers: check power and cable")
        _require_one(line, servo, turn)
        if new_id != servo.id:
            line.change(servo.id, "id", new_id)
        if new_baud != servo.baud:
            line.change(new_id, "baud_rate", family.bauds.index(new_baud))
    with _Line(open_port, family, new_baud) as line:
        return _verified(line, servo, new_id)


def _require_one(line: _Line, servo: FoundServo, turn: Callable[[str], bool] | None) -> None:
    """Raise UserError where more than one servo may be behind an ID."""
    before = line.look(servo.id, THOROUGH)
    doubt, after = before.doubt, before
    if not doubt and turn is not None and turn(str(servo)):
        after = line.look(servo.id, THOROUGH)
        doubt = after.doubt
        if not doubt and not turned(before.positions, after.positions):
            doubt = (
                f"its position is still {after.positions[-1]} of 4096: what was turned is not what answers, or not by "
                "far enough"
            )
    if doubt:
        raise UserError(
            f"it is not certain that one servo alone answers as {servo}: {doubt}. Nothing was written: {HOW_TO_PART}"
        )


def _verified(line: _Line, before: FoundServo, id: int) -> FoundServo:
    """The servo under its new ID and baud rate. Raises HardwareError when it is not what it should be."""
    if not line.answers(id, 1.0):
        raise HardwareError(
            f"the servo does not answer with ID {id} at {line.baud} baud after the change; switch its power off and "
            "on and scan again"
        )
    family, bus = line.family, line.bus
    if family.eeprom == "lock":
        bus.write(id, "lock", 1, CHECK, verify=True)
    stored = {name: bus.read(id, name, CHECK) for name in ("id", "baud_rate")}
    if stored != {"id": id, "baud_rate": family.bauds.index(line.baud)}:
        raise HardwareError(f"the servo answers with ID {id}, but stores {stored}: scan again")
    if id != before.id and line.answers(before.id, TAIL):
        raise HardwareError(f"a servo still answers with the old ID {before.id}: connect one servo alone")
    return line.describe(id)
