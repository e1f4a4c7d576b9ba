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
from hardware.cameras.joint_trail import JointTrail
from hardware.cameras.shared import CameraStatus
from hardware.emulator.view import Viewer
from hardware.emulator.web import QUALITY
from hardware.emulator.world_plant import WorldPlant
from pipelines.transfers.reality import CAMERA, Reality
from sim2real.clock import SimulatedClock
from sim2real.observation import Observation
from sim2real.policies.protocol import Policy
from sim2real.policies.seeing import Sight, wanted_by
from sim2real.robot import Robot
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
        self.detector = Detector(self.camera, plant.task.objects, robot)
        self.trail = JointTrail(robot.n, exposed=0.0)
        self._looks = bool(plant.task.objects)
        self._viewer = Viewer(
            robot, CAMERA, plant.world.values, plant.world.objects, reality.pictures, robot.cameras
        )
        self.reader = self
        self.begin(0)

    def begin(self, seed: int) -> None:
        """A new episode: nothing has been seen. `seed` determines noise and textures."""
        self._viewer.reset(seed)
        self._next = self.clock.now() + WARM
        self._waiting: deque[tuple[float, Image, Percept]] = deque()
        self._known: tuple[float, Image, Percept] | None = None
        self._count = 0
        self.trail.clear()

    def advance(self) -> None:
        """Take and look at the pictures that are due."""
        now = self.clock.now()
        if now >= self._next:
            image = self.picture()
            joints = self.trail.at_picture(now)
            seen = self.detector.detect(image, now, joints) if self._looks else Percept(now)
            self._waiting.append((now, image, seen))
            self._next = max(self._next + self._period, now)
        while self._waiting and self._waiting[0][0] + self.latency <= now:
            self._known = self._waiting.popleft()
            self._count += 1

    def picture(self) -> Image:
        """(H, W, 3) BGR as it arrives."""
        rgb = self._viewer.draw(self.plant.pose())
        done, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        assert done
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)

    # What a reader of a camera's process says

    def percept(self) -> tuple[int, Percept] | None:
        """The newest percept that is known, with its number."""
        return None if self._known is None else (self._count, self._known[2])

    def latest(self) -> tuple[float, Image] | None:
        """(time of capture, s, (H, W, 3) RGB) of the newest picture that has arrived."""
        if self._known is None:
            return None
        return self._known[0], np.asarray(cv2.cvtColor(self._known[1], cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def age(self, now: float) -> float:
        """s since that picture was taken."""
        return float("inf") if self._known is None else now - self._known[0]

    def status(self) -> CameraStatus:
        """It never fails."""
        return CameraStatus("streaming", self.clock.now(), self._count, 1 / self._period, "", 0)

    def close(self) -> None:
        self._viewer.close()


class Seeing:
    """A policy that is shown the pictures that it asks for."""

    def __init__(self, policy: Policy, camera: SteppedCamera) -> None:
        self.policy, self.horizon = policy, policy.horizon
        self._sight = Sight(wanted_by(policy), {CAMERA: camera})

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        return self.policy.act(observation | self._sight.entries())
