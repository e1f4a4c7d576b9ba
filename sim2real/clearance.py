"""How far an arm's pose is from the table and from the end of its workspace.

The guarded points of an arm are the corners of its collision shapes (URDF boxes, cylinders, spheres), reduced
to the convex hull of each link, plus the tool. Shapes that no joint can raise or lower are left out. For links
with other shapes (meshes) the origins of their joints stand in.

    clearance = min(lowest guarded point - table_clearance, reach - |tool - base|)        in metres

The table is the base frame's z = 0; both settings come from the robot's `[gate]` table.
"""

import math
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim2real.kinematics import link_poses_into
from sim2real.robot import Robot
from sim2real.urdf import ArmModel, rotation_from_rpy

Array = NDArray[np.float64]


class Geometry(NamedTuple):
    """What the compiled functions need. Links are numbered by their joints."""

    chain: Array
    """(n, 17) the arm's tree, see `urdf.ArmModel`."""
    links: NDArray[np.int64]
    """(K,) the link of each guarded point, in ascending order; the last point is the tool's."""
    points: Array
    """(K, 3) m, in the link's frame."""
    ancestors: NDArray[np.bool_]
    """(n, n) whether joint j moves link i."""
    settings: Array
    """(2,) m: distance kept from the table, reach of the tool around the base."""
    rotations: Array
    origins: Array
    """(n, 3, 3), (n, 3): room for the link poses, so that nothing is allocated."""


@njit(cache=True, nogil=True, error_model="numpy")
def _closest(q: Array, geometry: Geometry) -> tuple[float, int]:
    """Clearance and the point that has it; -1 for the tool's reach."""
    link_poses_into(geometry.chain, q, geometry.rotations, geometry.origins)
    least = math.inf
    which = 0
    for k in range(len(geometry.links)):
        link = geometry.links[k]
        height = geometry.origins[link, 2]
        for c in range(3):
            height += geometry.rotations[link, 2, c] * geometry.points[k, c]
        if height < least:
            least = height
            which = k
    least -= geometry.settings[0]
    last = len(geometry.links) - 1
    link = geometry.links[last]
    square = 0.0
    for r in range(3):
        value = geometry.origins[link, r]
        for c in range(3):
            value += geometry.rotations[link, r, c] * geometry.points[last, c]
        square += value * value
    room = geometry.settings[1] - math.sqrt(square)
    if room < least:
        return room, -1
    return least, which


@njit(cache=True, nogil=True, error_model="numpy")
def clearance(q: Array, geometry: Geometry) -> float:
    """Metres from the joint vector `q` (n,) to the boundary; negative outside."""
    return _closest(q, geometry)[0]


@njit(cache=True, nogil=True, error_model="numpy")
def push_out(q: Array, lower: Array, upper: Array, geometry: Geometry) -> float:
    """Move `q` (n,), in place, the shortest way to clearance >= 0 within the joint limits (Newton's method).

    Returns the clearance reached; it may stay negative where the limits bar the way.
    """
    n = q.shape[0]
    gradient = np.empty(n)
    point = np.empty(3)
    normal = np.empty(3)
    distance, which = _closest(q, geometry)
    for _ in range(12):
        if distance >= 0.0:
            break
        k = which if which >= 0 else len(geometry.links) - 1
        link = geometry.links[k]
        for r in range(3):
            point[r] = geometry.origins[link, r]
            for c in range(3):
                point[r] += geometry.rotations[link, r, c] * geometry.points[k, c]
        if which >= 0:
            normal[0], normal[1], normal[2] = 0.0, 0.0, 1.0
        else:
            length = math.sqrt(point[0] ** 2 + point[1] ** 2 + point[2] ** 2)
            for r in range(3):
                normal[r] = -point[r] / length
        square = 0.0
        for j in range(n):
            gradient[j] = 0.0
            if not geometry.ancestors[link, j]:
                continue
            rotation, origin = geometry.rotations[j], geometry.origins[j]
            x, y, z = geometry.chain[j, 14], geometry.chain[j, 15], geometry.chain[j, 16]
            a0 = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
            a1 = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
            a2 = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
            if geometry.chain[j, 1] != 0.0:
                slope = a0 * normal[0] + a1 * normal[1] + a2 * normal[2]
            else:
                r0, r1, r2 = point[0] - origin[0], point[1] - origin[1], point[2] - origin[2]
                slope = (
                    (a1 * r2 - a2 * r1) * normal[0]
                    + (a2 * r0 - a0 * r2) * normal[1]
                    + (a0 * r1 - a1 * r0) * normal[2]
                )
            if (slope > 0.0 and q[j] >= upper[j]) or (slope < 0.0 and q[j] <= lower[j]):
                continue
            gradient[j] = slope
            square += slope * slope
        if square < 1e-8:
            break
        # A little further than needed, so that rounding and curvature do not cost another step.
        gain = (1e-6 - distance) / square
        for j in range(n):
            q[j] = min(max(q[j] + gain * gradient[j], lower[j]), upper[j])
        distance, which = _closest(q, geometry)
    return distance


def guarded_geometry(robot: Robot) -> Geometry:
    """The guarded points of a robot, from its URDF."""
    model = robot.model
    n = model.n
    ancestors = np.array([[model.descendants(j)[i] for j in range(n)] for i in range(n)], dtype=np.bool_)
    shapes = _collision_points(robot)
    links: list[int] = []
    points: list[Array] = []
    for i in range(n):
        if not _can_change_height(model, ancestors[i]):
            continue
        found = shapes.get(i)
        hull = np.zeros((1, 3)) if found is None else _hull(found)
        links += [i] * len(hull)
        points += list(hull)
    tool = model.tool
    links.append(int(tool[0]))
    points.append(tool[10:13])
    return Geometry(
        chain=np.array(model.chain),
        links=np.array(links, dtype=np.int64),
        points=np.array(points, dtype=np.float64),
        ancestors=ancestors,
        settings=np.array([robot.gate.table_clearance, robot.gate.reach]),
        rotations=np.zeros((n, 3, 3)),
        origins=np.zeros((n, 3)),
    )


def _can_change_height(model: ArmModel, ancestors: NDArray[np.bool_]) -> bool:
    """Whether a joint that is not a vertical axis carries the link (axes at the zero pose)."""
    rotation = [np.eye(3)] * model.n
    for i in range(model.n):
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


def _collision_points(robot: Robot) -> dict[int, Array]:
    """Corners of the collision shapes by the joint that carries them, in that link's frame."""
    root = ElementTree.parse(robot.urdf).getroot()
    model = robot.model
    carried: dict[str, tuple[int, Array, Array]] = {
        name: (i, np.eye(3), np.zeros(3)) for i, name in enumerate(model.link_names)
    }
    joints = {str(_child(joint)): joint for joint in root.findall("joint")}

    def place(link: str) -> tuple[int, Array, Array] | None:
        if link in carried:
            return carried[link]
        joint = joints.get(link)
        parent = None if joint is None else place(str(joint.find("parent").get("link")))  # type: ignore[union-attr]
        if joint is None or parent is None:
            return None
        rotation, origin = _frame(joint)
        return parent[0], parent[1] @ rotation, parent[1] @ origin + parent[2]

    found: dict[int, list[Array]] = {}
    for element in root.findall("link"):
        where = place(str(element.get("name")))
        if where is None:
            continue
        for collision in element.findall("collision"):
            geometry = collision.find("geometry")
            corners = None if geometry is None else _corners(geometry)
            if corners is not None:
                rotation, origin = _frame(collision)
                local = corners @ rotation.T + origin
                found.setdefault(where[0], []).append(local @ where[1].T + where[2])
    return {link: np.vstack(parts) for link, parts in found.items()}


def _child(joint: ElementTree.Element) -> str | None:
    child = joint.find("child")
    return None if child is None else child.get("link")


def _frame(element: ElementTree.Element) -> tuple[Array, Array]:
    origin = element.find("origin")
    if origin is None:
        return np.eye(3), np.zeros(3)
    roll, pitch, yaw = (float(word) for word in (origin.get("rpy") or "0 0 0").split())
    xyz = np.array([float(word) for word in (origin.get("xyz") or "0 0 0").split()])
    return rotation_from_rpy(roll, pitch, yaw), xyz


def _corners(geometry: ElementTree.Element) -> Array | None:
    """Points whose hull contains the shape (a cylinder's circle as an octagon around it); None for meshes."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    box, cylinder, sphere = (geometry.find(kind) for kind in ("box", "cylinder", "sphere"))
    if box is not None:
        size = np.array([float(word) for word in str(box.get("size")).split()])
        return signs * size / 2
    if cylinder is not None:
        radius, length = float(str(cylinder.get("radius"))), float(str(cylinder.get("length")))
        angles = (np.arange(8) + 0.5) * math.pi / 4
        ring = radius / math.cos(math.pi / 8) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return np.vstack([np.hstack([ring, np.full((8, 1), z)]) for z in (-length / 2, length / 2)])
    if sphere is not None:
        return signs * float(str(sphere.get("radius")))
    return None
