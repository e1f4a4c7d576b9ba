"""What of a draw training knows: its parameters, -1 … 1 over the ranges that they are drawn from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from randomization.space import BoundSpace

Ranges = tuple[tuple[str, float, float], ...]
"""Name, low, high."""

FELT = ("servo.", "link.", "payload.", "command.", "policy.", "control.", "sensor.", "object.", "world.")
"""How the names of parameters begin that an arm can tell by how it moves."""


def ranges_of(space: BoundSpace, beginnings: tuple[str, ...] = ("",)) -> Ranges:
    """The parameters that vary in a space, whose names begin like this."""
    ranges = [(name, *space.range(name)) for name in space.names if name.startswith(beginnings)]
    return tuple((name, low, high) for name, low, high in ranges if high > low)


def normalized(values: Mapping[str, float], ranges: Ranges) -> NDArray[np.float32]:
    """(len(ranges),), the parameters of a world."""
    return np.array(
        [(2 * values[name] - low - high) / (high - low) for name, low, high in ranges], np.float32
    )
