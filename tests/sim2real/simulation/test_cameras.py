"""The cameras of a world: anywhere around the table, or those of a file."""

from dataclasses import replace

import numpy as np
import pytest

from sim2real.camera import CameraModel
from sim2real.camera_placement import Placement, share_seen
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.simulation.cameras import perturbed
from sim2real.simulation.parameters import world_parameters
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task
from tests.sim2real.simulation.draws import random_draw

ABOVE = CameraModel.looking_at((0.3, 0.05, 0.7), (0.24, 0.0, 0.0), width=320, height=240, name="above")


def test_without_a_draw_the_camera_stands_where_the_robot_says(push: World) -> None:
    push.reset()
    assert np.array_equal(push.camera().camera_to_base, push.robot.cameras["front"].camera_to_base)
    assert push.cameras.described("front") is push.robot.cameras["front"]


def test_by_default_it_may_stand_anywhere_and_always_sees_the_workspace(push: World) -> None:
    places = []
    for seed in range(100):
        push.reset(random_draw(push.parameters, seed, ("camera.",)))
        assert share_seen(push.cameras.described("front")) == 1.0
        places.append(Placement.of(push.cameras.described("front")))
    azimuth = np.array([place.azimuth for place in places])
    elevation = np.array([place.elevation for place in places])
    assert azimuth.min() < -2.2 and azimuth.max() > 2.2
    assert elevation.min() < 0.5 and elevation.max() > 1.3


def test_the_detector_goes_by_the_description_of_a_camera_that_stands_elsewhere(lift: World) -> None:
    values = {"detector.noise": 0.0, "detector.errors": 0.0, "camera.azimuth": -1.0, "camera.yaw": 0.004}
    lift.reset(Draw(seed=1, values=values))
    described, real = lift.cameras.described("front"), lift.camera()
    np.testing.assert_allclose(real.camera_to_base, perturbed(described, lift.values).camera_to_base)
    seen, cube = lift.observe()["object.cube.position"], lift.truth().objects["cube"].position
    expected = described.on_plane(real.project(cube), lift.objects[0].rest)
    np.testing.assert_allclose(seen, expected, atol=3e-4)
    assert np.linalg.norm(seen - cube) > 1.5e-3


def test_a_world_with_cameras_of_ones_own() -> None:
    known = replace(ABOVE, position_deviation=0.004, rotation_deviation=0.01)
    parameters = world_parameters(World("so101").robot, (), {"above": known})
    assert "camera.azimuth" not in parameters
    assert parameters["camera.x"].high == pytest.approx(0.004 * 3**0.5)
    assert parameters["camera.roll"].low == pytest.approx(-0.01 * 3**0.5)
    with World("so101", load_task("lift"), cameras={"above": ABOVE}) as world:
        assert world.cameras.detector == "above"
        assert world.render().shape == (240, 320, 3)
        assert world.parameters["camera.x"].high < 0.003
        with pytest.raises(UserError, match="no camera 'front'; known are above"):
            world.render("front")
        assert np.isfinite(world.observe()["object.cube.position"]).all()
