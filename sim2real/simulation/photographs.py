"""Photographs of the user's own table, empty, in the place of the drawn one.

Where a cameras file says how the camera stood that took them, every point of the table has the colour that the
photograph has there, and so has what is behind. Otherwise a photograph is a pattern: it is laid on the table in another
place, size and direction in every episode.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.errors import UserError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

SHARE = 0.75
"""Share of the episodes with a photograph: the drawn tables stay in between."""
SPAN = (0.5, 1.2)
"""How much of the table a photograph covers that is laid on it as a pattern, m."""
FAR = 4.0
"""m to what is behind the table."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph (H, W, 3) uint8 RGB, and the camera that took it, if that is known.

    Raises UserError for a camera whose pictures have other proportions.
    """

    image: Image
    taken_by: CameraModel | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or min(self.image.shape[:2]) < 8:
            raise UserError(
                f"a photograph of the table has (height, width, 3) numbers, got {self.image.shape}"
            )
        if self.taken_by is not None:
            height, width = self.image.shape[:2]
            object.__setattr__(self, "taken_by", self.taken_by.resized(width, height))

    def table(self, points: Array, seed: int) -> NDArray[np.float32]:
        """(K, 3) colours of points (K, 3) of the table, m; `seed` says how a pattern lies."""
        if self.taken_by is not None:
            return self._at(self.taken_by.project(points))
        rng = np.random.default_rng((seed, 0xB6))
        angle, span = rng.uniform(0, 2 * math.pi), rng.uniform(*SPAN)
        c, s = math.cos(angle), math.sin(angle)
        turned = (points[:, :2] - rng.uniform(-0.3, 0.3, 2)) @ np.array([[c, -s], [s, c]])
        height, width = self.image.shape[:2]
        # Beyond its edges it goes on as in a mirror.
        pixels = np.abs((turned / span * width + width) % (2 * width) - width) % width
        return self._at(np.stack([pixels[:, 0], pixels[:, 1] * height / width], axis=1))

    def beyond(self, camera: CameraModel, rays: Array) -> NDArray[np.float32] | None:
        """(K, 3) colours of what is seen along `rays` (K, 3) beside the table; None where nobody knows."""
        if self.taken_by is None:
            return None
        return self._at(self.taken_by.project(camera.position + FAR * rays))

    def _at(self, pixels: Array) -> NDArray[np.float32]:
        """Colours at pixels (K, 2), those at the edge for what lies outside."""
        height, width = self.image.shape[:2]
        nearest = np.rint(np.nan_to_num(pixels, nan=-1.0)).astype(np.intp)
        x, y = nearest[:, 0].clip(0, width - 1), nearest[:, 1].clip(0, height - 1)
        return self.image[y, x].astype(np.float32)


def chosen(photographs: "tuple[Photograph, ...]", seed: int) -> Photograph | None:
    """The photograph of an episode; None for one of a drawn table."""
    if not photographs:
        return None
    rng = np.random.default_rng((seed, 0xB7))
    return photographs[int(rng.integers(len(photographs)))] if rng.random() < SHARE else None
