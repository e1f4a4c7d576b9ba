"""What the episodes of a transfer run mean: rates, paired differences, the gap that was closed, how well simulation
predicted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from randomization.comparison import compare
from sim2real.statistics import pearson, rank_violation, wilson_interval

Rows = Sequence[Mapping[str, Any]]
Cells = Mapping[tuple[str, str], Rows]
"""Rows of episodes by reality and method, in the order of their index."""

PAIRS: Final = (
    ("none", "default"),
    ("narrow", "default"),
    ("forces", "default"),
    ("default", "automatic"),
    ("default", "identified"),
    ("default", "finetuned"),
    ("finetuned", "oracle"),
)
"""Which methods are compared with which: (before, after)."""
ZERO_SHOT: Final = "default"
RESAMPLES: Final = 2000

CAVEAT: Final = (
    "Both engines move an arm that is described by one URDF, with one model of its servos: what is wrong in these is "
    "wrong in every reality here, and no figure on this page can show it. Success from simulation to simulation is "
    "necessary, not sufficient."
)


def counted(rows: Rows) -> list[Mapping[str, Any]]:
    """The episodes that count: not those in which a reality fell behind its time."""
    return [row for row in rows if not row["behind"]]


def cell(rows: Rows) -> dict[str, Any]:
    """One method on one reality."""
    kept = counted(rows)
    won = sum(bool(row["success"]) for row in kept)
    low, high = wilson_interval(won, len(kept))
    seconds = [row["seconds"] for row in kept if row["success"]]
    return {
        "episodes": len(kept),
        "successes": won,
        "success_rate": won / len(kept) if kept else None,
        "wilson_95": [low, high],
        "stages": dict(Counter(str(row["stage"]) for row in kept).most_common()),
        "faults": dict(
            Counter(str(row["fault"]).split(":")[0] for row in kept if row["fault"]).most_common()
        ),
        "mean_seconds": float(np.mean(seconds)) if seconds else None,
        "not_counted": len(rows) - len(kept),
    }


def paired(cells: Cells, before: str, after: str, realities: Sequence[str]) -> dict[str, Any] | None:
    """`after` against `before` on the episodes that both had; None where there are none."""
    outcomes: list[tuple[bool, bool]] = []
    for reality in realities:
        one = {row["index"]: bool(row["success"]) for row in counted(cells.get((reality, before), ()))}
        two = {row["index"]: bool(row["success"]) for row in counted(cells.get((reality, after), ()))}
        outcomes += [(one[i], two[i]) for i in sorted(one.keys() & two.keys())]
    if not outcomes:
        return None
    a, b = zip(*outcomes)
    found = compare(a, b)
    return {
        "before": before, "after": after, "pairs": len(outcomes), "difference": found.difference,
        "newcombe_95": [found.low, found.high], "mcnemar_p": found.p_value, "only_before": found.only_a,
        "only_after": found.only_b,
    }  # fmt: skip


def gap_closed(cells: Cells, realities: Sequence[str], seed: int = 0) -> dict[str, Any] | None:
    """(fine-tuned − zero-shot) / (oracle − zero-shot) over the episodes that all three had, with a bootstrap interval.

    None without all three; `value` None where the oracle is no better than zero-shot: there is no gap to close.
    """
    names = (ZERO_SHOT, "finetuned", "oracle")
    per_reality: list[np.ndarray] = []
    for reality in realities:
        by = [
            {row["index"]: float(row["success"]) for row in counted(cells.get((reality, m), ()))}
            for m in names
        ]
        common = sorted(set.intersection(*(set(found) for found in by)))
        if common:
            per_reality.append(np.array([[found[i] for i in common] for found in by]))
    if not per_reality:
        return None

    def ratio(samples: Sequence[np.ndarray]) -> float:
        zero, tuned, oracle = np.mean([sample.mean(axis=1) for sample in samples], axis=0)
        return float((tuned - zero) / (oracle - zero)) if oracle > zero else float("nan")

    rng = np.random.default_rng(seed)
    drawn = [
        ratio([sample[:, rng.integers(0, sample.shape[1], sample.shape[1])] for sample in per_reality])
        for _ in range(RESAMPLES)
    ]
    value, drawn = ratio(per_reality), [x for x in drawn if np.isfinite(x)]
    enough = np.isfinite(value) and len(drawn) > 0.9 * RESAMPLES
    return {
        "value": value if np.isfinite(value) else None,
        "bootstrap_95": [float(x) for x in np.percentile(drawn, [2.5, 97.5])] if enough else None,
        "episodes": int(sum(sample.shape[1] for sample in per_reality)),
    }


def ranking(simulated: Mapping[str, float], cells: Cells, realities: Sequence[str]) -> dict[str, Any]:
    """How well success in simulation ranks the policies. `simulated` by method.

    "policies": each by its mean over the realities; "pairs": every policy on every reality.
    """
    means: dict[str, float] = {}
    points: list[dict[str, Any]] = []
    for method, expected in simulated.items():
        rates = []
        for reality in realities:
            rate = cell(cells.get((reality, method), ()))["success_rate"]
            if rate is not None:
                rates.append(rate)
                points.append({"reality": reality, "method": method, "simulated": expected, "real": rate})
        if rates:
            means[method] = float(np.mean(rates))
    policies = [simulated[m] for m in means], list(means.values())
    pairs = [p["simulated"] for p in points], [p["real"] for p in points]
    return {
        "policies": {
            "count": len(means),
            "pearson": pearson(*policies),
            "rank_violation": rank_violation(*policies),
        },
        "pairs": {"count": len(points), "pearson": pearson(*pairs), "rank_violation": rank_violation(*pairs)},
        "points": points,
    }


def summarized(
    cells: Cells, realities: Sequence[str], methods: Sequence[str], simulated: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """Everything that transfer.json says about the episodes."""
    table = {
        reality: {method: cell(cells[reality, method]) for method in methods if (reality, method) in cells}
        for reality in realities
    }
    overall = {}
    for method in methods:
        rows = [row for reality in realities for row in cells.get((reality, method), ())]
        rates = [table[r][method]["success_rate"] for r in realities if method in table[r]]
        known = [rate for rate in rates if rate is not None]
        if rows:
            overall[method] = cell(rows) | {"mean_over_realities": float(np.mean(known)) if known else None}
    comparisons = [paired(cells, a, b, realities) for a, b in PAIRS if a in methods and b in methods]
    return {
        "realities": table,
        "methods": overall,
        "comparisons": [found for found in comparisons if found is not None],
        "gap_closed": gap_closed(cells, realities, seed),
        "ranking": ranking({m: s for m, s in simulated.items() if m in methods}, cells, realities),
        "caveat": CAVEAT,
    }
