"""Actions as learners have them: a number from -1 to 1 for every joint, its speed as a share of the gate's limit.

    goal = clip(joint_command + action · velocity limit / policy rate, lower, upper)

The chunk that comes of it holds this goal in all its rows: an action that arrives late is late and not lost.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.errors import UserError
from sim2real.observation import Feature, Observation, flatten
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot

Array = NDArray[np.float64]


class ActionScale:
    """From actions (n,) to chunks (`horizon`, n) rad for one robot."""

    def __init__(self, robot: Robot, horizon: int = HORIZON) -> None:
        if horizon < 1:
            raise UserError(f"the horizon of an action must be 1 or more periods, got {horizon}")
        self.horizon = horizon
        self.lower, self.upper = robot.lower, robot.upper
        self.reach = robot.limits("velocity") / robot.policy_rate
        """(n,) rad in one policy period, for an action of 1."""

    def chunk(self, command: Array, action: Array) -> Array:
        """The chunk for an action (n,), beyond -1 … 1 clipped; `command` (n,) rad is the last goal that was sent."""
        goal = np.clip(command + np.clip(action, -1.0, 1.0) * self.reach, self.lower, self.upper)
        return np.tile(goal, (self.horizon, 1))


class ActionPolicy:
    """A function of observation vectors as a `Policy`: what steps an environment also runs where policies run.

    `function` takes the features as one vector (D,) float32, in the order of `features`, and gives an action (n,).
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], ArrayLike],
        features: tuple[Feature, ...],
        robot: Robot,
        horizon: int = HORIZON,
    ) -> None:
        self._function, self._features = function, features
        self._scale = ActionScale(robot, horizon)
        self.horizon = horizon

    def reset(self, seed: int) -> None:
        """Nothing to forget: the function has no memory of ours."""

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad. Raises ValueError for actions of the wrong size."""
        action = np.asarray(self._function(flatten(observation, self._features)), dtype=np.float64)
        if action.shape != self._scale.reach.shape:
            raise ValueError(f"an action needs {len(self._scale.reach)} numbers, got shape {action.shape}")
        return self._scale.chunk(observation["joint_command"], action)
