import math

import cv2
import numpy as np
import pytest

from hardware.cameras.silhouette import cube_outline, fit_cube, fit_disc
from sim2real.camera import CameraModel

CAMERA = CameraModel.looking_at((0.55, 0.3, 0.4), (0.22, 0.0, 0.0))
POSE = np.ascontiguousarray(CAMERA.camera_to_base)
FOCAL = CAMERA.fx
SIZE = 0.025


def corners(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) * SIZE / 2
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    return np.array([x, y, z]) + signs @ turn.T


def edges(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), np.int8)


def outline_of(pose: tuple[float, ...]) -> np.ndarray:
    found = np.empty((8, 2))
    return found[: cube_outline(np.array(pose), SIZE, POSE, FOCAL, found)]


def points_on(polygon: np.ndarray, each: int = 12) -> np.ndarray:
    share = np.linspace(0, 1, each, endpoint=False)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in zip(polygon, np.roll(polygon, -1, axis=0))])


@pytest.mark.parametrize("yaw", [0.0, 0.3, 1.0])
def test_the_outline_is_the_hull_of_the_projected_corners(yaw: float) -> None:
    hull = cv2.convexHull(
        (CAMERA.project(corners(0.2, 0.05, SIZE / 2, yaw)) - (CAMERA.cx, CAMERA.cy)).astype("f4")
    )
    ours = outline_of((0.2, 0.05, yaw, 1.0))
    assert len(ours) == len(hull)
    assert cv2.contourArea(ours.astype("f4")) == pytest.approx(cv2.contourArea(hull), rel=1e-4)
    for corner in ours:
        assert np.linalg.norm(hull[:, 0] - corner, axis=1).min() < 1e-2


def test_a_lifted_cube_is_named_by_where_its_ray_meets_the_table() -> None:
    truth = np.array([0.22, -0.04, 0.07])
    seen = CAMERA.seen_on_plane(truth, SIZE / 2)
    s = (CAMERA.position[2] - truth[2]) / (CAMERA.position[2] - SIZE / 2)
    hull = cv2.convexHull((CAMERA.project(corners(*truth, 0.4)) - (CAMERA.cx, CAMERA.cy)).astype("f4"))
    assert cv2.contourArea(outline_of((seen[0], seen[1], 0.4, s)).astype("f4")) == pytest.approx(
        cv2.contourArea(hull), rel=1e-4
    )


@pytest.mark.parametrize("lift", [1.0, 0.85])
def test_finds_the_pose_from_the_whole_outline(lift: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        truth = np.array([rng.uniform(0.15, 0.3), rng.uniform(-0.15, 0.15), rng.uniform(0, 1.57), lift])
        points = points_on(outline_of(tuple(truth)))
        start = truth[:2] + np.array([0.004, -0.003])
        starts = np.array([[start[0], start[1], yaw, 1.0] for yaw in np.deg2rad([0, 30, 60])])
        found, cost, fitting = fit_cube(points, edges(points), starts, lift < 1, SIZE, POSE, FOCAL, 0.0, 1.0)
        assert cost < 1e-3 and fitting == 1.0
        assert math.dist(found[:2], truth[:2]) < 2e-4
        assert abs(math.remainder(found[2] - truth[2], math.pi / 2)) < 0.02


def test_points_inside_are_taken_for_what_hides_the_cube() -> None:
    truth = np.array([0.22, 0.03, 0.5, 1.0])
    whole = outline_of(tuple(truth))
    points = points_on(whole, 30)
    # A vertical edge hides the right third: its points lie inside the true outline.
    edge = points[:, 0].min() + 0.67 * np.ptp(points[:, 0])
    rows = points[points[:, 0] > edge][:, 1]
    hidden = np.stack([np.full(25, edge), np.linspace(rows.min(), rows.max(), 25)], axis=1)
    seen = np.concatenate([points[points[:, 0] <= edge], hidden])
    starts = np.array([[0.223, 0.028, yaw, 1.0] for yaw in np.deg2rad([0, 30, 60])])
    found, _, fitting = fit_cube(seen, edges(seen), starts, False, SIZE, POSE, FOCAL, 0.0, 1.0)
    assert math.dist(found[:2], truth[:2]) < 1e-3
    assert abs(math.remainder(found[2] - truth[2], math.pi / 2)) < 0.04
    assert 0.5 < fitting < 0.95


def test_behind_the_camera_there_is_no_outline() -> None:
    assert cube_outline(np.array([5.0, 3.0, 0.0, 1.0]), SIZE, POSE, FOCAL, np.empty((8, 2))) == 0


def test_finds_a_disc_from_half_its_rim() -> None:
    turn = np.linspace(0, math.pi, 40)
    rim = np.stack([0.2 + 0.03 * np.cos(turn), 0.1 + 0.03 * np.sin(turn)], axis=1)
    chord = np.stack([np.linspace(0.17, 0.23, 25), np.full(25, 0.1)], axis=1)
    starts = np.array([[0.2, 0.11], [0.2, 0.125], [0.2, 0.095]])
    found, _, fitting = fit_disc(np.concatenate([rim, chord]), starts, 0.03, 0.0, 0.001)
    assert math.dist(found, (0.2, 0.1)) < 5e-4
    assert fitting == pytest.approx(0.65, abs=0.05)
