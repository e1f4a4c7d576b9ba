"""What the gate's compiled checks know of an arm, in one buffer of numbers.

One buffer, because a compiled call costs about 0.1 µs per array that is handed to it. `guarded_geometry` makes it,
`views` names its parts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.gate.shapes import CollisionShape, collision_shapes
from sim2real.model.dynamics import INVERSE_COLUMNS, add_point_mass
from sim2real.model.servo import ARMATURE, nominal_parameters
from sim2real.robot import Robot
from sim2real.urdf import CHAIN_COLUMNS, INERTIAL_COLUMNS, ArmModel

Array = NDArray[np.float64]

TABLE, REACH, BOX_LOW, BOX_HIGH, TORQUE_CAPPED, KNOWN = 0, 1, 2, 5, 8, 9
"""Entries of the settings: m kept above the table, m of reach, the tool's box (3 + 3), whether a torque is capped,
least gap between links at the two poses that are remembered."""
SETTINGS = 11
BOX_COLUMNS = 17
GROUP_COLUMNS = 7
_HEADER = 6


class Geometry(NamedTuple):
    """Parts of the buffer. n joints move L links; link -1, the last row of the poses, is the base."""

    settings: Array
    """(SETTINGS,)"""
    chain: Array
    """(L, 20) the arm's tree, see `urdf.ArmModel`."""
    inertials: Array
    """(L, 10) with the payload that is allowed for, see `urdf.ArmModel`."""
    armature: Array
    """(n,) kg·m², at the joints."""
    torque: Array
    """(n,) N·m, the largest torques; infinite for none."""
    lever: Array
    """(n,) m: no guarded thing that joint j moves is ever further from its axis."""
    points: Array
    """(K, 4): link, place in the link's frame (m); the last point is the tool's."""
    boxes: Array
    """(B, 17): link, rotation (9), centre (3) and half extents (3) in the link's frame, radius of the sphere around."""
    groups: Array
    """(G, 7), the boxes of a link: link, centre (3) and radius of a sphere around them, first box, number."""
    pairs: Array
    """(P, 3), links that must not meet: two groups, and the distance that is kept (m)."""
    rotations: Array
    origins: Array
    """(L + 1, 3, 3), (L + 1, 3): room for the links' poses."""
    placed: Array
    """(B, 12): room for the boxes' rotations and centres in the base frame."""
    centres: Array
    """(G, 3): room for the groups' centres in the base frame."""
    work: Array
    """(L, INVERSE_COLUMNS): room for the inverse dynamics."""
    needed: Array
    """(n,): room for the torques."""
    remembered: Array
    """(2, n): poses at which the gap between links is known, see `collision.known_gap`."""


@njit(cache=True, nogil=True, error_model="numpy")
def views(buffer: Array) -> Geometry:
    n, k = int(buffer[0]), int(buffer[1])
    b, g, p, links = int(buffer[2]), int(buffer[3]), int(buffer[4]), int(buffer[5])
    at = _HEADER
    settings = buffer[at : at + SETTINGS]
    at += SETTINGS
    chain = buffer[at : at + links * CHAIN_COLUMNS].reshape(links, CHAIN_COLUMNS)
    at += links * CHAIN_COLUMNS
    inertials = buffer[at : at + links * INERTIAL_COLUMNS].reshape(links, INERTIAL_COLUMNS)
    at += links * INERTIAL_COLUMNS
    vectors = buffer[at : at + 6 * n].reshape(6, n)
    at += 6 * n
    points = buffer[at : at + 4 * k].reshape(k, 4)
    at += 4 * k
    boxes = buffer[at : at + b * BOX_COLUMNS].reshape(b, BOX_COLUMNS)
    at += b * BOX_COLUMNS
    groups = buffer[at : at + g * GROUP_COLUMNS].reshape(g, GROUP_COLUMNS)
    at += g * GROUP_COLUMNS
    pairs = buffer[at : at + 3 * p].reshape(p, 3)
    at += 3 * p
    rotations = buffer[at : at + 9 * (links + 1)].reshape(links + 1, 3, 3)
    at += 9 * (links + 1)
    origins = buffer[at : at + 3 * (links + 1)].reshape(links + 1, 3)
    at += 3 * (links + 1)
    placed = buffer[at : at + 12 * b].reshape(b, 12)
    at += 12 * b
    centres = buffer[at : at + 3 * g].reshape(g, 3)
    at += 3 * g
    work = buffer[at : at + links * INVERSE_COLUMNS].reshape(links, INVERSE_COLUMNS)
    return Geometry(
        settings, chain, inertials, vectors[0], vectors[1], vectors[2], points, boxes, groups, pairs,
        rotations, origins, placed, centres, work, vectors[3], vectors[4:6],
    )  # fmt: skip


def _size(n: int, k: int, b: int, g: int, p: int, links: int) -> int:
    per_link = CHAIN_COLUMNS + INERTIAL_COLUMNS + INVERSE_COLUMNS
    return (
        _HEADER
        + SETTINGS
        + 6 * n
        + links * per_link
        + 4 * k
        + b * (BOX_COLUMNS + 12)
        + g * (GROUP_COLUMNS + 3)
        + 3 * p
        + 12 * (links + 1)
    )


def guarded_geometry(robot: Robot) -> Array:
    """The buffer for a robot, from its URDF and its `[gate]` table.

    Guarded against the table are the corners of the moving links' collision shapes, reduced to the convex hull of
    each link, plus the tool; shapes that no joint can raise or lower are left out. For links with other shapes
    (meshes) the origins of their joints stand in. Guarded against each other are the boxes around the shapes, see
    `collision.py`.
    """
    model, settings = robot.model, robot.gate
    n, links = model.n, model.links
    ancestors = np.stack([model.descendants(j) for j in range(links)], axis=1)
    shapes = collision_shapes(robot)
    points = _points(model, ancestors, shapes)
    groups = {link: [s for s in shapes if s.link == link] for link in sorted({s.link for s in shapes})}
    pairs = _candidates(model, list(groups))
    sizes = n, len(points), len(shapes), len(groups), len(pairs), links
    buffer = np.zeros(_size(*sizes))
    buffer[:_HEADER] = sizes
    g: Geometry = views(buffer)
    box = np.array([[-np.inf] * 3, [np.inf] * 3] if settings.box is None else settings.box)
    caps = robot.torque_limits
    g.settings[:] = [
        settings.table_clearance,
        settings.reach,
        *box.ravel(),
        float(np.isfinite(caps).any()),
        -np.inf,
        -np.inf,
    ]
    g.chain[:], g.inertials[:] = model.chain, model.inertials
    add_point_mass(g.inertials, int(model.tool[0]), settings.payload, np.array(model.tool[10:13]))
    g.armature[:], g.torque[:] = nominal_parameters(robot)[:, ARMATURE], caps
    g.points[:] = points
    at = 0
    for row, (link, members) in enumerate(groups.items()):
        corners = np.vstack([s.corners for s in members])
        centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
        radius = max(float(np.linalg.norm(s.centre - centre) + np.linalg.norm(s.half)) for s in members)
        g.groups[row] = [link, *centre, radius, at, len(members)]
        for s in members:
            g.boxes[at] = [link, *s.rotation.ravel(), *s.centre, *s.half, np.linalg.norm(s.half)]
            at += 1
    order = list(groups)
    g.pairs[:, :2] = [[order.index(a), order.index(b)] for a, b in pairs] if pairs else np.zeros((0, 2))
    g.lever[:] = _levers(model, ancestors, g)
    g.rotations[links] = np.eye(3)
    return buffer


def _points(model: ArmModel, ancestors: NDArray[np.bool_], shapes: list[CollisionShape]) -> Array:
    rows = []
    for i in range(model.links):
        if not _can_change_height(model, ancestors[i]):
            continue
        corners = [s.corners for s in shapes if s.link == i]
        rows += [[i, *point] for point in (_hull(np.vstack(corners)) if corners else np.zeros((1, 3)))]
    rows.append([model.tool[0], *model.tool[10:13]])
    return np.array(rows, dtype=np.float64)


def _can_change_height(model: ArmModel, ancestors: NDArray[np.bool_]) -> bool:
    """Whether a joint that is not a vertical axis carries the link (axes at the zero pose)."""
    rotation = [np.eye(3)] * model.links
    for i in range(model.links):
        parent = np.eye(3) if model.parents[i] < 0 else rotation[model.parents[i]]
        rotation[i] = parent @ model.rotations[i]
        vertical = abs((rotation[i] @ model.axes[i])[2]) > 1 - 1e-3
        if ancestors[i] and (model.prismatic[i] or not vertical):
            return True
    return False


def _hull(points: Array) -> Array:
    """The corners of the convex hull; all points where there is no volume."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return points


def _candidates(model: ArmModel, links: list[int]) -> list[tuple[int, int]]:
    """Pairs of links with shapes, without those that a joint connects."""

    def connected(a: int, b: int) -> bool:
        return int(model.parents[b]) == a or (a >= 0 and int(model.parents[a]) == b)

    return [(a, b) for k, a in enumerate(links) for b in links[k + 1 :] if not connected(a, b)]


def _levers(model: ArmModel, ancestors: NDArray[np.bool_], g: Geometry) -> Array:
    """(n,) m: the way of the furthest guarded thing that each joint moves, per rad (or m) of that joint.

    Along the stretched chain. Links that follow a joint add their ways to it.
    """
    own = np.zeros(model.links)
    for link, *place in g.points.tolist():
        own[int(link)] = max(own[int(link)], float(np.linalg.norm(place)))
    for row in g.boxes:
        if row[0] >= 0:
            own[int(row[0])] = max(own[int(row[0])], float(np.linalg.norm(row[10:13]) + row[16]))
    ends = np.abs([model.link_positions(model.lower), model.link_positions(model.upper)])
    stroke = np.where(model.prismatic, ends.max(axis=0), 0.0)
    lever = np.zeros(model.links)
    for j in range(model.links):
        for i in range(model.links):
            if not ancestors[i, j]:
                continue
            length, k = own[i] + stroke[i], i
            while k != j:
                length += float(np.linalg.norm(model.origins[k]))
                k = int(model.parents[k])
                length += stroke[k]
            lever[j] = max(lever[j], length)
    # A link that slides moves everything by its own way.
    lever = np.where(model.prismatic, 1.0, lever)
    ways = np.zeros(model.n)
    np.add.at(ways, model.driver, np.abs(model.multiplier) * lever)
    return ways
