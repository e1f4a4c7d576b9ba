"""Reach with arms of any kind: too few joints, too many, joints that slide."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.experts.base import ReachExpert
from sim2real.experts.reaching import CLOSE, IterativeReachExpert
from sim2real.model.kinematics import tool_position, tool_span
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task
from tests.sim2real.simulation.draws import random_draw
from tests.sim2real.simulation.own_arms import inertial, joint, own_arm

EXAMPLES = Path(__file__).parents[3] / "examples"
ARMS = ("openmanipulator_x", str(EXAMPLES / "iiwa" / "iiwa.toml"), str(EXAMPLES / "panda" / "panda.toml"))

SCARA = (
    '<robot name="scara"><link name="base"/>'
    + joint("shoulder", "revolute", "base", "upper", "0 0 0.3", "0 0 1", -2.4, 2.4)
    + f'<link name="upper">{inertial(1.0, 0.1)}</link>'
    + joint("elbow", "revolute", "upper", "fore", "0.2 0 0", "0 0 1", -2.4, 2.4)
    + f'<link name="fore">{inertial(0.8, 0.1)}</link>'
    + joint("down", "prismatic", "fore", "quill", "0.2 0 0", "0 0 -1", 0.0, 0.28)
    + f'<link name="quill">{inertial(0.4)}</link><link name="tool"/>'
    '<joint name="end" type="fixed"><parent link="quill"/><child link="tool"/></joint></robot>'
)
SCARA_HEAD = """name = "scara"
urdf = "own.urdf"
tool_link = "tool"
[rates]
policy = 30
command = 100
physics = 300
[poses]
home = [-0.4, 0.9, 0.1]
rest = [-0.4, 0.9, 0.05]
"""
SCARA_JOINTS = "".join(
    f'[[joints]]\nname = "{name}"\nservo_id = {i}\nvelocity = {v}\nacceleration = {8 * v}\njerk = {320 * v}\n'
    for i, (name, v) in enumerate((("shoulder", 2.5), ("elbow", 2.5), ("down", 0.3)), 1)
)


def test_arms_that_point_keep_their_closed_form() -> None:
    for name in ("so101", "so100", "koch"):
        assert isinstance(load_task("reach").expert(Robot.load(name)), ReachExpert)


@pytest.mark.parametrize("name", ARMS)
def test_the_joints_of_a_goal_are_within_limits_and_reach_it(name: str) -> None:
    robot = Robot.load(name)
    task = load_task("reach", robot.n)
    expert = task.expert(robot)
    assert isinstance(expert, IterativeReachExpert)
    p, rng = task.parameters(robot), np.random.default_rng(2)
    reached = 0
    for _ in range(50):
        values = {key: rng.uniform(p[key].low, p[key].high) for key in p if key.startswith("task.goal.")}
        goal = task.setup(values, rng).goal
        q = expert.target(goal)
        assert (q >= robot.lower).all() and (q <= robot.upper).all()
        reached += float(np.linalg.norm(tool_position(robot.model, q) - goal)) < CLOSE
        # Joints that are not needed stay about where they are at home.
        assert np.abs(q - robot.home).max() < 2.2
    assert reached >= 49


@pytest.mark.parametrize("name", ARMS)
def test_it_succeeds_under_randomization(name: str) -> None:
    robot = Robot.load(name)
    task = load_task("reach", robot.n)
    with World(robot, task) as world:
        expert = task.expert(robot)
        done = [
            rollout(world, expert, random_draw(world.parameters, s), privileged=True).success
            for s in range(10)
        ]
    assert sum(done) >= 9


def test_a_scara_arm_reaches_by_turning_and_sliding(tmp_path: Path) -> None:
    robot = own_arm(tmp_path, SCARA, head=SCARA_HEAD, joints=SCARA_JOINTS)
    task = load_task("reach", robot.n)
    with World(robot, task) as world:
        expert = task.expert(robot)
        done = [
            rollout(world, expert, random_draw(world.parameters, s), privileged=True).success
            for s in range(12)
        ]
    assert sum(done) >= 11


def test_goals_are_as_far_away_as_the_arm_is_large() -> None:
    iiwa = Robot.load(ARMS[1])
    task = load_task("reach", iiwa.n)
    own, standard = task.parameters(iiwa), load_task("reach").parameters(Robot.load("so101"))
    ratio = own["task.goal.radius"].high / standard["task.goal.radius"].high
    assert ratio == pytest.approx(tool_span(iiwa.model) / 0.4)
    assert own["task.goal.angle"] == standard["task.goal.angle"]
    # The arms that the goals were written for have them as they are.
    for name in ("koch", "so100", "openmanipulator_x"):
        robot = Robot.load(name)
        assert load_task("reach", robot.n).parameters(robot)["task.goal.radius"].high == 0.30
