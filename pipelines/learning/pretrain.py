"""Pretraining: collect demonstrations under randomization, clone them, let the student drive, correct it, repeat; or
let it practise (`algorithm.py`), after that or instead.

One Trainer runs through all rounds. At the start of round r the data module asks for group r; for r > 0 the
present network is exported and drives the collection. Rounds are kept in `data/`, so that a resumed run reads
what it had already collected.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.learning.algorithm import stages
from pipelines.learning.backgrounds import check_photographs
from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.collect import CollectEpisode, Disturbance, Labels, Sight, collect
from pipelines.learning.data import ChunkDataModule, GroupSchedule
from pipelines.learning.delay import late_rows
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.drawn import FELT, Ranges, ranges_of
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import network_arguments
from pipelines.learning.practising import load_algorithm, practise
from pipelines.learning.trainer import (
    Budget,
    Deadline,
    History,
    TrainerOptions,
    begin_run,
    check_options,
    finished_before,
    fit,
    follow,
)
from pipelines.runs import described, provenance
from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.simulated import make_plan
from randomization.distributions import LogUniform
from randomization.space import Variation
from randomization.workers import Factory
from sim2real.camera import CameraModel
from sim2real.camera_coverage import CAMERAS
from sim2real.camera_placement import Placement
from sim2real.errors import UserError
from sim2real.files import file_hash
from sim2real.observation import Feature
from sim2real.parameters import Draw
from sim2real.pictures import find_cameras
from sim2real.policies.committed import ROWS, committed_features
from sim2real.policies.file import PolicyInfo
from sim2real.policies.load import load_policy, policy_identity
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task

NAMED = ("seed", "task", "robot", "expert", "space", "twin", "cameras", "backgrounds")
"""Settings that are not compared as they are: the identity has the seed, and what the names stand for."""


@dataclass(frozen=True)
class PretrainSettings:
    """Everything that decides a pretrained policy, apart from a time budget and the hardware.

    `episodes` in all, over `rounds` of collection; `epochs` in all, of `batches` batches with `batch_size` pairs.
    """

    task: str
    robot: str = "so101"
    expert: str = "expert"
    space: str | Mapping[str, Any] | None = None
    twin: str | Mapping[str, float] | None = None
    cameras: str | Mapping[str, Any] | None = None
    seed: int = 0
    episodes: int = 500
    rounds: int = 5
    epochs: int = 40
    batches: int = 100
    batch_size: int = 512
    learning_rate: float = 2e-3
    network: str = "mlp"
    """Kind, of `networks/registry.py`."""
    width: int = 256
    depth: int = 3
    noise: float = 0.05
    labels: Labels = "sensors"
    held_out: float = 0.05
    evaluate: int = 100
    algorithm: str = "cloning"
    """cloning, ppo, cloning+ppo, or a class of the user's own (`algorithm.py`)."""
    practice: int = 4000
    """Episodes that are practised, where the algorithm does."""
    latency: float = 0.0
    """s that an answer may take: the policy is told what is committed until it comes. 0: it is not, and draws have the
    latencies of the space."""

    history: int = 1
    """Observations in a row that the policy is given: what changed over them says what the world is like."""

    def __post_init__(self) -> None:
        stages(self.algorithm)
        if self.history < 1 or (self.history > 1 and self.latency):
            raise UserError(
                f"a history is at least 1 observation, and more than 1 do not go with a latency; got {self.history}"
            )
        for name in ("episodes", "rounds", "epochs", "batches", "batch_size", "width", "depth", "practice"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.epochs < self.rounds:
            raise UserError(f"{self.rounds} rounds need at least as many epochs, got {self.epochs}")
        if self.episodes < 2 * self.rounds:
            raise UserError(
                f"{self.rounds} rounds need at least two episodes each, got {self.episodes} in all"
            )
        if not 0 <= self.latency < math.inf:
            raise UserError(f"a latency is a number of seconds of at least 0, got {self.latency}")
        if not self.learning_rate > 0 or not 0 <= self.held_out < 1 or self.evaluate < 0:
            raise UserError("the learning rate must be positive, the held-out share in 0..1, evaluate ≥ 0")

    @property
    def demonstrator(self) -> str:
        """The expert; where nothing is demonstrated a policy that any task has."""
        return self.expert if stages(self.algorithm)[0] else "zero"

    @property
    def sight(self) -> Sight:
        """What the student sees besides its features: for a policy of states, no pictures."""
        return Sight(history=self.history)

    @property
    def photographs(self) -> tuple[str, ...]:
        """Files with photographs of an empty table: for a policy of states, none."""
        return ()

    def features(self, task: Task) -> tuple[Feature, ...]:
        """What the student observes."""
        if not self.latency:
            return task.features
        joints = next(f.size for f in task.features if f.name == "joint_command")
        return (*task.features, *committed_features(joints))

    def delayed(self, plan: SweepPlan) -> SweepPlan:
        """A plan whose draws have the latencies that are trained, where its space says nothing else of them."""
        if not self.latency:
            return plan
        # As many quick answers as slow ones: most policies are quick.
        late = {"policy.latency": Variation(LogUniform(self.latency / 60, self.latency))}
        return replace(plan, space=replace(plan.space, variations={**late, **plan.space.variations}))

    def network_options(self, task: Task) -> dict[str, Any]:
        """Arguments of the network that are its kind's own."""
        return {"width": self.width, "depth": self.depth}

    @property
    def epochs_per_round(self) -> int:
        return -(-self.epochs // self.rounds)

    @property
    def total_epochs(self) -> int:
        return self.epochs_per_round * self.rounds

    def course(self) -> "Course":
        """What is learned. Raises UserError for settings that do not fit together."""
        return Course(self)

    def plan(self) -> SweepPlan:
        """The draws that demonstrations come from. Their seed is not the one that `evaluate` takes for the same
        number: a policy must be measured on draws that it was not trained on."""
        seed = int(np.random.SeedSequence((self.seed, 0x7EAC4E5)).generate_state(1)[0])
        return self.delayed(
            make_plan(
                task=self.task,
                robot=self.robot,
                policy=self.demonstrator,
                draws=self.episodes,
                seed=seed,
                space=self.space,
                twin=self.twin,
                rendered=bool(self.sight.pictures),
                cameras=self.camera_models,
            )
        )

    @property
    def camera_models(self) -> str | dict[str, CameraModel] | None:
        """The cameras, or the name of their file."""
        if self.cameras is None or isinstance(self.cameras, str):
            return self.cameras
        return {name: CameraModel.from_table(table, name) for name, table in self.cameras.items()}


def pretrain(
    settings: PretrainSettings,
    out: Path,
    *,
    workers: int,
    options: TrainerOptions | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train and write `out/policy.onnx`; returns what `metrics.json` holds besides the curve.

    With `max_minutes` collection and training share that time; the result then depends on the machine. After
    Ctrl-C the policy of that moment is written and `interrupted` is True in the result. In an `out` that holds this
    very run it goes on where that was stopped, or returns what came of it; `resume` insists on that. Raises UserError
    for settings that do not fit together, and for an `out` that holds anything else.
    """
    cloning, practised = stages(settings.algorithm)
    budget, options = Budget(max_minutes), options or TrainerOptions()
    if max_minutes is not None or practised:
        if options.devices not in ("auto", "1") or (practised and options.nodes > 1):
            what = "a time budget" if max_minutes is not None else f"--algorithm {settings.algorithm}"
            raise UserError(f"{what} needs a single device: give --devices 1, or leave it out")
        options = replace(options, devices="1")
    check_options(options, settings.batch_size)
    if follow(out):
        return {"interrupted": False, "rounds": []}
    # Before the directory is claimed: a mistake in the request leaves nothing there.
    course = settings.course()
    arguments = course.arguments()
    if practised:
        load_algorithm(practised)
    previous, resume = begin_run(out, course.described(), resume=resume)
    if finished_before(previous, out):
        curve = previous.pop("curve")
        return previous | {"steps": curve[-1]["step"] if curve else 0}
    torch.manual_seed(settings.seed)
    model = ChunkCloning(
        arguments,
        total_steps=settings.total_epochs * settings.batches,
        learning_rate=settings.learning_rate,
    )
    course.equip(model.network)
    history = History(out / "metrics.json", previous.get("curve", ()))
    history.extra |= {key: previous[key] for key in ("rounds", "cloned", "practice") if key in previous}
    info = course.info(model.network)

    def export() -> float:
        return export_policy(model.network, info, out / "policy.onnx")

    finished = True
    if cloning and not previous.get("cloned"):
        # Half of the time for each, where there are both.
        finished = _clone(
            course, model, out, export, history, options, workers,
            budget=Budget(None if max_minutes is None else max_minutes / (2 if practised else 1)), resume=resume,
        )  # fmt: skip
        model.to("cpu")
        if finished and practised:
            export()
            history.write(cloned=True)
    elif cloning:
        model.network = load_network(out / "policy.onnx")[0]
    if finished and practised:
        if not cloning and not (out / "policy.onnx").exists():
            export()
        finished = practise(
            practised, model.network, info, course.plan, course.robot, course.task, out, cloned=cloning,
            episodes=settings.practice, seed=settings.seed, workers=workers, history=history,
            keep=export, expired=lambda: budget.used() >= TRAINING,
        )  # fmt: skip
        model.network = load_network(out / "policy.onnx")[0]
    result: dict[str, Any] = {"interrupted": not finished, "export_difference": export()}
    if finished and settings.evaluate:
        result["evaluation"] = course.measure(out / "policy.onnx", workers)
    history.write(**result)
    return (
        {"rounds": [], **history.extra} | result | {"steps": history.rows[-1]["step"] if history.rows else 0}
    )


def _clone(
    course: "Course",
    model: ChunkCloning,
    out: Path,
    export: Callable[[], float],
    history: History,
    options: TrainerOptions,
    workers: int,
    *,
    budget: Budget,
    resume: bool,
) -> bool:
    """Collect and clone; False where Ctrl-C ended it."""
    settings = course.settings
    if options.precision == TrainerOptions().precision:
        model.network.reduce_precision()
    model.progress = lambda step: max(step / model.total_steps, budget.used() / TRAINING)
    pace = TimedPace(settings.rounds, settings.epochs_per_round, budget)
    data = ChunkDataModule(
        model.network,
        _Collector(course, out, workers, pace, export, history, history.extra.get("rounds", [])),
        pace=pace,
        batch_size=settings.batch_size,
        batches_per_epoch=settings.batches,
        held_out=settings.held_out,
        seed=settings.seed,
    )
    finished = fit(
        model,
        data,
        out,
        epochs=settings.total_epochs,
        options=options,
        history=history,
        resume=resume,
        callbacks=[] if budget.seconds is None else [Deadline(budget, TRAINING)],
    )
    if not data.training:
        # Ctrl-C before there was anything to learn from.
        raise KeyboardInterrupt
    return finished


TRAINING = 0.9
"""Share of a time budget for collection and training; the rest is for export and evaluation."""


class TimedPace(GroupSchedule):
    """A round every so many epochs, and with a budget whenever the time for the one before is up.

    What is left of the budget when a round begins is shared evenly among the rounds still to come.
    """

    def __init__(self, rounds: int, epochs_per_round: int, budget: Budget) -> None:
        super().__init__(rounds, epochs_per_round)
        self.budget = budget
        self._due = math.inf

    def begin(self, group: int) -> Callable[[], bool]:
        """Note that the collection of a round begins; says, when called, that it should end: at half its time."""
        used = self.budget.used()
        slot = max(0.0, TRAINING - used) / (self.groups - group)
        self._due = used + slot
        return lambda: self.budget.used() > used + slot / 2

    def wanted(self, epoch: int, have: int) -> int:
        by_time = have + 1 if self.expired(have) else 1
        return max(super().wanted(epoch, have), by_time)

    def expired(self, have: int) -> bool:
        return 0 < have < self.groups and self.budget.used() > self._due


class _Collector:
    """The data module's source: round by round, with the network as it is at that moment."""

    def __init__(
        self,
        course: "Course",
        out: Path,
        workers: int,
        pace: TimedPace,
        export: Callable[[], float],
        history: History,
        rounds: list[dict[str, Any]],
    ) -> None:
        self.course, self.out = course, out
        self.workers, self.pace, self.export, self.history = workers, pace, export, history
        self.rounds = self.history.extra["rounds"] = rounds

    def __call__(self, group: int) -> Demonstrations:
        path = self.out / "data" / f"round-{group}.npz"
        # Of a round that an earlier start has collected the time begins now, too: the next one is due when it is up.
        over = self.pace.begin(group)
        if path.exists():
            return Demonstrations.load(path)
        s = self.course.settings
        share = student_share(group, s.rounds)
        if group > 0:
            self.export()
        demonstrations, summary = collect(
            self.course.recipe(share, str(self.out / "policy.onnx") if share > 0 else None),
            self.course.round_draws(group, self.rounds),
            workers=self.workers,
            label=f"collect {group + 1}/{s.rounds}",
            expired=over,
        )
        demonstrations.save(path)
        self.rounds = self.history.extra["rounds"] = [
            *self.rounds[:group],
            summary | {"student_share": share},
        ]
        return demonstrations


def student_share(group: int, rounds: int) -> float:
    """Share of the time in which the student drives in a round: none at first, then rising to nearly all."""
    return 0.0 if group == 0 else 0.5 + 0.4 * (group - 1) / max(1, rounds - 2)


class Course:
    """What a pretraining learns: where demonstrations come from, what the policy observes, how it is measured.

    This one is of a single task. Raises UserError for settings that do not fit together.
    """

    def __init__(self, settings: PretrainSettings) -> None:
        self.settings = settings
        self.robot = Robot.load(settings.robot)
        self.plan = settings.plan()
        self.task = load_task(settings.task, self.robot.n)
        self.features = settings.features(self.task)
        late = late_rows(settings.latency, self.robot.policy_rate)
        if settings.latency * self.robot.policy_rate > ROWS - 1 + 1e-6:
            raise UserError(
                f"latencies of up to {(ROWS - 1) / self.robot.policy_rate:g} s are trained, got {settings.latency:g}"
            )
        felt = settings.history > 1 and not settings.sight.pictures
        self.drawn: Ranges = ranges_of(self.plan.bind(), FELT) if felt else ()
        # As many actions as ever from when it takes effect on.
        self.horizon = load_policy(self.plan.policy, self.task, self.robot).horizon + late

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of the network."""
        check_photographs(self.settings.photographs, self.plan.camera_models)
        cameras = self.plan.camera_models or self.robot.cameras
        find_cameras(self.settings.sight.pictures, cameras, "the policy")
        return network_arguments(
            self.settings.network,
            [(feature.name, feature.size) for feature in self.features],
            self.robot,
            self.horizon,
            self.settings.network_options(self.task)
            | ({"history": self.settings.history, "drawn": len(self.drawn)} if self.drawn else {}),
        )

    def equip(self, network: PolicyNetwork) -> None:
        """Fill in what the network knows of the arm."""
        network.set_robot(self.robot)

    def described(self) -> dict[str, Any]:
        """The run's config.json."""
        numbers = {name: value for name, value in asdict(self.settings).items() if name not in NAMED}
        identity = {**self.identity(), "seed": self.settings.seed, "settings": numbers}
        if self.settings.photographs:
            identity["backgrounds"] = [file_hash(file) for file in self.settings.photographs]
        return described(
            "pretrain", seed=self.settings.seed, settings=asdict(self.settings), identity=identity
        )

    def identity(self) -> dict[str, Any]:
        """What decides the demonstrations, by content."""
        return self.plan.identity(self.plan.bind())

    def info(self, network: PolicyNetwork) -> PolicyInfo:
        """What the policy file will say about itself."""
        config = self.described()
        return PolicyInfo(
            task=self.task.name,
            objects=tuple(spec.to_json() for spec in self.task.objects),
            robot=self.robot.name,
            joints=self.robot.joint_names,
            features=self.features,
            horizon=network.horizon,
            policy_rate=self.robot.policy_rate,
            command_rate=self.robot.command_rate,
            pictures=network.pictures,
            history=network.history,
            provenance={
                **provenance(config),
                "expert": policy_identity(self.settings.demonstrator),
                "space": self.plan.space.to_dict(),
                CAMERAS: trained_for(self.plan),
            },
        )

    def recipe(self, student_share: float, student: str | None) -> Factory:
        """How an episode of a round is collected, in which a student drives for a share of the time."""
        s = self.settings
        return CollectEpisode(
            s.robot,
            s.task,
            Disturbance(noise=s.noise, student=student_share),
            student=student,
            expert=s.expert,
            labels=s.labels,
            nominal=self.plan.nominal,
            features=self.features,
            horizon=self.horizon,
            drawn=self.drawn,
            sight=s.sight,
            backgrounds=s.photographs,
            cameras=self.plan.camera_models,
        )

    def round_draws(self, group: int, rounds: Sequence[Mapping[str, Any]]) -> list[Draw]:
        """The draws of one round: every draw is used once. `rounds`: what came of the earlier ones."""
        draws, _ = self.plan.make_draws(self.plan.bind())
        stops = np.linspace(0, len(draws), self.settings.rounds + 1).round().astype(int)
        return draws[stops[group] : stops[group + 1]]

    def measure(self, policy: Path, workers: int) -> dict[str, Any]:
        """A quick measurement of the finished policy, on draws that `sim2real evaluate --seed` 10,000 + seed gives."""
        s = self.settings
        plan = make_plan(
            task=s.task,
            robot=s.robot,
            policy=str(policy),
            draws=s.evaluate,
            seed=10_000 + s.seed,
            space=s.space,
            twin=s.twin,
            cameras=s.camera_models,
        )
        return evaluate(s.delayed(plan), workers=workers)


def trained_for(plan: SweepPlan) -> dict[str, Any]:
    """For which cameras, as `sim2real/camera_coverage.py` reads it."""
    if plan.cameras is not None:
        return {"described": plan.cameras}
    bound = plan.bind()
    names = {field.name: f"camera.{field.name}" for field in fields(Placement)}
    return {
        "placed": {
            short: list(bound.range(name)) for short, name in names.items() if name in bound.parameters
        }
    }
