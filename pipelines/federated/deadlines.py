"""When a round closes: how long clients have taken says how long the next may."""

from collections.abc import Sequence

import numpy as np

FIRST = 600.0
"""s: of a round, as long as nothing is known of how long clients take."""

REMEMBERED = 50
"""Times that count, the last ones."""

NARROWEST = 0.05
"""Of the median: the MAD is taken to be at least that, or clients of one speed would have no room at all."""


def deadline(times: Sequence[float], k: float) -> float:
    """s that a round may last: median + k · MAD of the times that clients have taken, late ones included."""
    if not times:
        return FIRST
    values = np.asarray(times[-REMEMBERED:], dtype=float)
    median = float(np.median(values))
    spread = max(float(np.median(np.abs(values - median))), NARROWEST * median)
    return median + k * spread
