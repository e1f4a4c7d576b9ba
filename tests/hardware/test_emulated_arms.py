"""Whole emulated arms on a stepped clock: of both servo families, with physics behind them, and two at a time."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from hardware.emulator.assembly import emulated_calibration
from hardware.emulator.hand import HandPath
from hardware.emulator.stepped import SteppedArm
from hardware.emulator.world_plant import WorldPlant, stage_task
from hardware.servos.dynamixel.bus import DynamixelBus
from sim2real.clock import SimulatedClock
from sim2real.errors import BusError
from sim2real.robot import Robot

SO101, KOCH = Robot.load("so101"), Robot.load("koch")


def world_arm(robot: Robot, clock: SimulatedClock | None = None) -> SteppedArm:
    plant = WorldPlant(robot, emulated_calibration(robot), task=stage_task(None, robot))
    return SteppedArm(robot, plant, clock=clock)


@pytest.fixture(scope="module")
def dynamixel() -> SteppedArm:
    rig = world_arm(KOCH)
    rig.ready()
    return rig


def world(rig: SteppedArm) -> WorldPlant:
    return cast(WorldPlant, rig.plant)


def go(rig: SteppedArm, goal: np.ndarray, seconds: float) -> None:
    start = rig.arm.observe().position.copy()
    steps = round(seconds * 100)
    for k in range(steps):
        rig.run(0.01, start + (goal - start) * min(1.0, (k + 1) / (0.7 * steps)))


@pytest.mark.parametrize("name", ["so100", "openmanipulator_x"])
def test_every_robot_moves_home_and_is_let_go(name: str) -> None:
    rig = world_arm(Robot.load(name))
    rig.ready()
    go(rig, rig.robot.home, 2.0)
    state = rig.arm.observe()
    assert state.valid.all() and not state.status.any()
    np.testing.assert_allclose(state.position, rig.robot.home, atol=np.radians(4))
    rig.arm.relax()
    rig.run(1.0)
    assert world(rig).world.truth().tool_position[2] < 0.1
    world(rig).close()


def test_dynamixels_move_the_arm_and_it_is_read_back(dynamixel: SteppedArm) -> None:
    go(dynamixel, KOCH.home, 2.0)
    state = dynamixel.arm.observe()
    assert state.valid.all() and not state.status.any()
    np.testing.assert_allclose(state.position, KOCH.home, atol=np.radians(3))
    assert cast(DynamixelBus, dynamixel.bus).fast
    np.testing.assert_allclose(state.voltage, [11.6] * 2 + [5.0] * 4, atol=0.2)


def test_a_dead_master_is_noticed_by_the_servos(dynamixel: SteppedArm) -> None:
    go(dynamixel, KOCH.home, 1.0)
    far = KOCH.home.copy()
    far[0] += 1.0
    dynamixel.arm.command(far)
    dynamixel.clock.advance(1.0)
    dynamixel.line.advance(dynamixel.clock.now())
    plant = world(dynamixel)
    stopped = plant.position.copy()
    assert [servo.get("bus_watchdog") for servo in dynamixel.servos] == [-1] * 6
    dynamixel.clock.advance(0.2)
    dynamixel.line.advance(dynamixel.clock.now())
    np.testing.assert_allclose(plant.position, stopped, atol=0.02)
    dynamixel.arm.enable()
    assert [servo.get("bus_watchdog") > 0 for servo in dynamixel.servos] == [True] * 6


def set_mode(rig: SteppedArm, id: int, mode: int) -> None:
    for register, value in (("torque_enable", 0), ("operating_mode", mode), ("torque_enable", 1)):
        rig.bus.write(id, register, value)


@pytest.fixture
def pan(dynamixel: SteppedArm) -> Iterator[SteppedArm]:
    """The arm held at home, except joint 1 (an XL430 about the vertical) and 5 (an XL330 along the wrist)."""
    go(dynamixel, KOCH.home, 1.5)
    for servo in dynamixel.servos:
        dynamixel.bus.write(servo.id, "bus_watchdog", 0)
    yield dynamixel
    for id in (1, 5):
        set_mode(dynamixel, id, 3)
    dynamixel.arm.relax()
    dynamixel.arm.enable()


def quiet(rig: SteppedArm, seconds: float) -> None:
    rig.clock.advance(seconds)
    rig.line.advance(rig.clock.now())


def test_velocity_mode_turns_at_the_speed_it_is_told(pan: SteppedArm) -> None:
    set_mode(pan, 1, 1)
    pan.bus.write(1, "goal_velocity", 30)
    for _ in range(5):
        quiet(pan, 0.1)
    assert world(pan).velocity[0] == pytest.approx(30 * 0.229 * 2 * np.pi / 60, rel=0.1)
    assert pan.bus.read(1, "present_velocity") == pytest.approx(30, abs=4)
    pan.bus.write(1, "goal_velocity", 0)
    for _ in range(4):
        quiet(pan, 0.1)
    assert abs(world(pan).velocity[0]) < 0.02


def test_pwm_mode_sets_the_duty(pan: SteppedArm) -> None:
    set_mode(pan, 1, 16)
    pan.bus.write(1, "goal_pwm", -177)
    for _ in range(3):
        quiet(pan, 0.1)
    plant = world(pan)
    assert plant.world.servo.duty[0] == pytest.approx(-0.2)
    assert plant.velocity[0] < -0.3
    pan.bus.write(1, "goal_pwm", 0)
    for _ in range(3):
        quiet(pan, 0.1)
    assert abs(plant.velocity[0]) < 0.02


def test_current_mode_drives_the_current(pan: SteppedArm) -> None:
    set_mode(pan, 5, 0)
    pan.bus.write(5, "goal_current", 300)
    for _ in range(2):
        quiet(pan, 0.05)
        assert world(pan).world.servo.current[4] == pytest.approx(0.3, abs=0.04)
    assert pan.bus.read(5, "present_current") == pytest.approx(300, abs=40)


def test_a_position_with_little_current_is_soft(pan: SteppedArm) -> None:
    set_mode(pan, 5, 5)
    pan.bus.write(5, "goal_current", 80)
    here = pan.bus.read(5, "present_position")
    pan.bus.write(5, "goal_position", here + 400)
    peak = 0.0
    for _ in range(30):
        quiet(pan, 0.02)
        peak = max(peak, abs(float(world(pan).world.servo.current[4])))
    assert peak < 0.1


def test_two_arms_on_one_clock_do_not_disturb_each_other() -> None:
    clock = SimulatedClock()
    leader, follower = world_arm(SO101, clock), world_arm(KOCH, clock)
    leader.arm.identify()
    leader.arm.configure()
    follower.ready()
    go(follower, KOCH.home, 1.5)
    goal = np.clip(KOCH.home + 0.2, SO101.lower + 0.05, SO101.upper - 0.05)
    leader.plant.hand.follow(HandPath.through([(1.5, list(KOCH.home)), (3.0, list(goal)), (4.0, list(goal))]))
    for _ in range(350):
        start = clock.now()
        follower.arm.observe()
        follower.arm.command(np.clip(leader.arm.observe().position, KOCH.lower, KOCH.upper))
        clock.sleep_until(start + 0.01)
    assert not leader.arm.enabled.any() and follower.arm.enabled.all()
    np.testing.assert_allclose(leader.plant.position, goal, atol=np.radians(1.5))
    np.testing.assert_allclose(follower.plant.position, leader.plant.position, atol=np.radians(4))
    # A fault on one line stays there.
    leader.line.tamper = lambda reply: []
    assert follower.arm.observe().valid.all()
    with pytest.raises(BusError):
        leader.arm.observe()
