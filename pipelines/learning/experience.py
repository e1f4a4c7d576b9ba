"""Episodes that a policy practises in: what it saw, what it tried, what that brought, and what was really so.

An episode follows from its draw and the actor's file alone, hence not from the number of workers. Timing is that of
`rollout`. Workers never load torch: the actor is a policy file, read again whenever it has changed.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.learning.collect import LINGER
from pipelines.learning.drawn import Ranges, normalized
from sim2real.camera import CameraModel
from sim2real.observation import Feature, Observation, flatten
from sim2real.parameters import Draw
from sim2real.policies.file import FilePolicy, load_policy_file, with_history
from sim2real.policies.protocol import HORIZON, RandomPolicy
from sim2real.robot import Robot
from sim2real.task import Task

Array = NDArray[np.float64]

EXPLORATION = "exploration"
"""Key of an actor file's provenance: (n,) rad, standard deviation of what is added to all goals of a chunk."""

MEMORY = 0.8
"""What is tried is like what was tried in the step before, by this correlation. What turns about in every step is lost
between the gate's limits of acceleration and the servos: nothing would be learned of it."""

STREAM = 0x94AC71CE
"""Separates the random numbers of practice from those of the world with the same draw."""


@dataclass(frozen=True)
class Experience:
    """One episode of T steps.

    `observations` (T, D) float32: what the actor saw. `tried` (T, n): what was added to its chunk, in standard
    deviations: a first-order autoregression of `MEMORY`. `truths` (T + 1, P) float32: the true state, the last one that
    in which the episode ended. `rewards` (T,): the task's, of the state that each step led to.
    """

    observations: NDArray[np.float32]
    tried: Array
    truths: NDArray[np.float32]
    rewards: Array
    success: bool

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Known:
    """What a critic is told, (P,) float32: the true state as the task's features have it, true joint speeds (n,), and
    the parameters of the draw, -1 … 1 over their ranges (`ranges`: name, low, high)."""

    features: tuple[Feature, ...]
    joints: int
    ranges: Ranges

    @property
    def size(self) -> int:
        return sum(feature.size for feature in self.features) + self.joints + len(self.ranges)

    def of_state(self, true: Observation) -> NDArray[np.float32]:
        """The features and speeds of a privileged observation."""
        return np.concatenate([flatten(true, self.features), true["joint_velocity"].astype(np.float32)])


class Practising:
    """The policy that `rollout` runs: the actor with something added to its chunks. It keeps what happens."""

    def __init__(
        self,
        world: Any,
        task: Task,
        actor: Path,
        features: tuple[Feature, ...],
        known: Known,
        history: int = 1,
    ) -> None:
        self.world, self.task, self.known = world, task, known
        self._path, self._features, self._stamp, self._history = actor, features, (0, 0), history
        self.horizon = HORIZON
        self._policy: FilePolicy | RandomPolicy
        self._reload()

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random in it follows from `seed`."""
        self._reload()
        self._rng = np.random.default_rng((STREAM, seed))
        self._policy.reset(seed)
        self._observations: list[NDArray[np.float32]] = []
        self._past: deque[NDArray[np.float32]] = deque(maxlen=self._history)
        self._tried: list[Array] = []
        self._truths: list[NDArray[np.float32]] = []
        self._rewards: list[float] = []
        self._drawn = normalized(self.world.values, self.known.ranges)

    def _reload(self) -> None:
        """Before there is an actor's file, the arm wanders."""
        if not self._path.exists():
            self._policy, self._stamp = RandomPolicy(self.world.robot), (0, 0)
            self._sigma = np.zeros(self.world.robot.n)
            return
        status = self._path.stat()
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._policy, self._stamp = load_policy_file(self._path), stamp
            self._sigma = np.array(self._policy.info.provenance[EXPLORATION])
            self.horizon = self._policy.horizon

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad: what is executed."""
        if self._truths:
            self._judge()
        self._observe()
        self._observations.append(with_history(self._past, flatten(observation, self._features)))
        tried = self._rng.standard_normal(len(self._sigma))
        if self._tried:
            tried = MEMORY * self._tried[-1] + math.sqrt(1 - MEMORY**2) * tried
        self._tried.append(tried)
        return np.asarray(self._policy.act(observation) + self._sigma * tried)

    def finish(self, success: bool) -> dict[str, Any]:
        """What an `Experience` is made of; the episode has ended."""
        self._judge()
        self._observe()
        return {
            "observations": np.stack(self._observations),
            "tried": np.stack(self._tried),
            "truths": np.stack(self._truths),
            "rewards": np.array(self._rewards),
            "success": success,
        }

    def _judge(self) -> None:
        self._rewards.append(float(self.task.reward(self.world.truth())))

    def _observe(self) -> None:
        true = self.known.of_state(self.world.observe(privileged=True))
        self._truths.append(np.concatenate([true, self._drawn]))


@dataclass(frozen=True)
class PractiseEpisode:
    """A picklable recipe: makes the function that runs one draw and returns what an `Experience` is made of."""

    robot: str
    task: str
    actor: str
    features: tuple[Feature, ...]
    known: Known
    nominal: Mapping[str, float] = field(default_factory=dict)
    cameras: Mapping[str, CameraModel] | None = None
    history: int = 1

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        from sim2real.simulation.rollout import rollout
        from sim2real.simulation.world import World
        from sim2real.tasks.registry import load_task

        robot = Robot.load(self.robot)
        task = load_task(self.task, robot.n)
        world = World(robot, task, nominal=dict(self.nominal), cameras=self.cameras)
        driver = Practising(world, task, Path(self.actor), self.features, self.known, self.history)

        def run(draw: Draw) -> dict[str, Any]:
            # On after success, as in collection: to stay there is part of what is learned.
            episode = rollout(world, driver, draw, linger=LINGER)
            return driver.finish(bool(episode.success))

        return run
