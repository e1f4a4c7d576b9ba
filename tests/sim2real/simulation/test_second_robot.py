"""A robot from a user's own files: another number of joints, meshes, no gripper, no camera."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.simulation.environment import TaskEnvironment
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task
from tests.sim2real.simulation.draws import random_draw

IIWA = Path(__file__).parents[3] / "examples" / "iiwa" / "iiwa.toml"


@pytest.fixture(scope="module")
def iiwa() -> Iterator[World]:
    with World(str(IIWA)) as world:
        yield world


def test_it_holds_its_weight_and_goes_where_it_is_told(iiwa: World) -> None:
    robot = iiwa.robot
    assert (robot.n, robot.gripper, robot.cameras) == (7, None, {})
    iiwa.reset()
    iiwa.advance(None, 300)
    assert np.abs(np.degrees(iiwa.position - robot.home)).max() < 0.5
    goal = robot.home + np.array([0.5, 0.2, -0.3, 0.3, 0.5, -0.4, 0.5])
    gate = iiwa.gate
    gate.reset(iiwa.goal)
    for _ in range(300):
        gate.step(goal)
        iiwa.advance(gate.position, 3)
    assert np.abs(np.degrees(iiwa.position - goal)).max() < 0.5
    assert np.abs(iiwa.velocity).max() < 1e-4


def test_its_parameters_are_declared_and_can_be_drawn(iiwa: World) -> None:
    assert "servo.lbr_iiwa_joint_4.kp" in iiwa.parameters
    assert iiwa.parameters["servo.lbr_iiwa_joint_4.kp"].nominal == 20.0
    for seed in range(3):
        iiwa.reset(random_draw(iiwa.parameters, seed))
        iiwa.advance(None, 300)
        assert np.isfinite(iiwa.position).all()
        assert np.abs(np.degrees(iiwa.position - iiwa.robot.home)).max() < 5


def test_without_torque_it_falls(iiwa: World) -> None:
    iiwa.reset()
    height = iiwa.truth().tool_position[2]
    iiwa.servo.enabled[:] = 0
    iiwa.advance(None, 300)
    assert iiwa.truth().tool_position[2] < height - 0.05


def test_tasks_run_with_it_and_it_is_drawn_without_a_camera_of_its_own(iiwa: World) -> None:
    class Stay:
        horizon = 5

        def reset(self, seed: int) -> None:
            pass

        def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            return np.tile(observation["joint_command"], (5, 1))

    with World(iiwa.robot, load_task("push")) as world:
        # Without a camera of its own the detector sees everything there is.
        episode = rollout(world, Stay(), max_seconds=0.5)
        assert episode.features["object.cube.age"].max() < 0.2
    picture = iiwa.render(width=160, height=120)
    # Orange and grey before the table, over much of the picture.
    orange = (picture[..., 0].astype(int) - picture[..., 2]) > 60
    assert 0.01 < orange.mean() < 0.5
    environment = TaskEnvironment("reach", iiwa.robot, render_mode="rgb_array")
    environment.reset(seed=0)
    drawn = environment.render()
    assert drawn is not None and drawn.shape[2] == 3 and drawn.std() > 10
    environment.close()
    with pytest.raises(UserError, match="no camera 'wrist'"):
        iiwa.render("wrist")
