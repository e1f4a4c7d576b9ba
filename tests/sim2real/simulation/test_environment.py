"""The Gymnasium environments: the standard's own checker, seeds, and the same physics as a rollout."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim2real.simulation.environment as environment
from randomization.space import Space
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.policies.actions import ActionPolicy
from sim2real.simulation.rollout import rollout
from sim2real.tasks.reach import Reach
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


def scripted(seed: int, n: int) -> Iterator[np.ndarray]:
    """Smooth actions with sharp turns, beyond -1 … 1 at times."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.2, 3.0, n), rng.uniform(0, 6, n)
    for k in count():
        yield (1.3 * np.sin(frequency * k / 5 + phase) * rng.choice([1, 1, 1, -1])).astype(np.float32)


@pytest.mark.parametrize("name", task_names())
def test_it_is_the_rollout_to_the_bit_whatever_is_drawn(name: str) -> None:
    """Latency, jitter of policy and control, noise, dropped commands and all the rest included."""
    env = environment.TaskEnvironment(name, max_seconds=0.6)
    rng = np.random.default_rng(7)
    draws = [environment.random_draw(env.world.parameters, rng) for _ in range(17)]
    for k, latency in enumerate((0.03, 0.05, 0.2)):
        late = {"policy.latency": latency, "policy.jitter": 0.01}
        draws[k] = replace(draws[k], values=draws[k].values | late)
    for draw in draws:
        actions = scripted(draw.seed, env.robot.n)
        seen: list[np.ndarray] = []

        def act(vector: np.ndarray, actions=actions, seen=seen) -> np.ndarray:
            seen.append(vector)
            return next(actions)

        policy = ActionPolicy(act, env.task.features, env.robot)
        episode = rollout(env.world, policy, draw, max_seconds=0.6)
        actions = scripted(draw.seed, env.robot.n)
        rows = [env.reset(options={"draw": draw})[0]]
        while len(rows) < len(seen):
            rows.append(env.step(next(actions))[0])
        assert np.array_equal(np.array(rows), np.array(seen))
        *_, over, info = env.step(next(actions))
        assert (over or info["success"]) and info["success"] == episode.success
        assert env.world.time == pytest.approx(0.6, abs=1e-9)
    env.close()


def test_latency_and_jitter_change_an_episode_and_do_not_lose_its_actions() -> None:
    env = environment.TaskEnvironment("reach")

    def run(**values: float) -> np.ndarray:
        draw = Draw(seed=1, values={name.replace("__", "."): value for name, value in values.items()})
        env.reset(options={"draw": draw})
        rows = []
        for k in range(30):
            env.step(np.full(6, 0.5 if k < 15 else -0.5, np.float32))
            rows.append(env.world.position)
        return np.array(rows)

    plain = run()
    for name in ("policy__latency", "policy__jitter", "control__jitter"):
        assert not np.array_equal(plain, run(**{name: env.world.parameters[name.replace("__", ".")].high}))
    # An agent that takes three periods is asked every three, and the arm has begun to move after them.
    env.reset(options={"draw": Draw(seed=1, values={"policy.latency": 0.1})})
    before = env.world.position[0]
    env.step(np.full(6, 0.5, np.float32))
    assert env.world.time == pytest.approx(0.1) and abs(env.world.position[0] - before) < 1e-9
    env.step(np.full(6, 0.5, np.float32))
    assert env.world.time == pytest.approx(0.2) and env.world.position[0] - before > 1e-4
    env.close()


def test_what_info_says_was_drawn_goes_back_into_reset() -> None:
    env = gymnasium.make("sim2real/Push-v0")
    first, info = env.reset(seed=3)
    again, same = env.reset(options={"draw": info["draw"]})
    assert np.array_equal(first, again) and same == info
    for wrong, said in (
        ({"draws": 1}, "no option 'draws'; allowed is draw"),
        ({"draw": "{}"}, "not the JSON of a draw"),
        ({"draw": 3}, "got a int"),
        ({"draw": Draw(values={"object.cube.mas": 1.0})}, "did you mean object.cube.mass"),
    ):
        with pytest.raises(UserError, match=said):
            env.reset(options=wrong)
    env.close()


def test_a_space_and_a_twin_decide_what_is_drawn(tmp_path: Path) -> None:
    twin = tmp_path / "twin.toml"
    twin.write_text('[parameters]\n"payload.mass" = 0.12\n')
    space = Space.from_dict({"base": "nominal", "parameters": {"object.cube.mass": [0.02, 0.03]}})
    env = gymnasium.make("sim2real/Lift-v0", space=space, twin=twin).unwrapped
    drawn = [env.reset(seed=seed)[1]["draw"] for seed in (1, 2, 1)]
    values = [Draw.from_json(text).values for text in drawn]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(set(v) == {"object.cube.mass"} and 0.02 <= v["object.cube.mass"] <= 0.03 for v in values)
    assert env.world.values["payload.mass"] == 0.12
    env.close()
    with pytest.raises(UserError, match=r"Space.load\(path\)"):
        environment.TaskEnvironment("lift", space="space.toml")
    with pytest.raises(UserError, match="no parameter matches 'nothing'"):
        environment.TaskEnvironment("lift", space=Space.from_dict({"parameters": {"nothing": 1.0}}))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_several_at_once(mode: str) -> None:
    envs = gymnasium.make_vec("sim2real/Reach-v0", num_envs=2, vectorization_mode=mode, max_seconds=0.1)
    observations, _ = envs.reset(seed=[1, 2])
    assert not np.array_equal(*observations)
    alone = gymnasium.make("sim2real/Reach-v0")
    assert np.array_equal(alone.reset(seed=2)[0], observations[1])
    for _ in range(3):
        *_, truncated, _ = envs.step(np.zeros((2, 6), np.float32))
    assert truncated.all()
    alone.close()
    envs.close()


class Near(Reach):
    """A task of one's own, shorter."""

    name = "near"
    duration = 0.2


def test_a_task_and_a_robot_of_ones_own_are_registered() -> None:
    environment.register("tests/Near-v0", Near(6), robot="koch")
    environment.register("tests/Near-v0", Near(6), robot="so100")
    env = gymnasium.make("tests/Near-v0")
    assert env.unwrapped.robot.name == "so100" and isinstance(env.unwrapped.task, Near)
    env.reset(seed=0)
    ended = [env.step(np.zeros(6, np.float32))[3] for _ in range(6)]
    assert ended == [False] * 5 + [True]
    env.close()
    iiwa = environment.TaskEnvironment("reach", "examples/iiwa/iiwa.toml")
    assert iiwa.metadata["render_fps"] == iiwa.robot.policy_rate and iiwa.action_space.shape == (
        iiwa.robot.n,
    )
    iiwa.close()
    with pytest.raises(UserError, match="has no camera 'side'; known are front"):
        environment.TaskEnvironment("reach", render_mode="rgb_array", camera="side")
    with pytest.raises(UserError, match="horizon of an action"):
        environment.TaskEnvironment("reach", horizon=0)
