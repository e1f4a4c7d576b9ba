"""Ranges that fit a policy: as wide as it can bear.

Two ways to widen the randomization until success falls to a given rate, over a bound space whose full ranges are
the outer limits. Both work on the probabilities (0, 1) of its columns and end in a Space to train or test under.

- `widen_ranges`: automatic domain randomization (OpenAI, "Solving Rubik's Cube with a robot hand", 2019). Every
  boundary of every range is tested by itself, with that parameter held at it and all others drawn from their
  ranges: success above `high` widens it, below `low` narrows it.
- `maximize_entropy`: DORAEMON (Tiboni et al., ICLR 2024). Beta distributions of all parameters at once are made
  as wide as they can be (maximum entropy) while the success rate, predicted from the last episodes by importance
  sampling, stays above `success`; each step is kept within a trust region, so that the prediction holds.

Both are handed `run(draws) -> successes`, and give the same result for the same seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randomization.distributions import Beta, Constant, Distribution, LogBeta, LogUniform, Uniform
from randomization.space import BoundSpace, Column, Space, Variation, episode_seed
from sim2real.errors import UserError
from sim2real.parameters import Draw

Array = NDArray[np.float64]
Run = Callable[[Sequence[Draw]], Sequence[bool]]

_INSIDE = 2.0**-33


@dataclass
class Adaptation:
    """How the adaptation went.

    `space` is the result over `columns`; `history` has a row per iteration (`draws` so far, `success` rate, and
    per column the ends of its range, or the central 90 % of its distribution, as probabilities of the outer one).
    """

    columns: tuple[str, ...]
    space: Space
    history: list[dict[str, Any]] = field(default_factory=list)


def widen_ranges(
    bound: BoundSpace,
    run: Run,
    *,
    columns: Sequence[int] | None = None,
    low: float = 0.7,
    high: float = 0.9,
    batch: int = 12,
    step: float = 0.1,
    draws: int = 4000,
    seed: int = 0,
) -> Adaptation:
    """Automatic domain randomization of the given columns (all when None).

    Ranges start at the nominal value. In each iteration every boundary is tested by `batch` episodes; its range
    is moved by `step` of the outer one, halved whenever the boundary turns round. Columns that are not adapted
    are drawn from the whole of theirs. Ends after `draws` episodes or when no boundary moves any more.
    """
    chosen = check_adaptable(bound, columns)
    if not 0 <= low < high <= 1:
        raise UserError(f"need 0 <= low < high <= 1 for the success rates, got {low} and {high}")
    centre = np.array([_nominal_probability(bound, j) for j in chosen])
    ends = np.stack([centre, centre], axis=1)
    steps = np.full(ends.shape, step)
    last = np.zeros(ends.shape)
    result = Adaptation(tuple(bound.columns[j].name for j in chosen), Space())
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xADA]))
    used = 0
    per_iteration = 2 * len(chosen) * batch
    while used + per_iteration <= draws and (steps > 0.02).any():
        points = rng.random((per_iteration, bound.dimension))
        inner = points[:, chosen]
        points[:, chosen] = ends[:, 0] + inner * (ends[:, 1] - ends[:, 0])
        row = 0
        for i, j in enumerate(chosen):
            for side in (0, 1):
                # Tested is where the boundary would go, not where it is: at first they are all at nominal.
                points[row : row + batch, j] = _moved(ends[i, side], steps[i, side], side)
                row += batch
        success = np.asarray(run(_draws(bound, points, seed, used)), bool)
        used += per_iteration
        rates = success.reshape(len(chosen), 2, batch).mean(axis=2)
        for i in range(len(chosen)):
            for side in (0, 1):
                direction = 1 if rates[i, side] >= high else -1 if rates[i, side] < low else 0
                if direction * last[i, side] < 0 or direction == 0:
                    steps[i, side] /= 2
                if direction:
                    moved = _moved(ends[i, side], direction * steps[i, side], side)
                    # Ranges always contain the nominal value.
                    ends[i, side] = min(moved, centre[i]) if side == 0 else max(moved, centre[i])
                    if ends[i, side] in (0.0, 1.0) and direction > 0:
                        steps[i, side] = 0.0
                    last[i, side] = direction
        result.history.append(
            {"draws": used, "success": float(success.mean())} | _history(result.columns, ends)
        )
    result.space = _space(
        bound, chosen, [_restricted(bound.columns[j], *ends[i]) for i, j in enumerate(chosen)]
    )
    return result


def maximize_entropy(
    bound: BoundSpace,
    run: Run,
    *,
    columns: Sequence[int] | None = None,
    success: float = 0.8,
    batch: int = 250,
    trust: float = 0.3,
    draws: int = 4000,
    seed: int = 0,
) -> Adaptation:
    """Maximum-entropy randomization of the given columns (all when None) under a success rate of `success`.

    Starts as narrow Beta distributions around nominal. Each iteration runs `batch` episodes; `trust` is the
    largest Kullback–Leibler divergence of one step, in nats over all columns together.
    """
    chosen = check_adaptable(bound, columns)
    if not 0 < success < 1:
        raise UserError(f"the success rate must lie within 0 and 1, got {success}")
    centre = np.clip([_nominal_probability(bound, j) for j in chosen], 0.05, 0.95)
    concentration = 50.0
    shape = np.stack([1 + concentration * centre, 1 + concentration * (1 - centre)], axis=1)
    result = Adaptation(tuple(bound.columns[j].name for j in chosen), Space())
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xD0]))
    used, good = 0, shape
    from scipy.special import betaincinv

    while used + batch <= draws:
        points = rng.random((batch, bound.dimension))
        u = np.clip(betaincinv(shape[:, 0], shape[:, 1], points[:, chosen]), _INSIDE, 1 - _INSIDE)
        points[:, chosen] = u
        won = np.asarray(run(_draws(bound, points, seed, used)), bool)
        used += batch
        ends = np.stack([betaincinv(shape[:, 0], shape[:, 1], q) for q in (0.05, 0.95)], axis=1)
        result.history.append({"draws": used, "success": float(won.mean())} | _history(result.columns, ends))
        if won.mean() >= success:
            good = shape
        if used + batch <= draws:
            shape = _step(shape, u, won, success, trust)
    result.space = _space(bound, chosen, [_beta(bound.columns[j], *good[i]) for i, j in enumerate(chosen)])
    return result


def _step(shape: Array, u: Array, won: NDArray[np.bool_], success: float, trust: float) -> Array:
    """The next shape parameters (k, 2): most entropy under predicted success, or most success if that is low."""
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma, polygamma

    log_u, log_v = np.log(u), np.log1p(-u)

    def log_density(s: Array) -> Array:
        return np.asarray(
            ((s[:, 0] - 1) * log_u + (s[:, 1] - 1) * log_v - betaln(s[:, 0], s[:, 1])).sum(axis=1)
        )

    base = log_density(shape)

    def unpack(z: Array) -> Array:
        return np.exp(z).reshape(shape.shape)

    def rate(z: Array) -> tuple[float, Array]:
        s = unpack(z)
        weights = np.exp(log_density(s) - base)
        total = digamma(s.sum(axis=1))
        slopes = np.stack([log_u - digamma(s[:, 0]) + total, log_v - digamma(s[:, 1]) + total], axis=2)
        value = float((weights * won).mean())
        return value, (np.einsum("n,nki->ki", weights * won, slopes) / len(won) * s).ravel()

    def entropy(z: Array) -> tuple[float, Array]:
        s = unpack(z)
        a, b, t = s[:, 0], s[:, 1], s.sum(axis=1)
        value = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (t - 2) * digamma(t)
        common = (t - 2) * polygamma(1, t)
        slope = np.stack([common - (a - 1) * polygamma(1, a), common - (b - 1) * polygamma(1, b)], axis=1)
        return float(value.sum()), (slope * s).ravel()

    def divergence(z: Array) -> tuple[float, Array]:
        s, p = unpack(z), shape
        gap = s - p
        value = betaln(p[:, 0], p[:, 1]) - betaln(s[:, 0], s[:, 1]) + (gap * digamma(s)).sum(axis=1)
        value = value - gap.sum(axis=1) * digamma(s.sum(axis=1))
        common = gap.sum(axis=1) * polygamma(1, s.sum(axis=1))
        slope = gap * polygamma(1, s) - common[:, None]
        return float(value.sum()), (slope * s).ravel()

    def solve(goal: Callable[[Array], tuple[float, Array]], constraints: list[Any], start: Array) -> Array:
        def negative(z: Array) -> tuple[float, Array]:
            value, slope = goal(z)
            return -value, -slope

        found = minimize(
            negative,
            start,
            jac=True,
            method="SLSQP",
            # Never flatter than uniform: that would put the weight on the ends of the range.
            bounds=[(0.0, np.log(200.0))] * len(start),
            constraints=constraints,
            options={"maxiter": 200, "ftol": 1e-7},
        )
        inside = all(c["fun"](found.x) > -1e-3 for c in constraints)
        return np.asarray(found.x) if np.isfinite(found.x).all() and inside else start

    def at_least(
        function: Callable[[Array], tuple[float, Array]], value: float, sign: float
    ) -> dict[str, Any]:
        return {
            "type": "ineq",
            "fun": lambda z: sign * (function(z)[0] - value),
            "jac": lambda z: sign * function(z)[1],
        }

    start = np.log(shape).ravel()
    near = at_least(divergence, trust, -1.0)
    # A margin of one standard error, or noise would push the rate below the target half of the time.
    target = success + np.sqrt(success * (1 - success) / len(won))
    if rate(start)[0] < target:
        start = solve(rate, [near], start)
        if rate(start)[0] < target:
            return unpack(start)
    return unpack(solve(entropy, [near, at_least(rate, target, 1.0)], start))


def check_adaptable(bound: BoundSpace, columns: Sequence[int] | None) -> list[int]:
    """Numbers of the columns to adapt (None: all). Raises UserError when there are none, or none of this kind."""
    chosen = list(range(bound.dimension) if columns is None else columns)
    if not chosen:
        raise UserError("no parameter to adapt; name some with --param")
    for j in chosen:
        if not isinstance(bound.columns[j].variation.distribution, (Uniform, LogUniform)):
            raise UserError(
                f"'{bound.columns[j].name}' is {bound.columns[j].variation.distribution.kind}; outer ranges to adapt "
                "within must be uniform or loguniform"
            )
    return chosen


def _nominal_probability(bound: BoundSpace, j: int) -> float:
    column = bound.columns[j]
    distribution = column.variation.distribution
    assert isinstance(distribution, (Uniform, LogUniform))
    neutral = {"set": bound.parameters[column.targets[0]].nominal, "scale": 1.0, "add": 0.0}[
        column.variation.mode
    ]
    x = min(max(neutral, distribution.low), distribution.high)
    if isinstance(distribution, LogUniform):
        return float(np.log(x / distribution.low) / np.log(distribution.high / distribution.low))
    return (x - distribution.low) / (distribution.high - distribution.low)


def _moved(end: float, step: float, side: int) -> float:
    return float(np.clip(end - step if side == 0 else end + step, 0.0, 1.0))


def _draws(bound: BoundSpace, points: Array, seed: int, start: int) -> list[Draw]:
    values = bound.values(np.clip(points, _INSIDE, 1 - _INSIDE))
    return [Draw(start + i, episode_seed(seed, start + i), v) for i, v in enumerate(values)]


def _restricted(column: Column, a: float, b: float) -> Distribution:
    outer = column.variation.distribution
    assert isinstance(outer, (Uniform, LogUniform))
    ends = outer.ppf([a, b])
    return replace(outer, low=float(ends[0]), high=float(ends[1]))


def _beta(column: Column, alpha: float, beta: float) -> Distribution:
    outer = column.variation.distribution
    assert isinstance(outer, (Uniform, LogUniform))
    cls = LogBeta if isinstance(outer, LogUniform) else Beta
    return cls(float(alpha), float(beta), outer.low, outer.high)


def _space(bound: BoundSpace, chosen: Sequence[int], found: Sequence[Distribution]) -> Space:
    """The whole bound space as entries, the adapted columns with what was found."""
    adapted = dict(zip(chosen, found))
    entries = {}
    for j, column in enumerate(bound.columns):
        variation = column.variation
        entries[column.name] = Variation(
            adapted.get(j, variation.distribution), variation.mode, variation.shared
        )
    fixed = {name: Variation(Constant(value)) for name, value in bound.fixed.items()}
    return Space(entries | fixed, base="nominal")


def _history(names: Sequence[str], ends: Array) -> dict[str, Any]:
    return {"ranges": {name: [float(a), float(b)] for name, (a, b) in zip(names, ends)}}
