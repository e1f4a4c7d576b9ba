"""Pictures of the table as a camera would take them, drawn without the simulator's renderer.

Everything is projected with the camera's own model, drawn at four times its size and averaged down, so that edges
are where they belong to a fraction of a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]

SCALE = 4
RED: Colour = (190.0, 25.0, 30.0)
GREEN: Colour = (40.0, 150.0, 60.0)


@dataclass
class Picture:
    """What to draw. Colours are RGB 0…255 under a white light of strength 1; lengths in m, base frame."""

    camera: CameraModel
    cube: tuple[float, float, float] | None = None  # x, y, z of the centre
    yaw: float = 0.0
    size: float = 0.025
    cube_colour: Colour = RED
    mark: tuple[float, float] | None = None
    table: Colour = (190.0, 180.0, 165.0)
    light: tuple[float, float, float] = (0.4, 0.3, 0.86)
    ambient: float = 0.5
    gain: Colour = (1.0, 1.0, 1.0)  # exposure and white balance
    blur: float = 0.6  # px
    noise: float = 2.0  # of 255
    shadow: bool = True
    blocks: Sequence[
        tuple[tuple[float, float, float], tuple[float, float, float], Colour]
    ] = ()  # centre, half, colour
    bars: Sequence[
        tuple[tuple[float, float], tuple[float, float], float, Colour]
    ] = ()  # px from, to, width; in front
    seed: int = 0

    def draw(self) -> Image:
        """(height, width, 3) uint8 BGR."""
        camera = self.camera.resized(self.camera.width * SCALE, self.camera.height * SCALE)
        image = np.empty((camera.height, camera.width, 3), np.float32)
        image[:] = np.array(self.table, np.float32)
        light = np.array(self.light) / np.linalg.norm(self.light)
        boxes = [(np.array(c), np.array(h), 0.0, colour) for c, h, colour in self.blocks]
        if self.cube is not None:
            boxes.append((np.array(self.cube), np.full(3, self.size / 2), self.yaw, self.cube_colour))
        if self.mark is not None:
            turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
            rim = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1) * 0.03 + (*self.mark, 0.0)
            _fill(image, camera, rim, np.array(GREEN))
        if self.shadow:
            dark = np.ones(image.shape[:2], np.float32)
            for centre, half, yaw, _ in boxes:
                corners = _corners(centre, half, yaw)
                fallen = corners - corners[:, 2:] / light[2] * light
                hull = cv2.convexHull(camera.project(fallen).astype(np.float32))[:, 0]
                _polygon(dark, hull, 0.55)
            image *= dark[..., None]
        # The furthest first: boxes that stand on a table do not interlock.
        for centre, half, yaw, colour in sorted(boxes, key=lambda b: -np.linalg.norm(b[0] - camera.position)):
            self._box(image, camera, centre, half, yaw, np.array(colour), light)
        for start, end, width, colour in self.bars:
            a, b = ((np.array(point) + 0.5) * SCALE - 0.5 for point in (start, end))
            across = np.array([-(b - a)[1], (b - a)[0]]) / np.linalg.norm(b - a) * width * SCALE / 2
            _polygon(image, np.array([a + across, b + across, b - across, a - across]), colour)
        image *= np.array(self.gain, np.float32)
        small = cv2.resize(image, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
        if self.blur > 0:
            small = cv2.GaussianBlur(small, (0, 0), self.blur)
        noise = np.random.default_rng(self.seed).normal(0, self.noise, small.shape)
        return np.ascontiguousarray(np.clip(small + noise + 0.5, 0, 255).astype(np.uint8)[..., ::-1])

    def _box(
        self,
        image: Array,
        camera: CameraModel,
        centre: Array,
        half: Array,
        yaw: float,
        colour: Array,
        light: Array,
    ) -> None:
        corners = _corners(centre, half, yaw)
        for axis in range(3):
            for side in (0, 1):
                chosen = [k for k in range(8) if (k >> axis) & 1 == side]
                quad = corners[[chosen[0], chosen[1], chosen[3], chosen[2]]]
                normal = (quad.mean(axis=0) - centre) / np.linalg.norm(quad.mean(axis=0) - centre)
                if normal @ (camera.position - quad.mean(axis=0)) <= 0:
                    continue
                shade = self.ambient + (1 - self.ambient) * max(float(normal @ light), 0.0)
                _fill(image, camera, quad, colour * shade)


def _corners(centre: Array, half: Array, yaw: float) -> Array:
    signs = np.array([[1 if (k >> axis) & 1 else -1 for axis in range(3)] for k in range(8)])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return centre + (signs * half) @ turn.T


def _fill(image: Array, camera: CameraModel, corners: Array, colour: Array) -> None:
    # Straight edges become curves under distortion: draw them in short pieces.
    pieces = np.linspace(0, 1, 8, endpoint=False)[:, None]
    rim = np.concatenate([a + pieces * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0))])
    _polygon(image, camera.project(rim), colour)


def _polygon(image: Array, points: Array, colour: object) -> None:
    if np.isfinite(points).all():
        value = tuple(map(float, np.atleast_1d(np.asarray(colour))))
        cv2.fillPoly(image, [np.rint(points * 256).astype(np.int32)], value, cv2.LINE_8, 8)
