"""A printed sheet in a picture: a flat texture warped to where the sheet is, hidden by what stands before it."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.drawing.raster import NEAR, Image, Light, Raster

Array = NDArray[np.float64]

PAPER, INK = 0.95, 0.06
"""How bright white and black are in print."""
SUPERSAMPLE = 3
"""Samples per pixel each way: where a corner lies between two pixels is what calibration reads."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """`texture` (rows, columns) grey 0…255 on a sheet `width` m wide. Its frame has its origin in the middle, x right,
    y up, z towards its reader; from behind it is white."""

    texture: NDArray[np.uint8]
    width: float
    _levels: list[NDArray[np.uint8]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._levels.append(self.texture)
        while min(self._levels[-1].shape) > 16:
            rows, columns = self._levels[-1].shape
            self._levels.append(
                np.asarray(cv2.resize(self.texture, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
            )

    @property
    def height(self) -> float:
        """m."""
        return self.width * self.texture.shape[0] / self.texture.shape[1]

    def level(self, pixels: float) -> NDArray[np.uint8]:
        """The texture at about the resolution at which all of it covers an area of `pixels`: finer detail would turn
        into patterns that are not there."""
        finer = 0.5 * math.log2(max(self.texture.size / max(pixels, 1.0), 1.0))
        return self._levels[min(round(finer), len(self._levels) - 1)]


def paint(
    picture: Image,
    raster: Raster,
    sheet: Sheet,
    pose: Array,
    base_to_camera: Array,
    intrinsics: tuple[float, float, float, float],
    light: Light,
    gains: Array,
) -> None:
    """Draw `sheet` at `pose` (4, 4), base frame, into what `raster` has drawn last."""
    fx, fy, cx, cy = intrinsics
    local = base_to_camera @ pose
    w, h = sheet.width / 2, sheet.height / 2
    corners = (
        np.array([[-w, h, 0.0], [w, h, 0.0], [w, -h, 0.0], [-w, -h, 0.0]]) @ local[:3, :3].T + local[:3, 3]
    )
    if (corners[:, 2] <= NEAR).any():
        return
    pixels = corners[:, :2] / corners[:, 2:] * (fx, fy) + (cx, cy)
    rows, columns = picture.shape[:2]
    x0, y0 = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 2, (columns, rows))
    if x1 <= x0 or y1 <= y0:
        return
    normal = local[:3, 2]
    readable = float(normal @ local[:3, 3]) < 0.0
    area = float(cv2.contourArea(pixels.astype(np.float32)))
    texture = sheet.level(area * SUPERSAMPLE**2) if readable else np.full((2, 2), 255, dtype=np.uint8)
    th, tw = texture.shape
    source = np.array([[-0.5, -0.5], [tw - 0.5, -0.5], [tw - 0.5, th - 0.5], [-0.5, th - 0.5]])
    target = (pixels - (x0, y0) + 0.5) * SUPERSAMPLE - 0.5
    warp = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    size = ((x1 - x0) * SUPERSAMPLE, (y1 - y0) * SUPERSAMPLE)
    shown, cover = (
        cv2.resize(
            cv2.warpPerspective(one, warp, size, flags=cv2.INTER_LINEAR),
            (x1 - x0, y1 - y0),
            interpolation=cv2.INTER_AREA,
        ).astype(np.float64)
        / 255.0
        for one in (texture, np.full_like(texture, 255))
    )
    u, v = np.meshgrid((np.arange(x0, x1) - cx) / fx, (np.arange(y0, y1) - cy) / fy)
    inverse_depth = (normal[0] * u + normal[1] * v + normal[2]) / float(normal @ local[:3, 3])
    cover[inverse_depth < raster.depth[y0:y1, x0:x1]] = 0.0
    facing = pose[:3, 2] if readable else -pose[:3, 2]
    level = light.ambient + light.diffuse * max(float(facing @ light.direction), 0.0)
    # What was warped is already weighted by how much of a pixel the sheet covers.
    brightness = 255 * level * (INK * cover + (PAPER - INK) * np.minimum(shown, cover))
    part = picture[y0:y1, x0:x1].astype(np.float64)
    fresh = brightness[..., None] * gains + cover[..., None] * raster.noise(y1 - y0, x1 - x0)
    mixed = part * (1.0 - cover[..., None]) + fresh
    picture[y0:y1, x0:x1] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
