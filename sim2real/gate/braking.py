"""The gate's trajectory: how fast a joint may go so that it can still stop, and one tick of following a goal.

Let dt be the tick, A, V a joint's limits and f(D) the largest speed from which braking by A·dt a tick stops within
the distance D (exact for the tick, see `stopping_speed`). Each tick picks a velocity from the interval
[max(-V, v - A dt, -f(p - lower)), min(V, v + A dt, f(upper - p))]. Whatever is picked, the interval of the next
tick is not empty, because f(D - v dt) >= v - A dt for v <= f(D): braking is always possible.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit

Array = NDArray[np.float64]

VELOCITY: Final = 8
ACCELERATION: Final = 16
STOPPING: Final = 32

DT = 0
"""Scalar: the tick in s."""
INDEX, AGREED, FOLLOWING = 2, 3, 4
"""Scalars: place in the history, ticks at a new place, whether the last request was followed."""
FLOORS = 5
"""Scalars, three: how far the arm may be beyond the workspace (m), into itself (m) and above its torques (share): 0,
or less while it comes in from where it started."""
PATH = 8
"""Scalars, three: the least of these on the way that was looked at last."""
_SCALARS = 11
_ROWS = 22


class Track(NamedTuple):
    """The gate's state; (n,) in joint order, SI units, but for `scalars` and `history`."""

    scalars: Array
    out: Array
    """What was sent."""
    p: Array
    v: Array
    a: Array
    """The unsmoothed trajectory."""
    accepted: Array
    pending: Array
    goal: Array
    """The last accepted and the last finite request, the last goal."""
    lower: Array
    upper: Array
    """The limits in force: wider than the robot's while an arm that started outside comes in."""
    velocity: Array
    acceleration: Array
    jerk: Array
    low: Array
    high: Array
    """The robot's limits."""
    target: Array
    feed: Array
    """The goal of this tick and its velocity."""
    tried: Array
    brake: Array
    """Velocities for this tick: the one under consideration, and that of braking outright."""
    pose: Array
    speed: Array
    change: Array
    """Along a way that is looked at: position, velocity, acceleration."""
    jump: Array
    """The discontinuity."""
    history: Array
    """(N, n): the last N positions of the unsmoothed trajectory, a ring."""


@njit(cache=True, nogil=True, error_model="numpy")
def track(buffer: Array, n: int) -> Track:
    """The state's parts in its buffer of `track_size`."""
    rows = buffer[_SCALARS : _SCALARS + _ROWS * n].reshape(_ROWS, n)
    begin = _SCALARS + _ROWS * n
    history = buffer[begin:].reshape((len(buffer) - begin) // n, n)
    return Track(
        buffer[:_SCALARS], rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], rows[8], rows[9],
        rows[10], rows[11], rows[12], rows[13], rows[14], rows[15], rows[16], rows[17], rows[18], rows[19],
        rows[20], rows[21], history,
    )  # fmt: skip


def track_size(n: int, window: int) -> int:
    """Numbers that the state of `n` joints needs, smoothed over `window` ticks."""
    return _SCALARS + (_ROWS + window) * n


@njit(cache=True, nogil=True, error_model="numpy")
def stopping_speed(distance: float, step: float) -> float:
    """Largest speed, in units of A·dt, to stop within `distance`; `step` = A·dt² is the unit of distance.

    Moving x now and then x - 1, x - 2, … covers x·(n + 1) - n·(n + 1)/2 with n = floor(x); solved for x.
    """
    d = distance / step
    if d <= 0.0:
        return 0.0
    n = math.floor((math.sqrt(1.0 + 8.0 * d) - 1.0) / 2.0)
    return (d + n * (n + 1) / 2.0) / (n + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def stopping_distance(speed: float, unit: float, dt: float) -> float:
    """Signed way to rest from `speed` when braking by `unit` = A·dt a tick, beginning with the next tick."""
    x = abs(speed) / unit
    n = math.floor(x)
    way = (x * n - n * (n + 1) / 2.0) * unit * dt
    return way if speed > 0 else -way


@njit(cache=True, nogil=True, error_model="numpy")
def slower(v: float, unit: float) -> float:
    """The velocity after a tick of braking."""
    return max(v - unit, 0.0) if v > 0 else min(v + unit, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def follow(t: Track) -> int:
    """Velocities that bring the joints to `target`, which moves at `feed`, within the limits; writes `tried`."""
    dt = t.scalars[DT]
    flags = 0
    for i in range(t.target.shape[0]):
        unit = t.acceleration[i] * dt
        step = unit * dt
        p = t.p[i]
        v = t.v[i]
        # The distance to go before the target's own motion of this tick, which `feed` covers.
        error = t.target[i] - t.feed[i] * dt - p
        speed = stopping_speed(abs(error), step) * unit
        wanted = t.feed[i] + (speed if error > 0 else -speed)
        if abs(wanted) > t.velocity[i]:
            wanted = math.copysign(t.velocity[i], wanted)
            flags |= VELOCITY
        top = stopping_speed(t.upper[i] - p, step) * unit
        bottom = -stopping_speed(p - t.lower[i], step) * unit
        if wanted > top:
            wanted = top
            flags |= STOPPING
        elif wanted < bottom:
            wanted = bottom
            flags |= STOPPING
        if abs(wanted - v) > unit * (1 + 1e-9):
            wanted = v + math.copysign(unit, wanted - v)
            flags |= ACCELERATION
        t.tried[i] = wanted
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def follow_straight(t: Track) -> bool:
    """Velocities straight towards `target`, all joints in proportion; writes `tried`, False if there are none.

    Joints that each go as fast as they can leave the straight line, and with it the way that was checked.
    """
    dt = t.scalars[DT]
    low, high = 0.0, math.inf
    for i in range(t.target.shape[0]):
        unit = t.acceleration[i] * dt
        v = t.v[i]
        way = t.target[i] - t.p[i]
        if abs(way) < 1e-9:
            if abs(v) > unit:
                return False
            continue
        stop = stopping_speed(abs(way), unit * dt) * unit
        a, b = (v - unit) / way, (v + unit) / way
        low = max(low, min(a, b))
        high = min(high, max(a, b), stop / abs(way), t.velocity[i] / abs(way))
    if low > high or high == math.inf:
        return False
    for i in range(t.target.shape[0]):
        way = t.target[i] - t.p[i]
        t.tried[i] = high * way if abs(way) >= 1e-9 else 0.0
    return True
