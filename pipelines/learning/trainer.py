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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.compression import HOOKS, CompressedDDP
from pipelines.learning.data import ChunkDataModule, GroupTable
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.ranks import (
    MEETING,
    Helpers,
    end_plan,
    group_file,
    launched,
    main_process,
    read_plan,
    told_to_end,
    wait_for,
    wait_for_plan,
    world,
    write_plan,
)
from pipelines.learning.stopping import KeepBest
from pipelines.runs import claim
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import read_json, write_json

Settings = TypeVar("Settings")

PRACTICE = "checkpoints/practice.pt"
"""Where in a run directory an algorithm that practises keeps its state."""


def settings_from(kind: type[Settings], args: argparse.Namespace) -> Settings:
    """The settings that a command was given; what it was not given keeps its default."""
    given = {name: getattr(args, name, None) for name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in given.items() if value is not None})


def options_from(args: argparse.Namespace) -> "TrainerOptions":
    """Where and how a command was told to train."""
    return TrainerOptions(args.accelerator, args.devices, args.precision, args.nodes, args.strategy)


@dataclass(frozen=True)
class TrainerOptions:
    """Handed to Lightning's Trainer as they are."""

    accelerator: str = "auto"
    devices: str = "auto"
    precision: str = "32-true"
    nodes: int = 1
    strategy: str = "auto"
    """Of Lightning, or one of `compression.HOOKS`."""


def begin_run(out: Path, config: Mapping[str, Any], *, resume: bool = False) -> tuple[dict[str, Any], bool]:
    """Make `out` the directory of this run, or go on in it; returns its metrics so far, and whether there is a
    checkpoint to train on from. `resume` insists on one. Raises UserError when `out` holds anything else."""
    checkpoint = out / "checkpoints" / "last.ckpt"
    if resume and not (checkpoint.exists() or (out / PRACTICE).exists()):
        raise UserError(f"there is no run in {out} to resume: it has no checkpoint; leave --resume out")
    if claim(out, config) is None:
        return {}, False
    end_plan(out)
    path = out / "metrics.json"
    return (read_json(path) if path.exists() else {}), checkpoint.exists()


def finished_before(metrics: Mapping[str, Any], out: Path) -> bool:
    """Whether these metrics are those of a run that has come to its end; says so."""
    done = metrics.get("interrupted") is False and (out / "policy.onnx").exists()
    if done:
        told_to_end(out)
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
    processes = check_options(options, data.batch_size)
    last = out / "checkpoints" / "last.ckpt"
    shown = sys.stderr.isatty()
    runs = len(list((out / "logs").glob("*/metrics.csv"))) if (out / "logs").exists() else 0
    more = [history, *callbacks, *([_Bar()] if shown else [_Lines()])]
    if processes > 1:
        print(
            f"training in {processes} processes: batches of {data.batch_size}, {data.batch_size // processes} in each; "
            f"seed {data.seed} in all",
            file=sys.stderr,
        )
        _share(data, out, processes)
    plan = _plan(model, data, out, epochs, options, callbacks, gradient_clip)
    start = model.state_dict() if processes > 1 else {}
    start = {name: value.detach().clone() for name, value in start.items()}
    for attempt in range(RESTARTS + 1):
        if processes > 1:
            write_plan(out, {**plan, "resume": resume, "ready": len(data.training)}, start)
        with Helpers(out, processes - 1, train_along) as helpers, quiet_lightning():
            trainer = _fitting(
                options,
                model,
                out,
                epochs,
                gradient_clip,
                logger=[
                    CSVLogger(out, name="logs", version=f"run_{runs + attempt}"),
                    TensorBoardLogger(out, name="tensorboard", version=f"run_{runs + attempt}"),
                ],
                callbacks=more,
                enable_progress_bar=shown,
            )
            handler = signal.getsignal(signal.SIGINT)
            try:
                trainer.fit(model, data, ckpt_path=str(last) if resume else None, weights_only=True)
            except SystemExit:
                # Lightning turns Ctrl-C into an orderly end of the fit and an exit.
                if not trainer.interrupted:
                    raise
            except RuntimeError as error:
                if not helpers.killed():
                    raise
                if attempt == RESTARTS:
                    raise Sim2RealError(
                        f"training processes have died {attempt + 1} times; the same command goes on in {out} from "
                        "the last checkpoint"
                    ) from error
                resume = last.exists()
                print(
                    "a training process has died: going on "
                    + ("from the last checkpoint" if resume else "from the beginning"),
                    file=sys.stderr,
                )
                _leave_group()
                if not resume:
                    model.load_state_dict(start)
                continue
            finally:
                signal.signal(signal.SIGINT, handler)
        break
    if processes > 1:
        _leave_group()
        end_plan(out)
    return not trainer.interrupted


RESTARTS = 3
"""How often a training whose processes die is taken up again by itself."""


def _fitting(
    options: TrainerOptions, model: ChunkCloning, out: Path, epochs: int, gradient_clip: float, **more: Any
) -> L.Trainer:
    """The Trainer of `fit`, in all processes alike but for what `more` says."""
    latest = ModelCheckpoint(
        dirpath=out / "checkpoints",
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    more["callbacks"] = [latest, *more["callbacks"]]
    trainer = _trainer(
        options,
        thaws=model.thaws,
        max_epochs=epochs,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=gradient_clip,
        log_every_n_steps=20,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
        **more,
    )
    _join_group(trainer)
    return trainer


def _share(data: ChunkDataModule, out: Path, processes: int) -> None:
    """From now on every group that the data module gets is left for the other processes, too."""
    source, made = data.source, {}

    def shared(group: int) -> Demonstrations:
        if group not in made:
            made[group] = source(group)
            made[group].save(group_file(out, group))
        found: Demonstrations = made[group]
        return found

    for group in range(len(data.training)):
        shared(group)
    data.source = shared


def _plan(
    model: ChunkCloning,
    data: ChunkDataModule,
    out: Path,
    epochs: int,
    options: TrainerOptions,
    callbacks: Sequence[L.Callback],
    gradient_clip: float,
) -> dict[str, Any]:
    """What another process needs to train along, as plain values."""
    keep = next((callback for callback in callbacks if isinstance(callback, KeepBest)), None)
    return {
        "network": model.network.arguments,
        "module": {
            "total_steps": model.total_steps,
            "learning_rate": model.learning_rate,
            "weight_decay": model.weight_decay,
        },
        "trained": model.trained,
        "options": asdict(options),
        "epochs": epochs,
        "gradient_clip": gradient_clip,
        "wanted": [data.pace.wanted(epoch, 1) for epoch in range(epochs)],
        "shares": [list(map(float, data.shares(count))) for count in range(1, data.pace.groups + 1)],
        "batch_size": data.batch_size,
        "batches": data.batches_per_epoch,
        "held_out": data.held_out,
        "seed": data.seed,
        "keep_normalizers": data.keep_normalizers,
        "validated": data.validated,
        "patience": None if keep is None else [keep.patience, keep.rounds_end],
    }


def train_along(out: Path) -> None:
    """In a process that is not rank 0: take part in the training that the plan in `out` describes."""
    torch.set_num_threads(1)
    plan, state = read_plan(out)
    options = TrainerOptions(**plan["options"])
    model = ChunkCloning(plan["network"], **plan["module"])
    if plan["trained"] is not None:
        what, rank, thaw = plan["trained"]
        model.train_only(what, rank=rank, thaw=thaw)
    model.load_state_dict(state)
    if options.precision == TrainerOptions().precision:
        model.network.reduce_precision()

    def source(group: int) -> Demonstrations:
        path = group_file(out, group)
        wait_for(path)
        return Demonstrations.load(path)

    shares = plan["shares"]
    data = ChunkDataModule(
        model.network,
        source,
        pace=GroupTable(plan["wanted"], len(shares)),
        shares=lambda count: shares[count - 1],
        batch_size=plan["batch_size"],
        batches_per_epoch=plan["batches"],
        held_out=plan["held_out"],
        seed=plan["seed"],
        keep_normalizers=plan["keep_normalizers"],
        validated=plan["validated"],
    )
    data.ensure(plan["ready"])
    keep = [] if plan["patience"] is None else [KeepBest(*plan["patience"])]
    last = out / "checkpoints" / "last.ckpt"
    with quiet_lightning():
        trainer = _fitting(
            options,
            model,
            out,
            plan["epochs"],
            plan["gradient_clip"],
            logger=False,
            callbacks=keep,
            enable_progress_bar=False,
        )
        trainer.fit(model, data, ckpt_path=str(last) if plan["resume"] else None, weights_only=True)
    _leave_group()


def follow(out: Path) -> bool:
    """In a process that torchrun or SLURM started besides rank 0: train along until the training has ended, or rank 0
    has said that there is none. False in rank 0, which has everything else to do."""
    if main_process():
        return False
    if not launched():
        raise UserError(
            "LOCAL_RANK is set, but nothing has started several processes: unset it, or use torchrun"
        )
    if wait_for_plan(out):
        train_along(out)
    return True


def followed() -> dict[str, Any]:
    """What a fine-tuning returns in a process that only trained along: its result is rank 0's."""
    return {
        "interrupted": False,
        "held_out_deg": {"before": None, "after": None},
        "recorded": {"episodes": 0},
    }


def _join_group(trainer: L.Trainer) -> None:
    """Where rank 0 has started the other processes itself they find each other by a file: the port that torch would
    open for that listens to the whole network."""
    if (meeting := os.environ.get(MEETING)) is None:
        return
    strategy: Any = trainer.strategy
    torch.distributed.init_process_group(
        strategy._get_process_group_backend(),
        init_method=f"file://{meeting}",
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )


def _leave_group() -> None:
    """This process belongs to no group of processes any more."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_options(options: TrainerOptions, batch_size: int | None = None) -> int:
    """How many processes train. Raises UserError when this machine cannot train with these options, or batches cannot
    be divided among the processes; called before anything is written."""
    with quiet_lightning():
        trainer = _trainer(options, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    processes = trainer.num_devices * trainer.num_nodes
    if trainer.num_nodes > 1 and not launched():
        raise UserError(
            f"--nodes {trainer.num_nodes} needs a program that starts this command on every node: torchrun, as in "
            "examples/train.sbatch, or SLURM's srun"
        )
    if batch_size is not None and batch_size % processes:
        raise UserError(
            f"batches of {batch_size} cannot be divided evenly among {processes} processes; choose another --batch-size"
        )
    return processes


def _trainer(options: TrainerOptions, *, thaws: bool = False, **arguments: Any) -> L.Trainer:
    """Raises UserError for what this machine or Lightning does not have."""
    devices = options.devices if options.devices == "auto" else _devices(options.devices)
    nodes = options.nodes
    if nodes < 1:
        raise UserError(f"--nodes must be at least 1, got {nodes}")
    if devices == "auto" and (found := world()) is not None:
        devices, nodes = found[0], found[1]
    strategy: Any = options.strategy
    several = nodes > 1 or (isinstance(devices, int) and devices > 1)
    if strategy in HOOKS:
        strategy = CompressedDDP(strategy, find_unused_parameters=thaws)
    elif strategy == "ddp" or (strategy == "auto" and several):
        # Weights that thaw later take no part at first, which must be said.
        strategy = DDPStrategy(find_unused_parameters=thaws)
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=options.precision,  # type: ignore[arg-type]
            **arguments,
        )
    except UserError:
        raise
    except Exception as error:
        # Lightning raises many kinds for a device or precision that this machine does not have.
        raise UserError(
            f"the trainer cannot be set up with --accelerator {options.accelerator} --devices "
            f"{options.devices} --nodes {options.nodes} --strategy {options.strategy} --precision "
            f"{options.precision}: {str(error).splitlines()[0]}"
        ) from None


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Standard output is for results: the progress bar and everything else goes to standard error, and hints
    that mean nothing to a user of a command are left out."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
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
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


def _devices(text: str) -> int | list[int]:
    try:
        return [int(part) for part in text.split(",")] if "," in text else int(text)
    except ValueError:
        raise UserError(f"--devices takes a number, a list such as 0,1, or 'auto'; got '{text}'") from None
