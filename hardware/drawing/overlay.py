"""The arm, its base frame and the table's grid as a camera model has them, drawn over what the camera really sees.

Where the lines lie on the real arm the model is right; it takes no figures to see that they do not.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.drawing.picture import Picture
from hardware.drawing.portrait import LIGHT
from hardware.drawing.raster import Image
from sim2real.camera import CameraModel
from sim2real.robot import Robot

Array = NDArray[np.float64]

ARM, GRID = (255, 0, 255), (0, 160, 220)
AXES = ((230, 40, 40), (30, 180, 30), (50, 80, 255))
"""RGB of x, y and z."""
AXIS, CELL = 0.1, 0.1
"""m"""


def overlay(picture: Image, robot: Robot, camera: CameraModel, joints: Array) -> Image:
    """A copy of `picture` (height, width, 3) RGB, taken by `camera` with the arm at `joints` (n,) rad."""
    out = np.ascontiguousarray(picture).copy()
    for line in np.arange(-0.3, 0.3001, CELL):
        for ends in (((0.0, line), (0.5, line)), ((line + 0.3 - 0.1, -0.3), (line + 0.3 - 0.1, 0.3))):
            _line(out, camera, np.array([(*ends[0], 0.0), (*ends[1], 0.0)]), GRID, 1)
    mask = Picture(robot, camera, LIGHT).silhouette(joints).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, ARM, 1, cv2.LINE_AA)
    for axis, colour in zip(np.eye(3), AXES):
        _line(out, camera, np.array([np.zeros(3), AXIS * axis]), colour, 2)
    return out


def _line(out: Image, camera: CameraModel, ends: Array, colour: tuple[int, int, int], width: int) -> None:
    """A straight line in space, which a lens may bend; what is behind the camera is left out."""
    points = ends[0] + np.linspace(0.0, 1.0, 25)[:, None] * (ends[1] - ends[0])
    pixels = camera.project(points)
    near = np.asarray((np.abs(pixels) < 8000).all(axis=1))  # False for NaN, too
    for i in range(len(pixels) - 1):
        if near[i] and near[i + 1]:
            first, second = (tuple(int(v) for v in np.rint(pixels[k])) for k in (i, i + 1))
            cv2.line(out, first, second, colour, width, cv2.LINE_AA)
