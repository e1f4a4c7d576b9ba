"""How far an arm's pose is from the table, from the end of its workspace, and from itself.

    outside = min(lowest guarded point - table_clearance, reach - |tool - base|, tool to the sides of the box)   (m)
    self_gap = least gap between two links beyond what they keep (`collision.py`)

Both are positive where the arm may be. The table is the base frame's z = 0; table_clearance, reach and box come from
the robot's `[gate]` table.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.gate.collision import pair_gap, self_gap
from sim2real.gate.geometry import BOX_HIGH, BOX_LOW, REACH, TABLE, Geometry
from sim2real.model.kinematics import link_poses_into

Array = NDArray[np.float64]

# What is nearest, where it is not a guarded point: the reach, or a side of the box.
_REACH, _SIDES = -1, -2
STEP = 1e-5
"""rad; for the slope of the distance between two links."""
TURNS = 16
"""Most steps of Newton's method."""
LARGEST = 0.1
"""rad; the largest step of a joint away from another link."""


@njit(cache=True, nogil=True, error_model="numpy")
def _point(g: Geometry, k: int, row: int) -> float:
    """A coordinate of guarded point `k` in the base frame."""
    p = g.points[k]
    link = int(p[0])
    r = g.rotations[link, row]
    return float(g.origins[link, row] + r[0] * p[1] + r[1] * p[2] + r[2] * p[3])


@njit(cache=True, nogil=True, error_model="numpy")
def outside(g: Geometry) -> tuple[float, int]:
    """Metres to the table's or the workspace's boundary, negative beyond, and what is nearest to it.

    For the links' poses that are in `g`.
    """
    least, which = math.inf, 0
    for k in range(len(g.points)):
        height = _point(g, k, 2)
        if height < least:
            least, which = height, k
    least -= g.settings[TABLE]
    last = len(g.points) - 1
    square = 0.0
    for row in range(3):
        value = _point(g, last, row)
        square += value * value
        for room, side in (
            (value - g.settings[BOX_LOW + row], 2 * row),
            (g.settings[BOX_HIGH + row] - value, 2 * row + 1),
        ):
            if room < least:
                least, which = room, _SIDES - side
    room = g.settings[REACH] - math.sqrt(square)
    if room < least:
        least, which = room, _REACH
    return least, which


@njit(cache=True, nogil=True, error_model="numpy")
def clearances(q: Array, g: Geometry, enough: float) -> tuple[float, float]:
    """`outside` and `self_gap` (as far as it is less than `enough`) of the joint vector `q` (n,)."""
    link_poses_into(g.chain, q, g.rotations, g.origins)
    return outside(g)[0], self_gap(g, enough)[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _slope(g: Geometry, which: int, j: int) -> float:
    """Change of `outside` with joint `j`, m/rad, for the poses in `g`."""
    k = which if which >= 0 else len(g.points) - 1
    p0, p1, p2 = _point(g, k, 0), _point(g, k, 1), _point(g, k, 2)
    n0, n1, n2 = 0.0, 0.0, 1.0
    if which == _REACH:
        length = -math.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
        n0, n1, n2 = p0 / length, p1 / length, p2 / length
    elif which < 0:
        side = _SIDES - which
        sign = 1.0 if side % 2 == 0 else -1.0
        n0 = sign if side // 2 == 0 else 0.0
        n1 = sign if side // 2 == 1 else 0.0
        n2 = sign if side // 2 == 2 else 0.0
    slope = 0.0
    link = int(g.points[k, 0])
    while link >= 0:
        c = g.chain[link]
        if int(c[17]) == j:
            r, o = g.rotations[link], g.origins[link]
            a0 = r[0, 0] * c[14] + r[0, 1] * c[15] + r[0, 2] * c[16]
            a1 = r[1, 0] * c[14] + r[1, 1] * c[15] + r[1, 2] * c[16]
            a2 = r[2, 0] * c[14] + r[2, 1] * c[15] + r[2, 2] * c[16]
            if c[1] != 0.0:
                slope += c[18] * (a0 * n0 + a1 * n1 + a2 * n2)
            else:
                r0, r1, r2 = p0 - o[0], p1 - o[1], p2 - o[2]
                slope += c[18] * (
                    (a1 * r2 - a2 * r1) * n0 + (a2 * r0 - a0 * r2) * n1 + (a0 * r1 - a1 * r0) * n2
                )
        link = int(c[0])
    return float(slope)


@njit(cache=True, nogil=True, error_model="numpy")
def push_out(q: Array, lower: Array, upper: Array, g: Geometry) -> float:
    """Move `q` (n,), in place, the shortest way to where it is clear, within the joint limits (Newton's method).

    Returns the clearance reached, m; it may stay negative where the limits, or a fold of the arm, bar the way.
    """
    n = q.shape[0]
    gradient = np.empty(n)
    distance = 0.0
    for turn in range(TURNS + 1):
        link_poses_into(g.chain, q, g.rotations, g.origins)
        distance, which = outside(g)
        gap, pair = self_gap(g, min(distance, 0.0))
        distance = min(distance, gap)
        if distance >= 0.0 or turn == TURNS:
            break
        for j in range(n):
            if pair < 0:
                gradient[j] = _slope(g, which, j)
                continue
            old = q[j]
            q[j] = old + STEP
            link_poses_into(g.chain, q, g.rotations, g.origins)
            gradient[j] = (pair_gap(g, pair, math.inf) - gap) / STEP
            q[j] = old
        square = 0.0
        for j in range(n):
            slope = gradient[j]
            if (slope > 0.0 and q[j] >= upper[j]) or (slope < 0.0 and q[j] <= lower[j]):
                gradient[j] = 0.0
            square += gradient[j] * gradient[j]
        if square < 1e-8:
            break
        # A little further than needed, so that rounding and curvature do not cost another step.
        gain = (1e-6 - distance) / square
        if pair >= 0:
            # The slope of the distance between boxes holds from one corner to the next only.
            gain = min(gain, LARGEST / np.max(np.abs(gradient)))
        for j in range(n):
            q[j] = min(max(q[j] + gain * gradient[j], lower[j]), upper[j])
    return distance
