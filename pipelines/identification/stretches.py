"""Which stretches of a long recording tell most about the arm: those that are fitted.

A fit simulates its frames some hundred times, and ten minutes of one task hardly tell more than the best of them. So a
recording is cut into stretches of some ten seconds, and those are chosen, one after another, that add most to what
is known: the largest gain in the determinant of the information matrix (D-optimality) of what a joint's servo feels —
speed, friction, acceleration, weight, the ends of its range. The recorded angles alone tell that; nothing is simulated.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.logs import ArmLog
from sim2real.model.batched import ArmRecording
from sim2real.model.dynamics import mass_and_bias
from sim2real.robot import Robot

Array = NDArray[np.float64]

SECONDS = 10.0
"""Longer episodes are cut into pieces of about this length."""
WARM_UP = 0.8
"""s of simulation before a piece that begins in mid-motion, which starts at rest: not compared."""
SLOW = 0.1
"""rad/s, about which friction changes its sign."""
NEAR_END = 0.15
"""rad from the end of a range where joints may lean on something."""
OUTLYING = 3.0
"""A stretch that the nominal arm misses by so many times the usual is left out: something else moved the arm."""
LEAST_OUTLYING = 2.0
"""Degrees below which no stretch is left out."""


def informative_part(log: ArmLog, robot: Robot, frames: int, errors: Array | None = None) -> ArmLog:
    """About `frames` frames of the log, cut into stretches; the whole log if it has no more.

    `errors` (T, n) degrees are those of the nominal arm: stretches that it misses by far are taken last.
    """
    recording = log.recording
    if len(recording.command) <= frames:
        return log
    bounds = _cut(recording)
    if errors is not None:
        usable = _plausible(bounds, errors[:, robot.arm])
        kept = [piece for piece, fine in zip(bounds, usable) if fine]
        if sum(b - a for a, b in kept) >= frames:
            bounds = kept
    chosen = _choose(_information(log, robot, bounds), [b - a for a, b in bounds], frames)
    return _pieces(log, [bounds[k] for k in sorted(chosen)])


def _cut(recording: ArmRecording) -> list[tuple[int, int]]:
    """Rows (first, last + 1) of the stretches."""
    pieces = []
    for first, last in pairwise(recording.starts.tolist()):
        count = max(1, round((last - first) / (SECONDS * recording.fps)))
        ends = np.linspace(first, last, count + 1).round().astype(int).tolist()
        pieces += list(pairwise(ends))
    return pieces


def _plausible(bounds: list[tuple[int, int]], errors: Array) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        off = np.array([np.sqrt(np.nanmean(errors[a:b] ** 2)) for a, b in bounds])
    off = np.where(np.isfinite(off), off, np.inf)
    return np.asarray(off <= max(OUTLYING * float(np.median(off)), LEAST_OUTLYING))


def _information(log: ArmLog, robot: Robot, bounds: list[tuple[int, int]]) -> Array:
    """(S, n, k, k) information that each stretch has on what each joint's servo feels."""
    recording, state = log.recording, log.recording.state
    speed = np.zeros_like(state)
    acceleration = np.zeros_like(state)
    for first, last in pairwise(recording.starts.tolist()):
        if last - first > 2:
            speed[first:last] = np.gradient(state[first:last], axis=0) * recording.fps
            acceleration[first:last] = np.gradient(speed[first:last], axis=0) * recording.fps
    _, weight = mass_and_bias(robot.model, state, np.zeros_like(state))
    felt = np.stack(
        [
            np.ones_like(state),
            speed,
            np.tanh(speed / SLOW),
            acceleration,
            weight,
            np.abs(weight) * np.tanh(speed / SLOW),
            np.maximum(NEAR_END - (state - log.lower), 0.0),
            np.maximum(NEAR_END - (log.upper - state), 0.0),
        ],
        axis=-1,
    )
    # Capped, so that no read error is the most informative of all.
    usual = np.quantile(np.abs(felt), 0.95, axis=0) + 1e-6
    felt = np.clip(felt / usual, -2.0, 2.0)
    return np.stack([np.einsum("tnj,tnk->njk", felt[a:b], felt[a:b]) for a, b in bounds])


def _choose(information: Array, lengths: list[int], frames: int) -> list[int]:
    """Stretches, best first, until their frames are `frames`: the greedy D-optimal design."""
    k = information.shape[-1]
    known = np.repeat(1e-2 * np.mean(lengths) * np.eye(k)[None], information.shape[1], axis=0)
    left, chosen, total = list(range(len(lengths))), [], 0
    while left and total < frames:
        gains = np.linalg.slogdet(known + information[left])[1].sum(axis=1) / np.array(lengths)[left]
        best = left.pop(int(np.argmax(gains - np.linalg.slogdet(known)[1].sum() / np.array(lengths)[left])))
        chosen.append(best)
        known = known + information[best]
        total += lengths[best]
    return chosen


def _pieces(log: ArmLog, bounds: list[tuple[int, int]]) -> ArmLog:
    """The log of these rows (first, last + 1), each an episode, with frames to warm up before where there are any."""
    recording = log.recording
    rows, valid, starts, numbers = [], [], [0], []
    for first, last in bounds:
        e = int(np.searchsorted(recording.starts, first, side="right")) - 1
        begin = max(int(recording.starts[e]), first - round(WARM_UP * recording.fps))
        rows.append(np.arange(begin, last))
        known = log.valid[begin:last].copy()
        known[: first - begin] = False
        valid.append(known)
        starts.append(starts[-1] + last - begin)
        numbers.append(log.episodes[e])
    index = np.concatenate(rows)
    cut = ArmRecording(
        recording.command[index], recording.state[index], np.array(starts), recording.fps, recording.ramp
    )
    return replace(log, recording=cut, valid=np.concatenate(valid), episodes=tuple(numbers))
