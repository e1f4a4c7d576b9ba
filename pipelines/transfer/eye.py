"""A reality's camera on a stepped clock: pictures of the true state, looked at by the detector that arms use.

The pictures are drawn and searched when the clock says so, and known `latency` s after their exposure. They are
compressed as an HTTP stream's are.
"""

from collections import deque
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.detector import Detector
from hardware.cameras.shared import CameraStatus
from hardware.drawing.picture import Picture
from hardware.emulator.web import QUALITY
from hardware.emulator.world_plant import WorldPlant
from pipelines.transfer.reality import CAMERA, Reality
from sim2real.clock import SimulatedClock
from sim2real.robot import Robot
from sim2real.simulation.cameras import Cameras
from sim2real.simulation.renderer import Renderer
from sim2real.simulation.studio import Snapshot
from sim2real.tracking import Percept

Image = NDArray[np.uint8]

WARM: Final = 0.1
"""s before the first picture."""


class SteppedCamera:
    """What `CameraPerception` takes for a camera; `advance` is called as the clock goes on."""

    def __init__(self, robot: Robot, plant: WorldPlant, reality: Reality, clock: SimulatedClock) -> None:
        """`robot` has the camera as its user knows it."""
        self.camera = robot.cameras[CAMERA]
        self.plant, self.clock = plant, clock
        self.latency, self._period = reality.latency, 1 / reality.fps
        self.detector = Detector(self.camera, plant.task.objects)
        values, objects = plant.world.values, plant.world.objects
        self._cameras = Cameras(robot, robot.cameras)
        self._raster = self._tiny = None
        if reality.pictures == "raster":
            self._cameras.reset(values, 0)
            self._raster = Picture(robot, self._cameras.real(CAMERA), values, objects)
        else:
            self._tiny = Renderer(robot, objects, self._cameras)
        self.reader = self
        self.begin(0)

    def begin(self, seed: int) -> None:
        """A new episode: nothing has been seen. `seed` determines noise and textures."""
        if self._tiny is not None:
            self._cameras.reset(self.plant.world.values, seed)
            self._tiny.reset(self.plant.world.values, seed)
        self._next = self.clock.now() + WARM
        self._waiting: deque[Percept] = deque()
        self._known: Percept | None = None
        self._count = 0

    def advance(self) -> None:
        """Take and look at the pictures that are due."""
        now = self.clock.now()
        if now >= self._next:
            image = self.picture()
            self._waiting.append(self.detector.detect(image, now))
            self._next = max(self._next + self._period, now)
        while self._waiting and self._waiting[0].time + self.latency <= now:
            self._known = self._waiting.popleft()
            self._count += 1

    def picture(self) -> Image:
        """(H, W, 3) BGR as it arrives."""
        if self._raster is not None:
            rgb = self._raster.draw(self.plant.pose())
        else:
            assert self._tiny is not None
            world = self.plant.world
            rgb = self._tiny.image(CAMERA, Snapshot(world.position, world.states()), time=0.0)
        done, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        assert done
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)

    # What a reader of a camera's process says

    def percept(self) -> tuple[int, Percept] | None:
        """The newest percept that is known, with its number."""
        return None if self._known is None else (self._count, self._known)

    def age(self, now: float) -> float:
        """s since the picture of that percept was taken."""
        return float("inf") if self._known is None else now - self._known.time

    def status(self) -> CameraStatus:
        """It never fails."""
        return CameraStatus("streaming", self.clock.now(), self._count, 1 / self._period, "", 0)

    def close(self) -> None:
        if self._tiny is not None:
            self._tiny.close()
