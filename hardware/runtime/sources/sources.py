"""Where the loop's actions and percepts come from: the interfaces, and versions that run in the same process.

The loop never waits for a source: everything here returns at once.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real.chunks import Chunk
from sim2real.clock import Clock
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, nothing_seen
from sim2real.policies.protocol import Policy

Array = NDArray[np.float64]


class PolicyAnswer(NamedTuple):
    """A chunk (None when the policy sent something that is none) and when it came, s."""

    chunk: Chunk | None
    arrived: float
    problem: str = ""


class PolicySource(Protocol):
    """Takes observations, gives chunks back later."""

    @property
    def alive(self) -> bool:
        """Whether the source can still answer."""

    @property
    def problem(self) -> str:
        """Why the source is not alive."""

    def reset(self, seed: int) -> None:
        """A new episode: chunks that answer earlier observations are never returned."""

    def send(self, time: float, observation: Observation) -> None:
        """Hand over the newest observation, taken at `time`; one that is still waiting is replaced."""

    def poll(self) -> PolicyAnswer | None:
        """The newest answer that has not been returned yet."""

    def close(self) -> None:
        """Release everything."""


class LocalPolicy:
    """A policy in this process, for stepped clocks: it thinks when it is asked, and answers `latency` s later."""

    def __init__(self, policy: Policy, period: float, clock: Clock, latency: float = 0.0) -> None:
        self.policy, self.period, self.clock, self.latency = policy, period, clock, latency
        self.alive, self.problem = True, ""
        self._waiting: deque[tuple[float, PolicyAnswer]] = deque()

    def reset(self, seed: int) -> None:
        self._waiting.clear()
        self.policy.reset(seed)

    def send(self, time: float, observation: Observation) -> None:
        if not self.alive:
            return
        due = time + self.latency
        try:
            chunk = Chunk(time, self.period, np.array(self.policy.act(observation), dtype=np.float64))
            self._waiting.append((due, PolicyAnswer(chunk, due)))
        except ValueError as error:
            self._waiting.append((due, PolicyAnswer(None, due, str(error))))
        except Exception as error:
            # Whatever a user's policy raises must not take the arm's loop with it.
            self.alive, self.problem = False, f"{type(error).__name__}: {error}"

    def poll(self) -> PolicyAnswer | None:
        answer = None
        while self._waiting and self._waiting[0][0] <= self.clock.now():
            answer = self._waiting.popleft()[1]
        return answer

    def close(self) -> None:
        self.alive = False


class PerceptionSource(Protocol):
    """What is known of the scene besides the joints."""

    needed: bool
    """Whether the task cannot go on without fresh camera frames."""

    def begin(self, goal: Array | None) -> None:
        """A new episode: forget what was seen before; `goal` (3,) m, None means: find it."""

    def ready(self) -> bool:
        """Whether everything the task needs has been seen since `begin`."""

    def entries(self, time: float) -> Observation:
        """Observation entries as of `time`: `goal`, and those of the task's objects."""

    def frame_age(self, time: float) -> float:
        """Seconds since the newest camera frame was taken; infinite before the first."""

    @property
    def problem(self) -> str:
        """What is wrong with the camera, if anything is."""

    def close(self) -> None:
        """Release everything."""


class GoalOnly:
    """No camera: a goal that is given, and objects that are never seen."""

    needed = False
    problem = ""

    def __init__(self, goal: Array | None = None, objects: Sequence[ObjectSpec] = ()) -> None:
        self.objects = tuple(objects)
        self.goal = np.zeros(3) if goal is None else np.array(goal, dtype=np.float64)

    def begin(self, goal: Array | None) -> None:
        if goal is not None:
            self.goal = np.array(goal, dtype=np.float64)

    def ready(self) -> bool:
        return True

    def entries(self, time: float) -> Observation:
        return nothing_seen(self.objects) | {"goal": self.goal}

    def frame_age(self, time: float) -> float:
        return 0.0

    def close(self) -> None:
        pass
