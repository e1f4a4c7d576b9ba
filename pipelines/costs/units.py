"""Units carried through the arithmetic of costs: a quantity is an array and the powers of its base units.

What is counted (items, attempts, tasks, working days …) is a base unit of its own, so that dollars per item and dollars
per attempt cannot be added by mistake.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError, nearest

Powers = tuple[tuple[str, int], ...]

COUNTED = (
    "item", "attempt", "failure", "breakdown", "task", "demo", "episode", "robot", "shift", "workday", "operator",
)  # fmt: skip
"""What is counted."""

_HOUR = 3600.0
UNITS: dict[str, tuple[float, dict[str, int]]] = {
    "1": (1.0, {}),
    "%": (0.01, {}),
    "share": (1.0, {}),
    "USD": (1.0, {"USD": 1}),
    "s": (1.0, {"s": 1}),
    "min": (60.0, {"s": 1}),
    "h": (_HOUR, {"s": 1}),
    "day": (24 * _HOUR, {"s": 1}),
    "week": (7 * 24 * _HOUR, {"s": 1}),
    "month": (365.25 * 2 * _HOUR, {"s": 1}),
    "year": (365.25 * 24 * _HOUR, {"s": 1}),
    "W": (1.0, {"W": 1}),
    "kW": (1e3, {"W": 1}),
    "kWh": (1e3 * _HOUR, {"W": 1, "s": 1}),
    "bit": (1.0, {"bit": 1}),
    "kbit": (1e3, {"bit": 1}),
    "Mbit": (1e6, {"bit": 1}),
    "Gbit": (1e9, {"bit": 1}),
    "byte": (8.0, {"bit": 1}),
    "MB": (8e6, {"bit": 1}),
    "GB": (8e9, {"bit": 1}),
} | {name: (1.0, {name: 1}) for name in COUNTED}
"""Factor to base units, and their powers. A month is a twelfth of a year of 365.25 days."""


def unit(text: str) -> tuple[float, Powers]:
    """Factor and powers of a unit such as "USD/h", "workday/year" or "USD/robot/year".

    Raises UserError for a word that is no unit.
    """
    factor = 1.0
    powers: dict[str, int] = {}
    for sign, word in _words(text):
        if word not in UNITS:
            raise UserError(
                f"'{word}' in '{text}' is no unit{nearest(word, UNITS)}; units are {', '.join(UNITS)}"
            )
        scale, own = UNITS[word]
        factor *= scale**sign
        for base, power in own.items():
            powers[base] = powers.get(base, 0) + sign * power
    return factor, _sorted(powers)


def _words(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"([/*])", text.replace("·", "*"))
    found = [(1, parts[0].strip())]
    for operator, word in zip(parts[1::2], parts[2::2]):
        found.append((-1 if operator == "/" else 1, word.strip()))
    return found


def _sorted(powers: Mapping[str, int]) -> Powers:
    return tuple(sorted((base, power) for base, power in powers.items() if power))


def text_of(powers: Powers) -> str:
    """Powers of base units as text: "USD·s^-1"."""
    return "·".join(base if power == 1 else f"{base}^{power}" for base, power in powers) or "1"


@dataclass(frozen=True, eq=False)
class Quantity:
    """Numbers (one, or an array of draws) in base units. Sums and comparisons need equal units: TypeError otherwise."""

    value: NDArray[np.float64]
    powers: Powers = ()

    def __add__(self, other: "Quantity | float") -> "Quantity":
        return Quantity(self.value + self._like(other), self.powers)

    __radd__ = __add__

    def __sub__(self, other: "Quantity | float") -> "Quantity":
        return Quantity(self.value - self._like(other), self.powers)

    def __rsub__(self, other: float) -> "Quantity":
        return Quantity(self._like(other) - self.value, self.powers)

    def __mul__(self, other: "Quantity | float") -> "Quantity":
        other = _quantity(other)
        return Quantity(self.value * other.value, _product(self.powers, other.powers, 1))

    __rmul__ = __mul__

    def __truediv__(self, other: "Quantity | float") -> "Quantity":
        other = _quantity(other)
        return Quantity(self.value / other.value, _product(self.powers, other.powers, -1))

    def __rtruediv__(self, other: float) -> "Quantity":
        return _quantity(other) / self

    def to(self, wanted: str) -> NDArray[np.float64]:
        """The numbers in another unit. Raises TypeError where it measures something else."""
        factor, powers = unit(wanted)
        if powers != self.powers:
            raise TypeError(f"{text_of(self.powers)} is not measured in {wanted}")
        return self.value / factor

    def _like(self, other: "Quantity | float") -> NDArray[np.float64]:
        other = _quantity(other)
        if other.powers != self.powers:
            raise TypeError(f"{text_of(self.powers)} and {text_of(other.powers)} do not add up")
        return other.value


def quantity(value: Any, of: str = "1") -> Quantity:
    """A number or an array, measured in the unit `of`."""
    factor, powers = unit(of)
    return Quantity(np.asarray(value, np.float64) * factor, powers)


def least(a: Quantity, b: Quantity) -> Quantity:
    """The smaller of each pair."""
    return Quantity(np.minimum(a.value, a._like(b)), a.powers)


def total(parts: Mapping[str, Quantity]) -> Quantity:
    """The sum of several quantities of one unit."""
    first, *others = parts.values()
    for other in others:
        first = first + other
    return first


def _quantity(value: "Quantity | float") -> Quantity:
    return value if isinstance(value, Quantity) else Quantity(np.asarray(value, np.float64))


def _product(left: Powers, right: Powers, sign: int) -> Powers:
    powers = dict(left)
    for base, power in right:
        powers[base] = powers.get(base, 0) + sign * power
    return _sorted(powers)
