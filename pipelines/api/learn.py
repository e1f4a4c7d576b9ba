"""`pretrain` and `finetune`: policies from simulation, and from recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.sweeps.inputs import (
    CamerasLike,
    PolicyLike,
    RobotLike,
    SpaceLike,
    TaskLike,
    TwinLike,
    cameras_of,
    policy_name,
    robot_name,
    space_of,
    task_name,
)
from sim2real.errors import UserError

if TYPE_CHECKING:
    from sim2real.lerobot.reader import LeRobotDataset


@dataclass(frozen=True, repr=False)
class TrainedPolicy:
    """A pretrained policy. `policy` is its file in the run directory `out`; `metrics` what metrics.json holds."""

    policy: Path
    out: Path
    metrics: Mapping[str, Any] = field(repr=False)
    success_rate: float | None
    """In simulation, on unseen draws; None where that was not measured."""
    interval: tuple[float, float] | None
    interrupted: bool
    """Whether Ctrl-C ended the training: the policy is what had been learned by then."""

    def __repr__(self) -> str:
        how = "not measured" if self.success_rate is None else f"{self.success_rate:.1%} in simulation"
        return f"TrainedPolicy({self.policy}: {how}{', interrupted' * self.interrupted})"


@dataclass(frozen=True, repr=False)
class TunedPolicy:
    """A fine-tuned policy. `policy` is its file in the run directory `out`; `metrics` what metrics.json holds."""

    policy: Path
    out: Path
    metrics: Mapping[str, Any] = field(repr=False)
    episodes: int
    """Recorded or demonstrated episodes that were learned from."""
    held_out_degrees: tuple[float | None, float | None]
    """Mean error on held-out recorded episodes, before and after; None where there was none to hold out."""
    success_rates: tuple[float, float] | None
    """In simulation of the adapted arm, or on new tasks, before and after; None where that was not measured."""
    forgotten: bool
    """Whether success in the default space, or on old tasks, fell by more than chance explains."""
    interrupted: bool

    def __repr__(self) -> str:
        before, after = self.held_out_degrees
        parts = [f"{self.episodes} episodes"]
        if before is not None and after is not None:
            parts.append(f"error {before:.2f}° → {after:.2f}°")
        if self.success_rates is not None:
            parts.append(f"{self.success_rates[0]:.1%} → {self.success_rates[1]:.1%} in simulation")
        return f"TunedPolicy({self.policy}: {', '.join(parts)}{', interrupted' * self.interrupted})"


def pretrain(
    task: TaskLike | None = None,
    robot: RobotLike = "so101",
    *,
    out: str | Path,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    cameras: CamerasLike | None = None,
    algorithm: str | None = None,
    practice: int | None = None,
    latency: float | None = None,
    expert: str | None = None,
    seed: int = 0,
    episodes: int | None = None,
    rounds: int | None = None,
    epochs: int | None = None,
    batches: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    network: str | None = None,
    width: int | None = None,
    depth: int | None = None,
    noise: float | None = None,
    labels: Literal["sensors", "truth", "objects"] | None = None,
    observe: Literal["state", "pixels"] = "state",
    pictures: Sequence[str] | None = None,
    history: int | None = None,
    channels: int | None = None,
    keep: float | None = None,
    backgrounds: Sequence[str | Path] | None = None,
    suite: str | None = None,
    split: str | None = None,
    tasks: Sequence[str] | None = None,
    balance: float | None = None,
    evaluate: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    workers: int | None = None,
    accelerator: str = "auto",
    devices: str = "auto",
    precision: str = "32-true",
    nodes: int = 1,
    strategy: str = "auto",
) -> TrainedPolicy:
    """Train a policy in simulation under randomization, into the directory `out`.

    What is None has the default of `PretrainSettings`, which says what it means. observe "pixels": the policy is given
    pictures, as ("front=table", "wrist=frame:112x84"), instead of what a detector finds in them (`PixelSettings` has
    the defaults, and what pictures, history, channels, keep and backgrounds mean). algorithm: "cloning", "ppo",
    "cloning+ppo", or a class of your own that practises, as "my.module:MyAlgorithm"; practice: how many episodes.
    latency: s that an answer may take, for policies that are told what is committed until then. suite: one policy for
    the tasks of a suite, all of its `split` or those whose ids fit the patterns `tasks` (`SuiteSettings`). max_minutes:
    fit collection and training into this. accelerator, devices, precision, nodes and strategy are Lightning's
    (docs/learning.md). Raises UserError for settings that do not fit together, and for an `out` that holds something
    else.
    """
    from pipelines.learning.pretrain import pretrain as run
    from pipelines.learning.settings import kind_of_settings
    from pipelines.learning.trainer import TrainerOptions
    from pipelines.sweeps.simulated import worker_count

    sight = _given(
        pictures=None if pictures is None else tuple(pictures),
        history=history,
        channels=channels,
        keep=keep,
        backgrounds=None if backgrounds is None else tuple(map(str, backgrounds)),
    )
    many = _given(split=split, tasks=None if tasks is None else tuple(tasks), balance=balance)
    learning = _given(
        algorithm=algorithm, practice=practice, latency=latency, expert=expert, episodes=episodes, rounds=rounds,
        epochs=epochs, batches=batches, batch_size=batch_size, learning_rate=learning_rate, noise=noise, labels=labels,
    )  # fmt: skip
    what = suite if task is None else task_name(task)
    if what is None or (task is not None and suite is not None):
        raise UserError("give a task, or suite= for one policy for many tasks")
    settings = kind_of_settings(observe, sight | many | learning, suite=suite)(
        task=what,
        robot=robot_name(robot),
        space=_plain_space(space),
        twin=_plain_twin(twin),
        cameras=_plain_cameras(cameras),
        **_given(seed=seed, network=network, width=width, depth=depth, evaluate=evaluate),
        **learning,
        **sight,
        **many,
    )  # fmt: skip
    result = run(
        settings,
        Path(out),
        workers=worker_count(workers),
        options=TrainerOptions(accelerator, devices, precision, nodes, strategy),
        max_minutes=max_minutes,
        resume=resume,
    )
    _report(out, result)
    measured = result.get("evaluation")
    return TrainedPolicy(
        policy=Path(out) / "policy.onnx",
        out=Path(out),
        metrics=result,
        success_rate=None if measured is None else measured["success_rate"],
        interval=None if measured is None else tuple(measured["wilson_95"]),
        interrupted=result["interrupted"],
    )


def finetune(
    policy: PolicyLike,
    data: "LeRobotDataset | str | Path | None" = None,
    *,
    out: str | Path,
    tasks: Sequence[str] | None = None,
    demonstrations: int | None = None,
    robot: RobotLike | None = None,
    task: TaskLike | None = None,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    cameras: CamerasLike | None = None,
    simulated: int | None = None,
    calibration: str | Path | None = None,
    units: str = "auto",
    episodes: str | None = None,
    arm: str | None = None,
    fps: float | None = None,
    every_episode: bool = False,
    lead: float | None = None,
    labels: Literal["auto", "recorded", "expert"] | None = None,
    failures: Literal["leave-out", "avoid"] | None = None,
    mix: float | Literal["auto"] | None = None,
    rehearsal: float | None = None,
    train: Literal["head", "adapters", "all"] | None = None,
    thaw: float | None = None,
    patience: int | None = None,
    mapping: Sequence[str] = (),
    steps: int | None = None,
    curve: Sequence[int] | None = None,
    seed: int = 0,
    epochs: int | None = None,
    batches: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    evaluate: int | None = None,
    workers: int | None = None,
    accelerator: str = "auto",
    devices: str = "auto",
    precision: str = "32-true",
    nodes: int = 1,
    strategy: str = "auto",
) -> TunedPolicy:
    """Adapt a policy file to a LeRobot data set, mixed with simulated episodes, into the directory `out`.

    robot and task: the policy's own by default. episodes: which ones, as in "0:4,6". What is None has the default of
    `FinetuneSettings`, which says what it means. mapping, as in ("elbow=elbow_flex", "observation.images.phone=wrist"):
    what features, joints and cameras of the data set are called here. A policy that sees is adapted to the recording
    alone; steps: how long it is trained (`PixelTuning`). A policy for many tasks is taught others (`SuiteTuning`):
    tasks, ids of a suite, of each of which its expert gives so many demonstrations, or what data show. Raises UserError
    for a policy that cannot be trained further or is for another robot, and for data that lack something.
    """
    from pipelines.identification.source import robot_of
    from pipelines.learning.finetune import FinetuneSettings
    from pipelines.learning.finetune import finetune as run
    from pipelines.learning.trainer import TrainerOptions
    from pipelines.sweeps.simulated import worker_count
    from sim2real.lerobot.mapping import parse_names

    spec = policy_name(policy)
    if spec is None:
        raise UserError(f"finetune takes a policy file, as pretrain writes them; got {policy!r}")
    root = None if data is None else str(data if isinstance(data, str | Path) else data.root)
    if robot is None and root is not None:
        robot_of(None, root)  # refuses an arm that is not known
    if tasks is not None or _is_of_suite(spec):
        from pipelines.learning.finetune_suite import finetune_suite
        from pipelines.learning.finetune_suite import settings_of as suite_settings_of

        told = dict(
            policy=spec, data=root, tasks=None if tasks is None else tuple(tasks), demonstrations=demonstrations,
            robot=None if robot is None else robot_name(robot), task=None if task is None else task_name(task),
            space=_plain_space(space), twin=_plain_twin(twin), cameras=cameras, simulated=simulated, units=units,
            calibration=None if calibration is None else str(calibration), episodes=episodes, fps=fps,
            arm=arm or getattr(data, "arm", None), names=parse_names(mapping) or None, every_episode=every_episode,
            lead=lead, labels=labels, failures=failures, mix=mix, rehearsal=rehearsal, train=train, thaw=thaw,
            patience=patience, steps=steps, curve=curve, seed=seed, epochs=epochs, batches=batches,
            batch_size=batch_size, learning_rate=learning_rate, evaluate=evaluate,
        )  # fmt: skip
        return _tuned(
            finetune_suite(
                suite_settings_of(told),
                Path(out),
                workers=worker_count(workers),
                options=TrainerOptions(accelerator, devices, precision, nodes, strategy),
            ),
            Path(out),
        )
    if root is None or demonstrations is not None:
        raise UserError(
            f"{spec} is for one task and is adapted to recordings: give data, and no demonstrations"
        )
    if _sees(spec):
        from pipelines.learning.finetune_pixels import finetune_pixels, settings_of

        said = dict(
            policy=spec, data=root, robot=_robot_of(spec) if robot is None else robot_name(robot), units=units,
            mapping=tuple(mapping), calibration=None if calibration is None else str(calibration), episodes=episodes,
            arm=arm or getattr(data, "arm", None), fps=fps, every_episode=every_episode, lead=lead, train=train,
            seed=seed, steps=steps, batch_size=batch_size, learning_rate=learning_rate, simulated=simulated,
            space=space, twin=twin, task=task, labels=labels, failures=failures, mix=mix, rehearsal=rehearsal,
            thaw=thaw, patience=patience, epochs=epochs, batches=batches, evaluate=evaluate,
        )  # fmt: skip
        return _tuned(finetune_pixels(settings_of(said), Path(out)), Path(out))
    if steps is not None:
        raise UserError(f"steps are for policies that see; {spec} takes no pictures")
    settings = FinetuneSettings(
        policy=spec,
        data=root,
        robot=_robot_of(spec) if robot is None else robot_name(robot),
        task=None if task is None else task_name(task),
        space=_plain_space(space),
        twin=_plain_twin(twin),
        cameras=_plain_cameras(cameras),
        calibration=None if calibration is None else str(calibration),
        units=units,
        episodes=episodes,
        arm=arm or getattr(data, "arm", None),
        fps=fps,
        names=parse_names(mapping),
        every_episode=every_episode,
        lead=lead,
        **_given(
            simulated=simulated, labels=labels, failures=failures, mix=mix, rehearsal=rehearsal, train=train,
            thaw=thaw, patience=patience, seed=seed, epochs=epochs, batches=batches,
            curve=None if curve is None else tuple(curve),
            batch_size=batch_size, learning_rate=learning_rate, evaluate=evaluate,
        ),
    )  # fmt: skip
    result = run(
        settings,
        Path(out),
        workers=worker_count(workers),
        options=TrainerOptions(accelerator, devices, precision, nodes, strategy),
    )
    return _tuned(result, Path(out))


def _tuned(result: Mapping[str, Any], out: Path) -> TunedPolicy:
    _report(out, result)
    measured = result.get("simulation")
    return TunedPolicy(
        policy=out / "policy.onnx",
        out=out,
        metrics=result,
        episodes=result.get("recorded", result.get("demonstrations", {}))["episodes"],
        held_out_degrees=(result["held_out_deg"]["before"], result["held_out_deg"]["after"]),
        success_rates=(
            None
            if measured is None
            else (measured["before"]["success_rate"], measured["after"]["success_rate"])
        ),
        forgotten=result.get("forgotten", False),
        interrupted=result["interrupted"],
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _plain_space(space: SpaceLike | None) -> str | dict[str, Any] | None:
    """As config.json keeps it: a file's name, or what one would hold."""
    if space is None or isinstance(space, str | Path):
        return None if space is None else str(space)
    found = space_of(space)
    assert found is not None
    return found.to_dict()


def _plain_twin(twin: TwinLike | None) -> str | dict[str, float] | None:
    if twin is None or isinstance(twin, str | Path):
        return None if twin is None else str(twin)
    return dict(twin)


def _plain_cameras(cameras: CamerasLike | None) -> str | dict[str, Any] | None:
    return str(cameras) if isinstance(cameras, str | Path) else cameras_of(cameras)


def _sees(policy: str) -> bool:
    from pipelines.learning.finetune_pixels import sees

    return sees(policy)


def _is_of_suite(policy: str) -> bool:
    from pipelines.learning.finetune_suite import is_of_suite

    return is_of_suite(policy)


def _robot_of(policy: str) -> str:
    """The robot that a policy file says it is for."""
    from sim2real.policies.file import load_policy_file
    from sim2real.robot import robot_names

    name = load_policy_file(policy).info.robot
    if name not in robot_names():
        raise UserError(
            f"{policy} is for the robot '{name}', which does not ship with the package; give robot=…"
        )
    return name


def _report(out: str | Path, result: Mapping[str, Any]) -> None:
    """Write the report, as the commands do, where a run has ended by itself."""
    from pipelines.learning.ranks import main_process
    from pipelines.reports.report import try_report

    if main_process() and not result["interrupted"]:
        try_report(str(out))
