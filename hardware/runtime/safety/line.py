"""A straight way in joint angles, as requests to a gate: a gate that is asked for its end at once lets every joint go
as fast as it can, and so leaves the way that was checked."""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.gate.gate import Gate
from sim2real.robot import Robot

Array = NDArray[np.float64]

STEADY = 0.9
"""Share of the gate's velocity at which it is led: what it can follow without falling behind."""


class Line:
    """From where `gate` is to `end`, (n,) rad, all joints arriving at once after `ticks` ticks."""

    def __init__(self, robot: Robot, gate: Gate, end: Array) -> None:
        self.start, self.end = gate.position, end
        turns = np.abs(end - self.start) / (STEADY * gate.speed * robot.limits("velocity"))
        self.ticks = max(math.ceil(float(turns.max()) * robot.command_rate), 1)

    def at(self, tick: int) -> Array:
        """(n,) rad: the request of a tick, counted from 1; the end after the last one."""
        return np.asarray(self.start + min(tick / self.ticks, 1.0) * (self.end - self.start))
