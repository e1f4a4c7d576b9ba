"""How many trials a question needs."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sim2real.errors import UserError


@dataclass(frozen=True)
class TrialPlan:
    """How many trials each of two policies needs, so that a better one is recognised."""

    before: float
    after: float
    alpha: float
    power: float
    trials_per_arm: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.trials_per_arm} trials of each policy tell {self.after:.0%} from {self.before:.0%} "
            f"(one-sided {self.alpha:.0%}, power {self.power:.0%}); paired on the same draws, usually fewer"
        )


def plan_trials(before: float, after: float, *, alpha: float = 0.05, power: float = 0.8) -> TrialPlan:
    """Trials for each of two policies with the rates `before` and `after`, one-sided, unpaired.

    n = 2 ((z₁₋α + z_power) / h)², h = 2 asin √after − 2 asin √before (J. Cohen, "Statistical power analysis for the
    behavioral sciences", 1988, chapter 6). Raises UserError for rates that are equal or no rates.
    """
    for name, value in (("--from", before), ("--to", after), ("--alpha", alpha), ("--power", power)):
        if not 0.0 < value < 1.0:
            raise UserError(f"{name} must lie between 0 and 1, got {value:g}")
    if before == after:
        raise UserError(f"--from and --to are both {before:g}: no number of trials tells equal rates apart")
    from scipy.stats import norm

    h = abs(2 * math.asin(math.sqrt(after)) - 2 * math.asin(math.sqrt(before)))
    count = 2 * ((norm.ppf(1 - alpha) + norm.ppf(power)) / h) ** 2
    return TrialPlan(before, after, alpha, power, math.ceil(count))
