"""Fine-tuning: adapt a pretrained policy to recorded episodes without forgetting what it could.

What it learns from, batch by batch:

1. the recorded episodes. Where a policy drove the arm, its own actions teach it nothing new; then the task's expert
   says what should have been done in the recorded states, failures included (`relabelling.py`).
2. episodes simulated with the arm that the recordings show (`narrowing.py`, or a given space): partly driven by the
   policy itself, labelled by the expert, which knows the zeros that were found.
3. rehearsal: episodes simulated in the default space, so that what it could is kept.

The share of the first is chosen on held-out recorded episodes (`mixing.py`). Low-rank adapters are trained, the head,
or all of the network; the normalizers stay as they are, so that inputs keep their meaning. Training ends when held-out
recorded episodes say so. The weights go into a fresh Trainer with an optimizer of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.learning.adapters import merged
from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.collect import CollectEpisode, Disturbance, collect
from pipelines.learning.comparing import paired, worse
from pipelines.learning.curve import curve_text, learning_curve
from pipelines.learning.data import ChunkDataModule, GroupSchedule, error_degrees
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.finetune_settings import DEFAULT, IDENTIFIED, FinetuneSettings
from pipelines.learning.mixing import RATIOS, chosen_mix
from pipelines.learning.narrowing import Narrowed, narrow
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.recorded import load_recorded
from pipelines.learning.relabelling import KnownZeros, relabelled
from pipelines.learning.stopping import KeepBest
from pipelines.learning.trainer import (
    History,
    TrainerOptions,
    begin_run,
    check_options,
    finished_before,
    fit,
    follow,
    followed,
)
from pipelines.runs import described, provenance
from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.simulated import make_plan
from sim2real.errors import UserError
from sim2real.files import file_hash
from sim2real.identity import dataset_hash
from sim2real.policies.committed import COMMITTED
from sim2real.policies.file import FilePolicy
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task, name_from_outside, split, trained_with

Say = Callable[[str], None]

NAMED = ("seed", "policy", "data", "robot", "task", "calibration", "space", "twin", "cameras")
"""Settings that are not compared as they are: the identity has the seed, and what the names stand for."""

OWN = 1.5
"""Degrees within which a policy agrees with a recording that it drove itself; people and experts differ by more."""

TEACHER_EPISODES = 10
"""Simulated episodes that show whether the expert can do the task with the arm that was found."""
CAPABLE = 0.6
"""Share of these in which it must succeed to be believed."""

REFERENCE, TEACHER = 0xDEFA, 0x7EAC
"""Separate the draws of rehearsal and of the expert's own episodes from the others."""


@dataclass
class _Run:
    """One fine-tuning under way."""

    settings: FinetuneSettings
    task: str
    robot: Robot
    parent: FilePolicy
    out: Path
    workers: int
    options: TrainerOptions
    space: str | Mapping[str, Any] | None
    """The space of the adapted arm; None: the default one."""
    zeros: np.ndarray
    recorded: Demonstrations | None = None
    summaries: list[dict[str, Any]] = field(default_factory=list)
    """Of the rounds of collection."""
    shown: list[Demonstrations] = field(default_factory=list)
    """The expert's own episodes with the arm that was found."""
    mixed: list[tuple[Demonstrations, float]] = field(default_factory=list)
    """What is mixed in, and the share of what is not recorded."""


def finetune(
    settings: FinetuneSettings,
    out: Path,
    *,
    workers: int,
    options: TrainerOptions | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Adapt the policy and write `out/policy.onnx`; returns what `metrics.json` holds besides the curve.

    "held_out_deg": mean absolute error of the chunks on held-out recorded episodes, degrees, before and after
    (None when a single episode leaves nothing to hold out); "simulation": success on the same unseen draws of the
    adapted arm before and after; "forgetting": the same in the default space; "identified": the parameters that moved;
    "mix": the share of recorded data, and how it was chosen. `say` is told what a user should know, as soon as it is
    known. Raises UserError for a policy that cannot be trained further or is for another robot, and for data that lack
    something.
    """
    options, tell = options or TrainerOptions(), say or (lambda _: None)
    check_options(options, settings.batch_size)
    if follow(out):
        return followed()
    robot = Robot.load(settings.robot)
    network, parent = load_network(settings.policy)
    task = settings.task or name_from_outside(parent.info.task, f"the policy {settings.policy}")
    task = trained_with(task, settings.policy)
    _collection_plan(settings, task, None if settings.space in (DEFAULT, IDENTIFIED) else settings.space, 1)
    parent.check(robot, load_task(task, robot.n) if split(task)[0] == parent.info.task else parent.info.task)
    if network.history > 1 or any(feature.name == COMMITTED for feature in parent.info.features):
        raise UserError(
            f"{settings.policy} observes several moments, or what is committed; fine-tuning knows policies of one "
            "moment. Identify the arm, and train for it in simulation: pretrain --twin"
        )
    recorded, summary = _recorded(settings, task, robot, parent)
    for remark in summary["remarks"]:
        tell(f"note: {remark}")
    config = _config(settings, task, parent)
    previous, _ = begin_run(out, config)
    if finished_before(previous, out):
        del previous["curve"]
        return previous
    result: dict[str, Any] = {}
    space, zeros = settings.space, np.zeros(robot.n)
    if space in (None, IDENTIFIED) and settings.twin is None:
        narrowed = _narrowed(settings, task, robot, result, tell)
        space, zeros = (None, zeros) if narrowed is None else (narrowed.space, narrowed.zeros)
    run = _Run(
        settings, task, robot, parent, out, workers, options, None if space == DEFAULT else space, zeros
    )
    if settings.simulated and (run.space is not None or settings.adapted):
        _check_teacher(run, result, tell)
    result["recorded"] = summary
    recorded = run.recorded = _labelled(run, recorded, summary, tell)
    tell(
        f"learning from {summary['episodes']} of {summary['episodes_in_set']} recorded episodes, {len(recorded)} "
        f"frames ({summary['units']}); actions trail by {summary['lead_periods']:g} periods"
    )

    torch.manual_seed(settings.seed)
    history = History(out / "metrics.json")
    model, finished = _train(run, network, result, history, tell)
    about = {
        **provenance(config, parent),
        "recorded": summary,
    }
    result["interrupted"] = not finished
    result["export_difference"] = export_policy(
        merged(model.network), replace(parent.info, provenance=about), out / "policy.onnx"
    )
    if finished and settings.evaluate:
        result["simulation"] = _compared(run, run.space, here=True)
        if run.space is not None or settings.adapted:
            result["forgetting"] = _compared(run, None, here=False)
        else:
            result["forgetting"] = result["simulation"]
        result["forgotten"] = worse(result["forgetting"])
    if finished and settings.curve:
        result["episodes_curve"] = learning_curve(
            network, parent.info, robot, recorded, run.mixed, float(result["mix"]["chosen"]), settings,
            out / "curve", lambda policy: _measured(run, policy, run.space, here=True),
        )  # fmt: skip
        for line in curve_text(result["episodes_curve"]):
            tell(line)
    history.write(**result)
    return result


def _narrowed(
    settings: FinetuneSettings, task: str, robot: Robot, result: dict[str, Any], tell: Say
) -> Narrowed | None:
    """The space of the arm that was recorded; None where the recordings do not tell, unless that was asked for."""
    tell("identifying the arm in the recordings …")
    try:
        found = narrow(
            settings.data,
            robot,
            task,
            settings.policy,
            say=tell,
            calibration=settings.calibration,
            units=settings.units,
            episodes=settings.episodes,
            arm=settings.arm,
            fps=settings.fps,
            names=settings.names,
        )
    except UserError as error:
        if settings.space == IDENTIFIED:
            raise
        tell(f"note: nothing is identified, simulated episodes vary as by default: {error}")
        result["identified"] = {"found": False, "reason": str(error)}
        return None
    for remark in found.remarks:
        tell(f"note: {remark}")
    for row in found.moved[:6]:
        tell(f"  {row['parameter']}: {row['nominal']:.4g} → {row['found']:.4g}")
    result["identified"] = {
        "found": True,
        "moved": list(found.moved),
        "remarks": list(found.remarks),
        **found.told,
    }
    return found


def _collection_plan(
    settings: FinetuneSettings, task: str, space: Any, draws: int, part: int = 0
) -> SweepPlan:
    """The draws in which simulated episodes are collected: others than those of pretraining and measurements."""
    return make_plan(
        task=task,
        robot=settings.robot,
        draws=max(1, draws),
        seed=int(np.random.SeedSequence((settings.seed, 0xF17E, part)).generate_state(1)[0]),
        space=space,
        twin=settings.twin,
        cameras=settings.camera_models,
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
        names=settings.names,
        every_episode=settings.every_episode,
        failures=settings.failures != "leave-out" and settings.labels != "recorded",
        lead=settings.lead,
        predict=parent.act_on,
    )


def _config(settings: FinetuneSettings, task: str, parent: FilePolicy) -> dict[str, Any]:
    """What the run directory says of the run; its identity goes by the contents of all files."""
    named = settings.space in (None, DEFAULT, IDENTIFIED)
    plan = _collection_plan(settings, task, None if named else settings.space, settings.simulated)
    identity = {
        **plan.identity(plan.bind()),
        "seed": settings.seed,
        "parent": parent.sha256,
        "data": dataset_hash(settings.data),
        "calibration": None if settings.calibration is None else file_hash(settings.calibration),
        "settings": {name: value for name, value in asdict(settings).items() if name not in NAMED},
        **({"space_by_name": settings.space} if named else {}),
    }
    return described(
        "finetune", seed=settings.seed, settings={**asdict(settings), "task": task}, identity=identity
    )


def _labelled(run: _Run, recorded: Demonstrations, summary: dict[str, Any], tell: Say) -> Demonstrations:
    """The recorded pairs with the labels that the settings ask for; notes in the summary which, and failures used."""
    settings, failed = run.settings, np.isin(recorded.episodes, summary["failed"])
    own = summary["parent_error_deg"] <= OWN and not summary["corrections"]
    summary["own"] = bool(own)
    wanted = (
        settings.labels == "expert" or settings.failures == "avoid" or (settings.labels == "auto" and own)
    )
    if wanted:
        try:
            expert = load_policy("expert", load_task(run.task, run.robot.n), run.robot)
            known = KnownZeros(expert, run.zeros, run.robot.lower, run.robot.upper)
            found = relabelled(recorded, run.parent.info.features, known)
        except UserError as error:
            if settings.labels == "expert" or settings.failures == "avoid":
                raise UserError(
                    f"the recorded states cannot be labelled by the task's expert: {error}"
                ) from None
        else:
            if settings.labels == "auto" and not own:
                # A person's successes are worth more than an expert's word; only failures need one.
                chunks = np.where(failed[:, None, None], found.chunks, recorded.chunks)
                found = replace(recorded, chunks=chunks)
                summary["labels"] = "recorded, of failures the expert's"
            else:
                summary["labels"] = "expert"
                how = "the policy drove the arm itself" if own else "as asked for"
                tell(f"labels in recorded states are the expert's ({how})")
            summary["failures_used"] = len(summary["failed"])
            return found
    summary["labels"], summary["failures_used"] = "recorded", 0
    kept = recorded if settings.every_episode else recorded.select(~failed)
    summary["episodes"] = len(np.unique(kept.episodes))
    if not len(kept):
        raise UserError(
            f"{summary['data']} has no successful episode, and failures teach only where the task has an expert; "
            "record some that succeed, or use all as they are with --all-episodes"
        )
    return kept


def _check_teacher(run: _Run, result: dict[str, Any], tell: Say) -> None:
    """Let the expert do the task with the arm that was found, knowing the zeros that were found or not: what it cannot
    do it should not teach. Keeps its episodes, and in `run.zeros` what it is to know."""
    tried = []
    for zeros in [run.zeros, np.zeros(run.robot.n)] if run.zeros.any() else [run.zeros]:
        run.zeros = zeros
        shown = _simulated(run, run.space, TEACHER_EPISODES, "", TEACHER, "the expert alone", alone=True)
        tried.append((run.summaries.pop()["success_rate"], zeros, shown))
        if tried[-1][0] >= CAPABLE:
            break
    rate, run.zeros, shown = max(tried, key=lambda each: each[0])
    result["teacher"] = {"success_rate": rate, "knows_zeros": bool(run.zeros.any())}
    if rate >= CAPABLE:
        run.shown = [replace(shown, episodes=shown.episodes + 1_000_000)]
    else:
        tell(
            f"warning: the expert itself succeeds in {rate:.0%} of {TEACHER_EPISODES} simulated episodes with this "
            "arm; what it teaches may be of little use: compare before and after"
        )


def _simulated(
    run: _Run, space: Any, count: int, student: str, part: int, label: str, alone: bool = False
) -> Demonstrations:
    """Simulated demonstrations, driven by a policy file in part, or by the expert `alone` and undisturbed."""
    settings = run.settings
    plan = _collection_plan(settings, run.task, space, count, part)
    if part == REFERENCE:
        plan = replace(plan, nominal={}, cameras=None)
    draws, _ = plan.make_draws(plan.bind())
    episode = CollectEpisode(
        settings.robot,
        run.task,
        Disturbance(noise=0.0) if alone else Disturbance(noise=settings.noise, student=settings.student),
        student=None if alone or settings.student == 0 else student,
        nominal=plan.nominal,
        cameras=plan.camera_models,
        features=run.parent.info.features,
        zeros=() if part == REFERENCE else tuple(float(zero) for zero in run.zeros),
    )
    made, summary = collect(episode, draws, workers=run.workers, label=label)
    run.summaries.append(summary)
    return made


def _train(
    run: _Run, network: PolicyNetwork, result: dict[str, Any], history: History, tell: Say
) -> tuple[ChunkCloning, bool]:
    """Train on recorded, simulated and rehearsed episodes; the module, and whether it came to its end."""
    settings, recorded = run.settings, run.recorded
    assert recorded is not None
    adapted = run.space is not None or settings.adapted
    groups: dict[int, Demonstrations] = {0: recorded}
    rounds = min(settings.rounds, settings.epochs) if settings.simulated else 0
    kinds = ["recorded"]
    if settings.simulated:
        kinds += ["rehearsed"] if adapted and settings.rehearsal > 0 else []
        kinds += ["simulated"] * rounds
    per_round = settings.simulated // max(rounds, 1)

    def source(group: int) -> Demonstrations:
        if group not in groups:
            if kinds[group] == "rehearsed":
                count = max(2, round(settings.simulated * settings.rehearsal))
                groups[group] = _simulated(run, None, count, settings.policy, REFERENCE, "collect rehearsal")
            else:
                turn = group - kinds.index("simulated")
                student = settings.policy
                if turn:
                    export_policy(merged(model.network), run.parent.info, run.out / "student.onnx")
                    student = str(run.out / "student.onnx")
                made = _simulated(
                    run, run.space, max(2, per_round), student, turn, f"collect {turn + 1}/{rounds}"
                )
                groups[group] = Demonstrations.joined([made, *([] if turn else run.shown)])
        return groups[group]

    at_once = len(kinds) - max(rounds - 1, 0)
    for group in range(1, at_once):
        groups[group] = source(group)
    others = _shares(kinds[:at_once], 0.0, settings.rehearsal)
    run.mixed = [(groups[g], others[g]) for g in range(1, at_once)]
    mix = settings.mix
    result["mix"] = {"chosen": mix, "by": "settings"}
    if mix == "auto":
        held_in, held_out = recorded.split(settings.held_out, settings.seed)
        if len(held_out):
            parts = [held_in, *(pairs for pairs, _ in run.mixed)]
            tried = chosen_mix(network, parts, others[1:], held_out, settings)
            mix = tried["chosen"]
            result["mix"] = tried
            table = ", ".join(f"{row['mix']:.0%}: {row['held_out_deg']:.2f}°" for row in tried["tried"])
            tell(f"share of recorded data in a batch: {mix:.0%} (held-out error {table})")
        else:
            mix = RATIOS[0]
            result["mix"] = {"chosen": mix, "by": "a single recorded episode leaves nothing to choose by"}
            tell(
                f"share of recorded data in a batch: {mix:.0%} (a single episode leaves nothing to choose by)"
            )
    model = _module(settings, network)
    pace = _Rounds(at_once, len(kinds), settings.epochs)
    data = ChunkDataModule(
        model.network,
        source,
        pace=pace,
        shares=lambda count: _shares(kinds[:count], float(mix), settings.rehearsal),
        batch_size=settings.batch_size,
        batches_per_epoch=settings.batches,
        held_out=settings.held_out,
        seed=settings.seed,
        keep_normalizers=True,
        validated=1,
    )
    data.ensure(at_once)
    before = error_degrees(network, data.validation[0])
    best = KeepBest(settings.patience, rounds_end=pace.last_begins)
    finished = fit(
        model, data, run.out, epochs=settings.epochs, options=run.options, history=history,
        callbacks=[best] if settings.patience else [],
    )  # fmt: skip
    model.to("cpu")
    if finished and settings.patience:
        best.restore(model)
        result["early_stopping"] = best.told()
    (run.out / "student.onnx").unlink(missing_ok=True)
    result["held_out_deg"] = {"before": before, "after": error_degrees(model.network, data.validation[0])}
    if run.summaries:
        result["simulated"] = {
            "episodes": sum(row["episodes"] for row in run.summaries),
            "pairs": sum(row["pairs"] for row in run.summaries),
            "rounds": run.summaries,
        }
    return model, finished


class _Rounds(GroupSchedule):
    """So many groups at once, the others evenly over the first two thirds of the training."""

    def __init__(self, at_once: int, groups: int, epochs: int) -> None:
        super().__init__(groups)
        self.at_once, self.epochs = at_once, epochs

    @property
    def last_begins(self) -> int:
        """The epoch from which on all groups take part."""
        more = self.groups - self.at_once
        return -(-more * 2 * self.epochs // (3 * (more + 1))) if more else 0

    def wanted(self, epoch: int, have: int) -> int:
        more = self.groups - self.at_once
        due = sum(epoch >= -(-k * 2 * self.epochs // (3 * (more + 1))) for k in range(1, more + 1))
        return self.at_once + due


def _shares(kinds: Sequence[str], mix: float, rehearsal: float) -> list[float]:
    """The share of each group in a batch, by its kind."""
    simulated = kinds.count("simulated")
    rest = 1 - mix if simulated else 0.0
    each = {
        "recorded": mix if simulated else 1.0,
        "rehearsed": rest * rehearsal,
        "simulated": rest * (1 - rehearsal * ("rehearsed" in kinds)) / max(simulated, 1),
    }
    return [each[kind] for kind in kinds]


def _module(settings: FinetuneSettings, network: PolicyNetwork) -> ChunkCloning:
    """The module to train, with the weights of `network`."""
    model = ChunkCloning(
        network.arguments, total_steps=settings.epochs * settings.batches, learning_rate=settings.rate
    )
    model.network.load_state_dict(network.state_dict())
    model.train_only(settings.train, rank=settings.rank, thaw=settings.thaw)
    return model


def _compared(run: _Run, space: Any, *, here: bool) -> dict[str, Any]:
    """Parent and result on the same unseen draws of a space, side by side."""
    policies = (run.settings.policy, str(run.out / "policy.onnx"))
    before, after = (_measured(run, policy, space, here=here) for policy in policies)
    return paired(before, after)


def _measured(run: _Run, policy: str, space: Any, *, here: bool) -> dict[str, Any]:
    """Success of a policy file, on draws that are the same for every policy of these settings; `here` with the twin and
    the cameras of this arm."""
    settings = run.settings
    plan = make_plan(
        task=run.task,
        robot=settings.robot,
        policy=policy,
        draws=max(settings.evaluate, 1),
        seed=10_000 + settings.seed,
        space=space,
        twin=settings.twin if here else None,
        cameras=settings.camera_models if here else None,
    )
    return evaluate(plan, workers=run.workers)
