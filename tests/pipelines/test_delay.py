"""Policies that are told what is committed while they think: hindsight labels, what rollouts and the runtime tell, and
what a network makes of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hardware.runtime.control.counts import Counts
from hardware.runtime.control.policy_input import PolicyInput
from hardware.runtime.sources.sources import PolicyAnswer
from pipelines.learning.delay import Ahead, late_rows
from pipelines.learning.networks.registry import build_network, network_arguments
from pipelines.learning.pretrain import PretrainSettings, pretrain
from pipelines.learning.trainer import TrainerOptions
from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.errors import UserError
from sim2real.observation import Feature, Observation, standard_features
from sim2real.parameters import Draw
from sim2real.policies.committed import COMMITTED, LATENCY, ROWS, committed_entries, committed_features
from sim2real.policies.file import load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
N = ROBOT.n


def test_looking_ahead_plays_nothing() -> None:
    rng = np.random.default_rng(0)
    players = ChunkPlayer(), ChunkPlayer()
    for player in players:
        player.reset(np.zeros(2), 0.0)
        player.add(Chunk(0.0, 0.1, np.ones((4, 2))), 0.0)
        player.add(Chunk(0.1, 0.1, -np.ones((4, 2))), 0.1)  # a blending begins
    times = np.sort(rng.uniform(0.1, 0.6, 8))
    seen = players[0].ahead(times)
    played = np.array([players[0].sample(time) for time in times])
    np.testing.assert_array_equal(seen, played)
    np.testing.assert_array_equal(played, [players[1].sample(time) for time in times])


def test_what_is_committed_ends_with_the_latency() -> None:
    player = ChunkPlayer(blend=0.0)
    player.reset(np.zeros(1), 0.0)
    player.add(Chunk(0.0, 0.1, np.arange(1.0, 21.0)[:, None]), 0.0)
    entries = committed_entries(player, 0.2, 0.1, 0.25)
    np.testing.assert_allclose(entries[COMMITTED], [2, 3, *[4] * (ROWS - 2)])
    np.testing.assert_allclose(entries[LATENCY], [0.25])


def test_labels_in_hindsight() -> None:
    features = (Feature("x", 1), *committed_features(N))
    ahead = Ahead(features, ROBOT, horizon=5)
    latency = 2.5 / ROBOT.policy_rate
    for step in range(6):
        goal = np.full(N, float(step))
        told: Observation = {COMMITTED: np.tile(goal, ROWS), LATENCY: np.array([latency])}
        vector = np.concatenate([[7.0], told[COMMITTED], told[LATENCY]]).astype(np.float32)
        plan = 10.0 * step + np.arange(5.0)[:, None] * np.ones(N)
        ahead.add(vector, told, plan)
    observations, labels = ahead.pairs()
    # Of six steps the last two are needed to know what came of the others.
    assert len(observations) == len(labels) == 4
    rows = observations[1, 1:-1].reshape(ROWS, N)[:, 0]
    np.testing.assert_allclose(rows, [1, 2, *[3] * (ROWS - 2)])
    assert observations[1, 0] == 7.0 and observations[1, -1] == pytest.approx(latency)
    # Two rows come too late; the others are the plan of two steps later.
    np.testing.assert_allclose(labels[1, :, 0], [3, 3, 30, 31, 32])
    assert late_rows(latency, ROBOT.policy_rate) == 2 and late_rows(0.3, 30) == 9 and late_rows(0.02, 30) == 0


class Recorder:
    """Sends the arm on by a little at every answer, and keeps what it is told."""

    horizon = 20

    def reset(self, seed: int) -> None:
        self.asked: list[Observation] = []
        self.watched: list[Observation] = []

    def act(self, observation: Observation) -> np.ndarray:
        self.asked.append(observation)
        goals: np.ndarray = observation["joint_command"] + 0.01 * np.arange(1, 21)[:, None] * np.ones(N)
        return goals

    def watch(self, observation: Observation) -> None:
        self.watched.append(observation)


@pytest.mark.parametrize(("latency", "asked"), [(0.0, 30), (0.03, 30), (0.1, 10), (0.11, 8)])
def test_a_slow_policy_is_asked_when_it_has_answered(latency: float, asked: int) -> None:
    policy = Recorder()
    with World(ROBOT, load_task("reach")) as world:
        rollout(world, policy, Draw(values={"policy.latency": latency}), max_seconds=1.0)
    assert len(policy.asked) == asked and len(policy.watched) == 30 - asked


def test_a_rollout_tells_what_the_arm_is_sent_while_the_policy_thinks() -> None:
    policy = Recorder()
    with World(ROBOT, load_task("reach")) as world:
        rollout(world, policy, Draw(values={"policy.latency": 0.1}), max_seconds=1.0)
    first, second, third = (np.reshape(o[COMMITTED], (ROWS, N)) for o in policy.asked[:3])
    assert np.ptp(first, axis=0).max() == 0.0  # nothing has been answered yet
    # The next answers come when what was told has been played.
    np.testing.assert_allclose(third[0], second[3], atol=0.012)
    assert (second[3] - second[0] > 0.02).all() and np.array_equal(second[3], second[9])


class Answering:
    """A policy source that answers at once, and keeps what it was sent."""

    alive, problem = True, ""

    def __init__(self) -> None:
        self.sent: list[Observation] = []
        self.late = 0.06

    def reset(self, seed: int) -> None:
        pass

    def send(self, time: float, observation: Observation) -> None:
        self.sent.append(observation)
        self.time = time

    def close(self) -> None:
        pass

    def poll(self) -> PolicyAnswer:
        chunk = Chunk(self.time, 1 / 30, np.arange(1.0, 21.0)[:, None] * np.ones(N))
        return PolicyAnswer(chunk, self.time + self.late)


def test_the_runtime_tells_it_too_with_the_latency_that_it_has_measured() -> None:
    source = Answering()
    given = PolicyInput(source, 0.01, Counts())
    given.start(0, np.zeros(N), 0.0)
    given.send(0.0, {})
    np.testing.assert_array_equal(source.sent[0][COMMITTED], np.zeros(ROWS * N))
    assert source.sent[0][LATENCY] == [0.0]
    given.take(0.06)
    given.send(1 / 10, {})
    told = source.sent[1][COMMITTED].reshape(ROWS, N)
    assert source.sent[1][LATENCY] == pytest.approx([0.06])
    np.testing.assert_allclose(told[[0, 1, 2, 9], 0], [3.0, 4.0, 4.0, 4.0], atol=1e-6)


def test_a_network_plans_from_where_what_is_committed_ends() -> None:
    torch.manual_seed(0)
    features = (*standard_features(("joint_position", "joint_command", "goal"), N), *committed_features(N))
    named = [(f.name, f.size) for f in features]
    network = build_network(network_arguments("mlp", named, ROBOT, 3, {"width": 8, "depth": 1}))
    network.set_robot(ROBOT)
    observation = torch.rand(2, sum(size for _, size in named))
    last = observation[:, -1 - N : -1]
    torch.testing.assert_close(network.reference(observation)[:, 0], last)
    # What is relative to where the hand is sent is relative to where it will have been sent by then.
    moved = observation.clone()
    moved[:, -1 - N : -1] += 0.1
    changed = (network.encode(observation) - network.encode(moved)).abs().amax(dim=0) > 1e-5
    assert int(changed.sum()) > 2 * N


@pytest.mark.slow
def test_a_policy_trained_for_latency_says_what_it_observes(tmp_path: Path) -> None:
    settings = PretrainSettings(
        task="reach",
        latency=0.2,
        episodes=4,
        rounds=2,
        epochs=2,
        batches=4,
        batch_size=32,
        width=16,
        evaluate=1,
    )
    pretrain(settings, tmp_path / "run", workers=0, options=TrainerOptions("cpu", "1"))
    policy = load_policy_file(tmp_path / "run" / "policy.onnx")
    assert policy.horizon == 10 + 6
    assert policy.info.features[-2:] == committed_features(N)
    assert policy.info.provenance["space"]["parameters"]["policy.latency"]["high"] == 0.2


def test_latencies_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(UserError, match=r"up to 0\.3 s"):
        PretrainSettings(task="reach", latency=0.5).course()
