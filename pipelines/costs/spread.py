"""How an uncertain input is distributed: between low and high around the most likely value, or as a benchmark's counts
tell."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Spread(Protocol):
    """Low, most likely and high value, and the inverse of the distribution function."""

    shape: ClassVar[str]

    @property
    def low(self) -> float: ...

    @property
    def likely(self) -> float: ...

    @property
    def high(self) -> float: ...

    def ppf(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at the probabilities `u`, of any shape."""
        ...


@dataclass(frozen=True)
class Triangular:
    """The density rises in a line from `low` to `likely` and falls to `high`."""

    shape: ClassVar[str] = "triangular"
    low: float
    likely: float
    high: float

    def ppf(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        width = self.high - self.low
        if width == 0:
            return np.full(np.shape(u), self.likely)
        split = (self.likely - self.low) / width
        left = self.low + np.sqrt(np.maximum(u * width * (self.likely - self.low), 0))
        right = self.high - np.sqrt(np.maximum((1 - u) * width * (self.high - self.likely), 0))
        return np.where(u < split, left, right)


@dataclass(frozen=True)
class Pert:
    """A beta distribution from `low` to `high` with its peak at `likely`, whose mean is (low + 4 likely + high) / 6."""

    shape: ClassVar[str] = "pert"
    low: float
    likely: float
    high: float

    def ppf(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        width = self.high - self.low
        if width == 0:
            return np.full(np.shape(u), self.likely)
        a = 1 + 4 * (self.likely - self.low) / width
        return self.low + width * _beta_ppf(u, a, 6 - a)


@dataclass(frozen=True)
class Posterior:
    """What `successes` of `trials` say of the rate behind them: Beta(successes + ½, failures + ½) after Jeffreys."""

    shape: ClassVar[str] = "posterior"
    successes: int
    trials: int

    @property
    def low(self) -> float:
        return float(self.ppf(np.array(0.025)))

    @property
    def likely(self) -> float:
        """The mean, which lies inside also where everything succeeded."""
        return (self.successes + 0.5) / (self.trials + 1)

    @property
    def high(self) -> float:
        return float(self.ppf(np.array(0.975)))

    def ppf(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy.special import betaincinv

        return np.asarray(betaincinv(self.successes + 0.5, self.trials - self.successes + 0.5, u))


SHAPES: dict[str, type[Triangular] | type[Pert]] = {"pert": Pert, "triangular": Triangular}


def _beta_ppf(u: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    """The inverse of the beta distribution's function from a table, some 1e-6 from exact and 50 times faster."""
    from scipy.special import betainc

    # Denser towards the ends, where the function is steepest or flattest.
    x = (1 - np.cos(np.linspace(0, np.pi, 2001))) / 2
    return np.interp(u, betainc(a, b, x), x)
