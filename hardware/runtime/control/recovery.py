"""The way out after a fault that has one: home, or gripper open and up, or back to where the arm really is."""

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import Retreat
from sim2real.gate.gate import Gate
from sim2real.model.kinematics import tool_jacobian
from sim2real.robot import Robot

Array = NDArray[np.float64]

RAISE = 0.08
"""m by which the tool is raised."""

_STEPS = 20
_DAMPING = 1e-3  # m²/rad²

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
        return [opened, self._above(opened)]

    def _above(self, position: Array) -> Array:
        """A pose near `position` (n,) rad whose tool is RAISE higher, as far as joint limits allow."""
        robot, pose = self.robot, position.copy()
        margin = robot.gate.position_margin * robot.model.scale
        for _ in range(_STEPS):
            up = tool_jacobian(robot.model, pose)[2]
            if robot.gripper is not None:
                up[robot.gripper] = 0.0
            # Least change of the joints; damped, for arms that are stretched straight up.
            pose += up * (RAISE / _STEPS) / (up @ up + _DAMPING)
            pose = np.clip(pose, robot.lower + margin, robot.upper - margin)
        return np.asarray(pose)

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
