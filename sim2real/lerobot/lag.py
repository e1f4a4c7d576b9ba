"""How far the measured joints trail the commands."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_LAG = 15.0
"""Lags are looked for in 0..MAX_LAG frames."""


def lag(action: list[Array], state: list[Array]) -> tuple[float, float]:
    """The delay of one joint, in frames, that best explains `state` by `action`, and the RMS left over.

    Both are lists of (T,) per episode. The delay is fractional: the command is interpolated linearly between
    frames. A constant offset (droop) is left out of account. NaN when the command hardly moves.
    """
    if not action or np.concatenate(action).std() < 1e-9:
        return float("nan"), float("nan")
    delays = np.arange(0.0, MAX_LAG + 0.5, 0.5)
    errors = [_error(action, state, delay) for delay in delays]
    best = float(delays[int(np.argmin(errors))])
    fine = np.clip(best + np.arange(-0.5, 0.55, 0.05), 0.0, MAX_LAG)
    errors = [_error(action, state, delay) for delay in fine]
    return float(fine[int(np.argmin(errors))]), float(np.sqrt(min(errors)))


def _error(action: list[Array], state: list[Array], delay: float) -> float:
    """Mean squared deviation of the state from the command `delay` frames ago, up to a constant."""
    skip = int(np.ceil(MAX_LAG))
    residuals = []
    for command, measured in zip(action, state):
        if len(measured) <= skip + 5:
            continue
        frames = np.arange(len(measured), dtype=np.float64)
        residuals.append((measured - np.interp(frames - delay, frames, command))[skip:])
    if not residuals:
        return float("nan")
    return float(np.concatenate(residuals).var())
