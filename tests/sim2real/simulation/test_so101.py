"""The description of the SO-101: frames, inertias, fingers, colours."""

import colorsys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pybullet as bullet
import pytest

from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot
from sim2real.simulation.scene import CONTACT_DAMPING, CONTACT_STIFFNESS, joint_indices
from sim2real.simulation.world import World


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot.load("so101")


def test_the_tool_is_where_the_real_one_is_at_zero(robot: Robot) -> None:
    position, rotation = tool_pose(robot.model, np.zeros(6))
    np.testing.assert_allclose(position, (0.391, 0.0, 0.226), atol=6e-4)
    # Its z axis points out of the gripper, which is forward and slightly down here.
    assert rotation[0, 2] > 0.99


def test_bullet_and_the_model_agree_on_the_tool(arm: World) -> None:
    # The world's own arm has no link for it (fixed links are merged): Bullet is asked for the whole arm.
    client, rng = bullet.connect(bullet.DIRECT), np.random.default_rng(0)
    whole = bullet.loadURDF(str(arm.robot.urdf), useFixedBase=True, physicsClientId=client)
    joints = joint_indices(client, whole, arm.robot)
    tool = next(
        i
        for i in range(bullet.getNumJoints(whole, physicsClientId=client))
        if bullet.getJointInfo(whole, i, physicsClientId=client)[12] == b"tool"
    )

    def frame(body: int, link: int, of: int) -> tuple[float, ...]:
        state = bullet.getLinkState(body, link, computeForwardKinematics=1, physicsClientId=of)
        return (*state[4], *state[5])

    for _ in range(5):
        q = rng.uniform(arm.robot.lower, arm.robot.upper)
        arm.reset(position=q)
        for joint, angle in zip(joints, q):
            bullet.resetJointState(whole, joint, angle, physicsClientId=client)
        np.testing.assert_allclose(arm.truth().tool_position, frame(whole, tool, client)[:3], atol=1e-6)
        for mine, its in zip(joints, arm.bodies.joints):
            np.testing.assert_allclose(
                frame(arm.bodies.arm, its, arm.client), frame(whole, mine, client), atol=1e-6
            )
    bullet.disconnect(client)


def test_fingertips_touch_at_the_lower_limit_and_open_upwards(arm: World) -> None:
    gaps = []
    for angle in (arm.robot.lower[5], 0.1, 0.8):
        q = np.zeros(6)
        q[5] = angle
        arm.reset(position=q)
        bullet.performCollisionDetection(physicsClientId=arm.client)
        finger, jaw = arm.bodies.fingers
        points = bullet.getClosestPoints(
            arm.bodies.arm, arm.bodies.arm, 0.2, finger, jaw, physicsClientId=arm.client
        )
        # At the jaw's tip only: further back the two are joined by the hinge.
        tip = max(p[6][0] for p in points)
        gaps.append(min(p[8] for p in points if p[6][0] > tip - 1e-3))
    assert abs(gaps[0]) < 2e-3
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[1] == pytest.approx(0.024, abs=0.006)


def test_no_colour_of_the_arm_looks_red_or_green(robot: Robot) -> None:
    colours = [
        [float(word) for word in element.get("rgba", "").split()]
        for element in ElementTree.parse(robot.urdf).iter("color")
    ]
    assert len(colours) >= 3
    for r, g, b, _ in colours:
        hue, saturation, value = colorsys.rgb_to_hsv(r, g, b)
        assert saturation * value < 0.25, (r, g, b, hue)


def test_the_fingers_contacts_are_soft(arm: World) -> None:
    for link in arm.bodies.fingers:
        info = bullet.getDynamicsInfo(arm.bodies.arm, link, physicsClientId=arm.client)
        assert info[8:10] == (CONTACT_DAMPING, CONTACT_STIFFNESS)
