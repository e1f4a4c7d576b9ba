"""One bad joint or a few bad episodes rule a mean: which they are, and what it is without them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import spans
from sim2real.robot import Robot

Array = NDArray[np.float64]

JOINT = 5.0
"""A joint that is so many times as far off as the arm's others stands out."""
LEAST_JOINT = 3.0
"""Degrees below which none does."""
EPISODE = 4.0
"""An episode in which a joint is so many times as far off as usual stands out."""
LEAST_EPISODE = 3.0
"""Degrees below which none does."""


def bad_joints(rms: Array, robot: Robot) -> list[int]:
    """The joints of the arm that are far more off than the arm's others; `rms` (n,) in degrees."""
    arm = [int(j) for j in robot.arm]
    found = []
    for j in arm:
        others = [rms[k] for k in arm if k != j and np.isfinite(rms[k])]
        if others and rms[j] > max(LEAST_JOINT, JOINT * float(np.median(others))):
            found.append(j)
    return found if 2 * len(found) < len(arm) else []


def bad_episodes(rms: Array, numbers: Sequence[int], robot: Robot) -> list[str]:
    """Where single episodes stand out, a line per joint; `rms` (E, n) in degrees, `numbers` (E,) the episodes' own."""
    lines = []
    for j in robot.arm:
        values = rms[:, j]
        known = values[np.isfinite(values)]
        if len(known) < 3:
            continue
        usual = float(np.median(known))
        out = np.flatnonzero(values > max(LEAST_EPISODE, EPISODE * usual))
        if len(out):
            far = values[out]
            size = f"{far.min():.1f}–{far.max():.1f}°" if len(out) > 1 else f"{far[0]:.1f}°"
            lines.append(
                f"{robot.joint_names[j]} is {size} off in episode{'s' * (len(out) > 1)} "
                f"{spans([numbers[int(k)] for k in out])}, usually {usual:.1f}°"
            )
    return lines


def told_joints(rms: Array, robot: Robot) -> list[str]:
    """Which joints rule the mean and what it is without them, in words for the user; `rms` (n,) in degrees."""
    bad = bad_joints(rms, robot)
    if not bad:
        return []
    listed = ", ".join(f"{robot.joint_names[j]} ({rms[j]:.1f}°)" for j in bad)
    verb, them = ("rules", "it") if len(bad) == 1 else ("rule", "them")
    return [f"{listed} {verb} the mean; without {them}: {mean_without(rms, robot):.3f}°"]


def mean_without(rms: Array, robot: Robot) -> float | None:
    """Degrees, over the arm's joints but those that rule the mean; None when none does."""
    bad = bad_joints(rms, robot)
    return float(rms[[int(j) for j in robot.arm if j not in bad]].mean()) if bad else None


def by_episode(error: Array, starts: NDArray[np.int64]) -> Array:
    """(E, n) RMS of errors (T, n) in each episode; NaN where nothing is compared."""
    parts = np.split(error**2, starts[1:-1])
    counts = np.array([np.isfinite(part).sum(axis=0) for part in parts])
    sums = np.array([np.nansum(part, axis=0) for part in parts])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(sums / counts))
