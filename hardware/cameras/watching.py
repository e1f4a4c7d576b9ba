"""The runtime's perception where the policy itself looks at pictures: whether they come, and a goal that is given."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.process import CameraProcess
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, nothing_seen

Array = NDArray[np.float64]


class CamerasOnly:
    """Satisfies `PerceptionSource`. No camera looks for objects; where they are, the policy finds in the pictures.

    The pictures are as old as those of the camera that is furthest behind.
    """

    needed = True

    def __init__(
        self, cameras: Sequence[CameraProcess], goal: Array | None, objects: Sequence[ObjectSpec] = ()
    ) -> None:
        self._cameras, self._objects = tuple(cameras), tuple(objects)
        self.begin(goal)

    def begin(self, goal: Array | None) -> None:
        """A new episode."""
        self._goal = np.zeros(3) if goal is None else np.array(goal, dtype=np.float64)
        # What was taken before now may show the scene before it was set up.
        self._since = time.monotonic()

    def ready(self) -> bool:
        """Whether every camera has given a picture since `begin`."""
        now = time.monotonic()
        return self.frame_age(now) < now - self._since

    def entries(self, time: float) -> Observation:
        """The goal; of the objects nothing is known."""
        return nothing_seen(self._objects) | {"goal": self._goal}

    def frame_age(self, time: float) -> float:
        """Seconds since the newest good picture of the camera that is furthest behind; infinite before its first."""
        return max(camera.reader.age(time) for camera in self._cameras)

    @property
    def problem(self) -> str:
        """What is wrong with the camera that is furthest behind."""
        now = time.monotonic()
        worst = max(self._cameras, key=lambda camera: camera.reader.age(now))
        status = worst.reader.status()
        return f"{worst.camera.name} {status.state}" + (f" ({status.problem})" if status.problem else "")

    def close(self) -> None:
        """End the cameras' processes."""
        for camera in self._cameras:
            camera.close()
