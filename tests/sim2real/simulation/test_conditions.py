"""What servos share, and what changes slowly while an episode runs."""

import numpy as np
import pytest

from pipelines.identification.replay import arm_parameters
from sim2real.model import servo
from sim2real.parameters import Draw
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task


def pushing(world: World, values: dict[str, float]) -> np.ndarray:
    """Parameters (n, F) while every motor is told to go where it cannot."""
    world.reset(Draw(values=values))
    world.advance(world.goal + 0.5 * np.sign(world.robot.home + 0.1), 60)
    return np.array(world.servo.parameters)


def test_the_supply_sags_by_its_resistance_times_the_current(arm: World) -> None:
    slow = {f"servo.{j}.armature": 1.0 for j in arm.robot.joint_names}
    sagging = pushing(arm, slow | {"servo.sag": 0.2, "servo.voltage": 0.95})
    nominal = servo.nominal_parameters(arm.robot)[:, servo.VOLTAGE]
    drop = 0.95 * nominal - sagging[:, servo.VOLTAGE]
    assert np.allclose(drop, drop[0]) and drop[0] > 0.3
    # All motors pull at full duty by now, so the last step's current is this step's.
    drawn = float(np.sum(arm.servo.duty * arm.servo.current))
    assert drop[0] == pytest.approx(0.2 * drawn, rel=0.02)


@pytest.mark.parametrize("resistance", [0.3, 5.0, 100.0])
def test_no_resistance_makes_the_supply_oscillate(arm: World, resistance: float) -> None:
    arm.reset(Draw(values={"servo.sag": resistance}))
    goal = arm.goal
    voltages = []
    for k in range(120):
        arm.advance(goal + 0.3 * np.sin(k / 20), 1)
        voltages.append(arm.servo.parameters[0, servo.VOLTAGE])
    full = servo.nominal_parameters(arm.robot)[0, servo.VOLTAGE]
    assert min(voltages) >= 0.5 * full and max(voltages) <= full
    # Up and down again from step to step it does not go.
    steps = np.diff(voltages)
    assert (np.abs(steps[1:] + steps[:-1]) >= 0.5 * np.abs(steps[1:] - steps[:-1]))[
        np.abs(steps[1:]) > 0.05
    ].mean() > 0.8


def test_sag_is_forgotten_by_the_next_episode(arm: World) -> None:
    before = pushing(arm, {})
    pushing(arm, {"servo.sag": 1.0})
    assert np.array_equal(pushing(arm, {}), before)


def test_warm_motors_have_more_resistance_and_less_torque(arm: World) -> None:
    cold, warm = pushing(arm, {}), pushing(arm, {"servo.temperature": 40.0})
    assert warm[:, servo.RESISTANCE] == pytest.approx(cold[:, servo.RESISTANCE] * (1 + 40 * 0.00393))
    assert warm[:, servo.TORQUE_CONSTANT] == pytest.approx(cold[:, servo.TORQUE_CONSTANT] * (1 - 40 * 0.0011))


def test_the_grip_lags_alone(arm: World) -> None:
    delay = servo.nominal_parameters(arm.robot)[:, servo.COMMAND_DELAY]
    delay[arm.robot.gripper] += 0.1
    assert pushing(arm, {"gripper.lag": 0.1})[:, servo.COMMAND_DELAY] == pytest.approx(delay)


def test_the_batched_model_knows_the_same_conditions(arm: World) -> None:
    values = {"servo.voltage": 0.9, "servo.friction": 1.3, "servo.temperature": 20.0, "gripper.lag": 0.05}
    arm.reset(Draw(values=values))
    assert np.array_equal(arm_parameters(arm.robot, values)[0], arm.servo.parameters)


def test_a_drifting_camera_is_believed_to_stand_still() -> None:
    """What the detector reports wanders by as much as the picture does."""
    with World("so101", load_task("push")) as world:
        quiet = {"detector.noise": 0.0, "detector.errors": 0.0}
        where = []
        for drift in ({}, {"camera.drift": 0.004}, {"camera.drift_turn": 0.008}):
            world.reset(Draw(seed=3, values=quiet | drift))
            first, stood = world.detector.percept(0.0).objects["cube"].position, world.camera()
            world.advance(world.goal, 600)
            seen = world.detector.percept(world.time).objects["cube"].position
            cube = world.truth().objects["cube"].position
            # The pixel at which the cube now is, taken by someone who knows the camera as it stood.
            expected = stood.on_plane(world.camera().project(cube), first[2])
            where.append((np.linalg.norm(seen - first), np.linalg.norm(seen - expected)))
        (still, _), (shifted, off), (turned, off_turned) = where
        assert still < 1e-4
        assert 0.001 < shifted < 0.03 and 0.003 < turned < 0.05
        # The picture's camera moves in small steps, a quarter of a second apart.
        assert off < 0.002 and off_turned < 0.002


def test_pictures_of_a_drifting_camera_follow_it() -> None:
    with World("so101", load_task("push")) as world:
        world.reset(Draw(seed=3, values={"camera.drift": 0.01}))
        first, pose = world.render(width=160, height=120), world.camera().camera_to_base
        world.advance(world.goal, 300)
        second, later = world.render(width=160, height=120), world.camera().camera_to_base
        assert np.linalg.norm(later[:3, 3] - pose[:3, 3]) == pytest.approx(0.01)
        assert np.abs(first.astype(int) - second).mean() > 0.3
        world.reset(Draw(seed=3, values={"camera.drift": 0.01}))
        assert np.array_equal(world.render(width=160, height=120), first)
