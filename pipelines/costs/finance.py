"""Cash flows of many draws at once: present value, internal rate, payback, all in closed form or by bisection.

`flows` is (N, Y + 1): column 0 is paid now, column y at the end of year y.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIGHEST_RATE = 1e6
"""Per year; what returns more at once has no meaningful rate and counts as infinite."""


def discount_factors(rate: Array, years: int) -> Array:
    """(N, years + 1) factors 1 / (1 + rate)^y. rate: (N,) per year."""
    return (1.0 + rate)[:, None] ** -np.arange(years + 1.0)


def present_value(flows: Array, rate: Array) -> Array:
    """(N,) net present value at the rates (N,) per year."""
    return np.einsum("ny,ny->n", flows, discount_factors(rate, flows.shape[1] - 1))


def internal_rate(flows: Array, steps: int = 60) -> Array:
    """(N,) the rate per year at which the present value is zero.

    -inf where the money never comes back at any rate, +inf where nothing is paid first, and the smallest rate found by
    bisection over the discount factor where there are several.
    """
    low, high = np.full(len(flows), 1 / (1 + HIGHEST_RATE)), np.full(len(flows), 1e3)
    worth_low, worth_high = _horner(flows, low), _horner(flows, high)
    for _ in range(steps):
        middle = np.sqrt(low * high)
        above = _horner(flows, middle) >= 0
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    rate = 1 / np.sqrt(low * high) - 1
    # More weight on the future (a larger factor) turns a loss into a gain, or there is no rate.
    return np.where(worth_low >= 0, np.inf, np.where(worth_high < 0, -np.inf, rate))


def _horner(flows: Array, factor: Array) -> Array:
    worth = np.zeros(len(flows))
    for column in flows.T[::-1]:
        worth = worth * factor + column
    return worth


def payback(flows: Array) -> Array:
    """(N,) years until what was paid has come back for good, undiscounted, evenly within a year; inf where it does
    not."""
    total = np.cumsum(flows, axis=1)
    years = flows.shape[1]
    # The last year that ends in debt; what follows stays above zero.
    debts = total < 0
    last = years - 1 - np.argmax(debts[:, ::-1], axis=1)
    never, at_once = last == years - 1, ~debts.any(axis=1)
    row = np.arange(len(flows))
    following = np.minimum(last + 1, years - 1)
    gain = flows[row, following]
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = last + -total[row, last] / gain
    return np.where(at_once, 0.0, np.where(never, np.inf, reached))


def year_parts(life: Array) -> Array:
    """(N, Y + 1) how much of each year falls into the lives (N,) in years; column 0 is 0. Y is the longest, rounded
    up."""
    years = int(np.ceil(life.max()))
    parts = np.clip(life[:, None] - np.arange(years), 0.0, 1.0)
    return np.concatenate([np.zeros((len(life), 1)), parts], axis=1)


def last_year(life: Array, years: int) -> Array:
    """(N, years + 1) one where a life ends, zero elsewhere."""
    ends = np.ceil(life).astype(int)
    return np.eye(years + 1)[ends]
