"""Which colours of objects a camera can tell: from grey, and from each other."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.objects import COLOURS, ObjectSpec, Rgb

GREY = 0.15
"""Colours with less chroma than this, of 1, cannot be told from grey things."""
ALIKE = math.cos(math.radians(18.0))
"""Colours whose chromas lie closer in direction cannot be told from each other."""


def chroma(rgb: Rgb) -> NDArray[np.float64]:
    """(3,) a colour less its grey."""
    values = np.array(rgb, dtype=np.float64)
    return values - values.mean()


def coloured(objects: Iterable[ObjectSpec]) -> None:
    """Raise UserError for an object whose colour is too close to grey."""
    for spec in objects:
        if np.linalg.norm(chroma(spec.rgb)) < GREY:
            tellable = [name for name, rgb in COLOURS.items() if np.linalg.norm(chroma(rgb)) >= GREY]
            raise UserError(
                f"a camera cannot tell the object '{spec.name}' by its colour {spec.colour}, which is too close to "
                f"grey; choose another one, such as {', '.join(tellable)}"
            )


def distinguishable(objects: Sequence[ObjectSpec]) -> None:
    """Raise UserError when two of the objects have colours that a camera takes for one."""
    for a, b in itertools.combinations(objects, 2):
        one, other = chroma(a.rgb), chroma(b.rgb)
        if float(one @ other) > ALIKE * float(np.linalg.norm(one) * np.linalg.norm(other)):
            raise UserError(
                f"a camera tells objects by their colours, and those of '{a.name}' ({a.colour}) and '{b.name}' "
                f"({b.colour}) look alike; give one of them another colour"
            )
