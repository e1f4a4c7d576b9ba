"""The cube and the mark in a camera's picture: red cube, green disc, calibrated camera, known table.

Colours are told by how far one channel stands out, relative to brightness, so that shade and exposure matter
little, and neither do the hues of arms and tables (orange, wood, blue-green). Each spot of the right colour is
then taken for the object of known size, whose outline is fitted to it (`hardware.cameras.silhouette`): what does not
fit is something else. The fit, unlike a spot's centre, does not depend on how much of which face is seen.

Everything is reported as a detector that knows only the table sees it: the cube's centre where its ray meets
the plane half a cube above the table. A lifted cube so appears further away than it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.silhouette import cube_outline, fit_cube, fit_disc
from sim2real.camera import CameraModel
from sim2real.errors import UserError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
_Colour = Callable[[NDArray[np.int16]], NDArray[np.float32]]
"""How much of a colour each pixel of a BGR picture has."""

CUBE = 0.025
"""Side of the cube, m."""
MARK = 0.03
"""Radius of the mark, m."""
MIN_VISIBLE = 0.4
"""The cube must be seen by at least this fraction of its outline's area."""
MIN_MARK_VISIBLE = 0.3
MIN_FITTING = 0.5
"""At least this fraction of a spot's outline must lie on the object's; the rest is what hides it."""
MIN_FITTING_TILTED = 0.3
"""The same for a spot that nothing seems to hide: a cube tilted in the gripper fits an upright one badly."""
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
class Percept:
    """What one picture shows. `time` of capture, s. `cube` (3,) m or None when hidden, `yaw` rad in ±π/4.

    `mark` (2,) m or None. `visible` and `mark_visible` are the fractions seen; `confidence` is 0…1.
    """

    time: float
    cube: Array | None = None
    yaw: float = 0.0
    visible: float = 0.0
    mark: Array | None = None
    mark_visible: float = 0.0
    confidence: float = 0.0


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
    """Finds cube and mark in the pictures of one camera. Keeps nothing from picture to picture.

    `objects` are those to look for, out of "cube" and "mark".
    """

    def __init__(
        self,
        camera: CameraModel,
        objects: frozenset[str] = frozenset({"cube", "mark"}),
        *,
        cube_size: float = CUBE,
        mark_radius: float = MARK,
    ) -> None:
        self.camera = camera
        self.objects = frozenset(objects)
        self.cube_size, self.mark_radius = cube_size, mark_radius
        self._pose = np.ascontiguousarray(camera.camera_to_base)
        self._focal = math.sqrt(camera.fx * camera.fy)
        # Anything seen may stand as far away as the middle of the table does.
        middle = camera.on_plane([(camera.width - 1) / 2, (camera.height - 1) / 2], 0.0)
        distance = float(np.linalg.norm(middle - camera.position))
        if not math.isfinite(distance) or camera.position[2] <= cube_size:
            raise UserError(
                f"camera '{camera.name}' cannot see the table: by its camera_to_base it stands at "
                f"z = {camera.position[2]:.3f} m and its middle looks "
                f"{'at the horizon or above' if not math.isfinite(distance) else 'down'}; the matrix must take "
                "points from the camera (axes right, down, forward) to the robot's base, whose z = 0 is the table"
            )
        self._stride = int(np.clip(cube_size * self._focal / distance / _COARSE, 1, 8))

    def detect(self, image: Image, time: float = 0.0) -> Percept:
        """Look at one picture (H, W, 3) uint8 BGR. Raises UserError when its size is not the camera's."""
        if image.shape != (self.camera.height, self.camera.width, 3):
            raise UserError(
                f"camera '{self.camera.name}' is calibrated for {self.camera.width} x {self.camera.height}, "
                f"its picture is {image.shape[1]} x {image.shape[0]}; set the camera, or its calibration"
            )
        size = (image.shape[1] // self._stride, image.shape[0] // self._stride)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.int16)
        cube = self._best_cube(image, small) if "cube" in self.objects else None
        mark = self._best_mark(image, small) if "mark" in self.objects else None
        percept = Percept(time=time)
        if cube is not None:
            percept = replace(
                percept,
                cube=np.array([cube.pose[0], cube.pose[1], self.cube_size / 2]),
                yaw=cube.yaw,
                visible=cube.visible,
                confidence=cube.confidence,
            )
        if mark is not None:
            percept = replace(percept, mark=np.array(mark[:2]), mark_visible=mark[2])
        return percept

    def warm_up(self) -> None:
        """Load the compiled parts, which takes seconds the first time."""
        centre = self.camera.on_plane([(self.camera.width - 1) / 2, (self.camera.height - 1) / 2])
        pose = np.array([centre[0], centre[1], 0.3, 1.0])
        outline = self._ideal(self._outline(pose))
        for lifted in (False, True):
            fit_cube(outline, pose[None], lifted, self.cube_size, self._pose, self._focal, 0.0, 1.0)
        fit_disc(np.eye(3, 2), np.zeros((1, 2)), self.mark_radius, 0.0, 0.01)

    # The cube

    def _best_cube(self, image: Image, small: NDArray[np.int16]) -> _Found | None:
        spots = self._spots(image, small, _redness, 0.28, self.cube_size)
        found = [cube for cube in map(self._fit_cube, spots) if cube is not None]
        return max(found, key=lambda cube: cube.confidence, default=None)

    def _fit_cube(self, spot: _Spot) -> _Found | None:
        """The cube that the spot is, None when it is none."""
        centre = self.camera.on_plane(spot.centre, self.cube_size / 2)
        if not np.isfinite(centre).all() or math.hypot(centre[0], centre[1]) > REACH:
            return None
        seen = spot.area / self._area(np.array([centre[0], centre[1], 0.0, 1.0]))
        if not 0.7 * MIN_VISIBLE < seen < 3.0:
            return None
        points = self._ideal(spot.contour)
        pixels = self._focal * self.cube_size / float(np.linalg.norm(centre - self.camera.position))
        known = (self.cube_size, self._pose, self._focal, _INSET, max(0.8, 0.035 * pixels))
        starts = _cube_starts(centre, self.cube_size, seen)
        best = self._judge(spot, *fit_cube(points, starts, False, *known))
        if best.outside > 0.04:
            # More red than a cube on the table can have: lifted, tilted, or something else.
            starts[:, 3] = 1.0 / math.sqrt(max(seen, 1.15))
            lifted = self._judge(spot, *fit_cube(points, starts, True, *known))
            best = max(best, lifted, key=lambda found: found.confidence)
        whole = _symmetry(spot) > 0.92
        height = (1.0 - best.pose[3]) * (self.camera.position[2] - self.cube_size / 2)
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
            outline = self._outline(best.pose)
            missing = (1.0 - best.visible) * cv2.contourArea(outline.astype(np.float32))
            inset = missing / cv2.arcLength(outline.astype(np.float32), True)
            known = (self.cube_size, self._pose, self._focal, inset, known[-1])
            starts = best.pose + np.outer([0.0, 0.25, -0.25], [0.0, 0.0, 1.0, 0.0])
            pose, cost, _ = fit_cube(points, starts, False, *known)
            if cost < 1e29:
                best = replace(best, pose=pose)
        return best

    def _judge(self, spot: _Spot, pose: Array, cost: float, fitting: float) -> _Found:
        """How well the spot is explained by a cube in this pose."""
        if cost > 1e29:
            return _Found(pose, 0.0, 1.0, 0.0)
        inside, whole = self._overlap(spot, pose)
        return _Found(pose, min(inside / max(whole, 1.0), 1.0), 1.0 - inside / spot.area, fitting)

    def _outline(self, pose: Array) -> Array:
        """(m, 2) corners of the cube's outline, px of the real picture."""
        corners = np.empty((8, 2))
        count = cube_outline(pose, self.cube_size, self._pose, self._focal, corners)
        rays = np.concatenate([corners[:count] / self._focal, np.ones((count, 1))], axis=1)
        return self.camera.project(self.camera.position + rays @ self.camera.rotation.T)

    def _area(self, pose: Array) -> float:
        outline = self._outline(pose)
        return max(float(cv2.contourArea(outline.astype(np.float32))), 1.0) if len(outline) > 2 else 1.0

    def _overlap(self, spot: _Spot, pose: Array) -> tuple[float, float]:
        """How many pixels of the spot lie in the cube's outline, and how many pixels the outline has."""
        outline = self._outline(pose)
        drawn = np.zeros_like(spot.mask)
        shifted = (outline - (spot.x, spot.y)) * 16
        cv2.fillConvexPoly(drawn, np.rint(shifted).astype(np.int32), 1, shift=4)
        # Its pixels outside the window count as unseen.
        whole = max(float(cv2.contourArea(outline.astype(np.float32))), float(drawn.sum()))
        return float((drawn & spot.mask).sum()), whole

    # The mark

    def _best_mark(self, image: Image, small: NDArray[np.int16]) -> tuple[float, float, float] | None:
        best = None
        for spot in self._spots(image, small, _greenness, 0.2, 2 * self.mark_radius):
            found = self._fit_mark(spot)
            if found is not None and (best is None or found[2] > best[2]):
                best = found
        return best

    def _fit_mark(self, spot: _Spot) -> tuple[float, float, float] | None:
        """(x, y, visible) of the disc that the spot is, None when it is none."""
        points = self.camera.on_plane(spot.contour, 0.0)
        centre = self.camera.on_plane(spot.centre, 0.0)
        if not np.isfinite(points).all() or math.hypot(centre[0], centre[1]) > REACH:
            return None
        pixel = float(np.linalg.norm(centre - self.camera.position)) / self._focal
        whole = math.pi * self.mark_radius**2
        # A pixel's share of the table, from two small steps across the picture.
        steps = self.camera.on_plane(spot.centre + np.array([[1.0, 0.0], [0.0, 1.0]]), 0.0) - centre
        seen = spot.area * abs(steps[0, 0] * steps[1, 1] - steps[0, 1] * steps[1, 0]) / whole
        if not MIN_MARK_VISIBLE <= seen <= 1.3:
            return None
        ring = 0.5 * self.mark_radius * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        starts = centre[:2] + np.concatenate([np.zeros((1, 2)), ring])
        found, cost, fitting = fit_disc(
            np.ascontiguousarray(points[:, :2]),
            starts,
            self.mark_radius,
            _INSET * pixel,
            max(pixel, 0.03 * self.mark_radius),
        )
        outside = np.hypot(points[:, 0] - found[0], points[:, 1] - found[1]) > 1.12 * self.mark_radius
        if outside.mean() > 0.15 or fitting < MIN_FITTING or cost > 1e29:
            return None
        return float(found[0]), float(found[1]), min(float(seen), 1.0)

    # Spots of a colour

    def _spots(
        self,
        image: Image,
        small: NDArray[np.int16],
        colour: _Colour,
        threshold: float,
        size: float,
    ) -> list[_Spot]:
        """Spots of a colour that may be an object of `size` m, found coarsely, outlined finely."""
        stride = self._stride
        coarse = (colour(small) > threshold).astype(np.uint8)
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
            spot = _outline_spot(image[y0:y1, x0:x1], x0, y0, colour, threshold)
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


def _cube_starts(centre: Array, size: float, seen: float) -> Array:
    """(K, 4) poses to begin the fit from: all angles, and places around when part of the cube is hidden."""
    yaws = np.deg2rad([0.0, 15.0, 30.0, 45.0, 60.0, 75.0])
    offsets = np.zeros((1, 2))
    if seen < 0.85:
        offsets = np.concatenate([offsets, 0.3 * size * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])])
        yaws = yaws[::2]
    return np.array([[centre[0] + dx, centre[1] + dy, yaw, 1.0] for dx, dy in offsets for yaw in yaws])


def _outline_spot(window: Image, x: int, y: int, colour: _Colour, threshold: float) -> _Spot | None:
    """The spot in a window of the picture, with a threshold half-way to its own colour."""
    score = colour(window.astype(np.int16))
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


def _redness(image: NDArray[np.int16]) -> NDArray[np.float32]:
    """How red each pixel is, about 0 for greys, below for orange and pink, up to 1; image is BGR."""
    b, g, r = image[..., 0], image[..., 1], image[..., 2]
    return ((r - np.maximum(g, b) - 1.5 * np.abs(g - b).astype(np.float32)) / (r + 20)).astype(np.float32)


def _greenness(image: NDArray[np.int16]) -> NDArray[np.float32]:
    """How green each pixel is, about 0 for greys, below for yellow and turquoise, up to 1; image is BGR."""
    b, g, r = image[..., 0], image[..., 1], image[..., 2]
    return ((g - np.maximum(r, b) - 0.4 * np.abs(r - b).astype(np.float32)) / (g + 20)).astype(np.float32)


def _union(a: _Box, b: _Box) -> _Box:
    left, top = min(a[0], b[0]), min(a[1], b[1])
    return left, top, max(a[0] + a[2], b[0] + b[2]) - left, max(a[1] + a[3], b[1] + b[3]) - top
