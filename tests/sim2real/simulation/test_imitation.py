"""The imitated detector: its errors are those that were measured, persist, and go through the filter of the arm."""

import math
from dataclasses import replace

import numpy as np
import pybullet as bullet
import pytest

from hardware.cameras.tracking import CameraPerception
from sim2real.camera import CameraModel
from sim2real.parameters import Draw
from sim2real.simulation.imitation import FREE, Imitation, View, measured_errors
from sim2real.simulation.rollout import rollout
from sim2real.simulation.visibility import Visibility
from sim2real.simulation.world import World
from sim2real.tracking import Hand, PerceptTracker

ERRORS = measured_errors()
CAMERA = CameraModel.looking_at((0.6, 0.0, 0.5), (0.2, 0.0, 0.0))
VIEW = View(np.array([0.2, 0.05, 0.0125]), 0.3, 1.0, (0.0, 0.0), 0.0, False, 0.002, 0.025)


def sightings(view: View, count: int = 3000, seed: int = 0) -> list:
    """So far apart in time that they know nothing of each other."""
    imitation = Imitation(ERRORS, np.random.default_rng(seed))
    return [imitation.sight(view, 100.0 * k, CAMERA) for k in range(count)]


@pytest.mark.parametrize("visible", [0.3, 0.5, 0.6, 0.8, 0.9, 1.0])
def test_errors_are_those_that_were_measured(visible: float) -> None:
    k = ERRORS.bin(visible)
    found = sightings(replace(VIEW, visible=visible, shift=(0.004, 0.0)))
    seen = [one for one in found if one is not None]
    assert len(seen) / len(found) == pytest.approx(ERRORS.found[k], abs=0.03)
    unit = VIEW.pixel if visible > FREE else VIEW.side
    grows = math.sqrt(1e-3 * unit) if visible > FREE else unit
    place = np.array([np.hypot(*(one.position - VIEW.place)[:2]) for one in seen]) / grows
    angle = np.abs([one.yaw - VIEW.yaw for one in seen])
    claimed = np.array([math.sqrt(one.covariance[0, 0]) for one in seen]) / unit
    for values, table in ((place, ERRORS.place), (angle, ERRORS.angle), (claimed, ERRORS.spread_place)):
        expected = np.interp((0.25, 0.5, 0.75, 0.9), ERRORS.levels, table[k])
        np.testing.assert_allclose(np.quantile(values, (0.25, 0.5, 0.75, 0.9)), expected, rtol=0.2)


def test_what_is_half_hidden_is_seen_towards_its_visible_side() -> None:
    k = ERRORS.bin(0.3)
    assert ERRORS.toward[k] > 0.3
    seen = [one for one in sightings(replace(VIEW, visible=0.3, shift=(0.0, 0.005))) if one is not None]
    error = np.array([(one.position - VIEW.place)[:2] for one in seen])
    assert error[:, 1].mean() > 2 * abs(error[:, 0].mean()) and error[:, 1].mean() > 0.001


def test_errors_persist_from_picture_to_picture() -> None:
    view = replace(VIEW, visible=0.8, shift=(0.004, 0.0))
    steps = {}
    for gap in (1 / 30, 10.0):
        imitation = Imitation(ERRORS, np.random.default_rng(1))
        yaws = np.array([imitation.sight(view, gap * k, CAMERA).yaw for k in range(600)])
        steps[gap] = np.abs(np.diff(yaws)).mean()
    assert steps[1 / 30] < 0.6 * steps[10.0]


def test_a_held_cube_is_often_said_to_be_lifted_and_a_lying_one_rarely() -> None:
    for height, hand in ((0.08, True), (0.08, False), (0.004, True)):
        view = replace(VIEW, height=height, at_hand=hand)
        seen = [one for one in sightings(view, 1000) if one is not None]
        share = np.mean([one.lifted for one in seen])
        expected = ERRORS.lifted[sum(height >= edge for edge in ERRORS.heights[1:])] if hand else 0.0
        assert share == pytest.approx(expected, abs=0.05)
        raised = [one for one in seen if one.lifted]
        for one in raised[:20]:
            assert one.position[2] >= VIEW.place[2] and one.covariance[0, 0] > 0 and one.height_spread > 0
    assert expected < 0.2


def test_a_free_cube_is_seen_whole_and_one_behind_a_screen_in_part(lift: World) -> None:
    lift.reset(Draw(seed=1))
    state, camera = lift.truth().objects["cube"], lift.camera()
    seeing = Visibility(lift.bodies, camera)
    assert seeing.look(state) == (1.0, (0.0, 0.0))
    # A wall between camera and cube, that ends in the middle of the cube as the camera sees it.
    right = camera.rotation[:, 0]
    centre = state.position + 0.15 * (camera.position - state.position) + 0.05 * right
    half = (0.05, 0.001, 0.2)
    shape = bullet.createCollisionShape(bullet.GEOM_BOX, halfExtents=half, physicsClientId=lift.client)
    turn = bullet.getQuaternionFromEuler((0, 0, math.atan2(right[1], right[0])))
    body = bullet.createMultiBody(0, shape, -1, centre.tolist(), turn, physicsClientId=lift.client)
    try:
        share, shift = seeing.look(state)
    finally:
        bullet.removeBody(body, physicsClientId=lift.client)
    assert 0.3 < share < 0.7
    assert shift @ right[:2] < -0.003


def test_what_is_seen_goes_through_the_filter_of_the_arm(lift: World) -> None:
    lift.reset(Draw(seed=2, values={"detector.latency": 0.0}))
    first = lift.observe()
    assert type(lift.detector.tracker) is PerceptTracker
    assert CameraPerception.__init__.__globals__["PerceptTracker"] is PerceptTracker
    hand = Hand.of(lift.robot, lift.sensed_position)
    percept = lift.detector.percept(lift.time + 0.2)
    mine = PerceptTracker(lift.detector.tracker.objects)
    for tracker in (mine, lift.detector.tracker):
        tracker.reset()
        tracker.add(percept, hand)
    assert first.keys() >= mine.entries(0.5).keys()
    for name, value in lift.detector.entries(lift.states(), 0.5, hand).items():
        assert np.array_equal(value, mine.entries(0.5)[name])


def test_the_filter_is_told_where_the_hand_is(lift: World) -> None:
    draw = Draw(seed=3, values={"detector.errors": 0.0})
    rollout(lift, lift.task.expert(lift.robot), draw, linger=1.0)
    cube = lift.truth().objects["cube"].position
    assert cube[2] > 0.05 and lift.detector.tracker.tracks["cube"].held
    assert np.linalg.norm(lift.observe()["object.cube.position"] - cube) < 0.02
