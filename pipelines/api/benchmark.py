"""`benchmark`: a policy on a suite of tasks, with intervals, a comparison, and why trials fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.sweeps.inputs import PolicyLike, RobotLike, SpaceLike, TaskLike, TwinLike
from sim2real.errors import UserError


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
    against: PolicyLike | None = None,
    trials: int = 50,
    out: str | Path,
    seed: int = 0,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    sees: Literal["sensors", "truth"] | None = None,
    at_least: float | None = None,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    progress: bool = True,
) -> Benchmark:
    """Try a policy `trials` times on every task, into the directory `out`; a benchmark that is there already goes on.

    task: one or several (default: the policy's own), or `suite` with its `split`. against: another policy, tried on
    the same draws. at_least: end as soon as the trials tell whether the mean success is above or below this rate, at
    the latest after `trials`. The rest as in `sweep`.

    Raises UserError for what does not fit together, before anything long begins.
    """
    from pipelines.benchmarks.run import Entry, run_benchmark
    from pipelines.benchmarks.suites import load_suite
    from pipelines.reports.report import try_report
    from pipelines.sweeps.plan import engine_of
    from pipelines.sweeps.simulated import make_plan, workers_for

    if suite is not None and task is not None:
        raise UserError("give --suite or --task, not both")
    if suite is None and split is not None:
        raise UserError("--split is of a suite; add --suite")
    if trials < 2:
        raise UserError(f"at least two trials are needed, got {trials}")
    privileged = None if sees is None else sees == "truth"
    tasks: list[tuple[TaskLike | None, str, str]]
    if suite is not None:
        tasks = [(found.id, found.family, found.split) for found in load_suite(suite, split)]
    else:
        several = (
            [task] if task is None or isinstance(task, str) or not isinstance(task, Sequence) else list(task)
        )
        tasks = [(one, "", "seen") for one in several]

    def plan(which: PolicyLike, what: TaskLike | None) -> Any:
        made = make_plan(
            task=what, robot=robot, policy=which, draws=trials, seed=seed, space=space, twin=twin,
            privileged=privileged,
        )  # fmt: skip
        # Independent draws: that is what intervals and tests take trials for.
        return replace(made, design="independent")

    entries = []
    for what, family, of in tasks:
        made = plan(policy, what)
        entries.append(Entry(made.task, family or made.task, of, made))
    names = [entry.id for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--task {', '.join(twice)} is given twice")
    others = (
        None
        if against is None
        else {entry.id: plan(against, entry.plan.given.task or entry.id) for entry in entries}
    )
    out = Path(out)
    summary = run_benchmark(
        entries, out, suite=suite or "tasks", split=split or "seen", trials=trials, seed=seed, against=others,
        at_least=at_least, workers=workers_for(entries[0].plan, 0 if engine == "ray" and workers is None else workers),
        engine=engine_of(engine), progress=progress,
    )  # fmt: skip
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


def text(summary: Mapping[str, Any]) -> str:
    """What the command prints."""
    low, high = summary["interval_95"]
    lines = [
        f"{summary['success_rate']:.1%} [{low:.1%}, {high:.1%}] over {summary['tasks']} "
        f"task{'s' if summary['tasks'] != 1 else ''} and {summary['trials']} trials ({summary['method']})"
    ]
    for task in summary["per_task"]:
        a, b = task["wilson_95"]
        why = ", ".join(f"{cause} {count}" for cause, count in task["failure"].items())
        lines.append(
            f"  {task['id']:14} {task['successes']:4} of {task['trials']:4} [{a:.1%}, {b:.1%}]"
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
    return "\n".join(lines)
