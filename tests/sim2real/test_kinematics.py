"""Kinematics against pinocchio, finite differences and themselves."""

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.model import kinematics
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
MODEL = ROBOT.model


def random_poses(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(MODEL.lower, MODEL.upper, (count, MODEL.n))


def test_all_joints_at_zero_put_the_tool_where_it_belongs() -> None:
    np.testing.assert_allclose(kinematics.tool_position(MODEL, np.zeros(6)), [0.391, 0, 0.226], atol=1e-3)


def test_poses_agree_with_pinocchio() -> None:
    pin = pytest.importorskip("pinocchio")
    other = pin.buildModelFromUrdf(str(ROBOT.urdf))
    data = other.createData()
    frame = other.getFrameId("tool", pin.FrameType.BODY)
    for q in random_poses(20):
        pin.framesForwardKinematics(other, data, q)
        position, rotation = kinematics.tool_pose(MODEL, q)
        np.testing.assert_allclose(position, data.oMf[frame].translation, atol=1e-12)
        np.testing.assert_allclose(rotation, data.oMf[frame].rotation, atol=1e-12)
        rotations, origins = kinematics.link_poses(MODEL, q)
        for i, name in enumerate(MODEL.link_names):
            link = data.oMf[other.getFrameId(name, pin.FrameType.BODY)]
            np.testing.assert_allclose(origins[i], link.translation, atol=1e-12)
            np.testing.assert_allclose(rotations[i], link.rotation, atol=1e-12)


def test_jacobian_is_the_derivative() -> None:
    step = 1e-6
    for q in random_poses(5, seed=1):
        jacobian = kinematics.tool_jacobian(MODEL, q)
        for j in range(MODEL.n):
            d = np.zeros(MODEL.n)
            d[j] = step
            after, before = kinematics.tool_pose(MODEL, q + d), kinematics.tool_pose(MODEL, q - d)
            np.testing.assert_allclose(jacobian[:3, j], (after[0] - before[0]) / (2 * step), atol=1e-8)
            spin = (after[1] - before[1]) / (2 * step) @ kinematics.tool_pose(MODEL, q)[1].T
            np.testing.assert_allclose(jacobian[3:, j], [spin[2, 1], spin[0, 2], spin[1, 0]], atol=1e-8)


def test_inverse_finds_reachable_positions_again() -> None:
    found = 0
    rng = np.random.default_rng(2)
    for q in random_poses(100, seed=3):
        target = kinematics.tool_position(MODEL, q)
        start = np.clip(q + rng.normal(0, 0.3, MODEL.n), MODEL.lower, MODEL.upper)
        result = kinematics.inverse(MODEL, target, start=start)
        assert ((result.q >= MODEL.lower) & (result.q <= MODEL.upper)).all()
        np.testing.assert_allclose(
            result.position_error,
            np.linalg.norm(kinematics.tool_position(MODEL, result.q) - target),
            atol=1e-12,
        )
        found += result.position_error < 1e-4
    assert found >= 97


def test_inverse_with_approach_and_roll() -> None:
    down = np.array([0.0, 0.0, -2.0])
    result = kinematics.inverse(
        MODEL, np.array([0.25, 0.05, 0.02]), start=ROBOT.home, approach=down, roll=0.3
    )
    assert result.position_error < 1e-6 and result.angle_error < 1e-4
    rotation = kinematics.tool_pose(MODEL, result.q)[1]
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1], atol=1e-4)
    np.testing.assert_allclose(
        rotation[:, 0], kinematics.reference_heading(np.array([0, 0, -1.0]), 0.3), atol=1e-4
    )


def test_position_wins_where_the_direction_cannot_be_had() -> None:
    far = np.array([0.36, 0.0, 0.05])
    result = kinematics.inverse(MODEL, far, start=ROBOT.home, approach=np.array([0.0, 0.0, -1.0]))
    assert result.position_error < 1e-3
    assert result.angle_error > 0.05


def test_what_is_not_free_stays() -> None:
    free = np.ones(6, dtype=bool)
    free[0] = free[5] = False
    start = np.array(ROBOT.home)
    result = kinematics.inverse(MODEL, np.array([0.3, 0.0, 0.1]), start=start, free=free)
    assert result.q[0] == start[0] and result.q[5] == start[5]
    assert result.position_error < 1e-4


def test_inverse_refuses_a_roll_without_approach() -> None:
    with pytest.raises(UserError, match="approach direction"):
        kinematics.inverse(MODEL, np.zeros(3), start=ROBOT.home, roll=1.0)
    with pytest.raises(UserError, match="must not be zero"):
        kinematics.inverse(MODEL, np.zeros(3), start=ROBOT.home, approach=np.zeros(3))
