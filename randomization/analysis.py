"""From a sweep's rows to what they say: rates, what matters, curves, maps, and how sure one can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randomization.sensitivity import (
    Effect,
    Level,
    PairMap,
    SobolIndex,
    dependence,
    first_order,
    pick_freeze,
    strongest_pairs,
)
from randomization.surrogate import Total, fit_surrogate
from randomization.sweep import draws_to_halve, summarize

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]

FEWEST = 32
"""Below this many draws nothing is said about causes."""


@dataclass(frozen=True)
class Analysis:
    """What a sweep says.

    `outcome` is the column that is explained: `success`, or `seconds` where all draws had the same success.
    `effects` are strongest first; `curves` and `pairs` belong to the strongest. `totals` come from a surrogate
    that explains `q2` of the outcome's variance on draws it has not seen (None: not fitted); `indices` replace
    all of it for pick-freeze designs. Lists are empty where there are too few draws.
    """

    summary: dict[str, Any]
    outcome: str
    effects: tuple[Effect, ...]
    curves: dict[str, list[Level]]
    pairs: tuple[PairMap, ...]
    totals: tuple[Total, ...] = ()
    q2: float | None = None
    indices: tuple[SobolIndex, ...] = ()

    def to_dict(self, count: int = 12) -> dict[str, Any]:
        """Plain types for summary.json: the `count` strongest parameters."""
        totals = {t.name: t for t in self.totals}
        sensitivity = []
        for effect in self.effects[:count]:
            row = effect.to_dict()
            if effect.name in totals and self.q2 is not None:
                t = totals[effect.name]
                row |= {"total": t.total, "total_low": t.low, "total_high": t.high}
            sensitivity.append(row)
        found: dict[str, Any] = {"explained": self.outcome, "sensitivity": sensitivity}
        if self.q2 is not None:
            found["surrogate_q2"] = self.q2
        if self.indices:
            found["sobol_indices"] = [vars(index) for index in self.indices[:count]]
        if self.pairs:
            found["strongest_pair"] = [self.pairs[0].x, self.pairs[0].y]
        return self.summary | found


def analyse(
    table: "pa.Table",
    columns: Mapping[str, str],
    *,
    design: str = "sobol",
    curves: int = 6,
    pairs: int = 2,
    surrogate: bool = True,
    seed: int = 0,
) -> Analysis:
    """Analyse a results table. `columns` maps what to name a dimension to its column in the table.

    `design` decides the estimators; one-at-a-time rows give curves only, since they do not vary together.
    """
    summary = summarize(table)
    summary["draws_to_halve_interval"] = draws_to_halve(summary["successes"], summary["draws"])
    y, outcome = _outcome(table)
    names = [name for name, column in columns.items() if column in table.column_names]
    x = _matrix(table, [columns[name] for name in names])
    known = np.isfinite(y if y.dtype != np.bool_ else y.astype(float))
    x, y = x[known], y[known]
    varying = np.ptp(x, axis=0) > 0 if len(x) else np.zeros(len(names), bool)
    names = [name for name, varies in zip(names, varying) if varies]
    x = x[:, varying]
    if len(y) < FEWEST or not names:
        return Analysis(summary, outcome, (), {}, ())
    if design == "oat":
        return Analysis(summary, outcome, (), _moved_curves(x, y, names, curves), ())
    indices: tuple[SobolIndex, ...] = ()
    if design == "saltelli":
        indices = tuple(pick_freeze(y, names, seed=seed))
        # Rows A and B are plain random samples; the rows between them repeat A.
        block = len(names) + 2
        plain = np.isin(np.arange(len(y)) % block, (0, block - 1))
        x, y = x[plain], y[plain]
        if len(y) < FEWEST:
            return Analysis(summary, outcome, (), {}, (), indices=indices)
    effects = first_order(x, y, names, seed=seed)
    totals: tuple[Total, ...] = ()
    q2 = None
    if surrogate and not indices and len(y) >= 64:
        fitted = fit_surrogate(x, y, names, seed=seed)
        totals, q2 = fitted.totals, fitted.q2
    place = {name: j for j, name in enumerate(names)}
    shown = [s.name for s in indices] if indices else [e.name for e in effects]
    return Analysis(
        summary,
        outcome,
        tuple(effects),
        {name: dependence(x[:, place[name]], y) for name in shown[:curves]},
        tuple(strongest_pairs(x, y, names, effects, pairs)),
        totals,
        q2,
        indices,
    )


def nearest_failures(
    table: "pa.Table", columns: Mapping[str, str], typical: Mapping[str, tuple[float, float]], count: int = 5
) -> list[tuple[int, float, list[tuple[str, float]]]]:
    """The failed rows nearest to nominal: (row number, distance, its most unusual parameters with their z).

    `typical` holds (nominal value, half the width of the range) by name; distances are root mean squares of
    (value − nominal) / half width over all dimensions.
    """
    names = [name for name, column in columns.items() if column in table.column_names and name in typical]
    failed = np.flatnonzero(~table["success"].to_numpy(zero_copy_only=False).astype(bool))
    if not names or not len(failed):
        return []
    x = _matrix(table, [columns[name] for name in names])[failed]
    centre = np.array([typical[name][0] for name in names])
    half = np.array([typical[name][1] or 1.0 for name in names])
    z = (x - centre) / half
    distance = np.sqrt((z**2).mean(axis=1))
    order = np.argsort(distance, kind="stable")[:count]
    rows = []
    for i in order:
        strange = np.argsort(-np.abs(z[i]))[:3]
        rows.append((int(failed[i]), float(distance[i]), [(names[j], float(z[i, j])) for j in strange]))
    return rows


def _outcome(table: "pa.Table") -> tuple[Any, str]:
    success = table["success"].to_numpy(zero_copy_only=False).astype(bool)
    if success.all() and "seconds" in table.column_names:
        return table["seconds"].to_numpy(zero_copy_only=False).astype(np.float64), "seconds"
    return success, "success"


def _moved_curves(x: Array, y: Any, names: Sequence[str], count: int) -> dict[str, list[Level]]:
    """Curves of a one-at-a-time design: only the rows in which a column left its commonest value."""
    found = {}
    for j, name in enumerate(names):
        values, counts = np.unique(x[:, j], return_counts=True)
        moved = x[:, j] != values[np.argmax(counts)]
        if moved.sum() >= 2:
            found[name] = dependence(x[moved, j], y[moved], fewest=2)
    spread = {name: max(p.mean for p in curve) - min(p.mean for p in curve) for name, curve in found.items()}
    return {name: found[name] for name in sorted(spread, key=lambda n: -spread[n])[:count]}


def _matrix(table: "pa.Table", names: Sequence[str]) -> Array:
    columns = [table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names]
    return np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
