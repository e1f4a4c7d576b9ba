"""Objects of all kinds and many colours in one picture, found by name."""

import math

import numpy as np
import pytest

from hardware.cameras.detector import Detector
from hardware.drawing.picture import OBJECT, Picture
from sim2real.errors import UserError
from sim2real.objects import ObjectSpec
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
CAMERA = ROBOT.cameras["front"]
LIGHT = {
    "light.azimuth": 0.6,
    "light.elevation": 1.0,
    "light.ambient": 0.55,
    "light.diffuse": 0.45,
    "camera.white_balance": 0.0,
    "camera.exposure": 0.0,
    "camera.noise": 0.01,
}
SPECS = (
    ObjectSpec("cube", "cube", 0.03, "blue", 0.02),
    ObjectSpec("die", "cube", 0.02, "pink", 0.01),
    ObjectSpec("brick", "block", (0.05, 0.02, 0.015), "orange", 0.03),
    ObjectSpec("can", "cylinder", (0.015, 0.05), "yellow", 0.03),
    ObjectSpec("ball", "ball", 0.015, "purple", 0.01),
    ObjectSpec("bowl", "bowl", (0.05, 0.03), "turquoise", 0.05),
    ObjectSpec("tray", "box", (0.08, 0.06, 0.02), "red", 0.05),
    ObjectSpec("spot", "zone", 0.03, "green"),
)
# The higher ones behind, so that nothing hides another.
PLACES = (
    (0.32, -0.05),
    (0.34, 0.08),
    (0.3, 0.17),
    (0.17, -0.12),
    (0.36, 0.0),
    (0.18, 0.14),
    (0.31, -0.17),
    (0.19, 0.02),
)


def draw(specs: tuple[ObjectSpec, ...], places: tuple[tuple[float, float], ...], yaw: float) -> np.ndarray:
    pose = np.full(ROBOT.n + OBJECT * len(specs), np.nan)
    pose[: ROBOT.n] = ROBOT.rest
    c, s = math.cos(yaw), math.sin(yaw)
    for spec, (x, y), row in zip(specs, places, pose[ROBOT.n :].reshape(-1, OBJECT)):
        row[:] = [x, y, spec.rest, c, -s, 0, s, c, 0, 0, 0, 1, spec.measures[0]]
    picture = Picture(ROBOT, CAMERA, LIGHT, specs).draw(pose)
    return np.ascontiguousarray(picture[..., ::-1])


@pytest.mark.parametrize("yaw", [0.1, 0.9, 1.7, 2.8])
def test_each_is_found_where_it_is(yaw: float) -> None:
    percept = Detector(CAMERA, SPECS).detect(draw(SPECS, PLACES, yaw))
    assert set(percept.objects) == {spec.name for spec in SPECS}
    for spec, place in zip(SPECS, PLACES):
        seen = percept.objects[spec.name]
        assert math.dist(seen.position, (*place, spec.rest)) < 0.004, spec.name
        if spec.symmetry:
            turn = 2 * math.pi / spec.symmetry
            assert abs(math.remainder(seen.yaw - yaw, turn)) < math.radians(8), spec.name


@pytest.mark.parametrize("name", [spec.name for spec in SPECS])
def test_what_is_not_there_is_not_found(name: str) -> None:
    there = [(spec, place) for spec, place in zip(SPECS, PLACES) if spec.name != name]
    image = draw(tuple(spec for spec, _ in there), tuple(place for _, place in there), 0.4)
    assert set(Detector(CAMERA, SPECS).detect(image).objects) == {spec.name for spec, _ in there}


def test_a_thing_of_another_size_is_something_else() -> None:
    for name, size in (("cube", 0.06), ("ball", 0.03), ("brick", (0.1, 0.04, 0.03))):
        spec = next(spec for spec in SPECS if spec.name == name)
        image = draw((ObjectSpec(name, spec.kind, size, spec.colour, 0.05),), ((0.25, 0.05),), 0.3)
        assert not Detector(CAMERA, [spec]).detect(image).objects, name


def test_objects_that_a_camera_cannot_tell_are_refused() -> None:
    with pytest.raises(
        UserError, match="cannot tell the object 'stone'.*grey; choose another one, such as red"
    ):
        Detector(CAMERA, [ObjectSpec("stone", "cube", 0.03, "grey", 0.02)])
    with pytest.raises(UserError, match="'a' .red. and 'b' .* look alike"):
        Detector(
            CAMERA,
            [
                ObjectSpec("a", "cube", 0.03, "red", 0.02),
                ObjectSpec("b", "ball", 0.02, (0.8, 0.1, 0.1), 0.02),
            ],
        )
