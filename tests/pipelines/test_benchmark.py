"""`sim2real benchmark`: trials, resuming, comparison, and causes that were planted."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipelines import benchmark
from pipelines.benchmarks.diagnosis import CAUSES, Trace, diagnose
from pipelines.cli import main
from sim2real.observation import Observation
from sim2real.parameters import Draw
from sim2real.policies.load import load_policy
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

KEYS = {
    "suite",
    "split",
    "tasks",
    "trials",
    "success_rate",
    "interval_95",
    "method",
    "per_task",
    "per_family",
    "hardest",
}
TASK_KEYS = {"id", "family", "trials", "successes", "wilson_95", "stage_reached", "failure"}


def test_trials_go_on_where_they_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "b")
    words = [
        "benchmark",
        "--policy",
        "expert",
        "--task",
        "reach",
        "--task",
        "push",
        "--out",
        out,
        "--workers",
        "0",
        "--json",
    ]
    assert main([*words, "--trials", "2"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert KEYS <= set(first) and first["trials"] == 4 and first["tasks"] == 2
    assert all(set(task) == TASK_KEYS for task in first["per_task"])
    assert main([*words, "--trials", "3", "--against", "zero"]) == 2  # another benchmark
    capsys.readouterr()
    assert main([*words, "--trials", "3"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["trials"] == 6 and second["success_rate"] == 1.0
    assert {p.name for p in (tmp_path / "b").iterdir()} >= {
        "trials.parquet",
        "summary.json",
        "report.html",
        "config.json",
    }


def test_a_better_policy_is_found_better(tmp_path: Path) -> None:
    found = benchmark(
        "expert", "reach", against="zero", trials=8, out=tmp_path / "b", workers=0, clips=0, progress=False
    )
    other = found.summary["against"]
    assert other["difference"] > 0.8 and other["p"] < 0.05
    low, high = other["interval_95"]
    assert low < other["difference"] and low > 0.3 and high <= 1.0
    assert "against the other policy" in str(found)


def test_it_ends_when_the_trials_tell(tmp_path: Path) -> None:
    found = benchmark(
        "zero", "reach", at_least=0.6, trials=200, out=tmp_path / "b", workers=0, clips=0, progress=False
    )
    assert found.summary["at_least"]["verdict"] == "below"
    assert found.trials < 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policy", "expert", "--suite", "taks", "--out", "o"], "did you mean 'tasks'"),
        (["--policy", "expert", "--suite", "tasks", "--task", "reach", "--out", "o"], "not both"),
        (["--policy", "expert", "--suite", "tasks", "--split", "l9", "--out", "o"], "seen"),
        (["--policy", "expert", "--task", "reach", "--task", "reach", "--out", "o"], "twice"),
        (["--policy", "expert", "--task", "reach"], "--out is missing"),
        (["--plan", "--from", "0.8"], "--to"),
        (["--plan", "--from", "0.8", "--to", "1.2"], "--to must lie between 0 and 1"),
        (["--policy", "expert", "--task", "reach", "--trials", "0", "--out", "o"], "two trials"),
        (["--policy", "expert", "--task", "reach", "--at-least", "1.5", "--out", "o"], "between 0 and 1"),
        (["--policy", "expert", "--to", "0.5", "--out", "o"], "add --plan"),
        (
            ["--policy", "expert", "--suite", "tasks", "--object", "cube:size=0.03", "--out", "o"],
            "with --task",
        ),
        (["--policy", "expert", "--task", "reach", "--object", "cube:size=0.03", "--out", "o"], "reach"),
        (["--policy", "expert", "--task", "lift", "--cameras", "none.toml", "--out", "o"], "none.toml"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_plan_needs_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--plan", "--from", "0.8", "--to", "0.9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials_per_arm"] == 154


class Changed:
    """The expert, with something of what it sees or does changed."""

    def __init__(self, policy: Policy) -> None:
        self.inner, self.horizon = policy, policy.horizon

    def reset(self, seed: int) -> None:
        self.inner.reset(seed)

    def act(self, observation: Observation) -> np.ndarray:
        return self.inner.act(self.seen(observation))

    def seen(self, observation: Observation) -> Observation:
        """What this policy is told."""
        return observation


class Blind(Changed):
    """Whose camera has never found the cube."""

    def seen(self, observation: Observation) -> Observation:
        where, when = np.array([0.25, 0.0, 0.0125]), np.array([2.0])
        return {**observation, "object.cube.position": where, "object.cube.age": when}


class Slow(Changed):
    def act(self, observation: Observation) -> np.ndarray:
        chunk = self.inner.act(observation)
        step = np.clip(chunk[0] - observation["joint_command"], -0.004, 0.004)
        return observation["joint_command"] + np.outer(np.arange(1, self.horizon + 1), step)


class Beyond(Changed):
    def act(self, observation: Observation) -> np.ndarray:
        return self.inner.act(observation) + np.array([0.0, 3.0, 0.0, 0.0, 0.0, 0.0])


class LetsGo(Changed):
    """Opens the hand as soon as the cube is up in it."""

    def act(self, observation: Observation) -> np.ndarray:
        chunk = self.inner.act(observation)
        if observation["object.cube.position"][2] > 0.035:
            chunk[:, 5] = 1.2
        return chunk


class Beside(Changed):
    """Closes the hand beside the cube."""

    def act(self, observation: Observation) -> np.ndarray:
        where = observation["object.cube.position"] + np.array([0.0, 0.045, 0.0])
        return self.inner.act({**observation, "object.cube.position": where})


class PassesBy(Changed):
    """Goes to the goal and at once away again, over and over."""

    def act(self, observation: Observation) -> np.ndarray:
        chunk = self.inner.act(observation)
        near = np.abs(chunk[-1] - observation["joint_position"])[:5].max() < 0.12
        return chunk + np.array([0.4, -0.2, 0.0, 0.0, 0.0, 0.0]) if near else chunk


PLANTED: tuple[tuple[str, str, type[Changed], Mapping[str, float], bool], ...] = (
    ("motion: late", "reach", Changed, {"policy.latency": 0.7}, True),
    ("motion: clipped", "reach", Beyond, {}, True),
    ("motion: collided", "reach", Changed, {"servo.shoulder_pan.coulomb": 5.0}, True),
    ("perception: lost", "lift", Blind, {}, False),
    ("perception: wrong place", "lift", Changed, {"detector.bias_x": 0.03}, False),
    ("goal: undone", "reach", PassesBy, {}, True),
    ("grasp: slipped", "lift", LetsGo, {}, True),
    ("grasp: missed", "lift", Beside, {}, True),
    ("time", "lift", Slow, {}, True),
)


def _look(
    trace: Trace, world: World, policy: Changed, step: int, seen: Observation, chunk: np.ndarray
) -> None:
    trace.add(world.truth(), policy.seen(seen), world.robot.gripper)


@pytest.mark.slow
def test_planted_causes_are_found() -> None:
    robot = Robot.load("so101")
    right = total = 0
    wrong: list[str] = []
    for cause, name, change, values, privileged in PLANTED:
        assert cause in CAUSES
        task = load_task(name)
        world = World(robot, task, nominal=dict(values))
        policy = change(load_policy("expert", task, robot))
        rng = np.random.default_rng(7)
        starts = task.parameters(robot)
        failed = 0
        for seed in range(22):
            drawn = {n: float(rng.uniform(p.low, p.high)) for n, p in starts.items()}
            trace = Trace(task, tuple(int(j) for j in robot.arm))
            episode = rollout(
                world, policy, Draw(seed, seed, drawn), privileged=privileged, max_seconds=5.0,
                on_step=partial(_look, trace, world, policy),
            )  # fmt: skip
            if episode.success:
                continue
            failed += 1
            found = diagnose(trace, episode.info)
            right += found == cause
            if found != cause:
                wrong.append(f"{cause} taken for {found}")
        assert failed >= 15, f"{cause} was planted and {failed} of 22 trials failed"
        total += failed
    assert right / total >= 0.9, f"{right} of {total}: {wrong}"
