"""Objects in a camera's picture by name: known colour, kind and size, calibrated camera, known table.

Colours are told relative to brightness (`colours.py`). Each spot of the right colour is then taken for the object
of known size, whose outline is fitted to it: of cubes and zones compiled (`silhouette.py`), of other kinds by
comparing areas (`hull.py`). What does not fit is something else. The fit, unlike a spot's centre, does not depend
on how much of which face is seen.

Everything is taken for standing on the table, at the place where the ray through its origin meets the plane on which
such origins lie; but for a cube whose size, and the hand at it, say that it is lifted.

Where the arm's joint angles are known, what it hides is known too: an outline that ends at a finger is not taken for
the object's own. Without them such edges are told by not fitting, and the covariance is larger.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.arm_mask import ArmMask, ArmOutlines
from hardware.cameras.colours import Colour, colour_of
from hardware.cameras.cubes import INSET, MIN_FITTING, REACH, CubeFinder
from hardware.cameras.hull import fit_hull
from hardware.cameras.silhouette import fit_disc
from hardware.cameras.spots import Image, Spot, outline_spot
from sim2real.camera import CameraModel
from sim2real.colours import distinguishable
from sim2real.errors import UserError
from sim2real.objects import ByName, ObjectSpec, checked, without_joints
from sim2real.robot import Robot
from sim2real.tracking import Percept, Sighting

Array = NDArray[np.float64]

MIN_ZONE_VISIBLE = 0.3
MIN_HULL_VISIBLE = 0.6
"""Where more of another kind is hidden, where its middle is cannot be told from the rest."""

_Box = tuple[int, ...]
"""Left, top, width, height, px."""
UNSEEN = 0.1
"""So much of an object's area goes missing by blur alone, at most."""
EDGE = 4
"""px of the picture around a spot that are looked at with it."""
_COARSE = 12.0
"""The search runs on a picture in which the cube is about this large, px."""


class Detector:
    """Finds objects in the pictures of one camera. Keeps nothing from picture to picture.

    `robot`: the arm in the pictures, if its joint angles can be given. Raises UserError for a camera that cannot see
    the table, for colours that cannot be told from grey, for objects that look alike, and for what moves on a joint.
    """

    def __init__(
        self, camera: CameraModel, objects: Sequence[ObjectSpec], robot: Robot | None = None
    ) -> None:
        self.camera = camera
        self.objects = checked(objects)
        without_joints(self.objects, "no camera tells where its joint is")
        self._colours = {spec.name: colour_of(spec) for spec in self.objects}
        distinguishable(self.objects)
        self._cubes = CubeFinder(camera)
        self._arm = None if robot is None else ArmMask(camera, robot)
        self._focal = math.sqrt(camera.fx * camera.fy)
        # Anything seen may stand as far away as the middle of the table does.
        middle = camera.on_plane([(camera.width - 1) / 2, (camera.height - 1) / 2], 0.0)
        distance = float(np.linalg.norm(middle - camera.position))
        highest = max((spec.height for spec in self.objects), default=0.0)
        if not math.isfinite(distance) or camera.position[2] <= highest:
            raise UserError(
                f"camera '{camera.name}' cannot see the table: by its camera_to_base it stands at "
                f"z = {camera.position[2]:.3f} m and its middle looks "
                f"{'at the horizon or above' if not math.isfinite(distance) else 'down'}; the matrix must take "
                "points from the camera (axes right, down, forward) to the robot's base, whose z = 0 is the table"
            )
        smallest = min((_across(spec) for spec in self.objects), default=0.025)
        self._stride = int(np.clip(smallest * self._focal / distance / _COARSE, 1, 8))

    def detect(self, image: Image, time: float = 0.0, joints: Array | None = None) -> Percept:
        """Look at one picture (H, W, 3) uint8 BGR. Raises UserError when its size is not the camera's.

        `joints` (n,) rad are the arm's angles when it was taken, None when they are not known.
        """
        if image.shape != (self.camera.height, self.camera.width, 3):
            raise UserError(
                f"camera '{self.camera.name}' is calibrated for {self.camera.width} x {self.camera.height}, "
                f"its picture is {image.shape[1]} x {image.shape[0]}; set the camera, or its calibration"
            )
        size = (image.shape[1] // self._stride, image.shape[0] // self._stride)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.int16)
        arm = self._arm.at(joints) if self._arm is not None and joints is not None else None
        found: ByName[Sighting] = ByName()
        for spec in self.objects:
            spots = self._spots(image, small, self._colours[spec.name], _across(spec))
            sightings = [seen for spot in spots if (seen := self._sighting(spot, spec, arm)) is not None]
            if sightings:
                found[spec.name] = max(sightings, key=lambda seen: seen.confidence)
        return Percept(time, found)

    def warm_up(self) -> None:
        """Load the compiled parts, which takes seconds the first time."""
        self._cubes.warm_up()
        if self._arm is not None:
            self._arm.at(np.array(self._arm.robot.home))
        fit_disc(np.eye(3, 2), np.zeros((1, 2)), 0.03, 0.0, 0.01)

    def _sighting(self, spot: Spot, spec: ObjectSpec, arm: ArmOutlines | None) -> Sighting | None:
        """The object that the spot is, None when it is none."""
        if spec.kind == "cube":
            return self._cubes.find(spot, spec.measures[0], arm)
        if spec.kind == "zone":
            return self._fit_zone(spot, spec.measures[0])
        found = fit_hull(spot.mask, (spot.x, spot.y), spot.centre, self.camera, spec)
        if (
            found is None
            or found.visible < MIN_HULL_VISIBLE
            or found.outside > 0.2
            or math.hypot(found.x, found.y) > REACH
        ):
            return None
        place = np.array([found.x, found.y, spec.rest])
        confidence = found.visible * (1.0 - found.outside)
        pixel = float(np.linalg.norm(place - self.camera.position)) / self._focal
        spread = _spread(pixel, max(spec.extent), found.visible)
        return Sighting(place, found.yaw, found.visible, confidence, spread)

    # Zones

    def _fit_zone(self, spot: Spot, radius: float) -> Sighting | None:
        """The disc that the spot is, None when it is none."""
        points = self.camera.on_plane(spot.contour, 0.0)
        centre = self.camera.on_plane(spot.centre, 0.0)
        if not np.isfinite(points).all() or math.hypot(centre[0], centre[1]) > REACH:
            return None
        pixel = float(np.linalg.norm(centre - self.camera.position)) / self._focal
        whole = math.pi * radius**2
        # A pixel's share of the table, from two small steps across the picture.
        steps = self.camera.on_plane(spot.centre + np.array([[1.0, 0.0], [0.0, 1.0]]), 0.0) - centre
        seen = spot.area * abs(steps[0, 0] * steps[1, 1] - steps[0, 1] * steps[1, 0]) / whole
        if not MIN_ZONE_VISIBLE <= seen <= 1.3:
            return None
        ring = 0.5 * radius * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        starts = centre[:2] + np.concatenate([np.zeros((1, 2)), ring])
        found, cost, fitting = fit_disc(
            np.ascontiguousarray(points[:, :2]),
            starts,
            radius,
            INSET * pixel,
            max(pixel, 0.03 * radius),
        )
        outside = np.hypot(points[:, 0] - found[0], points[:, 1] - found[1]) > 1.12 * radius
        if outside.mean() > 0.15 or fitting < MIN_FITTING or cost > 1e29:
            return None
        visible = min(float(seen), 1.0)
        place = np.array([found[0], found[1], 0.0])
        return Sighting(place, 0.0, visible, visible, _spread(pixel, radius, visible))

    # Spots of a colour

    def _spots(
        self,
        image: Image,
        small: NDArray[np.int16],
        colour: Colour,
        size: float,
    ) -> list[Spot]:
        """Spots of a colour that may be an object of `size` m, found coarsely, outlined finely."""
        stride = self._stride
        coarse = (colour.score(small) > colour.threshold).astype(np.uint8)
        if not coarse.any():
            return []
        contours, _ = cv2.findContours(coarse, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        boxes = [tuple(stride * value for value in cv2.boundingRect(contour)) for contour in contours]
        boxes = [box for box in boxes if self._plausible(box, size, 0.25, 3.0)]
        boxes = sorted(boxes, key=lambda box: -box[2] * box[3])[:6]
        # What a finger divides is one object still.
        pairs = [_union(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        boxes += [box for box in pairs if self._plausible(box, size, 0.5, 1.8)]
        spots = []
        for x, y, w, h in boxes:
            if not self._plausible((x, y, w, h), size, 0.4, 3.0):
                continue
            x0, y0 = max(x - EDGE, 0), max(y - EDGE, 0)
            x1, y1 = min(x + w + EDGE, self.camera.width), min(y + h + EDGE, self.camera.height)
            spot = outline_spot(image[y0:y1, x0:x1], x0, y0, colour)
            if spot is not None:
                spots.append(spot)
        return spots

    def _plausible(self, box: _Box, size: float, least: float, most: float) -> bool:
        """Whether the longer side of a box is `least`..`most` times what `size` m measures there."""
        x, y, w, h = box
        place = self.camera.on_plane([x + w / 2, y + h / 2], 0.0)
        pixels = self._focal * size / float(np.linalg.norm(place - self.camera.position))
        return bool(np.isfinite(pixels)) and least * pixels <= max(w, h) <= most * pixels


def _spread(pixel: float, size: float, visible: float) -> Array:
    """(3, 3) covariance of what is found by its area: `pixel` m measures a pixel there and `size` m the object.

    Half a pixel and 2°; what is not seen makes the middle and the angle uncertain in proportion.
    """
    hidden = max(1.0 - visible - UNSEEN, 0.0)
    place, angle = 0.5 * pixel + 0.3 * hidden * size, 0.035 + hidden
    return np.diag([place**2, place**2, angle**2])


def _across(spec: ObjectSpec) -> float:
    """About how much the object measures in a picture, m."""
    return spec.measures[0] if spec.kind == "cube" else max(spec.extent)


def _union(a: _Box, b: _Box) -> _Box:
    left, top = min(a[0], b[0]), min(a[1], b[1])
    return left, top, max(a[0] + a[2], b[0] + b[2]) - left, max(a[1] + a[3], b[1] + b[3]) - top
