"""One-dimensional distributions, all given by their quantile function.

Every distribution maps a number in (0, 1) to a value (`ppf`), so any design (Sobol, Latin hypercube, grid,
independent) works with any of them. In TOML a distribution is a table, `{distribution = "uniform", low = 1.0,
high = 2.0}`, or for short a pair `[1.0, 2.0]` (uniform) or a number (a fixed value). The mathematics is
scipy.stats'; values carry the unit of the parameter that they are drawn for.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distribution(ABC):
    """A distribution of one number. Subclasses are frozen and raise UserError for impossible parameters."""

    kind: ClassVar[str]

    @abstractmethod
    def ppf(self, u: ArrayLike) -> Array:
        """Values at the probabilities `u` (any shape) in (0, 1): the inverse of the cumulative function."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """Expected value."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Smallest and largest possible value; infinite where unbounded."""

    @property
    def varies(self) -> bool:
        """Whether more than one value can come out."""
        low, high = self.support
        return high > low

    @property
    def median(self) -> float:
        """The value at probability one half."""
        return float(self.ppf(0.5))

    def to_toml(self) -> dict[str, Any]:
        """The table that `from_toml` reads back."""
        table: dict[str, Any] = {"distribution": self.kind}
        for field in fields(self):
            value = getattr(self, field.name)
            table[field.name] = list(value) if isinstance(value, tuple) else value
        return table


@dataclass(frozen=True)
class Constant(Distribution):
    """Always `value`: switches the randomization of a parameter off."""

    value: float
    kind: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        _finite(self, "value")

    def ppf(self, u: ArrayLike) -> Array:
        return np.full(np.shape(u), self.value)

    @property
    def mean(self) -> float:
        return self.value

    @property
    def support(self) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class Uniform(Distribution):
    """Equally likely everywhere in `low..high`."""

    low: float
    high: float
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        _finite(self, "low", "high")
        _ordered(self)

    def ppf(self, u: ArrayLike) -> Array:
        return self.low + (self.high - self.low) * np.asarray(u, dtype=np.float64)

    @property
    def mean(self) -> float:
        return 0.5 * (self.low + self.high)

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Uniform in the logarithm: every factor of two in `low..high` is equally likely; needs low > 0."""

    low: float
    high: float
    kind: ClassVar[str] = "loguniform"

    def __post_init__(self) -> None:
        _finite(self, "low", "high")
        _ordered(self)
        if self.low <= 0:
            raise _refusal(self, f"needs low > 0 (its logarithm is drawn), got low = {self.low:g}")

    def ppf(self, u: ArrayLike) -> Array:
        u = np.asarray(u, dtype=np.float64)
        value = np.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * u)
        # exp(log(x)) is not exactly x; a draw must not leave the range by a rounding error.
        return np.clip(value, self.low, self.high)

    @property
    def mean(self) -> float:
        if self.high == self.low:
            return self.low
        return (self.high - self.low) / math.log(self.high / self.low)

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Normal(Distribution):
    """Gaussian with this `mean` and standard deviation `std` > 0. Unbounded: see TruncatedNormal."""

    mu: float
    std: float
    kind: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        _finite(self, "mu", "std")
        _positive(self, "std")

    def ppf(self, u: ArrayLike) -> Array:
        from scipy.special import ndtri

        return np.asarray(self.mu + self.std * ndtri(np.asarray(u, dtype=np.float64)))

    @property
    def mean(self) -> float:
        return self.mu

    @property
    def support(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def to_toml(self) -> dict[str, Any]:
        return {"distribution": self.kind, "mean": self.mu, "std": self.std}


@dataclass(frozen=True)
class TruncatedNormal(Distribution):
    """The normal distribution (`mu`, `std` before truncation) restricted to `low..high`."""

    mu: float
    std: float
    low: float
    high: float
    kind: ClassVar[str] = "truncated_normal"

    def __post_init__(self) -> None:
        _finite(self, "mu", "std", "low", "high")
        _positive(self, "std")
        _ordered(self)

    def _standard(self) -> tuple[float, float]:
        return (self.low - self.mu) / self.std, (self.high - self.mu) / self.std

    def ppf(self, u: ArrayLike) -> Array:
        u = np.asarray(u, dtype=np.float64)
        if self.high == self.low:
            return np.full(u.shape, self.low)
        from scipy.stats import truncnorm

        value = truncnorm.ppf(u, *self._standard(), loc=self.mu, scale=self.std)
        return np.clip(np.asarray(value, dtype=np.float64), self.low, self.high)

    @property
    def mean(self) -> float:
        if self.high == self.low:
            return self.low
        from scipy.stats import truncnorm

        return float(truncnorm.mean(*self._standard(), loc=self.mu, scale=self.std))

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high

    def to_toml(self) -> dict[str, Any]:
        table = {"distribution": self.kind, "mean": self.mu, "std": self.std}
        return table | {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Beta(Distribution):
    """Beta(`alpha`, `beta`) stretched over `low..high`; alpha = beta = 1 is uniform."""

    alpha: float
    beta: float
    low: float = 0.0
    high: float = 1.0
    kind: ClassVar[str] = "beta"

    def __post_init__(self) -> None:
        _finite(self, "alpha", "beta", "low", "high")
        _positive(self, "alpha", "beta")
        _ordered(self)

    def ppf(self, u: ArrayLike) -> Array:
        from scipy.special import betaincinv

        unit = betaincinv(self.alpha, self.beta, np.asarray(u, dtype=np.float64))
        return np.asarray(self.low + (self.high - self.low) * unit)

    @property
    def mean(self) -> float:
        return self.low + (self.high - self.low) * self.alpha / (self.alpha + self.beta)

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class LogBeta(Distribution):
    """Beta(`alpha`, `beta`) stretched over `low..high` in the logarithm; alpha = beta = 1 is loguniform."""

    alpha: float
    beta: float
    low: float
    high: float
    kind: ClassVar[str] = "logbeta"

    def __post_init__(self) -> None:
        _finite(self, "alpha", "beta", "low", "high")
        _positive(self, "alpha", "beta", "low")
        _ordered(self)

    def ppf(self, u: ArrayLike) -> Array:
        from scipy.special import betaincinv

        return LogUniform(self.low, self.high).ppf(
            betaincinv(self.alpha, self.beta, np.asarray(u, np.float64))
        )

    @property
    def mean(self) -> float:
        # The moment generating function of the beta distribution at the log range.
        from scipy.special import hyp1f1

        return self.low * float(hyp1f1(self.alpha, self.alpha + self.beta, math.log(self.high / self.low)))

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Choice(Distribution):
    """One of `values`, with probabilities proportional to `weights` (equal when none are given)."""

    values: tuple[float, ...]
    weights: tuple[float, ...] = ()
    kind: ClassVar[str] = "choice"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        weights = self.weights or (1.0,) * len(self.values)
        object.__setattr__(self, "weights", _weights(self, weights, len(self.values), "values"))
        _finite_all(self, "values", self.values)

    def ppf(self, u: ArrayLike) -> Array:
        return np.asarray(self.values)[_pick(self.weights, np.asarray(u, dtype=np.float64))]

    @property
    def mean(self) -> float:
        return float(np.dot(self.values, self.weights))

    @property
    def support(self) -> tuple[float, float]:
        possible = [v for v, w in zip(self.values, self.weights) if w > 0]
        return min(possible), max(possible)


@dataclass(frozen=True)
class Mixture(Distribution):
    """First choose a component with probability proportional to its weight, then draw from it.

    `ppf` runs through the components in order instead of inverting the mixture's cumulative function: the
    first weight's share of (0, 1) belongs to the first component, and so on. The values have the mixture's
    distribution all the same, and the position in (0, 1) says which component a value came from.
    """

    components: tuple[Distribution, ...]
    weights: tuple[float, ...] = ()
    kind: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        weights = self.weights or (1.0,) * len(self.components)
        object.__setattr__(self, "weights", _weights(self, weights, len(self.components), "components"))

    def ppf(self, u: ArrayLike) -> Array:
        u = np.asarray(u, dtype=np.float64)
        chosen = _pick(self.weights, u)
        edges = np.concatenate(([0.0], np.cumsum(self.weights)))
        value = np.empty(u.shape)
        for i, component in enumerate(self.components):
            mask = chosen == i
            if mask.any():
                inner = (u[mask] - edges[i]) / self.weights[i]
                value[mask] = component.ppf(np.clip(inner, TINY, 1 - TINY))
        return value

    @property
    def mean(self) -> float:
        return float(sum(w * c.mean for w, c in zip(self.weights, self.components)))

    @property
    def support(self) -> tuple[float, float]:
        supports = [c.support for c, w in zip(self.components, self.weights) if w > 0]
        return min(low for low, _ in supports), max(high for _, high in supports)

    def to_toml(self) -> dict[str, Any]:
        components = [component.to_toml() for component in self.components]
        return {"distribution": self.kind, "components": components, "weights": list(self.weights)}


TINY = 2.0**-53
"""Probabilities are kept this far away from 0 and 1, where unbounded distributions are infinite."""

_KINDS: dict[str, type[Distribution]] = {
    cls.kind: cls
    for cls in (Constant, Uniform, LogUniform, Normal, TruncatedNormal, Beta, LogBeta, Choice, Mixture)
}
_RENAMED = {"mean": "mu"}


def from_toml(raw: object, where: str) -> Distribution:
    """A distribution from its TOML form: a table, a pair (uniform) or a number (fixed).

    `where` names the entry in messages. Raises UserError for anything else, listing what is allowed.
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, float, list, Mapping)):
        raise UserError(f"{where}: expected a number, [low, high] or a table, got {raw!r}")
    try:
        if isinstance(raw, (int, float)):
            return Constant(float(raw))
        if isinstance(raw, list):
            if len(raw) != 2:
                raise UserError(f"a list must be [low, high], got {len(raw)} entries")
            return Uniform(_number("low", raw[0]), _number("high", raw[1]))
        return _from_table(raw, where)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _from_table(table: Mapping[str, Any], where: str) -> Distribution:
    kind = table.get("distribution")
    if kind not in _KINDS:
        problem = f"unknown distribution {kind!r}" if kind is not None else "'distribution' is missing"
        raise UserError(f"{problem}; allowed are {', '.join(sorted(_KINDS))}")
    cls = _KINDS[kind]
    arguments: dict[str, Any] = {}
    allowed = {field.name: field for field in fields(cls)}
    for key, value in table.items():
        if key == "distribution":
            continue
        name = _RENAMED.get(key, key)
        if name not in allowed:
            names = [_public(n) for n in allowed]
            raise UserError(f"{kind} has no '{key}'; it takes {', '.join(names)}")
        if name == "components":
            if not isinstance(value, list):
                raise UserError(f"{kind}.components must be a list of distributions, got {value!r}")
            arguments[name] = tuple(from_toml(part, f"component {i}") for i, part in enumerate(value))
        elif get_args(allowed[name].type):
            if not isinstance(value, list):
                raise UserError(f"{kind}.{key} must be a list of numbers, got {value!r}")
            arguments[name] = tuple(_number(key, v) for v in value)
        else:
            arguments[name] = _number(key, value)
    required = [n for n, f in allowed.items() if n not in arguments and n not in ("weights", "low", "high")]
    if cls is not Beta:
        required += [n for n in ("low", "high") if n in allowed and n not in arguments]
    if required:
        raise UserError(f"{kind} needs {', '.join(_public(n) for n in required)} as well")
    return cls(**arguments)


def _public(name: str) -> str:
    return "mean" if name == "mu" else name


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{name} must be a number, got {value!r}")
    return float(value)


def _pick(weights: tuple[float, ...], u: Array) -> NDArray[np.intp]:
    edges = np.cumsum(weights)
    # Components of weight zero own an empty interval; rounding must not let u run past the last one.
    last = max(i for i, w in enumerate(weights) if w > 0)
    return np.minimum(np.searchsorted(edges, u, side="right"), last)


def _refusal(distribution: Distribution, problem: str) -> UserError:
    return UserError(f"{distribution.kind} {problem}")


def _finite(distribution: Distribution, *names: str) -> None:
    for name in names:
        if not math.isfinite(getattr(distribution, name)):
            raise _refusal(distribution, f"needs a finite {_public(name)}, got {getattr(distribution, name)}")


def _finite_all(distribution: Distribution, name: str, values: tuple[float, ...]) -> None:
    if not all(math.isfinite(v) for v in values):
        raise _refusal(distribution, f"needs finite {name}, got {list(values)}")


def _positive(distribution: Distribution, *names: str) -> None:
    for name in names:
        if not getattr(distribution, name) > 0:
            raise _refusal(distribution, f"needs {name} > 0, got {getattr(distribution, name):g}")


def _ordered(distribution: Any) -> None:
    if distribution.low > distribution.high:
        raise _refusal(
            distribution, f"needs low <= high, got low = {distribution.low:g}, high = {distribution.high:g}"
        )


def _weights(
    distribution: Distribution, weights: tuple[float, ...], count: int, what: str
) -> tuple[float, ...]:
    if count == 0:
        raise _refusal(distribution, f"needs at least one entry in {what}")
    if len(weights) != count:
        raise _refusal(distribution, f"has {count} {what} but {len(weights)} weights")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise _refusal(distribution, f"needs weights >= 0 that are not all zero, got {list(weights)}")
    total = math.fsum(weights)
    return tuple(float(w) / total for w in weights)
