"""The collision shapes of a robot's links, read from its URDF.

Boxes, cylinders, capsules and spheres are read; meshes are not. Links are numbered as in `ArmModel`, -1 is the base;
the shapes of rigidly attached links count for the link that carries them.
"""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.robot import Robot
from sim2real.urdf_file import UrdfFile

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CollisionShape:
    """A shape carried by `link`. In the link's frame, m: the `half` extents (3,) of the smallest box around it,
    the box's `rotation` (3, 3) and `centre` (3,), and `corners` (k, 3) whose convex hull contains the shape."""

    link: int
    rotation: Array
    centre: Array
    half: Array
    corners: Array


def collision_shapes(robot: Robot) -> list[CollisionShape]:
    """All shapes of `robot`, in the order of the URDF."""
    file = UrdfFile(robot.urdf)
    shapes = []
    for element in file.root.findall("link"):
        name = str(element.get("name"))
        link, above, start = robot.model.places[name]
        for collision in element.findall("collision"):
            what = f"the collision shape of link '{name}'"
            geometry = collision.find("geometry")
            found = None if geometry is None else _extent(file, geometry, what)
            if found is None:
                continue
            half, corners = found
            rotation, origin = file.frame(collision, what)
            rotation, origin = above @ rotation, above @ origin + start
            shapes.append(CollisionShape(link, rotation, origin, half, corners @ rotation.T + origin))
    return shapes


def _extent(file: UrdfFile, geometry: ElementTree.Element, what: str) -> tuple[Array, Array] | None:
    """Half extents (3,) and corners around the shape (a cylinder's circle as an octagon); None for meshes."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    box, cylinder, sphere, capsule = (
        geometry.find(kind) for kind in ("box", "cylinder", "sphere", "capsule")
    )
    if box is not None:
        half = file.vector(box.get("size"), f"the size of {what}", "") / 2
        return half, signs * half
    if sphere is not None:
        half = np.full(3, file.number(sphere, "radius", what))
        return half, signs * half
    if cylinder is None and capsule is None:
        return None
    round_one = cylinder if cylinder is not None else capsule
    radius, length = (file.number(round_one, key, what) for key in ("radius", "length"))
    if capsule is not None:
        # A capsule's length is that of its cylinder; the half spheres come on top.
        length += 2 * radius
    angles = (np.arange(8) + 0.5) * math.pi / 4
    ring = radius / math.cos(math.pi / 8) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = np.vstack([np.hstack([ring, np.full((8, 1), z)]) for z in (-length / 2, length / 2)])
    return np.array([radius, radius, length / 2]), corners
