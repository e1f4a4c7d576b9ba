"""Reach with any arm: the joints of the goal by damped least squares, then the motion of all experts.

The closed form of `pointing.py` needs five joints of one kind. Here any number of them, turning or sliding, is solved
along the straight way of the tool from home to the goal, which keeps the joints from wandering; where that ends in a
joint's stop or off the goal, from a few other poses, always in the same order. So the joints are a function of the goal
alone, and an arm with more joints than it needs does not drift.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.experts.motion import MotionModel, clip, follow_into, sag_into, step_into
from sim2real.model.kinematics import (
    link_poses,
    link_poses_into,
    tool_jacobian_into,
    tool_pose_into,
    tool_span,
)
from sim2real.observation import Observation
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot

Array = NDArray[np.float64]

CLOSE = 0.003
"""m; a solution that comes this near to the goal is one."""
TRIES = 12
"""Poses to start from besides home."""
DAMPING, STEP = 0.15, 0.05
"""Of the least squares, and of each of its steps, in `tool_span`s of the arm."""
ITERATIONS = 300
ABOVE = 0.03
"""m that the links' origins stay above the table where they can."""


class IterativeReachExpert:
    """Takes the tool frame to the goal. Satisfies `Policy`."""

    def __init__(self, robot: Robot, horizon: int = HORIZON) -> None:
        self.robot = robot
        self.horizon = horizon
        self._motion = MotionModel(robot)
        self._free = np.ones(robot.n, dtype=np.bool_)
        if robot.gripper is not None:
            self._free[robot.gripper] = False
        m, rng = self._motion, np.random.default_rng(0)
        home = np.clip(robot.home, m.lower, m.upper)
        # Poses around home first: arms are rarely asked to turn inside out.
        spread = np.linspace(0.3, 1.0, TRIES)[:, None]
        others = home + spread * (rng.uniform(m.lower, m.upper, (TRIES, robot.n)) - home)
        self._starts = [home, *others]
        _, origins = link_poses(robot.model, home)
        self._goal, self._target = np.full(3, np.nan), home
        self._floor = np.minimum(origins[:, 2], ABOVE)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad or m. Raises UserError when the observation lacks what the task needs."""
        try:
            goal, position, command = (
                observation[key] for key in ("goal", "joint_position", "joint_command")
            )
        except KeyError as error:
            raise UserError(
                f"the expert needs {error} in the observation; it has {sorted(observation)}"
            ) from None
        m = self._motion
        chunk = np.empty((self.horizon, self.robot.n))
        target = self.target(goal).copy()
        if self.robot.gripper is not None:
            target[self.robot.gripper] = command[self.robot.gripper]
        _approach_into(
            target, position, command, m.lower, m.upper, m.speed, m.stiffness, m.chain,
            m.inertials, m.gravity, m.rest, *m.scratch, -1 if self.robot.gripper is None else self.robot.gripper,
            m.period, m.lead, chunk,
        )  # fmt: skip
        return chunk

    def target(self, goal: Array) -> Array:
        """(n,) where the joints should go for a `goal` (3,) m; the gripper is where it is at home."""
        if not np.array_equal(goal, self._goal):
            self._goal, self._target = np.array(goal), self._solved(goal)
        return self._target

    def _solved(self, goal: Array) -> Array:
        best, least = self._starts[0], np.inf
        m, model = self._motion, self.robot.model
        size = tool_span(model)
        for start in self._starts:
            q = np.array(start)
            error = _go(
                model.chain, model.tool, q, goal, m.lower, m.upper, self._free, DAMPING * size, STEP * size
            )
            _, origins = link_poses(model, q)
            error += float(np.maximum(self._floor - origins[:, 2], 0.0).max())
            if error < least:
                best, least = q, error
            if least < CLOSE:
                break
        return best


@njit(cache=True, nogil=True, error_model="numpy")
def _go(
    chain: Array, tool: Array, q: Array, goal: Array, lower: Array, upper: Array, free: NDArray[np.bool_],
    damping: float, step: float,
) -> float:  # fmt: skip
    """Move `q` (n,), in place, until the tool is at `goal` (3,) m; returns what is left, m.

    Damped least squares, Δq = Jᵀ (J Jᵀ + λ² I)⁻¹ e (Y. Nakamura, H. Hanafusa, "Inverse kinematic solutions with
    singularity robustness for robot manipulator control", 1986), with `damping` λ in m per rad and steps e of at most
    `step` m: joints that hardly move the tool hardly move. Joints that would leave their limits stay there, and the
    others do their part.
    """
    n, links = len(q), len(chain)
    rotations, origins = np.empty((links, 3, 3)), np.empty((links, 3))
    rotation, place, jacobian = np.empty((3, 3)), np.empty(3), np.empty((6, n))
    error = np.empty(3)
    left = np.inf
    for _ in range(ITERATIONS):
        link_poses_into(chain, q, rotations, origins)
        tool_pose_into(tool, rotations, origins, rotation, place)
        for k in range(3):
            error[k] = goal[k] - place[k]
        left = math.sqrt(error[0] ** 2 + error[1] ** 2 + error[2] ** 2)
        if left < 1e-4:
            break
        if left > step:
            error *= step / left
        tool_jacobian_into(chain, tool, rotations, origins, place, jacobian)
        linear = jacobian[:3].copy()
        for j in range(n):
            if not free[j]:
                linear[:, j] = 0.0
        change = np.zeros(n)
        for _ in range(n):
            square = linear @ linear.T
            for k in range(3):
                square[k, k] += damping * damping
            change = linear.T @ np.linalg.solve(square, error)
            stopped = False
            for j in range(n):
                if (q[j] <= lower[j] and change[j] < 0.0) or (q[j] >= upper[j] and change[j] > 0.0):
                    linear[:, j] = 0.0
                    stopped = True
            if not stopped:
                break
        for j in range(n):
            q[j] = clip(q[j] + change[j], lower[j], upper[j])
    return left


@njit(cache=True, nogil=True, error_model="numpy")
def _approach_into(
    target: Array, position: Array, command: Array, lower: Array, upper: Array, speed: Array, stiffness: Array,
    chain: Array, inertials: Array, gravity: Array, rest: Array, rotations: Array, origins: Array, work: Array,
    mass: Array, bias: Array, gripper: int, period: float, lead_time: float, out: Array,
) -> None:  # fmt: skip
    """Fill `out` (H, n) with the commands of the next H periods on the way to `target`, see `laws.chunk_into`."""
    n = len(command)
    q, c, sag, lead = position.copy(), command.copy(), np.empty(n), np.empty(n)
    sag_into(chain, inertials, gravity, rest, stiffness, q, rotations, origins, work, mass, bias, sag)
    for j in range(n):
        lead[j] = clip(c[j] - q[j], sag[j] - 0.04, sag[j] + 0.04)
    if gripper >= 0:
        lead[gripper] = 0.0
        sag[gripper] = 0.0
    for i in range(len(out)):
        dt = period + lead_time if i == 0 else period
        step_into(target, c, q, sag, lower, upper, speed, gripper, dt)
        follow_into(q, c, lead, period)
        for j in range(n):
            out[i, j] = c[j]
