"""`benchmark`: a policy on a suite of tasks, with intervals, a comparison, and why trials fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.sweeps.inputs import CamerasLike, PolicyLike, RobotLike, SpaceLike, TaskLike, TwinLike
from sim2real.errors import UserError
from sim2real.text import printable

if TYPE_CHECKING:
    from pipelines.benchmarks.protocol import Entry, Trials
    from pipelines.sweeps.plan import SweepPlan


@dataclass(frozen=True, repr=False)
class Benchmark:
    """What a benchmark found. `summary` is the content of summary.json; `out` the run directory."""

    out: Path
    summary: Mapping[str, Any] = field(repr=False)
    suite: str
    tasks: int
    trials: int
    success_rate: float
    """Mean over tasks."""
    interval: tuple[float, float]
    """95 %, found by `method`."""
    method: str
    failures: Mapping[str, int]
    """Why trials failed, and how many."""
    report: Path | None = field(repr=False)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"Benchmark({self.suite}, {self.tasks} tasks, {self.trials} trials: {self.success_rate:.1%} "
            f"[{low:.1%}, {high:.1%}]; {self.out})"
        )

    def __str__(self) -> str:
        return text(self.summary) + (f"\nreport: {self.report}" if self.report else "")


def benchmark(
    policy: PolicyLike,
    task: TaskLike | Sequence[TaskLike] | None = None,
    robot: RobotLike = "so101",
    *,
    suite: str | None = None,
    split: str | None = None,
    against: PolicyLike | Sequence[PolicyLike] | None = None,
    trials: int = 50,
    out: str | Path,
    seed: int = 0,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    cameras: CamerasLike | None = None,
    objects: Sequence[str] = (),
    sees: Literal["sensors", "truth"] | None = None,
    at_least: float | None = None,
    robustness: bool = False,
    speed: bool = False,
    clips: int = 3,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    port: str | None = None,
    yes: bool = False,
    progress: bool = True,
) -> Benchmark:
    """Try a policy `trials` times on every task, into the directory `out`; a benchmark that is there already goes on.

    task: one or several, or `suite` with its `split` (default: the policy's own). against: another policy, or several,
    tried on the same draws. robustness: each group of randomization alone besides. speed: chunks, rate, latency and the
    arm's speed changed, one at a time. clips: of so many causes of failure a trial as a moving picture.
    at_least: end as soon as the trials tell whether the mean success is above or below this rate, at the latest after
    `trials`. objects: other objects than the tasks have, as `--object` says them (not with a suite). port: on the arm
    there ("emulated" starts one), in sessions of `deploy`, which ask before the first motion unless `yes`. The rest as
    in `sweep`.

    Raises UserError for what does not fit together, before anything long begins.
    """
    from pipelines.benchmarks.clips import add_clips
    from pipelines.benchmarks.run import run_benchmark
    from pipelines.benchmarks.suites import load_suite, own_suite
    from pipelines.metaworld.suite import is_metaworld
    from pipelines.sweeps.plan import engine_of
    from pipelines.sweeps.simulated import worker_count

    if suite is not None and task is not None:
        raise UserError("give --suite or --task, not both")
    if suite is None and task is None:
        suite = own_suite(policy)
    if suite is None and split is not None:
        raise UserError("--split is of a suite; add --suite")
    if suite is not None and objects:
        raise UserError("the tasks of a suite say which objects they have; --object goes with --task")
    if trials < 2:
        raise UserError(f"at least two trials are needed, got {trials}")
    if port is not None:
        if (
            any((against, space, twin, cameras, objects, sees, at_least, robustness, speed))
            or engine != "local"
        ):
            raise UserError(
                "on an arm (--port) nothing is drawn and one policy is tried at a time: leave out --against, --space, "
                "--twin, --cameras, --object, --sees, --at-least, --robustness, --speed and --engine"
            )
        if suite is not None and is_metaworld(suite):
            raise UserError(f"{suite} has an arm of its own, in its simulator: leave out --port")
        if suite is not None:
            task = [found.id for found in load_suite(suite, split)]
        return _on_arm(policy, task, robot, port, trials, Path(out), seed, yes)
    policies: list[PolicyLike] = [policy]
    if isinstance(against, list | tuple):
        policies += against
    elif against is not None:
        policies.append(against)  # type: ignore[arg-type]  # one that is no list
    if suite is not None and is_metaworld(suite):
        if robot != "so101" or any((space, twin, cameras, sees, robustness, speed)):
            raise UserError(
                f"{suite} has an arm and a world of its own, in which nothing is drawn but its goals: leave out "
                "--robot, --space, --twin, --cameras, --sees, --robustness and --speed"
            )
        entries, tried = _metaworld(suite, split or "seen", policies, trials, seed)
        processes = worker_count(0 if engine == "ray" and workers is None else workers)
    else:
        entries, tried, processes = _simulated(
            policies, task, robot, suite, split, trials, seed, space, twin, sees, cameras, objects,
            0 if engine == "ray" and workers is None else workers,
        )  # fmt: skip
    out = Path(out)
    summary = run_benchmark(
        entries, out, suite=suite or "tasks", split=split or "seen", trials=trials, seed=seed, against=tried,
        by_group=robustness, by_speed=speed, at_least=at_least, workers=processes, engine=engine_of(engine),
        progress=progress,
    )  # fmt: skip
    if clips:
        summary = add_clips(entries, out, summary, clips)
    return _found(out, summary)


def _found(out: Path, summary: Mapping[str, Any]) -> Benchmark:
    """The result of a benchmark in `out`, whose report is written here."""
    from pipelines.reports.report import try_report

    low, high = summary["interval_95"]
    return Benchmark(
        out=out,
        summary=summary,
        suite=summary["suite"],
        tasks=summary["tasks"],
        trials=summary["trials"],
        success_rate=summary["success_rate"],
        interval=(low, high),
        method=summary["method"],
        failures=summary["failures"],
        report=try_report(out),
    )


def _on_arm(
    policy: PolicyLike,
    task: TaskLike | Sequence[TaskLike] | None,
    robot: RobotLike,
    port: str,
    trials: int,
    out: Path,
    seed: int,
    yes: bool,
) -> Benchmark:
    from pipelines.api.arm import deploy
    from pipelines.benchmarks.on_arm import benchmark_on_arm
    from pipelines.sweeps.inputs import policy_name, robot_name, task_name
    from pipelines.sweeps.simulated import own_task

    name = policy_name(policy)
    if name is None:
        raise UserError(
            "on an arm a policy runs in a process of its own: give a file or a name, not an object"
        )
    several = [task] if isinstance(task, str) or not isinstance(task, Sequence) else list(task)
    tasks = [own_task(policy, robot_name(robot)) if one is None else task_name(one) for one in several]
    if len(set(tasks)) < len(tasks):
        raise UserError(
            f"--task {', '.join(sorted({t for t in tasks if tasks.count(t) > 1}))} is given twice"
        )

    def session(what: str, where: Path, episodes: int, starts: int) -> None:
        deploy(policy, port=port, out=where, task=what, robot=robot, episodes=episodes, seed=starts, yes=yes)

    return _found(
        out,
        benchmark_on_arm(name, tasks, out, port=port, trials=trials, seed=seed, session=session),
    )


def _simulated(
    policies: Sequence[PolicyLike],
    task: TaskLike | Sequence[TaskLike] | None,
    robot: RobotLike,
    suite: str | None,
    split: str | None,
    trials: int,
    seed: int,
    space: SpaceLike | None,
    twin: TwinLike | None,
    sees: str | None,
    cameras: CamerasLike | None,
    objects: Sequence[str],
    workers: int | None,
) -> "tuple[list[Entry], list[Mapping[str, Trials]], int]":
    """The tasks in this project's own simulation, how other policies are tried, and in how many processes."""
    from pipelines.benchmarks.protocol import Entry
    from pipelines.benchmarks.simulated import SimulatedTrials
    from pipelines.benchmarks.suites import load_suite
    from pipelines.sweeps.simulated import make_plan, workers_for

    privileged = None if sees is None else sees == "truth"
    tasks: list[tuple[TaskLike | None, str, str]]
    if suite is not None:
        tasks = [(found.id, found.family, found.split) for found in load_suite(suite, split)]
    else:
        several = (
            [task] if task is None or isinstance(task, str) or not isinstance(task, Sequence) else list(task)
        )
        tasks = [(one, "", "seen") for one in several]

    def plan(which: PolicyLike, what: TaskLike | None, changed: Sequence[str] = ()) -> "SweepPlan":
        return make_plan(
            task=what, robot=robot, policy=which, draws=trials, seed=seed, space=space, twin=twin,
            privileged=privileged, cameras=cameras, objects=changed,
        )  # fmt: skip

    entries, plans = [], {}
    for what, family, of in tasks:
        made = plan(policies[0], what, objects)
        if made.task in plans:
            raise UserError(f"--task {made.task} is given twice")
        plans[made.task] = made
        entries.append(Entry(made.task, family or made.task, of, SimulatedTrials(made)))
    others: list[Mapping[str, Trials]] = [
        {name: SimulatedTrials(plan(other, made.given.task or name)) for name, made in plans.items()}
        for other in policies[1:]
    ]
    return entries, others, workers_for(next(iter(plans.values())), workers)


def _metaworld(
    suite: str, split: str, policies: Sequence[PolicyLike], trials: int, seed: int
) -> "tuple[list[Entry], list[Mapping[str, Trials]]]":
    from pipelines.benchmarks.metaworld import metaworld_entries
    from pipelines.metaworld.episodes import BUILT_IN
    from pipelines.sweeps.inputs import policy_name

    found = []
    for which in policies:
        name = policy_name(which)
        if name is None:
            raise UserError(f"on {suite} a policy is a file, or one of {', '.join(BUILT_IN)}, not an object")
        found.append(metaworld_entries(suite, split, name, trials, seed))
    return found[0], [{entry.id: entry.trials for entry in other} for other in found[1:]]


def text(summary: Mapping[str, Any]) -> str:
    """What the command prints."""
    low, high = summary["interval_95"]
    lines = [
        f"{summary['success_rate']:.1%} [{low:.1%}, {high:.1%}] over {summary['tasks']} "
        f"task{'s' if summary['tasks'] != 1 else ''} and {summary['trials']} trials ({summary['method']})"
    ]
    wide = max(14, *(len(task["id"]) for task in summary["per_task"]))
    for task in summary["per_task"]:
        a, b = task["wilson_95"]
        why = ", ".join(f"{cause} {count}" for cause, count in task["failure"].items())
        lines.append(
            f"  {task['id']:{wide}} {task['successes']:4} of {task['trials']:4} [{a:.1%}, {b:.1%}]"
            f"{'  failed: ' + why if why else ''}"
        )
    if (found := summary.get("at_least")) is not None:
        said = {"above": "is above", "below": "is below", "open": "may be on either side of"}[
            found["verdict"]
        ]
        lines.append(f"the mean {said} {found['rate']:.0%}, after {found['rounds']} trials of each task")
    if (other := summary.get("against")) is not None:
        a, b = other["interval_95"]
        lines.append(
            f"against the other policy ({other['success_rate']:.1%}): {other['difference']:+.1%} [{a:+.1%}, {b:+.1%}], "
            f"p = {other['p']:.3g} ({other['only_this']} trials only this one, {other['only_other']} only the other)"
        )
    for row in summary.get("policies", ()):
        a, b = row["interval_95"]
        lines.append(
            f"  {row['letters']:4} {row['success_rate']:6.1%} [{a:.1%}, {b:.1%}]  {printable(row['policy'])}"
        )
    if "policies" in summary:
        lines.append("policies that share a letter cannot be told apart (5 %, Holm)")
    if "robustness" in summary:
        lines.append("each group of randomization alone, against nothing but the starts varying:")
    for row in summary.get("robustness", ()):
        a, b = row["interval_95"]
        cost = row.get("against_nothing")
        lines.append(
            f"  {row['group']:12} {row['success_rate']:6.1%} [{a:.1%}, {b:.1%}]"
            + (f"  {cost['difference']:+.1%}, p = {cost['p']:.3g}" if cost else "")
        )
    if "speed" in summary:
        lines.append("one setting changed (* no other one is both as successful and as fast):")
    for row in summary.get("speed", ()):
        a, b = row["interval_95"]
        value = "" if row["value"] is None else f" {row['value']:g}"
        seconds = row["seconds_to_success"]
        lines.append(
            f"{'*' if row['pareto'] else ' '} {row['setting'] + value:16} {row['success_rate']:6.1%} "
            f"[{a:.1%}, {b:.1%}]  " + ("never" if seconds is None else f"{seconds:.2f} s to success")
        )
    return "\n".join(lines)
