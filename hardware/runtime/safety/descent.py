"""The way down: from wherever the goal rests to the rest pose, slowly, through a gate.

Straight down works from nearly everywhere. Where the table bars the way (a folded arm), the arm first goes up
and home, then down.
"""

import numpy as np
from numpy.typing import NDArray

from sim2real.gate.gate import Gate
from sim2real.robot import Robot

Array = NDArray[np.float64]

SPEED = 0.2
"""Share of the gate's limits at which an arm is lowered."""

RAISE = 0.2
"""m of clearance to look for when the way down is barred."""

NEAR = 0.05
"""rad within which a pose counts as reached (a calibrated range may end a little before it)."""

_SETTLE = 25
"""Ticks before standing still means anything: a gate may hold back the first requests as a jump."""

_ATTEMPTS = 3

_LEGS = 4.0
"""Full turns of the slowest joint that a descent takes at most: the longest of some hundred, barred three times, took
3.3 of them."""


def longest(robot: Robot, speed: float = 1.0) -> float:
    """s that a descent takes at most where `speed` is the share of the gate's limits chosen for the whole run."""
    turn = float(np.max((robot.upper - robot.lower) / robot.limits("velocity")))
    return _LEGS * turn / min(speed, SPEED)


class Descent:
    """Drives `gate`, which must be at rest, to the robot's rest pose; one `step` per tick until `done`."""

    def __init__(self, robot: Robot, gate: Gate) -> None:
        self.robot, self.gate = robot, gate
        self.begin()

    def begin(self) -> None:
        """Start over from where the gate is."""
        self._way: list[Array | None] = [np.array(self.robot.rest)]
        self._attempts = 0
        self._ticks = 0
        self.request: Array = np.array(self.robot.rest)
        self.done = False
        self.arrived = False
        """Whether it ended at the rest pose (else: barred wherever it turned)."""

    def step(self) -> int:
        """One tick; returns the gate's mask."""
        flags = self.gate.step(self.request)
        self._ticks += 1
        if self.done or self._ticks < _SETTLE or not self.gate.at_rest:
            return flags
        if self._way[0] is None or np.abs(self.gate.position - self.request).max() < NEAR:
            self._way.pop(0)
            if not self._way:
                self.done = self.arrived = True
                return flags
        elif self._attempts < _ATTEMPTS:
            self._attempts += 1
            self._way = [None, np.array(self.robot.home), np.array(self.robot.rest)]
        else:
            self.done = True
            return flags
        self._ticks = 0
        goal = self._way[0]
        self.request = self._raised() if goal is None else goal
        return flags

    def _raised(self) -> Array:
        """Where the goal would be with more room below."""
        return self.gate.raised(self.gate.position, RAISE)
