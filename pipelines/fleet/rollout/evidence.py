"""How much episodes speak against "worse by δ" and against "as good": evidence that may be looked at at any time.

A block is one episode with the candidate and k with the stable policy, from robots of one kind, at about one time.
Its evidence against a claim about the rates (a of the stable policy, b of the candidate) is how much likelier it is
under an alternative (a', b') than under the claim's nearest point (a°, b°), nearest by k·KL(a'‖a) + KL(b'‖b). Where
the claim is convex, as b ≤ a - δ and b ≥ a are, evidence has a mean of at most one under it, whatever the rates are
and however they drift: with g = (a' - a°) / (a°(1 - a°)) and h likewise, the mean is
(1 + (a - a°) g)^k (1 + (b - b°) h) ≤ exp(k (a - a°) g + (b - b°) h),
and the exponent is at most 0 since (a°, b°) is nearest. So products of blocks exceed
1/α with a chance of at most α over all looks together (J. Ville, 1939), for alternatives chosen from earlier blocks.

Source: R. Turner, A. Ly and P. Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
optional stopping", 2024; R. Turner and P. Grünwald, "Exact anytime-valid confidence intervals for contingency tables
and beyond", 2023. With many episodes of the stable policy, or a known rate, this is Wald's ratio of `sequential.py`.
"""

import math
from functools import lru_cache

EFFECTS = (1.0, 2.0, 4.0)
"""How much worse, in δ, the alternatives to "as good" are: the usual case, and those that should end within minutes."""

LOWEST, HIGHEST = 0.02, 0.98
"""No rate is taken to be more extreme than this: one surprise must not decide by itself."""

Ratio = tuple[float, float, float, float]
"""Log ratios of an episode: candidate success, candidate failure, stable success, stable failure."""


def _bounded(rate: float) -> float:
    # Rounded, so that the ratios of few rates are worked out once; any alternative is a valid one.
    return min(max(round(rate, 3), LOWEST), HIGHEST)


@lru_cache(maxsize=65536)
def against_worse(rate: float, delta: float, k: int | None) -> Ratio:
    """Evidence against "the candidate is worse by `delta` or more"; the alternative is that both have `rate`.

    k: episodes of the stable policy in a block; None: its rate is known, and says nothing by itself.
    """
    p = _bounded(rate)
    if k is None:
        b = max(p - delta, 0.5 * LOWEST)
        return math.log(p / b), math.log((1 - p) / (1 - b)), 0.0, 0.0
    # The nearest point of the claim has rates a and a - δ with p between them; the slope there is zero.
    low, high = max(p, delta + 1e-9), min(p + delta, 1 - 1e-9)
    for _ in range(50):
        a = 0.5 * (low + high)
        b = a - delta
        slope = k * (a - p) / (a * (1 - a)) + (b - p) / (b * (1 - b))
        low, high = (low, a) if slope > 0 else (a, high)
    a = 0.5 * (low + high)
    return _ratio(p, a - delta, p, a)


@lru_cache(maxsize=65536)
def against_as_good(rate: float, worse: float, k: int | None) -> Ratio:
    """Evidence against "the candidate is as good as the stable policy"; the alternative is worse by `worse`.

    rate: the stable policy's. k: as for `against_worse`.
    """
    a = _bounded(rate)
    if a <= LOWEST:
        return 0.0, 0.0, 0.0, 0.0  # Worse than never is not possible.
    b = max(a - worse, 0.5 * LOWEST)
    nearest = a if k is None else (k * a + b) / (k + 1)
    if k is None:
        return math.log(b / a), math.log((1 - b) / (1 - a)), 0.0, 0.0
    return _ratio(b, nearest, a, nearest)


def _ratio(b: float, b0: float, a: float, a0: float) -> Ratio:
    return math.log(b / b0), math.log((1 - b) / (1 - b0)), math.log(a / a0), math.log((1 - a) / (1 - a0))


def block(ratio: Ratio, success: bool, k: int | None, stable_successes: int) -> float:
    """The log evidence of one block."""
    k = k or 0
    return ratio[0 if success else 1] + stable_successes * ratio[2] + (k - stable_successes) * ratio[3]


def mean_of_exponentials(logs: list[float]) -> float:
    """log of the mean of exp(logs), without overflow."""
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))
