"""One network for many tasks: tokens, masks, and what does not matter to them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.learning.export import export_policy
from pipelines.learning.networks.goals import GoalNetwork
from pipelines.learning.networks.registry import build_network, network_arguments
from sim2real.errors import UserError
from sim2real.goal_view import ENTRY, PARTS, ROW, SIZE, GoalView
from sim2real.observation import Feature
from sim2real.policies.file import PolicyInfo
from sim2real.policies.goal import GoalPolicy
from sim2real.policies.load import load_policy
from sim2real.predicates import And, At, In
from sim2real.robot import Robot
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task
from sim2real.tasks.suite.spec import SpecTask

FEATURES = [("joint_position", 6), ("joint_command", 6), (ENTRY, SIZE)]


def network(**options: int) -> GoalNetwork:
    torch.manual_seed(3)
    robot = Robot.load("so101")
    found = build_network(network_arguments("goals", FEATURES, robot, 10, options))
    assert isinstance(found, GoalNetwork)
    found.set_robot(robot)
    return found.eval()


def observed(name: str, episode: int = 0) -> tuple[SpecTask, dict[str, np.ndarray]]:
    task = load_task(name)
    assert isinstance(task, SpecTask)
    with World(Robot.load("so101"), task) as world:
        world.reset(task.spec.draw(episode, world.robot))
        return task, world.observe(privileged=True)


def vector(observation: dict[str, np.ndarray], rows: np.ndarray) -> torch.Tensor:
    joints = [observation["joint_position"], observation["joint_command"]]
    return torch.from_numpy(np.concatenate([*joints, rows]).astype(np.float32))[None]


def test_rows_say_what_is_wanted() -> None:
    task, observation = observed("table/cube_at_mark_tower_in_bowl")
    rows = task.view.entries(observation)[ENTRY].reshape(PARTS, ROW)
    assert rows[:2, -1].tolist() == [1.0, 1.0] and not rows[2:].any()
    assert rows[0, :3].tolist() == observation["object.mark.position"].tolist()
    assert rows[0, 3:6].tolist() == observation["object.cube.position"].tolist()
    assert rows[1, 3:6].tolist() == observation["object.tower.position"].tolist()


def test_the_order_of_objects_does_not_matter() -> None:
    task, observation = observed("table/cube_at_mark_tower_in_bowl")
    turned = GoalView(task.objects[::-1], task.spec.goal)
    assert np.array_equal(turned.entries(observation)[ENTRY], task.view.entries(observation)[ENTRY])


def test_rows_that_are_not_wanted_change_nothing() -> None:
    task, observation = observed("table/cube_in_bowl")
    rows = task.view.entries(observation)[ENTRY]
    policy = network()
    noisy = rows.copy()
    noisy.reshape(PARTS, ROW)[1:, :-1] = 3.0
    with torch.no_grad():
        one, other = policy(vector(observation, rows)), policy(vector(observation, noisy))
    assert torch.allclose(one, other, atol=1e-6)


def test_another_goal_gives_another_chunk() -> None:
    task, observation = observed("table/cube_at_mark_tower_in_bowl")
    swapped = GoalView(task.objects, And((At("tower", "mark"), In("cube", "bowl"))))
    policy = network()
    with torch.no_grad():
        one = policy(vector(observation, task.view.entries(observation)[ENTRY]))
        other = policy(vector(observation, swapped.entries(observation)[ENTRY]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_file_does_what_the_network_does_and_takes_goals(tmp_path: Path) -> None:
    robot = Robot.load("so101")
    policy = network(token=64, width=64, depth=1)
    policy.fit_normalizers(torch.randn(200, 12 + SIZE), torch.randn(200, 10, 6))
    info = PolicyInfo(
        task="table", robot="so101", joints=robot.joint_names, features=tuple(Feature(*pair) for pair in FEATURES),
        horizon=10, policy_rate=robot.policy_rate, command_rate=robot.command_rate,
    )  # fmt: skip
    path = tmp_path / "policy.onnx"
    assert export_policy(policy, info, path) < 1e-4
    task, observation = observed("table/cube_in_bowl")
    loaded = load_policy(str(path), task, robot)
    assert isinstance(loaded, GoalPolicy)
    with torch.no_grad():
        expected = policy(vector(observation, task.view.entries(observation)[ENTRY]))[0].numpy()
    assert np.allclose(loaded.act(observation), expected, atol=1e-4)
    with pytest.raises(UserError, match="is not data"):
        load_policy(str(path), load_task("lift"), robot)


def test_what_such_networks_do_not_have_is_refused() -> None:
    robot = Robot.load("so101")
    with pytest.raises(UserError, match="observe joint_position"):
        build_network(network_arguments("goals", [("joint_position", 6), ("goal", 3)], robot, 10, {}))
    with pytest.raises(UserError, match="multiple of the heads"):
        build_network(network_arguments("goals", FEATURES, robot, 10, {"token": 30}))
    with pytest.raises(UserError, match="no kernel"):
        network_arguments("goals", FEATURES, robot, 10, {"kernel": 3})
