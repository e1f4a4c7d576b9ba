"""The collision shapes of a robot's links, read from its URDF.

Boxes, cylinders and spheres are read; meshes are not. Links are numbered by the joints that move them, -1 is the
base; the shapes of rigidly attached links count for the link that carries them.
"""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.robot import Robot
from sim2real.urdf import rotation_from_rpy

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape carried by `link`. In the link's frame, m: the `half` extents (3,) of the smallest box around it,
    the box's `rotation` (3, 3) and `centre` (3,), and `corners` (k, 3) whose convex hull contains the shape."""

    link: int
    rotation: Array
    centre: Array
    half: Array
    corners: Array


def collision_shapes(robot: Robot) -> list[Shape]:
    """All shapes of `robot`, in the order of the URDF."""
    root = ElementTree.parse(robot.urdf).getroot()
    carried: dict[str, tuple[int, Array, Array]] = {
        name: (i, np.eye(3), np.zeros(3)) for i, name in enumerate(robot.model.link_names)
    }
    joints = {str(_end(joint, "child")): joint for joint in root.findall("joint")}

    def place(link: str) -> tuple[int, Array, Array]:
        if link in carried:
            return carried[link]
        joint = joints.get(link)
        if joint is None:
            return -1, np.eye(3), np.zeros(3)
        index, above, start = place(str(_end(joint, "parent")))
        rotation, origin = _frame(joint)
        return index, above @ rotation, above @ origin + start

    shapes = []
    for element in root.findall("link"):
        link, above, start = place(str(element.get("name")))
        for collision in element.findall("collision"):
            geometry = collision.find("geometry")
            found = None if geometry is None else _extent(geometry)
            if found is None:
                continue
            half, corners = found
            rotation, origin = _frame(collision)
            rotation, origin = above @ rotation, above @ origin + start
            shapes.append(Shape(link, rotation, origin, half, corners @ rotation.T + origin))
    return shapes


def _end(joint: ElementTree.Element, which: str) -> str | None:
    link = joint.find(which)
    return None if link is None else link.get("link")


def _frame(element: ElementTree.Element) -> tuple[Array, Array]:
    origin = element.find("origin")
    if origin is None:
        return np.eye(3), np.zeros(3)
    roll, pitch, yaw = (float(word) for word in (origin.get("rpy") or "0 0 0").split())
    xyz = np.array([float(word) for word in (origin.get("xyz") or "0 0 0").split()])
    return rotation_from_rpy(roll, pitch, yaw), xyz


def _extent(geometry: ElementTree.Element) -> tuple[Array, Array] | None:
    """Half extents (3,) and corners around the shape (a cylinder's circle as an octagon); None for meshes."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    box, cylinder, sphere = (geometry.find(kind) for kind in ("box", "cylinder", "sphere"))
    if box is not None:
        half = np.array([float(word) for word in str(box.get("size")).split()]) / 2
        return half, signs * half
    if cylinder is not None:
        radius, length = float(str(cylinder.get("radius"))), float(str(cylinder.get("length")))
        angles = (np.arange(8) + 0.5) * math.pi / 4
        ring = radius / math.cos(math.pi / 8) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners = np.vstack([np.hstack([ring, np.full((8, 1), z)]) for z in (-length / 2, length / 2)])
        return np.array([radius, radius, length / 2]), corners
    if sphere is not None:
        half = np.full(3, float(str(sphere.get("radius"))))
        return half, signs * half
    return None
