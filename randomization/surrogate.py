"""A surrogate of a sweep's outcome, for what plain draws do not show directly: total effects.

A sparse polynomial chaos expansion: the outcome is written as a sum of products of orthonormal Legendre
polynomials of the parameters' ranks, y ≈ c₀ + Σ c_α Π P_α(u). Because the terms are orthonormal, the share of
variance that a parameter is involved in, alone or together with others (its total Sobol index), is the sum of
the squared coefficients of all terms that contain it (Sudret, Reliability Engineering & System Safety 93, 2008).
Terms are chosen greedily (orthogonal matching pursuit), their number by cross-validation of the whole
procedure; the cross-validated share of variance explained, Q², is reported with every result: where it is low,
most of the outcome is noise or finer structure, and totals speak only of the part that was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]
Term = tuple[tuple[int, int], ...]
"""Factors (column, degree) of one product; degrees are at least 1."""

_FOLDS = 5
_MAX_TERMS = 80
_PARTNERS = 10
"""Interactions are looked for among this many of the strongest columns."""


@dataclass(frozen=True)
class Total:
    """Total index of one parameter, with its 95 % interval, and its part without interactions (`alone`)."""

    name: str
    total: float
    low: float
    high: float
    alone: float


@dataclass(frozen=True)
class Surrogate:
    """A fitted expansion: `terms` with `coefficients` (the constant apart in `mean`), over `names`.

    `q2` is the share of variance explained on draws that the fit did not see; 1 is perfect, 0 nothing.
    `totals` are strongest first.
    """

    names: tuple[str, ...]
    terms: tuple[Term, ...]
    coefficients: Array
    mean: float
    q2: float
    totals: tuple[Total, ...]
    sorted_columns: Array

    def predict(self, x: Array) -> Array:
        """Outcomes (M,) at parameter values `x` (M, d) in the units of the data fitted to."""
        u = np.empty(np.shape(x))
        for j, known in enumerate(self.sorted_columns.T):
            places = (np.arange(len(known)) + 0.5) / len(known)
            u[:, j] = np.interp(x[:, j], known, places)
        return self.mean + _design_matrix(_legendre(u, self.terms), self.terms, len(u)) @ self.coefficients


def fit_surrogate(
    x: Array, y: Array, names: Sequence[str], *, resamples: int = 100, seed: int = 0
) -> Surrogate:
    """Fit an expansion of `y` (N,) in the columns of `x` (N, d). Raises UserError for fewer than 50 draws."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = len(y)
    if n < 50:
        raise UserError(f"a surrogate needs at least 50 draws, got {n}")
    sorted_columns = np.sort(x, axis=0)
    u = _ranks(x)
    spread = float(y.var())
    if spread == 0:
        flat = tuple(Total(name, 0.0, 0.0, 0.0, 0.0) for name in names)
        return Surrogate(tuple(names), (), np.zeros(0), float(y[0]), 1.0, flat, sorted_columns)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(n) % _FOLDS
    most = min(_MAX_TERMS, n // 6)
    errors = np.zeros(most + 1)
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        terms = _choose(u[train], y[train], most)
        errors += _held_out_errors(u, y, train, test, terms, most)
    count = int(np.argmin(errors))
    q2 = 1 - errors[count] / errors[0]
    terms = _choose(u, y, most)[:count]
    design = _design_matrix(_legendre(u, terms), terms, n)
    coefficients, mean = _least_squares(design, y)
    totals = _totals(design, y, terms, names, float(errors[count]) / n, resamples, rng)
    return Surrogate(tuple(names), tuple(terms), coefficients, mean, float(q2), totals, sorted_columns)


def _choose(u: Array, y: Array, most: int) -> list[Term]:
    """Up to `most` terms in the order in which matching pursuit takes them."""
    d = u.shape[1]
    degree = 8 if d <= 12 else 4 if d <= 60 else 3
    mains: list[Term] = [((j, k),) for j in range(d) for k in range(1, degree + 1)]
    first = _pursue(u, y, mains, most)
    partners: list[int] = []
    for term in first:
        if term[0][0] not in partners:
            partners.append(term[0][0])
    # Columns that act only together with others have no term of their own: fill up where there are few.
    partners = (partners + [j for j in range(d) if j not in partners])[:_PARTNERS]
    joint = 8
    mains += [((j, k),) for j in partners for k in range(degree + 1, joint + 1)]
    pairs: list[Term] = [
        ((min(i, j), a if i < j else b), (max(i, j), b if i < j else a))
        for p, i in enumerate(partners)
        for j in partners[p + 1 :]
        for a in range(1, joint)
        for b in range(1, joint + 1 - a)
    ]
    return _pursue(u, y, mains + pairs, most)


def _pursue(u: Array, y: Array, candidates: list[Term], most: int) -> list[Term]:
    columns = _design_matrix(_legendre(u, candidates), candidates, len(u))
    columns -= columns.mean(0)
    norms = np.linalg.norm(columns, axis=0)
    alive = norms > 1e-9
    columns[:, alive] /= norms[alive]
    residual = y - y.mean()
    start = residual @ residual
    left = np.where(alive, 1.0, 0.0)
    products = columns.T @ residual
    basis = np.empty((most, len(u)))
    chosen: list[Term] = []
    while len(chosen) < most:
        # The gain in explained variance of a column is that of its part outside what is already chosen.
        gains = np.where(left > 1e-6, products**2 / np.maximum(left, 1e-6), 0.0)
        best = int(np.argmax(gains))
        if gains[best] <= 1e-12 * start:
            break
        vector = columns[:, best].copy()
        for q in basis[: len(chosen)]:
            vector -= q * (q @ vector)
        vector /= np.linalg.norm(vector)
        basis[len(chosen)] = vector
        residual = residual - vector * (vector @ residual)
        products = columns.T @ residual
        left = np.maximum(left - (columns.T @ vector) ** 2, 0.0)
        left[best] = 0.0
        chosen.append(candidates[best])
    return chosen


def _held_out_errors(
    u: Array, y: Array, train: NDArray[np.bool_], test: NDArray[np.bool_], terms: list[Term], most: int
) -> Array:
    """(most + 1,) squared errors on the test rows of fits with 0, 1, 2 … of the terms."""
    design = _design_matrix(_legendre(u, terms), terms, len(u))
    middle, mean = design[train].mean(0), y[train].mean()
    q, r = np.linalg.qr(design[train] - middle)
    weights = q.T @ (y[train] - mean)
    # In the orthogonal basis of QR each further term adds its own share to the prediction.
    rotated = np.linalg.solve(r.T, (design[test] - middle).T).T
    predictions = mean + np.cumsum(rotated * weights, axis=1)
    errors = np.empty(most + 1)
    errors[0] = ((y[test] - mean) ** 2).sum()
    found = ((y[test][:, None] - predictions) ** 2).sum(0)
    errors[1 : len(terms) + 1] = found
    errors[len(terms) + 1 :] = found[-1] if len(found) else errors[0]
    return errors


def _totals(
    design: Array,
    y: Array,
    terms: Sequence[Term],
    names: Sequence[str],
    noise: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Total, ...]:
    n, d = len(y), len(names)
    member = np.zeros((d, len(terms)))
    single = np.zeros((d, len(terms)))
    for t, term in enumerate(terms):
        for j, _ in term:
            member[j, t] = 1.0
            single[j, t] = len(term) == 1

    def shares(rows: NDArray[np.intp] | slice) -> Array:
        coefficients, _ = _least_squares(design[rows], y[rows])
        return coefficients**2 / y.var()

    # A coefficient's square is too large by its variance, noise / n, on average.
    excess = noise / n / y.var()
    squares = shares(slice(None))
    total, alone = member @ (squares - excess), single @ (squares - excess)
    boot = np.array([member @ shares(rng.integers(0, n, n)) for _ in range(resamples)])
    low, high = np.quantile(boot, [0.025, 0.975], axis=0) - (boot.mean(0) - total)
    found = [
        Total(names[j], *(max(float(v), 0.0) for v in (total[j], low[j], high[j], alone[j])))
        for j in range(d)
    ]
    return tuple(sorted(found, key=lambda t: -t.total))


def _ranks(x: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray((rankdata(x, axis=0) - 0.5) / len(x))


def _legendre(u: Array, terms: Sequence[Term]) -> dict[tuple[int, int], Array]:
    """Orthonormal Legendre polynomials of the (column, degree) pairs that occur, each (N,)."""
    highest: dict[int, int] = {}
    for term in terms:
        for j, k in term:
            highest[j] = max(highest.get(j, 0), k)
    values = {}
    for j, top in highest.items():
        z = 2 * u[:, j] - 1
        before, now = np.ones(len(z)), z
        for k in range(1, top + 1):
            values[j, k] = now * np.sqrt(2 * k + 1)
            before, now = now, ((2 * k + 1) * z * now - k * before) / (k + 1)
    return values


def _design_matrix(values: dict[tuple[int, int], Array], terms: Sequence[Term], n: int) -> Array:
    matrix = np.empty((n, len(terms)))
    for t, term in enumerate(terms):
        column = values[term[0]]
        for factor in term[1:]:
            column = column * values[factor]
        matrix[:, t] = column
    return matrix


def _least_squares(design: Array, y: Array) -> tuple[Array, float]:
    if design.shape[1] == 0:
        return np.zeros(0), float(y.mean())
    full = np.column_stack([np.ones(len(y)), design])
    solution: Array = np.linalg.lstsq(full, y, rcond=None)[0].astype(np.float64)
    return solution[1:], float(solution[0])
