"""Reach with any arm: the joints of the goal by damped least squares, then the motion of all experts.

The closed form of `pointing.py` needs five joints of one kind. Here any number of them, turning or sliding, is solved
from where the command is; where that ends in a joint's stop or off the goal, from a few other poses, always in the same
order. So the target is a function of the observation alone.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.experts.motion import Motion, clip, follow_into, sag_into, step_into
from sim2real.model.kinematics import inverse, link_poses
from sim2real.observation import Observation
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot

Array = NDArray[np.float64]

CLOSE = 0.003
"""m; a solution that comes this near to the goal is one."""
TRIES = 12
"""Poses to start from besides the command and home."""
ABOVE = 0.03
"""m that the links' origins stay above the table where they can."""


class IterativeReachExpert:
    """Takes the tool frame to the goal. Satisfies `Policy`."""

    def __init__(self, robot: Robot, horizon: int = HORIZON) -> None:
        self.robot = robot
        self.horizon = horizon
        self._motion = Motion(robot)
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
        _approach_into(
            self.target(goal, command), position, command, m.lower, m.upper, m.speed, m.stiffness, m.chain,
            m.inertials, m.gravity, m.rest, *m.scratch, -1 if self.robot.gripper is None else self.robot.gripper,
            m.period, m.lead, chunk,
        )  # fmt: skip
        return chunk

    def target(self, goal: Array, command: Array) -> Array:
        """(n,) where the joints should go; the gripper stays as it is told."""
        m = self._motion
        best, least = command, np.inf
        for start in (command, *self._starts):
            q = np.clip(start, m.lower, m.upper)
            q[~self._free] = command[~self._free]
            found = inverse(self.robot.model, goal, start=q, lower=m.lower, upper=m.upper, free=self._free)
            _, origins = link_poses(self.robot.model, found.q)
            below = float(np.maximum(self._floor - origins[:, 2], 0.0).max())
            if found.position_error + below < least:
                best, least = found.q, found.position_error + below
            if least < CLOSE:
                break
        return best


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
