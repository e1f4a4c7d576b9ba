"""The Gymnasium environments: the standard's own checker, seeds, and the same physics as a rollout."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim2real.simulation.environment as environment
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task, task_names


@pytest.mark.parametrize("name", task_names())
def test_gymnasiums_checker_accepts_it_without_a_warning(name: str) -> None:
    env = gymnasium.make(f"sim2real/{name.capitalize()}-v0", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_the_same_seed_gives_the_same_episode_to_the_bit() -> None:
    def run(env: environment.TaskEnvironment, seed: int) -> np.ndarray:
        rows = [env.reset(seed=seed)[0]]
        rng = np.random.default_rng(0)
        rows += [env.step(rng.uniform(-1, 1, 6).astype(np.float32))[0] for _ in range(20)]
        return np.array(rows)

    env = environment.TaskEnvironment("push")
    first, other = run(env, 1), run(env, 2)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, run(env, 1))
    env.close()


def test_the_expert_succeeds_through_the_environment() -> None:
    env = environment.TaskEnvironment("reach", privileged=True, randomize=False)
    expert = load_task("reach").expert(env.robot)
    env.reset(seed=3)
    limits = env.robot.limits("velocity") / env.robot.policy_rate
    before = env.task.reward(env.world.truth())
    for _ in range(120):
        seen = env.world.observe(privileged=True)
        action = (expert.act(seen)[0] - seen["joint_command"]) / limits
        _, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        if terminated:
            break
    assert terminated and not truncated and info["success"] and info["stage"] == "inside"
    assert reward > before
    env.close()


def test_it_is_truncated_after_the_tasks_time() -> None:
    env = gymnasium.make("sim2real/Reach-v0", randomize=False)
    env.reset(seed=0)
    for step in range(1, 121):
        *_, terminated, truncated, _ = env.step(np.zeros(6, np.float32))
        assert not terminated
        assert truncated == (step == 120)
    env.close()


def test_a_draw_is_replayed_and_bad_input_refused() -> None:
    env = environment.TaskEnvironment("reach")
    draw = Draw(seed=5, values={"task.goal.height": 0.2, "payload.mass": 0.03})
    _, info = env.reset(options={"draw": draw})
    assert Draw.from_json(info["draw"]) == draw
    assert env.world.scene.goal[2] == 0.2
    with pytest.raises(UserError, match="6 finite numbers"):
        env.step(np.full(6, np.nan, np.float32))
    env.close()
    with pytest.raises(UserError, match="render_mode"):
        environment.TaskEnvironment("reach", render_mode="human")


def test_without_randomization_only_the_task_is_drawn() -> None:
    env = environment.TaskEnvironment("lift", randomize=False)
    env.reset(seed=1)
    assert env.world.draw.values and all(name.startswith("task.") for name in env.world.draw.values)
    env.close()


def test_registering_loads_no_physics() -> None:
    code = "import sys, sim2real.simulation.environment as e; print('pybullet' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_command_ticks_stay_in_phase() -> None:
    robot = Robot.load("so101")
    clock = environment._Clock(robot.physics_rate, robot.policy_rate, robot.command_rate)
    times = [time for step in range(30) for time, _ in clock.ticks(step) if time is not None]
    assert np.allclose(times, np.arange(100) / 100)
    assert all(sum(steps for _, steps in clock.ticks(step)) == 10 for step in range(30))
