"""Training on several processes: the same batches in parts, the same loss, and what a killed one costs."""

import json
import multiprocessing
import os
import subprocess
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.data import ChunkDataModule, GroupSchedule, RandomBatches
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.ranks import MEETING, main_process, rank
from pipelines.learning.trainer import History, TrainerOptions, check_options, fit
from sim2real.errors import UserError
from tests.pipelines.sockets import listening

pytestmark = pytest.mark.realtime

EXAMPLES = Path(__file__).parents[2] / "examples"
FEATURES = [["joint_position", 6], ["joint_command", 6], ["goal", 3]]
NETWORK = {
    "kind": "mlp",
    "features": FEATURES,
    "joints": 6,
    "horizon": 4,
    "width": 16,
    "depth": 2,
    "chain": [],
}
EPOCHS = 4


def test_every_process_has_its_part_of_the_same_batches() -> None:
    groups = [torch.arange(100), torch.arange(100, 130)]

    def batches(part: tuple[int, int]) -> list[torch.Tensor]:
        sampler = RandomBatches(groups, [3, 1], 24, 5, seed=2, part=part)
        sampler.set_epoch(1)
        return list(sampler)

    whole = batches((0, 1))
    for of in (2, 3):
        parts = [batches((k, of)) for k in range(of)]
        for k, batch in enumerate(whole):
            assert {len(part[k]) for part in parts} == {24 // of}
            assert torch.equal(torch.cat([part[k] for part in parts]).sort()[0], batch.sort()[0])


def test_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert rank() == 0 and main_process()
    # The first process of a second computer is not the main one.
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "1")
    assert rank() == 1 and not main_process()


@pytest.mark.parametrize(
    "options, batch, why",
    [
        (TrainerOptions("cpu", "3"), 64, "evenly among 3"),
        (TrainerOptions("cpu", "1", nodes=2), 64, "torchrun"),
        (TrainerOptions("cpu", "1", nodes=0), 64, "--nodes"),
        (TrainerOptions("cpu", "1", strategy="carrier pigeon"), 64, "--strategy carrier pigeon"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: TrainerOptions, batch: int, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        check_options(options, batch)


def demonstrations(group: int) -> Demonstrations:
    rng = np.random.default_rng((5, group))
    observations = rng.normal(size=(400, 15)).astype(np.float32)
    mix = np.random.default_rng(6).normal(size=(15, 24)).astype(np.float32)
    chunks = np.tanh(observations @ mix).reshape(-1, 4, 6) * np.float32(0.1)
    return Demonstrations(observations, chunks, np.arange(400) // 40)


class Kill(L.Callback):
    """Kills the other processes, once, when the third epoch begins."""

    def __init__(self) -> None:
        self.killed = 0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 2 and not self.killed:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
                self.killed += 1


class Sockets(L.Callback):
    """Looks at what this process and its children listen with while they train."""

    def __init__(self) -> None:
        self.near: set[str] = set()
        self.far: set[str] = set()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
        near, far = listening([os.getpid(), *children])
        self.near |= near
        self.far |= far


def curve(out: Path, devices: str, *callbacks: L.Callback) -> list[dict[str, Any]]:
    out.mkdir()
    torch.manual_seed(0)
    model = ChunkCloning(dict(NETWORK), total_steps=EPOCHS * 6, learning_rate=5e-3)
    data = ChunkDataModule(
        model.network,
        demonstrations,
        pace=GroupSchedule(2, EPOCHS // 2),
        batch_size=64,
        batches_per_epoch=6,
        held_out=0.2,
    )
    finished = fit(
        model, data, out, epochs=EPOCHS, options=TrainerOptions("cpu", devices),
        history=History(out / "metrics.json"), callbacks=callbacks,
    )  # fmt: skip
    assert finished
    found: list[dict[str, Any]] = json.loads((out / "metrics.json").read_text())["curve"]
    return found


@pytest.mark.slow
def test_two_processes_learn_as_one_even_where_one_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill, sockets = Kill(), Sockets()
    one, two = curve(tmp_path / "one", "1"), curve(tmp_path / "two", "2", kill, sockets)
    said = capsys.readouterr().err
    assert "2 processes: batches of 64, 32 in each; seed 0 in all" in said
    assert kill.killed == 1 and "going on from the last checkpoint" in said
    assert [row["epoch"] for row in two] == list(range(EPOCHS))
    for a, b in zip(one, two):
        for name in ("train_loss", "train_error_deg", "val_loss"):
            assert b[name] == pytest.approx(a[name], rel=0.02), (a["epoch"], name)
    assert two[-1]["val_loss"] < two[0]["val_loss"]
    # Nothing is left of the other process: no files for it, none of its environment.
    assert not (tmp_path / "two" / "ranks").exists()
    assert not {"LOCAL_RANK", "MASTER_PORT", "NODE_RANK", MEETING} & os.environ.keys()
    # Nobody else could have taken part.
    assert sockets.near and not sockets.far
    assert not torch.distributed.is_initialized()


def test_the_examples_for_clusters_are_well_formed() -> None:
    assert subprocess.run(["bash", "-n", str(EXAMPLES / "train.sbatch")]).returncode == 0
    yaml = pytest.importorskip("yaml")
    parts = list(yaml.safe_load_all((EXAMPLES / "train.kubernetes.yaml").read_text()))
    assert [part["kind"] for part in parts] == ["Service", "Job"]
    job = parts[1]["spec"]
    assert job["completions"] == job["parallelism"] == 2 and job["completionMode"] == "Indexed"
