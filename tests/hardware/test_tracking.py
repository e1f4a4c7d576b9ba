import math
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.cameras.joint_trail import JointTrail
from hardware.cameras.tracking import CameraPerception
from hardware.runtime.control.tick import TickSink
from sim2real.moving_track import CONFIRMATIONS
from sim2real.objects import ByName
from sim2real.observation import MAX_AGE
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task
from sim2real.tracking import Hand, Percept, PerceptTracker, Sighting

OBJECTS = load_task("push").objects
MARK = (0.2, 0.1, 0.0)


def covariance(visible: float) -> np.ndarray:
    """Millimetre and two degrees when all is seen, four and twenty where half is hidden."""
    place, angle = (0.001, 0.035) if visible > 0.7 else (0.004, 0.35)
    return np.diag([place**2, place**2, angle**2])


def seen(
    time: float,
    x: float,
    y: float = 0.0,
    *,
    yaw: float = 0.0,
    visible: float = 1.0,
    mark: tuple[float, float, float] | None = None,
) -> Percept:
    found = ByName(cube=Sighting(np.array([x, y, 0.0125]), yaw, visible, visible, covariance(visible)))
    if mark is not None:
        found["mark"] = Sighting(np.array(mark), 0.0, 1.0, 1.0, covariance(1.0))
    return Percept(time, found)


def zone(time: float, place: object, visible: float) -> Percept:
    return Percept(time, ByName(mark=Sighting(np.array(place), 0.0, visible, visible, covariance(visible))))


def test_before_anything_is_seen() -> None:
    entries = PerceptTracker(OBJECTS).entries(10.0)
    np.testing.assert_array_equal(entries["object.cube.position"], (0.25, 0.0, 0.0125))
    assert entries["object.cube.age"] == [MAX_AGE] and entries["object.cube.yaw"].tolist() == [1.0, 0.0]


def test_a_hidden_cube_stays_and_grows_old() -> None:
    tracker = PerceptTracker(OBJECTS)
    tracker.add(seen(1.0, 0.2, yaw=0.3))
    tracker.add(Percept(1.1))
    entries = tracker.entries(1.5)
    assert entries["object.cube.position"][0] == 0.2 and entries["object.cube.age"][0] == pytest.approx(0.5)
    np.testing.assert_allclose(entries["object.cube.yaw"], [math.cos(1.2), math.sin(1.2)])
    assert tracker.entries(9.0)["object.cube.age"][0] == MAX_AGE
    assert tracker.entries(0.9)["object.cube.age"][0] == 0.0


def test_single_outliers_are_ignored_and_real_moves_followed() -> None:
    tracker = PerceptTracker(OBJECTS)
    tracker.add(seen(1.0, 0.2))
    tracker.add(seen(1.1, 0.35))
    tracker.add(seen(1.2, 0.21))
    assert tracker.entries(1.2)["object.cube.position"][0] == pytest.approx(0.21, abs=1e-4)
    for i in range(CONFIRMATIONS):
        # Outliers that do not agree with each other confirm nothing.
        tracker.add(seen(1.3 + 0.1 * i, 0.3 + 0.05 * i, y=0.1 * (-1) ** i))
    assert tracker.entries(1.5)["object.cube.position"][0] == pytest.approx(0.21, abs=1e-4)
    for i in range(CONFIRMATIONS):
        tracker.add(seen(2.0 + 0.1 * i, 0.35))
    assert tracker.entries(2.3)["object.cube.position"][0] == 0.35


def test_the_angle_of_a_half_hidden_cube_is_not_believed() -> None:
    tracker = PerceptTracker(OBJECTS)
    tracker.add(seen(1.0, 0.2, yaw=0.3))
    tracker.add(seen(1.1, 0.2, yaw=0.7, visible=0.55))
    assert tracker.entries(1.1)["object.cube.yaw"][0] == pytest.approx(math.cos(1.2), abs=0.01)
    assert tracker.entries(1.1)["object.cube.age"][0] == 0.0


def test_the_mark_is_a_median_that_partial_views_do_not_disturb() -> None:
    tracker = PerceptTracker(OBJECTS)
    rng = np.random.default_rng(0)
    for i in range(20):
        tracker.add(zone(i / 30, np.array(MARK) + rng.normal(0, 1e-4, 3), 0.95))
    tracker.add(zone(1.0, (0.3, 0.1, 0.0), 0.95))
    tracker.add(zone(1.1, (0.4, 0.1, 0.0), 0.4))
    entries = tracker.entries(9.0)
    assert math.dist(entries["object.mark.position"], MARK) < 1e-3
    assert entries["object.mark.age"][0] == 0.0, "what lies still does not grow old"


class FakeCamera:
    """Stands for the camera process: hands out percepts one after the other."""

    def __init__(self) -> None:
        self.count, self.newest, self.closed = 0, None, False
        self.trail: JointTrail | None = None
        self.reader = SimpleNamespace(percept=self.percept, age=lambda now: now - 100.0)

    def percept(self) -> tuple[int, Percept] | None:
        return None if self.newest is None else (self.count, self.newest)

    def show(self, percept: Percept) -> None:
        self.count, self.newest = self.count + 1, percept

    def close(self) -> None:
        self.closed = True


def test_the_source_is_ready_when_all_is_seen_since_the_episode_began() -> None:
    camera = FakeCamera()
    source = CameraPerception(camera, OBJECTS, goal_zone="mark", goal_height=0.0125)  # type: ignore[arg-type]
    later = source._since + 1.0
    camera.show(seen(source._since - 0.1, 0.2))
    assert not source.ready()  # that picture is from before
    for i in range(4):
        both = seen(later + i / 30, 0.22, mark=MARK)
        camera.show(both)
        ready = source.ready()
        assert ready == (i >= 2)
    entries = source.entries(later + 1.0)
    np.testing.assert_allclose(entries["goal"], [0.2, 0.1, 0.0125])
    assert entries["object.cube.age"][0] == pytest.approx(0.9)
    source.begin(np.array([0.1, 0.2, 0.3]))
    assert not source.ready()
    camera.show(seen(source._since + 0.1, 0.25))
    assert source.ready()  # a goal that is given needs no mark
    entries = source.entries(later)
    assert entries["goal"].tolist() == [0.1, 0.2, 0.3]
    assert entries["object.mark.position"].tolist() == [0.1, 0.2, 0.0], "the zone is where the goal is"
    source.close()
    assert camera.closed


def test_ticks_tell_the_camera_and_the_tracker_where_the_arm_is() -> None:
    robot, camera = Robot.load("so101"), FakeCamera()
    camera.trail = JointTrail(robot.n, exposed=0.0)
    source = CameraPerception(camera, OBJECTS, np.zeros(3), robot=robot)  # type: ignore[arg-type]
    assert isinstance(source, TickSink)
    home, now = np.array(robot.home), source._since + 1.0
    assert robot.gripper is not None
    tool = Hand.of(robot, home).position
    opened, closed, lower = home.copy(), home.copy(), home.copy()
    opened[robot.gripper], closed[robot.gripper] = 0.8, 0.4
    lower[:] = closed
    lower[1] -= 0.3

    def tick(joints: np.ndarray, valid: bool = True) -> None:
        reading = SimpleNamespace(time=now, position=joints, valid=np.full(robot.n, valid))
        source.tick(SimpleNamespace(reading=reading, observation={}))  # type: ignore[arg-type]

    tick(opened, valid=False)
    assert camera.trail.at(now) is None, "what a joint did not answer is not known"
    tick(opened)
    np.testing.assert_allclose(camera.trail.at(now), opened)
    at_hand = Sighting(tool + 0.005, 0.0, 1.0, 1.0, covariance(1.0))
    camera.show(Percept(now, ByName(cube=at_hand)))
    source.entries(now)
    for joints in (opened, closed, closed, lower):
        now += 1 / 30
        tick(joints)
    moved = Hand.of(robot, lower).position - tool
    assert math.dist(moved, (0, 0, 0)) > 0.02
    where = source.entries(now)["object.cube.position"]
    assert math.dist(where, at_hand.position + moved) < 0.01, "the hand has taken it along"
