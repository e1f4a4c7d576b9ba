"""Objects in a camera's picture by name: known colour, kind and size, calibrated camera, known table.

Colours are told relative to brightness (`colours.py`). Each spot of the right colour is then taken for the object
of known size, whose outline is fitted to it: of cubes and zones compiled (`silhouette.py`), of other kinds by
comparing areas (`hull.py`). What does not fit is something else. The fit, unlike a spot's centre, does not depend
on how much of which face is seen.

Everything is reported as a detector that knows only the table sees it: an object's origin where its ray meets
the plane on which such origins lie. A lifted cube so appears further away than it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.colours import Colour, colour_of, distinguishable
from hardware.cameras.hull import fit_hull
from hardware.cameras.silhouette import cube_outline, fit_cube, fit_disc
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.objects import ByName, ObjectSpec, checked
from sim2real.tracking import Percept, Sighting

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MIN_VISIBLE = 0.4
"""A cube must be seen by at least this fraction of its outline's area."""
MIN_ZONE_VISIBLE = 0.3
MIN_HULL_VISIBLE = 0.6
"""Where more of another kind is hidden, where its middle is cannot be told from the rest."""
MIN_FITTING = 0.5
"""At least this fraction of a spot's outline must lie on the object's; the rest is what hides it."""
MIN_FITTING_TILTED = 0.3
"""Smallest such fraction for a spot that nothing seems to hide: a cube tilted in the gripper fits an upright one
badly."""
MAX_LIFT = 0.12
"""Heights above the table, m, up to which a cube is recognized; what looks larger is something else."""
REACH = 0.6
"""Objects further than this from the base are none of the arm's business, m."""

_Box = tuple[int, ...]
"""Left, top, width, height, px."""
_INSET = 0.4
"""Boundary pixels' centres lie this far inside the edge on average, px."""
_MOST_POINTS = 72
_COARSE = 12.0
"""The search runs on a picture in which the cube is about this large, px."""


@dataclass(frozen=True)
class _Spot:
    """A spot of one colour: its mask in the window that starts at column `x`, row `y` of the picture."""

    mask: NDArray[np.uint8]
    x: int
    y: int
    area: float
    centre: Array
    contour: Array


@dataclass(frozen=True)
class _Found:
    """A cube fitted to a spot: its pose (see `silhouette.py`), how much of it is seen, how much of the spot lies
    outside it, and how much of the spot's outline lies on its own."""

    pose: Array
    visible: float
    outside: float
    fitting: float

    @property
    def yaw(self) -> float:
        return float(self.pose[2] + math.pi / 4) % (math.pi / 2) - math.pi / 4

    @property
    def confidence(self) -> float:
        return self.visible * self.fitting * (1.0 - self.outside)


class Detector:
    """Finds objects in the pictures of one camera. Keeps nothing from picture to picture.

    Raises UserError for a camera that cannot see the table, for colours that cannot be told from grey, and for objects
    that look alike.
    """

    def __init__(self, camera: CameraModel, objects: Sequence[ObjectSpec]) -> None:
        self.camera = camera
        self.objects = checked(objects)
        self._colours = {spec.name: colour_of(spec) for spec in self.objects}
        distinguishable(self.objects)
        self._pose = np.ascontiguousarray(camera.camera_to_base)
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

    def detect(self, image: Image, time: float = 0.0) -> Percept:
        """Look at one picture (H, W, 3) uint8 BGR. Raises UserError when its size is not the camera's."""
        if image.shape != (self.camera.height, self.camera.width, 3):
            raise UserError(
                f"camera '{self.camera.name}' is calibrated for {self.camera.width} x {self.camera.height}, "
                f"its picture is {image.shape[1]} x {image.shape[0]}; set the camera, or its calibration"
            )
        size = (image.shape[1] // self._stride, image.shape[0] // self._stride)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.int16)
        found: ByName[Sighting] = ByName()
        for spec in self.objects:
            spots = self._spots(image, small, self._colours[spec.name], _across(spec))
            sightings = [seen for spot in spots if (seen := self._sighting(spot, spec)) is not None]
            if sightings:
                found[spec.name] = max(sightings, key=lambda seen: seen.confidence)
        return Percept(time, found)

    def warm_up(self) -> None:
        """Load the compiled parts, which takes seconds the first time."""
        centre = self.camera.on_plane([(self.camera.width - 1) / 2, (self.camera.height - 1) / 2])
        pose = np.array([centre[0], centre[1], 0.3, 1.0])
        outline = self._ideal(self._outline(pose, 0.025))
        for lifted in (False, True):
            fit_cube(outline, pose[None], lifted, 0.025, self._pose, self._focal, 0.0, 1.0)
        fit_disc(np.eye(3, 2), np.zeros((1, 2)), 0.03, 0.0, 0.01)

    def _sighting(self, spot: _Spot, spec: ObjectSpec) -> Sighting | None:
        """The object that the spot is, None when it is none."""
        if spec.kind == "cube":
            side = spec.measures[0]
            cube = self._fit_cube(spot, side)
            if cube is None:
                return None
            place = np.array([cube.pose[0], cube.pose[1], side / 2])
            return Sighting(place, cube.yaw, cube.visible, cube.confidence, _typical(cube.visible))
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
        return Sighting(place, found.yaw, found.visible, confidence, _typical(found.visible))

    # Cubes

    def _fit_cube(self, spot: _Spot, side: float) -> _Found | None:
        """The cube that the spot is, None when it is none."""
        centre = self.camera.on_plane(spot.centre, side / 2)
        if not np.isfinite(centre).all() or math.hypot(centre[0], centre[1]) > REACH:
            return None
        seen = spot.area / self._area(np.array([centre[0], centre[1], 0.0, 1.0]), side)
        if not 0.7 * MIN_VISIBLE < seen < 3.0:
            return None
        points = self._ideal(spot.contour)
        pixels = self._focal * side / float(np.linalg.norm(centre - self.camera.position))
        known = (side, self._pose, self._focal, _INSET, max(0.8, 0.035 * pixels))
        starts = _cube_starts(centre, side, seen)
        best = self._judge(spot, side, *fit_cube(points, starts, False, *known))
        if best.outside > 0.04:
            # More red than a cube on the table can have: lifted, tilted, or something else.
            starts[:, 3] = 1.0 / math.sqrt(max(seen, 1.15))
            lifted = self._judge(spot, side, *fit_cube(points, starts, True, *known))
            best = max(best, lifted, key=lambda found: found.confidence)
        whole = _symmetry(spot) > 0.92
        height = (1.0 - best.pose[3]) * (self.camera.position[2] - side / 2)
        if (
            best.visible < MIN_VISIBLE
            or best.outside > 0.2
            or best.fitting < (MIN_FITTING_TILTED if whole else MIN_FITTING)
            or height > MAX_LIFT
            or math.hypot(best.pose[0], best.pose[1]) > REACH
        ):
            return None
        if best.outside + 1.0 - best.visible > 0.1 and whole:
            # All of a cube that is tilted in the gripper. However a cube is turned, its silhouette is symmetric
            # about its centre, which an upright model that does not fit can only miss.
            best.pose[:2] = centre[:2]
        elif whole and best.visible < 0.94 and best.outside < 0.03:
            # Blur, or a dark face before a bright table, has moved the edge inward all round: by how much, the
            # missing area tells. At the corners a wrong guess of it costs degrees.
            outline = self._outline(best.pose, side)
            missing = (1.0 - best.visible) * cv2.contourArea(outline.astype(np.float32))
            inset = missing / cv2.arcLength(outline.astype(np.float32), True)
            known = (side, self._pose, self._focal, inset, known[-1])
            starts = best.pose + np.outer([0.0, 0.25, -0.25], [0.0, 0.0, 1.0, 0.0])
            pose, cost, _ = fit_cube(points, starts, False, *known)
            if cost < 1e29:
                best = replace(best, pose=pose)
        return best

    def _judge(self, spot: _Spot, side: float, pose: Array, cost: float, fitting: float) -> _Found:
        """How well the spot is explained by a cube in this pose."""
        if cost > 1e29:
            return _Found(pose, 0.0, 1.0, 0.0)
        inside, whole = self._overlap(spot, pose, side)
        return _Found(pose, min(inside / max(whole, 1.0), 1.0), 1.0 - inside / spot.area, fitting)

    def _outline(self, pose: Array, side: float) -> Array:
        """(m, 2) corners of the cube's outline, px of the real picture."""
        corners = np.empty((8, 2))
        count = cube_outline(pose, side, self._pose, self._focal, corners)
        rays = np.concatenate([corners[:count] / self._focal, np.ones((count, 1))], axis=1)
        return self.camera.project(self.camera.position + rays @ self.camera.rotation.T)

    def _area(self, pose: Array, side: float) -> float:
        outline = self._outline(pose, side)
        return max(float(cv2.contourArea(outline.astype(np.float32))), 1.0) if len(outline) > 2 else 1.0

    def _overlap(self, spot: _Spot, pose: Array, side: float) -> tuple[float, float]:
        """How many pixels of the spot lie in the cube's outline, and how many pixels the outline has."""
        outline = self._outline(pose, side)
        drawn = np.zeros_like(spot.mask)
        shifted = (outline - (spot.x, spot.y)) * 16
        cv2.fillConvexPoly(drawn, np.rint(shifted).astype(np.int32), 1, shift=4)
        # Its pixels outside the window count as unseen.
        whole = max(float(cv2.contourArea(outline.astype(np.float32))), float(drawn.sum()))
        return float((drawn & spot.mask).sum()), whole

    # Zones

    def _fit_zone(self, spot: _Spot, radius: float) -> Sighting | None:
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
            _INSET * pixel,
            max(pixel, 0.03 * radius),
        )
        outside = np.hypot(points[:, 0] - found[0], points[:, 1] - found[1]) > 1.12 * radius
        if outside.mean() > 0.15 or fitting < MIN_FITTING or cost > 1e29:
            return None
        visible = min(float(seen), 1.0)
        place = np.array([found[0], found[1], 0.0])
        return Sighting(place, 0.0, visible, visible, _typical(visible))

    # Spots of a colour

    def _spots(
        self,
        image: Image,
        small: NDArray[np.int16],
        colour: Colour,
        size: float,
    ) -> list[_Spot]:
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
            x0, y0 = max(x - 3, 0), max(y - 3, 0)
            x1, y1 = min(x + w + 3, self.camera.width), min(y + h + 3, self.camera.height)
            spot = _outline_spot(image[y0:y1, x0:x1], x0, y0, colour)
            if spot is not None:
                spots.append(spot)
        return spots

    def _plausible(self, box: _Box, size: float, least: float, most: float) -> bool:
        """Whether the longer side of a box is `least`..`most` times what `size` m measures there."""
        x, y, w, h = box
        place = self.camera.on_plane([x + w / 2, y + h / 2], 0.0)
        pixels = self._focal * size / float(np.linalg.norm(place - self.camera.position))
        return bool(np.isfinite(pixels)) and least * pixels <= max(w, h) <= most * pixels

    def _ideal(self, pixels: Array) -> Array:
        """Pixels of the real picture → those of an ideal one with its origin in the optical axis."""
        local = self.camera.pixel_rays(pixels) @ self.camera.rotation
        return np.ascontiguousarray(self._focal * local[:, :2] / local[:, 2:])


def _typical(visible: float) -> Array:
    """(3, 3) covariance of what is found of an object of which this fraction is seen."""
    place, angle = (0.001, 0.04) if visible > 0.85 else (0.004, 0.25)
    return np.diag([place**2, place**2, angle**2])


def _across(spec: ObjectSpec) -> float:
    """About how much the object measures in a picture, m."""
    return spec.measures[0] if spec.kind == "cube" else max(spec.extent)


def _cube_starts(centre: Array, size: float, seen: float) -> Array:
    """(K, 4) poses to begin the fit from: all angles, and places around when part of the cube is hidden."""
    yaws = np.deg2rad([0.0, 15.0, 30.0, 45.0, 60.0, 75.0])
    offsets = np.zeros((1, 2))
    if seen < 0.85:
        offsets = np.concatenate([offsets, 0.3 * size * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])])
        yaws = yaws[::2]
    return np.array([[centre[0] + dx, centre[1] + dy, yaw, 1.0] for dx, dy in offsets for yaw in yaws])


def _outline_spot(window: Image, x: int, y: int, colour: Colour) -> _Spot | None:
    """The spot in a window of the picture, with a threshold half-way to its own colour."""
    score, threshold = colour.score(window.astype(np.int16)), colour.threshold
    core = score[score > threshold]
    if core.size < 12:
        return None
    own = float(np.quantile(core, 0.6))
    mask = (score > max(0.5 * own, 0.75 * threshold)).astype(np.uint8)
    # Single pixels are noise.
    if core.size > 100:
        mask = np.asarray(cv2.medianBlur(mask, 3), dtype=np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max((len(c) for c in contours), default=0)
    kept = [c[:, 0] for c in contours if len(c) >= max(6, 0.2 * largest)]
    if not kept:
        return None
    clean = np.zeros_like(mask)
    cv2.fillPoly(clean, kept, 1)
    points = np.concatenate(kept).astype(np.float64)
    if len(points) > _MOST_POINTS:
        points = points[np.linspace(0, len(points) - 1, _MOST_POINTS).astype(int)]
    moments = cv2.moments(clean, binaryImage=True)
    centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"] + np.array([x, y])
    return _Spot(clean, x, y, float(moments["m00"]), centre, points + np.array([x, y]))


def _symmetry(spot: _Spot) -> float:
    """How much of the spot remains (intersection over union) when it is turned by 180° about its centre."""
    x, y = spot.centre - (spot.x, spot.y)
    turn = np.array([[-1.0, 0.0, 2 * x], [0.0, -1.0, 2 * y]])
    height, width = spot.mask.shape
    turned = np.asarray(
        cv2.warpAffine(spot.mask, turn, (width, height), flags=cv2.INTER_NEAREST), dtype=np.uint8
    )
    return float((spot.mask & turned).sum()) / max(float((spot.mask | turned).sum()), 1.0)


def _union(a: _Box, b: _Box) -> _Box:
    left, top = min(a[0], b[0]), min(a[1], b[1])
    return left, top, max(a[0] + a[2], b[0] + b[2]) - left, max(a[1] + a[3], b[1] + b[3]) - top
