"""What pretraining and fine-tuning share: the Trainer, its loggers and checkpoints, and how a run is recorded.

A run directory holds `config.json` (resolved settings, versions), `logs/` (CSV), `tensorboard/`, `checkpoints/`,
`metrics.json` (curves and results) and `policy.onnx`.
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.data import ChunkDataModule
from pipelines.runs import claim
from sim2real.errors import UserError
from sim2real.files import read_json, write_json

Settings = TypeVar("Settings")


def settings_from(kind: type[Settings], args: argparse.Namespace) -> Settings:
    """The settings that a command was given; what it was not given keeps its default."""
    given = {name: getattr(args, name, None) for name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class TrainerOptions:
    """Handed to Lightning's Trainer as they are."""

    accelerator: str = "auto"
    devices: str = "auto"
    precision: str = "32-true"


def main_process() -> bool:
    """False in the processes that Lightning starts for further devices: they run the same command again, train
    along, and leave files alone."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def begin_run(out: Path, config: Mapping[str, Any], *, resume: bool = False) -> tuple[dict[str, Any], bool]:
    """Make `out` the directory of this run, or go on in it; returns its metrics so far, and whether there is a
    checkpoint to train on from. `resume` insists on one. Raises UserError when `out` holds anything else."""
    checkpoint = out / "checkpoints" / "last.ckpt"
    if not main_process():
        return {}, checkpoint.exists()
    if resume and not checkpoint.exists():
        raise UserError(f"there is no run in {out} to resume: it has no checkpoint; leave --resume out")
    if claim(out, config) is None:
        return {}, False
    path = out / "metrics.json"
    return (read_json(path) if path.exists() else {}), checkpoint.exists()


def finished_before(metrics: Mapping[str, Any], out: Path) -> bool:
    """Whether these metrics are those of a run that has come to its end; says so."""
    done = metrics.get("interrupted") is False and (out / "policy.onnx").exists()
    if done:
        print(f"{out} holds this run, finished: nothing to do", file=sys.stderr)
    return done


class Budget:
    """A wall-clock budget that began with its making; None minutes never end."""

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise UserError(f"a time budget must be a positive number of minutes, got {minutes}")
        self.seconds = None if minutes is None else 60 * minutes
        self.begin = time.monotonic()

    def used(self) -> float:
        """Fraction of the budget that is used up."""
        return 0.0 if self.seconds is None else (time.monotonic() - self.begin) / self.seconds


class History(L.Callback):
    """Keeps one row of metrics per epoch in `metrics.json`, where the report finds them."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path = path
        self.rows = [dict(row) for row in rows]
        self.begin = time.monotonic()
        self.extra: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # A resumed run repeats the epoch in which it was stopped.
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Validation runs inside the training epoch, before its averages are complete.
        self._validation = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")
        }

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= getattr(self, "_validation", {})
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = round(time.monotonic() - self.begin, 2)
        self.rows.append(row)
        if trainer.is_global_zero:
            self.write()

    def write(self, **results: Any) -> None:
        """Write the file, with further results beside the curve."""
        self.extra |= results
        write_json(self.path, {"curve": self.rows, **self.extra})


class Deadline(L.Callback):
    """Ends the training when a budget is used up to `share`."""

    def __init__(self, budget: Budget, share: float) -> None:
        self.budget, self.share = budget, share

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.budget.used() >= self.share:
            trainer.should_stop = True


class _Bar(TQDMProgressBar):
    """The bar of a terminal, without the logger's version number."""

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> Any:
        return {
            name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"
        }


class _Lines(L.Callback):
    """A line per epoch where there is no terminal: a bar would fill a log with copies of itself."""

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        for name, label in (("train_error_deg", "error"), ("val_error_deg", "held out")):
            if name in metrics:
                parts.append(f"{label} {float(metrics[name]):.2f}°")
            elif (plain := name.removesuffix("_deg")) in metrics:
                parts.append(f"{label} {float(metrics[plain]):.4f}")
        if "val_seen_mm" in metrics:
            parts.append(f"objects {float(metrics['val_seen_mm']):.1f} mm")
        print("  ".join(parts), file=sys.stderr, flush=True)


def fit(
    model: ChunkCloning,
    data: ChunkDataModule,
    out: Path,
    *,
    epochs: int,
    options: TrainerOptions,
    history: History,
    resume: bool = False,
    callbacks: Sequence[L.Callback] = (),
    gradient_clip: float = 1.0,
) -> bool:
    """Train in a fresh Trainer; False when Ctrl-C ended it early (the model is then as it was at that moment).

    `resume` continues from `checkpoints/last.ckpt`. Raises UserError when that cannot be done.
    """
    # Networks of this size train faster on one thread than on two, several times so where something else runs,
    # and the same sums in the same order give the same policy whatever the number of cores.
    torch.set_num_threads(1)
    checkpoints = out / "checkpoints"
    last = checkpoints / "last.ckpt"
    latest = ModelCheckpoint(
        dirpath=checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    shown = sys.stderr.isatty()
    runs = len(list((out / "logs").glob("*/metrics.csv"))) if (out / "logs").exists() else 0
    with quiet_lightning():
        trainer = _trainer(
            options,
            max_epochs=epochs,
            logger=[
                CSVLogger(out, name="logs", version=f"run_{runs}"),
                TensorBoardLogger(out, name="tensorboard", version=f"run_{runs}"),
            ],
            callbacks=[latest, history, *callbacks, *([_Bar()] if shown else [_Lines()])],
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=gradient_clip,
            log_every_n_steps=20,
            enable_progress_bar=shown,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=out,
        )
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(model, data, ckpt_path=str(last) if resume else None, weights_only=True)
        except SystemExit:
            # Lightning turns Ctrl-C into an orderly end of the fit and an exit.
            if not trainer.interrupted:
                raise
        finally:
            signal.signal(signal.SIGINT, handler)
    return not trainer.interrupted


def check_options(options: TrainerOptions) -> None:
    """Raise UserError when this machine cannot train with these options; called before anything is written."""
    with quiet_lightning():
        _trainer(options, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _trainer(options: TrainerOptions, **arguments: Any) -> L.Trainer:
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices if options.devices == "auto" else _devices(options.devices),
            precision=options.precision,  # type: ignore[arg-type]
            **arguments,
        )
    except UserError:
        raise
    except Exception as error:
        # Lightning raises many kinds for a device or precision that this machine does not have.
        raise UserError(
            f"the trainer cannot be set up with --accelerator {options.accelerator} --devices "
            f"{options.devices} --precision {options.precision}: {str(error).splitlines()[0]}"
        ) from None


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Standard output is for results: the progress bar and everything else goes to standard error, and hints
    that mean nothing to a user of a command are left out."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before.*")
        try:
            yield
        finally:
            logger.setLevel(level)


def _devices(text: str) -> int | list[int]:
    try:
        return [int(part) for part in text.split(",")] if "," in text else int(text)
    except ValueError:
        raise UserError(f"--devices takes a number, a list such as 0,1, or 'auto'; got '{text}'") from None
