"""The lens of a camera (fx, fy, cx, cy, distortion) from pictures of a flat board: Zhang's method, by OpenCV.

Only numbers go in: which corners of the board were seen where. What views cannot tell is refused rather than
extrapolated, since a wrong focal length moves everything that is seen by as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

FEWEST = 8
"""Views."""
TILT, LEANING = 18.0, 4
"""degrees by which the board must lean away from the picture's plane, and in how many views: seen from the front alone,
a near board and a long lens look alike."""
COVERAGE = 0.35
"""Share of the picture that the corners of all views must enclose."""
WORST = 1.0
"""px rms beyond which the fit is no fit."""
BETTER = 0.97
"""Factor on the residual that a third radial coefficient must be worth."""
UNSURE = 0.01
"""Relative standard deviation of the focal lengths beyond which the views do not determine them."""
BULGE = 0.004
"""Share of its length by which a board may be out of flat."""


@dataclass(frozen=True, eq=False)
class BoardView:
    """What one picture shows of the board: corners (k, 3) m in the board's frame, and their pixels (k, 2)."""

    points: Array
    pixels: Array


@dataclass(frozen=True, eq=False)
class LensFit:
    """A lens and how well it is known: standard deviations of fx, fy, cx, cy in px; residuals in px rms."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Array
    deviation: Array
    rms: float
    view_rms: Array
    coverage: float

    @property
    def matrix(self) -> Array:
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


def fit_lens(views: Sequence[BoardView], width: int, height: int) -> LensFit:
    """Raises UserError when the views are too few, too alike or too contradictory to be believed."""
    if len(views) < FEWEST:
        raise UserError(
            f"the board was seen in {len(views)} views, at least {FEWEST} are needed: near and far, in all corners "
            "of the picture, leaning left, right, up and down"
        )
    share = coverage(views, width, height)
    if share < COVERAGE:
        raise UserError(
            f"the views cover {share:.0%} of the picture, at least {COVERAGE:.0%} are needed: the lens bends the "
            "picture most near its edges; move the board into its corners"
        )
    fit = _calibrate(views, width, height)
    steepest = np.degrees(np.arcsin(np.sort(np.linalg.norm(tilts(fit.rotations), axis=1))[-LEANING]))
    if steepest < TILT:
        raise UserError(
            f"the board hardly leaned: fewer than {LEANING} views by {TILT:.0f}° or more (the next one by "
            f"{steepest:.0f}°), which leaves the focal length open; lean it to the left and right, up and down"
        )
    bulge = bulging(views, fit)
    if bulge > BULGE:
        raise UserError(
            f"the board is not flat: its corners stand out of a plane by {bulge:.1%} of its length, {BULGE:.1%} are "
            "allowed; glue it onto glass, metal or thick board"
        )
    if not fit.rms < WORST:
        raise UserError(
            f"the board's corners miss the lens model by {fit.rms:.2f} px rms, {WORST:g} px are allowed: hold the "
            "board still for each view, and switch off autofocus, zoom and stabilization of the camera"
        )
    matrix, deviation = fit.matrix, fit.deviations[:4]
    relative = max(deviation[0] / matrix[0, 0], deviation[1] / matrix[1, 1])
    if not relative < UNSURE:
        raise UserError(
            f"the views leave the focal length open by {relative:.1%}, {UNSURE:.0%} are allowed: take more views, "
            "nearer and leaning more"
        )
    return LensFit(
        width, height, float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]),
        fit.distortion, deviation, fit.rms, fit.view_rms, share,
    )  # fmt: skip


def coverage(views: Sequence[BoardView], width: int, height: int) -> float:
    """Share of the picture inside the convex hull of all corners seen."""
    if not views:
        return 0.0
    hull = cv2.convexHull(np.concatenate([view.pixels for view in views]).astype(np.float32))
    return float(cv2.contourArea(hull)) / (width * height)


def tilts(rotations: Sequence[Array]) -> Array:
    """(views, 2): the board's normal across the optical axis, right and down, by views' rotation vectors (3,)."""
    return np.array([cv2.Rodrigues(np.asarray(one))[0][:2, 2] for one in rotations])


@dataclass(frozen=True, eq=False)
class _Fit:
    """What OpenCV finds: the board's pose in each view as rotation vector (3,) and shift (3,) m, besides the lens."""

    rms: float
    matrix: Array
    distortion: Array
    rotations: Sequence[Array]
    translations: Sequence[Array]
    deviations: Array
    view_rms: Array


def _calibrate(views: Sequence[BoardView], width: int, height: int) -> _Fit:
    """With the third radial coefficient only where the views ask for it: it swings beyond what was seen."""
    plain = _opencv(views, width, height, cv2.CALIB_FIX_K3)
    full = _opencv(views, width, height, 0)
    return full if full.rms < BETTER * plain.rms else plain


def _opencv(views: Sequence[BoardView], width: int, height: int, flags: int) -> _Fit:
    rms, matrix, distortion, rotations, translations, deviations, _, per_view = cv2.calibrateCameraExtended(
        [view.points.astype(np.float32) for view in views],
        [view.pixels.astype(np.float32)[:, None] for view in views],
        (width, height),
        None,  # type: ignore[call-overload]
        None,
        flags=flags,
    )
    numbers = [np.asarray(one, dtype=np.float64).ravel() for one in (distortion, deviations, per_view)]
    return _Fit(
        float(rms), np.asarray(matrix), numbers[0][:5], [np.asarray(one) for one in rotations],
        [np.asarray(one) for one in translations], numbers[1], numbers[2],
    )  # fmt: skip


def bulging(views: Sequence[BoardView], fit: _Fit) -> float:
    """By how much of its length the board is out of flat (standard deviation of its corners' heights, doubled).

    One Gauss-Newton step with the corners' heights set free, as Strobl and Hirzinger do ("More accurate pinhole
    camera calibration with imperfect planar target", 2011); what noise alone would do is subtracted.
    """
    corners = np.unique(np.concatenate([view.points[:, :2] for view in views]).round(6), axis=0)
    lens, poses = 9, 6 * len(views)
    rows: list[Array] = []
    residuals: list[Array] = []
    for i, view in enumerate(views):
        turn, shift = fit.rotations[i], fit.translations[i]
        found, jacobian = cv2.projectPoints(view.points, turn, shift, fit.matrix, fit.distortion)
        block = np.zeros((len(view.points), 2, lens + poses + len(corners)))
        jacobian = jacobian.reshape(len(view.points), 2, -1)
        block[..., :lens] = jacobian[..., 6 : 6 + lens]
        block[..., lens + 6 * i : lens + 6 * i + 6] = jacobian[..., :6]
        number = np.argmin(np.abs(view.points[:, None, :2] - corners).sum(axis=-1), axis=1)
        # A height moves the corner along the board's normal.
        block[np.arange(len(number)), :, lens + poses + number] = (
            jacobian[..., 3:6] @ cv2.Rodrigues(turn)[0][:, 2]
        )
        rows.append(block.reshape(-1, block.shape[-1]))
        residuals.append((view.pixels - found.reshape(-1, 2)).ravel())
    design, missed = np.concatenate(rows), np.concatenate(residuals)
    scale = np.linalg.norm(design, axis=0)
    scale[scale == 0.0] = 1.0
    inverse = np.linalg.pinv(design / scale, rcond=1e-8)
    solution = inverse @ missed / scale
    heights, noise = (
        solution[lens + poses :],
        (inverse**2).sum(axis=1)[lens + poses :] / scale[lens + poses :] ** 2,
    )
    left = missed - design @ solution
    variance = float(left @ left) / max(len(missed) - design.shape[1], 1)
    # Where the board as a whole is and how it leans is its pose's business.
    plane = np.column_stack([corners, np.ones(len(corners))])
    heights = heights - plane @ np.linalg.lstsq(plane, heights, rcond=None)[0]
    excess = float(np.mean(heights**2)) - variance * float(noise.mean())
    return 2 * np.sqrt(max(excess, 0.0)) / float(np.ptp(corners, axis=0).max())
