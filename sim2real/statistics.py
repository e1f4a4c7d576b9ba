"""Interval estimates for success rates."""

import math


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion.

    Returns (low, high) in [0, 1]; (0, 1) for no trials. Source: E. B. Wilson, "Probable inference, the law
    of succession, and statistical inference", JASA 22 (1927). Raises ValueError for impossible counts.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..trials, got {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    z = normal_quantile(0.5 + confidence / 2)
    p = successes / trials
    denominator = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / denominator
    # At the ends the exact bound is 0 or 1; rounding would leave 1e-17 or 0.9999.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution, from the standard library."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)
