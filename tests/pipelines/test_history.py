"""Policies of states that see how the world answers: a history, and what it says of the draw."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.drawn import FELT, normalized
from pipelines.learning.export import load_network
from pipelines.learning.networks.registry import build_network, network_arguments
from pipelines.learning.pretrain import PretrainSettings, pretrain
from pipelines.learning.settings import kind_of_settings
from pipelines.learning.trainer import TrainerOptions
from sim2real.errors import UserError
from sim2real.observation import standard_features
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
FEATURES = standard_features(("joint_position", "joint_command", "goal"), ROBOT.n)
SIZE = sum(feature.size for feature in FEATURES)


def seen(count: int, rng: np.random.Generator) -> Demonstrations:
    """Three moments whose middle one lags by a parameter of the draw that decides what is to be done."""
    newest = rng.normal(size=(count, SIZE))
    drawn = rng.uniform(-1, 1, (count, 1))
    middle = newest + 0.05 * drawn
    vectors = np.concatenate([newest, middle, newest], axis=1).astype(np.float32)
    command = newest[:, ROBOT.n : 2 * ROBOT.n]
    chunks = (command + 0.3 * drawn)[:, None].repeat(2, axis=1).astype(np.float32)
    return Demonstrations(vectors, chunks, np.arange(count), truths=drawn.astype(np.float32))


def test_a_history_tells_a_parameter_and_what_hangs_on_it() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    options = {"width": 32, "depth": 1, "history": 3, "drawn": 1}
    arguments = network_arguments("mlp", [(f.name, f.size) for f in FEATURES], ROBOT, 2, options)
    model = ChunkCloning(arguments, total_steps=1)
    network = model.network
    network.set_robot(ROBOT)
    data, unseen = seen(4000, rng), seen(500, rng)
    network.fit_to(data)
    batch, other = network.tensors(data), network.tensors(unseen)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        rows = torch.randint(len(batch[0]), (512,))
        optimizer.zero_grad()
        network.losses([part[rows] for part in batch])[0].backward()
        optimizer.step()
    with torch.no_grad():
        _, error, extra = network.losses(other)
    assert float(extra["drawn_explained"]) > 0.8
    # Without knowing it the best guess is off by half of 0.3 rad.
    assert float((error * network.output_scale).mean()) < 0.08


def test_networks_of_one_moment_are_as_they_were() -> None:
    arguments = network_arguments("mlp", [("joint_command", ROBOT.n)], ROBOT, 2, {"width": 8, "depth": 1})
    assert not {"history", "drawn"} & set(arguments)
    network = build_network(arguments)
    assert network.history == 1 and not any("context" in name for name in network.state_dict())


def test_parameters_of_a_draw_over_their_ranges() -> None:
    ranges = (("a", 0.0, 2.0), ("b", -1.0, 3.0))
    np.testing.assert_allclose(normalized({"a": 0.0, "b": 2.0, "c": 5.0}, ranges), [-1.0, 0.5])
    assert "camera.x".startswith(FELT) is False and "command.delay".startswith(FELT)


@pytest.mark.slow
def test_a_policy_with_a_history_end_to_end(tmp_path: Path) -> None:
    settings = PretrainSettings(
        task="reach",
        history=3,
        episodes=4,
        rounds=2,
        epochs=2,
        batches=4,
        batch_size=32,
        width=16,
        evaluate=1,
    )
    result = pretrain(settings, tmp_path / "run", workers=0, options=TrainerOptions("cpu", "1"))
    network, policy = load_network(tmp_path / "run" / "policy.onnx")
    assert policy.info.history == network.history == 3
    assert result["export_difference"] < 1e-4 and result["evaluation"]["errors"] == 0


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="do not go with a latency"):
        PretrainSettings(task="reach", history=4, latency=0.1)
    with pytest.raises(UserError, match="observe one moment"):
        kind_of_settings("state", {"history": 4}, suite="table")
