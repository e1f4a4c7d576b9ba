import math
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.cameras.detector import Percept
from hardware.cameras.tracking import CONFIRMATIONS, UNSEEN, CameraPerception, PerceptTracker
from sim2real.observation import MAX_AGE


def seen(time: float, x: float, y: float = 0.0, **values: object) -> Percept:
    return Percept(time, cube=np.array([x, y, 0.0125]), visible=values.pop("visible", 1.0), **values)


def test_before_anything_is_seen() -> None:
    entries = PerceptTracker().entries(10.0)
    np.testing.assert_array_equal(entries["cube"], UNSEEN)
    assert entries["cube_age"] == [MAX_AGE] and entries["cube_yaw"].tolist() == [1.0, 0.0]


def test_a_hidden_cube_stays_and_grows_old() -> None:
    tracker = PerceptTracker()
    tracker.add(seen(1.0, 0.2, yaw=0.3))
    tracker.add(Percept(1.1))
    entries = tracker.entries(1.5)
    assert entries["cube"][0] == 0.2 and entries["cube_age"][0] == pytest.approx(0.5)
    np.testing.assert_allclose(entries["cube_yaw"], [math.cos(1.2), math.sin(1.2)])
    assert tracker.entries(9.0)["cube_age"][0] == MAX_AGE
    assert tracker.entries(0.9)["cube_age"][0] == 0.0


def test_single_outliers_are_ignored_and_real_moves_followed() -> None:
    tracker = PerceptTracker()
    tracker.add(seen(1.0, 0.2))
    tracker.add(seen(1.1, 0.35))
    tracker.add(seen(1.2, 0.21))
    assert tracker.entries(1.2)["cube"][0] == 0.21
    for i in range(CONFIRMATIONS):
        # Outliers that do not agree with each other confirm nothing.
        tracker.add(seen(1.3 + 0.1 * i, 0.3 + 0.05 * i, y=0.1 * (-1) ** i))
    assert tracker.entries(2.0)["cube"][0] == 0.21
    for i in range(CONFIRMATIONS):
        tracker.add(seen(2.0 + 0.1 * i, 0.35))
    assert tracker.entries(2.3)["cube"][0] == 0.35


def test_the_angle_of_a_half_hidden_cube_is_not_believed() -> None:
    tracker = PerceptTracker()
    tracker.add(seen(1.0, 0.2, yaw=0.3))
    tracker.add(seen(1.1, 0.2, yaw=0.7, visible=0.55))
    np.testing.assert_allclose(tracker.entries(1.1)["cube_yaw"][0], math.cos(1.2))
    assert tracker.entries(1.1)["cube_age"][0] == 0.0


def test_the_mark_is_a_median_that_partial_views_do_not_disturb() -> None:
    tracker = PerceptTracker()
    rng = np.random.default_rng(0)
    for i in range(20):
        tracker.add(Percept(i / 30, mark=np.array([0.2, 0.1]) + rng.normal(0, 1e-4, 2), mark_visible=0.95))
    tracker.add(Percept(1.0, mark=np.array([0.3, 0.1]), mark_visible=0.95))
    tracker.add(Percept(1.1, mark=np.array([0.4, 0.1]), mark_visible=0.4))
    assert tracker.mark is not None and math.dist(tracker.mark, (0.2, 0.1)) < 1e-3


class FakeCamera:
    """Stands for the camera process: hands out percepts one after the other."""

    def __init__(self) -> None:
        self.count, self.newest, self.closed = 0, None, False
        self.reader = SimpleNamespace(percept=self.percept, age=lambda now: now - 100.0)

    def percept(self) -> tuple[int, Percept] | None:
        return None if self.newest is None else (self.count, self.newest)

    def show(self, percept: Percept) -> None:
        self.count, self.newest = self.count + 1, percept

    def close(self) -> None:
        self.closed = True


def test_the_source_is_ready_when_all_is_seen_since_the_episode_began() -> None:
    camera = FakeCamera()
    source = CameraPerception(camera, frozenset({"cube", "mark"}))  # type: ignore[arg-type]
    later = source._since + 1.0
    camera.show(Percept(source._since - 0.1, cube=np.array([0.2, 0, 0.0125]), visible=1.0))
    assert not source.ready()  # that picture is from before
    for i in range(4):
        both = seen(later + i / 30, 0.22, mark=np.array([0.2, 0.1]), mark_visible=1.0)
        camera.show(both)
        ready = source.ready()
        assert ready == (i >= 2)
    entries = source.entries(later + 1.0)
    np.testing.assert_allclose(entries["goal"], [0.2, 0.1, 0.0125])
    assert entries["cube_age"][0] == pytest.approx(0.9)
    source.begin(np.array([0.1, 0.2, 0.3]))
    assert not source.ready()
    camera.show(seen(source._since + 0.1, 0.25))
    assert source.ready()  # a goal that is given needs no mark
    assert source.entries(later)["goal"].tolist() == [0.1, 0.2, 0.3]
    source.close()
    assert camera.closed
