"""Interval estimates for success rates and their differences, and how well one list of them predicts another."""

import math
from collections.abc import Sequence
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion.

    Returns (low, high) in [0, 1]; (0, 1) for no trials. Source: E. B. Wilson, "Probable inference, the law
    of succession, and statistical inference", JASA 22 (1927). Raises ValueError for impossible counts.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..trials, got {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (successes + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * math.sqrt(successes * (trials - successes) / trials + z * z / 4)
    # Exactly the ends where nothing, or everything, succeeded: rounding must not leave 1e-17.
    low = 0.0 if successes == 0 else middle - half
    return low, 1.0 if successes == trials else middle + half


def newcombe_interval(
    both: int, first: int, second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of p₁ − p₂ from paired outcomes: in `both`, in the `first` only, in the `second` only, in `neither`.

    Returns (low, high) in [−1, 1]; (−1, 1) for no pairs. Source: R. G. Newcombe, "Improved confidence intervals for
    the difference between binomial proportions based on paired data", Statistics in Medicine 17 (1998), method 10:
    Wilson intervals of both shares, combined with their correlation. Raises ValueError for negative counts.
    """
    counts = (both, first, second, neither)
    if min(counts) < 0:
        raise ValueError(f"counts of pairs must not be negative, got {counts}")
    n = sum(counts)
    if n == 0:
        return -1.0, 1.0
    one, two = both + first, both + second
    p1, p2 = one / n, two / n
    low1, high1 = wilson_interval(one, n, confidence)
    low2, high2 = wilson_interval(two, n, confidence)
    margins = one * (second + neither) * two * (first + neither)
    phi = 0.0
    if margins > 0:
        product = float(both * neither - first * second)
        # Corrected for continuity where the outcomes go together.
        product = max(product - n / 2, 0.0) if product > 0 else product
        phi = product / math.sqrt(margins)

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    difference = p1 - p2
    return (
        max(difference - reach(p1 - low1, high2 - p2), -1.0),
        min(difference + reach(high1 - p1, p2 - low2), 1.0),
    )


def pearson(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Correlation of two lists of equal length; None for fewer than three points or one that does not vary."""
    import numpy as np

    if len(a) != len(b):
        raise ValueError(f"a correlation needs lists of equal length, got {len(a)} and {len(b)}")
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def rank_violation(simulated: Sequence[float], real: Sequence[float]) -> float | None:
    """Mean maximum rank violation: by how much, in real success, a policy is at most misplaced by simulated success.

    For each policy the largest |real_i − real_j| over those that simulation puts on the wrong side of it, and of these
    the mean; 0: the same order. None for fewer than two. Source: X. Li et al., "Evaluating Real-World Robot
    Manipulation Policies in Simulation" (SIMPLER), 2024.
    """
    if len(simulated) != len(real):
        raise ValueError(f"ranks need lists of equal length, got {len(simulated)} and {len(real)}")
    count = len(real)
    if count < 2:
        return None
    worst = [
        max(
            abs(real[i] - real[j]) if (simulated[i] < simulated[j]) != (real[i] < real[j]) else 0.0
            for j in range(count)
        )
        for i in range(count)
    ]
    return float(sum(worst) / count)
