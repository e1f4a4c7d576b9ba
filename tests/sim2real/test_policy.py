"""Policies that are not files, and how a user's own are found."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.loading import load_attribute
from sim2real.policies.load import load_policy
from sim2real.policies.protocol import RandomPolicy, ReplayPolicy, checked_chunk
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot.load("so101")


def observation(robot: Robot) -> dict[str, np.ndarray]:
    return {
        "joint_position": robot.home.copy(),
        "joint_command": robot.home + 0.01,
        "goal": np.array([0.2, 0, 0.1]),
    }


def test_zero_repeats_the_last_command(robot: Robot) -> None:
    policy = load_policy("zero", load_task("reach"), robot)
    chunk = policy.act(observation(robot))
    assert chunk.shape == (policy.horizon, robot.n)
    assert np.array_equal(chunk, np.tile(robot.home + 0.01, (policy.horizon, 1)))


def test_random_follows_its_seed_and_stays_within_the_limits(robot: Robot) -> None:
    def run(seed: int) -> np.ndarray:
        policy = RandomPolicy(robot)
        policy.reset(seed)
        seen = observation(robot)
        rows = []
        for _ in range(300):
            seen["joint_command"] = policy.act(seen)[0]
            rows.append(seen["joint_command"])
        return np.array(rows)

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert (first >= robot.lower).all() and (first <= robot.upper).all()
    assert np.ptp(first, axis=0).min() > 0.1, "every joint moves"


def test_replay_plays_row_by_row_and_holds_the_last(robot: Robot) -> None:
    goals = np.arange(12.0 * robot.n).reshape(12, robot.n)
    policy = ReplayPolicy(goals, horizon=4)
    policy.reset(0)
    assert np.array_equal(policy.act({}), goals[0:4])
    assert np.array_equal(policy.act({}), goals[1:5])
    for _ in range(20):
        chunk = policy.act({})
    assert np.array_equal(chunk, np.tile(goals[-1], (4, 1)))
    policy.reset(0)
    assert np.array_equal(policy.act({}), goals[0:4])


def test_replay_refuses_goals_that_are_not_finite() -> None:
    with pytest.raises(UserError, match="finite"):
        ReplayPolicy([[0.0, np.nan]])


def test_a_users_policy_loads_by_class_path(
    robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_policy_module.py").write_text(
        "import numpy as np\n"
        "class Mine:\n"
        "    def __init__(self, task, robot):\n"
        "        self.horizon, self.n, self.task = 3, robot.n, task.name\n"
        "    def reset(self, seed): pass\n"
        "    def act(self, observation): return np.zeros((self.horizon, self.n))\n"
        "class Lacking:\n"
        "    horizon = 3\n"
        "    def __init__(self, task, robot): pass\n"
        "class Failing:\n"
        "    def __init__(self): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    task = load_task("reach")
    policy = load_policy("my_policy_module:Mine", task, robot)
    assert checked_chunk(policy.act({}), policy, robot).shape == (3, robot.n)
    with pytest.raises(UserError, match="lacks reset, act"):
        load_policy("my_policy_module:Lacking", task, robot)
    with pytest.raises(
        UserError, match=r"could not be made: TypeError: .* \(it is called with \(task, robot\)\)"
    ):
        load_policy("my_policy_module:Failing", task, robot)
    with pytest.raises(UserError, match=r"no 'Absent'; its classes are Mine, Lacking"):
        load_policy("my_policy_module:Absent", task, robot)


def test_errors_say_what_there_is(robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("reach")
    with pytest.raises(UserError, match="expert, zero, random"):
        load_policy("exprt", task, robot)
    with pytest.raises(UserError, match="'nowhere' of policy .* was not found"):
        load_policy("nowhere:Mine", task, robot)
    with pytest.raises(UserError, match="my.module:MyClass"):
        load_attribute("module:not a name", "policy")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half_broken_module.py").write_text("import module_that_is_not_there\n")
    with pytest.raises(UserError, match="needs 'module_that_is_not_there'"):
        load_attribute("half_broken_module:X", "task")
    (tmp_path / "broken_module_here.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="failed with ZeroDivisionError"):
        load_attribute("broken_module_here:X", "task")


def test_a_chunk_of_the_wrong_shape_is_named(robot: Robot) -> None:
    policy = load_policy("zero", load_task("reach"), robot)
    with pytest.raises(UserError, match=r"\(10, 6\)"):
        checked_chunk(np.zeros((3, 2)), policy, robot)


def test_the_example_policy_is_one(robot: Robot) -> None:
    policy = load_policy("examples.05_own_policy:Nod", load_task("reach"), robot)
    chunk = checked_chunk(policy.act(observation(robot)), policy, robot)
    assert np.ptp(chunk[:, 3]) > 0.1 and np.ptp(chunk[:, :3]) == np.ptp(robot.home[:3])
