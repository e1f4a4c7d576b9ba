"""Practice: PPO's formulas by hand, its small steps on a policy's distribution, and a tiny run end to end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pipelines
from pipelines.learning.algorithm import Practice, stages
from pipelines.learning.experience import MEMORY, Experience, Known
from pipelines.learning.export import load_network
from pipelines.learning.networks.registry import build_network, network_arguments
from pipelines.learning.ppo import SCRATCH, Actor, Learner, advantages, clipped_loss, log_likelihood
from pipelines.learning.pretrain import PretrainSettings, pretrain
from pipelines.learning.settings import kind_of_settings
from pipelines.learning.trainer import TrainerOptions
from randomization.workers import LocalWorkers
from sim2real.errors import UserError
from sim2real.observation import standard_features
from sim2real.parameters import Draw
from sim2real.robot import Robot
from tests.randomization.rollouts import Ball

CPU = TrainerOptions(accelerator="cpu", devices="1")


def test_advantages_of_three_steps_by_hand() -> None:
    rewards, values = np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, 1.5, 3.0])
    found, returns = advantages(rewards, values, discount=0.9, trace=0.5)
    # δ = r + 0.9 V' − V: 1.4, 0.35, 3.2, the last with the value of the state that time cut off.
    third = 3.2
    second = 0.35 + 0.45 * third
    np.testing.assert_allclose(found, [1.4 + 0.45 * second, second, third])
    np.testing.assert_allclose(returns, found + values[:-1])


@pytest.mark.parametrize("trace", [0.0, 1.0])
def test_advantages_are_one_step_errors_or_whole_sums(trace: float) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=6), rng.normal(size=7)
    found, _ = advantages(rewards, values, 0.9, trace)
    powers = 0.9 ** np.arange(7)
    whole = powers[:6] @ rewards + powers[6] * values[6] - values[0]
    assert found[0] == pytest.approx(whole if trace else rewards[0] + 0.9 * values[1] - values[0])


def test_the_clipped_objective_by_hand() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    loss = clipped_loss(ratio, advantage, 0.2)
    # Gains end at 1.2, losses at 0.8; what has gone wrong further counts whole.
    assert float(loss.detach()) == pytest.approx(-np.mean([1.2, 0.5, -1.5, -0.8, 2.2]))
    loss.backward()
    assert ratio.grad is not None
    np.testing.assert_allclose(ratio.grad, -np.array([0, 1, -1, 0, 2]) / 5, atol=1e-7)


def test_the_likelihood_is_that_of_a_normal_distribution() -> None:
    action, mean, sigma = np.array([[0.3, -1.0]]), np.array([[0.1, -0.5]]), np.array([0.2, 2.0])
    exact = -0.5 * ((action - mean) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))
    found = log_likelihood(*map(torch.from_numpy, (action, mean, np.log(sigma))))
    np.testing.assert_allclose(found, exact.sum(axis=1))


def test_all_rows_of_a_chunk_are_drawn_alike_towards_what_was_better() -> None:
    torch.manual_seed(0)
    robot = Robot.load("so101")
    features = standard_features(("joint_position", "joint_command", "goal"), robot.n)
    network = build_network(
        network_arguments("mlp", [(f.name, f.size) for f in features], robot, 4, {"width": 16, "depth": 1})
    )
    reach = robot.limits("velocity") / robot.policy_rate
    actor = Actor(network, reach, 0.5)
    offsets = actor.offsets(network.encode(torch.randn(64, sum(f.size for f in features))))
    offsets.retain_grad()
    mean = offsets.mean(dim=1)
    action = mean.detach() + torch.tensor([0.5, 0, 0, 0, 0, 0])
    old = log_likelihood(action, mean.detach(), actor.log_sigma.detach())
    clipped_loss(
        torch.exp(log_likelihood(action, mean, actor.log_sigma) - old), torch.ones(64), 0.2
    ).backward()
    assert offsets.grad is not None
    assert (offsets.grad[:, :, 0] < 0).all() and not offsets.grad[:, :, 1:].any()
    assert torch.equal(offsets.grad[:, 0], offsets.grad[:, 3])


class Hopeful:
    """An algorithm of a user's own: notes what it was given, and keeps a network that it has changed."""

    def train(self, practice: Practice) -> None:
        seen = practice.episodes(2, exploration=0.1 * practice.reach)
        with torch.no_grad():
            practice.network.head.bias.add_(0.25)  # type: ignore[union-attr,operator]
        practice.keep()
        practice.note(success_rate=float(np.mean([episode.success for episode in seen])))


def run(out: Path, **changes: Any) -> dict[str, Any]:
    settings = {"task": "reach", "algorithm": "ppo", "practice": 4, "width": 16, "depth": 1, "evaluate": 0}
    return pretrain(PretrainSettings(**(settings | changes)), out, workers=0, options=CPU)


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("practised") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        run(out)
    return out


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Updates of two episodes, measurements of two."""
    from pipelines.learning import algorithm, ppo

    patch.setattr(ppo, "SCRATCH", replace(ppo.SCRATCH, batch=2, passes=2))
    patch.setattr(ppo, "CLONED", replace(ppo.CLONED, batch=2, passes=2, watched=0))
    patch.setattr(ppo, "WANDERED", 2)
    patch.setattr(algorithm.Practice.measure, "__defaults__", (2,))


def test_a_practised_run_is_complete(practised: Path) -> None:
    network, policy = load_network(practised / "policy.onnx")
    assert policy.info.task == "reach" and policy.info.provenance["settings"]["algorithm"] == "ppo"
    assert network.horizon == policy.horizon
    rows = json.loads((practised / "metrics.json").read_text())["practice"]
    assert [row["episodes"] for row in rows] == [2, 4, 4]
    assert "measured_success_rate" in rows[-1]


def test_a_run_that_was_stopped_goes_on_to_the_same_policy(
    practised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    update = Learner.update

    def stopping(self: Learner, count: int) -> None:
        if self.updates == 1 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        update(self, count)

    monkeypatch.setattr(Learner, "update", stopping)
    assert run(tmp_path / "run")["interrupted"] is True
    assert (tmp_path / "run" / "policy.onnx").exists()
    assert run(tmp_path / "run")["interrupted"] is False
    whole, gone_on = (
        torch.load(out / "checkpoints" / "practice.pt", weights_only=True)
        for out in (practised, tmp_path / "run")
    )
    assert all(torch.equal(whole["network"][name], gone_on["network"][name]) for name in whole["network"])
    with pytest.raises(UserError, match="holds another run"):
        run(tmp_path / "run", practice=6)


@pytest.mark.slow
def test_practice_after_cloning_with_an_algorithm_of_ones_own(tmp_path: Path) -> None:
    few = {"episodes": 2, "rounds": 1, "epochs": 1, "batches": 2, "batch_size": 16}
    run(tmp_path / "cloned", algorithm="cloning", **few)
    result = run(tmp_path / "mine", algorithm=f"cloning+{__name__}:Hopeful", **few)
    assert [row["episodes"] for row in result["practice"]] == [2]
    before, after = (
        load_network(tmp_path / name / "policy.onnx")[0].state_dict() for name in ("cloned", "mine")
    )
    torch.testing.assert_close(after.pop("head.bias"), before.pop("head.bias") + 0.25)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("cloning", (True, "")),
        ("ppo", (False, "ppo")),
        ("cloning+ppo", (True, "ppo")),
        ("a.b:C", (False, "a.b:C")),
        ("cloning+a.b:C", (True, "a.b:C")),
    ],
)
def test_names_of_algorithms(name: str, means: tuple[bool, str]) -> None:
    assert stages(name) == means


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "pppo"}, "there is no algorithm 'pppo'.*ppo"),
        ({"algorithm": "ppo", "episodes": 100}, "--episodes: only cloning has this"),
        ({"practice": 10}, "cloning does not practise"),
        ({"algorithm": "ppo", "observe": "pixels"}, "leave --suite and --observe out"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind_of_settings(given.pop("observe", "state"), given)


def test_an_algorithm_that_cannot_be_made_claims_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'NoSuch'"):
        pipelines.pretrain("reach", out=tmp_path / "run", algorithm=f"{__name__}:NoSuch", workers=0)
    assert not (tmp_path / "run").exists()


def test_workers_that_stay_run_one_set_of_draws_after_the_other() -> None:
    with LocalWorkers(Ball(), 1) as pool:
        first = list(pool.run([Draw(index=i, values={"x": 0.1, "y": 0.1}) for i in range(2)]))
        (process,) = [worker.process for worker in pool._pool]
        second = list(pool.run([Draw(index=2, values={"x": 0.1, "y": 0.1})]))
        assert process.is_alive() and [worker.process for worker in pool._pool] == [process]
    assert not any(outcome.error for outcome in first + second) and not process.is_alive()


class Kinematic:
    """As much of `Practice` as PPO needs, of an arm without dynamics whose tool shall go to a place: 40 steps."""

    cloned, seed, left = False, 0, 1

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.robot = Robot.load("so101")
        self.features = standard_features(("joint_position", "joint_command", "goal"), self.robot.n)
        named = [(f.name, f.size) for f in self.features]
        self.network = build_network(
            network_arguments("mlp", named, self.robot, 2, {"width": 64, "depth": 2})
        )
        self.network.set_robot(self.robot)
        self.known = Known(self.features, self.robot.n, ())
        self.reach = self.robot.limits("velocity") / self.robot.policy_rate
        self.rng = np.random.default_rng(0)

    def episodes(self, count: int, exploration: Any) -> list[Experience]:
        return self.drive(count, lambda seen: self.network(torch.from_numpy(seen)).numpy()[:, 0], exploration)

    def wander(self, count: int) -> list[Experience]:
        n = self.robot.n
        return self.drive(count, lambda seen: seen[:, n : 2 * n], 2 * self.reach)

    def note(self, **numbers: float) -> None:
        pass

    def tool(self, angles: Any) -> Any:
        encoder: Any = self.network.encoder
        return encoder.tool_frame(torch.from_numpy(angles).float())[0].numpy()

    @torch.no_grad()
    def drive(self, count: int, act: Any, sigma: Any) -> list[Experience]:
        n = self.robot.n
        angles = np.array(self.robot.home) + self.rng.uniform(-0.05, 0.05, (count, n))
        goal = self.tool(angles + self.rng.uniform(-0.4, 0.4, (count, n)))
        tried = self.rng.standard_normal((count, n))
        rows: list[list[Any]] = [[], [], [], []]
        for _ in range(40):
            seen = np.concatenate([angles, angles, goal], axis=1).astype(np.float32)
            truth = np.concatenate([seen, np.zeros((count, n))], axis=1, dtype=np.float32)
            step = np.clip(act(seen) + sigma * tried - angles, -2 * self.reach, 2 * self.reach)
            angles = np.clip(angles + step, self.robot.lower, self.robot.upper)
            reward = -np.linalg.norm(self.tool(angles) - goal, axis=1)
            for kept, value in zip(rows, (seen, tried, truth, reward)):
                kept.append(value)
            tried = MEMORY * tried + np.sqrt(1 - MEMORY**2) * self.rng.standard_normal((count, n))
        rows[2].append(np.concatenate([angles, angles, goal, np.zeros((count, n))], axis=1, dtype=np.float32))
        observations, kept, truths, rewards = (np.stack(part, axis=1) for part in rows)
        return [
            Experience(observations[i], kept[i], truths[i], rewards[i].astype(np.float64), False)
            for i in range(count)
        ]


def test_ppo_learns() -> None:
    torch.set_num_threads(1)
    arm: Any = Kinematic()
    learner = Learner(arm, replace(SCRATCH, actor_rate=5e-4, critic_rate=2e-3))
    learner.begin()

    def far() -> float:
        return -float(np.mean([e.rewards[-1] for e in arm.episodes(50, np.zeros(6))]))

    before = far()
    for _ in range(20):
        learner.update(20)
    assert far() < 0.4 * before
