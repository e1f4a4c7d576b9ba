"""Two policies on the same draws: paired, so that what the draws have in common cancels out."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sim2real.errors import UserError
from sim2real.statistics import newcombe_interval


@dataclass(frozen=True)
class Comparison:
    """Success of B against A on the same draws.

    `both`, `only_a`, `only_b`, `neither` count draws. `difference` is B's rate minus A's with its 95 % interval
    `low..high`; `p_value` is that of McNemar's exact test for "both are equally good".
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def draws(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"draws": self.draws}


def compare(success_a: ArrayLike, success_b: ArrayLike, confidence: float = 0.95) -> Comparison:
    """Compare booleans (N,) of the same N draws.

    The interval is Newcombe's for paired proportions (`sim2real.statistics.newcombe_interval`). Raises UserError
    for unequal lengths or none at all.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(success_a, bool), np.asarray(success_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise UserError(f"a paired comparison needs the same draws of both, got {a.shape} and {b.shape}")
    n = len(a)
    both, only_a = int((a & b).sum()), int((a & ~b).sum())
    only_b, neither = int((~a & b).sum()), int((~a & ~b).sum())
    low, high = newcombe_interval(both, only_b, only_a, neither, confidence)
    discordant = only_a + only_b
    p_value = float(binomtest(only_b, discordant, 0.5).pvalue) if discordant else 1.0
    return Comparison(
        both,
        only_a,
        only_b,
        neither,
        (only_b - only_a) / n,
        low,
        high,
        p_value,
    )
