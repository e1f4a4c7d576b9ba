"""How far the links of an arm are from each other.

Each collision shape of the URDF counts as the smallest box around it. Two boxes are at least as far apart as along
any direction, and the separating-axis test looks along fifteen of them: the normals of both boxes' faces and the
products of their edges (S. Gottschalk, M. C. Lin, D. Manocha, "OBBTree", SIGGRAPH 1996, section 5). The largest
gap found is at most the distance; where boxes overlap it is minus the depth. Spheres around links and boxes spare
most pairs the test.

Links that a joint connects are left out, and so are links whose shapes overlap at home. Of the others each pair
keeps `self_clearance` of the `[gate]` table, or what the robot's own home and rest poses leave it, less SLACK: boxes
are coarser than links, and an arm that folds up to rest is not in collision with itself.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.gate.geometry import KNOWN, Geometry, views
from sim2real.model.kinematics import link_poses_into
from sim2real.robot import Robot

Array = NDArray[np.float64]

SLACK = 1e-3
"""m that a pair may come nearer than in the robot's own poses."""
AHEAD = 0.05
"""m; up to here the gap between links is looked at, so that it can be remembered."""


@njit(cache=True, nogil=True, error_model="numpy")
def _place(box: Array, rotations: Array, origins: Array, out: Array) -> None:
    """Rotation (9, row by row) and centre (3) of a box in the base frame."""
    link = int(box[0])
    r, o = rotations[link], origins[link]
    for row in range(3):
        for column in range(3):
            out[3 * row + column] = (
                r[row, 0] * box[1 + column] + r[row, 1] * box[4 + column] + r[row, 2] * box[7 + column]
            )
        out[9 + row] = r[row, 0] * box[10] + r[row, 1] * box[11] + r[row, 2] * box[12] + o[row]


@njit(cache=True, nogil=True, error_model="numpy")
def boxes_gap(a: Array, half_a: Array, b: Array, half_b: Array, enough: float) -> float:
    """Largest gap, m, between two boxes along the fifteen directions; any gap beyond `enough` ends the search.

    `a`, `b`: (12,) rotation (row by row) and centre; `half_a`, `half_b`: (3,) half extents.
    """
    d0, d1, d2 = b[9] - a[9], b[10] - a[10], b[11] - a[11]
    least = -math.inf
    # Normals of a's faces: columns of its rotation.
    for i in range(3):
        x, y, z = a[i], a[3 + i], a[6 + i]
        reach = 0.0
        for j in range(3):
            reach += half_b[j] * abs(x * b[j] + y * b[3 + j] + z * b[6 + j])
        gap = abs(x * d0 + y * d1 + z * d2) - half_a[i] - reach
        if gap > least:
            least = gap
            if gap > enough:
                return gap
    for j in range(3):
        x, y, z = b[j], b[3 + j], b[6 + j]
        reach = 0.0
        for i in range(3):
            reach += half_a[i] * abs(x * a[i] + y * a[3 + i] + z * a[6 + i])
        gap = abs(x * d0 + y * d1 + z * d2) - half_b[j] - reach
        if gap > least:
            least = gap
            if gap > enough:
                return gap
    for i in range(3):
        p, q, r = a[i], a[3 + i], a[6 + i]
        for j in range(3):
            s, t, u = b[j], b[3 + j], b[6 + j]
            x, y, z = q * u - r * t, r * s - p * u, p * t - q * s
            square = x * x + y * y + z * z
            if square < 1e-6:
                # Parallel edges: a face's normal says as much.
                continue
            reach = 0.0
            for k in range(3):
                reach += half_a[k] * abs(x * a[k] + y * a[3 + k] + z * a[6 + k])
                reach += half_b[k] * abs(x * b[k] + y * b[3 + k] + z * b[6 + k])
            gap = (abs(x * d0 + y * d1 + z * d2) - reach) / math.sqrt(square)
            if gap > least:
                least = gap
                if gap > enough:
                    return gap
    return least


@njit(cache=True, nogil=True, error_model="numpy")
def pair_gap(g: Geometry, pair: int, enough: float) -> float:
    """Least gap, m, between the links of a pair, less what they keep; `enough` where it is larger.

    For the links' poses that are in `g`.
    """
    keep = g.pairs[pair, 2]
    least = enough
    first, second = g.groups[int(g.pairs[pair, 0])], g.groups[int(g.pairs[pair, 1])]
    begin = int(second[5])
    end = begin + int(second[6])
    for k in range(begin, end):
        _place(g.boxes[k], g.rotations, g.origins, g.placed[k])
    for i in range(int(first[5]), int(first[5]) + int(first[6])):
        _place(g.boxes[i], g.rotations, g.origins, g.placed[i])
        a = g.placed[i]
        for k in range(begin, end):
            b = g.placed[k]
            x, y, z = b[9] - a[9], b[10] - a[10], b[11] - a[11]
            room = g.boxes[i, 16] + g.boxes[k, 16] + keep + least
            if room <= 0.0 or x * x + y * y + z * z >= room * room:
                continue
            gap = boxes_gap(a, g.boxes[i, 13:16], b, g.boxes[k, 13:16], least + keep) - keep
            least = min(least, gap)
    return least


@njit(cache=True, nogil=True, error_model="numpy")
def self_gap(g: Geometry, enough: float) -> tuple[float, int]:
    """Least gap, m, beyond what is kept between any two links, and its pair; (`enough`, -1) where it is larger.

    For the links' poses that are in `g`.
    """
    for k in range(len(g.groups)):
        link = int(g.groups[k, 0])
        r, o, c = g.rotations[link], g.origins[link], g.groups[k]
        for row in range(3):
            g.centres[k, row] = r[row, 0] * c[1] + r[row, 1] * c[2] + r[row, 2] * c[3] + o[row]
    least, which = enough, -1
    for pair in range(len(g.pairs)):
        i, k = int(g.pairs[pair, 0]), int(g.pairs[pair, 1])
        a, b = g.centres[i], g.centres[k]
        x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        room = g.groups[i, 4] + g.groups[k, 4] + g.pairs[pair, 2] + least
        if room <= 0.0 or x * x + y * y + z * z >= room * room:
            continue
        gap = pair_gap(g, pair, least)
        if gap < least:
            least, which = gap, pair
    return least, which


@njit(cache=True, nogil=True, error_model="numpy")
def known_gap(q: Array, g: Geometry, enough: float, memory: int) -> float:
    """`self_gap` for the joint vector `q` (n,), whose poses are in `g`, from memory where that is sure.

    Nothing comes nearer to anything than all joints' ways times their levers since the gap was last looked at.
    `memory` is 0 or 1, the place to remember it at: one for each series of poses that lie together.
    """
    known = g.settings[KNOWN + memory]
    for j in range(len(q)):
        known -= g.lever[j] * abs(q[j] - g.remembered[memory, j])
    if known > enough:
        return enough
    gap = self_gap(g, max(enough, AHEAD))[0]
    g.settings[KNOWN + memory] = gap
    for j in range(len(q)):
        g.remembered[memory, j] = q[j]
    return min(gap, enough)


@njit(cache=True, nogil=True, error_model="numpy")
def forget(g: Geometry) -> None:
    """Remember nothing: what follows is the same whatever went before."""
    g.settings[KNOWN] = g.settings[KNOWN + 1] = -math.inf


def keep_apart(buffer: Array, robot: Robot) -> None:
    """Decide what each pair in the buffer keeps, see the module docstring."""
    g: Geometry = views(buffer)
    for pair in range(len(g.pairs)):
        g.pairs[pair, 2] = 0.0
        gaps = []
        for pose in (robot.home, robot.rest):
            link_poses_into(g.chain, np.array(pose), g.rotations, g.origins)
            gaps.append(pair_gap(g, pair, math.inf))
        g.pairs[pair, 2] = -math.inf if gaps[0] < 0.0 else min(robot.gate.self_clearance, min(gaps) - SLACK)
