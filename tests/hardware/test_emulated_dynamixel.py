"""What a real XL330 or XL430 does with its registers, in closed form on the emulated ones."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator import plant as motor
from hardware.emulator.dynamixel.memory import ACCESS, INSTRUCTION, LENGTH, LIMIT, RANGE, RESULT
from hardware.emulator.dynamixel.servo import DynamixelServo
from hardware.emulator.plant import IdealPlant
from hardware.emulator.wire import EmulatedBus
from hardware.servos.dynamixel import protocol
from hardware.servos.dynamixel.protocol import ALERT, Instruction, Packet, Parser
from hardware.servos.dynamixel.registers import (
    ACCELERATION_UNIT,
    TABLES,
    TICK,
    VELOCITY_UNIT,
    XL330_M288,
    XL430_W250,
)

MODES = {"current": 0, "velocity": 1, "position": 3, "extended": 4, "current position": 5, "pwm": 16}


class Rig:
    """Two XL430 and two XL330 behind an ideal plant, IDs 1 to 4, without return delay."""

    def __init__(self) -> None:
        self.plant = IdealPlant(4)
        self.servos = [
            DynamixelServo(i + 1, self.plant, i, table=table, values={"baud_rate": 3, "return_delay_time": 0})
            for i, table in enumerate((XL430_W250, XL430_W250, XL330_M288, XL330_M288))
        ]
        self.line = EmulatedBus(self.servos, self.plant)
        self.now = 0.0

    def ask(self, request: bytes, wait: float = 0.02) -> list[Packet]:
        """The replies to `request`, all of which arrive within `wait` s."""
        self.line.receive(request, self.now)
        self.now += wait
        self.line.advance(self.now)
        return Parser().feed(self.line.due(self.now))

    def write(self, id: int, register: str, value: int) -> int:
        """The error byte of the reply."""
        entry = self.servos[id - 1].table[register]
        raw = value.to_bytes(entry.size, "little", signed=value < 0)
        (reply,) = self.ask(protocol.write(id, entry.address, raw))
        assert reply.data == b""
        return reply.error

    def read(self, id: int, register: str) -> int:
        entry = self.servos[id - 1].table[register]
        (reply,) = self.ask(protocol.read(id, entry.address, entry.size))
        return entry.decode(reply.data)

    def run(self, seconds: float) -> None:
        self.now += seconds
        for k in range(round(seconds * 100), -1, -1):
            self.line.advance(self.now - k * 0.01)


@pytest.fixture
def rig() -> Rig:
    return Rig()


# Memory


@pytest.mark.parametrize(("id", "addresses", "data"), [(1, 168, 224), (1, 578, 634), (3, 168, 208)])
def test_indirect_bytes_stand_for_others(rig: Rig, id: int, addresses: int, data: int) -> None:
    """Goal in, position and temperature out, each with one request, as the vendor's own robots are driven."""
    plan = [*range(116, 120), *range(132, 136), 146, 65]
    words = b"".join(byte.to_bytes(2, "little") for byte in plan)
    assert rig.ask(protocol.write(id, addresses, words))[0].error == 0
    assert rig.ask(protocol.read(id, addresses, len(words)))[0].data == words
    rig.write(id, "torque_enable", 1)
    assert rig.ask(protocol.write(id, data, (1500).to_bytes(4, "little")))[0].error == 0
    rig.run(2.0)
    (reply,) = rig.ask(protocol.sync_read(data, 9, [id]))
    goal, position = (int.from_bytes(reply.data[k : k + 4], "little") for k in (0, 4))
    assert goal == 1500 == rig.read(id, "goal_position")
    assert abs(position - 1500) <= 1 and reply.data[8] == rig.read(id, "present_temperature")
    assert rig.ask(protocol.write(id, data + 9, b"\1"))[0].error == 0
    assert rig.read(id, "led") == 1


def test_indirect_bytes_refuse_what_their_registers_refuse(rig: Rig) -> None:
    plan = [65, *range(116, 120), 146]
    rig.ask(protocol.write(1, 168, b"".join(byte.to_bytes(2, "little") for byte in plan)))
    goal = rig.read(1, "goal_position")
    for at, data, error in (
        (224, b"\1" + (5000).to_bytes(4, "little"), LIMIT),  # all or nothing: the LED stays off
        (225, b"\0\x08", LENGTH),
        (229, b"\0", ACCESS),
        (250, bytes(10), ACCESS),
        (169, b"\x41", LENGTH),
        (168, (63).to_bytes(2, "little"), RANGE),
        (168, (662).to_bytes(2, "little"), RANGE),
        (150, b"\0", ACCESS),
    ):
        assert rig.ask(protocol.write(1, at, data))[0].error == error
    assert (rig.read(1, "goal_position"), rig.read(1, "led")) == (goal, 0)


def test_indirect_bytes_cannot_bend_indirect_addresses(rig: Rig) -> None:
    rig.ask(protocol.write(1, 168, (171).to_bytes(2, "little")))
    assert rig.ask(protocol.write(1, 224, b"\xff"))[0].error == ACCESS
    assert rig.ask(protocol.read(1, 224, 2))[0].error == 0


def test_indirect_bytes_are_plain_memory_until_told_otherwise(rig: Rig) -> None:
    assert rig.ask(protocol.write(2, 224, b"hello"))[0].error == 0
    assert rig.ask(protocol.read(2, 223, 7))[0].data == b"\0hello\0"
    rig.ask(protocol.reboot(2))
    rig.run(1.0)
    assert rig.ask(protocol.read(2, 222, 5))[0].data == b"\xfb\0\0\0\0"


def test_eeprom_is_locked_while_the_torque_is_on(rig: Rig) -> None:
    assert rig.write(3, "drive_mode", 1) == 0
    assert rig.write(3, "torque_enable", 1) == 0
    assert rig.write(3, "drive_mode", 0) == ACCESS
    assert rig.write(3, "id", 9) == ACCESS
    assert rig.read(3, "drive_mode") == 1
    assert rig.write(3, "torque_enable", 0) == 0
    assert rig.write(3, "drive_mode", 0) == 0


@pytest.mark.parametrize(
    ("address", "data", "error"),
    [
        (132, b"\0\0\0\0", ACCESS),  # read-only
        (0, b"\x01\x02", ACCESS),
        (14, b"\0", ACCESS),  # nothing there
        (116, b"\0\x08", LENGTH),  # half a register
        (118, b"\0\0", LENGTH),
        (11, b"\x02", RANGE),  # no such mode
        (7, b"\xfd", RANGE),
        (64, b"\x02", RANGE),
        (116, (4096).to_bytes(4, "little"), LIMIT),
        (100, (886).to_bytes(2, "little"), RANGE),
        (104, (446).to_bytes(4, "little"), LIMIT),  # velocity limit 445
        (98, b"\xff", RANGE),
    ],
)
def test_writes_that_cannot_be_are_refused_whole(rig: Rig, address: int, data: bytes, error: int) -> None:
    servo = rig.servos[2]
    before = servo.read(0, 147)
    assert rig.ask(protocol.write(3, address, data)) == [Packet(3, Instruction.STATUS, b"", error)]
    after = servo.read(0, 147)
    assert after[1][:120] == before[1][:120]


def test_a_write_over_several_registers_is_all_or_nothing(rig: Rig) -> None:
    good = (300).to_bytes(4, "little") + (7).to_bytes(4, "little") + (100).to_bytes(4, "little")
    bad = (300).to_bytes(4, "little") + (8).to_bytes(4, "little") + (40_000).to_bytes(4, "little")
    assert rig.ask(protocol.write(3, 104, good))[0].error == 0
    assert rig.ask(protocol.write(3, 104, bad))[0].error == RANGE
    assert [rig.read(3, name) for name in ("goal_velocity", "profile_acceleration", "profile_velocity")] == [
        300,
        7,
        100,
    ]


def test_stored_limits_bound_goals_in_their_mode_only(rig: Rig) -> None:
    rig.write(3, "max_position_limit", 3000)
    rig.write(3, "min_position_limit", 1000)
    rig.write(3, "current_limit", 500)
    assert rig.write(3, "goal_position", 3001) == LIMIT
    assert rig.write(3, "goal_position", 999) == LIMIT
    assert rig.write(3, "goal_position", 3000) == 0
    assert rig.write(3, "goal_current", 501) == LIMIT
    assert rig.write(3, "operating_mode", MODES["extended"]) == 0
    assert rig.write(3, "goal_position", -90_000) == 0
    assert rig.write(3, "goal_position", 1_048_576) == RANGE


def test_an_xl430_measures_no_current(rig: Rig) -> None:
    assert rig.write(1, "operating_mode", MODES["current"]) == RANGE
    assert rig.write(1, "operating_mode", MODES["current position"]) == RANGE
    rig.plant.duty[:] = -0.25
    rig.plant.current[:] = -0.3
    assert rig.servos[0].read(126, 2)[1] == (-250).to_bytes(2, "little", signed=True)
    assert rig.servos[2].read(126, 2)[1] == (-300).to_bytes(2, "little", signed=True)


def test_reading_what_is_not_there(rig: Rig) -> None:
    assert rig.ask(protocol.read(3, 146, 10))[0].data[1:] == bytes(9)
    assert rig.ask(protocol.read(3, 220, 8))[0].data == bytes(8)
    assert rig.ask(protocol.read(3, 220, 9))[0].error == ACCESS
    assert rig.ask(protocol.read(1, 500, 78))[0].data == bytes(78)
    assert rig.ask(protocol.read(1, 600, 0))[0].error == LENGTH


def test_eeprom_survives_a_reboot_and_ram_does_not(rig: Rig) -> None:
    rig.write(3, "pwm_limit", 400)
    rig.write(3, "p_coefficient", 77)
    rig.write(3, "torque_enable", 1)
    assert rig.ask(protocol.reboot(3)) == [Packet(3, Instruction.STATUS)]
    assert rig.ask(protocol.ping(3)) == []  # it is starting up
    rig.run(0.2)
    assert rig.read(3, "pwm_limit") == rig.read(3, "goal_pwm") == 400
    assert rig.read(3, "p_coefficient") == XL330_M288["p_coefficient"].default
    assert rig.read(3, "torque_enable") == 0


def test_startup_configuration(rig: Rig) -> None:
    rig.write(3, "p_coefficient", 77)
    assert rig.ask(protocol.encode(3, 0x20, b"\x01CTRL"))[0].error == 0
    rig.write(3, "startup_configuration", 3)
    rig.servos[2].power_up()
    assert rig.read(3, "torque_enable") == 1
    assert rig.read(3, "p_coefficient") == 77
    assert rig.read(3, "goal_position") == rig.read(3, "present_position")
    assert rig.read(3, "backup_ready") == 1


def test_factory_reset_keeps_what_it_is_told_to(rig: Rig) -> None:
    for keep, id, baud in ((2, 3, 3), (1, 3, 1), (255, 1, 1)):
        servo = Rig().servos[2]
        servo.write(31, bytes((50,)))
        servo.factory_reset(keep)
        assert (servo.id, servo.get("baud_rate")) == (id, baud)
        assert servo.get("max_temperature_limit") == 70
    rig.write(4, "max_temperature_limit", 50)
    assert rig.ask(protocol.factory_reset(4))[0].error == 0
    rig.run(0.2)
    assert rig.read(4, "max_temperature_limit") == 70
    # To all at once it would leave four servos with the same ID.
    assert rig.ask(protocol.factory_reset(protocol.BROADCAST, protocol.RESET_ALL)) == []
    assert [servo.id for servo in rig.servos] == [1, 2, 3, 4]


def test_a_change_of_mode_takes_gains_and_profile_back(rig: Rig) -> None:
    rig.write(3, "p_coefficient", 77)
    rig.write(3, "profile_velocity", 50)
    rig.write(3, "goal_pwm", 100)
    rig.write(3, "operating_mode", MODES["velocity"])
    assert rig.read(3, "p_coefficient") == XL330_M288["p_coefficient"].default
    assert rig.read(3, "profile_velocity") == 0
    assert rig.read(3, "goal_pwm") == 885


def test_our_tables_agree_with_the_vendors() -> None:
    easy = pytest.importorskip("dynamixel_easy_sdk")
    folder = Path(easy.__file__).parent / "control_table"
    for table in TABLES.values():
        file = folder / f"{table.name.lower().replace('-', '_')}.model"
        lines = file.read_text().split("[control table]")[1].splitlines()
        rows = [line.split("\t") for line in lines if line[:1].isdigit()]
        theirs = {int(row[0]): int(row[1]) for row in rows}
        ours = {register.address: register.size for register in table.values()}
        assert len(theirs) > 40
        shared = {address: size for address, size in theirs.items() if address in ours}
        assert len(shared) > 40
        assert shared == {address: ours[address] for address in shared}


# Position


def test_the_homing_offset_is_added_and_ignored_beyond_a_quarter_turn() -> None:
    plant = IdealPlant(1, np.array([0.3]))
    for offset, mode, counts in ((200, 3, 200), (-1024, 3, -1024), (1025, 3, 0), (1025, 4, 1025)):
        servo = DynamixelServo(1, plant, 0, values={"homing_offset": offset, "operating_mode": mode})
        assert servo.get("present_position") == 0  # not reported yet
        servo.read(132, 4)
        assert servo.get("present_position") == 2048 + round(0.3 / TICK) + counts


def test_goals_mean_what_is_reported(rig: Rig) -> None:
    plant = IdealPlant(1, np.array([0.3]))
    servo = DynamixelServo(1, plant, 0, zero=1500, sign=-1, values={"homing_offset": 300, "drive_mode": 1})
    servo.write(64, b"\x01")
    present = servo._present()
    servo.write(116, present.to_bytes(4, "little"))
    assert plant.drive.goal[0] == pytest.approx(0.3, abs=TICK)
    # Reversed and mounted the other way round: more counts are more radians again.
    servo.write(116, (present + 100).to_bytes(4, "little"))
    assert plant.drive.goal[0] == pytest.approx(0.3 + 100 * TICK, abs=TICK)


def test_whole_turns_are_forgotten_when_the_torque_comes_on(rig: Rig) -> None:
    rig.plant.position[:] = 2 * math.pi + 0.1
    one = 2048 + round(0.1 / TICK)
    assert rig.read(1, "present_position") == one + 4096
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]
    rig.write(1, "torque_enable", 1)
    assert rig.read(1, "present_position") == one
    # Not so in extended mode, until a reboot.
    rig.write(2, "operating_mode", MODES["extended"])
    rig.write(2, "torque_enable", 1)
    assert rig.read(2, "present_position") == one + 4096
    rig.servos[1].power_up()
    assert rig.read(2, "present_position") == one


def test_clear_forgets_turns_of_a_joint_at_rest(rig: Rig) -> None:
    rig.write(2, "operating_mode", MODES["extended"])
    rig.plant.position[1] = -4 * math.pi
    assert rig.read(2, "present_position") == 2048 - 8192
    assert rig.ask(protocol.clear(2))[0].error == 0
    assert rig.read(2, "present_position") == 2048
    assert rig.ask(protocol.encode(2, Instruction.CLEAR, b"\x01\x44"))[0].error == RESULT
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]
    rig.plant.velocity[1] = 1.0
    assert rig.ask(protocol.clear(2))[0].error == RESULT


def test_a_goal_survives_a_change_of_the_torque(rig: Rig) -> None:
    rig.write(3, "goal_position", 2500)
    assert rig.plant.drive.mode[2] == motor.OFF
    rig.write(3, "torque_enable", 1)
    rig.run(1.0)
    assert rig.read(3, "present_position") == 2500
    rig.write(3, "torque_enable", 0)
    rig.plant.position[2] = 0.0
    rig.write(3, "torque_enable", 1)
    rig.run(1.0)
    assert rig.read(3, "present_position") == 2500


def test_a_goal_may_switch_the_torque_on(rig: Rig) -> None:
    rig.write(3, "drive_mode", 8)
    rig.write(3, "goal_position", 2100)
    assert rig.read(3, "torque_enable") == 1
    assert rig.plant.drive.mode[2] == motor.POSITION


def test_profiles_reach_the_plant(rig: Rig) -> None:
    drive = rig.plant.drive
    rig.write(3, "profile_acceleration", 10)
    rig.write(3, "profile_velocity", 100)
    rig.write(3, "goal_pwm", 443)
    assert drive.acceleration[2] == pytest.approx(10 * ACCELERATION_UNIT)
    assert drive.speed[2] == pytest.approx(100 * VELOCITY_UNIT)
    assert drive.duty_limit[2] == pytest.approx(443 / 885)
    rig.write(3, "profile_velocity", 2000)
    assert drive.speed[2] == pytest.approx(445 * VELOCITY_UNIT)  # the stored limit
    # Time-based: 2 s in all, of which 0.5 s each to speed up and to slow down.
    rig.write(3, "drive_mode", 4)
    rig.write(3, "profile_velocity", 2000)
    rig.write(3, "profile_acceleration", 500)
    rig.write(3, "goal_position", 2048 + 1000)
    assert drive.speed[2] == pytest.approx(1000 * TICK / 1.5)
    assert drive.acceleration[2] == pytest.approx(1000 * TICK / 1.5 / 0.5)


def test_positions_have_no_profile_without_a_profile_velocity(rig: Rig) -> None:
    drive = rig.plant.drive
    rig.write(3, "profile_acceleration", 10)
    assert drive.acceleration[2] == 0.0
    assert rig.read(3, "moving_status") >> 4 == 0
    rig.write(3, "operating_mode", MODES["velocity"])
    rig.write(3, "profile_acceleration", 10)
    assert drive.acceleration[2] == pytest.approx(10 * ACCELERATION_UNIT)


def test_moving_means_that_the_profile_is_under_way_too(rig: Rig) -> None:
    rig.write(3, "profile_velocity", 5)
    rig.write(3, "moving_velocity_threshold", 1000)
    rig.write(3, "torque_enable", 1)
    assert rig.read(3, "moving") == 0
    rig.write(3, "goal_position", 3000)
    rig.plant.setpoint[2] = rig.plant.position[2]  # the ideal plant has no trajectory of its own
    assert rig.servos[2].read(122, 1) == (0, b"\1")


@pytest.mark.parametrize(
    ("mode", "register", "value", "kind", "request_"),
    [
        ("velocity", "goal_velocity", -100, motor.VELOCITY, -100 * VELOCITY_UNIT),
        ("current", "goal_current", 400, motor.CURRENT, 0.4),
        ("pwm", "goal_pwm", -177, motor.DUTY, -0.2),
    ],
)
def test_other_modes_reach_the_plant(
    rig: Rig, mode: str, register: str, value: int, kind: int, request_: float
) -> None:
    rig.write(3, "operating_mode", MODES[mode])
    rig.write(3, "torque_enable", 1)
    assert rig.write(3, register, value) == 0
    assert rig.plant.drive.mode[2] == kind
    assert rig.plant.drive.request[2] == pytest.approx(request_)
    rig.run(0.5)
    assert np.sign(rig.read(3, "present_velocity")) == np.sign(value)
    # In reverse the other way round.
    rig.write(3, "torque_enable", 0)
    rig.write(3, "drive_mode", 1)
    rig.write(3, "torque_enable", 1)
    assert rig.plant.drive.request[2] == pytest.approx(-request_)
    rig.run(0.5)
    assert np.sign(rig.read(3, "present_velocity")) == np.sign(value)


def test_current_based_position_mode_limits_the_current(rig: Rig) -> None:
    rig.write(3, "operating_mode", MODES["current position"])
    rig.write(3, "goal_current", 120)
    rig.write(3, "torque_enable", 1)
    rig.write(3, "goal_position", 4000)
    rig.run(0.1)
    assert abs(rig.plant.current[2]) <= 0.1201
    assert rig.plant.drive.current_limit[2] == pytest.approx(0.12)


def test_moving_and_trajectory_are_reported(rig: Rig) -> None:
    rig.write(1, "torque_enable", 1)
    rig.write(1, "goal_position", 3500)
    rig.run(0.1)
    assert rig.read(1, "moving") == 1
    assert rig.read(1, "moving_status") & 1 == 0
    assert rig.read(1, "position_trajectory") == 3500
    rig.run(2.0)
    assert rig.read(1, "moving") == 0
    assert rig.read(1, "moving_status") & 0b1011 == 1
    assert 2000 < rig.read(1, "realtime_tick") < 4000


# The line


def test_ping_and_scan(rig: Rig) -> None:
    assert rig.ask(protocol.ping(1)) == [Packet(1, Instruction.STATUS, bytes((0x24, 0x04, 50)))]
    assert rig.ask(protocol.ping(7)) == []
    found = rig.ask(protocol.ping(), 0.1)
    assert [(packet.id, int.from_bytes(packet.data[:2], "little")) for packet in found] == [
        (1, 1060),
        (2, 1060),
        (3, 1200),
        (4, 1200),
    ]


def test_status_return_level(rig: Rig) -> None:
    for level, answers in ((2, (1, 1, 1)), (1, (1, 1, 0)), (0, (1, 0, 0))):
        rig.servos[2].write(68, bytes((level,)))
        requests = (protocol.ping(3), protocol.read(3, 132, 4), protocol.write(3, 65, b"\1"))
        assert tuple(len(rig.ask(request)) for request in requests) == answers
    assert rig.ask(protocol.sync_read(132, 4, (2, 3, 4)))[0].id == 2


def test_return_delay_and_rate_set_the_pace() -> None:
    plant = IdealPlant(1)
    for code, rate in enumerate((9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000)):
        servo = DynamixelServo(1, plant, 0, values={"baud_rate": code})
        line = EmulatedBus([servo], plant)
        line.receive(protocol.ping(1), 0.0)
        assert line.next_due == pytest.approx((10 + 14) * 10 / rate + 500e-6)


def test_another_rate_is_not_heard(rig: Rig) -> None:
    rig.line.receive(protocol.ping(1), 0.0, 57_600)
    assert rig.line.due(1.0) == b""
    rig.line.receive(protocol.ping(1), 1.0, 1_000_000)
    assert rig.line.due(2.0)


def test_a_new_id_and_rate_hold_from_the_next_request_on(rig: Rig) -> None:
    assert rig.ask(protocol.write(4, 7, b"\x09"))[0] == Packet(4, Instruction.STATUS)
    assert rig.ask(protocol.write(9, 8, b"\x01"))[0] == Packet(9, Instruction.STATUS)
    assert rig.servos[3].baud == 57_600


def test_sync_write_rejects_in_silence_and_servo_by_servo(rig: Rig) -> None:
    goals = [(1, 1000), (2, 5000), (3, 2000), (9, 100)]
    request = protocol.sync_write(116, 4, [(id, goal.to_bytes(4, "little")) for id, goal in goals])
    assert rig.ask(request) == []
    assert [rig.read(id, "goal_position") for id in (1, 2, 3)] == [1000, 2048, 2000]


def test_sync_and_bulk_reads_come_in_the_order_they_were_asked(rig: Rig) -> None:
    found = rig.ask(protocol.sync_read(7, 1, (4, 1, 9, 2)))
    assert [(packet.id, packet.data) for packet in found] == [(4, b"\4"), (1, b"\1"), (2, b"\2")]
    found = rig.ask(protocol.bulk_read([(3, 7, 1), (1, 0, 2), (9, 0, 2)]))
    assert [(packet.id, packet.data) for packet in found] == [(3, b"\3"), (1, b"\x24\4")]


def test_bulk_write(rig: Rig) -> None:
    request = protocol.bulk_write([(1, 65, b"\1"), (3, 116, (1234).to_bytes(4, "little")), (4, 65, b"\2")])
    assert rig.ask(request) == []
    assert rig.read(1, "led") == 1
    assert rig.read(3, "goal_position") == 1234
    assert rig.read(4, "led") == 0


def test_fast_sync_read_is_one_packet_that_breaks_off_at_a_silent_servo(rig: Rig) -> None:
    def fast(ids: tuple[int, ...]) -> list[tuple[int, bytes] | None]:
        rig.line.receive(protocol.fast_sync_read(7, 1, ids), rig.now)
        rig.now += 0.05
        return protocol.fast_sync_rows(rig.line.due(rig.now), ids, 1)

    assert fast((2, 1, 4)) == [(0, b"\2"), (0, b"\1"), (0, b"\4")]
    assert fast((2, 9, 4)) == [(0, b"\2"), None, None]
    rig.servos[3].trip(1)
    assert fast((2, 4)) == [(0, b"\2"), (ALERT, b"\4")]


def test_registered_writes_wait_for_their_action(rig: Rig) -> None:
    assert rig.ask(protocol.action(3))[0].error == INSTRUCTION
    assert rig.ask(protocol.reg_write(3, 65, b"\1"))[0].error == 0
    assert (rig.read(3, "led"), rig.read(3, "asynchronous_write")) == (0, 1)
    assert rig.ask(protocol.action()) == []
    assert (rig.read(3, "led"), rig.read(3, "asynchronous_write")) == (1, 0)


def test_a_secondary_id_is_obeyed_without_an_answer(rig: Rig) -> None:
    for id in (3, 4):
        rig.write(id, "secondary_id", 100)
    assert rig.ask(protocol.write(100, 65, b"\1")) == []
    assert [rig.read(id, "led") for id in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert rig.ask(protocol.write(100, 10, b"\1")) == []
    assert [rig.read(id, "drive_mode") for id in (3, 4)] == [0, 0]  # nothing is stored by such an ID
    rig.ask(protocol.factory_reset(100))
    assert [rig.read(id, "secondary_id") for id in (3, 4)] == [100, 100]


def test_what_servos_do_not_understand(rig: Rig) -> None:
    assert rig.ask(protocol.encode(3, 0x33))[0].error == INSTRUCTION
    assert rig.ask(protocol.encode(3, Instruction.READ, b"\1"))[0].error == LENGTH
    assert rig.ask(protocol.encode(3, Instruction.WRITE, b"\1\1"))[0].error == LENGTH
    broken = bytearray(protocol.ping(3))
    broken[-1] ^= 1
    assert rig.ask(bytes(broken)) == [Packet(3, Instruction.STATUS, b"", 3)]
    assert rig.ask(protocol.encode(protocol.BROADCAST, 0x33)) == []
    # What other servos say is not for them.
    assert rig.ask(protocol.reply(3, 0, b"\1")) == []


def test_what_the_servos_hear_can_be_changed(rig: Rig) -> None:
    heard: list[tuple[bytes, float]] = []

    def deafen(data: bytes, now: float) -> bytes:
        heard.append((data, now))
        return b"" if len(heard) == 1 else data

    rig.line.overhear = deafen
    assert rig.ask(protocol.ping(1)) == []
    assert len(rig.ask(protocol.ping(1))) == 1
    assert heard[0] == (protocol.ping(1), 0.0)


# What goes wrong


def test_a_bus_watchdog_stops_a_servo_that_hears_nothing(rig: Rig) -> None:
    rig.write(3, "bus_watchdog", 10)
    rig.run(1.0)
    assert rig.read(3, "bus_watchdog") == 10  # without torque nobody watches
    rig.write(3, "torque_enable", 1)
    rig.write(3, "profile_velocity", 30)
    rig.write(3, "goal_position", 3000)
    for _ in range(30):
        rig.ask(protocol.ping(1))  # for another servo, but a request
    assert rig.read(3, "bus_watchdog") == 10
    rig.run(0.35)
    here = rig.read(3, "present_position")
    assert 2100 < here < 2900
    assert rig.read(3, "bus_watchdog") == -1
    rig.run(1.0)
    assert abs(rig.read(3, "present_position") - here) < 30
    assert rig.write(3, "goal_position", 3000) == RANGE
    assert rig.write(3, "bus_watchdog", 20) == RANGE
    assert rig.read(3, "torque_enable") == 1
    assert rig.write(3, "bus_watchdog", 0) == 0
    assert rig.write(3, "goal_position", 3000) == 0
    rig.run(3.0)
    assert rig.read(3, "present_position") == 3000


@pytest.mark.parametrize("mode, register", [("velocity", "goal_velocity"), ("pwm", "goal_pwm")])
def test_a_bus_watchdog_stops_wheels_too(rig: Rig, mode: str, register: str) -> None:
    rig.write(3, "operating_mode", MODES[mode])
    rig.write(3, "torque_enable", 1)
    rig.write(3, register, 100)
    rig.write(3, "bus_watchdog", 5)
    rig.run(1.0)
    assert rig.read(3, "present_velocity") == 0


def _hot(servo: DynamixelServo) -> None:
    servo.temperature = 75.0


def _blind(servo: DynamixelServo) -> None:
    servo.encoder_fault = True


@pytest.mark.parametrize(
    ("break_", "bit", "cuts"), [(_hot, 0b100, True), (_blind, 0b1000, False)], ids=["hot", "encoder"]
)
def test_what_trips_stays_until_a_reboot(
    rig: Rig, break_: Callable[[DynamixelServo], None], bit: int, cuts: bool
) -> None:
    servo = rig.servos[2]
    rig.write(3, "torque_enable", 1)
    break_(servo)
    rig.run(0.05)
    servo.temperature, servo.encoder_fault = 30.0, False
    rig.run(0.05)
    assert rig.read(3, "status") == bit
    assert rig.ask(protocol.ping(3))[0].error == ALERT
    assert rig.read(3, "torque_enable") == (0 if cuts else 1)
    assert (rig.plant.drive.mode[2] == motor.OFF) == cuts
    if cuts:
        assert rig.write(3, "torque_enable", 1) == RESULT | ALERT
    rig.ask(protocol.reboot(3))
    rig.run(0.2)
    assert rig.read(3, "status") == 0
    assert rig.write(3, "torque_enable", 1) == 0


def test_the_shutdown_mask_decides_what_cuts_the_torque(rig: Rig) -> None:
    rig.write(3, "unloading_condition", 0b1000)
    rig.write(3, "torque_enable", 1)
    _hot(rig.servos[2])
    rig.run(0.05)
    assert (rig.read(3, "status"), rig.read(3, "torque_enable")) == (0b100, 1)
    _blind(rig.servos[2])
    rig.run(0.05)
    assert (rig.read(3, "status"), rig.read(3, "torque_enable")) == (0b1100, 0)


def test_a_stalled_motor_is_overloaded(rig: Rig) -> None:
    rig.write(3, "torque_enable", 1)
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]
    rig.plant.duty[2] = 0.9
    rig.run(0.9)
    assert rig.read(3, "status") == 0
    rig.run(0.3)
    assert (rig.read(3, "status"), rig.read(3, "torque_enable")) == (0b100000, 0)


def test_voltage_out_of_limits_is_reported_and_a_brown_out_restarts(rig: Rig) -> None:
    one, three = rig.servos[0], rig.servos[2]
    assert (one.voltage, three.voltage) == (12.0, 5.0)  # the small ones sit behind a converter
    rig.write(1, "torque_enable", 1)
    rig.write(3, "torque_enable", 1)
    rig.plant.supply = 5.6
    rig.run(0.05)
    assert rig.read(1, "status") == 1
    assert rig.read(1, "torque_enable") == 1
    rig.plant.supply = 2.0
    rig.run(0.05)
    assert rig.ask(protocol.ping(1)) == [] == rig.ask(protocol.ping(3))
    assert rig.plant.drive.mode.tolist() == [0] * 4
    rig.plant.supply = 12.0
    rig.run(0.05)
    assert rig.ask(protocol.ping(1)) == []  # starting up
    rig.run(0.2)
    for id in (1, 3):
        assert (rig.read(id, "status"), rig.read(id, "torque_enable")) == (0, 0)
