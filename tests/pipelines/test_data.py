"""Splits by episode, reproducible batches, normalizers of training episodes only."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.data import ChunkDataModule, GroupSchedule, RandomBatches
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.networks.mlp import ChunkMLP
from sim2real.errors import UserError

FEATURES = [["joint_position", 2], ["joint_command", 2], ["goal", 3]]
NETWORK = {"features": FEATURES, "joints": 2, "horizon": 3, "width": 32, "depth": 2}


def demonstrations(episodes: int = 10, length: int = 20, seed: int = 0, first: int = 0) -> Demonstrations:
    """A made-up expert whose chunk is a smooth function of the observation."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(episodes * length, 7)).astype(np.float32)
    pull = np.tanh(observations[:, 4:6])[:, None, :] * np.array([0.1, 0.2, 0.3], np.float32)[None, :, None]
    chunks = (observations[:, None, 2:4] + pull).astype(np.float32)
    return Demonstrations(observations, chunks, np.repeat(np.arange(first, first + episodes), length))


def trainer(epochs: int, folder: Path) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=folder,
    )


def test_split_is_by_episode_and_complete() -> None:
    data = demonstrations()
    training, held_out = data.split(0.2, seed=1)
    assert len(np.unique(held_out.episodes)) == 2
    assert not set(training.episodes) & set(held_out.episodes)
    assert len(training) + len(held_out) == len(data)
    again, _ = data.split(0.2, seed=1)
    np.testing.assert_array_equal(training.episodes, again.episodes)
    assert set(data.split(0.2, seed=2)[1].episodes) != set(held_out.episodes)


def test_split_keeps_something_to_train_on() -> None:
    assert len(demonstrations(1).split(0.1, 0)[1]) == 0
    training, held_out = demonstrations(2).split(0.9, 0)
    assert len(training) == len(held_out) == 20


def test_saved_demonstrations_are_the_same(tmp_path: Path) -> None:
    data = demonstrations()
    data.save(tmp_path / "data.npz")
    loaded = Demonstrations.load(tmp_path / "data.npz")
    np.testing.assert_array_equal(loaded.observations, data.observations)
    np.testing.assert_array_equal(loaded.chunks, data.chunks)
    np.testing.assert_array_equal(loaded.episodes, data.episodes)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:500])
    with pytest.raises(UserError, match="does not hold training data"):
        Demonstrations.load(tmp_path / "broken.npz")


def test_values_that_are_not_finite_are_refused() -> None:
    data = demonstrations()
    data.chunks[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Demonstrations(data.observations, data.chunks, data.episodes)


def test_batches_follow_from_seed_and_epoch_and_respect_shares() -> None:
    groups = [torch.arange(100), torch.arange(100, 130)]
    batches = RandomBatches(groups, [0.5, 0.5], batch_size=64, batches=5, seed=7)
    batches.set_epoch(3)
    first = list(batches)
    assert len(first) == 5
    assert all(int((batch >= 100).sum()) == 32 and len(batch) == 64 for batch in first)
    again = RandomBatches(groups, [0.5, 0.5], batch_size=64, batches=5, seed=7)
    again.set_epoch(3)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    again.set_epoch(4)
    assert not torch.equal(first[0], next(iter(again)))


def test_an_expired_budget_ends_an_epoch_but_not_before_one_batch() -> None:
    batches = RandomBatches([torch.arange(10)], [1.0], 4, batches=50, seed=0, expired=lambda: True)
    assert len(list(batches)) == 1


def test_normalizers_see_training_episodes_only() -> None:
    """The held-out episode is shifted far away: the statistics must not know."""
    data = demonstrations()
    _, held_out = data.split(0.1, seed=0)
    far = np.isin(data.episodes, held_out.episodes)
    data.observations[far] += 1000
    network = ChunkMLP(**NETWORK)
    module = ChunkDataModule(network, lambda group: data, held_out=0.1, seed=0)
    module.ensure(1)
    assert float(network.input_mean[:7].abs().max()) < 0.5
    np.testing.assert_allclose(network.input_mean[:7], data.observations[~far].mean(axis=0), atol=1e-5)


def test_groups_come_one_after_the_other_and_training_learns(tmp_path: Path) -> None:
    asked: list[int] = []
    L.seed_everything(0, verbose=False)
    model = ChunkCloning(NETWORK, total_steps=4 * 60, learning_rate=1e-2)
    epochs: list[int] = []

    def source(group: int) -> Demonstrations:
        asked.append(group)
        epochs.append(fit.current_epoch)
        return demonstrations(seed=group, first=100 * group, episodes=30)

    data = ChunkDataModule(
        model.network, source, pace=GroupSchedule(2, 2), batch_size=64, batches_per_epoch=60
    )
    fit = trainer(4, tmp_path)
    fit.fit(model, data)
    assert asked == [0, 1]
    assert epochs == [0, 2]
    assert fit.global_step == 240
    # Offsets are up to 0.3 rad; the held-out error is far below them.
    assert fit.callback_metrics["val_error_deg"] < 1.5


def test_same_seed_same_weights(tmp_path: Path) -> None:
    def train(seed: int) -> dict[str, torch.Tensor]:
        L.seed_everything(seed, verbose=False)
        model = ChunkCloning(NETWORK, total_steps=20)
        data = ChunkDataModule(
            model.network, lambda group: demonstrations(), batch_size=32, batches_per_epoch=20, seed=seed
        )
        trainer(1, tmp_path).fit(model, data)
        return model.network.state_dict()

    first, again, other = train(0), train(0), train(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_frozen_trunk_stays(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    model = ChunkCloning(NETWORK, total_steps=20)
    model.train_only("head")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    data = ChunkDataModule(
        model.network, lambda group: demonstrations(), batches_per_epoch=20, keep_normalizers=True
    )
    trainer(1, tmp_path).fit(model, data)
    after = model.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
