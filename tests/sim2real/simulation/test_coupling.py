"""The servo model coupled to Bullet: what must hold whatever the parameters are."""

import numpy as np
import pytest

from sim2real.model import servo
from sim2real.model.dynamics import mass_and_bias
from sim2real.model.kinematics import inverse
from sim2real.parameters import Draw
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from tests.sim2real.simulation.draws import random_draw

MECHANICS = ("servo.", "link.", "payload.", "world.gravity", "world.tilt")


@pytest.mark.parametrize("seed", range(4))
def test_the_arm_droops_as_far_as_its_stiffness_and_friction_say(arm: World, seed: int) -> None:
    draw = Draw() if seed == 0 else random_draw(arm.parameters, seed, MECHANICS)
    values = dict(draw.values)
    for name in arm.parameters:
        # Terms that move the point of balance in ways that the formula below leaves out.
        if name.endswith((".backlash", ".stribeck", ".load_motor", ".load_external")):
            values[name] = 0.0
    arm.reset(Draw(values=values))
    goal = arm.goal
    arm.advance(None, 900)
    assert np.abs(arm.velocity).max() < 1e-6
    v = arm._coupling.views
    p = v.parameters
    load = mass_and_bias(
        arm.robot.model, arm.position, np.zeros(6), inertials=v.inertials, gravity=v.gravity
    )[1]
    stiffness = p[:, servo.TORQUE_CONSTANT] / p[:, servo.RESISTANCE] * p[:, servo.VOLTAGE] * p[:, servo.KP]
    error = goal - arm.sensed_position
    pull = stiffness * np.sign(error) * np.maximum(np.abs(error) - p[:, servo.DEAD_BAND], 0.0)
    # What the motor gives differs from the load by no more than the dry friction.
    assert (np.abs(pull - load) <= p[:, servo.COULOMB] + 1e-6).all()
    assert np.abs(error).max() > np.radians(0.2)


def test_free_motion_follows_the_arm_with_armature(arm: World) -> None:
    """Against the same model integrated sixteen times as finely, without Bullet."""
    rng = np.random.default_rng(3)
    frequency, phase = rng.uniform(0.3, 0.9, (3, 6)), rng.uniform(0, 6, (3, 6))
    size = np.array([0.3, 0.15, 0.2, 0.25, 0.5, 0.2]) * rng.uniform(0.3, 0.8, (3, 6))
    middle = np.array([0.0, -0.3, 0.0, 0.3, 0.0, 0.7])

    def goal(t: float) -> np.ndarray:
        return middle + np.sum(size * (np.sin(2 * np.pi * frequency * t + phase) - np.sin(phase)), axis=0)

    arm.reset(Draw(values={f"servo.{j}.command_delay": 0.0 for j in arm.robot.joint_names}), position=middle)
    parameters = arm._coupling.views.parameters.copy()
    fine, dt = 16, 1 / 4800
    command, state = servo.nominal_command(6), np.zeros((6, servo.STATE_COLUMNS))
    drive, speed, following = np.zeros((6, servo.DRIVE_COLUMNS)), np.zeros(6), np.zeros(6)
    q, free = middle.copy(), np.full(6, np.inf)
    servo.reset_into(parameters, q, command, state)
    # The gripper's servo has a torque limit in its registers.
    command[:, servo.TORQUE_LIMIT] = arm.servo.duty_limit
    errors, speeds = [], []
    for tick in range(300):
        arm.advance(goal(tick / 100), 3)
        command[:, servo.GOAL] = goal(tick / 100)
        for _ in range(3 * fine):
            mass, bias = mass_and_bias(arm.robot.model, q, speed)
            servo.drive_into(parameters, command, state, q, dt, drive)
            servo.solve_velocity_into(
                mass, bias, np.zeros(6), speed, parameters, command, state, drive, dt, -free, free, following
            )
            speed = following.copy()
            q = q + dt * speed
        errors.append(np.degrees(arm.position - q))
        speeds.append(np.degrees(np.abs(speed)))
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    assert np.max(speeds, axis=0).min() > 15  # deg/s: it did move
    assert rms.max() < 0.35, rms
    assert rms.mean() < 0.15, rms


def test_the_torque_that_contact_makes_is_found(arm: World) -> None:
    """Pushed with a known force at rest, τc must become Jᵀf."""
    arm.reset()
    arm.advance(None, 300)
    force = np.array([0.0, 1.5, 0.0])
    for _ in range(300):
        arm.bodies.kick(arm.bodies.joints[4], tuple(force))
        arm.advance(None, 1)
    position = arm.position
    from sim2real.model.kinematics import link_poses, tool_jacobian

    # `kick` acts at the link's centre of mass; take the Jacobian there.
    rotations, origins = link_poses(arm.robot.model, position)
    point = origins[4] + rotations[4] @ arm.robot.model.com[4]
    jacobian = tool_jacobian(arm.robot.model, position)
    tool = arm.truth().tool_position
    linear = jacobian[:3] - np.cross(tool - point, jacobian[3:].T).T * -1.0
    expected = linear.T @ force
    expected[5] = 0.0
    found = arm._coupling.views.contact
    assert abs(expected[0]) > 0.1
    np.testing.assert_allclose(found[:5], expected[:5], atol=0.02 * np.abs(expected).max() + 1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_pressing_the_table_is_quiet(lift: World, seed: int) -> None:
    draw = Draw() if seed == 0 else random_draw(lift.parameters, seed, ("servo.", "link.", "payload."))
    # Without backlash, which may well let a loaded joint tick to and fro.
    values = {n: 0.0 if n.endswith(".backlash") else v for n, v in draw.values.items()}
    lift.reset(Draw(values=values))
    place = np.array([0.24, -0.08 + 0.04 * seed, -0.03])
    goal = inverse(
        lift.robot.model, place, approach=np.array([0.0, 0.0, -1.0]), start=np.array(lift.robot.home)
    ).q
    goal[5] = 0.2
    start = lift.goal
    for k in range(100):
        lift.advance(start + (goal - start) * (k + 1) / 100, 3)
    lift.advance(None, 300)
    assert np.abs(lift._coupling.views.contact).max() > 0.3, "it must press"
    speeds = []
    for _ in range(150):
        lift.advance(None, 1)
        speeds.append(lift.velocity)
    assert np.sqrt(np.mean(np.square(speeds))) < 0.01


def test_a_grasped_cube_stays_where_it_is(lift: World) -> None:
    episode = rollout(lift, lift.task.expert(lift.robot), Draw(seed=1), privileged=True)
    assert episode.success
    lift.advance(None, 150)
    assert lift.truth().objects["cube"].grasped
    before = lift.truth().objects["cube"].position - lift.truth().tool_position
    lift.advance(None, 900)
    after = lift.truth().objects["cube"].position - lift.truth().tool_position
    assert lift.truth().objects["cube"].grasped
    assert np.linalg.norm(after - before) < 1e-3
    assert np.abs(lift.velocity).max() < 0.02


def test_without_torque_the_arm_falls_and_friction_can_hold_it(arm: World) -> None:
    arm.reset()
    height = arm.truth().tool_position[2]
    arm.servo.enabled[:] = 0
    arm.advance(None, 900)
    assert arm.truth().tool_position[2] < height - 0.05
    assert np.abs(arm.velocity).max() < 1e-3
    assert np.abs(arm.servo.torque).max() == 0.0
    stiff = {f"servo.{joint}.coulomb": 2.0 for joint in arm.robot.joint_names}
    arm.reset(Draw(values=stiff))
    start = arm.position
    arm.servo.enabled[:] = 0
    arm.advance(None, 300)
    np.testing.assert_allclose(arm.position, start, atol=1e-6)


def test_damping_mode_falls_more_slowly_than_torque_off(arm: World) -> None:
    drops = []
    for mode in (0, 2):
        arm.reset()
        arm.servo.enabled[:] = mode
        arm.advance(None, 60)
        drops.append(float(np.abs(arm.position - arm.robot.home).max()))
    assert drops[1] < 0.6 * drops[0]


def test_servos_are_driven_one_by_one(arm: World) -> None:
    arm.reset()
    arm.servo.speed[0] = 0.5
    goal = arm.goal
    goal[0] += 0.6
    goal[4] += 0.6
    arm.advance(goal, 120)
    moved = arm.position - arm.robot.home
    assert 0.1 < moved[0] < 0.21  # 0.4 s at 0.5 rad/s, less the delay
    assert moved[4] > 0.5


def test_joints_stop_at_their_limits_and_come_back_from_beyond(arm: World) -> None:
    lower, upper = arm.robot.lower.copy(), arm.robot.upper.copy()
    try:
        narrow = upper.copy()
        narrow[0] = 0.2
        arm.set_joint_limits(lower, narrow)
        arm.reset()
        goal = arm.goal
        goal[0] = 1.0
        for _ in range(100):
            arm.advance(goal, 3)
        assert arm.position[0] == pytest.approx(0.2, abs=2e-3)
        assert abs(arm.velocity[0]) < 1e-2
        beyond = np.array(arm.robot.home)
        beyond[0] = 0.5
        arm.reset(position=beyond)
        arm.advance(None, 1)
        assert abs(arm.velocity[0]) <= 1.0 + 1e-6
        arm.advance(None, 300)
        assert arm.position[0] == pytest.approx(0.2, abs=2e-3)
    finally:
        arm.set_joint_limits(lower, upper)
