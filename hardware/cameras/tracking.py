"""The runtime's perception: a camera's process, and what is believed of the objects by what it has seen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.process import CameraProcess
from hardware.runtime.control.tick import Tick
from sim2real.clock import Clock, RealClock
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, object_entries
from sim2real.robot import Robot
from sim2real.tracking import Hand, PerceptTracker

Array = NDArray[np.float64]


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
        clock: Clock | None = None,
        robot: Robot | None = None,
    ) -> None:
        """`clock` is the one that percepts are stamped by. `robot`: the arm, whose readings come as ticks."""
        self.camera = camera
        self._clock = clock or RealClock()
        self._robot, self._trail = robot, None if robot is None else camera.trail
        self.tracker = PerceptTracker(objects)
        # The control loop, which asks, cannot wait for a compiler.
        self.tracker.warm_up()
        if robot is not None:
            Hand.of(robot, np.array(robot.home))
        self._goal_zone, self._goal_height = goal_zone, goal_height
        self._taken = 0
        self.begin(goal)

    def begin(self, goal: Array | None) -> None:
        """A new episode: forget what was seen before; `goal` (3,) m, None means: find it."""
        self._goal = None if goal is None else np.array(goal, dtype=np.float64)
        self.tracker.reset()
        # What was taken before now may show the scene before it was set up.
        self._since = self._clock.now()

    def tick(self, tick: Tick) -> None:
        """See `TickSink`: tell the camera's process, and the tracker, where the arm is."""
        reading = tick.reading
        if self._robot is None or self._trail is None or reading is None or not reading.valid.all():
            return
        self._trail.tell(reading.time, reading.position)
        if tick.observation is not None:
            self.tracker.follow(reading.time, Hand.of(self._robot, reading.position))

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
                self.tracker.add(newest[1], self._hand(newest[1].time))

    def _hand(self, stamp: float) -> Hand | None:
        """Where the hand was in a picture with this time stamp, if that is known."""
        if self._robot is None or self._trail is None:
            return None
        joints = self._trail.at_picture(stamp)
        return None if joints is None else Hand.of(self._robot, joints)
