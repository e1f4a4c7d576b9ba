"""Scaling laws: how an error falls with demonstrations, tasks, weights or computing time, and whether it does at all.

err(N) = a · N^−b + c, with a, c ≥ 0 and b > 0 (J. Hestness and others, "Deep learning scaling is predictable,
empirically", 2017). For every exponent the best a and c follow from linear least squares; the exponent is searched. The
largest size is held out and predicted; intervals are of a parametric bootstrap.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

LEAST = 5
"""Sizes: three numbers are fitted, one point is left over to tell a law from none, one is held out."""
EXPONENTS = np.geomspace(0.02, 4.0, 160)
RESAMPLES = 400
ALPHA = 0.05
FLOOR = 0.05
"""Relative error that measurements without a number of trials are taken to have at least."""


@dataclass(frozen=True)
class ScalingLaw:
    """err(N) = a · N^−b + c, fitted to all sizes but the largest, with 95 % intervals.

    `fits` says whether it may be believed, `why` what speaks against it (empty when it fits). `predicted` is what it
    says of the largest size `held_out`, where `measured` was found.
    """

    a: float
    b: float
    c: float
    a_95: tuple[float, float]
    b_95: tuple[float, float]
    c_95: tuple[float, float]
    held_out: float
    predicted: float
    predicted_95: tuple[float, float]
    measured: float
    fits: bool
    why: str

    def at(self, size: ArrayLike) -> Array:
        """The error that the law gives at these sizes."""
        return np.asarray(self.a * np.asarray(size, dtype=float) ** -self.b + self.c)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_law(
    sizes: Sequence[float],
    errors: Sequence[float],
    trials: Sequence[int] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ScalingLaw:
    """The law of errors (k,) at sizes (k,); `trials` (k,): of how many trials an error is the share that failed.

    Points of equal size are taken together. Without trials the errors' scatter around the law stands for what is not
    known of them. Raises UserError for fewer than five sizes, sizes or errors that are not positive numbers.
    """
    size, error, count = _together(sizes, errors, trials)
    if len(size) < LEAST:
        raise UserError(
            f"a scaling law needs at least {LEAST} different sizes: three numbers are fitted and the largest is held "
            f"out; got {len(size)}"
        )
    x, y, n = size[:-1], error[:-1], None if count is None else count[:-1]
    spread = _spread(y, n)
    a, b, c = _fit(x, y[None], spread)[:, 0]
    law = a * x**-b + c
    if n is None:
        # The scatter itself says how far measurements are off.
        scatter = float(np.sqrt(np.sum(((y - law) / spread) ** 2) / max(len(x) - 3, 1)))
        spread = spread * max(scatter, FLOOR)
    rng = np.random.default_rng(seed)
    drawn = _measured(np.tile(law, (resamples, 1)), n, spread, rng)
    again = _fit(x, drawn, spread)
    last = float(size[-1])
    predicted = again[0] * last ** -again[1] + again[2]
    relative = float(np.median(spread / np.maximum(law, 1e-12)))
    seen = _measured(
        predicted[:, None], None if count is None else count[-1:], predicted[:, None] * relative, rng
    )[:, 0]
    low, high = np.quantile(seen, [ALPHA / 2, 1 - ALPHA / 2])
    why = _against(x, y, law, spread, n is not None)
    measured = float(error[-1])
    if not low - 1e-9 <= measured <= high + 1e-9:
        why.append(
            f"it predicts {low:.3g} to {high:.3g} at the size that was held out, {last:g}, where {measured:.3g} was "
            "found"
        )
    a_95, b_95, c_95 = (_interval(values) for values in again)
    return ScalingLaw(
        float(a), float(b), float(c), a_95, b_95, c_95, last, float(a * last**-b + c), (float(low), float(high)),
        measured, not why, "; ".join(why),
    )  # fmt: skip


def _together(
    sizes: Sequence[float], errors: Sequence[float], trials: Sequence[int] | None
) -> tuple[Array, Array, Array | None]:
    """Sizes in order, each once; errors are weighed by their trials."""
    size, error = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    count = None if trials is None else np.asarray(trials, dtype=float)
    if size.shape != error.shape or size.ndim != 1 or (count is not None and count.shape != size.shape):
        raise UserError("a scaling law needs as many errors (and trials) as sizes")
    if not (np.isfinite(size).all() and (size > 0).all() and np.isfinite(error).all() and (error >= 0).all()):
        raise UserError("a scaling law needs sizes above 0 and errors of 0 or more, all finite")
    if count is not None and ((count < 1).any() or (error > 1).any()):
        raise UserError("errors that are shares of trials lie in 0…1, of at least one trial each")
    each = np.unique(size)
    weight = np.ones_like(size) if count is None else count
    mean = np.array([np.average(error[size == s], weights=weight[size == s]) for s in each])
    return each, mean, None if count is None else np.array([count[size == s].sum() for s in each])


def _spread(error: Array, trials: Array | None) -> Array:
    """Standard deviations of the errors, up to a factor where there are no trials."""
    if trials is None:
        return np.maximum(error, 1e-6 * max(float(error.max()), 1e-12))
    share = (error * trials + 1.0) / (trials + 2.0)
    return np.asarray(np.sqrt(share * (1 - share) / trials))


def _fit(x: Array, rows: Array, spread: Array) -> Array:
    """(3, R): a, b, c of every row (R, k) of errors."""
    weight = 1.0 / spread**2
    best = np.full(len(rows), np.inf)
    found = np.zeros((3, len(rows)))
    total, mean = weight.sum(), rows @ weight / weight.sum()
    for b in EXPONENTS:
        power = x**-b
        middle = power @ weight / total
        centred = power - middle
        slope = np.maximum((rows - mean[:, None]) @ (weight * centred) / (weight @ centred**2), 0.0)
        rest = mean - slope * middle
        # Where the error at infinity would be negative it is zero, and the slope follows from that.
        through = np.maximum(rows @ (weight * power) / (weight @ power**2), 0.0)
        slope, rest = np.where(rest < 0, through, slope), np.maximum(rest, 0.0)
        loss = ((rows - slope[:, None] * power - rest[:, None]) ** 2) @ weight
        better = loss < best
        best = np.where(better, loss, best)
        found[:, better] = np.stack([slope, np.full(len(rows), b), rest])[:, better]
    return found


def _measured(errors: Array, trials: Array | None, spread: Array, rng: np.random.Generator) -> Array:
    """Errors (R, k) as they would be measured again."""
    if trials is not None:
        return np.asarray(rng.binomial(trials.astype(int), np.clip(errors, 0.0, 1.0)) / trials)
    return np.maximum(errors + spread * rng.standard_normal(errors.shape), 0.0)


def _against(x: Array, y: Array, law: Array, spread: Array, counted: bool) -> list[str]:
    """What speaks against the law at the sizes that it was fitted to."""
    from scipy.stats import chi2, f

    why = []
    weight = 1.0 / spread**2
    flat = float(np.sum(weight * (y - np.average(y, weights=weight)) ** 2))
    rest = float(np.sum(weight * (y - law) ** 2))
    freedom = max(len(x) - 3, 1)
    if counted:
        if chi2.sf(flat - rest, 2) >= ALPHA:
            why.append("an error that does not change with size explains the points as well")
        if chi2.sf(rest, freedom) < ALPHA:
            why.append("the points scatter around it more than their numbers of trials explain")
    elif f.sf((flat - rest) / 2 / max(rest / freedom, 1e-12), 2, freedom) >= ALPHA:
        why.append("an error that does not change with size explains the points as well")
    return why


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)
