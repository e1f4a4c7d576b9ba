"""What can be wrong with recorded joints: guided by hand, single wrong readings, a wrong rate.

One place for what `data` reports, what `identify` refuses and what `replay` ignores.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HAND_GUIDED = 0.9
"""Share of the moving frames with action[t] == state[t + 1] (or state[t]) from which a set counts as hand-guided."""
SAME = 1e-6
"""rad: values that far apart are the same number, stored twice."""
STILL = 1e-9
"""rad: no joint moved."""
HARDEST_TURN = 250.0
"""rad/s²: no servo here turns a joint round harder (3.5 N·m on an armature of 0.025 kg·m² is 140)."""
LEAST_GLITCH = np.deg2rad(3.0)
"""What is smaller is not told from vibration at high rates."""
RATE_TOLERANCE = 0.01
"""Relative difference from which on a measured rate contradicts the stated one."""


def hand_guided(command: Sequence[Array], state: Sequence[Array]) -> str | None:
    """How the commands of episodes (each (T, n) rad) repeat the states: "state[t+1]", "state[t]", or None.

    Somebody moved the arm then, no servo answered a command. Frames at rest do not count: there a servo's command
    may well be where the joint is.
    """
    for name, shift in (("state[t+1]", 1), ("state[t]", 0)):
        equal = moved = 0
        for c, s in zip(command, state):
            moving = np.abs(np.diff(s, axis=0)).max(axis=1, initial=0.0) > STILL
            same = np.abs(c[:-1] - s[shift : len(s) - 1 + shift]).max(axis=1, initial=0.0) < SAME
            equal, moved = equal + int((same & moving).sum()), moved + int(moving.sum())
        if moved and equal / moved >= HAND_GUIDED:
            return name
    return None


def moving_frames(state: Sequence[Array]) -> int:
    """In how many steps of these episodes (each (T, n) rad) anything moved."""
    return sum(int((np.abs(np.diff(s, axis=0)).max(axis=1, initial=0.0) > STILL).sum()) for s in state)


def glitches(state: Array, fps: float) -> NDArray[np.bool_]:
    """(T, n) which samples of an episode (T, n) rad are read errors: alone, and where no servo could have been.

    Both neighbours agree with each other and not with the sample, by more than the hardest turn at this rate. A
    wrong first sample has one neighbour only, which then agrees with the next.
    """
    found = np.zeros(state.shape, dtype=np.bool_)
    if len(state) < 3:
        return found
    limit = max(0.5 * HARDEST_TURN / fps**2, LEAST_GLITCH)
    before, at, after = state[:-2], state[1:-1], state[2:]
    distance = np.minimum(np.abs(at - before), np.abs(at - after))
    found[1:-1] = (distance > limit) & (np.abs(after - before) < 0.5 * distance)
    found[0] = (np.abs(state[0] - state[1]) > limit) & (np.abs(state[2] - state[1]) < limit / 3)
    return found


def measured_rate(times: Sequence[Array]) -> float | None:
    """Frames per second according to the time stamps of episodes (each (T,) s); None when they do not rise."""
    periods = np.concatenate([np.diff(time) for time in times]) if times else np.zeros(0)
    if not len(periods) or not np.median(periods) > 0:
        return None
    # The mean, since a 100 Hz loop takes 30 Hz frames after 3, 3 and 4 ticks; without pauses, which are no frames.
    period = float(np.mean(periods[periods <= 3 * np.median(periods)]))
    return 1.0 / period if np.isfinite(period) and period > 0 else None


def contradicts(measured: float, stated: float) -> bool:
    """Whether a measured rate is another one than the stated, Hz."""
    return abs(measured / stated - 1) > RATE_TOLERANCE
