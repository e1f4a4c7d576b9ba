"""Which parameters decide an outcome: variance-based sensitivity of y (N,) to columns x (N, d).

The first-order index of a parameter is the share of the outcome's variance that knowing this parameter alone
would explain, S_i = Var(E[y | x_i]) / Var(y). From any sweep it is estimated here by a least-squares polynomial
in the rank of x_i (its degree chosen by Schwarz' criterion), corrected for what a polynomial explains by
chance (epsilon² of the analysis of variance, Kelley 1935). Pick-freeze designs give first-order and total
indices directly; their estimators are scipy.stats.sobol_indices' (Saltelli 2010, Jansen 1999).

Inputs are taken as independent, which every design is unless the space declares correlations; then an index
also counts what a parameter's correlated partners do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.statistics import wilson_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """How much one parameter matters.

    `index` with its 95 % interval `low..high` is the first-order index (share of the variance). `p_value` is
    for "this parameter alone explains nothing", and `significant` whether that is refuted with Holm's
    correction for all parameters tested together: the chance of even one false alarm in the list is 5 %.
    `trend` is the mean outcome in the upper third of the parameter's values minus that in the lower third.
    """

    name: str
    index: float
    low: float
    high: float
    p_value: float
    significant: bool
    trend: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Level:
    """One bin of a parameter: its mean value and range, and the mean outcome with a 95 % interval."""

    value: float
    start: float
    stop: float
    count: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairMap:
    """Mean outcome over bins of two parameters: `edges_*` bound the bins, `mean`, `count` are (rows y, columns x).

    Cells without a draw are NaN. `joint` is the share of the variance that the pair explains together.
    """

    x: str
    y: str
    x_edges: Array
    y_edges: Array
    mean: Array
    count: NDArray[np.int64]
    joint: float


def first_order(
    x: Array,
    y: Array,
    names: Sequence[str],
    *,
    degree: int | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> list[Effect]:
    """First-order effects from given data, strongest first.

    `x` (N, d) in any units (only the order of the values counts), `y` (N,) outcomes (a boolean success or a
    number). Intervals are from a bootstrap over draws. Raises UserError for fewer than 16 draws.
    """
    x, y = _checked(x, y, names)
    n, d = x.shape
    if n < 16:
        raise UserError(f"sensitivity needs at least 16 draws, got {n}")
    if np.ptp(y) == 0:
        return [Effect(name, 0.0, 0.0, 0.0, 1.0, False, 0.0) for name in names]
    from scipy.stats import f as f_distribution

    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    once = np.ones((1, n))
    polynomials = _RankPolynomials(n)
    # Tested at a degree that the data have no say in; estimated at the one that they ask for.
    tested = [polynomials.of(x[:, j], _degree(n)) for j in range(d)]
    chosen = [_chosen_polynomials(polynomials, x[:, j], y, _degree(n)) for j in range(d)]
    found = []
    for j, (_, f_value), (index, _), (boot, _) in zip(
        range(d), _explained(tested, y, once), _explained(chosen, y, once), _explained(chosen, y, weights)
    ):
        dof = tested[j].shape[1] - 1
        # Resampling adds the chance fit that the estimator corrects for, once more: take that shift out.
        low, high = np.quantile(boot, [0.025, 0.975]) - (boot.mean() - index[0])
        p = float(f_distribution.sf(f_value[0], dof, n - dof - 1)) if dof else 1.0
        found.append((names[j], float(index[0]), float(low), float(high), p, _trend(x[:, j], y)))
    significant = _holm([entry[4] for entry in found], 0.05)
    effects = [
        Effect(name, max(index, 0.0), max(low, 0.0), max(high, 0.0), p, bool(s), trend)
        for (name, index, low, high, p, trend), s in zip(found, significant)
    ]
    # Estimates are cut at zero; among those the p-value still tells which one comes nearer to an effect.
    return sorted(effects, key=lambda e: (-e.index, e.p_value))


def dependence(x: Array, y: Array, bins: int = 8, fewest: int = 12) -> list[Level]:
    """The mean outcome over quantile bins of one parameter, of at least `fewest` draws: `x` (N,), `y` (N,).

    For a boolean outcome the intervals are Wilson's, otherwise from the standard error. As the other
    parameters are drawn independently, these means are the partial dependence.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y)
    labels, k = bin_labels(x, min(bins, max(2, len(x) // fewest)))
    levels = []
    for b in range(k):
        inside = labels == b
        count, values = int(inside.sum()), y[inside]
        mean = float(values.mean())
        if y.dtype == np.bool_:
            low, high = wilson_interval(int(values.sum()), count)
        else:
            half = 1.96 * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
            low, high = mean - half, mean + half
        part = x[inside]
        levels.append(Level(float(part.mean()), float(part.min()), float(part.max()), count, mean, low, high))
    return levels


def strongest_pairs(
    x: Array, y: Array, names: Sequence[str], effects: Sequence[Effect], count: int = 1, among: int = 8
) -> list[PairMap]:
    """Maps of the `count` pairs that explain most together, among the `among` strongest parameters."""
    x, y = _checked(x, y, names)
    n = len(y)
    k = 3 if n < 200 else 4 if n < 800 else 5
    order = [list(names).index(e.name) for e in effects[:among]]
    candidates = []
    for a, i in enumerate(order):
        for j in order[a + 1 :]:
            (first, ki), (second, kj) = bin_labels(x[:, i], k), bin_labels(x[:, j], k)
            if ki < 2 or kj < 2:
                continue
            cells, labels = np.unique(first * kj + second, return_inverse=True)
            one_hot = np.zeros((n, len(cells)))
            one_hot[np.arange(n), labels] = 1.0
            joint, _ = _epsilon_squared(one_hot.sum(0), one_hot.T @ y, y.sum(), y @ y, n)
            candidates.append((max(float(joint), 0.0), i, j))
    candidates.sort(key=lambda c: -c[0])
    return [pair_map(x[:, i], x[:, j], y, names[i], names[j], k, joint) for joint, i, j in candidates[:count]]


def pair_map(
    x: Array, y: Array, outcome: Array, x_name: str, y_name: str, bins: int, joint: float = math.nan
) -> PairMap:
    """Mean outcome (N,) over `bins` × `bins` equally full slices of two parameters' values `x`, `y` (N,)."""
    edges = [_edges(v, bins) for v in (x, y)]
    counts, _, _ = np.histogram2d(y, x, bins=[edges[1], edges[0]])
    sums, _, _ = np.histogram2d(y, x, bins=[edges[1], edges[0]], weights=outcome)
    with np.errstate(invalid="ignore"):
        mean = np.where(counts > 0, sums / counts, np.nan)
    return PairMap(x_name, y_name, edges[0], edges[1], mean, counts.astype(np.int64), joint)


@dataclass(frozen=True)
class SobolIndex:
    """Exact-design indices of one parameter with 95 % bootstrap intervals."""

    name: str
    first: float
    first_low: float
    first_high: float
    total: float
    total_low: float
    total_high: float


def pick_freeze(y: Array, names: Sequence[str], resamples: int = 200, seed: int = 0) -> list[SobolIndex]:
    """First-order and total Sobol indices from the rows of a Saltelli design, in its order.

    `y` (base · (d + 2),) in blocks A, AB_1 … AB_d, B. scipy's estimators want a power of two of base samples:
    the largest that the rows hold is used. Raises UserError for fewer than 16.
    """
    from scipy.stats import sobol_indices

    d = len(names)
    blocks = len(y) // (d + 2)
    base = 2 ** int(math.log2(blocks)) if blocks else 0
    if base < 16:
        raise UserError(
            f"pick-freeze indices need at least 16 base samples, {16 * (d + 2)} draws for {d} parameters; got {len(y)}"
        )
    table = np.asarray(y, np.float64)[: base * (d + 2)].reshape(base, d + 2)
    if np.ptp(table) == 0:
        return [SobolIndex(name, *(0.0,) * 6) for name in names]

    def indices(rows: Array) -> tuple[Array, Array]:
        values = {
            "f_A": rows[None, :, 0],
            "f_B": rows[None, :, -1],
            "f_AB": rows[:, 1:-1].T[:, None, :],
        }
        result = sobol_indices(func=values, n=len(rows))
        return np.ravel(result.first_order), np.ravel(result.total_order)

    first, total = indices(table)
    rng = np.random.default_rng(seed)
    # Blocks are the independent units. scipy's own bootstrap recomputes one index at a time.
    samples = [indices(table[rng.integers(0, base, base)]) for _ in range(resamples)]
    f_low, f_high = np.quantile([s[0] for s in samples], [0.025, 0.975], axis=0)
    t_low, t_high = np.quantile([s[1] for s in samples], [0.025, 0.975], axis=0)
    rows = zip(names, first, f_low, f_high, total, t_low, t_high)
    found = [SobolIndex(name, *(float(v) for v in values)) for name, *values in rows]
    return sorted(found, key=lambda s: -s.total)


def bin_labels(x: Array, bins: int) -> tuple[NDArray[np.int64], int]:
    """Bin numbers (N,) and how many bins: equally full ones by rank, or one per value where few occur."""
    values, inverse = np.unique(x, return_inverse=True)
    if len(values) <= bins:
        return inverse.astype(np.int64), len(values)
    ranks = np.empty(len(x), np.int64)
    ranks[np.argsort(x, kind="stable")] = np.arange(len(x))
    if len(values) < len(x):
        # Equal values belong into one bin.
        ranks = np.searchsorted(np.sort(x), x, side="left")
    labels = ranks * bins // len(x)
    used, labels = np.unique(labels, return_inverse=True)
    return labels.astype(np.int64), len(used)


_MOST = 10
"""Highest degree of a polynomial."""


def _degree(n: int) -> int:
    """Least degree: low where draws are few, since each degree costs power."""
    return int(np.clip(round(1.5 + n / 400), 2, _MOST))


class _RankPolynomials:
    """Orthonormal polynomials of the ranks of columns with `n` values.

    Without ties all columns have the same ranks in another order, so the polynomials are made once.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._sorted = self._orthonormal(np.arange(n, dtype=np.float64), _MOST)

    def of(self, x: Array, degree: int) -> Array:
        """(n, degree + 1); fewer columns where `x` has few values."""
        from scipy.stats import rankdata

        ranks = rankdata(x) - 1
        values = len(np.unique(ranks))
        if values == self._n:
            return self._sorted[ranks.astype(np.intp), : degree + 1]
        return self._orthonormal(ranks, min(degree, values - 1))

    def _orthonormal(self, ranks: Array, degree: int) -> Array:
        from numpy.polynomial.legendre import legvander

        q, _ = np.linalg.qr(legvander((2 * ranks + 1) / self._n - 1, min(degree, self._n - 1)))
        return np.asarray(q)


def _chosen_polynomials(polynomials: _RankPolynomials, x: Array, y: Array, least: int) -> Array:
    """The polynomials up to the degree of the least Bayesian information criterion, at least `least`."""
    n = len(y)
    basis = polynomials.of(x, int(np.clip(n // 40, least, _MOST)))
    explained = np.cumsum((basis.T @ y) ** 2)
    residual = np.maximum(y @ y - explained, 1e-12 * (y @ y))
    criterion = n * np.log(residual / n) + np.arange(len(residual)) * math.log(n)
    first = min(least, len(residual) - 1)
    return basis[:, : first + int(np.argmin(criterion[first:])) + 1]


_BLOCK = 4_000_000
"""Numbers in one block of products: 32 MB."""


def _explained(bases: Sequence[Array], y: Array, weights: Array) -> Iterator[tuple[Array, Array]]:
    """(corrected share of variance, F value), each (R,), of weighted fits of y (N,) by each basis (N, p + 1).

    `weights` (R, N) count how often each draw is in each sample. Products of several bases are summed in one
    multiplication: hundreds of small ones wait for threads more than they compute.
    """
    n = len(y)
    total_y = weights @ y
    all_squares = weights @ (y * y) - total_y**2 / n
    block: list[Array] = []
    size = 0
    for k, basis in enumerate(bases):
        block.append(basis)
        size += n * (basis.shape[1] + 1) * (basis.shape[1] + 2) // 2
        if size >= _BLOCK or k == len(bases) - 1:
            yield from _explained_block(block, y, weights, total_y, all_squares)
            block, size = [], 0


def _explained_block(
    bases: Sequence[Array], y: Array, weights: Array, total_y: Array, all_squares: Array
) -> Iterator[tuple[Array, Array]]:
    n = len(y)
    pairs = [np.triu_indices(basis.shape[1]) for basis in bases]
    parts = [part for b, (i, j) in zip(bases, pairs) for part in (b[:, i] * b[:, j], b * y[:, None])]
    sums = weights @ np.concatenate(parts, axis=1)
    at = 0
    for basis, (i, j) in zip(bases, pairs):
        columns = basis.shape[1]
        dof = columns - 1
        gram = np.empty((len(weights), columns, columns))
        gram[:, i, j] = gram[:, j, i] = sums[:, at : at + len(i)]
        right = sums[:, at + len(i) : at + len(i) + columns]
        at += len(i) + columns
        # A sample that lacks a rare value makes the fit singular; the ridge is far below any real share.
        gram += 1e-9 * np.eye(columns) * np.trace(gram, axis1=1, axis2=2)[:, None, None]
        fitted = np.einsum("rp,rp->r", right, np.linalg.solve(gram, right[..., None])[..., 0])
        between = np.clip(fitted - total_y**2 / n, 0, all_squares)
        mean_within = (all_squares - between) / (n - dof - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(all_squares > 0, (between - dof * mean_within) / all_squares, 0.0)
            f_value = np.where(mean_within > 0, between / max(dof, 1) / mean_within, np.inf)
        yield share, f_value


def _epsilon_squared(count: Any, total: Any, sum_y: Any, sum_yy: Any, n: float) -> tuple[Any, Any]:
    """(corrected share of variance, F value) from counts and sums per bin; the last axis is the bins."""
    k = np.shape(count)[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.where(count > 0, total * total / np.where(count > 0, count, 1), 0).sum(-1) - sum_y**2 / n
        all_squares = sum_yy - sum_y**2 / n
        within = np.maximum(all_squares - between, 0)
        mean_within = within / (n - k)
        share = np.where(all_squares > 0, (between - (k - 1) * mean_within) / all_squares, 0.0)
        f_value = np.where(mean_within > 0, between / max(k - 1, 1) / mean_within, np.inf)
    return share, f_value


def _trend(x: Array, y: Array) -> float:
    low, high = np.quantile(x, [1 / 3, 2 / 3])
    if not (x >= high).any() or not (x <= low).any() or low == high:
        return 0.0
    return float(y[x >= high].mean() - y[x <= low].mean())


def _holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Holm's step-down test (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values)
    passed = [False] * len(p_values)
    for position, i in enumerate(order):
        if p_values[i] > level / (len(p_values) - position):
            break
        passed[i] = True
    return passed


def _edges(x: Array, bins: int) -> Array:
    values = np.unique(x)
    if len(values) <= bins:
        middles = (values[1:] + values[:-1]) / 2
        step = (values[-1] - values[0]) / max(len(values) - 1, 1) or 1.0
        return np.concatenate(([values[0] - step / 2], middles, [values[-1] + step / 2]))
    # Equally full slices: as fine as the draws allow, whatever the distribution.
    return np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))


def _checked(x: Array, y: Array, names: Sequence[str]) -> tuple[Array, Array]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or x.shape[1] != len(names):
        raise ValueError(f"need x (N, {len(names)}) and y (N,), got {x.shape} and {y.shape}")
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError("sensitivity needs finite values")
    return x, y
