"""The arm on the emulated bus: what is checked before it moves, what is sent, what is believed."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from hardware.arm.serial_arm import SerialArm
from hardware.emulator.wire import Reply
from hardware.servos.feetech import protocol
from hardware.servos.feetech.registers import TICK
from sim2real.calibration import Calibration
from sim2real.errors import BusError, HardwareError, PortError, UserError

from .conftest import ArmRig


def test_identify_reports_every_servo(arm_rig: ArmRig) -> None:
    identities = arm_rig.arm.identify()
    assert [one.joint for one in identities] == list(arm_rig.robot.joint_names)
    assert {one.model for one in identities} == {777}
    assert identities[0].firmware == "3.10"


def test_positions_agree_with_the_plant(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    state = arm.observe()
    assert state.valid.all()
    np.testing.assert_allclose(state.position, arm_rig.plant.position, atol=0.51 * TICK)
    assert np.isfinite(state.temperature).all() and np.isfinite(state.voltage).all()
    goal = arm_rig.robot.home + 0.1
    sent = arm.command(goal)
    np.testing.assert_allclose(sent, goal, atol=0.51 * TICK)
    arm_rig.run(1.0, goal)
    np.testing.assert_allclose(arm.observe().position, sent, atol=TICK)


def test_a_missing_servo_is_named(arm_rig: ArmRig) -> None:
    del arm_rig.servos[2], arm_rig.line.servos[2]
    with pytest.raises(BusError, match=r"no answer from elbow_flex \(ID 3\); found shoulder_pan \(ID 1\)"):
        arm_rig.arm.identify()


def test_another_model_is_refused(arm_rig: ArmRig) -> None:
    arm_rig.servos[1]._put("model_number", 2825)
    with pytest.raises(UserError, match=r"shoulder_lift \(ID 2\) is model 2825.*777"):
        arm_rig.arm.identify()


@pytest.mark.parametrize(
    ("register", "key"),
    [
        ("min_position_limit", "range_min"),
        ("max_position_limit", "range_max"),
        ("homing_offset", "homing_offset"),
    ],
)
def test_disagreeing_limits_are_refused(arm_rig: ArmRig, register: str, key: str) -> None:
    table = arm_rig.calibration.table()
    stored = table["elbow_flex"][key]
    table["elbow_flex"][key] += 5
    other = Calibration.create(table, arm_rig.robot)
    arm = SerialArm(arm_rig.robot, arm_rig.bus, other, clock=arm_rig.clock)
    with pytest.raises(UserError, match=rf"elbow_flex: {register} is {stored} .*{key} is {stored + 5}"):
        arm.identify()
    assert not any(servo.get("torque_enable") for servo in arm_rig.servos)


def test_without_a_file_the_servos_own_limits_are_used(arm_rig: ArmRig) -> None:
    arm = SerialArm(arm_rig.robot, arm_rig.bus, None, clock=arm_rig.clock)
    arm.identify()
    assert arm.calibration.table() == arm_rig.calibration.table()


def test_without_file_and_limits_a_file_is_asked_for(arm_rig: ArmRig) -> None:
    for servo in arm_rig.servos:
        servo._put("min_position_limit", 0)
        servo._put("max_position_limit", 4095)
    with pytest.raises(UserError, match="--calibration"):
        SerialArm(arm_rig.robot, arm_rig.bus, None).identify()


def test_configure_writes_and_verifies_the_robots_settings(arm_rig: ArmRig) -> None:
    for servo in arm_rig.servos:
        servo._put("torque_enable", 1)
    arm_rig.arm.identify()
    arm_rig.arm.configure()
    for servo in arm_rig.servos:
        assert servo.get("torque_enable") == 0
        assert (servo.get("p_coefficient"), servo.get("d_coefficient"), servo.get("i_coefficient")) == (
            16,
            32,
            0,
        )
        assert servo.get("acceleration") == 254
        assert servo.get("lock") == 1
    gripper = arm_rig.servos[arm_rig.robot.gripper]
    assert gripper.get("torque_limit") == gripper.get("max_torque_limit") == 500
    assert gripper.get("protection_current") == 250
    assert gripper.get("overload_torque") == 25
    # They are in the EEPROM now, so a second time nothing is written.
    for servo in arm_rig.servos:
        servo.power_up()
        assert servo.get("p_coefficient") == 16


def test_enabling_moves_nothing(arm_rig: ArmRig) -> None:
    arm_rig.arm.identify()
    arm_rig.arm.configure()
    # Goals left over from an earlier life, far away.
    arm_rig.bus.sync_write("goal_position", arm_rig.arm.ids, [2048] * 6)
    before = arm_rig.plant.position.copy()
    arm_rig.arm.enable()
    arm_rig.run(0.5)
    assert np.abs(arm_rig.plant.position - before).max() < 2 * TICK
    assert all(servo.get("torque_enable") == 1 for servo in arm_rig.servos)
    assert [servo.get("torque_limit") for servo in arm_rig.servos] == [1000] * 5 + [500]


def test_an_arm_that_moves_while_armed_is_let_go(arm_rig: ArmRig) -> None:
    arm_rig.arm.identify()
    arm_rig.arm.configure()
    arm_rig.servos[1].zero += 300  # the servo drives where nobody told it to
    pushed = arm_rig.servos[1]._apply

    def push() -> None:
        pushed()
        arm_rig.plant.drive.goal[1] += 0.4

    arm_rig.servos[1]._apply = push  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match=r"shoulder_lift moved by .* while it was armed"):
        arm_rig.arm.enable()
    assert not any(servo.get("torque_enable") for servo in arm_rig.servos)


def test_goals_lost_on_the_way_keep_the_torque_off(arm_rig: ArmRig) -> None:
    arm_rig.arm.identify()
    arm_rig.arm.configure()
    deaf = arm_rig.servos[3]
    write = deaf.write

    def ignore_goals(address: int, data: bytes) -> None:
        if address != 42:
            write(address, data)

    deaf.write = ignore_goals  # type: ignore[method-assign]
    deaf._put("goal_position", 100)
    with pytest.raises(BusError, match="goal_position was not taken.*wrist_flex: wrote .* reads back 100"):
        arm_rig.arm.enable()
    assert not any(servo.get("torque_enable") for servo in arm_rig.servos)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_sent(arm_rig: ArmRig, bad: float) -> None:
    arm = arm_rig.ready()
    goal = arm_rig.robot.home.copy()
    goal[3] = bad
    before = arm_rig.line.requests
    with pytest.raises(UserError, match="finite"):
        arm.command(goal)
    with pytest.raises(UserError, match="6 finite"):
        arm.command(goal[:5])
    assert arm_rig.line.requests == before


def test_goals_are_clipped_to_the_calibrated_range(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    sent = arm.command(np.full(6, 100.0))
    np.testing.assert_allclose(sent, arm_rig.calibration.upper)
    sent = arm.command(np.full(6, -100.0))
    np.testing.assert_allclose(sent, arm_rig.calibration.lower)


def test_reversed_joints(arm_rig: ArmRig) -> None:
    table = arm_rig.calibration.table()
    table["wrist_flex"]["drive_mode"] = 1
    table["wrist_flex"]["range_max"] -= 100  # no longer symmetric about the servo's centre
    rig = ArmRig()
    rig.calibration = Calibration.create(table, rig.robot)
    from hardware.emulator.assembly import build_servos
    from hardware.emulator.wire import EmulatedBus

    rig.servos = build_servos(rig.robot, rig.plant, rig.calibration)
    rig.port.bus = rig.line = EmulatedBus(rig.servos, rig.plant)
    rig.arm = SerialArm(rig.robot, rig.bus, rig.calibration, clock=rig.clock)
    arm = rig.ready()
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=0.51 * TICK)
    goal = rig.robot.home
    rig.run(1.0, goal)
    np.testing.assert_allclose(rig.plant.position, goal, atol=TICK)
    arm.command(goal + 0.2)
    rig.clock.advance(0.03)
    rig.arm._cycle = 1
    state = arm.observe()
    assert np.sign(state.velocity[3]) == 1 and np.sign(state.load[3]) == 1


def test_a_silent_joint_keeps_its_last_good_value_and_ages(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    good = arm.observe()
    arm_rig.line.tamper = lambda reply: [] if reply.id == 3 else [reply]
    arm_rig.run(0.1)
    state = arm.observe()
    assert list(state.valid) == [True, True, False, True, True, True]
    assert state.position[2] == good.position[2]
    assert 0.1 < state.age[2] < 0.2 and state.age[0] < 0.001


def test_a_silent_bus_is_an_error_and_recovers(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.line.tamper = lambda reply: []
    start = arm_rig.clock.now()
    with pytest.raises(BusError, match="silent"):
        arm.observe()
    assert arm_rig.clock.now() - start < 0.01
    arm_rig.line.tamper = None
    arm_rig.clock.advance(0.1)
    assert arm.observe().valid.all()


def _shifted(id: int, ticks: int, when: Iterable[bool]) -> object:
    """Replies of servo `id` whose position is off by `ticks` while `when` yields True; sums are right."""
    decision = iter(when)

    def tamper(reply: Reply) -> Iterable[Reply]:
        payload = reply.data[5:-1]
        if reply.id != id or len(payload) not in (6, 31) or not next(decision, False):
            return [reply]
        at = 0 if len(payload) == 6 else 16
        raw = int.from_bytes(payload[at : at + 2], "little") + ticks
        changed = payload[:at] + raw.to_bytes(2, "little") + payload[at + 2 :]
        return [replace(reply, data=protocol.reply(id, 0, changed))]

    return tamper


def test_one_implausible_value_is_rejected(arm_rig: ArmRig) -> None:
    """The checksum cannot see compensating errors; physics can."""
    arm = arm_rig.ready()
    before = arm.observe().position
    arm_rig.line.tamper = _shifted(2, 256, [True])  # type: ignore[assignment]
    arm_rig.clock.advance(0.009)
    state = arm.observe()
    assert list(state.valid) == [True, False, True, True, True, True]
    assert state.position[1] == before[1]
    assert arm_rig.bus.statistics.servos[2].implausible == 1
    arm_rig.clock.advance(0.009)
    assert arm.observe().valid.all()


def test_an_encoder_that_jumped_stays_invalid_until_rearmed(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.run(0.1)
    arm_rig.line.tamper = _shifted(5, 400, iter(lambda: True, None))  # type: ignore[assignment]
    for _ in range(100):
        start = arm_rig.clock.now()
        assert not arm.observe().valid[4]
        arm_rig.clock.sleep_until(start + 0.01)
    arm_rig.line.tamper = None
    arm_rig.run(0.2)
    assert not arm.observe().valid[4]
    arm.enable()
    assert arm.observe().valid.all()


def test_fast_motion_is_plausible_even_after_a_lost_reading(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.run(0.05)
    lost = iter([False, False, True, True, False, True])
    arm_rig.line.tamper = lambda reply: [] if reply.id == 1 and next(lost, False) else [reply]
    start = arm_rig.plant.position[0]
    for cycle in range(30):
        # 4.5 rad/s, as fast as the servo turns.
        arm_rig.plant.position[0] = arm_rig.plant.drive.goal[0] = start + 0.045 * cycle
        arm_rig.plant.velocity[0] = 4.5
        begin = arm_rig.clock.now()
        state = arm.observe()
        arm_rig.clock.sleep_until(begin + 0.01)
    assert state.valid.all()
    assert arm_rig.bus.statistics.servos[1].implausible == 0


def test_stop_holds_where_the_arm_is(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm.command(arm_rig.robot.home)
    arm_rig.clock.advance(0.03)
    arm.stop()
    here = arm_rig.plant.position.copy()
    arm_rig.run(0.5)
    np.testing.assert_allclose(arm_rig.plant.position, here, atol=0.12)
    assert np.abs(arm_rig.plant.position - arm_rig.robot.home).max() > 0.3


def test_stop_holds_the_joints_that_can_be_read(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm.command(arm_rig.robot.home)
    arm_rig.clock.advance(0.05)
    arm_rig.line.tamper = lambda reply: [] if reply.id == 3 else [reply]
    arm.stop()
    goals = arm_rig.calibration.ticks_to_radians([servo.get("goal_position") for servo in arm_rig.servos])
    held = np.abs(goals - arm_rig.robot.home) > 0.1
    assert held[1] and held[3] and not held[2]


def test_relax_tries_every_servo(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    # The broadcast is lost on two servos, and one of them never answers.
    for servo in (arm_rig.servos[1], arm_rig.servos[4]):
        write = servo.write
        calls = [0]

        def lose_two(address: int, data: bytes, write: object = write, calls: list[int] = calls) -> None:
            calls[0] += 1
            if calls[0] > 2:
                write(address, data)  # type: ignore[operator]

        servo.write = lose_two  # type: ignore[method-assign]
    arm_rig.line.tamper = lambda reply: [] if reply.id == 2 else [reply]
    with pytest.raises(HardwareError, match=r"shoulder_lift \(ID 2\): switch the arm's power off"):
        arm.relax()
    assert [servo.get("torque_enable") for servo in arm_rig.servos] == [0, 1, 0, 0, 0, 0]
    assert list(arm.enabled) == [False, True, False, False, False, False]


def test_a_brown_out_is_seen(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.run(0.3)
    assert arm.enabled.all()
    arm_rig.servos[3].power_up()
    arm_rig.run(0.15)
    assert list(arm.enabled) == [True, True, True, False, True, True]


def test_one_damaged_reading_loses_no_torque(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.run(0.3)
    damaged = []

    def compensate(reply: Reply) -> list[Reply]:
        """Torque says off, another byte says one more: the sum stays what it was."""
        data = bytearray(reply.data)
        if reply.id != 4 or len(data) < 30 or damaged:
            return [reply]
        assert data[5] == 1, "the reading begins with torque_enable"
        data[5], data[6] = 0, data[6] + 1
        damaged.append(reply)
        return [replace(reply, data=bytes(data))]

    arm_rig.line.tamper = compensate
    for _ in range(30):
        arm_rig.run(0.01)
        assert arm.enabled.all()
    assert damaged


def test_alarms_are_named(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.servos[0].temperature = 80.0
    arm_rig.run(0.1)
    assert arm.alarms() == {"shoulder_pan": ("temperature",)}


def test_unplugged_while_running(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    arm_rig.port.plugged = False
    for call in (arm.observe, arm.relax, arm.stop, lambda: arm.command(arm_rig.robot.home)):
        with pytest.raises(PortError):
            call()


def test_calibration_can_be_stored(arm_rig: ArmRig) -> None:
    table = arm_rig.calibration.table()
    table["gripper"]["range_min"] += 9
    new = Calibration.create(table, arm_rig.robot)
    arm_rig.arm.identify()
    arm_rig.arm.write_calibration(new)
    for servo in arm_rig.servos:
        servo.power_up()
    SerialArm(arm_rig.robot, arm_rig.bus, new).identify()
