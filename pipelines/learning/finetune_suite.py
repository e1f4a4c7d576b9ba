"""Teaching a policy for many tasks a further one, from a few demonstrations, without what it could being lost.

Every batch has two parts: demonstrations of the new tasks, by their experts or recorded on an arm, and rehearsal:
episodes of the tasks that the policy was trained on, driven by itself in part and labelled by their experts. The share
`rehearsal` of a batch is of the latter; with 0 the policy is tuned on the new alone, which is what to compare with.

What came of it is measured on the same unseen draws before and after, on the new tasks and on a sample of the old.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.learning.adapters import merged
from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.collect import CollectEpisode, Disturbance, collect
from pipelines.learning.comparing import paired, worse
from pipelines.learning.data import ChunkDataModule, GroupSchedule, error_degrees
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
    follow,
    followed,
)
from pipelines.runs import described, provenance
from pipelines.sweeps.evaluate import evaluate_several
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.several import Several, numbered
from pipelines.sweeps.simulated import make_plan
from sim2real.errors import UserError, nearest
from sim2real.files import file_hash
from sim2real.goal_view import PARTS, goal_view
from sim2real.identity import dataset_hash
from sim2real.observation import flatten
from sim2real.policies.file import FilePolicy
from sim2real.policies.goal import takes_goals
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task, name_from_outside
from sim2real.tasks.suite.files import is_task_file
from sim2real.tasks.suite.registry import is_suite_task, load_suite, of_suite

Say = Callable[[str], None]

NEW, OLD = 0x4E3A, 0x01D5
"""Separate the draws of demonstrations and of rehearsal."""


@dataclass(frozen=True)
class SuiteTuning:
    """Everything that decides a policy for many tasks that was taught further ones.

    New tasks are `tasks` (ids or patterns of the policy's suite, or of task files), of each of which its expert gives
    `demonstrations`; or what is recorded in the data set `data`, of `task` (None: as the data set says). `units`,
    `episodes`, `arm`, `fps`, `names`, `every_episode`, `lead` say how that is read, as in `FinetuneSettings`.
    `simulated`: episodes of rehearsal; `rehearsal`: their share of every batch. `train`: "head", "adapters" of rank
    `rank`, or "all". `evaluate`: episodes of each measurement, spread over the new tasks and over a sample of the old.
    """

    policy: str
    tasks: tuple[str, ...] = ()
    demonstrations: int = 10
    data: str | None = None
    task: str | None = None
    calibration: str | None = None
    units: str = "auto"
    episodes: str | None = None
    arm: str | None = None
    fps: float | None = None
    names: Mapping[str, str] | None = None
    every_episode: bool = False
    lead: float | None = None
    robot: str | None = None
    space: str | Mapping[str, Any] | None = None
    twin: str | Mapping[str, float] | None = None
    seed: int = 0
    simulated: int = 200
    rehearsal: float = 0.5
    train: str = "all"
    rank: int = 8
    student: float = 0.5
    noise: float = 0.05
    epochs: int = 20
    batches: int = 60
    batch_size: int = 512
    learning_rate: float = 5e-4
    evaluate: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if bool(self.tasks) == (self.data is not None):
            raise UserError(
                "a policy for many tasks is taught from --tasks ID with --demonstrations N, or from recordings with "
                f"--data DIR; give one of the two, {'not both' if self.tasks else 'got neither'}"
            )
        if self.tasks and self.task is not None:
            raise UserError("--task says what the recordings of --data show; with --tasks leave it out")
        if self.demonstrations < 1 or min(self.simulated, self.evaluate) < 0:
            raise UserError("demonstrations must be at least 1, simulated and evaluate at least 0")
        if not 0 <= self.rehearsal < 1:
            raise UserError(f"the share of rehearsal lies in 0..1 (not 1), got {self.rehearsal}")
        if self.train not in ("head", "adapters", "all"):
            raise UserError(f"train is one of head, adapters, all, got '{self.train}'")
        if min(self.epochs, self.batches, self.batch_size, self.rank) < 1 or not self.learning_rate > 0:
            raise UserError(
                "epochs, batches, batch size and rank must be at least 1, the learning rate above 0"
            )

    @property
    def rehearses(self) -> bool:
        return self.rehearsal > 0 and self.simulated > 0


ONE_TASK_ONLY = (
    "cameras", "object", "labels", "failures", "mix", "thaw", "patience", "steps", "curve",
)  # fmt: skip
"""What only the fine-tuning of policies for one task has."""


def settings_of(given: Mapping[str, Any]) -> SuiteTuning:
    """Settings from what was said, by name; what was not (None) keeps its default.

    Raises UserError for what policies for many tasks do not have.
    """
    if said := [name for name in ONE_TASK_ONLY if given.get(name) not in (None, [], ())]:
        flags = ", ".join("--" + name for name in said)
        raise UserError(f"{flags}: only the fine-tuning of policies for one task has this; leave it out")
    if given.get("demonstrations") is not None and not given.get("tasks"):
        raise UserError("--demonstrations says how many of each of --tasks; add --tasks ID")
    names = SuiteTuning.__dataclass_fields__
    return SuiteTuning(
        **{name: value for name, value in given.items() if name in names and value is not None}
    )


def is_of_suite(policy: str) -> bool:
    """Whether a policy file is for many tasks. Raises UserError when it cannot be read."""
    from sim2real.policies.file import load_policy_file

    return takes_goals(load_policy_file(policy))


def finetune_suite(
    settings: SuiteTuning,
    out: Path,
    *,
    workers: int,
    options: TrainerOptions | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Teach the policy and write `out/policy.onnx`; returns what `metrics.json` holds besides the curve.

    "simulation": success on unseen draws of the new tasks before and after, as `paired` says it, with "per_task" on
    both sides; "forgetting": the same on a sample of the old tasks, whose "difference" is the backward transfer;
    "forgotten": whether that fell by more than chance explains; "held_out_deg": mean error of the chunks on what was
    demonstrated, degrees, before and after (of held-out recorded episodes where there are any); "tasks",
    "demonstrations" or "recorded", "rehearsed": what was learned from. Raises UserError for a policy that is for one
    task or cannot be trained further, unknown tasks, and data that lack something.
    """
    options, tell = options or TrainerOptions(), say or (lambda _: None)
    check_options(options, settings.batch_size)
    if follow(out):
        return followed()
    network, parent = load_network(settings.policy)
    if not takes_goals(parent):
        raise UserError(
            f"{settings.policy} is for the one task '{parent.info.task}' and learns no others; give a policy of "
            "`sim2real pretrain --suite`, or adapt this one with --data DIR"
        )
    robot = Robot.load(settings.robot or parent.info.robot)
    parent.check(robot)
    names = _new_tasks(settings, parent, robot)
    tasks = {name: _fitting(load_task(name, robot.n)) for name in names}
    known = load_suite(parent.info.task)
    old = [
        name
        for name in parent.info.provenance.get("tasks", ())
        if str(name) in known and str(name) not in tasks
    ]
    if settings.rehearses and not old:
        raise UserError(
            f"{settings.policy} does not say which tasks it was trained on, or only these, so there is nothing to "
            "rehearse; give --rehearsal 0"
        )
    # Before the directory is claimed: a mistake in the request leaves nothing there.
    plans = {name: _plan(settings, name, robot, "expert", 1, 0) for name in tasks}
    recorded = (
        None if settings.data is None else _recorded(settings, parent, robot, next(iter(tasks.values())))
    )
    previous, _ = begin_run(out, _config(settings, parent, plans))
    if finished_before(previous, out):
        del previous["curve"]
        return previous
    result: dict[str, Any] = {"tasks": list(tasks)}
    if recorded is None:
        new, summary = _collected(
            settings, parent, robot, list(tasks), settings.demonstrations, NEW, workers, "demonstrate"
        )
        held_out = 0.0
        result["demonstrations"] = summary | {"each": settings.demonstrations}
        tell(
            f"learning {len(tasks)} new task{'s' * (len(tasks) > 1)} from {summary['episodes']} demonstrations, of "
            f"which {summary['success_rate']:.0%} succeeded"
        )
    else:
        new, result["recorded"] = recorded
        held_out = 0.2 if result["recorded"]["episodes"] >= 5 else 0.0
        for remark in result["recorded"]["remarks"]:
            tell(f"note: {remark}")
        tell(
            f"learning {names[0]} from {result['recorded']['episodes']} recorded episodes, {len(new)} frames"
        )
    groups, shares = [new], [1.0]
    if settings.rehearses:
        each = max(1, round(settings.simulated / len(old)))
        chosen = _sample(old, settings.simulated, settings.seed)
        rehearsed, result["rehearsed"] = _collected(
            settings, parent, robot, chosen, each, OLD, workers, "collect rehearsal"
        )
        result["rehearsed"] |= {"tasks": len(chosen), "share": settings.rehearsal}
        del result["rehearsed"]["per_task"]
        groups, shares = [new, rehearsed], [1 - settings.rehearsal, settings.rehearsal]

    torch.manual_seed(settings.seed)
    history = History(out / "metrics.json")
    model, finished, result["held_out_deg"] = _train(
        settings, network, groups, shares, held_out, out, options, history
    )
    result["interrupted"] = not finished
    config = _config(settings, parent, plans)
    about = {
        **provenance(config, parent),
        "tasks": [*old, *tasks],
    }
    result["export_difference"] = export_policy(
        merged(model.network), replace(parent.info, provenance=about), out / "policy.onnx"
    )
    if finished and settings.evaluate:
        result["simulation"] = _compared(settings, robot, list(tasks), out, workers)
        if old:
            result["forgetting"] = _compared(
                settings, robot, _sample(old, settings.evaluate, settings.seed + 1), out, workers
            )
            result["forgotten"] = worse(result["forgetting"])
    history.write(**result)
    return result


def _new_tasks(settings: SuiteTuning, parent: FilePolicy, robot: Robot) -> list[str]:
    """The names of what is to be learned. Raises UserError that says what there is."""
    if settings.data is not None:
        return [_task_of_data(settings, parent)]
    suite = parent.info.task
    known, found = load_suite(suite), []
    for said in settings.tasks:
        if is_task_file(said):
            found.append(said)
            continue
        full = said if of_suite(said) else f"{suite}/{said}"
        matched = fnmatch.filter(known, full) if "*" in said else [full] * is_suite_task(full)
        if not matched:
            raise UserError(
                f"no task of '{suite}' is called '{said}'{nearest(full, known)}; `sim2real tasks --suite {suite}` "
                "lists them, and own.toml#tidy is one of a file"
            )
        found += matched
    return list(dict.fromkeys(found))


def _task_of_data(settings: SuiteTuning, parent: FilePolicy) -> str:
    """What the recordings show: as was said, or as the data set says."""
    from sim2real.lerobot.reader import LeRobotDataset

    if settings.task is not None:
        return settings.task if "/" in settings.task or is_task_file(settings.task) else (
            f"{parent.info.task}/{settings.task}"
        )  # fmt: skip
    told = LeRobotDataset.open(str(settings.data), settings.arm, settings.names).tasks
    if len(told) == 1 and is_suite_task(told[0]):
        return name_from_outside(told[0], f"the data set {settings.data}")
    raise UserError(
        f"{settings.data} does not say which task of '{parent.info.task}' it shows (its episodes are of "
        f"{', '.join(repr(name) for name in told) or 'nothing'}); say it with --task {parent.info.task}/…"
    )


def _fitting(task: Task) -> Task:
    """The task, if a policy can be told its goal. Raises UserError."""
    view = goal_view(task)
    if len(view.parts) > PARTS:
        raise UserError(
            f"a policy observes goals of up to {PARTS} parts, that of {task.name} has {len(view.parts)}"
        )
    return task


def _sample(names: Sequence[str], most: int, seed: int) -> list[str]:
    """At most `most` of the names, drawn evenly, in their order."""
    if len(names) <= most:
        return list(names)
    chosen = np.random.default_rng((OLD, seed)).choice(len(names), size=most, replace=False)
    return [names[i] for i in sorted(chosen)]


def _plan(
    settings: SuiteTuning,
    task: str,
    robot: Robot,
    policy: str,
    draws: int,
    part: int,
    seed: int | None = None,
) -> SweepPlan:
    """Draws of one task: for `part` of the collection, or with the `seed` of a measurement."""
    if seed is None:
        seed = int(np.random.SeedSequence((settings.seed, 0xF17E, part)).generate_state(1)[0])
    plan = make_plan(
        task=task,
        robot=settings.robot or robot.name,
        policy=policy,
        draws=draws,
        seed=seed,
        space=settings.space,
        twin=settings.twin,
    )
    return replace(plan, design="independent")


def _collected(
    settings: SuiteTuning,
    parent: FilePolicy,
    robot: Robot,
    names: Sequence[str],
    each: int,
    part: int,
    workers: int,
    label: str,
) -> tuple[Demonstrations, dict[str, Any]]:
    """Episodes of tasks, `each` of every one: the experts' own of the new, shared with the policy of the old."""
    plans = {name: _plan(settings, name, robot, "expert", each, part) for name in names}
    student = settings.student if part == OLD else 0.0
    recipe = Several(
        tuple(plans),
        tuple(
            CollectEpisode(
                plan.robot,
                name,
                Disturbance(noise=settings.noise, student=student),
                student=settings.policy if student > 0 else None,
                nominal=plan.nominal,
                features=parent.info.features,
            )
            for name, plan in plans.items()
        ),
    )
    draws = numbered({name: plan.make_draws(plan.bind())[0] for name, plan in plans.items()})
    return collect(recipe, draws, workers=workers, label=label)


def _recorded(
    settings: SuiteTuning, parent: FilePolicy, robot: Robot, task: Task
) -> tuple[Demonstrations, dict[str, Any]]:
    """The recordings as the policy would have observed them, told the task's goal; and what is to be said of them."""
    wanted = tuple(f for f in task.features if f.name != "joint_velocity" and f.name != "goal")
    view = goal_view(task)

    def told(vectors: np.ndarray) -> np.ndarray:
        stops = np.cumsum([feature.size for feature in wanted])[:-1]
        rows = []
        for vector in vectors.astype(np.float64):
            seen = {feature.name: part for feature, part in zip(wanted, np.split(vector, stops))}
            rows.append(flatten(seen | view.entries(seen), parent.info.features))
        return np.stack(rows)

    assert settings.data is not None
    found, summary = load_recorded(
        settings.data,
        replace(parent.info, features=wanted),
        robot,
        task=task.name,
        calibration=settings.calibration,
        units=settings.units,
        episodes=settings.episodes,
        arm=settings.arm,
        fps=settings.fps,
        names=settings.names,
        every_episode=settings.every_episode,
        lead=settings.lead,
        predict=lambda vectors: parent.act_on(told(vectors)),
    )
    return replace(found, observations=told(found.observations)), summary


def _config(settings: SuiteTuning, parent: FilePolicy, plans: Mapping[str, SweepPlan]) -> dict[str, Any]:
    """What the run directory says of the run; its identity goes by the contents of all files."""
    by_name = ("policy", "data", "robot", "calibration", "space", "twin", "seed")
    numbers = {name: value for name, value in asdict(settings).items() if name not in by_name}
    identity = {
        "tasks": {name: plan.identity(plan.bind()) for name, plan in plans.items()},
        "seed": settings.seed,
        "parent": parent.sha256,
        "data": None if settings.data is None else dataset_hash(settings.data),
        "calibration": None if settings.calibration is None else file_hash(settings.calibration),
        "settings": numbers,
    }
    return described("finetune", seed=settings.seed, settings=asdict(settings), identity=identity)


def _train(
    settings: SuiteTuning,
    network: PolicyNetwork,
    groups: Sequence[Demonstrations],
    shares: Sequence[float],
    held_out: float,
    out: Path,
    options: TrainerOptions,
    history: History,
) -> tuple[ChunkCloning, bool, dict[str, float | None]]:
    """Train on the groups with their shares; the module, whether it came to its end, errors before and after."""
    model = ChunkCloning(
        network.arguments,
        total_steps=settings.epochs * settings.batches,
        learning_rate=settings.learning_rate,
    )
    model.network.load_state_dict(network.state_dict())
    model.train_only(settings.train, rank=settings.rank)
    if options.precision == TrainerOptions().precision:
        model.network.reduce_precision()
    data = ChunkDataModule(
        model.network,
        groups.__getitem__,
        pace=GroupSchedule(len(groups)),
        shares=lambda count: shares[:count],
        batch_size=settings.batch_size,
        batches_per_epoch=settings.batches,
        held_out=held_out,
        seed=settings.seed,
        keep_normalizers=True,
        validated=1,
    )
    data.ensure(len(groups))
    judged = data.validation[0] if len(data.validation[0]) else data.training[0]
    before = error_degrees(network, judged)
    finished = fit(model, data, out, epochs=settings.epochs, options=options, history=history)
    model.to("cpu")
    return model, finished, {"before": before, "after": error_degrees(model.network, judged)}


def _compared(
    settings: SuiteTuning, robot: Robot, names: Sequence[str], out: Path, workers: int
) -> dict[str, Any]:
    """Parent and result on the same unseen draws of tasks, side by side."""
    each = max(1, settings.evaluate // len(names))
    before, after = (
        evaluate_several(
            {
                name: _plan(settings, name, robot, policy, each, 0, seed=10_000 + settings.seed)
                for name in names
            },
            workers=workers,
        )
        for policy in (settings.policy, str(out / "policy.onnx"))
    )
    return paired(before, after)
