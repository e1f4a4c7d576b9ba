"""Which kind of randomization costs how much: the trials of a benchmark again, with one group of parameters alone.

A trial's draw is taken as it is, and of its values only those of the group are kept, with where the episode begins
(`task.*`); everything else has its nominal value. So every group is tried from the starts of the whole benchmark, and
compared, pair by pair, with trials in which nothing varies but the starts.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.benchmarks.outcomes import by_task, won
from pipelines.benchmarks.simulated import SimulatedTrials
from pipelines.benchmarks.statistics import holm, mean_rate
from randomization.comparison import compare
from randomization.workers import Factory
from sim2real.parameters import Draw

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS: Mapping[str, tuple[str, ...]] = {
    "delay": ("command.*", "policy.*", "control.*", "sensor.delay", "sensor.jitter", "detector.latency"),
    "servo": ("servo.*",),
    "arm": ("link.*", "payload.*", "gripper.*"),
    "sensing": ("sensor.*", "detector.*"),
    "objects": ("object.*",),
    "camera": ("camera.*", "light.*", "colour.*", "texture.*", "distractors.*"),
    "surroundings": ("world.*", "push.*"),
}
"""Groups of parameters by their names; the first that fits counts."""
STARTS = "task.*"
NOTHING = "nothing"
"""The group in which nothing varies but where episodes begin."""


def group_of(name: str) -> str | None:
    """The group of a parameter; None for where episodes begin, and for parameters of a user's own."""
    return next(
        (group for group, patterns in GROUPS.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)),
        None,
    )


@dataclass(frozen=True)
class Alone:
    """Trials in which one group of parameters varies. Satisfies `protocol.Trials`."""

    whole: SimulatedTrials
    group: str

    @property
    def policy(self) -> str:
        return self.whole.policy

    def identity(self) -> dict[str, Any]:
        return {"of": self.whole.fingerprint, "alone": self.group}

    def draws(self, count: int) -> list[Draw]:
        return [
            replace(draw, values={name: value for name, value in draw.values.items() if self._kept(name)})
            for draw in self.whole.draws(count)
        ]

    def recipe(self) -> Factory:
        return self.whole.recipe()

    def _kept(self, name: str) -> bool:
        return fnmatch.fnmatchcase(name, STARTS) or group_of(name) == self.group


def alone(tasks: Mapping[str, SimulatedTrials]) -> dict[str, dict[str, Alone]]:
    """Per group the trials of every task with it alone; only groups of which something varies, and `NOTHING`."""
    names = {name for tried in tasks.values() for draw in tried.draws(1) for name in draw.values}
    varying = {group_of(name) for name in names}
    groups = [NOTHING, *(group for group in GROUPS if group in varying)]
    return {group: {task: Alone(tried, group) for task, tried in tasks.items()} for group in groups}


def robustness(
    whole: Mapping[str, "pa.Table"],
    groups: Mapping[str, Mapping[str, "pa.Table"]],
    varying: Mapping[str, int],
) -> list[dict[str, Any]]:
    """A row per group, as JSON types: success, and what it costs against nothing varying, on the same starts.

    `varying`: how many parameters each group has. The last row is all groups together: the benchmark itself.
    """
    base = np.concatenate([won(table) for table in groups[NOTHING].values()])
    rows = []
    for group, tables in [*groups.items(), ("all", whole)]:
        rate = mean_rate(*by_task(tables))
        row: dict[str, Any] = {
            "group": group,
            "parameters": varying.get(group, 0) if group != "all" else sum(varying.values()),
            "trials": sum(table.num_rows for table in tables.values()),
            "success_rate": rate.value,
            "interval_95": [rate.low, rate.high],
        }
        if group != NOTHING:
            n = len(base)
            found = compare(base, np.concatenate([won(table) for table in tables.values()])[:n])
            row["against_nothing"] = {
                "difference": found.difference, "interval_95": [found.low, found.high], "p": found.p_value,
            }  # fmt: skip
        rows.append(row)
    tests = [row["against_nothing"] for row in rows if "against_nothing" in row]
    for test, p in zip(tests, holm([test["p"] for test in tests]) if len(tests) > 1 else ()):
        test["p"] = p
    return rows


def counted(tasks: Sequence[SimulatedTrials]) -> dict[str, int]:
    """How many parameters of each group vary in these trials."""
    names = {name for tried in tasks for draw in tried.draws(1) for name in draw.values}
    return {group: sum(group_of(name) == group for name in names) for group in GROUPS}
