"""The view planner in a process of its own: it looks at pictures and works out poses while the loop holds the arm."""

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.commissioning.board import Card
from hardware.commissioning.camera_pose import ArmView
from hardware.runtime.sessions.survey import Step, SurveyLook
from sim2real import spawning
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError
from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlannerConfig:
    """What the process needs: `robot` a name or the path of a TOML; the rest as in `ViewPlanner`."""

    robot: str
    limits: tuple[Array, Array]
    camera: CameraModel
    card: Card
    count: int
    guess: bool
    seed: int = 0


class PlannerProcess:
    """A `survey.Guide`. `views` are those in which the card was seen, `picture` is the last of them."""

    def __init__(self, config: PlannerConfig) -> None:
        self._connection, theirs = spawning.context.Pipe()
        self._process = spawning.context.Process(
            target=_serve, args=(config, theirs, os.getpid()), name="sim2real-planner", daemon=True
        )
        self._process.start()
        theirs.close()
        self.views: list[ArmView] = []
        self.poses = 0
        """In how many poses the camera has looked."""
        self.shown: SurveyLook | None = None
        """The last look that showed the card."""
        self._look: SurveyLook | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def ask(self, position: Array, look: SurveyLook | None) -> None:
        self._look = look
        self.poses += look is not None
        try:
            self._connection.send((position, look))
        except OSError:
            raise Sim2RealError("the process that chooses the arm's poses has ended") from None

    def answer(self) -> Step | None:
        try:
            if not self._connection.poll():
                return None
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise Sim2RealError("the process that chooses the arm's poses has ended") from None
        if isinstance(answer, Exception):
            raise answer
        view, step = answer
        if view is not None:
            self.views.append(view)
            self.shown = self._look
        assert isinstance(step, Step)
        return step

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        spawning.end_process(self._process, 1.0)


def _serve(config: PlannerConfig, connection: Connection, parent: int) -> None:
    # Who is in control decides when to end: a Ctrl-C at the terminal reaches this process, too.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    import cv2

    from hardware.commissioning.view_planner import ViewPlanner

    cv2.setNumThreads(1)
    try:
        os.nice(5)  # it may wait; the loop may not
    except OSError:
        pass
    try:
        planner = ViewPlanner(
            Robot.load(config.robot), config.limits, config.camera, config.card, config.count, config.guess,
            config.seed,
        )  # fmt: skip
        while os.getppid() == parent:
            if connection.poll(0.5):
                position, look = connection.recv()
                connection.send(_step(planner, position, look))
    except (EOFError, OSError):
        pass
    except Sim2RealError as error:
        connection.send(error)


def _step(planner: "Any", position: Array, look: SurveyLook | None) -> tuple[ArmView | None, Step]:
    import cv2

    note, view = "", None
    if look is not None:
        pixels = planner.card.find(cv2.cvtColor(np.ascontiguousarray(look.picture), cv2.COLOR_RGB2GRAY))
        used = planner.seen(look.joints, pixels)
        seen = (
            "the card is seen"
            if used
            else "the card is half hidden"
            if pixels is not None
            else "no card is seen"
        )
        view = planner.views[-1] if used else None
        note = f"pose {len(planner.tried)}: {seen} ({len(planner.views)} of {planner.count} views)"
    return view, Step(planner.next(position), note)
