"""A lens for pictures that were drawn through a pinhole: a larger picture is drawn, then bent as the lens bends it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.drawing.raster import Image
from sim2real.camera import CameraModel


class Lens:
    """`width`, `height`, `intrinsics` (fx, fy, cx, cy) of the pinhole picture from which `bend` makes the camera's.

    Without distortion that is the picture itself.
    """

    def __init__(self, camera: CameraModel) -> None:
        self.width, self.height = camera.width, camera.height
        self.intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
        self._map: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if not camera.distortion.any():
            return
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        rays = camera.pixel_rays(np.stack([columns, rows], axis=-1)) @ camera.rotation
        x = rays[..., 0] / rays[..., 2] * camera.fx + camera.cx
        y = rays[..., 1] / rays[..., 2] * camera.fy + camera.cy
        # However the lens bends: at most thrice the picture each way is drawn.
        left, top = (
            max(int(np.floor(one.min())), -size) for one, size in ((x, camera.width), (y, camera.height))
        )
        right = min(int(np.ceil(x.max())), 2 * camera.width)
        bottom = min(int(np.ceil(y.max())), 2 * camera.height)
        self.width, self.height = right - left + 1, bottom - top + 1
        self.intrinsics = (camera.fx, camera.fy, camera.cx - left, camera.cy - top)
        self._map = (x - left).astype(np.float32), (y - top).astype(np.float32)

    def bend(self, drawn: Image) -> Image:
        """(height, width, 3) of the camera from what was drawn through the pinhole."""
        if self._map is None:
            return drawn
        return np.asarray(cv2.remap(drawn, *self._map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
