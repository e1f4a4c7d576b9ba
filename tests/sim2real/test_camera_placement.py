"""Where cameras stand around the workspace, and how one differs from those that a policy was trained for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sim2real.camera import CameraModel
from sim2real.camera_coverage import CAMERAS, difference
from sim2real.camera_placement import WORKSPACE, Placement, check_sight, looking, share_seen
from sim2real.errors import UserError
from sim2real.robot import Robot

FRONT = Robot.load("so101").cameras["front"]
RANGES = {
    "azimuth": [-2.4, 2.4], "elevation": [0.45, 1.35], "distance": [0.4, 1.0], "aim_x": [0.16, 0.26],
    "aim_y": [-0.06, 0.04], "tilt": [-0.1, 0.1], "fov": [0.6, 1.1], "resolution": [240, 720],
}  # fmt: skip


def test_a_placement_says_where_its_own_camera_stands() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        placement = Placement(
            **{name: float(rng.uniform(*ends)) for name, ends in RANGES.items()} | {"distance": 1.5}
        )
        camera = placement.camera(FRONT)
        assert camera.width % 2 == camera.height % 2 == 0  # as videos must be
        found = Placement.of(camera)
        assert found is not None
        for name, value in vars(placement).items():
            assert getattr(found, name) == pytest.approx(value, abs=1.0 if name == "resolution" else 1e-6)


def test_the_described_camera_is_found_again() -> None:
    placement = Placement.of(FRONT)
    assert placement is not None
    again = placement.camera(FRONT)
    np.testing.assert_allclose(again.camera_to_base, FRONT.camera_to_base, atol=1e-6)
    assert (again.width, again.height, again.fx) == (640, 480, pytest.approx(FRONT.fx))


def test_a_camera_too_near_stands_back_until_it_sees_the_whole_workspace() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        placement = Placement(
            **{name: float(rng.uniform(*ends)) for name, ends in RANGES.items()} | {"distance": 0.05}
        )
        camera = placement.camera(FRONT)
        pixels = camera.project(WORKSPACE)
        assert camera.contains(pixels).all()
        # No further than it must: something is near an edge.
        margin = np.minimum(pixels, (camera.width - 1, camera.height - 1) - pixels) / camera.height
        assert margin.min() < 0.03


def test_which_camera_looks_for_objects() -> None:
    assert looking(["wrist", "front"]) == "front"
    assert looking(["top", "wrist"]) == "top"
    assert looking([]) is None


@pytest.mark.parametrize("height", [-0.6, 0.0])
def test_a_camera_that_cannot_see_the_table_is_refused(height: float) -> None:
    pose = FRONT.camera_to_base.copy()
    pose[2, 3] = height
    with pytest.raises(UserError, match="does not see the table in front of the arm"):
        check_sight(replace(FRONT, camera_to_base=pose), "cameras.toml")
    check_sight(FRONT, "cameras.toml")
    away = CameraModel.looking_at((0.6, 0.0, 0.4), (1.5, 0.0, 0.0))
    assert share_seen(away) == 0.0
    with pytest.raises(UserError, match="looks along"):
        check_sight(away, "cameras.toml")


def test_a_policy_says_what_it_was_trained_for() -> None:
    described = {CAMERAS: {"described": {"front": FRONT.table()}}}
    assert difference(described, FRONT) is None
    beside = CameraModel.looking_at((0.6, -0.3, 0.4), (0.22, 0.0, 0.0))
    assert "looks at the workspace from 65° beside it" in str(difference(described, beside))
    far = CameraModel.looking_at(2 * FRONT.position - (0.22, 0, 0), (0.22, 0.0, 0.0))
    assert "m away instead of" in str(difference(described, far))
    placed = {CAMERAS: {"placed": RANGES}}
    assert difference(placed, FRONT) is None and difference(placed, beside) is None
    low = CameraModel.looking_at((0.9, 0.0, 0.1), (0.22, 0.0, 0.0))
    assert "a height of 8°, the policy was trained for 26° … 77°" in str(difference(placed, low))
    assert "1.91 m from" in str(difference(placed, CameraModel.looking_at((1.4, 0.0, 1.5), (0.22, 0.0, 0.0))))
    for foreign in ({}, {CAMERAS: 3}, {CAMERAS: {}}, {CAMERAS: {"placed": {"azimuth": "x"}}}):
        assert difference(foreign, FRONT) is None


def test_how_well_a_place_is_known_is_part_of_a_camera() -> None:
    known = replace(FRONT, position_deviation=0.002, rotation_deviation=0.003)
    assert CameraModel.from_table(known.table()).position_deviation == 0.002
    assert known.resized(320, 240).rotation_deviation == 0.003
    assert "position_deviation" not in FRONT.table()
    for wrong in (-0.1, math.nan, 2.0):
        with pytest.raises(UserError, match="position_deviation must be a standard deviation"):
            replace(FRONT, position_deviation=wrong)
    with pytest.raises(UserError, match="rotation_deviation must be a number"):
        CameraModel.from_table(FRONT.table() | {"rotation_deviation": "small"})
