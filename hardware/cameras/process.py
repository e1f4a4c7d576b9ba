"""A camera in a process of its own: its newest picture and what it shows, never older than it must be.

A thread in that process does nothing but drain the camera, so that no queue of old pictures forms; another looks
for the objects. Results and pictures reach other processes through shared memory: asking for them never waits,
whatever the camera does. A camera that stalls, goes black, repeats one picture or disappears is opened again,
for ever, and so is started again a process that dies or hangs; meanwhile the last picture simply gets older, which
is what users of it have to watch. What runs in the process is `worker.py`.
"""

import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from hardware.cameras.joint_trail import JointTrail
from hardware.cameras.shared import (
    BEAT,
    GRABBED,
    HEALTHY,
    LOST,
    OPEN_TIMEOUT,
    READY,
    RESTARTS,
    SEQUENCE,
    SLOTS,
    STATE,
    TEXT,
    CameraReader,
    numbers_for,
)
from hardware.cameras.worker import serve
from sim2real.camera import CameraModel
from sim2real.errors import HardwareError
from sim2real.objects import ObjectSpec
from sim2real.robot import Robot
from sim2real.spawning import context, end_process

BEATING = 5.0
"""s without a sign of life after which a camera's process that has been at work is killed and started again."""
STARTING = 180.0
"""s without a sign of life after which one that is still starting is: its detector may have to be compiled."""
GRABBING = 15.0
"""s that one call of the camera's driver may take before the process is killed and started again."""
RESTART = (0.5, 10.0)
"""s before a process is started again that has been before: the second time, doubling up to the last. The first time
it is at once, since an arm that needs to see gives up after 3 s."""
SETTLED = 30.0
"""s after which a process that lives counts as good again."""


class CameraProcess:
    """Starts the process of one camera and ends it. `reader` is what it sees.

    `objects` are those to look for; none: pictures only. `robot`: the arm that is seen, if what reads its joints writes
    them to `trail`. Raises UserError when the camera has no source, by its file
    cannot see the table, or could not tell the objects. That it cannot be opened is no error here: it may come back.
    """

    def __init__(
        self, camera: CameraModel, objects: Sequence[ObjectSpec] = (), robot: Robot | None = None
    ) -> None:
        from hardware.cameras.detector import Detector
        from sim2real.errors import UserError

        if camera.source is None:
            raise UserError(
                f"camera '{camera.name}' has no source; name it with --camera {camera.name}=SOURCE "
                "(a number, a device, a file or a stream), or as source in the cameras file"
            )
        self.camera, self.objects = camera, tuple(objects)
        self._robot = robot
        self.trail = JointTrail(robot.n) if robot is not None else None
        if self.objects:
            Detector(camera, self.objects)  # refuses here and now what cannot be seen
        names = tuple(spec.name for spec in self.objects)
        numbers = context.RawArray("d", numbers_for(names))
        text = context.RawArray("B", TEXT)
        slots = context.RawArray("B", SLOTS * (8 + camera.width * camera.height * 3))
        self.reader = CameraReader(camera, names, numbers, text, slots)
        self.reader._numbers[HEALTHY] = -np.inf
        self._closing = threading.Event()
        self._process = self._launch()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _launch(self) -> Any:
        numbers = self.reader._numbers
        # A process that was killed may have left a write half done.
        numbers[SEQUENCE] += numbers[SEQUENCE] % 2
        numbers[READY] = 0
        numbers[BEAT] = numbers[GRABBED] = time.monotonic()
        process = context.Process(
            target=serve,
            args=(self.reader, self.objects, os.getpid(), self._robot, self.trail),
            daemon=True,
            name=f"camera {self.camera.name}",
        )
        process.start()
        return process

    def _keep(self) -> None:
        """Start the process again when it dies or hangs."""
        numbers = self.reader._numbers
        pause, begun = 0.0, time.monotonic()
        while not self._closing.is_set():
            wait([self._process.sentinel], 0.2)
            now = time.monotonic()
            patience = BEATING if numbers[READY] else STARTING
            if now - numbers[BEAT] > patience or now - numbers[GRABBED] > GRABBING:
                self._process.kill()
                self._process.join(5.0)
            if self._process.is_alive():
                continue
            self._tell("the camera's process has ended and is started again")
            numbers[STATE] = LOST
            if now - begun > SETTLED:
                pause = 0.0
            if self._closing.wait(pause):
                return
            pause, begun = min(max(2 * pause, RESTART[0]), RESTART[1]), time.monotonic()
            numbers[RESTARTS] += 1
            self._process = self._launch()

    def _tell(self, problem: str) -> None:
        text = problem.encode()[: TEXT - 1]
        self.reader._text[:] = 0
        self.reader._text[: len(text)] = np.frombuffer(text, np.uint8)

    @property
    def alive(self) -> bool:
        """Whether the process is there; whether the camera is, `reader.status()` says."""
        return bool(self._process.is_alive())

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def wait_ready(self, timeout: float = 180.0) -> None:
        """Wait for the first picture, and for the first look at one when there is something to look for.

        That may take long the first time ever, when the detector is compiled. Raises HardwareError that says
        why nothing came.
        """
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + min(timeout, OPEN_TIMEOUT + 10.0)
        while not self._ready():
            status = self.reader.status()
            now = time.monotonic()
            if now > deadline or (now > patience and status.pictures == 0):
                raise HardwareError(
                    f"camera '{self.camera.name}' ({self.camera.source}) gave no picture: "
                    f"{status.problem or status.state}; check the source with a player such as ffplay"
                )
            time.sleep(0.02)

    def _ready(self) -> bool:
        return self.reader.status().pictures > 0 and (not self.objects or self.reader.percept() is not None)

    def close(self) -> None:
        """End the process."""
        self._closing.set()
        self._keeper.join(10.0)
        if self._process.is_alive():
            self._process.terminate()
            # A driver that hangs in the kernel does not react to anything milder than what comes then.
            end_process(self._process, 1.0)
