"""A policy against others on the same draws: pair by pair, task by task, and all of them among each other."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.benchmarks.outcomes import by_task, won
from pipelines.benchmarks.protocol import Entry
from pipelines.benchmarks.statistics import holm, letters, mean_rate, profile
from randomization.comparison import compare

if TYPE_CHECKING:
    import pyarrow as pa

Tables = Mapping[str, "pa.Table"]

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(20))
"""Success rates at which performance profiles are told."""
ALPHA = 0.05


def compared_with(
    entries: Sequence[Entry], name: str, own: Tables, others: Sequence[tuple[str, Tables]]
) -> dict[str, Any]:
    """Parts of a summary: `against`, the first of the others; with several, `comparisons`, all of them, and
    `policies`, where those that share a letter cannot be told apart."""
    found = [{"policy": other, **_against(entries, own, tables)} for other, tables in others]
    result: dict[str, Any] = {"against": {k: v for k, v in found[0].items() if k != "policy"}}
    if len(found) > 1:
        result["comparisons"] = found
        result["policies"] = among([(name, own), *others])
    return result


def among(policies: Sequence[tuple[str, Tables]]) -> list[dict[str, Any]]:
    """All policies, the best first: success, its performance profile over tasks, and letters: policies that share one
    cannot be told apart (McNemar's exact test of every pair, Holm's correction, 5 %)."""
    trials = [np.concatenate([won(table) for table in tables.values()]) for _, tables in policies]
    order = sorted(range(len(policies)), key=lambda k: -float(trials[k].mean()))
    pairs = list(combinations(range(len(order)), 2))
    tests = holm([compare(trials[order[i]], trials[order[j]]).p_value for i, j in pairs])
    same = np.ones((len(order), len(order)), dtype=bool)
    for (i, j), p in zip(pairs, tests):
        same[i, j] = same[j, i] = p >= ALPHA
    # By position: two policies may be called alike.
    shown = letters([str(k) for k in range(len(order))], same)
    rows = []
    for k, at in enumerate(order):
        name, tables = policies[at]
        successes, counts = by_task(tables)
        rate = mean_rate(successes, counts)
        row: dict[str, Any] = {
            "policy": name,
            "success_rate": rate.value,
            "interval_95": [rate.low, rate.high],
            "letters": shown[str(k)],
        }
        if len(tables) > 1:
            row["profile"] = profile_of([s / n for s, n in zip(successes, counts)])
        rows.append(row)
    return rows


def profile_of(rates: Sequence[float]) -> list[list[float]]:
    """Performance profile of rates by task: [threshold, share of tasks whose success is above it]."""
    return [[t, float(share)] for t, share in zip(THRESHOLDS, profile(rates, THRESHOLDS))]


def _against(
    entries: Sequence[Entry], own: Mapping[str, "pa.Table"], other: Mapping[str, "pa.Table"]
) -> dict[str, Any]:
    """This policy against the other one, pair by pair: over all tasks, and task by task with Holm's correction."""
    pairs = {e.id: (won(other[e.id]), won(own[e.id])) for e in entries}
    before, after = (np.concatenate([pair[k] for pair in pairs.values()]) for k in (0, 1))
    together = compare(before, after)
    each = {name: compare(*pair) for name, pair in pairs.items()}
    corrected = holm([c.p_value for c in each.values()]) if len(each) > 1 else [together.p_value]
    mean = mean_rate([int(a.sum()) for a, _ in pairs.values()], [len(a) for a, _ in pairs.values()])
    return {
        "difference": together.difference,
        "interval_95": [together.low, together.high],
        "p": together.p_value,
        "method": "paired by draw: McNemar exact, Newcombe's interval",
        "success_rate": mean.value,
        "only_this": together.only_b,
        "only_other": together.only_a,
        "per_task": [
            {"id": name, "difference": c.difference, "p": p} for (name, c), p in zip(each.items(), corrected)
        ],
    }
