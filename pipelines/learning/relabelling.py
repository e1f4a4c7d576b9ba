"""What an expert would have done in the states that a recording visited.

Where a policy drove the arm itself, its own actions teach it nothing. Its states do: experts are laws of what sensors
tell, so they can say afterwards what should have been done in each of them, failures included. That is DAgger
(Ross, Gordon, Bagnell, 2011) on the arm, at the price of the recording.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.learning.demonstrations import Demonstrations
from sim2real.errors import UserError
from sim2real.observation import Feature, Observation
from sim2real.policies.protocol import Policy

Array = NDArray[np.float64]


class KnownZeros:
    """A policy that knows how far the encoders' zeros are off: `zeros` (n,) rad, sensed minus true angle.

    It is told true angles, and its goals are those that take the true joints where it wants them, within `lower` and
    `upper` (n,) rad.
    """

    def __init__(self, policy: Policy, zeros: Array, lower: Array, upper: Array) -> None:
        self.policy, self.zeros, self.lower, self.upper = policy, np.asarray(zeros, float), lower, upper
        self.horizon = policy.horizon

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad."""
        told = dict(observation)
        for key in ("joint_position", "joint_command"):
            if key in told:
                told[key] = told[key] - self.zeros
        chunk = np.asarray(self.policy.act(told)) + self.zeros
        return np.clip(chunk, self.lower, self.upper)


def relabelled(demonstrations: Demonstrations, features: Sequence[Feature], expert: Policy) -> Demonstrations:
    """The pairs with the expert's chunks in place of what was done.

    Raises UserError where the expert needs what the observations do not hold, or its chunks are too short.
    """
    horizon = demonstrations.chunks.shape[1]
    if expert.horizon < horizon:
        raise UserError(f"the expert looks {expert.horizon} steps ahead, the policy {horizon}")
    stops = np.cumsum([feature.size for feature in features])[:-1]
    chunks = np.empty_like(demonstrations.chunks)
    for i, vector in enumerate(demonstrations.observations.astype(np.float64)):
        parts = np.split(vector, stops)
        observation = {feature.name: part for feature, part in zip(features, parts)}
        chunks[i] = np.asarray(expert.act(observation))[:horizon]
    good: NDArray[np.bool_] = np.asarray(np.isfinite(chunks).all(axis=(1, 2)))
    return replace(demonstrations, chunks=np.where(good[:, None, None], chunks, 0)).select(good)
