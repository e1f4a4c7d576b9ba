"""What a real STS3215 does with its registers, in closed form on the emulated one."""

import numpy as np
import pytest

from hardware.emulator import plant as motor
from hardware.emulator.feetech.servo import FeetechServo
from hardware.emulator.plant import IdealPlant
from hardware.emulator.wire import EmulatedBus
from hardware.servos.feetech import protocol
from hardware.servos.feetech.protocol import Instruction, Packet, Parser
from hardware.servos.feetech.registers import STS3215, TICK

from .conftest import Rig


def _ask(line: EmulatedBus, request: bytes, now: float) -> list[Packet]:
    line.receive(request, now)
    return Parser().feed(line.due(now + 1.0))


def test_eeprom_needs_the_lock_open_to_persist(rig: Rig) -> None:
    servo = rig.servos[0]
    servo.write(21, bytes((9,)))
    assert servo.get("p_coefficient") == 9
    servo.power_up()
    assert servo.get("p_coefficient") == 32
    servo.write(55, bytes((0,)))
    servo.write(21, bytes((9,)))
    servo.power_up()
    assert servo.get("p_coefficient") == 9
    assert servo.get("lock") == 1


def test_power_up_copies_the_torque_limit_and_holds_no_torque(rig: Rig) -> None:
    servo = rig.servos[0]
    servo.write(55, bytes((0,)))
    servo.write(16, (400).to_bytes(2, "little"))
    assert servo.get("torque_limit") == 1000
    servo.write(40, bytes((1,)))
    servo.power_up()
    assert servo.get("torque_limit") == 400
    assert servo.get("torque_enable") == 0
    assert servo.get("goal_position") == servo._present()


def test_read_only_and_impossible_values_are_ignored(rig: Rig) -> None:
    servo = rig.servos[0]
    before = servo.read(0, 87)
    servo.write(56, b"\x01\x02")
    servo.write(48, (1001).to_bytes(2, "little"))
    servo.write(33, bytes((7,)))
    assert servo.read(0, 87) == before


def test_goals_beyond_the_stored_limits_are_clipped() -> None:
    plant = IdealPlant(1)
    servo = FeetechServo(1, plant, 0, values={"min_position_limit": 1500, "max_position_limit": 2500})
    servo.write(42, (4000).to_bytes(2, "little"))
    assert servo.get("goal_position") == 4000
    assert servo.get("present_goal") == 2500
    assert plant.drive.goal[0] == pytest.approx((2500 - 2048) * TICK)


def test_offset_shifts_what_is_reported_and_what_is_meant() -> None:
    plant = IdealPlant(1, np.array([0.3]))
    servo = FeetechServo(1, plant, 0, values={"homing_offset": -200})
    assert servo._present() == round(2048 + 0.3 / TICK) + 200
    servo.write(42, (2248).to_bytes(2, "little"))
    assert plant.drive.goal[0] == pytest.approx(0.0)


def test_positions_wrap_and_goals_with_them() -> None:
    plant = IdealPlant(1)
    servo = FeetechServo(1, plant, 0, zero=4000)
    assert servo._present() == 4000
    plant.position[0] = 200 * TICK
    assert servo._present() == 104
    servo.write(42, (300).to_bytes(2, "little"))
    assert plant.drive.goal[0] == pytest.approx(396 * TICK)
    # The same goal from the other side of the encoder's zero is most of a turn away.
    plant.position[0] = 0.0
    servo.write(42, (300).to_bytes(2, "little"))
    assert plant.drive.goal[0] == pytest.approx(-3700 * TICK)
    servo.write(18, bytes((12 | 16,)))
    plant.position[0] = 200 * TICK
    assert servo._present() == 4200


def test_without_limits_goals_count_whole_turns() -> None:
    plant = IdealPlant(1)
    servo = FeetechServo(1, plant, 0, values={"max_position_limit": 0})
    servo.write(42, (3 * 4096).to_bytes(2, "little"))
    assert plant.drive.goal[0] == pytest.approx((3 * 4096 - 2048) * TICK)
    plant.position[0] = plant.drive.goal[0]
    assert servo._present() == 0
    servo.write(42, (100 | 1 << 15).to_bytes(2, "little"))
    assert plant.drive.goal[0] == pytest.approx((-100 - 2048) * TICK)
    assert servo.get("present_goal") == -100


def test_step_mode_counts_from_the_goal_before() -> None:
    plant = IdealPlant(1, np.array([0.2]))
    servo = FeetechServo(1, plant, 0, values={"max_position_limit": 3000})
    servo.write(33, bytes((3,)))
    servo.write(40, bytes((1,)))
    start = servo._present()
    assert plant.drive.goal[0] == pytest.approx((start - 2048) * TICK)
    for steps, expected in (
        (100, start + 100),
        (100, start + 200),
        (50 | 1 << 15, start + 150),
        (2000, 3000),
    ):
        servo.write(42, steps.to_bytes(2, "little"))
        assert plant.drive.goal[0] == pytest.approx((expected - 2048) * TICK)
    servo.write(41, bytes((9,)))  # anything else moves nothing
    assert plant.drive.goal[0] == pytest.approx((3000 - 2048) * TICK)
    # Back in position mode the last goal counts as it stands.
    servo.write(33, bytes((0,)))
    assert plant.drive.goal[0] == pytest.approx((2000 - 2048) * TICK)


def test_torque_128_recentres_for_good() -> None:
    plant = IdealPlant(1, np.array([0.5]))
    servo = FeetechServo(1, plant, 0)
    servo.write(40, bytes((128,)))
    assert servo._present() == 2048
    assert servo.get("torque_enable") == 0
    servo.power_up()
    assert servo._present() == 2048


def test_torque_modes_reach_the_plant(rig: Rig) -> None:
    for mode in (1, 2, 0):
        rig.servos[2].write(40, bytes((mode,)))
        assert rig.plant.drive.mode[2] == mode
    rig.servos[2].write(40, bytes((3,)))
    assert rig.plant.drive.mode[2] == 0


def test_gains_limits_and_profile_reach_the_plant(rig: Rig) -> None:
    servo, drive = rig.servos[1], rig.plant.drive
    servo.write(21, bytes((16, 8, 3)))
    servo.write(41, bytes((20,)))
    servo.write(46, (600).to_bytes(2, "little") + (250).to_bytes(2, "little"))
    assert (drive.p[1], drive.d[1], drive.i[1]) == (16, 8, 3)
    assert drive.acceleration[1] == pytest.approx(2000 * TICK)
    assert drive.speed[1] == pytest.approx(600 * TICK)
    assert drive.duty_limit[1] == 0.25


def _loaded() -> tuple[IdealPlant, FeetechServo]:
    plant = IdealPlant(1)
    servo = FeetechServo(1, plant, 0, values={"overload_torque": 25, "protection_time": 50})
    servo.write(40, bytes((1,)))
    return plant, servo


def _wait(servo: FeetechServo, start: float, seconds: float, voltage: float = 12.0) -> float:
    for _ in range(round(seconds * 100)):
        start += 0.01
        servo.update(start, 0.01, voltage)
    return start


def test_overload_trips_after_its_time_and_leaves_some_torque() -> None:
    plant, servo = _loaded()
    plant.duty[0] = 0.4
    now = _wait(servo, 0.0, 0.45)
    assert servo.status == 0
    now = _wait(servo, now, 0.1)
    assert servo.status == 0b100000
    assert plant.drive.duty_limit[0] == pytest.approx(0.2)
    assert plant.drive.mode[0] == 1
    # A goal further into the load changes nothing, one away from it gives the torque back.
    servo.write(42, (2500).to_bytes(2, "little"))
    assert servo.status == 0b100000
    servo.write(42, (1500).to_bytes(2, "little"))
    assert servo.status == 0
    assert plant.drive.duty_limit[0] == 1.0


def test_short_loads_do_not_trip() -> None:
    plant, servo = _loaded()
    now = 0.0
    for _ in range(5):
        plant.duty[0] = 0.9
        now = _wait(servo, now, 0.4)
        plant.duty[0] = 0.1
        now = _wait(servo, now, 0.02)
    assert servo.status == 0


def test_overcurrent_cuts_the_torque_until_it_is_switched_again() -> None:
    plant, servo = _loaded()
    plant.current[0] = -4.0  # 615 units; the limit is 500
    _wait(servo, 0.0, 2.1)
    assert servo.status & 0b1000
    assert plant.drive.mode[0] == 0
    plant.current[0] = 0.0
    servo.write(40, bytes((1,)))
    assert servo.status == 0
    assert plant.drive.mode[0] == 1


def test_motors_heat_up_to_where_losses_balance() -> None:
    plant, servo = _loaded()
    plant.current[0] = 1.0
    heat = servo.thermal
    _wait(servo, 0.0, 8 * heat.constant / 10)
    final = heat.ambient + heat.rise * heat.resistance
    for i in range(4000):
        servo.update(1000.0 + i, 1.0, 12.0)
    assert servo.temperature == pytest.approx(final, abs=0.1)
    assert servo.read(63, 1)[0] == round(final)


def test_too_hot_is_an_alarm_and_cuts_the_torque() -> None:
    plant, servo = _loaded()
    servo.temperature = 71.0
    _wait(servo, 0.0, 0.02)
    assert servo.status & 0b100
    assert plant.drive.mode[0] == 0


def test_low_voltage_is_reported_but_does_not_cut(rig: Rig) -> None:
    plant, servo = _loaded()
    _wait(servo, 0.0, 0.02, voltage=3.5)
    assert servo.status == 1
    assert plant.drive.mode[0] == 1
    assert servo.read(62, 1)[0] == 35
    _wait(servo, 0.1, 0.02, voltage=12.0)
    assert servo.status == 0


def test_the_shutdown_mask_decides_what_cuts_the_torque() -> None:
    for mask, mode in ((0, 1), (1, 0)):
        plant, servo = _loaded()
        servo.write(19, bytes((mask,)))
        now = _wait(servo, 0.0, 0.02, voltage=3.8)
        assert (servo.status, plant.drive.mode[0]) == (1, mode)
        # Without the mask the bit goes with its cause, with it only when the torque is switched.
        _wait(servo, now, 0.02, voltage=12.0)
        assert servo.status == mask
        servo.write(40, bytes((1,)))
        assert (servo.status, plant.drive.mode[0]) == (0, 1)


def test_a_brown_out_restarts_the_servo(rig: Rig) -> None:
    servo = rig.servos[0]
    servo.write(55, bytes((0,)))
    servo.write(21, bytes((9,)))
    servo.write(55, bytes((1,)))
    servo.write(41, bytes((7,)))
    servo.write(40, bytes((1,)))
    rig.plant.supply = 2.5
    rig.line.advance(0.05)
    assert rig.plant.drive.mode[0] == 0
    assert _ask(rig.line, protocol.ping(1), 0.06) == []
    rig.plant.supply = 12.0
    rig.line.advance(0.08)
    assert _ask(rig.line, protocol.ping(1), 0.09) == []  # starting up
    rig.line.advance(0.3)
    assert _ask(rig.line, protocol.read(1, 40, 2), 0.31) == [Packet(1, 0, b"\0\0")]
    assert servo.get("p_coefficient") == 9
    assert servo.get("goal_position") == servo._present()


def test_a_broken_encoder_is_reported_and_stands_still() -> None:
    plant, servo = _loaded()
    servo.write(19, bytes((2,)))
    before = servo._present()
    servo.encoder_fault = True
    plant.position[0] += 0.5
    _wait(servo, 0.0, 0.02)
    assert servo._present() == before
    assert (servo.status, plant.drive.mode[0]) == (0b10, 0)
    servo.encoder_fault = False
    assert servo._present() == before + round(0.5 / TICK)


def test_speed_and_pwm_modes() -> None:
    plant, servo = _loaded()
    servo.write(33, bytes((1,)))
    servo.write(46, (0x8000 | 600).to_bytes(2, "little"))
    assert (plant.drive.mode[0], plant.drive.speed[0]) == (motor.VELOCITY, 0.0)
    assert plant.drive.request[0] == pytest.approx(-600 * TICK)
    servo.write(33, bytes((2,)))
    servo.write(44, (1 << 10 | 250).to_bytes(2, "little"))
    assert plant.drive.mode[0] == motor.DUTY
    assert plant.drive.request[0] == pytest.approx(-0.25)


def test_tripping_from_outside() -> None:
    plant, servo = _loaded()
    servo.trip(0b100)
    assert (servo.status, plant.drive.mode[0]) == (0b100, 0)


def test_a_supply_that_is_too_high_is_converted() -> None:
    plant = IdealPlant(1)
    plant.supply = 48.0
    servo = FeetechServo(1, plant, 0)
    _wait(servo, 0.0, 0.02, voltage=47.0)
    assert (servo.voltage, servo.status) == (12.0, 0)


def test_supply_sags_under_load(rig: Rig) -> None:
    rig.plant.duty[:] = 0.8
    rig.plant.current[:] = 2.0
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]
    rig.line.advance(0.05)
    assert rig.servos[0].voltage < rig.plant.supply - 0.5


def test_replies_carry_the_status(rig: Rig) -> None:
    rig.servos[0].temperature = 90.0
    rig.line.advance(0.05)
    assert _ask(rig.line, protocol.ping(1), 0.06) == [Packet(1, 0b100)]


def test_a_new_id_answers_from_the_next_request_on(rig: Rig) -> None:
    assert _ask(rig.line, protocol.write(1, 5, bytes((11,))), 0.0) == [Packet(1, 0)]
    assert _ask(rig.line, protocol.ping(1), 1.0) == []
    assert _ask(rig.line, protocol.ping(11), 2.0) == [Packet(11, 0)]


def test_response_level_0_answers_reads_and_pings_only(rig: Rig) -> None:
    rig.servos[0].write(8, bytes((0,)))
    assert _ask(rig.line, protocol.write(1, 41, bytes((5,))), 0.0) == []
    assert rig.servos[0].get("acceleration") == 5
    assert _ask(rig.line, protocol.read(1, 41, 1), 1.0) == [Packet(1, 0, b"\x05")]


def test_return_delay_and_rate_set_the_pace(rig: Rig) -> None:
    rig.servos[0].write(7, bytes((250,)))
    rig.line.receive(protocol.ping(1), 0.0)
    assert rig.line.next_due == pytest.approx(6e-5 + 500e-6 + 6e-5)
    slow = FeetechServo(1, rig.plant, 0, values={"baud_rate": 4, "return_delay_time": 0})
    line = EmulatedBus([slow], rig.plant)
    line.receive(protocol.ping(1), 0.0)
    assert line.next_due == pytest.approx(12 * 10 / 115_200)


def test_everybody_obeys_a_broadcast_and_nobody_answers(rig: Rig) -> None:
    request = protocol.encode(protocol.BROADCAST, Instruction.WRITE, bytes((40, 1)))
    assert _ask(rig.line, request, 0.0) == []
    assert [servo.get("torque_enable") for servo in rig.servos] == [1] * 6


def test_recalibration_instruction(rig: Rig) -> None:
    assert _ask(rig.line, protocol.encode(3, Instruction.RECALIBRATE), 0.0) == [Packet(3, 0)]
    assert rig.servos[2]._present() == 2048


def test_factory_reset_keeps_id_and_rate(rig: Rig) -> None:
    servo = rig.servos[3]
    servo.write(55, bytes((0,)))
    servo.write(21, bytes((3,)))
    assert _ask(rig.line, protocol.encode(4, Instruction.RESET), 0.0) == [Packet(4, 0)]
    assert servo.get("p_coefficient") == 32
    assert servo.id == 4


def test_what_makes_no_sense_is_not_answered(rig: Rig) -> None:
    for request in (
        protocol.encode(1, 0x33),
        protocol.encode(1, Instruction.READ, b"\x38"),
        protocol.encode(1, Instruction.WRITE, b"\x28"),
        protocol.encode(protocol.BROADCAST, Instruction.SYNC_READ, b"\x38"),
        protocol.read(1, 56, 2)[:-1] + b"\x00",
    ):
        assert _ask(rig.line, request, rig.port.now()) == []
    assert _ask(rig.line, protocol.ping(1), 10.0) == [Packet(1, 0)]


def test_a_fragment_does_not_swallow_what_follows(rig: Rig) -> None:
    rig.line.receive(b"\xff\xff\x01\xf0\x02", 0.0)
    assert _ask(rig.line, protocol.ping(1), 0.2) == [Packet(1, 0)]


def test_reading_behind_the_table_yields_zeros(rig: Rig) -> None:
    (answer,) = _ask(rig.line, protocol.read(1, STS3215.size - 1, 4), 0.0)
    assert len(answer.data) == 4 and answer.data[1:] == b"\0\0\0"
