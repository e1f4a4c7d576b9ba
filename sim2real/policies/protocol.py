"""What chooses actions: the protocol, and the small policies that need nothing else."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.objects import ObjectSpec
from sim2real.observation import Feature, Observation
from sim2real.robot import Robot

Array = NDArray[np.float64]

HORIZON = 10
"""Actions per chunk of the policies here: a third of a second at 30 Hz."""

BUILT_IN = ("expert", "zero", "random")


class Policy(Protocol):
    """Observations in, chunks of joint goals out. Attributes a policy may have besides: `task`, `robot`."""

    horizon: int
    """H, the number of actions per chunk."""

    def reset(self, seed: int) -> None:
        """A new episode begins; everything random in it follows from `seed`."""

    def act(self, observation: Observation) -> Array:
        """(H, n) rad: row i is due (i + 1) / policy_rate after the observation."""


class Purpose(Protocol):
    """What a policy is for: as much of a task as policies need to know."""

    name: str
    features: tuple[Feature, ...]
    """What policies of this task may observe."""
    objects: tuple[ObjectSpec, ...]
    """What lies on its table."""

    def expert(self, robot: Robot) -> Policy:
        """A policy that can do it."""


class ZeroPolicy:
    """Stays where the arm was last told to be: what happens when nothing is done."""

    def __init__(self, robot: Robot, horizon: int = HORIZON) -> None:
        self.horizon = horizon

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> Array:
        return np.tile(observation["joint_command"], (self.horizon, 1))


class RandomPolicy:
    """Wanders smoothly: an Ornstein–Uhlenbeck process of joint velocities, kept within the joint limits.

    `speed` is the standard deviation of the velocity as a fraction of the gate's limit, `memory` its
    correlation time in s.
    """

    def __init__(
        self, robot: Robot, horizon: int = HORIZON, speed: float = 0.25, memory: float = 0.5
    ) -> None:
        self.horizon = horizon
        self._robot = robot
        self._sigma = speed * robot.limits("velocity")
        self._period = 1.0 / robot.policy_rate
        self._keep = float(np.exp(-self._period / memory))
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._velocity = np.zeros(self._robot.n)

    def act(self, observation: Observation) -> Array:
        goal = np.array(observation["joint_command"], dtype=np.float64)
        chunk = np.empty((self.horizon, self._robot.n))
        velocity = self._velocity
        for i in range(self.horizon):
            kick = self._rng.standard_normal(self._robot.n) * self._sigma
            velocity = self._keep * velocity + np.sqrt(1 - self._keep**2) * kick
            ahead = goal + velocity * self._period
            goal = np.clip(ahead, self._robot.lower, self._robot.upper)
            # Turn round at a limit instead of leaning on it.
            velocity = np.where(goal == ahead, velocity, -velocity)
            chunk[i] = goal
            if i == 0:
                self._velocity = velocity
        return chunk


class ReplayPolicy:
    """Plays recorded goals (T, n), rad, one row per policy step, whatever it observes; then holds the last."""

    def __init__(self, goals: Array | Sequence[Sequence[float]], horizon: int = HORIZON) -> None:
        self._goals = np.array(goals, dtype=np.float64)
        if self._goals.ndim != 2 or len(self._goals) == 0 or not np.isfinite(self._goals).all():
            raise UserError(f"a replay needs (T, n) finite goals with T >= 1, got shape {self._goals.shape}")
        self.horizon = horizon
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._next = 0

    def act(self, observation: Observation) -> Array:
        rows = np.minimum(np.arange(self._next, self._next + self.horizon), len(self._goals) - 1)
        self._next += 1
        chunk: Array = self._goals[rows]
        return chunk


def load_trajectory(path: str, robot: Robot) -> ReplayPolicy:
    """The policy that plays a file of goals, (T, n) rad at the policy rate, as `numpy.save` writes it.

    Raises UserError when it is missing or of another robot.
    """
    try:
        goals = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the trajectory {path}: {error}") from None
    if goals.ndim != 2 or goals.shape[1] != robot.n:
        raise UserError(
            f"the trajectory {path} has the shape {goals.shape}; {robot.name} needs (T, {robot.n}): goals in rad, one "
            f"row per step at {robot.policy_rate} Hz"
        )
    return ReplayPolicy(goals)


def checked_chunk(chunk: Array, policy: Policy, robot: Robot) -> Array:
    """The chunk as (H, n) float64. Raises UserError when the policy broke its contract."""
    try:
        result = np.asarray(chunk, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"{type(policy).__name__}.act returned a {type(chunk).__name__} that is no array of numbers; "
            f"{(policy.horizon, robot.n)} (horizon, joints of {robot.name}) is needed"
        ) from None
    if result.shape != (policy.horizon, robot.n):
        raise UserError(
            f"{type(policy).__name__}.act returned shape {result.shape}; "
            f"{(policy.horizon, robot.n)} (horizon, joints of {robot.name}) is needed"
        )
    return result
