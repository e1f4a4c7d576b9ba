"""The Dynamixel driver on a stepped clock: what it sends, what it believes, and every fault a reply can have."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from hardware.servos.bus import ServoRefused
from hardware.servos.dynamixel import protocol
from hardware.servos.dynamixel.bus import FAST_AGAIN, DynamixelBus
from hardware.servos.dynamixel.protocol import Instruction
from sim2real.errors import BusError, PortError, UserError

from .dynamixel_line import Line, Servo

IDS = tuple(range(1, 7))
Tamper = Callable[[int, float, bytes], Iterable[tuple[float, bytes]]]


class Rig:
    """Two XL430 and four XL330, as on a Koch arm."""

    def __init__(self, baud: int = 1_000_000) -> None:
        models = (1060, 1060, 1200, 1200, 1200, 1200)
        self.servos = [Servo(id, model) for id, model in zip(IDS, models)]
        self.line = Line(self.servos, baud)
        self.bus = DynamixelBus(self.line)
        self.move(0)

    def move(self, cycle: int) -> list[int]:
        """Positions that name their cycle; 0x00FDFFFF times the cycle makes stuffing frequent."""
        for servo in self.servos:
            servo.put("present_position", 1000 * servo.id + cycle)
        return [1000 * servo.id + cycle for servo in self.servos]

    def positions(self) -> list[int]:
        """What a reading of 126…135 says; -1 where it says nothing."""
        reading = self.bus.sync_read(IDS, 126, 10)
        entry = self.bus.table["present_position"]
        return [
            entry.decode(row[6:10].tobytes()) if ok else -1 for row, ok in zip(reading.data, reading.valid)
        ]

    def codes(self) -> list[int]:
        return [packet.code for packet in self.line.requests]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(params=["ordinary", "fast"])
def reading_rig(request: pytest.FixtureRequest) -> Rig:
    rig = Rig()
    if request.param == "fast":
        rig.bus.prepare(IDS)
        assert rig.bus.fast
    return rig


def test_ping_read_write(rig: Rig) -> None:
    assert rig.bus.ping(3) == 0
    assert rig.bus.firmware == {3: 50} and rig.bus.table_of(3).name == "XL330-M288"
    assert rig.bus.read(1, "model_number") == 1060
    rig.bus.write(3, "goal_current", -300, verify=True)
    assert rig.bus.read(3, "goal_current") == -300
    rig.bus.ping(1)
    with pytest.raises(UserError, match="XL430-W250 has no register called 'goal_current'"):
        rig.bus.write(1, "goal_current", 0)


def test_all_are_found_with_one_request(rig: Rig) -> None:
    assert rig.bus.scan() == list(IDS)
    assert rig.codes() == [Instruction.PING]
    assert {id: table.name for id, table in rig.bus.tables.items()} == {
        **dict.fromkeys((1, 2), "XL430-W250"),
        **dict.fromkeys((3, 4, 5, 6), "XL330-M288"),
    }


@pytest.mark.parametrize(("fast", "bytes_"), [(False, 190), (True, 156)])
def test_a_cycle_takes_what_the_wire_takes(rig: Rig, fast: bool, bytes_: int) -> None:
    """Six servos: registers 126 to 135, and six goals."""
    if fast:
        rig.bus.prepare(IDS)
    for _ in range(3):
        start = rig.line.now()
        rig.positions()
        rig.bus.sync_write("goal_position", IDS, [2048] * 6)
    start = rig.line.now()
    rig.positions()
    assert rig.line.now() - start == pytest.approx(bytes_ * 10e-6, abs=1e-9)


def test_fast_reading_is_used_only_when_every_servo_knows_it(rig: Rig) -> None:
    rig.servos[4].knows_fast = False
    rig.bus.prepare(IDS)
    assert not rig.bus.fast
    rig.line.requests.clear()
    rig.line.clock.advance(0.1)
    assert rig.move(0) == rig.positions()
    assert rig.codes() == [Instruction.SYNC_READ]


def test_with_one_servo_silent_the_others_are_read_one_by_one(rig: Rig) -> None:
    rig.bus.prepare(IDS)
    rig.line.tamper = lambda id, due, data: [] if id == 2 else [(due, data)]
    assert rig.positions() == [1000, -1, -1, -1, -1, -1]
    for _ in range(50):
        assert rig.positions() == [1000, -1, 3000, 4000, 5000, 6000]
        rig.line.clock.advance(0.01)
    rig.line.tamper = None
    rig.line.clock.advance(0.1)
    rig.line.requests.clear()
    for _ in range(FAST_AGAIN + 1):
        assert rig.move(0) == rig.positions()
    assert rig.codes() == [Instruction.SYNC_READ] * FAST_AGAIN + [Instruction.FAST_SYNC_READ]


def test_every_request_is_answered_after_prepare(rig: Rig) -> None:
    rig.servos[1].put("status_return_level", 1)
    with pytest.raises(BusError, match="servo 2 gave no valid answer"):
        rig.bus.write(2, "led", 1)
    rig.bus.prepare(IDS)
    rig.bus.write(2, "led", 1)


def test_values_that_need_stuffing(reading_rig: Rig) -> None:
    """A load of −1 and a speed of −3 look like a header: their bytes are FF FF FD FF FF FF."""
    rig = reading_rig
    for servo in rig.servos[:2]:
        servo.put("present_load", -1)
        servo.put("present_velocity", -3)
    assert rig.move(0) == rig.positions()
    reading = rig.bus.sync_read(IDS, 126, 10)
    assert bytes(reading.data[0][:6]) == b"\xff\xff\xfd\xff\xff\xff"
    rig.bus.write(1, "goal_velocity", -3, verify=True)
    assert rig.bus.statistics.incomplete == 0 and rig.bus.statistics.garbage == 0


def test_refusals_are_explained_and_not_repeated(rig: Rig) -> None:
    rig.bus.sync_write("torque_enable", IDS, [1] * 6)
    rig.line.requests.clear()
    with pytest.raises(
        ServoRefused, match="servo 1 refused a write of homing_offset = 5: no access.*torque is on"
    ):
        rig.bus.write_permanently(1, {"homing_offset": 5})
    rig.servos[2].put("max_position_limit", 3000)
    with pytest.raises(
        ServoRefused, match="refused a write of goal_position = 3001: data beyond a stored limit"
    ):
        rig.bus.write(3, "goal_position", 3001)
    assert len(rig.line.requests) == 2
    rig.bus.sync_write("goal_position", IDS, [3001] * 6)
    assert [servo.get("goal_position") for servo in rig.servos] == [3001, 3001, 0, 3001, 3001, 3001]


def test_a_request_that_arrived_damaged_is_repeated(rig: Rig) -> None:
    damaged = iter([True])
    rig.line.tamper = lambda id, due, data: [(due, protocol.reply(id, 3) if next(damaged, False) else data)]
    assert rig.bus.read(4, "model_number") == 1200
    assert rig.bus.statistics.retries == 1


def test_a_hardware_error_is_announced_by_every_reply(reading_rig: Rig) -> None:
    rig = reading_rig
    rig.servos[4].put("status", 1 << 5)
    reading = rig.bus.sync_read(IDS, 126, 10)
    assert reading.valid.all()
    assert list(reading.error) == [0, 0, 0, 0, protocol.ALERT, 0]
    assert rig.bus.statistics.servos[5].alarms == 1
    assert rig.bus.ping(5) == protocol.ALERT
    rig.bus.reboot(5)
    assert rig.servos[4].restarts == 1 and rig.bus.ping(5) == 0


def test_registered_writes_wait_for_action(rig: Rig) -> None:
    rig.bus.reg_write(1, "goal_position", 1234)
    assert rig.bus.read(1, "goal_position") != 1234
    rig.bus.action()
    assert rig.bus.read(1, "goal_position") == 1234


def test_bulk(rig: Rig) -> None:
    rig.bus.scan()
    rig.bus.bulk_write([(1, "goal_position", 77), (3, "goal_current", -5)])
    assert rig.servos[0].get("goal_position") == 77 and rig.servos[2].get("goal_current") == -5
    found = rig.bus.bulk_read([(1, 116, 4), (3, 102, 2), (9, 0, 2)])
    assert found == {1: (77).to_bytes(4, "little"), 3: b"\xfb\xff"}


def test_turns_are_cleared_and_a_reset_restarts(rig: Rig) -> None:
    rig.servos[0].put("present_position", 9000)
    rig.bus.clear(1)
    assert rig.bus.read(1, "present_position") == 9000 - 8192
    rig.bus.factory_reset(1)
    assert rig.servos[0].restarts == 1
    assert rig.line.requests[-2].data == bytes((protocol.RESET_BUT_ID_AND_BAUD,))


FAULTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "mute": lambda data: [],
    "bit flip": lambda data: [data[:-4] + bytes((data[-4] ^ 4,)) + data[-3:]],
    "truncated": lambda data: [data[:-3]],
    "wrong id": lambda data: [protocol.reply(77, 0, data[9:-2])],
    "short but valid payload": lambda data: [protocol.reply(3, 0, b"")],
    "refusal": lambda data: [protocol.reply(3, 7, data[9:-2])],
    "garbage instead": lambda data: [b"\xff\x00\xff\xff\xfd\x00\x03\xff\xff"],
}


def _only(id: int, change: Callable[[bytes], list[bytes]]) -> Tamper:
    return lambda sender, due, data: [(due, data)] if sender != id else [(due, new) for new in change(data)]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_reply_leaves_the_others(reading_rig: Rig, fault: str) -> None:
    rig = reading_rig
    rig.line.tamper = _only(3, FAULTS[fault])
    for cycle in range(20):
        true = rig.move(cycle)
        found = rig.positions()
        assert found[2] == -1
        # A fast reading ends at the damage; from the next one on the servos answer one by one.
        others = [0, 1] if cycle == 0 and rig.bus.fast else [0, 1, 3, 4, 5]
        assert [found[i] for i in others] == [true[i] for i in others]
        assert all(value in (-1, position) for value, position in zip(found, true))
    assert rig.bus.statistics.incomplete == 20
    rig.line.tamper = None
    rig.line.clock.advance(0.1)
    assert rig.move(3) == rig.positions()


@pytest.mark.parametrize("delay", [0.004, 0.0075, 0.01, 0.0125, 0.02, 0.033, 0.05])
def test_late_replies_never_shift_a_cycle(reading_rig: Rig, delay: float) -> None:
    rig = reading_rig
    rig.line.tamper = lambda id, due, data: [(due + delay * (id == 3), data)]
    for cycle in range(80):
        true = rig.move(cycle)
        start = rig.line.now()
        found = rig.positions()
        assert all(value in (-1, position) for value, position in zip(found, true))
        assert found[:2] == true[:2]
        rig.line.clock.sleep_until(start + 0.01)


def test_random_damage_never_yields_a_wrong_position(reading_rig: Rig) -> None:
    rig = reading_rig
    rng = np.random.default_rng(5)

    def damage(id: int, due: float, data: bytes) -> list[tuple[float, bytes]]:
        changed = bytearray(data)
        kind = rng.integers(12)
        if kind == 0:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
        elif kind == 1:
            del changed[rng.integers(len(changed))]
        elif kind == 2:
            changed.insert(rng.integers(len(changed)), rng.integers(256))
        elif kind == 3:
            return []
        return [(due, bytes(changed))]

    rig.line.tamper = damage
    accepted = 0
    for cycle in range(1000):
        true = rig.move(cycle)
        found = rig.positions()
        accepted += sum(value != -1 for value in found)
        assert all(value in (-1, position) for value, position in zip(found, true))
        rig.line.clock.advance(0.002)
    assert accepted > 3000


def test_a_reply_sent_twice_counts_once(reading_rig: Rig) -> None:
    rig = reading_rig
    rig.line.tamper = lambda id, due, data: [(due, data)] * (2 if id == 6 else 1)
    for cycle in range(5):
        assert rig.move(cycle) == rig.positions()
        rig.line.clock.advance(0.01)
    assert rig.bus.statistics.duplicates + rig.bus.statistics.unexpected > 0


def test_absent_servo_is_named_within_the_deadline(rig: Rig) -> None:
    start = rig.line.now()
    with pytest.raises(BusError, match=r"servo 9 .* within 50 ms"):
        rig.bus.ping(9)
    assert rig.line.now() - start <= 0.0501


def test_a_servo_that_does_not_come_back_is_named(rig: Rig) -> None:
    silent = iter([False] + [True] * 10_000)
    rig.line.tamper = lambda id, due, data: [] if next(silent) else [(due, data)]
    with pytest.raises(BusError, match="servo 4 has not come back"):
        rig.bus.reboot(4)


def test_unplugging_is_a_port_error(rig: Rig) -> None:
    rig.line.plugged = False
    for call in (rig.positions, rig.bus.scan, lambda: rig.bus.read(1, "id")):
        with pytest.raises(PortError):
            call()
