"""Who takes part in a session, what it is to do and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.tick import TickSink
from hardware.runtime.sessions.table import Status
from sim2real.task import Task

Array = NDArray[np.float64]


class Judge(StrEnum):
    """Who decided whether an episode succeeded."""

    COMMAND = "command"
    """The exit status of the user's command."""
    ESTIMATE = "estimate"
    """The task's own condition, on what the arm sees."""
    OPERATOR = "operator"
    FAULT = "fault"
    """The episode ended in a fault."""
    NOBODY = ""


@dataclass
class EpisodeResult:
    """What came of one episode. `success` is None where nobody could tell."""

    episode: int
    goal: tuple[float, ...] | None
    success: bool | None
    judge: Judge
    seconds: float
    estimate: bool | None
    clipped: int
    rejected: int
    note: str = ""
    interventions: int = 0
    """How often a person took over."""
    corrected_seconds: float = 0.0
    """s in which the policy did not act, since a person had taken over."""


@dataclass(frozen=True)
class Plan:
    """What to do.

    `seconds`: one episode of this length instead of `episodes` of the task's duration. `goals`: gives the goal
    of episode i, (3,) m, None where the camera finds it. `before`, `judge`: shell commands run around each
    episode with EPISODE, TASK and, where it was given or drawn, GOAL (x,y,z) in their environment. `name` is what
    the task is called where it is none that is known here.
    """

    task: Task | None
    episodes: int | None = 1
    """None: until the operator stops."""
    seconds: float | None = None
    seed: int = 0
    goals: Callable[[int], Array | None] = lambda i: None
    before: str | None = None
    judge: str | None = None
    motion: bool = True
    """False: a dry run; nothing is judged."""
    name: str = ""

    @property
    def open_ended(self) -> bool:
        """Whether the session goes on until the operator ends it."""
        return self.episodes is None and self.seconds is None

    @property
    def task_name(self) -> str:
        return self.name if self.task is None else self.task.name


class Recorder(TickSink, Protocol):
    """Takes the frames of an episode from the loop's ticks."""

    lost: int
    """Frames that could not be taken, of all episodes."""

    @property
    def taken(self) -> int:
        """Frames of the episode under way."""

    @property
    def problem(self) -> str:
        """Why the episode under way is not recorded any further, or ""."""

    def begin(self) -> None:
        """An episode begins. Raises Sim2RealError when it cannot be recorded."""

    def end(self, success: bool | None, ended: str = "") -> None:
        """Keep the episode; `ended` says what is unusual about its end: "stopped", "fault"."""

    def discard(self) -> None: ...


class Operator(Protocol):
    """The person at the terminal: what is pressed, and where questions and news are shown."""

    attended: bool

    def pressed(self) -> str:
        """The key pressed since the last call, or ""."""

    def tell(self, text: str) -> None:
        """Show a line."""

    def show(self, status: Status) -> None:
        """How things stand; called for every frame."""


class NoOperator:
    """Nobody is there."""

    attended = False

    def __init__(self, tell: Callable[[str], None] = lambda text: None) -> None:
        self._tell = tell

    def pressed(self) -> str:
        return ""

    def tell(self, text: str) -> None:
        self._tell(text)

    def show(self, status: Status) -> None:
        pass
