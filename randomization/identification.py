"""Fit parameters of a simulation to recordings, with uncertainty. Knows no robot and no simulator.

The caller describes the unknowns and hands over `residuals(values)`, which simulates many parameter sets at once.
The fit is a maximum a posteriori estimate:

    minimize  Σ_channels Σ_t ρ(r / s_c) / inflation_c  +  (z − z⁰)ᵀ P⁻¹ (z − z⁰)

with z the unknowns in their fitting coordinate (the logarithm for scale parameters), z⁰ and P the prior's mean and
covariance (unknowns that are alike are correlated in it: partial pooling), ρ the soft-L1 loss (glitches and
contacts count linearly), s_c each channel's own robust residual scale, and `inflation` its integrated
autocorrelation time: residuals of a simulation are model error far more than noise, and a hundred samples of one slow
error are worth one, not a hundred. The same inflation widens the Laplace posterior, and so does the Newton step that
the optimizer left undone.

The optimizer is `scipy.optimize.least_squares` (trust region reflective: bounds, robust losses, a Jacobian from
outside). The Jacobian comes from batched central differences. Unknowns that act on different channels above all are
perturbed together (a colouring of the Jacobian's columns, as in Curtis, Powell and Reid 1974, that drops the weak
cross terms): an iteration costs a quarter of the simulations. The posterior uses the full Jacobian.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Residuals = Callable[[Array], Array]
"""values (B, k) → residuals (B, T, C), NaN where there is nothing to compare."""


@dataclass(frozen=True)
class Unknown:
    """One parameter to find, within `low`..`high`, starting at `start`.

    `prior` is the standard deviation of what is believed beforehand about `mean` (default: `start`), in the fitting
    coordinate: of the value, or of its logarithm when `scale` is "log". `step` is the finite difference in it.
    `channel` is the residual channel that it acts on above all, None for several alike. Unknowns of one `group` are
    believed to be alike: they differ from each other by the standard deviation `spread` only, and share the rest of
    `prior`.
    """

    name: str
    start: float
    low: float
    high: float
    prior: float
    scale: Literal["linear", "log"] = "linear"
    step: float = 0.01
    mean: float | None = None
    channel: int | None = None
    group: str | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.low <= self.start <= self.high:
            raise ValueError(
                f"{self.name}: needs low <= start <= high, got {self.low}, {self.start}, {self.high}"
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self.name}: a log scale needs low > 0, got {self.low}")
        if not (self.prior > 0 and self.step > 0):
            raise ValueError(f"{self.name}: prior and step must be positive, got {self.prior}, {self.step}")
        if self.group is not None and not (self.spread is not None and 0 < self.spread <= self.prior):
            raise ValueError(f"{self.name}: a group needs 0 < spread <= prior, got {self.spread}")

    def encode(self, value: float) -> float:
        """Value → fitting coordinate."""
        return float(np.log(value)) if self.scale == "log" else float(value)

    def decode(self, z: Array) -> Array:
        """Fitting coordinate → value."""
        return np.exp(z) if self.scale == "log" else np.asarray(z, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Fit:
    """The estimate and its uncertainty.

    `z` (k,) and `covariance` (k, k) are the posterior's mode and covariance in fitting coordinates, `values` (k,) the
    mode itself. `scale` (C,) is each channel's robust residual scale, `inflation` (C,) its autocorrelation time in
    samples, `residuals` (T, C) what remains. `prior_share` (k,) is posterior over prior standard deviation: near 1
    means that the data said nothing about this unknown.
    """

    unknowns: tuple[Unknown, ...]
    z: Array
    covariance: Array
    cost: float
    residuals: Array
    scale: Array
    inflation: Array
    evaluations: int
    at_bound: NDArray[np.bool_] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(unknown.name for unknown in self.unknowns)

    @property
    def values(self) -> Array:
        return decode(self.unknowns, self.z[None])[0]

    @property
    def deviation(self) -> Array:
        """(k,) posterior standard deviation in fitting coordinates."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def prior_share(self) -> Array:
        return self.deviation / np.array([unknown.prior for unknown in self.unknowns])

    def interval(self, level: float = 0.9, widen: float = 1.0) -> tuple[Array, Array]:
        """Lower and upper ends (k,) of central intervals of `level`, widened by a factor, within the bounds."""
        from scipy.stats import norm

        half = norm.ppf(0.5 + level / 2) * self.deviation * widen
        ends = decode(self.unknowns, np.stack([self.z - half, self.z + half]))
        low = np.array([unknown.low for unknown in self.unknowns])
        high = np.array([unknown.high for unknown in self.unknowns])
        return np.clip(ends[0], low, high), np.clip(ends[1], low, high)

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """(count, k) values drawn from the posterior, clipped to the bounds."""
        root = np.linalg.cholesky(self.covariance + 1e-12 * np.diag(np.diag(self.covariance)))
        z = self.z + rng.standard_normal((count, len(self.z))) @ root.T
        values = decode(self.unknowns, z)
        low = np.array([unknown.low for unknown in self.unknowns])
        return np.clip(values, low, [unknown.high for unknown in self.unknowns])


def decode(unknowns: Sequence[Unknown], z: Array) -> Array:
    """(B, k) fitting coordinates → (B, k) values."""
    return np.stack([unknown.decode(z[:, i]) for i, unknown in enumerate(unknowns)], axis=1)


def prior_covariance(unknowns: Sequence[Unknown]) -> Array:
    """(k, k) covariance of what is believed beforehand: σ_i σ_j ρ_i ρ_j within a group, with ρ² = 1 − (spread / σ)²."""
    sigma = np.array([u.prior for u in unknowns])
    shared = np.array(
        [0.0 if u.group is None else np.sqrt(u.prior**2 - float(u.spread or 0.0) ** 2) for u in unknowns]
    )
    alike = np.array([[u.group is not None and u.group == v.group for v in unknowns] for u in unknowns])
    covariance = np.outer(shared, shared) * alike
    np.fill_diagonal(covariance, sigma**2)
    return covariance


def robust_scale(residuals: Array) -> Array:
    """(C,) scale of each channel of (T, C) residuals: half-way between the median deviation's and the RMS.

    1 for a channel without any.
    """
    residuals = np.where(np.isfinite(residuals).any(axis=0), residuals, 1.0)
    median = 1.4826 * np.nanmedian(np.abs(residuals), axis=0)
    clipped = np.clip(residuals, -4 * median - 1e-12, 4 * median + 1e-12)
    return np.maximum(np.sqrt(np.nanmean(clipped**2, axis=0)), 1e-9)


def autocorrelation_time(residuals: Array, starts: NDArray[np.int64], longest: int = 100) -> Array:
    """(C,) integrated autocorrelation time in samples of (T, C) residuals in segments, at least 1.

    The mean is not removed: a constant error is model error too. Summed up to the first non-positive lag
    (A. Sokal's windowing, simplified); NaN counts as zero.
    """
    r = np.nan_to_num(residuals)
    bound = 3.0 * robust_scale(residuals)
    r = np.clip(r, -bound, bound)
    power = (r**2).sum(axis=0)
    total = np.ones(r.shape[1])
    open_ = np.ones(r.shape[1], dtype=bool)
    for lag in range(1, longest):
        product = np.zeros(r.shape[1])
        for first, last in pairwise(starts):
            if last - first > lag:
                product += (r[first : last - lag] * r[first + lag : last]).sum(axis=0)
        correlation = product / np.maximum(power, 1e-30)
        open_ &= correlation > 0.02
        if not open_.any():
            break
        total[open_] += 2.0 * correlation[open_]
    return np.maximum(total, 1.0)


class _Problem:
    """Residuals as a function of fitting coordinates, with what is believed of them beforehand.

    `residuals` simulates at most `batch` parameter sets at once; `evaluations` counts them. `low`, `high`, `centre`
    (the prior's mean) and `step` are (k,) in fitting coordinates; `believed` (k, k) is the prior's covariance.
    """

    def __init__(self, residuals: Residuals, unknowns: tuple[Unknown, ...], batch: int) -> None:
        self.unknowns = unknowns
        self.low = np.array([u.encode(u.low) for u in unknowns])
        self.high = np.array([u.encode(u.high) for u in unknowns])
        self.centre = np.array([u.encode(u.start if u.mean is None else u.mean) for u in unknowns])
        self.step = np.array([u.step for u in unknowns])
        self.believed = prior_covariance(unknowns)
        self.root = np.linalg.inv(np.linalg.cholesky(self.believed))
        """(k, k) rows that whiten the prior: |root (z − centre)|² is its part of the cost."""
        self.evaluations = 0
        self._residuals, self._batch = residuals, batch

    @property
    def start(self) -> Array:
        return self.inside(np.array([u.encode(u.start) for u in self.unknowns]))

    def inside(self, z: Array) -> Array:
        """z (k,) clipped to a little within the bounds, where the optimizer can start."""
        margin = 1e-6 * (self.high - self.low)
        return np.clip(z, self.low + margin, self.high - margin)

    def at_bound(self, z: Array) -> NDArray[np.bool_]:
        """(k,) whether z (k,) lies within 1 % of an end of the bounds."""
        near = 0.01 * (self.high - self.low)
        return (z - self.low < near) | (self.high - z < near)

    def evaluate(self, points: Array) -> Array:
        """(B, k) fitting coordinates → residuals (B, T, C)."""
        self.evaluations += len(points)
        size = self._batch
        parts = [points[a : a + size] for a in range(0, len(points), size)]
        return np.concatenate([self._residuals(decode(self.unknowns, part)) for part in parts])

    def at(self, z: Array) -> Array:
        """Residuals (T, C) at z (k,)."""
        return self.evaluate(z[None])[0]

    def differences(self, z: Array, groups: list[list[int]], shape: tuple[int, ...]) -> Array:
        """Jacobian (T · C, k) at z (k,) of residuals of `shape` (T, C); the unknowns of a group are moved together."""
        # Central: the unknowns have directions in common along which nothing changes (all torques and masses by one
        # factor), and the second-order errors of one-sided differences would be taken for information there.
        above, below = np.minimum(z + self.step, self.high), np.maximum(z - self.step, self.low)
        columns = np.zeros((*shape, len(z)))
        for a in range(0, len(groups), self._batch):
            part = groups[a : a + self._batch]
            points = np.repeat(z[None], 2 * len(part), axis=0)
            for row, group in enumerate(part):
                points[2 * row, group], points[2 * row + 1, group] = above[group], below[group]
            ends = self.evaluate(points)
            for row, group in enumerate(part):
                for i in group:
                    where = slice(None) if len(group) == 1 else self.unknowns[i].channel
                    change = ends[2 * row][:, where] - ends[2 * row + 1][:, where]
                    columns[:, where, i] = change / (above[i] - below[i])
        return columns.reshape(-1, len(z))


def fit(
    residuals: Residuals,
    unknowns: Sequence[Unknown],
    starts: NDArray[np.int64],
    *,
    iterations: int = 12,
    rounds: int = 2,
    noise_floor: float = 1e-9,
    most_inflation: float = np.inf,
    posterior: bool = True,
    batch: int = 16,
    progress: Callable[[str], None] | None = None,
) -> Fit:
    """Fit the unknowns; `starts` (S + 1,) are the segments of the residuals' time axis.

    `rounds` times: estimate each channel's scale and inflation, then at most `iterations` optimizer steps with them
    fixed. `noise_floor` is the least scale a channel can have (its quantization, say). `most_inflation` bounds the
    inflation in the estimate, so that a slow model error does not hand it over to the prior; the posterior has the
    full one. Without `posterior` the covariance is the prior's. Raises ValueError when the
    residuals at the start are not finite anywhere.
    """
    problem = _Problem(residuals, tuple(unknowns), batch)
    z, cost = problem.start, np.inf
    current = problem.at(z)
    present = np.isfinite(current)
    if not present.any():
        raise ValueError("the simulation gives no finite residual at the start")
    # The largest sensible scale at first: what is far off must not be taken for an outlier.
    seen = np.where(present.any(axis=0), current, 1.0)
    scale = np.maximum(np.sqrt(np.nanmean(seen**2, axis=0)), noise_floor)
    inflation = np.minimum(np.maximum(autocorrelation_time(current, starts), 10.0), most_inflation)
    for turn in range(rounds):
        if turn:
            scale = np.maximum(robust_scale(current), noise_floor)
            inflation = np.minimum(autocorrelation_time(current, starts), most_inflation)
        z, cost = _optimum(problem, z, present, scale, inflation, iterations)
        current = problem.at(z)
        if progress is not None:
            rms = np.sqrt(np.nanmean(current**2, axis=0))
            progress(f"round {turn + 1}: cost {cost:.1f}, residual {np.array2string(rms, precision=4)}")
    scale, inflation = np.maximum(robust_scale(current), noise_floor), autocorrelation_time(current, starts)
    covariance = problem.believed
    if posterior:
        columns = problem.differences(z, [[i] for i in range(len(z))], current.shape)
        information = problem.root.T @ problem.root
        covariance, slope = _covariance(columns, current, present.ravel(), scale, inflation, information)
        # How far the optimizer stopped from where its own model of the cost puts the optimum is not known better.
        step_left = covariance @ (slope + information @ (z - problem.centre))
        covariance = covariance + np.outer(step_left, step_left)
    return Fit(
        unknowns=problem.unknowns,
        z=z,
        covariance=covariance,
        cost=cost,
        residuals=current,
        scale=scale,
        inflation=inflation,
        evaluations=problem.evaluations,
        at_bound=problem.at_bound(z),
    )


def _optimum(
    problem: _Problem, z: Array, present: NDArray[np.bool_], scale: Array, inflation: Array, iterations: int
) -> tuple[Array, float]:
    """The mode (k,) found from z (k,) on, and its cost, with the channels' `scale` and `inflation` (C,) fixed.

    `present` (T, C): which residuals there are.
    """
    from scipy.optimize import least_squares

    mask = present.ravel()
    weight = np.broadcast_to(1.0 / (scale * np.sqrt(inflation)), present.shape).ravel()[mask]
    knee = np.broadcast_to(1.0 / np.sqrt(inflation), present.shape).ravel()[mask]
    together = _coloured(problem.unknowns)

    def function(at: Array) -> Array:
        return np.concatenate([problem.at(at).ravel()[mask] * weight, problem.root @ (at - problem.centre)])

    def jacobian(at: Array) -> Array:
        rows = problem.differences(at, together, present.shape)[mask] * weight[:, None]
        return np.concatenate([rows, problem.root])

    prior = np.array([u.prior for u in problem.unknowns])
    solution = least_squares(
        function, z, jac=jacobian, bounds=(problem.low, problem.high), loss=lambda squared: _soft_l1(squared, knee),
        x_scale=np.minimum(prior, problem.high - problem.low), max_nfev=iterations, ftol=1e-4, xtol=1e-5, gtol=1e-10,
    )  # fmt: skip
    return problem.inside(solution.x), float(solution.cost)


def _soft_l1(squared: Array, knee: Array) -> Array:
    """(3, R) loss of the rows' `squared` values (R,), and its first two derivatives, as `least_squares` takes it.

    Soft L1 for the first rows, each with its own `knee` at one residual scale · sqrt(2); the rest, the prior, stays
    quadratic.
    """
    rho = np.empty((3, len(squared)))
    data = len(knee)
    k2 = 2.0 * knee**2
    root = np.sqrt(1.0 + squared[:data] / k2)
    rho[0, :data] = 2.0 * k2 * (root - 1.0)
    rho[1, :data] = 1.0 / root
    rho[2, :data] = -0.5 / (k2 * root**3)
    rho[0, data:] = squared[data:]
    rho[1, data:], rho[2, data:] = 1.0, 0.0
    return rho


def _coloured(unknowns: tuple[Unknown, ...]) -> list[list[int]]:
    """Groups of unknowns of which no two act on the same channel."""
    groups: list[list[int]] = []
    for i, unknown in enumerate(unknowns):
        for group in groups:
            channels = {unknowns[j].channel for j in group}
            if unknown.channel is not None and None not in channels and unknown.channel not in channels:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _covariance(
    columns: Array, current: Array, mask: NDArray[np.bool_], scale: Array, inflation: Array, prior: Array
) -> tuple[Array, Array]:
    """Inverse of the (Gauss–Newton) Hessian of the cost: Laplace's approximation, the loss's weights included; and the
    slope (k,) of the data's part of the cost.

    `prior` (k, k) is the prior's information.
    """
    ratio = (current / scale).ravel()[mask]
    weight = np.broadcast_to(1.0 / (scale**2 * inflation), current.shape).ravel()[mask] / np.sqrt(
        1.0 + ratio**2 / 2.0
    )
    rows = columns[mask]
    information = rows.T @ (rows * weight[:, None]) + prior
    slope = rows.T @ (current.ravel()[mask] * weight)
    return np.asarray(np.linalg.inv(information), dtype=np.float64), slope
