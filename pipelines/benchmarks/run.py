"""Running a benchmark: the same trials for every policy, kept safe as they come, and what they add up to.

config.json          what it is: policy by content, suite, tasks, seed
policy/              a sweep: the trials of the policy on all tasks
against/             of the one that it is compared with, on the same draws (against-2/ and so on, of further ones)
alone/GROUP/         of the policy, with one group of randomization alone
speed/SETTING/       of the policy, with one setting changed
trials.parquet       all of them, a row each
summary.json         rates, intervals, tests, reasons
clips/               how typical trials failed, as moving pictures
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.benchmarks.comparisons import compared_with, profile_of
from pipelines.benchmarks.outcomes import won
from pipelines.benchmarks.protocol import Entry, Trials
from pipelines.benchmarks.robustness import alone, counted, robustness
from pipelines.benchmarks.sequential import Bet
from pipelines.benchmarks.simulated import SimulatedTrials
from pipelines.benchmarks.speed import changed, speed_against_quality
from pipelines.benchmarks.statistics import check_statsmodels, interquartile_mean, mean_rate
from pipelines.runs import claim, described
from pipelines.sweeps.several import Several, numbered
from randomization.sweep import run_sweep
from sim2real.files import write_json
from sim2real.statistics import wilson_interval

if TYPE_CHECKING:
    import pyarrow as pa

    from randomization.sweep import Engine

TRIALS, SUMMARY = "trials.parquet", "summary.json"
OWN, OTHER = "policy", "against"
LOOK = 10
"""Trials of each task between two looks of a benchmark that ends as soon as it can tell."""


def run_benchmark(
    entries: Sequence[Entry],
    out: Path,
    *,
    suite: str,
    split: str,
    trials: int,
    seed: int,
    against: Sequence[Mapping[str, Trials]] = (),
    by_group: bool = False,
    by_speed: bool = False,
    at_least: float | None = None,
    workers: int = 1,
    engine: "Engine | None" = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run or go on with a benchmark in `out`; returns what summary.json says.

    against: how other policies are tried, by task, on the same draws. by_group: each group of randomization alone
    besides; by_speed: with settings changed that make a policy or the arm slower or faster. at_least: end as soon as
    the trials tell whether the mean success is above or below this (a bet, 5 %), at the latest after `trials`.
    """
    if by_group or len(against) > 1 or (against and len(entries) > 1):
        check_statsmodels()
    bet = Bet(at_least) if at_least is not None else None
    own = {entry.id: entry.trials for entry in entries}
    others = {OTHER if k == 0 else f"{OTHER}-{k + 1}": dict(tasks) for k, tasks in enumerate(against)}
    sides: dict[str, dict[str, Trials]] = {OWN: own, **others}
    simulated = {name: tried for name, tried in own.items() if isinstance(tried, SimulatedTrials)}
    if by_group:
        sides |= {f"alone/{group}": dict(tasks) for group, tasks in alone(simulated).items()}
    if by_speed:
        sides |= {f"speed/{key}": dict(tasks) for key, tasks in changed(simulated).items()}
    identity = {
        "suite": suite,
        "split": split,
        "at_least": at_least,
        **{side: {task: tried.identity() for task, tried in tasks.items()} for side, tasks in sides.items()},
    }
    settings = {
        "suite": suite, "split": split, "tasks": len(entries), "trials": trials, "at_least": at_least,
        "policy": entries[0].trials.policy,
    }  # fmt: skip
    names = {side: _name_of(tasks) for side, tasks in others.items()}
    if names:
        settings["against"] = next(iter(names.values())) if len(names) == 1 else list(names.values())
    claim(out, described("benchmark", seed=seed, settings=settings, identity=identity))
    rows: dict[str, dict[str, pa.Table]] = {side: {} for side in sides}
    verdict, used = "open", 0
    counts = range(min(LOOK, trials), trials + LOOK, LOOK) if bet else [trials]
    for count in (min(c, trials) for c in counts):
        for side, tasks in sides.items():
            rows[side] = _trials(tasks, out / side, count, seed, workers, engine, progress)
        if bet is not None:
            rounds = np.mean([won(table) for table in rows[OWN].values()], axis=0)
            verdict, used = bet.verdict(rounds.tolist())
            if verdict != "open":
                break
    _write(out / TRIALS, entries, rows)
    summary = summarize(entries, rows[OWN], suite=suite, split=split)
    if others:
        compared = [(names[side], rows[side]) for side in others]
        summary |= compared_with(entries, entries[0].trials.policy, rows[OWN], compared)
    if by_group:
        found = {side.removeprefix("alone/"): rows[side] for side in sides if side.startswith("alone/")}
        summary["robustness"] = robustness(rows[OWN], found, counted(list(simulated.values())))
    if by_speed:
        found = {side.removeprefix("speed/"): rows[side] for side in sides if side.startswith("speed/")}
        summary["speed"] = speed_against_quality(
            rows[OWN], found, {names[side]: rows[side] for side in others}
        )
    if bet is not None:
        summary["at_least"] = {"rate": at_least, "verdict": verdict, "rounds": used, "alpha": bet.alpha}
    write_json(out / SUMMARY, summary)
    return summary


def _name_of(tasks: Mapping[str, Trials]) -> str:
    return next(iter(tasks.values())).policy


def _trials(
    tasks: Mapping[str, Trials],
    out: Path,
    count: int,
    seed: int,
    workers: int,
    engine: "Engine | None",
    progress: bool,
) -> "dict[str, pa.Table]":
    """The first `count` trials of one policy on every task; those that are there already are not run again."""
    import pyarrow.compute as pc

    rollout = Several(tuple(tasks), tuple(tried.recipe() for tried in tasks.values()))
    table = run_sweep(
        rollout, numbered({name: tried.draws(count) for name, tried in tasks.items()}), out,
        identity={name: tried.identity() for name, tried in tasks.items()},
        about=described("trials", seed=seed) | {"policy": next(iter(tasks.values())).policy},
        workers=workers, engine=engine, progress=progress,
    )  # fmt: skip
    return {name: table.filter(pc.equal(pc.field("task"), name)) for name in tasks}


def _write(path: Path, entries: Sequence[Entry], rows: Mapping[str, Mapping[str, "pa.Table"]]) -> None:
    """All trials in one table: policy, task, trial, outcome. What was drawn stays with the sweeps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for side, tables in rows.items():
        for entry in entries:
            table = tables[entry.id]
            columns = ("index", "seed", "success", "stage", "cause", "failure", "seconds", "wall_seconds")
            part = table.select([name for name in columns if name in table.column_names])
            head = {"side": side, "task": entry.id, "family": entry.family, "split": entry.split}
            for name, value in reversed(head.items()):
                part = part.add_column(0, name, pa.array([value] * table.num_rows))
            parts.append(part)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(pa.concat_tables(parts, promote_options="permissive"), temporary)
    temporary.replace(path)


def summarize(
    entries: Sequence[Entry], own: Mapping[str, "pa.Table"], *, suite: str, split: str
) -> dict[str, Any]:
    """What the trials add up to, as JSON types."""
    good = {entry.id: int(won(own[entry.id]).sum()) for entry in entries}
    of = {entry.id: own[entry.id].num_rows for entry in entries}
    mean = mean_rate(list(good.values()), list(of.values()))
    per_task = [_task_summary(entry, own[entry.id]) for entry in entries]
    families: dict[str, list[str]] = {}
    for entry in entries:
        families.setdefault(entry.family, []).append(entry.id)
    per_family = []
    for family, names in families.items():
        rate = mean_rate([good[name] for name in names], [of[name] for name in names])
        per_family.append(
            {
                "family": family,
                "tasks": len(names),
                "trials": sum(of[name] for name in names),
                "success_rate": rate.value,
                "interval_95": [rate.low, rate.high],
            }
        )
    causes = Counter(cause for table in own.values() for cause in _causes(table))
    hardest = sorted(per_task, key=lambda task: (task["successes"] / task["trials"], task["id"]))[:10]
    summary: dict[str, Any] = {
        "suite": suite,
        "split": split,
        "tasks": len(entries),
        "trials": sum(of.values()),
        "success_rate": mean.value,
        "interval_95": [mean.low, mean.high],
        "method": mean.method,
        "per_task": per_task,
        "per_family": per_family,
        "hardest": [task["id"] for task in hardest if task["successes"] < task["trials"]],
        "failures": dict(causes.most_common()),
    }
    if len(entries) > 1:
        rates = [good[name] / of[name] for name in good]
        summary["interquartile_mean"] = interquartile_mean(rates)
        summary["profile"] = profile_of(rates)
    return summary


def _task_summary(entry: Entry, table: "pa.Table") -> dict[str, Any]:
    good = int(won(table).sum())
    stages = Counter(stage for stage in table["stage"].to_pylist() if stage)
    causes = Counter(_causes(table))
    return {
        "id": entry.id,
        "family": entry.family,
        "trials": table.num_rows,
        "successes": good,
        "wilson_95": list(wilson_interval(good, table.num_rows)),
        "stage_reached": dict(stages.most_common()),
        "failure": dict(causes.most_common()),
    }


def _causes(table: "pa.Table") -> list[str]:
    """Why trials failed: what was diagnosed, or that the trial ended in an error."""
    failures = table["failure"].to_pylist()
    causes = table["cause"].to_pylist() if "cause" in table.column_names else [None] * len(failures)
    return [
        cause or "error" for cause, failure, good in zip(causes, failures, won(table)) if not good and failure
    ]


def read_summary(out: Path) -> dict[str, Any]:
    """summary.json of a finished benchmark."""
    return dict(json.loads((out / SUMMARY).read_text(encoding="utf-8")))
