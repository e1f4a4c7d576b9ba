"""An arm of Dynamixel servos of two kinds on the emulated bus: what differs from Feetech servos, end to end."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from hardware.arm.serial_arm import BUS_WATCHDOG, SerialArm
from hardware.commissioning.inspection import inspect_bus
from hardware.emulator.assembly import build_servos
from hardware.emulator.dynamixel.servo import OVERLOAD, TEMPERATURE, DynamixelServo
from hardware.emulator.stepped import SteppedArm
from hardware.emulator.wire import EmulatedBus
from hardware.runtime.safety.watchdog import Takeover
from hardware.servos.dynamixel.bus import DynamixelBus
from hardware.servos.dynamixel.registers import TICK
from sim2real.calibration import Calibration
from sim2real.errors import BusError, HardwareError, UserError


@pytest.fixture(params=["koch", "openmanipulator_x"])
def any_rig(request: pytest.FixtureRequest) -> SteppedArm:
    return SteppedArm(request.param)


@pytest.fixture
def rig() -> SteppedArm:
    return SteppedArm("koch")


def servo(rig: SteppedArm, joint: int) -> DynamixelServo:
    return cast(DynamixelServo, rig.servos[joint])


def test_it_is_identified_read_and_moved(any_rig: SteppedArm) -> None:
    arm, robot = any_rig.ready(), any_rig.robot
    assert [one.joint for one in arm.identities] == list(robot.joint_names)
    assert cast(DynamixelBus, any_rig.bus).fast
    state = arm.observe()
    assert state.valid.all() and not state.status.any()
    np.testing.assert_allclose(state.position, any_rig.plant.position, atol=0.51 * TICK)
    sent = arm.command(robot.home)
    np.testing.assert_allclose(sent, robot.home, atol=0.51 * TICK)
    any_rig.run(1.0, robot.home)
    np.testing.assert_allclose(arm.observe().position, sent, atol=TICK)
    assert np.isfinite(state.temperature).all() and np.isfinite(state.voltage).all()
    assert any_rig.bus.statistics.incomplete == 0


def test_servos_of_two_kinds_are_read_together(rig: SteppedArm) -> None:
    """XL430 report a load where XL330 report a current: both come out as a share of full effort."""
    arm = rig.ready()
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]  # as it is now
    rig.plant.duty[:] = 0.5
    rig.plant.current[:] = 0.7
    for _ in range(40):
        state = arm.observe()
    np.testing.assert_allclose(state.load[:2], 0.5, atol=0.01)
    np.testing.assert_allclose(state.load[2:], 0.7 / 1.47, atol=0.01)
    assert np.isnan(state.current[:2]).all()
    np.testing.assert_allclose(state.current[2:], 0.7, atol=0.01)


def test_velocities_are_in_radians(rig: SteppedArm) -> None:
    arm = rig.ready()
    rig.plant.advance = lambda time: None  # type: ignore[method-assign]  # as it is now
    rig.plant.velocity[:] = 1.5
    np.testing.assert_allclose(arm.observe().velocity, 1.5, atol=0.013)


def test_another_model_is_refused(rig: SteppedArm) -> None:
    servo(rig, 3)._put("model_number", 1190)
    with pytest.raises(UserError, match=r"wrist_flex \(ID 4\) is model 1190 \(XL330-M077\), not 1200"):
        rig.arm.identify()


def test_settings_are_written_and_come_back_after_a_brown_out(rig: SteppedArm) -> None:
    servo(rig, 2)._put("operating_mode", 4)
    arm = rig.ready()
    assert servo(rig, 2).get("operating_mode") == 3
    assert servo(rig, 2).get("p_coefficient") == 1500 and servo(rig, 3).get("p_coefficient") == 1000
    assert servo(rig, 5).get("goal_pwm") == 400
    np.testing.assert_allclose(arm.torque_limit, [1] * 5 + [400 / 885])
    rig.run(0.2)
    servo(rig, 2).power_up()
    assert servo(rig, 2).get("p_coefficient") == 400
    rig.run(0.3)
    assert list(arm.enabled) == [True, True, False, True, True, True]
    arm.relax()
    arm.enable()
    assert servo(rig, 2).get("p_coefficient") == 1500
    assert arm.enabled.all()


def test_reversed_joints_are_the_servos_business(rig: SteppedArm) -> None:
    table = rig.calibration.table()
    table["wrist_flex"]["drive_mode"] = 1
    with pytest.raises(UserError, match="wrist_flex: the servo's drive mode is normal, drive_mode is 1"):
        SerialArm(rig.robot, rig.bus, Calibration.create(table, rig.robot), clock=rig.clock).identify()
    reversed_ = Calibration.create(table, rig.robot)
    rig.servos = build_servos(rig.robot, rig.plant, reversed_)
    rig.port.bus = rig.line = EmulatedBus(rig.servos, rig.plant)
    rig.arm = SerialArm(rig.robot, rig.bus, reversed_, clock=rig.clock)
    rig.arm.identify()
    # The emulated joint is mounted the other way round in the same measure, so that angles stay angles.
    before = rig.arm.observe().position[3]
    rig.plant.position[3] += 0.2
    rig.clock.advance(0.1)
    assert abs(rig.arm.observe().position[3] - before) == pytest.approx(0.2, abs=2 * TICK)


def test_the_servos_own_watchdog_stops_a_silent_arm(rig: SteppedArm) -> None:
    arm = rig.ready()
    rig.run(0.2)
    assert {one.get("bus_watchdog") for one in rig.servos} == {15}  # type: ignore[attr-defined]
    rig.clock.advance(0.8 * BUS_WATCHDOG)
    rig.run(0.5)
    assert arm.alarms() == {}
    rig.clock.advance(BUS_WATCHDOG + 0.1)
    held = rig.plant.position.copy()
    rig.run(0.3, rig.robot.home)
    assert set(arm.alarms()) == set(rig.robot.joint_names)
    assert set(arm.alarms().values()) == {("bus watchdog",)}
    # Nothing moves, and nothing clears it, until the arm is armed again.
    np.testing.assert_allclose(rig.plant.position, held, atol=2 * TICK)
    with pytest.raises(BusError, match=r"goal_position was not taken .*it reports bus watchdog"):
        arm.stop()
        arm._write_verified("goal_position", arm.calibration.radians_to_ticks(rig.robot.home))
    arm.relax()
    arm.enable()
    assert arm.alarms() == {}
    rig.run(1.0, rig.robot.home)
    np.testing.assert_allclose(arm.observe().position, rig.robot.home, atol=2 * TICK)


def test_a_limp_arm_has_no_watchdog(rig: SteppedArm) -> None:
    rig.ready().relax()
    rig.clock.advance(5.0)
    rig.run(0.3)
    assert rig.arm.alarms() == {}
    assert {one.get("bus_watchdog") for one in rig.servos} == {0}  # type: ignore[attr-defined]


def test_a_latched_fault_needs_a_persons_word(rig: SteppedArm) -> None:
    arm = rig.ready()
    rig.run(0.1)
    servo(rig, 1).trip(OVERLOAD)
    rig.run(0.02)
    assert arm.alarms() == {"shoulder_lift": ("overload",)}
    rig.run(0.2)
    assert not arm.enabled[1] and arm.enabled[[0, 2, 3, 4, 5]].all()
    arm.relax()
    with pytest.raises((BusError, HardwareError), match="shoulder_lift.*overload.*acknowledge the fault"):
        arm.enable()
    assert not any(one.get("torque_enable") for one in rig.servos)  # type: ignore[attr-defined]
    assert arm.acknowledge() == ("shoulder_lift",)
    assert arm.acknowledge() == ()
    arm.enable()
    rig.run(0.5, rig.robot.home)
    assert arm.alarms() == {} and arm.enabled.all()


def test_a_goal_outside_the_stored_limits_is_not_taken_and_noticed(rig: SteppedArm) -> None:
    arm = rig.ready()
    high = servo(rig, 3).get("max_position_limit")
    ticks = arm.calibration.radians_to_ticks(arm.observe().position)
    ticks[3] = high + 5
    with pytest.raises(BusError, match=rf"wrist_flex: wrote {high + 5}, reads back"):
        arm._write_verified("goal_position", ticks)


def test_one_silent_servo_leaves_the_others_valid(rig: SteppedArm) -> None:
    arm = rig.ready()
    rig.line.tamper = lambda reply: [] if reply.id == 3 else [reply]
    rig.run(0.1)
    for _ in range(20):
        rig.run(0.01)
        state = arm.observe()
        assert list(state.valid) == [True, True, False, True, True, True]
    rig.line.tamper = None
    rig.run(0.5)
    assert arm.observe().valid.all()


@pytest.mark.parametrize("seed", [38, 40, 46, 47])
def test_late_replies_to_one_reading_never_answer_another(rig: SteppedArm, seed: int) -> None:
    """Everything is late now and then, up to 0.2 s: readings of other registers pass by meanwhile."""
    rng = np.random.default_rng(seed)
    arm, lag = rig.ready(), 0.0
    rig.line.tamper = lambda reply: [replace(reply, due=reply.due + lag)]
    believed = 0
    for cycle in range(300):
        if rng.random() < 0.05:
            lag = float(rng.choice([0, 0, 0.003, 0.008, 0.02, 0.05, 0.1, 0.2, 0.06, 0.07]))
        start = rig.clock.now()
        try:
            state = arm.observe()
            believed += int(state.valid.sum())
            assert np.abs(state.position - rig.plant.position)[state.valid].max() < 0.05
        except BusError:
            pass
        assert arm.enabled.all() and arm.alarms() == {}
        arm.command(rig.robot.rest + 0.1 * np.sin(cycle / 30))
        if rig.clock.now() < start + 0.01:
            rig.clock.sleep_until(start + 0.01)
    assert believed > 300


def test_inspection(rig: SteppedArm) -> None:
    report = inspect_bus(rig.robot, rig.bus, cycles=20)
    assert report.problems == () and report.missing == ()
    assert {servo.firmware for servo in report.servos} == {"50"}
    servo(rig, 2).trip(TEMPERATURE)
    servo(rig, 3)._put("model_number", 1060)
    text = "\n".join(inspect_bus(rig.robot, rig.bus, cycles=5).problems)
    assert "elbow_flex (ID 3) reports temperature" in text
    assert "wrist_flex (ID 4) is model 1060, expected 1200 (XL330-M288)" in text


def test_an_unknown_protocol_or_model_is_named(rig: SteppedArm) -> None:
    with pytest.raises(UserError, match="protocol 'can'; there are drivers for feetech, dynamixel"):
        SerialArm(replace(rig.robot, protocol="can"), rig.bus)
    joints = (replace(rig.robot.joints[0], model="AX-12"), *rig.robot.joints[1:])
    with pytest.raises(UserError, match="no Dynamixel X servo called 'AX-12'; known are XL330-M288"):
        SerialArm(replace(rig.robot, joints=joints), rig.bus)


def test_the_watchdog_process_takes_over_from_the_servos_own(
    rig: SteppedArm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends when control has died: the servos have stopped by themselves, and are lowered all the same."""
    arm = rig.ready()
    last = rig.robot.rest + 0.3
    rig.run(1.0, last)
    rig.clock.advance(1.0)
    rig.line.advance(rig.clock.now())
    assert all(one.get("bus_watchdog") == -1 for one in rig.servos)  # type: ignore[attr-defined]
    monkeypatch.setattr("hardware.runtime.safety.watchdog.time.sleep", rig.clock.advance)
    said: list[str] = []
    ticks = arm.calibration.radians_to_ticks
    points = [ticks(last + share * (rig.robot.rest - last)).tolist() for share in np.linspace(0, 1, 20)]
    done = Takeover(rig.port, rig.arm.ids, said.append, arm.family).run(ticks(last).tolist(), points, 0.05)
    assert done and said == ["holding", "lowering the arm", "torque is off"]
    np.testing.assert_allclose(rig.plant.position, rig.robot.rest, atol=0.02)
    assert not any(one.get("torque_enable") for one in rig.servos)  # type: ignore[attr-defined]
