"""From percepts to what a policy observes: `cube`, `cube_yaw`, `cube_age` and, from the mark, `goal`."""

import math
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.detector import CUBE, Percept
from hardware.cameras.process import CameraProcess
from sim2real.observation import MAX_AGE, Observation

Array = NDArray[np.float64]

UNSEEN = (0.25, 0.0, CUBE / 2)
"""Where the cube is said to be before it was ever seen: the middle of the workspace."""
JUMP = 0.04
"""A cube that appears further than this from where it was, m, must be confirmed: it may be something else."""
CONFIRMATIONS = 3
"""How many percepts in a row, close to each other, make a jump believable."""
YAW_VISIBLE = 0.65
"""Below this visible fraction the angle is uncertain: the last one is kept."""
MARKS = 15
"""The mark lies still: its place is the median of this many percepts."""


class PerceptTracker:
    """Keeps the last believable values. One percept after the other through `add`, in order of time.

    A hidden cube keeps its place while its age grows. Single outliers are ignored; the mark, once found, moves
    only when the median of its percepts does.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new episode."""
        self._cube: Array = np.array(UNSEEN)
        self._yaw = 0.0
        self._seen = -math.inf
        self._doubtful: list[Array] = []
        self._marks: deque[Array] = deque(maxlen=MARKS)

    @property
    def cube_seen(self) -> bool:
        """Whether the cube was ever seen."""
        return math.isfinite(self._seen)

    @property
    def mark(self) -> Array | None:
        """Where the mark lies, (2,) m; None before it was seen."""
        return np.median(np.stack(self._marks), axis=0) if self._marks else None

    @property
    def mark_seen(self) -> bool:
        """Whether the mark was seen often enough to rely on."""
        return len(self._marks) >= 3

    def add(self, percept: Percept) -> None:
        """Take in what one picture showed."""
        if percept.cube is not None:
            self._add_cube(percept)
        if percept.mark is not None:
            self._add_mark(percept)

    def _add_cube(self, percept: Percept) -> None:
        assert percept.cube is not None
        if self.cube_seen and math.dist(percept.cube, self._cube) > JUMP:
            if self._doubtful and math.dist(percept.cube, self._doubtful[-1]) > JUMP:
                self._doubtful.clear()
            self._doubtful.append(percept.cube)
            if len(self._doubtful) < CONFIRMATIONS:
                return
        self._doubtful.clear()
        first = not self.cube_seen
        self._cube, self._seen = percept.cube, percept.time
        if first or percept.visible >= YAW_VISIBLE:
            self._yaw = percept.yaw

    def _add_mark(self, percept: Percept) -> None:
        assert percept.mark is not None
        # Half a disc tells less than a whole one: it counts only as long as nothing better is known.
        if percept.mark_visible < 0.7 and self.mark_seen:
            return
        self._marks.append(percept.mark)

    def entries(self, now: float) -> Observation:
        """The observation's entries about the cube as of `now`, s on the percepts' clock."""
        age = min(max(now - self._seen, 0.0), MAX_AGE)
        return {
            "cube": self._cube.copy(),
            "cube_yaw": np.array([math.cos(4 * self._yaw), math.sin(4 * self._yaw)]),
            "cube_age": np.array([age]),
        }


class CameraPerception:
    """The runtime's perception source: a camera process and a tracker. Nothing here waits for the camera.

    `objects` are those the task needs. The goal is what `begin` is given; without one, the mark's place, with
    the height of a cube's centre.
    """

    needed = True

    def __init__(self, camera: CameraProcess, objects: frozenset[str], goal: Array | None = None) -> None:
        self.camera, self.objects = camera, frozenset(objects)
        self.tracker = PerceptTracker()
        self._taken = 0
        self.begin(goal)

    def begin(self, goal: Array | None) -> None:
        """A new episode: forget what was seen before; `goal` (3,) m, None means: find it."""
        self._goal = None if goal is None else np.array(goal, dtype=np.float64)
        self.tracker.reset()
        # What was taken before now may show the scene before it was set up.
        self._since = time.monotonic()

    def ready(self) -> bool:
        """Whether everything the task needs has been seen since `begin`."""
        self._update()
        cube = "cube" not in self.objects or self.tracker.cube_seen
        mark = "mark" not in self.objects or self._goal is not None or self.tracker.mark_seen
        return cube and mark

    def entries(self, time: float) -> Observation:
        """Observation entries as of `time`, s of CLOCK_MONOTONIC."""
        self._update()
        goal = self._goal
        if goal is None:
            mark = self.tracker.mark
            goal = np.zeros(3) if mark is None else np.array([mark[0], mark[1], CUBE / 2])
        return {"goal": goal, **self.tracker.entries(time)}

    def frame_age(self, time: float) -> float:
        """Seconds since the newest good picture was taken; infinite before the first."""
        return self.camera.reader.age(time)

    @property
    def problem(self) -> str:
        """What is wrong with the camera, if anything is."""
        status = self.camera.reader.status()
        return f"{self.camera.camera.name} {status.state}" + (
            f" ({status.problem})" if status.problem else ""
        )

    def close(self) -> None:
        """End the camera process."""
        self.camera.close()

    def _update(self) -> None:
        newest = self.camera.reader.percept()
        if newest is not None and newest[0] > self._taken:
            self._taken = newest[0]
            if newest[1].time >= self._since:
                self.tracker.add(newest[1])
