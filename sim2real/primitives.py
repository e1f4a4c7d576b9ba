"""The shapes that objects are made of: boxes, cylinders and spheres. Lengths in m, angles in rad."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Primitive:
    """One primitive that an object is made of, in the object's frame, turned by `yaw` rad about z.

    `size`, m: a box's edges along x, y and z; a cylinder's radius and length along z; a sphere's radius.
    """

    form: Literal["box", "cylinder", "sphere"]
    size: tuple[float, ...]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    @property
    def volume(self) -> float:
        """m³"""
        if self.form == "box":
            return self.size[0] * self.size[1] * self.size[2]
        if self.form == "cylinder":
            return math.pi * self.size[0] ** 2 * self.size[1]
        return 4 / 3 * math.pi * self.size[0] ** 3

    @property
    def extent(self) -> tuple[float, float, float]:
        """Edges of the box around it, in its own frame, m."""
        if self.form == "box":
            return self.size[0], self.size[1], self.size[2]
        if self.form == "cylinder":
            return 2 * self.size[0], 2 * self.size[0], self.size[1]
        return (2 * self.size[0],) * 3

    def inertia(self, mass: float) -> tuple[float, float, float]:
        """Principal moments about its own centre and axes, kg·m²."""
        if self.form == "box":
            x, y, z = self.size
            return mass * (y * y + z * z) / 12, mass * (x * x + z * z) / 12, mass * (x * x + y * y) / 12
        if self.form == "cylinder":
            r, length = self.size
            across = mass * (3 * r * r + length * length) / 12
            return across, across, mass * r * r / 2
        return (0.4 * mass * self.size[0] ** 2,) * 3

    def corners(self) -> Array:
        """(k, 3) points whose convex hull is the shape (round ones: a good approximation), object's frame."""
        if self.form == "box":
            signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            points = signs * np.array(self.size) / 2
        else:
            turn = np.linspace(0.0, 2 * math.pi, 24, endpoint=False)
            ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1) * self.size[0]
            if self.form == "cylinder":
                end = np.array([0.0, 0.0, self.size[1] / 2])
                points = np.concatenate([ring - end, ring + end])
            else:
                up = np.linspace(-math.pi / 2, math.pi / 2, 9)
                points = np.concatenate(
                    [ring * (math.cos(a), math.cos(a), 1) + (0, 0, self.size[0] * math.sin(a)) for a in up]
                )
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        turned = points @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(turned + np.array(self.position))
