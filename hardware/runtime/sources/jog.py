"""Moving an arm with keys: joint by joint, or the tool in straight lines."""

import numpy as np
from numpy.typing import NDArray

from sim2real.model.kinematics import tool_jacobian
from sim2real.observation import Observation
from sim2real.robot import Robot

Array = NDArray[np.float64]

HORIZON = 5
"""Actions per chunk."""

STEPS = (0.25, 1.0, 4.0)
"""Factors of a key press: fine, normal, coarse."""

ANGLE, LENGTH = 0.035, 0.005
"""rad, m per key press at the normal step."""

SPEED = 0.8
"""rad/s at which joints go where the keys have put the goal."""

LEAD = 0.15
"""rad by which the goal may be ahead of the arm: once a key is let go, the arm stops within this."""

TURN_WEIGHT = 0.05
"""m per rad: how much turning the tool counts against missing a straight line."""

DAMPING = 0.01
"""m per rad: keeps joints slow where the arm is stretched out."""


class KeyboardJog:
    """A policy that goes where keys point, and the guide that takes them (see `teleop.Guide`)."""

    def __init__(self, robot: Robot, limits: tuple[Array, Array] | None = None) -> None:
        self.robot = robot
        self.lower, self.upper = (robot.lower, robot.upper) if limits is None else limits
        self.horizon = HORIZON
        self.cartesian = False
        self.joint = 0
        self._step = 1
        self._goal: Array | None = None

    @property
    def hint(self) -> str:
        what = "tool" if self.cartesian else self.robot.joint_names[self.joint]
        how = "arrows x y, PgUp PgDn z" if self.cartesian else f"1…{self.robot.n} joint, up down"
        grip = "" if self.robot.gripper is None else ", o p gripper"
        return f"[{what}, step {STEPS[self._step]:g}] {how}{grip}, c joints/tool, < > step"

    def apart(self, position: Array) -> str:
        return ""

    def reset(self, seed: int) -> None:
        """From wherever the arm is."""
        self._goal = None

    def act(self, observation: Observation) -> Array:
        """(HORIZON, n) rad from the last goal towards where the keys point."""
        sent = observation["joint_command"]
        if self._goal is None:
            self._goal = np.array(sent)
        ahead = self._goal - sent
        # In proportion, so that a straight line stays one.
        ahead *= min(1.0, LEAD / max(float(np.abs(ahead).max()), 1e-9))
        self._goal = np.clip(sent + ahead, self.lower, self.upper)
        steps = SPEED / self.robot.policy_rate * (1 + np.arange(HORIZON))
        share = np.minimum(1.0, steps / max(float(np.abs(ahead).max()), 1e-9))
        chunk: Array = sent + share[:, None] * (self._goal - sent)
        return chunk

    def key(self, key: str) -> None:
        """One key press; what it does is in `hint`."""
        if key == "c":
            self.cartesian = not self.cartesian
        elif key in ("<", ">"):
            self._step = min(max(self._step + (1 if key == ">" else -1), 0), len(STEPS) - 1)
        elif key.isdecimal() and 1 <= int(key) <= self.robot.n:
            self.joint, self.cartesian = int(key) - 1, False
        elif key in ("o", "p") and self.robot.gripper is not None:
            self._turn(self.robot.gripper, ANGLE if key == "o" else -ANGLE)
        elif not self.cartesian and key in ("up", "down", "+", "-"):
            self._turn(self.joint, ANGLE if key in ("up", "+") else -ANGLE)
        elif self.cartesian and key in _DIRECTIONS:
            self._shift(LENGTH * np.array(_DIRECTIONS[key]))

    def _turn(self, joint: int, angle: float) -> None:
        if self._goal is not None:
            self._goal[joint] += angle * STEPS[self._step]

    def _shift(self, way: Array) -> None:
        """Move the goal of the tool by `way` (3,) m in the base frame, turning the tool as little as possible."""
        if self._goal is None:
            return
        # As many small steps as it takes for the arm's geometry not to change much within one.
        way = way * STEPS[self._step]
        for _ in range(parts := max(1, round(float(np.linalg.norm(way)) / LENGTH))):
            jacobian = tool_jacobian(self.robot.model, self._goal)
            free = self.robot.arm
            while len(free):
                part = jacobian[:, free]
                weighted = np.vstack([part[:3], TURN_WEIGHT * part[3:]])
                normal = weighted.T @ weighted + DAMPING**2 * np.eye(len(free))
                goal = self._goal[free] + np.linalg.solve(normal, part[:3].T @ (way / parts))
                # A joint at the end of its range stays there, and the others do it without.
                within = (goal >= self.lower[free]) & (goal <= self.upper[free])
                if within.all():
                    self._goal[free] = goal
                    break
                free = free[within]


_DIRECTIONS = {
    "up": (1.0, 0.0, 0.0), "down": (-1.0, 0.0, 0.0), "left": (0.0, 1.0, 0.0), "right": (0.0, -1.0, 0.0),
    "pageup": (0.0, 0.0, 1.0), "pagedown": (0.0, 0.0, -1.0),
}  # fmt: skip
"""Seen from behind the arm."""
