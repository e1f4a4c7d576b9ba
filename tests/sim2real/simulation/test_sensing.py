"""Joint readings and the imitated detector, against what they are declared to be."""

import numpy as np
import pybullet as bullet
import pytest

from sim2real.observation import MAX_AGE, observed_names, standard_features
from sim2real.parameters import Draw
from sim2real.simulation.disturbance import CommandLine
from sim2real.simulation.rollout import rollout
from sim2real.simulation.sensing import TICK, cube_yaw
from sim2real.simulation.world import World

EXACT = {"detector.noise": 0.0, "detector.yaw_noise": 0.0, "detector.errors": 0.0}


def test_the_observation_has_the_standard_keys_and_sizes(push: World) -> None:
    push.reset()
    names = observed_names(push.objects)
    assert names == (
        *("joint_position", "joint_velocity", "joint_command", "goal"),
        *("object.cube.position", "object.cube.yaw", "object.cube.age", "object.cube.spread"),
        *("object.mark.position", "object.mark.yaw", "object.mark.age", "object.mark.spread"),
    )
    for privileged in (False, True):
        observation = push.observe(privileged=privileged)
        assert tuple(observation) == names
        for feature in standard_features(names, 6):
            assert observation[feature.name].shape == (feature.size,)


def test_angles_are_whole_encoder_steps(arm: World) -> None:
    arm.reset(Draw(values={"sensor.noise": 0.003}))
    arm.advance(arm.goal + 0.2, 31)
    steps = arm.observe()["joint_position"] / TICK
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_readings_are_as_old_as_declared(arm: World) -> None:
    arm.reset(Draw(values={"sensor.delay": 0.02}))
    past = []
    for k in range(60):
        past.append((arm.sensed_position, arm.sensed_velocity))
        observation = arm.observe()
        if k > 10:
            np.testing.assert_allclose(observation["joint_position"], past[k - 6][0], atol=TICK)
            np.testing.assert_allclose(observation["joint_velocity"], past[k - 6][1], atol=TICK)
        arm.advance(arm.robot.home + 0.4 * np.sin(k / 10), 1)
    assert np.abs(past[-1][0] - past[-7][0]).max() > 5 * TICK


def test_noise_has_the_declared_spread(arm: World) -> None:
    arm.reset(Draw(seed=4, values={"sensor.noise": 0.005, "sensor.velocity_noise": 0.05}))
    arm.advance(None, 300)
    rows = [arm.observe() for _ in range(1000)]
    angles = np.array([row["joint_position"] for row in rows]) - arm.sensed_position
    speeds = np.array([row["joint_velocity"] for row in rows])
    assert angles.std() == pytest.approx(0.005, rel=0.05)
    assert speeds.std() == pytest.approx(0.05, rel=0.05)
    assert abs(angles.mean()) < 0.0005


def test_an_offset_shifts_the_encoder_not_the_arm(arm: World) -> None:
    arm.reset(Draw(values={"servo.wrist_roll.offset": 0.03}))
    assert arm.position[4] == pytest.approx(arm.robot.home[4])
    assert arm.observe()["joint_position"][4] == pytest.approx(arm.robot.home[4] + 0.03, abs=TICK)


def test_a_cube_on_the_table_is_found_where_it_is(lift: World) -> None:
    for seed in range(4):
        values = EXACT | {"task.cube.radius": 0.18 + 0.02 * seed, "task.cube.angle": 0.4 - 0.25 * seed}
        lift.reset(Draw(seed=seed, values=values))
        seen, true = lift.observe(), lift.observe(privileged=True)
        np.testing.assert_allclose(seen["object.cube.position"], true["object.cube.position"], atol=2e-4)
        np.testing.assert_allclose(seen["object.cube.yaw"], true["object.cube.yaw"], atol=2e-2)
        assert 0 < seen["object.cube.age"][0] < 0.06 + 2 / 30
        assert true["object.cube.age"][0] == 0.0


def test_detections_are_biased_and_spread_as_declared(lift: World) -> None:
    values = {
        "detector.noise": 0.002,
        "detector.yaw_noise": 0.0,
        "detector.bias_x": 0.004,
        "detector.errors": 0.0,
    }
    errors = []
    lift.reset(Draw(seed=1, values=values))
    for k in range(300):
        lift.advance(None, 1)
        seen = lift.detector.percept(lift.time + k).objects["cube"].position
        errors.append(seen - lift.truth().objects["cube"].position)
    errors = np.array(errors)
    assert errors[:, 0].mean() == pytest.approx(0.004, abs=4e-4)
    assert abs(errors[:, 1].mean()) < 4e-4
    assert errors[:, :2].std(axis=0) == pytest.approx([0.002, 0.002], rel=0.2)
    np.testing.assert_allclose(errors[:, 2], 0.0, atol=5e-5)


def test_frames_come_at_the_declared_rate_and_age(lift: World) -> None:
    lift.reset(Draw(seed=2, values={"detector.rate": 10.0, "detector.latency": 0.1}))
    ages, values = [], []
    for _ in range(120):
        lift.advance(None, 5)
        observation = lift.observe()
        ages.append(observation["object.cube.age"][0])
        values.append(tuple(observation["object.cube.position"]))
    assert 0.1 - 1e-9 <= min(ages) <= 0.12
    assert 0.18 <= max(ages) <= 0.2 + 0.02
    assert len(set(values)) == pytest.approx(20, abs=1)


def test_a_lifted_cube_is_seen_on_its_ray_on_the_table_or_above(lift: World) -> None:
    draw = Draw(seed=3, values=EXACT | {"detector.latency": 0.0})
    rollout(lift, lift.task.expert(lift.robot), draw, privileged=True)
    lift.advance(None, 300)
    cube, eye = lift.truth().objects["cube"].position, lift.camera().position
    assert cube[2] > 0.05
    found = [lift.detector.percept(lift.time + k).objects.get("cube") for k in range(1, 200)]
    seen = [one for one in found if one is not None]
    assert len(seen) > 20
    for one in seen:
        along = (one.position[2] - eye[2]) / (cube[2] - eye[2])
        np.testing.assert_allclose(one.position, eye + along * (cube - eye), atol=1e-6)
        if not one.lifted:
            assert one.position[2] == pytest.approx(lift.objects[0].rest)
            assert np.linalg.norm(one.position[:2] - cube[:2]) > 0.03
    raised = [one for one in seen if one.lifted]
    assert 0.3 < len(raised) / len(seen) < 1.0
    assert np.mean([one.position[2] for one in raised]) == pytest.approx(cube[2], abs=0.01)


def test_a_hidden_cube_keeps_its_last_value_and_ages(lift: World) -> None:
    lift.reset(Draw(seed=1, values=EXACT))
    lift.advance(None, 60)
    before = lift.observe()
    half = (0.05, 0.05, 0.05)
    screen = bullet.createCollisionShape(bullet.GEOM_BOX, halfExtents=half, physicsClientId=lift.client)
    eye, cube = lift.camera().position, lift.truth().objects["cube"].position
    body = bullet.createMultiBody(
        0, screen, -1, (eye + 0.4 * (cube - eye)).tolist(), physicsClientId=lift.client
    )
    try:
        lift.advance(None, 150)
        hidden = lift.observe()
        np.testing.assert_allclose(hidden["object.cube.position"], before["object.cube.position"], atol=1e-4)
        assert hidden["object.cube.age"][0] > 0.4
        lift.advance(None, 900)
        assert lift.observe()["object.cube.age"][0] == MAX_AGE
    finally:
        bullet.removeBody(body, physicsClientId=lift.client)
    lift.advance(None, 60)
    assert lift.observe()["object.cube.age"][0] < 0.15


def test_the_mark_is_found_with_the_same_bias_as_the_cube(push: World) -> None:
    push.reset(Draw(values={"detector.bias_y": 0.003}))
    difference = push.observe()["goal"] - push.observe(privileged=True)["goal"]
    np.testing.assert_allclose(difference, (0.0, 0.003, 0.0), atol=1e-12)


def test_yaw_comes_from_the_axis_that_lies_flat() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    flat = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    assert cube_yaw(flat) % (np.pi / 2) == pytest.approx(0.3)
    # On its side the first axis points up.
    side = flat @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    assert cube_yaw(side) % (np.pi / 2) == pytest.approx(0.3)


def test_commands_are_lost_as_often_and_in_bursts_as_declared() -> None:
    values = {
        "command.delay": 0.01,
        "command.jitter": 0.004,
        "command.dropout": 0.1,
        "command.burst": 3.0,
    }
    line = CommandLine(values, np.random.default_rng(0))
    sent = [line.send() for _ in range(60_000)]
    lost = np.isnan(sent)
    arrived = np.array(sent)[~lost]
    assert lost.mean() == pytest.approx(0.1, rel=0.07)
    bursts = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]]))))[::2]
    assert bursts.mean() == pytest.approx(3.0, rel=0.07)
    assert 0.01 <= arrived.min() < 0.0101 and 0.0139 < arrived.max() <= 0.014
