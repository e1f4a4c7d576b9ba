"""Every robot that ships: its description against an independent reader, and its arm in the simulated world."""

import numpy as np
import pytest

from sim2real.calibration import Calibration
from sim2real.gate.gate import Gate
from sim2real.model import kinematics
from sim2real.robot import Robot, robot_names
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

NAMES = ("koch", "openmanipulator_x", "so100", "so101")


@pytest.fixture(params=NAMES)
def robot(request: pytest.FixtureRequest) -> Robot:
    return Robot.load(request.param)


def test_these_are_the_robots() -> None:
    assert robot_names() == list(NAMES)


def test_poses_and_calibration_fit_the_limits(robot: Robot) -> None:
    for pose in (robot.home, robot.rest):
        assert (pose > robot.lower + 0.04).all() and (pose < robot.upper - 0.04).all()
    for i in robot.arm:
        # A calibrated range is symmetric about the joint's zero.
        assert robot.lower[i] == pytest.approx(-robot.upper[i], abs=0.11)
    nominal = Calibration.nominal(robot)
    Calibration.create(nominal.table(), robot)
    assert (nominal.lower <= robot.lower + 0.11).all() and (nominal.upper >= robot.upper - 0.11).all()


def test_kinematics_and_masses_agree_with_pinocchio(robot: Robot) -> None:
    pin = pytest.importorskip("pinocchio")
    from sim2real.model.dynamics import mass_and_bias

    other = pin.buildModelFromUrdf(str(robot.urdf))
    assert list(other.names[1:]) == list(robot.joint_names)
    data = other.createData()
    frame = other.getFrameId(robot.tool_link, pin.FrameType.BODY)
    rng = np.random.default_rng(3)
    for q in rng.uniform(robot.lower, robot.upper, (10, robot.n)):
        pin.framesForwardKinematics(other, data, q)
        position, rotation = kinematics.tool_pose(robot.model, q)
        np.testing.assert_allclose(position, data.oMf[frame].translation, atol=1e-12)
        np.testing.assert_allclose(rotation, data.oMf[frame].rotation, atol=1e-12)
        speed = rng.normal(size=robot.n)
        mass, bias = mass_and_bias(robot.model, q, speed)
        np.testing.assert_allclose(bias, pin.nonLinearEffects(other, data, q, speed), atol=1e-9)
        upper = np.triu(pin.crba(other, data, q))
        np.testing.assert_allclose(np.triu(mass), upper, atol=1e-9)


def test_the_gate_leaves_home_and_rest_alone(robot: Robot) -> None:
    for pose in (robot.home, robot.rest):
        gate = Gate(robot)
        gate.reset(pose)
        assert {gate.step(pose) for _ in range(30)} == {0}
        np.testing.assert_allclose(gate.position, pose, atol=1e-9)


def test_it_holds_moves_and_settles(robot: Robot) -> None:
    with World(robot) as world:
        world.reset(position=robot.home)
        world.advance(None, 300)
        assert np.abs(np.degrees(world.position - robot.home)).max() < 2.0
        # A wave of the whole arm, through the gate.
        gate = Gate(robot)
        gate.reset(world.goal)
        goal = robot.home + 0.25 * np.where(robot.home > 0, -1.0, 1.0)
        for _ in range(150):
            gate.step(goal)
            world.advance(gate.position, 3)
        assert np.abs(np.degrees(world.position - gate.position)).max() < 3.0
        np.testing.assert_allclose(gate.position, goal, atol=1e-6)
        # Let go at rest, it stays about where it is: rest is where the arm lies.
        world.reset(position=robot.rest)
        before = world.truth().tool_position[2]
        world.servo.enabled[:] = 0
        world.advance(None, 300)
        assert abs(world.truth().tool_position[2] - before) < 0.03
        assert np.abs(world.velocity).max() < 0.5
        picture = world.render("front", 80, 60)
        assert picture.shape == (60, 80, 3) and picture.std() > 5


def test_fingers_meet_where_the_gripper_is_shut(robot: Robot) -> None:
    import pybullet

    client = pybullet.connect(pybullet.DIRECT)
    try:
        arm = pybullet.loadURDF(str(robot.urdf), useFixedBase=True, physicsClientId=client)
        links = {
            pybullet.getJointInfo(arm, k, physicsClientId=client)[1].decode(): k
            for k in range(pybullet.getNumJoints(arm, physicsClientId=client))
        }
        jaw = links["gripper"]
        hand = pybullet.getJointInfo(arm, jaw, physicsClientId=client)[16]

        def tip_gap(angle: float) -> float:
            """m between the fingertips: of the pairs of points of both links, near the tool."""
            pybullet.resetJointState(arm, jaw, angle, physicsClientId=client)
            tool = np.array(pybullet.getLinkState(arm, links["tool"], physicsClientId=client)[4])
            points = pybullet.getClosestPoints(arm, arm, 0.2, hand, jaw, physicsClientId=client)
            near = [p[8] for p in points if np.linalg.norm(np.array(p[5]) - tool) < 0.025]
            return min(near, default=0.2)

        g = robot.gripper
        assert abs(tip_gap(float(robot.lower[g]))) < 0.005
        assert tip_gap(float(robot.upper[g])) > 0.03
    finally:
        pybullet.disconnect(client)


def test_the_experts_know_the_so100_as_well() -> None:
    robot, task = Robot.load("so100"), load_task("lift")
    with World(robot, task) as world:
        assert rollout(world, task.expert(robot), privileged=True).success
