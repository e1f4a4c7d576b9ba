"""Fine-tuning: adapt a pretrained policy to recorded episodes without forgetting what it could.

Recorded and simulated pairs come half and half in every batch. The simulated ones are collected anew in the
(narrowed) space, partly driven by the policy itself and labelled by the expert. By default only the network's
head is trained; the normalizers stay as they are, so that inputs keep their meaning. The weights go into a fresh
Trainer with an optimizer of its own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.collect import CollectEpisode, Disturbance, collect
from pipelines.learning.data import ChunkDataModule, GroupSchedule, PairDataset
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.recorded import load_recorded
from pipelines.learning.trainer import (
    History,
    TrainerOptions,
    begin_run,
    check_options,
    finished_before,
    fit,
    main_process,
)
from pipelines.runs import described
from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.simulated import make_plan
from sim2real.errors import UserError
from sim2real.files import file_hash
from sim2real.identity import dataset_hash
from sim2real.policies.file import FilePolicy
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task, name_from_outside

NAMED = ("seed", "policy", "data", "robot", "task", "calibration", "space", "twin")
"""Settings that are not compared as they are: the identity has the seed, and what the names stand for."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Everything that decides a fine-tuned policy. `task` None: the one the policy was trained for.

    `units`, `episodes`, `arm`, `fps` say how the data set is read, as `open_readings` takes them.
    `lead`: how much later than due the recorded actions are learned, in policy periods (None: estimated, see
    `recorded.py`). `real_share` of every batch is recorded; `train` is "head" or "all"; `student` is the share of
    the time in which the policy itself drives while simulated episodes are collected.
    """

    policy: str
    data: str
    robot: str = "so101"
    task: str | None = None
    calibration: str | None = None
    units: str = "auto"
    episodes: str | None = None
    arm: str | None = None
    fps: float | None = None
    every_episode: bool = False
    lead: float | None = None
    simulated: int = 100
    space: str | Mapping[str, Any] | None = None
    twin: str | Mapping[str, float] | None = None
    seed: int = 0
    real_share: float = 0.5
    train: str = "head"
    student: float = 0.5
    noise: float = 0.05
    epochs: int = 15
    batches: int = 60
    batch_size: int = 512
    learning_rate: float = 5e-4
    held_out: float = 0.2
    evaluate: int = 50

    def __post_init__(self) -> None:
        if self.train not in ("head", "all"):
            raise UserError(f"what to train is 'head' or 'all', got '{self.train}'")
        if not 0 < self.real_share <= 1 or not 0 <= self.held_out < 1 or not self.learning_rate > 0:
            raise UserError(
                "the real share must lie in 0..1 (not 0), the held-out share in 0..1, the learning rate above 0"
            )
        if min(self.epochs, self.batches, self.batch_size) < 1 or min(self.simulated, self.evaluate) < 0:
            raise UserError(
                "epochs, batches and batch size must be at least 1, simulated and evaluate at least 0"
            )


def finetune(
    settings: FinetuneSettings, out: Path, *, workers: int, options: TrainerOptions | None = None
) -> dict[str, Any]:
    """Adapt the policy and write `out/policy.onnx`; returns what `metrics.json` holds besides the curve.

    "held_out_deg": mean absolute error of the chunks on held-out recorded episodes, degrees, before and after
    (None when a single episode leaves nothing to hold out); "simulation": success on the same unseen draws
    before and after. Raises UserError for a policy that cannot be trained further or is for another robot, and
    for data that lack something.
    """
    options = options or TrainerOptions()
    check_options(options)
    robot = Robot.load(settings.robot)
    network, parent = load_network(settings.policy)
    task = settings.task or name_from_outside(parent.info.task, f"the policy {settings.policy}")
    plan = _collection_plan(settings, task)
    parent.check(robot, parent.info.task)
    recorded, summary = _recorded(settings, task, robot, parent)
    config = _config(settings, task, plan, parent)
    previous, _ = begin_run(out, config)
    if finished_before(previous, out):
        del previous["curve"]
        return previous
    groups, shares = [recorded], [1.0]
    result: dict[str, Any] = {"recorded": summary}
    if settings.simulated:
        simulated, result["simulated"] = _simulated(settings, task, plan, workers)
        groups, shares = [recorded, simulated], [settings.real_share, 1 - settings.real_share]

    torch.manual_seed(settings.seed)
    model, data = _training(settings, network, groups, shares)
    history = History(out / "metrics.json")
    before = error_degrees(network, data.validation[0])
    finished = fit(model, data, out, epochs=settings.epochs, options=options, history=history)
    if not main_process():
        return result | {"interrupted": not finished, "held_out_deg": {"before": None, "after": None}}
    model.to("cpu")
    provenance = {
        **{key: config[key] for key in ("command", "settings", "versions", "created")},
        "parent": {"sha256": parent.sha256, "provenance": dict(parent.info.provenance)},
        "recorded": summary,
    }
    result["interrupted"] = not finished
    result["held_out_deg"] = {"before": before, "after": error_degrees(model.network, data.validation[0])}
    result["export_difference"] = export_policy(
        model.network, replace(parent.info, provenance=provenance), out / "policy.onnx"
    )
    if finished and settings.evaluate:
        result["simulation"] = {
            name: _measured(settings, task, policy, workers)
            for name, policy in (("before", settings.policy), ("after", str(out / "policy.onnx")))
        }
    history.write(**result)
    return result


def _collection_plan(settings: FinetuneSettings, task: str) -> SweepPlan:
    """The draws in which simulated episodes are collected: others than those of pretraining and measurements."""
    return make_plan(
        task=task,
        robot=settings.robot,
        draws=max(1, settings.simulated),
        seed=int(np.random.SeedSequence((settings.seed, 0xF17E)).generate_state(1)[0]),
        space=settings.space,
        twin=settings.twin,
    )


def _recorded(
    settings: FinetuneSettings, task: str, robot: Robot, parent: FilePolicy
) -> tuple[Demonstrations, dict[str, Any]]:
    """The data set as demonstrations of `task`, and what is to be said of it."""
    return load_recorded(
        settings.data,
        parent.info,
        robot,
        task=load_task(task).name,
        calibration=settings.calibration,
        units=settings.units,
        episodes=settings.episodes,
        arm=settings.arm,
        fps=settings.fps,
        every_episode=settings.every_episode,
        lead=settings.lead,
        predict=parent.act_on,
    )


def _config(settings: FinetuneSettings, task: str, plan: SweepPlan, parent: FilePolicy) -> dict[str, Any]:
    """What the run directory says of the run; its identity goes by the contents of all files."""
    identity = {
        **plan.identity(plan.bind()),
        "seed": settings.seed,
        "parent": parent.sha256,
        "data": dataset_hash(settings.data),
        "calibration": None if settings.calibration is None else file_hash(settings.calibration),
        "settings": {name: value for name, value in asdict(settings).items() if name not in NAMED},
    }
    named = {**asdict(settings), "task": task}
    return described("finetune", seed=settings.seed, settings=named, identity=identity)


def _simulated(
    settings: FinetuneSettings, task: str, plan: SweepPlan, workers: int
) -> tuple[Demonstrations, dict[str, Any]]:
    """Simulated demonstrations, driven by the policy itself in part, and a summary of how they went."""
    draws, _ = plan.make_draws(plan.bind())
    episode = CollectEpisode(
        settings.robot,
        task,
        Disturbance(noise=settings.noise, student=settings.student),
        student=settings.policy if settings.student > 0 else None,
        nominal=plan.nominal,
    )
    return collect(episode, draws, workers=workers, label="collect simulated")


def _training(
    settings: FinetuneSettings, network: PolicyNetwork, groups: list[Demonstrations], shares: list[float]
) -> tuple[ChunkCloning, ChunkDataModule]:
    """The module to train, with the weights of `network`, and its data: `shares` of every batch from the `groups`."""
    model = ChunkCloning(
        network.arguments,
        total_steps=settings.epochs * settings.batches,
        learning_rate=settings.learning_rate,
        train_trunk=settings.train == "all",
    )
    model.network.load_state_dict(network.state_dict())
    data = ChunkDataModule(
        model.network,
        lambda group: groups[group],
        pace=GroupSchedule(len(groups)),
        shares=lambda count: shares,
        batch_size=settings.batch_size,
        batches_per_epoch=settings.batches,
        held_out=settings.held_out,
        seed=settings.seed,
        keep_normalizers=True,
    )
    data.ensure(len(groups))
    return model, data


def _measured(settings: FinetuneSettings, task: str, policy: str, workers: int) -> dict[str, Any]:
    """Success of a policy file in simulation, on draws that are the same for every policy of these settings."""
    plan = make_plan(
        task=task,
        robot=settings.robot,
        policy=policy,
        draws=settings.evaluate,
        seed=10_000 + settings.seed,
        space=settings.space,
        twin=settings.twin,
    )
    return evaluate(plan, workers=workers)


def error_degrees(network: PolicyNetwork, demonstrations: Demonstrations) -> float | None:
    """Mean absolute error of the network's chunks, degrees; None without demonstrations."""
    if not len(demonstrations):
        return None
    pairs = PairDataset(demonstrations, network)
    training = network.training
    network.eval()
    with torch.no_grad():
        # In parts: pictures as numbers fill the memory.
        errors = [
            (network.losses(pairs[rows])[1] * network.output_scale).flatten(1).mean(dim=1)
            for rows in torch.arange(len(pairs)).split(512 if network.pictures else 65536)
        ]
    network.train(training)
    return float(torch.rad2deg(torch.cat(errors).mean()))


def forgotten(simulation: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether success in simulation fell by more than chance explains: the 95 % intervals do not overlap."""
    return bool(simulation["after"]["wilson_95"][1] < simulation["before"]["wilson_95"][0])
