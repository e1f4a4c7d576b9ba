"""A picture of an arm in one pose, from the side and from above, for people to compare with the real one."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from hardware.drawing.picture import Picture
from hardware.drawing.raster import Image
from sim2real.camera import CameraModel
from sim2real.robot import Robot

Array = NDArray[np.float64]

SIZE = (480, 480)
"""Height and width of each view, pixels."""

VIEWS = {"from the right": (0.35, -1.0, 0.45), "from above": (-0.001, -0.001, 1.0)}
"""Name of the view and direction from the arm to the camera, base frame."""

LIGHT = {
    "camera.noise": 0.0,
    "camera.exposure": 0.0,
    "camera.white_balance": 0.0,
    "light.azimuth": -0.9,
    "light.elevation": 1.0,
    "light.ambient": 0.55,
    "light.diffuse": 0.5,
}


def portrait(robot: Robot, position: Array) -> Image:
    """(480, 960, 3) RGB of `robot` at joint angles `position` (n,), rad: from the right, and from above."""
    return np.hstack([Picture(robot, _camera(robot, view), LIGHT).draw(position) for view in VIEWS.values()])


def _camera(robot: Robot, direction: tuple[float, float, float]) -> CameraModel:
    """A camera in that direction that looks at the middle of the workspace from where all of it fits in."""
    reach = robot.gate.reach if np.isfinite(robot.gate.reach) else 1.0
    target = np.array([0.3 * reach, 0.0, 0.25 * reach])
    back = np.array(direction) / np.linalg.norm(direction)
    forward = -back
    # Image right and down; from above, x of the base points up in the image.
    up = np.array([1.0, 0.0, 0.0]) if abs(back[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, down, forward])
    matrix[:3, 3] = target + 3.0 * reach * back
    height, width = SIZE
    # What is within 0.85 reaches of the target fills the picture.
    focal = height / 2 * 3.0 / 0.85
    return CameraModel.from_table(
        {
            "width": width,
            "height": height,
            "fx": focal,
            "fy": focal,
            "cx": (width - 1) / 2,
            "cy": (height - 1) / 2,
            "distortion": [0.0] * 5,
            "camera_to_base": matrix.tolist(),
        }
    )


def signed(png: bytes) -> bytes:
    """A PNG file that says which program made it."""
    text = b"tEXtSoftware\0sim2real"
    end = png.rindex(b"IEND") - 4  # where the last chunk begins
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return png[:end] + chunk + png[end:]
