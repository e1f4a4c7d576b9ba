import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim2real.camera import CameraModel, load_cameras, look_at, save_cameras
from sim2real.errors import UserError

POSE = look_at((0.45, 0.3, 0.4), (0.2, 0.0, 0.0))
DISTORTIONS = [(0.0,) * 5, (-0.28, 0.09, 0.001, -0.002, -0.01), (0.12, -0.2, -0.001, 0.0005, 0.05)]


def table(**changes: object) -> dict[str, object]:
    base = {"width": 640, "height": 480, "fx": 500.0, "fy": 510.0, "cx": 315.0, "cy": 244.0}
    return base | {"distortion": [0.0] * 5, "camera_to_base": POSE.tolist()} | changes


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_projects_as_opencv_does(distortion: tuple[float, ...]) -> None:
    camera = CameraModel.from_table(table(distortion=list(distortion)))
    points = np.random.default_rng(0).uniform((0.1, -0.2, 0.0), (0.35, 0.2, 0.2), (50, 3))
    inverse = camera.base_to_camera
    rotation, _ = cv2.Rodrigues(inverse[:3, :3])
    expected, _ = cv2.projectPoints(
        points, rotation, inverse[:3, 3], camera.matrix, np.array(camera.distortion)
    )
    np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_pixels_go_back_to_the_points_they_came_from(distortion: tuple[float, ...]) -> None:
    camera = CameraModel.from_table(table(distortion=list(distortion)))
    u, v = np.meshgrid(np.linspace(0, 639, 13), np.linspace(0, 479, 11))
    pixels = np.stack([u, v], axis=-1)
    on_table = camera.on_plane(pixels, 0.0125)
    assert on_table.shape == (11, 13, 3)
    np.testing.assert_allclose(on_table[..., 2], 0.0125, atol=1e-12)
    np.testing.assert_allclose(camera.project(on_table), pixels, atol=1e-6)
    assert camera.contains(pixels).all()


def test_axes_are_right_down_forward() -> None:
    camera = CameraModel.looking_at((0.0, -1.0, 0.5), (0.0, 0.0, 0.5))
    np.testing.assert_allclose(camera.project((0.0, 0.0, 0.5)), (319.5, 239.5), atol=1e-9)
    assert camera.project((0.1, 0.0, 0.5))[0] > 319.5  # the base's x is to the right
    assert camera.project((0.0, 0.0, 0.6))[1] < 239.5  # up is up
    # Half the vertical field of view reaches the upper edge of the top pixel.
    top = camera.project((0.0, 0.0, 0.5 + math.tan(math.radians(25))))
    assert top[1] == pytest.approx(-0.5)


def test_what_is_behind_or_above_the_horizon_is_nan() -> None:
    camera = CameraModel.looking_at((0.0, -1.0, 0.5), (0.0, 0.0, 0.5))
    assert np.isnan(camera.project((0.0, -2.0, 0.5))).all()
    assert not camera.contains(camera.project((0.0, -2.0, 0.5)))
    rays = camera.on_plane([[319.5, 0.0], [319.5, 479.0]], 0.0)
    assert np.isnan(rays[0]).all() and np.isfinite(rays[1]).all()


def test_a_lifted_point_is_seen_behind_itself() -> None:
    camera = CameraModel.looking_at((0.0, -1.0, 0.5), (0.0, 0.0, 0.0))
    # Similar triangles: 0.5 m above the table, 0.1 m up → 1/0.8 of the horizontal distance.
    seen = camera.seen_on_plane((0.0, 0.0, 0.1), 0.0)
    np.testing.assert_allclose(seen, (0.0, 0.25, 0.0), atol=1e-12)


def test_looking_straight_down() -> None:
    camera = CameraModel.looking_at((0.2, 0.0, 0.5), (0.2, 0.0, 0.0))
    assert camera.project((0.3, 0.0, 0.0))[1] < 239.5
    assert camera.project((0.2, -0.1, 0.0))[0] > 319.5


def test_resizing_keeps_the_rays() -> None:
    camera = CameraModel.from_table(table(distortion=list(DISTORTIONS[1])))
    half = camera.resized(320, 240)
    point = (0.25, 0.05, 0.01)
    np.testing.assert_allclose((camera.project(point) + 0.5) / 2 - 0.5, half.project(point))
    with pytest.raises(UserError, match="proportions differ"):
        camera.resized(640, 360)


def test_files_round_trip(tmp_path: Path) -> None:
    cameras = {
        "front": CameraModel.from_table(table(source="http://localhost:1/front.mjpg"), "front"),
        "top": CameraModel.looking_at((0.2, 0.0, 0.6), (0.2, 0.0, 0.0), name="top"),
    }
    save_cameras(cameras, tmp_path / "cameras.toml")
    loaded = load_cameras(tmp_path / "cameras.toml")
    assert list(loaded) == ["front", "top"]
    assert loaded["front"].source == "http://localhost:1/front.mjpg" and loaded["top"].source is None
    for name in cameras:
        np.testing.assert_allclose(
            loaded[name].camera_to_base, cameras[name].camera_to_base, rtol=0, atol=1e-15
        )
        assert loaded[name].fx == cameras[name].fx


SKEWED = POSE.copy()
SKEWED[:3, 0] *= 1.1
MIRRORED = POSE.copy()
MIRRORED[:3, 0] *= -1
MILLIMETRES = POSE.copy() * 1000


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"width": 0}, "width must be a whole number"),
        ({"height": 480.5}, "height must be a whole number"),
        ({"fx": -1.0}, "fx must be positive"),
        ({"fy": "500"}, "fy must be a number"),
        ({"cx": float("nan")}, "cx must be a finite"),
        ({"cx": 9000.0}, "far outside"),
        ({"distortion": [0.0] * 4}, "distortion needs 5"),
        ({"distortion": [0.0] * 4 + [float("inf")]}, "finite"),
        ({"camera_to_base": [[1.0, 0.0, 0.0]] * 3}, "needs 4 x 4"),
        ({"camera_to_base": SKEWED.tolist()}, "must be a rotation"),
        ({"camera_to_base": MIRRORED.tolist()}, "must be a rotation"),
        ({"camera_to_base": MILLIMETRES.tolist()}, "last row"),
        ({"camera_to_base": "front"}, "numbers only"),
        ({"focal": 3}, "unknown key focal"),
    ],
)
def test_refuses_impossible_cameras(change: dict[str, object], needle: str) -> None:
    with pytest.raises(UserError, match=needle) as caught:
        CameraModel.from_table(table(**change), "front")
    assert "'front'" in str(caught.value)


def test_refuses_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    with pytest.raises(UserError, match="no cameras file"):
        load_cameras(path)
    for text, needle in [
        ("", "holds no camera"),
        ("front = [", "cannot read"),
        ("front = 3", "expected a table"),
        ("[front]\nwidth = 640", "lacks height, fx"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=needle):
            load_cameras(path)


def test_four_decimals_of_a_rotation_are_enough() -> None:
    rounded = np.round(POSE, 4)
    camera = CameraModel.from_table(table(camera_to_base=rounded.tolist()))
    np.testing.assert_allclose(camera.rotation.T @ camera.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(camera.rotation, POSE[:3, :3], atol=1e-4)
