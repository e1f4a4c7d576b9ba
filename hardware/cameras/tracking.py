"""From percepts to what a policy observes: place, yaw and age of every object, and from a zone the goal."""

import math
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.detector import Percept, Sighting
from hardware.cameras.process import CameraProcess
from sim2real.objects import ByName, ObjectSpec, checked
from sim2real.observation import Observation, object_entries, unseen

Array = NDArray[np.float64]

JUMP = 0.04
"""An object that appears further than this from where it was, m, must be confirmed: it may be something else."""
CONFIRMATIONS = 3
"""How many percepts in a row, close to each other, make a jump believable."""
YAW_VISIBLE = 0.65
"""Below this visible fraction the angle is uncertain: the last one is kept."""
STILL = 15
"""A zone lies still: its place is the median of this many percepts."""


class MovingTrack:
    """What is believed of an object that moves. Hidden, it keeps its place while its age grows; single outliers are
    ignored."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._position: Array | None = None
        self._yaw = 0.0
        self._time = -math.inf
        self._doubtful: list[Array] = []

    @property
    def seen(self) -> bool:
        """Whether the object was ever seen."""
        return self._position is not None

    @property
    def position(self) -> Array | None:
        """(3,) m; None before it was seen."""
        return self._position

    def add(self, seen: Sighting, taken: float) -> None:
        """Take in a sighting in a picture of the time `taken`, s."""
        first = self._position is None
        if self._position is not None and math.dist(seen.position, self._position) > JUMP:
            if self._doubtful and math.dist(seen.position, self._doubtful[-1]) > JUMP:
                self._doubtful.clear()
            self._doubtful.append(seen.position)
            if len(self._doubtful) < CONFIRMATIONS:
                return
        self._doubtful.clear()
        self._position, self._time = seen.position, taken
        if first or seen.visible >= YAW_VISIBLE:
            self._yaw = seen.yaw

    def entries(self, now: float) -> Observation:
        """The observation's entries as of `now`, s."""
        if self._position is None:
            return unseen(self.spec)
        return object_entries(self.spec, self._position, self._yaw, now - self._time)


class StillTrack:
    """What is believed of a zone: once found, it moves only when the median of its sightings does."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._places: deque[Array] = deque(maxlen=STILL)

    @property
    def seen(self) -> bool:
        """Whether the object was seen often enough to rely on."""
        return len(self._places) >= 3

    @property
    def position(self) -> Array | None:
        """(3,) m; None before it was seen."""
        return np.median(np.stack(self._places), axis=0) if self._places else None

    def add(self, seen: Sighting, taken: float) -> None:
        """Take in a sighting in a picture of the time `taken`, s."""
        # Half a disc tells less than a whole one: it counts only as long as nothing better is known.
        if seen.visible >= 0.7 or not self.seen:
            self._places.append(seen.position)

    def entries(self, now: float) -> Observation:
        """The observation's entries as of `now`, s."""
        place = self.position
        return unseen(self.spec) if place is None else object_entries(self.spec, place, 0.0, 0.0)


class PerceptTracker:
    """Keeps the last believable values of every object. One percept after the other through `add`, in order of time."""

    def __init__(self, objects: Sequence[ObjectSpec]) -> None:
        self.objects = checked(objects)
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new episode."""
        self.tracks: ByName[MovingTrack | StillTrack] = ByName(
            {spec.name: MovingTrack(spec) if spec.moves else StillTrack(spec) for spec in self.objects}
        )

    def add(self, percept: Percept) -> None:
        """Take in what one picture showed."""
        for name, seen in percept.objects.items():
            self.tracks[name].add(seen, percept.time)

    def entries(self, now: float) -> Observation:
        """The observation's entries about all objects as of `now`, s on the percepts' clock."""
        return {key: value for track in self.tracks.values() for key, value in track.entries(now).items()}


class CameraPerception:
    """The runtime's perception source: a camera process and a tracker. Nothing here waits for the camera.

    `objects` are all that the task has. The goal is what `begin` is given; without one, the place of `goal_zone`,
    `goal_height` m over the table.
    """

    needed = True

    def __init__(
        self,
        camera: CameraProcess,
        objects: Sequence[ObjectSpec],
        goal: Array | None = None,
        *,
        goal_zone: str | None = None,
        goal_height: float = 0.0,
    ) -> None:
        self.camera = camera
        self.tracker = PerceptTracker(objects)
        self._goal_zone, self._goal_height = goal_zone, goal_height
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
        given = self._goal_zone if self._goal is not None else None
        return all(track.seen for name, track in self.tracker.tracks.items() if name != given)

    def entries(self, time: float) -> Observation:
        """Observation entries as of `time`, s of CLOCK_MONOTONIC."""
        self._update()
        goal, entries = self._goal, self.tracker.entries(time)
        if self._goal_zone is not None:
            track = self.tracker.tracks[self._goal_zone]
            if goal is None and (zone := track.position) is not None:
                goal = np.array([zone[0], zone[1], self._goal_height])
            elif goal is not None:
                # Where the goal was given, the zone is there, whatever the camera sees.
                entries |= object_entries(track.spec, np.array([goal[0], goal[1], 0.0]), 0.0, 0.0)
        return {"goal": np.zeros(3) if goal is None else goal, **entries}

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
