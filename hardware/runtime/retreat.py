"""The way out after a fault that has one: home, or gripper open and up, or back to where the arm really is."""

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.supervisor import Retreat
from sim2real.clearance import push_out
from sim2real.gate import Gate
from sim2real.robot import Robot

Array = NDArray[np.float64]

RAISE = 0.08
"""m by which the lowest point of the arm is raised."""

OPEN = 0.8
"""Share of its range to which the gripper is opened."""

_CONFIRM = 25
"""Ticks before standing still means anything: a gate may hold back the first requests as a jump."""


class Withdrawal:
    """Drives `gate`, which must be at rest, through the poses of a `Retreat`; one `step` per tick until `done`.

    `position`: (n,) rad, where the arm was last seen.
    """

    def __init__(self, kind: Retreat, robot: Robot, gate: Gate, position: Array) -> None:
        self.kind, self.robot, self.gate = kind, robot, gate
        self.done = False
        self._ticks = 0
        self._way = self._poses(position)
        self.request: Array = self._way[0]

    def _poses(self, position: Array) -> list[Array]:
        if self.kind is Retreat.HOME:
            return [np.array(self.robot.home)]
        if self.kind is Retreat.YIELD:
            return [np.array(position)]
        opened, gripper = self.gate.position, self.robot.gripper
        if gripper is not None:
            low, high = self.robot.lower[gripper], self.robot.upper[gripper]
            opened[gripper] = max(opened[gripper], low + OPEN * (high - low))
        raised = opened.copy()
        geometry = self.gate.geometry
        room = max(self.gate.clearance(opened), 0.0) + RAISE
        push_out(
            raised,
            self.robot.lower,
            self.robot.upper,
            geometry._replace(settings=geometry.settings + np.array([room, 0.0])),
        )
        return [opened, raised]

    def step(self) -> int:
        """One tick; returns the gate's mask."""
        flags = self.gate.step(self.request)
        self._ticks += 1
        # Wherever it comes to rest counts: what bars the way will not give way to insisting.
        if not self.done and self._ticks >= _CONFIRM and self.gate.at_rest:
            self._way.pop(0)
            self._ticks = 0
            if self._way:
                self.request = self._way[0]
            else:
                self.done = True
        return flags
