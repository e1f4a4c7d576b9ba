"""Whether the arm can go on with a velocity: what braking from there would lead through.

A velocity is allowed when the tick it makes and all ticks of braking after it keep clear of the table, of the
workspace's end and of the arm itself, and need no more torque than the joints may give. So after every allowed tick
braking outright is allowed again, and that is what the gate falls back to.

Poses on the way are those of the ticks. Where the pose of rest is further from everything than anything can move
on the way there (`Geometry.lever`), the way needs no look.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.gate.braking import DT, FLOORS, PATH, Track, slower, stopping_distance
from sim2real.gate.clearance import outside
from sim2real.gate.collision import known_gap
from sim2real.gate.geometry import TORQUE_CAPPED, Geometry
from sim2real.model.dynamics import GRAVITY, inverse_dynamics_into
from sim2real.model.kinematics import link_poses_into

Array = NDArray[np.float64]

WORKSPACE: Final = 64
COLLISION: Final = 256
TORQUE: Final = 512

_LEAST = 1e-9
"""m, share: what rounding may do."""


@njit(cache=True, nogil=True, error_model="numpy")
def spare_torque(speed: Array, change: Array, g: Geometry) -> float:
    """Least share of its torque that a joint has left, for the links' poses in `g`; below 0 where one has too little.

    By the arm's rigid-body model with the payload that is allowed for and the servos' armature, without friction.
    """
    inverse_dynamics_into(
        g.chain, g.inertials, speed, change, GRAVITY, g.rotations, g.origins, g.work, g.needed
    )
    least = 1.0
    for j in range(len(speed)):
        least = min(least, 1.0 - abs(g.needed[j] + g.armature[j] * change[j]) / g.torque[j])
    return least


@njit(cache=True, nogil=True, error_model="numpy")
def _look(way: float, t: Track, g: Geometry) -> tuple[int, float]:
    """What bars the links' poses in `g`, 0 for nothing, and the least distance from it, m, exact up to `way`."""
    s = t.scalars
    room = outside(g)[0]
    s[PATH] = min(s[PATH], room)
    if room < s[FLOORS]:
        return WORKSPACE, 0.0
    gap = known_gap(t.pose, g, max(min(room, way) + _LEAST, 0.0), 0)
    s[PATH + 1] = min(s[PATH + 1], gap)
    if gap < s[FLOORS + 1]:
        return COLLISION, 0.0
    return 0, min(room, gap)


@njit(cache=True, nogil=True, error_model="numpy")
def barred(t: Track, g: Geometry) -> int:
    """Why the arm cannot go on with the velocities `tried`: one of the above, 0 if it can.

    Writes the least of all margins met to the scalars from PATH on; complete where a floor is below 0.
    """
    s = t.scalars
    dt = s[DT]
    n = len(t.p)
    for k in range(3):
        s[PATH + k] = np.inf
    resting = True
    way = 0.0
    for i in range(n):
        resting = resting and t.tried[i] == 0.0 and t.v[i] == 0.0
        rest = stopping_distance(t.tried[i], t.acceleration[i] * dt, dt)
        t.pose[i] = t.p[i] + t.tried[i] * dt + rest
        way += g.lever[i] * abs(rest)
    if resting:
        # What is at rest may stay.
        return 0
    link_poses_into(g.chain, t.pose, g.rotations, g.origins)
    why, spare = _look(way, t, g)
    if why:
        return why
    capped = g.settings[TORQUE_CAPPED] != 0.0
    coming_in = s[FLOORS] < 0.0 or s[FLOORS + 1] < 0.0
    clear = spare > way and not coming_in
    if clear and not capped:
        return 0
    # From here on, tick by tick: `pose` and `speed` at its beginning, `change` the acceleration in it.
    for i in range(n):
        t.pose[i], t.speed[i] = t.p[i], t.v[i]
        t.change[i] = (t.tried[i] - t.v[i]) / dt
    if capped:
        link_poses_into(g.chain, t.pose, g.rotations, g.origins)
    first = True
    while True:
        if capped:
            s[PATH + 2] = min(s[PATH + 2], spare_torque(t.speed, t.change, g))
            if s[PATH + 2] < s[FLOORS + 2] - _LEAST:
                return TORQUE
        if resting or (clear and not capped):
            return 0
        resting = True
        way = 0.0
        for i in range(n):
            unit = t.acceleration[i] * dt
            t.speed[i] = t.tried[i] if first else slower(t.speed[i], unit)
            t.pose[i] += t.speed[i] * dt
            t.change[i] = (slower(t.speed[i], unit) - t.speed[i]) / dt
            resting = resting and t.speed[i] == 0.0
            way += g.lever[i] * abs(stopping_distance(t.speed[i], unit, dt))
        first = False
        if capped or not clear:
            link_poses_into(g.chain, t.pose, g.rotations, g.origins)
        if not clear and not resting:
            why, spare = _look(way, t, g)
            if why:
                return why
            clear = spare > way and not coming_in
