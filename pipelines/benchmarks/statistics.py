"""What counts of successes say: intervals and tests for one policy, for two, and over many tasks.

Counts are successes of trials, one entry a task. Everything that scipy or statsmodels has comes from there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.errors import UserError
from sim2real.statistics import wilson_interval

Array = NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean success rate over tasks, each of which counts alike, with its interval and how that was found."""

    value: float
    low: float
    high: float
    method: str


def mean_rate(
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    sampled: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Mean:
    """Mean over tasks of their success rates, from counts (k,).

    One task has Wilson's interval. Several have a bootstrap stratified by task: trials are drawn again within every
    task. `sampled`: the tasks stand for others of their kind, so tasks are drawn again first, then their trials. A
    bootstrap of trials that all end alike has no width, which would claim too much: Wilson's interval over all trials
    stands in then. Raises UserError for no tasks, no trials or impossible counts.
    """
    won, of = _counts(successes, trials)
    value = float(np.mean(won / of))
    if len(won) == 1:
        return Mean(value, *wilson_interval(int(won[0]), int(of[0]), confidence), "Wilson")
    if won.sum() in (0, of.sum()):
        low, high = wilson_interval(int(won.sum()), int(of.sum()), confidence)
        return Mean(value, low, high, "Wilson over all trials, which all ended alike")
    tail = (1 - confidence) / 2
    if sampled:
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(won), (resamples, len(won)))
        means = (rng.binomial(of[chosen], (won / of)[chosen]) / of[chosen]).mean(axis=1)
        low, high = np.quantile(means, [tail, 1 - tail])
        return Mean(value, float(low), float(high), "bootstrap over tasks, then their trials")
    from scipy.stats import bootstrap

    samples = tuple(np.repeat([1.0, 0.0], [w, n - w]) for w, n in zip(won, of))
    found = bootstrap(
        samples, _mean_of_means, n_resamples=resamples, confidence_level=confidence, method="percentile",
        vectorized=True, rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Mean(value, float(found.low), float(found.high), "bootstrap of trials, stratified by task")


def _mean_of_means(*samples: Array, axis: int = -1) -> Array:
    return np.asarray(np.mean([np.mean(sample, axis=axis) for sample in samples], axis=0))


def interquartile_mean(rates: ArrayLike) -> float:
    """Mean of the middle half of the rates (k,) of tasks: neither the hardest nor the easiest decide it.

    Source: R. Agarwal and others, "Deep reinforcement learning at the edge of the statistical precipice", 2021.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(rates, dtype=float), 0.25))


def profile(rates: ArrayLike, thresholds: ArrayLike) -> Array:
    """Performance profile: the share of tasks whose rate is above each of the thresholds."""
    from scipy.stats import ecdf

    return np.asarray(1.0 - ecdf(np.asarray(rates, dtype=float)).cdf.evaluate(np.asarray(thresholds)))


@dataclass(frozen=True)
class Difference:
    """The second policy's success minus the first one's, on trials that were not paired."""

    difference: float
    low: float
    high: float
    p: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def unpaired(
    successes_a: ArrayLike, trials_a: ArrayLike, successes_b: ArrayLike, trials_b: ArrayLike
) -> Difference:
    """B against A, each on trials of its own; counts (k,) by task, of the same tasks in the same order.

    One task: Newcombe's interval and Boschloo's exact test. Several: the difference of the mean rates with a bootstrap
    interval, stratified by task, and the test of Mantel and Haenszel across tasks. Raises UserError for counts that do
    not fit each other.
    """
    (a, n), (b, m) = _counts(successes_a, trials_a), _counts(successes_b, trials_b)
    if len(a) != len(b):
        raise UserError(f"a comparison needs the same tasks of both, got {len(a)} and {len(b)}")
    difference = float(np.mean(b / m) - np.mean(a / n))
    if len(a) == 1:
        from scipy.stats import boschloo_exact

        low, high = _statsmodels().proportion.confint_proportions_2indep(
            int(b[0]), int(m[0]), int(a[0]), int(n[0]), method="newcomb", compare="diff"
        )
        p = boschloo_exact([[b[0], a[0]], [m[0] - b[0], n[0] - a[0]]]).pvalue
        return Difference(difference, float(low), float(high), float(p), "Newcombe; Boschloo")
    varies = (a + b).sum() not in (0, (n + m).sum())
    if not varies:
        # All trials ended alike: a bootstrap of them has no width.
        low, high = _statsmodels().proportion.confint_proportions_2indep(
            int(b.sum()), int(m.sum()), int(a.sum()), int(n.sum()), method="newcomb", compare="diff"
        )
        return Difference(difference, float(low), float(high), 1.0, "Newcombe over all trials")
    rng = np.random.default_rng(0)
    means = [
        (rng.binomial(of, won / of, (RESAMPLES, len(of))) / of).mean(axis=1) for won, of in ((a, n), (b, m))
    ]
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    tables = [np.array([[w, v - w], [x, y - x]]) for w, v, x, y in zip(b, m, a, n)]
    table = _statsmodels().StratifiedTable(tables)
    p = float(table.test_null_odds(correction=True).pvalue)
    return Difference(difference, float(low), float(high), p, "bootstrap by task; Mantel–Haenszel")


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, corrected so that one false alarm in all of them is as rare as in one (Holm)."""
    if not p_values:
        return []
    return [float(p) for p in _statsmodels().multitest.multipletests(list(p_values), method="holm")[1]]


def letters(names: Sequence[str], same: NDArray[np.bool_]) -> dict[str, str]:
    """Compact letter display: policies that share a letter cannot be told apart.

    `same` (k, k): whether a pair is not told apart. Source: H.-P. Piepho, "An algorithm for a letter-based
    representation of all-pairwise comparisons", 2004 (insert and absorb).
    """
    count = len(names)
    columns: list[frozenset[int]] = [frozenset(range(count))]
    for i in range(count):
        for j in range(i + 1, count):
            if same[i, j]:
                continue
            split = [part for c in columns for part in ((c - {i}, c - {j}) if {i, j} <= c else (c,))]
            columns = [c for c in dict.fromkeys(split) if not any(c < other for other in split)]
    columns.sort(key=lambda c: sorted(c))
    return {
        name: "".join(chr(ord("a") + at) for at, c in enumerate(columns) if k in c)
        for k, name in enumerate(names)
    }


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    won, of = np.atleast_1d(np.asarray(successes, np.int64)), np.atleast_1d(np.asarray(trials, np.int64))
    if won.shape != of.shape or won.ndim != 1 or not len(won):
        raise UserError(f"successes and trials need one count a task, got {won.shape} and {of.shape}")
    if (of < 1).any() or (won < 0).any() or (won > of).any():
        raise UserError("every task needs at least one trial, and no more successes than trials")
    return won, of


class _Statsmodels:
    """The parts of statsmodels that are used here."""

    def __init__(self) -> None:
        try:
            from statsmodels.stats import multitest, proportion
            from statsmodels.stats.contingency_tables import StratifiedTable
        except ImportError:
            raise UserError(
                "comparing policies on trials of their own, and correcting for several tests, needs statsmodels: "
                "pip install 'sim2real-transfer[benchmark]'"
            ) from None
        self.multitest, self.proportion, self.StratifiedTable = multitest, proportion, StratifiedTable


def check_statsmodels() -> None:
    """Raise UserError where statsmodels is missing: before trials are run that could not be compared."""
    _statsmodels()


def _statsmodels() -> _Statsmodels:
    return _Statsmodels()
