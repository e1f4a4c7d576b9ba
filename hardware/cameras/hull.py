"""Where an object of known shape stands when a spot of a picture is what it looks like.

For all kinds but cubes and zones: the outline is that of the points whose convex hull the object is, which is exact
for balls, blocks and cylinders, and close for what is open at the top. The place follows from the middles of spot
and outline, the angle from how well they cover each other.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.objects import ObjectSpec

Array = NDArray[np.float64]

ANGLES = 12
"""Angles that are tried within what the object's symmetry leaves; the best is halved towards four times."""
HALVINGS = 4
STEPS = 3
"""Corrections of the place."""
SHARED = 0.25
"""Spot and outline at some angle that share less of either are not looked at further."""


@dataclass(frozen=True)
class Hull:
    """x, y m and yaw rad of the object, how much of it the spot covers, and how much of the spot lies outside."""

    x: float
    y: float
    yaw: float
    visible: float
    outside: float


def fit_hull(
    mask: NDArray[np.uint8], corner: tuple[int, int], centre: Array, camera: CameraModel, spec: ObjectSpec
) -> Hull | None:
    """The object that the spot `mask` (h, w), whose window begins at pixel `corner`, is when it stands on the table.

    `centre` (2,) px is the spot's middle. None when the object would not be seen there.
    """
    points = np.concatenate([shape.corners() for shape in spec.shapes])
    points = points + np.array([0.0, 0.0, spec.rest])
    start = camera.on_plane(centre, spec.rest)
    if not np.isfinite(start).all():
        return None

    def at(yaw: float, place: Array, steps: int) -> Hull | None:
        return _at_angle(mask, corner, centre, camera, points, place, spec.rest, yaw, steps)

    best = at(0.0, start, STEPS)
    if best is None or best.visible < SHARED or 1.0 - best.outside < SHARED:
        return None
    if not spec.symmetry:
        return best
    # From the place found so, the one at another angle is not far.
    turn, place = 2 * math.pi / spec.symmetry, np.array([best.x, best.y, spec.rest])
    for k in range(1, ANGLES):
        best = _better(best, at(turn * k / ANGLES, place, 1))
    for k in range(1, HALVINGS + 1):
        middle, step = best.yaw, turn / ANGLES / 2**k
        for yaw in (middle - step, middle + step):
            best = _better(best, at(yaw, place, 1))
    return _better(best, at(best.yaw, place, STEPS))


def _better(one: Hull, other: Hull | None) -> Hull:
    return one if other is None or _fit(other) <= _fit(one) else other


def _fit(hull: Hull) -> float:
    return hull.visible - hull.outside


def _at_angle(
    mask: NDArray[np.uint8],
    corner: tuple[int, int],
    centre: Array,
    camera: CameraModel,
    points: Array,
    start: Array,
    rest: float,
    yaw: float,
    steps: int,
) -> Hull | None:
    c, s = math.cos(yaw), math.sin(yaw)
    turned = points @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    place, outline = np.array(start), np.zeros((0, 2), dtype=np.float32)
    for step in range(steps + 1):
        pixels = camera.project(turned + np.array([place[0], place[1], 0.0]))
        if not np.isfinite(pixels).all():
            return None
        outline = np.asarray(cv2.convexHull(pixels.astype(np.float32))[:, 0], dtype=np.float32)
        moments = cv2.moments(outline)
        if moments["m00"] < 1.0:
            return None
        middle = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        if step < steps:
            # The place moves by as much as the middle has to.
            wanted = camera.project(np.array([place[0], place[1], rest])) + centre - middle
            place = camera.on_plane(wanted, rest)
            if not np.isfinite(place).all():
                return None
    drawn = np.zeros_like(mask)
    cv2.fillConvexPoly(drawn, np.rint((outline - corner) * 16).astype(np.int32), 1, shift=4)
    inside = float((drawn & mask).sum())
    whole = max(float(cv2.contourArea(outline)), float(drawn.sum()), 1.0)
    return Hull(
        float(place[0]), float(place[1]), yaw, min(inside / whole, 1.0), 1.0 - inside / float(mask.sum())
    )
