"""Spots of one colour in a picture: which pixels, their outline, and what lies around them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.colours import Colour

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]

MOST_POINTS = 72
"""Points of an outline that are used; more tell nothing more."""
LEAST_PIXELS = 12


@dataclass(frozen=True)
class Spot:
    """A spot of one colour: its mask (h, w) in the window that starts at column `x`, row `y` of the picture; how many
    pixels it has, their middle (2,) px, and `contour` (N, 2) px: points on its edge, every `spacing` px."""

    mask: Mask
    x: int
    y: int
    area: float
    centre: Array
    contour: Array
    spacing: float

    @property
    def symmetry(self) -> float:
        """How much of the spot remains (intersection over union) when it is turned by 180° about its centre."""
        x, y = self.centre - (self.x, self.y)
        turn = np.array([[-1.0, 0.0, 2 * x], [0.0, -1.0, 2 * y]])
        height, width = self.mask.shape
        turned = cv2.warpAffine(self.mask, turn, (width, height), flags=cv2.INTER_NEAREST).astype(np.uint8)
        return float((self.mask & turned).sum()) / max(float((self.mask | turned).sum()), 1.0)

    def around(self, nearest: int, furthest: int, but: Mask | None, most: int) -> Array:
        """(M, 2) px: up to `most` pixels of the window, `nearest`…`furthest` px from the spot, but not in `but`."""
        far, near = dilated(self.mask, furthest), dilated(self.mask, nearest - 1)
        ring = (far & (1 - near)) if but is None else (far & (1 - near) & (1 - but))
        points = np.argwhere(ring)[:, ::-1].astype(np.float64)
        if len(points) > most:
            points = points[np.linspace(0, len(points) - 1, most).astype(int)]
        return np.asarray(np.array([self.x, self.y]) + points)


def dilated(mask: Mask, pixels: int) -> Mask:
    """What is in a mask, and up to `pixels` px from it."""
    return np.asarray(cv2.dilate(mask, np.ones((2 * pixels + 1,) * 2, np.uint8)), dtype=np.uint8)


def outline_spot(window: Image, x: int, y: int, colour: Colour) -> Spot | None:
    """The spot in a window of the picture, with a threshold half-way to its own colour; None when there is none."""
    score, threshold = colour.score(window.astype(np.int16)), colour.threshold
    core = score[score > threshold]
    if core.size < LEAST_PIXELS:
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
    spacing = max(len(points) / MOST_POINTS, 1.0)
    if spacing > 1.0:
        points = points[np.linspace(0, len(points) - 1, MOST_POINTS).astype(int)]
    moments = cv2.moments(clean, binaryImage=True)
    centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"] + np.array([x, y])
    # Along a chain of pixels a step is 1 or √2 px.
    return Spot(clean, x, y, float(moments["m00"]), centre, points + np.array([x, y]), 1.15 * spacing)
