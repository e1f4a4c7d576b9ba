"""What can be wrong with recorded joints: guided by hand, single wrong readings, a wrong rate, missing frames.

One place for what `data` reports, what `identify` refuses and what `replay` ignores.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.following import follow, is_gain
from sim2real.lerobot.lag import lag

Array = NDArray[np.float64]

HAND_GUIDED = 0.9
"""Share of the moving frames with action[t] == state[t + 1] (or another near frame) from which a set counts as such."""
GUIDED_SHIFTS = (1, 0, 2, -1, -2)
"""k of action[t] == state[t + k] that no servo explains: none answers within two frames to the last digit."""
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
RATES = (1.0, 1000.0)
"""Hz: the slowest and the fastest that recordings of arms have. Whatever is sized by a rate may rely on it."""
FASTEST = 8.0
"""No joint of these arms turns faster, rad/s: a hobby servo's no-load speed is about 5."""
MOVING = np.deg2rad(5.0)
"""A joint that moves less than this in an episode tells nothing about its servo."""
TYPICAL_LAG = (0.08, 0.20)
"""s; commands to such servos over USB are answered within these lags at the true rate."""


def hand_guided(command: Sequence[Array], state: Sequence[Array]) -> str | None:
    """How the commands of episodes (each (T, n) rad) repeat the states: "state[t+1]", "state[t]" …, or None.

    A person moved the arm then, no servo answered a command. Frames at rest do not count: there a servo's command
    may well be where the joint is.
    """
    for shift in GUIDED_SHIFTS:
        equal = moved = 0
        for c, s in zip(command, state):
            moving = np.abs(np.diff(s, axis=0)).max(axis=1, initial=0.0) > STILL
            rows = np.arange(len(s) - 1)
            inside = (rows + shift >= 0) & (rows + shift < len(s))
            rows, moving = rows[inside], moving[inside]
            same = np.abs(c[rows] - s[rows + shift]).max(axis=1, initial=0.0) < SAME
            equal, moved = equal + int((same & moving).sum()), moved + int(moving.sum())
        if moved and equal / moved >= HAND_GUIDED:
            return f"state[t{shift:+d}]" if shift else "state[t]"
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
    """Frames per second according to the time stamps of episodes (each (T,) s).

    None when they do not rise, or tell a rate that no arm is recorded at.
    """
    periods = np.concatenate([np.diff(time) for time in times]) if times else np.zeros(0)
    periods = periods[np.isfinite(periods)]
    if not len(periods) or not np.median(periods) > 0:
        return None
    # The mean, since a 100 Hz loop takes 30 Hz frames after 3, 3 and 4 ticks; without pauses, missing frames and
    # clocks that were set back.
    period = float(np.mean(periods[(periods > 0) & (periods <= 1.5 * np.median(periods))]))
    return 1.0 / period if 1.0 / RATES[1] <= period <= 1.0 / RATES[0] else None


def frame_numbers(time: Array, rate: float) -> NDArray[np.int64]:
    """(T,) which frame of an even `rate` (Hz) each of an episode's frames is, from its time stamps (T,) s.

    Where stamps jump ahead, frames are missing. Jitter is not a jump: what a frame is late, the next may be early.
    Stamps that do not rise say nothing, and the next frame counts as the next.
    """
    numbers = np.zeros(len(time), dtype=np.int64)
    late = 0.0
    for i, step in enumerate(np.diff(time) * rate):
        ahead = step + late if np.isfinite(step) and step > 0 else 1.0
        whole = max(1, int(np.rint(ahead)))
        numbers[i + 1] = numbers[i] + whole
        late = 0.5 * (ahead - whole)
    return numbers


def without_turns(command: Array, state: Array) -> tuple[Array, Array, bool]:
    """Commands and states (T, n) rad without jumps of a whole turn, and whether there were any.

    An encoder that passes its end reads a turn less, and no joint turns by three quarters of a turn in a frame. What
    is left runs on beyond ±π, near the range's middle, commands beside states.
    """
    smooth = np.unwrap(state, discont=1.5 * np.pi, axis=0)
    told = np.unwrap(command, discont=1.5 * np.pi, axis=0)
    jumped = (smooth != state).any(axis=0) | (told != command).any(axis=0)
    for j in np.flatnonzero(jumped):
        turns = np.rint(np.median(smooth[:, j]) / (2 * np.pi))
        smooth[:, j] -= 2 * np.pi * turns
        told[:, j] += 2 * np.pi * np.rint(np.median(smooth[:, j] - told[:, j]) / (2 * np.pi))
    if not jumped.any():
        return command, state, False
    return np.where(jumped, told, command), np.where(jumped, smooth, state), True


def contradicts(measured: float, stated: float) -> bool:
    """Whether a measured rate is another one than the stated, Hz."""
    return abs(measured / stated - 1) > RATE_TOLERANCE


def leading(command: Sequence[Array], state: Sequence[Array]) -> float | None:
    """By how many frames the commands of episodes (each (T, n) rad) come after the motion; None where they cause it."""
    errors = {shift: _misfit(command, state, shift) for shift in range(-6, 11)}
    best = min(errors, key=lambda shift: errors[shift])
    caused = min(error for shift, error in errors.items() if shift > 0)
    return float(-best) if best < 0 and errors[best] < 0.5 * caused else None


def _misfit(command: Sequence[Array], state: Sequence[Array], shift: int) -> float:
    """Mean squared step of the states (rad) that the commands' steps `shift` frames earlier leave unexplained."""
    left = []
    for c, s in zip(command, state):
        if len(s) < 30:
            continue
        rows = np.arange(11, len(s) - 11)
        left.append(((s[rows + 1] - s[rows]) - (c[rows + 1 - shift] - c[rows - shift])).ravel())
    return float(np.mean(np.concatenate(left) ** 2)) if left else 0.0


def opposed(command: Sequence[Array], state: Sequence[Array]) -> NDArray[np.bool_]:
    """(n,) which joints of episodes (each (T, n) rad) turn one way when they are told to turn the other."""
    told, went = (np.concatenate([np.diff(v[::3], axis=0) for v in values]) for values in (command, state))
    both = (told * went).sum(axis=0)
    moved = np.ptp(np.concatenate(state), axis=0) > MOVING
    return np.asarray(moved & (both < -0.5 * (told**2).sum(axis=0)))


def likely_rates(lags: Sequence[float], speed: float, fps: float) -> tuple[tuple[float, float] | None, str]:
    """Between which rates (Hz) the true one lies by what servos can do (None when nothing tells), and why.

    `lags` (s) by which joints that move trail their commands at the stated rate `fps`, `speed` rad/s that joints reach
    at it. Bounds are all that this tells: how quick the servos are within them, nobody knows.
    """
    typical = float(np.median(lags)) if len(lags) else 0.0
    if not typical > 0:
        return None, "nothing in the data tells the true rate"
    low, high = TYPICAL_LAG
    slowest, quickest = (float(np.clip(fps * typical / limit, *RATES)) for limit in (high, low))
    note = f"joints trail the commands by {typical * 1000:.0f} ms at the stated rate, "
    if speed > FASTEST:
        turning = f"but they would turn at up to {np.rad2deg(speed):.0f} deg/s, which no such servo does"
        quickest = min(quickest, float(np.clip(fps * FASTEST / speed, *RATES)))
        return (min(slowest, quickest), quickest), note + turning
    needed = f"such servos need ({low * 1000:.0f}-{high * 1000:.0f} ms)"
    if typical < low:
        return (slowest, quickest), note + "less than " + needed
    if typical > high:
        return (slowest, quickest), note + "more than " + needed
    return (slowest, quickest), note + "as such servos do: it looks right"


def doubtful(fps: float, bounds: tuple[float, float] | None) -> bool:
    """Whether a stated rate is none of those that servos allow."""
    return bounds is not None and not bounds[0] * (1 - RATE_TOLERANCE) <= fps <= bounds[1] * (
        1 + RATE_TOLERANCE
    )


def fastest(state: Sequence[Array], fps: float) -> float:
    """rad/s that a joint of these episodes (each (T, n) rad) reaches, but for the few frames that errors may spoil."""
    steps = np.concatenate([np.abs(np.diff(s, axis=0)) for s in state]) if state else np.zeros((0, 1))
    return float(np.quantile(steps, 0.99, axis=0).max()) * fps if len(steps) else 0.0


def doubts(command: Sequence[Array], state: Sequence[Array], fps: float) -> list[str]:
    """What is doubtful about the commands and states (each (T, n) rad) of a data set, and what to do about it."""
    if hand_guided(command, state):
        return []
    gains = follow(command, state, fps).gain
    moves = [
        j
        for j in range(state[0].shape[1])
        if max(np.ptp(s[:, j]) for s in state) > MOVING and (np.isnan(gains[j]) or is_gain(gains[j]))
    ]
    lags = [lag([c[:, j] for c in command], [s[:, j] for s in state])[0] / fps for j in moves]
    bounds, why = likely_rates([value for value in lags if np.isfinite(value)], fastest(state, fps), fps)
    if bounds is None or not doubtful(fps, bounds):
        return []
    return [
        f"the rate of {fps:g} Hz is doubtful: {why}. Between {bounds[0]:.0f} and {bounds[1]:.0f} Hz they would be as "
        "quick as such servos are; if you know the true rate, give it with --fps"
    ]
