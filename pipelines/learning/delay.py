"""Demonstrations for policies that are told what is committed while they think.

What an answer should be that takes effect `latency` later is known when that time has come: what the expert then says.
So an episode is labelled in hindsight. The entries about what is committed (`sim2real/policies/committed.py`) hold the
goals that were really played in that time, whoever drove; the rows of the label that come too late are the last of
them, the others are the expert's plan from where they end. Every step is a sample, also those at which the policy that
drove was still thinking.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import Sim2RealError
from sim2real.observation import Feature, Observation
from sim2real.policies.committed import COMMITTED, LATENCY, ROWS
from sim2real.robot import Robot

Array = NDArray[np.float64]


def delayed(features: Sequence[Feature]) -> bool:
    """Whether what is committed is among the features."""
    return any(feature.name == COMMITTED for feature in features)


def late_rows(latency: float, rate: float) -> int:
    """Rows of a chunk at `rate` Hz that are due by the time that it arrives."""
    return int(latency * rate + 1e-6)


class Ahead:
    """The steps of one episode after the other, and the pairs that come of them."""

    def __init__(self, features: Sequence[Feature], robot: Robot, horizon: int) -> None:
        self.robot, self.horizon = robot, horizon
        self._slices, at = {}, 0
        for feature in features:
            self._slices[feature.name] = slice(at, at + feature.size)
            at += feature.size
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self._vectors: list[NDArray[np.float32]] = []
        self._goals: list[Array] = []
        self._plans: list[Array] = []
        self._latency = 0.0

    def add(self, vector: NDArray[np.float32], observation: Observation, plan: Array) -> None:
        """A step: its observation, as vector (D,) and by name, and what the expert would do (H, n)."""
        self._vectors.append(vector)
        self._goals.append(observation[COMMITTED][: self.robot.n])
        self._plans.append(plan)
        self._latency = float(observation[LATENCY][0])

    def pairs(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(T, D) observations and (T, H, n) labels of the episode. Raises Sim2RealError for one shorter than the
        latency."""
        goals, late = np.array(self._goals), late_rows(self._latency, self.robot.policy_rate)
        count = len(goals) - late
        if count < 1:
            raise Sim2RealError(f"an episode of {len(goals)} steps, shorter than a latency of {late}")
        observations = np.stack(self._vectors[:count])
        steps = np.arange(count)
        told = [goals[steps + min(row, late)] for row in range(ROWS)]
        observations[:, self._slices[COMMITTED]] = np.concatenate(told, axis=1)
        observations[:, self._slices[LATENCY]] = self._latency
        labels = np.empty((count, self.horizon, self.robot.n))
        labels[:, :late] = goals[steps + late][:, None]
        labels[:, late:] = np.stack(self._plans[late : late + count])[:, : self.horizon - late]
        return observations, labels.astype(np.float32)
