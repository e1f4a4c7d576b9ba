"""The lens from synthetic views of a board whose truth is known."""

import numpy as np
import pytest

from hardware.commissioning.board import Board
from hardware.commissioning.camera_lens import BoardView, fit_lens
from sim2real.camera import CameraModel, look_at
from sim2real.errors import UserError

BOARD = Board()
LENS = {"fx": 612.0, "fy": 608.0, "cx": 331.0, "cy": 236.0, "distortion": (-0.12, 0.05, 0.001, -0.002, 0.0)}


def camera(pose: np.ndarray) -> CameraModel:
    return CameraModel(width=640, height=480, camera_to_base=pose, **LENS)  # type: ignore[arg-type]


def make_views(
    count: int = 16,
    *,
    lean: float = 0.6,
    shift: float = 1.0,
    noise: float = 0.15,
    bulge: float = 0.0,
    seed: int = 0,
) -> list[BoardView]:
    """The board lies in the base's z = 0; the camera looks at it from `count` places."""
    rng = np.random.default_rng(seed)
    middle = np.array([*BOARD.size, 0.0]) / 2
    corners = BOARD.corners.copy()
    across = (corners - middle) / middle[0]
    corners[:, 2] = bulge * (1 - (across**2).sum(axis=1))
    views = []
    while len(views) < count:
        side = rng.uniform(-lean, lean, 2)
        at = middle + rng.uniform(0.3, 0.5) * np.array([*side, 1.0])
        target = middle + shift * np.array([*rng.uniform(-0.12, 0.12, 2), 0.0])
        pose, turn = look_at(at, target), rng.uniform(-np.pi, np.pi)
        pose[:3, :2] = pose[:3, :2] @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        pixels = camera(pose).project(corners)
        pixels += rng.normal(0, noise, pixels.shape)
        seen = ((pixels > 2) & (pixels < (637, 477))).all(axis=1)
        if seen.sum() >= 12:
            views.append(BoardView(BOARD.corners[seen], pixels[seen]))
    return views


def test_the_lens_is_found() -> None:
    fit = fit_lens(make_views(20), 640, 480)
    found = np.array([fit.fx, fit.fy, fit.cx, fit.cy])
    truth = np.array([LENS[name] for name in ("fx", "fy", "cx", "cy")])
    assert (np.abs(found - truth) < 3.5 * fit.deviation).all(), (found, fit.deviation)
    assert abs(fit.fx / LENS["fx"] - 1) < 0.003  # type: ignore[operator]
    assert fit.rms == pytest.approx(0.15 * np.sqrt(2), rel=0.15)
    # The distortion where it is largest: in the corners of the picture, whose middle may be shifted by a turn.
    pixels = np.array([[20.0, 20.0], [620.0, 460.0], [20.0, 460.0], [620.0, 20.0]])
    refound = CameraModel(640, 480, *found, np.eye(4), fit.distortion)
    off = refound.project(camera(np.eye(4)).pixel_rays(pixels)) - pixels
    assert np.abs(off - off.mean(axis=0)).max() < 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 5}, "seen in 5 views, at least 8"),
        ({"lean": 0.0, "shift": 0.6, "noise": 0.05}, "the board hardly leaned"),
        ({"noise": 1.5}, "px rms, 1 px are allowed: hold the board still"),
        ({"bulge": 0.012, "noise": 0.05, "count": 24, "shift": 0.3}, "not.* flat"),
    ],
)
def test_what_cannot_be_right_is_refused(changes: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match=message):
        fit_lens(make_views(**changes), 640, 480)


def test_a_board_in_the_middle_alone_is_refused() -> None:
    views = [BoardView(v.points, 320 + 0.3 * (v.pixels - 320)) for v in make_views()]
    with pytest.raises(UserError, match="cover .* of the picture"):
        fit_lens(views, 640, 480)
