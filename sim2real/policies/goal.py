"""Policies for many tasks: one network that is told the goal.

What it observes of the world are the arm and one row for every part of the goal (`sim2real/goal_view.py`); the task at
hand says which objects those are.
"""

from typing import TYPE_CHECKING, Any

from sim2real.errors import UserError
from sim2real.goal_view import ENTRY, goal_view
from sim2real.observation import Observation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sim2real.policies.file import FilePolicy


def takes_goals(policy: "FilePolicy") -> bool:
    """Whether a policy file is for many tasks."""
    return any(feature.name == ENTRY for feature in policy.info.features)


class GoalPolicy:
    """A policy file for many tasks, told one goal. Satisfies the Policy protocol."""

    def __init__(self, policy: "FilePolicy", task: Any) -> None:
        """`task`: one of a suite, or of a file. Raises UserError for one whose goal is not data."""
        try:
            self.view = goal_view(task)
        except UserError as error:
            raise UserError(f"{policy.where} is told its goal; {error}") from None
        self.policy = policy
        self.horizon, self.info, self.where = policy.horizon, policy.info, policy.where

    def reset(self, seed: int) -> None:
        """Nothing to forget."""
        self.policy.reset(seed)

    def act(self, observation: Observation) -> "NDArray[np.float64]":
        """(horizon, n) rad. Raises UserError when the observation lacks an object of the goal."""
        return self.policy.act(observation | self.view.entries(observation))
