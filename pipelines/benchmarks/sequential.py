"""Tests that may be looked at after every trial: they end as soon as the trials decide, and stay valid all the same.

Two of them: Wald's, where two rates are to be told apart, and a bet against a claim, which needs no second rate.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sim2real.errors import UserError

Verdict = Literal["above", "below", "open"]


@dataclass(frozen=True)
class Wald:
    """The sequential probability ratio test of "the rate is `low`" against "the rate is `high`".

    Of policies with the rate `low` at most `alpha` are said to be above, of those with `high` at most `beta` below.
    Source: A. Wald, "Sequential tests of statistical hypotheses", 1945. Raises UserError for rates out of order.
    """

    low: float
    high: float
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high < 1.0:
            raise UserError(f"two rates are needed, 0 < low < high < 1, got {self.low:g} and {self.high:g}")

    def verdict(self, outcomes: Iterable[bool]) -> tuple[Verdict, int]:
        """What the trials say in the order in which they came, and after how many that was clear."""
        win = math.log(self.high / self.low)
        loss = math.log((1 - self.high) / (1 - self.low))
        above, below = math.log((1 - self.beta) / self.alpha), math.log(self.beta / (1 - self.alpha))
        ratio, count = 0.0, 0
        for count, outcome in enumerate(outcomes, 1):
            ratio += win if outcome else loss
            if ratio >= above:
                return "above", count
            if ratio <= below:
                return "below", count
        return "open", count


@dataclass(frozen=True)
class Bet:
    """Two bets, one against "the mean is at most `rate`", one against "at least": whoever multiplies his stake by
    2 / `alpha` has refuted the claim, at whatever moment he stops.

    Outcomes lie in 0…1: single trials, or the mean of one trial of each task. A fair game multiplies no stake by c
    with more chance than 1/c (J. Ville, 1939), so the error rate holds over all looks together. How much is staked
    follows from the outcomes so far (I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by
    betting", 2024). Raises UserError for a rate that cannot be refuted.
    """

    rate: float
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise UserError(f"the rate to hold against must lie between 0 and 1, got {self.rate:g}")

    def verdict(self, outcomes: Iterable[float]) -> tuple[Verdict, int]:
        """What the outcomes say in the order in which they came, and after how many that was clear."""
        game = Game(self)
        for x in outcomes:
            if game.add(x) != "open":
                break
        return game.verdict, game.count


class Game:
    """A `Bet` as outcomes come in, one at a time. A verdict stays, whatever comes later."""

    def __init__(self, bet: Bet) -> None:
        self.bet = bet
        self.verdict: Verdict = "open"
        self.count = 0
        """Outcomes until the verdict, or so far."""
        # Half an outcome beforehand at the claimed rate, so that the first stake is not all or nothing.
        self._total, self._squares, self._seen = 0.5 * bet.rate, 0.25 * 0.5, 0.5
        self._up = self._down = 0.0

    def add(self, x: float) -> Verdict:
        """Take in the next outcome, 0…1."""
        if self.verdict != "open":
            return self.verdict
        rate, goal = self.bet.rate, math.log(2 / self.bet.alpha)
        self.count += 1
        mean, variance = self._total / self._seen, self._squares / self._seen
        edge = (mean - rate) / (variance + (mean - rate) ** 2)
        # At most half of what could be lost in one game.
        self._up += math.log1p(min(max(edge, 0.0), 0.5 / rate) * (x - rate))
        self._down += math.log1p(min(max(-edge, 0.0), 0.5 / (1 - rate)) * (rate - x))
        self._total, self._seen = self._total + x, self._seen + 1
        self._squares += (x - self._total / self._seen) ** 2
        if self._up >= goal:
            self.verdict = "above"
        elif self._down >= goal:
            self.verdict = "below"
        return self.verdict
