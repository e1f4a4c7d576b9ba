"""Running a benchmark: the same trials for every policy, kept safe as they come, and what they add up to.

config.json          what it is: policy by content, suite, tasks, seed
policy/TASK/         a sweep a task: the trials of the policy
against/TASK/        of the one that it is compared with, on the same draws
trials.parquet       all of them, a row each
summary.json         rates, intervals, tests, reasons
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipelines.benchmarks.sequential import Bet
from pipelines.benchmarks.statistics import holm, mean_rate
from pipelines.runs import claim, described
from pipelines.sweeps.several import Several, numbered
from randomization.comparison import compare
from randomization.sweep import run_sweep
from randomization.workers import Factory
from sim2real.files import write_json
from sim2real.parameters import Draw
from sim2real.statistics import wilson_interval

if TYPE_CHECKING:
    import pyarrow as pa

    from randomization.sweep import Engine

TRIALS, SUMMARY = "trials.parquet", "summary.json"
LOOK = 10
"""Trials of each task between two looks of a benchmark that ends as soon as it can tell."""


class Trials(Protocol):
    """How a policy is tried on one task."""

    @property
    def policy(self) -> str:
        """What the policy is called."""

    def identity(self) -> dict[str, Any]:
        """What decides how trials end, as JSON types."""

    def draws(self, count: int) -> list[Draw]:
        """The first so many trials; the k-th does not depend on the count."""

    def recipe(self) -> Factory:
        """A picklable recipe of trials, whose rows have `success`, `stage`, `failure`, `cause` and `seconds`."""


@dataclass(frozen=True)
class Entry:
    """One task of a benchmark: its name, what kind of task it is, and how the policy is tried on it."""

    id: str
    family: str
    split: str
    trials: Trials


def run_benchmark(
    entries: Sequence[Entry],
    out: Path,
    *,
    suite: str,
    split: str,
    trials: int,
    seed: int,
    against: Mapping[str, Trials] | None = None,
    at_least: float | None = None,
    workers: int = 1,
    engine: "Engine | None" = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run or go on with a benchmark in `out`; returns what summary.json says.

    against: how another policy is tried, by task, on the same draws. at_least: end as soon as the trials tell whether
    the mean success is above or below this (a bet, 5 %), at the latest after `trials`.
    """
    bet = Bet(at_least) if at_least is not None else None
    sides = {"policy": {entry.id: entry.trials for entry in entries}}
    if against is not None:
        sides["against"] = dict(against)
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
    if against is not None:
        settings["against"] = next(iter(against.values())).policy
    claim(out, described("benchmark", seed=seed, settings=settings, identity=identity))
    rows: dict[str, dict[str, pa.Table]] = {side: {} for side in sides}
    verdict, used = "open", 0
    counts = range(min(LOOK, trials), trials + LOOK, LOOK) if bet else [trials]
    for count in (min(c, trials) for c in counts):
        for side, tasks in sides.items():
            rows[side] = _trials(tasks, out / side, count, seed, workers, engine, progress)
        if bet is not None:
            rounds = np.mean([_won(table) for table in rows["policy"].values()], axis=0)
            verdict, used = bet.verdict(rounds.tolist())
            if verdict != "open":
                break
    _write(out / TRIALS, entries, rows)
    summary = summarize(entries, rows, suite=suite, split=split)
    if bet is not None:
        summary["at_least"] = {"rate": at_least, "verdict": verdict, "rounds": used, "alpha": bet.alpha}
    write_json(out / SUMMARY, summary)
    return summary


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


def _won(table: "pa.Table") -> np.ndarray:
    return np.asarray(table["success"].to_numpy(zero_copy_only=False), dtype=bool)


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
    entries: Sequence[Entry], rows: Mapping[str, Mapping[str, "pa.Table"]], *, suite: str, split: str
) -> dict[str, Any]:
    """What the trials add up to, as JSON types."""
    own = rows["policy"]
    won = {entry.id: int(_won(own[entry.id]).sum()) for entry in entries}
    of = {entry.id: own[entry.id].num_rows for entry in entries}
    mean = mean_rate(list(won.values()), list(of.values()))
    per_task = [_task_summary(entry, own[entry.id]) for entry in entries]
    families: dict[str, list[str]] = {}
    for entry in entries:
        families.setdefault(entry.family, []).append(entry.id)
    per_family = []
    for family, names in families.items():
        rate = mean_rate([won[name] for name in names], [of[name] for name in names])
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
    if "against" in rows:
        summary["against"] = _against(entries, own, rows["against"])
    return summary


def _task_summary(entry: Entry, table: "pa.Table") -> dict[str, Any]:
    won = int(_won(table).sum())
    stages = Counter(stage for stage in table["stage"].to_pylist() if stage)
    causes = Counter(_causes(table))
    return {
        "id": entry.id,
        "family": entry.family,
        "trials": table.num_rows,
        "successes": won,
        "wilson_95": list(wilson_interval(won, table.num_rows)),
        "stage_reached": dict(stages.most_common()),
        "failure": dict(causes.most_common()),
    }


def _causes(table: "pa.Table") -> list[str]:
    """Why trials failed: what was diagnosed, or that the trial ended in an error."""
    failures = table["failure"].to_pylist()
    causes = table["cause"].to_pylist() if "cause" in table.column_names else [None] * len(failures)
    return [
        cause or "error" for cause, failure, won in zip(causes, failures, _won(table)) if not won and failure
    ]


def _against(
    entries: Sequence[Entry], own: Mapping[str, "pa.Table"], other: Mapping[str, "pa.Table"]
) -> dict[str, Any]:
    """This policy against the other one, pair by pair: over all tasks, and task by task with Holm's correction."""
    pairs = {e.id: (_won(other[e.id]), _won(own[e.id])) for e in entries}
    before, after = (np.concatenate([pair[k] for pair in pairs.values()]) for k in (0, 1))
    together = compare(before, after)
    each = {name: compare(*pair) for name, pair in pairs.items()}
    corrected = holm([c.p_value for c in each.values()]) if len(each) > 1 else [together.p_value]
    mean = mean_rate([int(a.sum()) for a, _ in pairs.values()], [len(a) for a, _ in pairs.values()])
    return {
        "difference": together.difference,
        "interval_95": [together.low, together.high],
        "p": together.p_value,
        "method": "paired by draw: McNemar exact, interval of Bonett and Price",
        "success_rate": mean.value,
        "only_this": together.only_b,
        "only_other": together.only_a,
        "per_task": [
            {"id": name, "difference": c.difference, "p": p} for (name, c), p in zip(each.items(), corrected)
        ],
    }


def read_summary(out: Path) -> dict[str, Any]:
    """summary.json of a finished benchmark."""
    return dict(json.loads((out / SUMMARY).read_text(encoding="utf-8")))
