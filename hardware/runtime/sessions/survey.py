"""An arm shows a camera what it holds: one pose after another, still in each while a picture is taken.

Which pose comes next is worked out elsewhere (another process, which also looks at the pictures): nothing here
keeps the loop waiting.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import Request
from hardware.runtime.sessions.session import Session
from sim2real.errors import Sim2RealError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

STILL = 0.02
"""rad/s below which a joint counts as still."""
SETTLE = (0.5, 2.0)
"""s that the arm is given to come to rest: at least, and at most."""
EXPOSED = 0.3
"""s by which a picture must be younger than the arm is still: cameras hand out what they saw a while ago."""
PICTURE = 5.0
"""s to wait for a picture."""
ANSWER = 60.0
"""s that the choice of the next pose may take."""
PATIENCE = 20.0
"""s that a way may take at full speed."""
BARRED = (1.0, 0.02)
"""s, and rad that the goal moves in them at least unless its way is barred."""
SQUEEZE = 0.1
"""rad by which the gripper is told to close further than it was found, so that it holds what it holds."""


class SurveyLook(NamedTuple):
    """What was seen of one pose: joints (n,) rad as read, averaged while still, and the picture (H, W, 3) RGB."""

    joints: Array
    picture: Image


class Step(NamedTuple):
    """What to do next: poses (n,) rad on the way, the last one being where to look; None: it is enough."""

    way: list[Array] | None
    note: str = ""


class SurveyGuide(Protocol):
    """Chooses the poses. Neither method may wait."""

    def ask(self, position: Array, look: SurveyLook | None) -> None:
        """Ask for the next step from `position` (n,) rad, where `look` was taken (None: nowhere yet)."""

    def answer(self) -> Step | None:
        """The step, or None while there is none yet. Raises Sim2RealError when there will be none."""


class Camera(Protocol):
    """Gives the newest picture; see `hardware.cameras`."""

    def latest(self) -> tuple[float, Image] | None: ...


@dataclass
class Survey(Session):
    """Goes where `guide` says and looks through `camera`."""

    guide: SurveyGuide | None = None
    camera: Camera | None = None
    looks: int = 0
    _readings: deque[Array] = field(default_factory=lambda: deque(maxlen=20))

    def _work(self) -> None:
        guide, loop = self.guide, self.loop
        assert guide is not None and self.camera is not None
        self._grip: float | None = None
        gripper = loop.robot.gripper
        if gripper is not None:
            held = float(loop.gate.position[gripper])
            self._grip = max(held - SQUEEZE, float(loop.robot.lower[gripper]))
        self._visit(loop.robot.home, "going home")
        look: SurveyLook | None = None
        while True:
            guide.ask(loop.gate.position.copy(), look)
            step: Step | None = None

            def answered() -> bool:
                nonlocal step
                assert guide is not None
                step = guide.answer()
                return step is not None

            self._do("choosing a pose")
            self._until(answered, ANSWER, "the next pose")
            assert step is not None
            if step.note:
                self.operator.tell(step.note)
            if step.way is None:
                break
            look = None
            if all(self._visit(pose, f"pose {self.looks + 1}") for pose in step.way):
                look = self._look()
        self._visit(loop.robot.home, "going home")

    def _visit(self, pose: Array, what: str) -> bool:
        """Go there; False where the gate does not let the arm."""
        loop = self.loop
        self._do(what)
        target = np.array(pose, dtype=np.float64)
        if self._grip is not None:
            assert loop.robot.gripper is not None
            target[loop.robot.gripper] = self._grip
        # Straight: this is the way that was checked.
        loop.travel(target, straight=True)
        loop.request = Request.RUN
        last, since = loop.gate.position.copy(), loop.clock.now()

        def ended() -> bool:
            nonlocal last, since
            if np.abs(loop.gate.position - last).max() > BARRED[1]:
                last, since = loop.gate.position.copy(), loop.clock.now()
            return loop.arrived or loop.clock.now() - since > BARRED[0] / loop.gate.speed

        self._wait(ended, PATIENCE / loop.gate.speed)
        arrived = loop.arrived
        self._halt()
        return arrived

    def _look(self) -> SurveyLook:
        """Wait until the arm is still, then for a picture of it."""
        loop, camera = self.loop, self.camera
        assert camera is not None
        self._do(f"looking at pose {self.looks + 1}")
        begun = loop.clock.now()

        def still() -> bool:
            reading = loop.reading
            assert reading is not None
            waited = loop.clock.now() - begun
            return waited > SETTLE[0] and (
                bool((np.abs(reading.velocity) < STILL).all()) or waited > SETTLE[1]
            )

        self._wait(still, SETTLE[1] + 1.0)
        since = loop.clock.now() + EXPOSED
        self._readings.clear()
        picture: Image | None = None

        def taken() -> bool:
            nonlocal picture
            assert loop.reading is not None and camera is not None
            self._readings.append(loop.reading.position)
            if loop.clock.now() < since:
                return False
            found = camera.latest()
            if found is None or found[0] < since:
                return False
            picture = found[1]
            return True

        if not self._wait(taken, PICTURE) or picture is None:
            raise Sim2RealError(f"the camera gave no new picture within {PICTURE:g} s")
        self.looks += 1
        return SurveyLook(np.mean(self._readings, axis=0), picture)
