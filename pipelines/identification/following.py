"""Do the states follow the commands, and by what gain? A position servo's is about 1, whatever the servo.

Commands of a leader in radians beside a follower in degrees, actions −1…1, actions that are steps and not positions, an
arm mirrored to its leader: all of these move in time with the states, and only the gain, or what the commands correlate
with, tells. What servos do cannot be learned from such pairs, nor a policy from such actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.robot import Robot

Array = NDArray[np.float64]

LONGEST = 0.4
"""s by which servos may trail their commands."""
MOVING = np.deg2rad(5.0)
"""What moves less, in command and in state, has no gain. (In wrong units a joint may seem to move little.)"""
ALIKE = 0.9
"""Correlation from which on a gain is meant: the state does follow."""
LOOSE = 0.5
"""Correlation, and"""
LEAST_GAIN = 0.2
"""gain, below which a joint does not do what it is told."""
APART = 0.7
"""Correlation below which positions do not explain the states."""
GAINS = (0.5, 1.5)
"""Gains of an arm's joints that are possible. Those of real arms are 0.93–1.03 over a data set."""
GRIPPER_GAINS = (0.1, 5.0)
"""A gripper that holds things does not close as told."""
NEARER = 3.0
"""By how much better other units must explain all gains together, where each alone would be possible."""
LEAST_OFF = 0.06
"""Gains that are so near to 1 on average (logarithm) are those of equal units."""


@dataclass(frozen=True, eq=False)
class Following:
    """By joint, (n,): `gain` of the state over the command, their correlation `match` at the best delay, `lag` s.

    `steps` is the correlation of the command with the speed of the state. NaN for joints that hardly move.
    """

    gain: Array
    match: Array
    lag: Array
    steps: Array


def follow(command: Sequence[Array], state: Sequence[Array], fps: float) -> Following:
    """How the states of episodes follow the commands, both (T, n) rad each, at `fps` Hz."""
    n = state[0].shape[1]
    found = Following(*(np.full(n, np.nan) for _ in range(4)))
    longest = max(12, round(LONGEST * fps))
    pairs = [(c, s) for c, s in zip(command, state) if len(s) > 2 * longest + 3]
    if not pairs:
        return found
    for j in range(n):
        told, went = [c[:, j] for c, _ in pairs], [s[:, j] for _, s in pairs]
        if max(_extent(told), _extent(went)) < MOVING:
            continue
        if min(_extent(told), _extent(went)) < 1e-9:
            found.gain[j] = found.match[j] = found.steps[j] = 0.0
            continue
        matches = [_match(*_shifted(told, went, shift)) for shift in range(longest + 1)]
        best = int(np.argmax(np.abs(matches)))
        forward = int(np.argmax(matches))
        if matches[forward] > abs(matches[best]) - 0.02:
            best = forward
        found.match[j], found.lag[j] = matches[best], best / fps
        found.gain[j] = _gain(*_shifted(told, went, best))
        speeds = [np.convolve(w, (1.0, 0.0, -1.0), "valid") for w in went]
        found.steps[j] = max(
            _match(*_shifted([t[1:-1] for t in told], speeds, shift)) for shift in range(longest + 1)
        )
    return found


def _extent(parts: Sequence[Array]) -> float:
    """How far it goes, but for the few samples that read errors may spoil."""
    low, high = np.quantile(np.concatenate(parts), (0.01, 0.99))
    return float(high - low)


def _shifted(told: Sequence[Array], went: Sequence[Array], shift: int) -> tuple[Array, Array]:
    x = np.concatenate([t[: len(t) - shift] for t in told])
    y = np.concatenate([w[shift:] for w in went])
    return x - x.mean(), y - y.mean()


def _dot(x: Array, y: Array) -> float:
    """x · y without waking BLAS's threads, which on a busy machine takes a hundred times as long."""
    return float(np.einsum("i,i", x, y))


def _match(x: Array, y: Array) -> float:
    power = float(np.sqrt(_dot(x, x) * _dot(y, y)))
    return _dot(x, y) / power if power > 0 else 0.0


def _gain(x: Array, y: Array) -> float:
    """The slope of y over x, of the nine tenths of samples that lie nearest to it."""
    off = np.abs(y - _dot(x, y) / _dot(x, x) * x)
    near = off <= np.quantile(off, 0.9)
    x, y = x[near] - x[near].mean(), y[near] - y[near].mean()
    power = _dot(x, x)
    return _dot(x, y) / power if power > 0 else float("nan")


def not_followed(found: Following, robot: Robot) -> list[str]:
    """The joints of the arm that hardly do what they are told, in words for the user."""
    arm = np.isin(np.arange(robot.n), robot.arm)
    moving = arm & np.isfinite(found.match)
    loose = moving & ((np.abs(found.match) < LOOSE) | (np.abs(found.gain) < LEAST_GAIN))
    if not loose.any() or 2 * loose.sum() > moving.sum():
        return []  # not a joint's fault
    told = ", ".join(
        f"{robot.joint_names[j]} (it goes {abs(found.gain[j]):.2f} times as far)"
        for j in np.flatnonzero(loose)
    )
    return [f"{told} hardly follows its commands: what is found of its servo means nothing"]


def is_gain(gain: float) -> bool:
    """Whether a joint that goes so far for what it is told may be a servo's."""
    return GAINS[0] <= gain <= GAINS[1]


def mismatch(found: Following, robot: Robot, spans: Array) -> str | None:
    """Why these cannot be the commands of these states, in words for the user; None when they can.

    `spans` (n,) rad are the joints' calibrated ranges.
    """
    names = robot.joint_names
    followed = np.nan_to_num(np.abs(found.match)) >= ALIKE
    arm = np.isin(np.arange(robot.n), robot.arm)
    moving = arm & np.isfinite(found.match)
    if moving.any():
        level, steps = np.median(np.abs(found.match[moving])), np.median(found.steps[moving])
        if steps > APART and steps > level + 0.1:
            return (
                "the actions follow the speed of the states, not their position: they are steps relative to where the "
                "arm is; actions must be positions: add them up, or record the positions that were commanded"
            )
    low, high = np.where(arm, GAINS[0], GRIPPER_GAINS[0]), np.where(arm, GAINS[1], GRIPPER_GAINS[1])
    measured = followed & moving
    short = followed & (found.gain >= 0) & (found.gain < low)
    # One joint alone may be held, or stand at an end of its range; then it goes less far, but never further.
    if 2 * (short & arm).sum() < measured.sum():
        short &= ~arm
    wrong = short | (followed & ((found.gain < 0) | (found.gain > high)))
    against = wrong & (found.gain < 0)
    reason, error = _likely_units(found.gain, measured, spans)
    if not wrong.any():
        same = float(np.mean(np.abs(np.log(found.gain[measured])))) if measured.sum() > 1 else 0.0
        if reason is None or same < max(LEAST_OFF, NEARER * error):
            return None
        told = measured
    else:
        told = wrong
    gains = ", ".join(f"{names[j]} {found.gain[j]:.3g}" for j in np.flatnonzero(told))
    if (told == against).all():
        return (
            f"states move against their commands ({gains} times as far): actions and states are counted in opposite "
            "directions; convert one of them, or record again with one calibration for both"
        )
    cause = f", as if {reason}" if reason else ""
    return (
        f"states move by another measure than their commands ({gains} times as far; a servo's joint goes about as far "
        f"as it is told){cause}; actions and states must be in one unit: convert the actions"
    )


def _likely_units(gain: Array, measured: NDArray[np.bool_], spans: Array) -> tuple[str | None, float]:
    """Which units would give these gains, and by how much they miss them (mean of the logarithm's magnitude)."""
    if not measured.any():
        return None, np.inf
    size = {"radians": np.ones(len(spans)), "degrees": np.full(len(spans), np.deg2rad(1.0)),
            "per cent": spans / 200.0, "−1…1": spans / 2.0}  # fmt: skip
    errors = {}
    for actions, one in size.items():
        for states, other in size.items():
            if actions == states:
                continue
            expected = np.log(one / other)[measured]
            with np.errstate(invalid="ignore", divide="ignore"):
                off = np.abs(np.log(np.abs(gain[measured])) - expected)
            errors[f"actions were in {actions} and states in {states}"] = float(np.mean(off))
    best = min(errors, key=lambda reason: errors[reason])
    return (best, errors[best]) if errors[best] < 0.1 else (None, np.inf)
