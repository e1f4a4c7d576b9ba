"""Scripted experts of the tasks: teachers for learning, and a reference for every figure.

They satisfy `Policy` and are functions of the observation alone, so the same class runs on the true state in
simulation, labels the states that a student visits, and runs on what a camera's detector sees on an arm. The
laws are in `laws.py` and `grasping.py`, how the command moves in `motion.py`, the inverse kinematics in `pointing.py`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.experts import grasping, laws
from sim2real.experts.grasping import GRIP, ROOM
from sim2real.experts.motion import MotionModel
from sim2real.experts.pointing import pointing_geometry, structure_problem
from sim2real.model.kinematics import link_poses, tool_position
from sim2real.objects import ObjectSpec
from sim2real.observation import MAX_AGE, Observation, object_keys
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot
from sim2real.task import CUBE
from sim2real.truth import AWAY

Array = NDArray[np.float64]

FORK_GAP = 0.014
"""m between the fingertips while they push: less than a cube, enough for its corner."""
HELD_SHARE = 0.48
"""Of the cube's width: a gripper told to close that stays wider open than this holds something."""
GRASP_SHARE, LEAST_GRASP = 0.6, 0.015
"""Height of the grasp, as a share of the cube's, and m; lower the fingertips would rub on the table."""
CUBE_INPUTS = tuple(zip((3, 6, 8), (6, 8, 9), object_keys("cube")))
"""Which places of the laws' scene array come from which entry about the cube."""
SPREAD = object_keys("cube")[3]


class Expert:
    """What the experts share. Raises UserError for arms whose inverse kinematics is not known in closed form."""

    kind: int
    needs_gripper = True

    def __init__(
        self, robot: Robot, horizon: int = HORIZON, *, side: float = CUBE, under: float = 0.0
    ) -> None:
        """`side` m of the cube; `under` m, height of what it is put upon."""
        if self.needs_gripper and robot.gripper is None:
            raise UserError(
                f"the expert needs a gripper; robot '{robot.name}' has none. Use a policy of your own"
            )
        self.robot = robot
        self.horizon = horizon
        self.side = side
        self._motion = MotionModel(robot)
        self._geometry = self.geometry()
        self._grip = hand_for(robot, side, under) if robot.gripper is not None else np.zeros(GRIP)
        self._scene = np.zeros(laws.SCENE)
        self._scene[6] = 1.0

    def geometry(self) -> Array:
        """The arm's constants for the point that this expert guides."""
        return pointing_geometry(self.robot)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad. Raises UserError when the observation lacks what the task needs."""
        return self.follow(self.kind, self._grip, observation)

    def follow(self, kind: int, grip: Array, observation: Observation) -> Array:
        """(horizon, n) rad of the law `kind`, for a hand that is as `grip` says. Raises as `act` does."""
        m, scene = self._motion, self._scene
        try:
            for start, stop, key in self.inputs:
                scene[start:stop] = observation[key]
            # How well the cube is known is not said by everybody who watches it.
            scene[9:11] = observation.get(SPREAD, 0.0)
            position, command = observation["joint_position"], observation["joint_command"]
        except KeyError as error:
            raise UserError(
                f"the expert needs {error} in the observation; it has {sorted(observation)}"
            ) from None
        chunk = np.empty((self.horizon, self.robot.n))
        laws.chunk_into(
            kind, self._geometry, position, command, scene, grip, m.lower, m.upper, m.speed,
            m.stiffness, m.chain, m.inertials, m.gravity, m.rest, *m.scratch,
            -1 if self.robot.gripper is None else self.robot.gripper, m.period, m.lead, chunk,
        )  # fmt: skip
        return chunk

    inputs: tuple[tuple[int, int, str], ...] = ()
    """Which places of the scene array come from which key of the observation."""


class ReachExpert(Expert):
    """Takes the tool frame to the goal."""

    kind = laws.REACH
    needs_gripper = False
    inputs = ((0, 3, "goal"),)


class PushExpert(Expert):
    """Pushes the cube onto the mark with both fingertips, a little apart."""

    kind = laws.PUSH
    inputs = ((0, 3, "goal"), *CUBE_INPUTS)

    def geometry(self) -> Array:
        return pointing_geometry(self.robot, (FORK_GAP / 2, 0.0))


class PressExpert(PushExpert):
    """Presses a button with both fingertips."""

    kind = laws.PRESS


class LiftExpert(Expert):
    """Grasps the cube and carries it up."""

    kind = laws.LIFT
    inputs = CUBE_INPUTS

    def geometry(self) -> Array:
        # The tool frame is at the fixed finger's inner face.
        return pointing_geometry(self.robot, (open_gap(self.side) / 2, 0.0))


class PlaceExpert(LiftExpert):
    """Grasps the cube and sets it down on the mark."""

    kind = laws.SET_DOWN
    inputs = ((0, 3, "goal"), *CUBE_INPUTS)

    def lets_go(self, grip: Array, observation: Observation) -> bool:
        """Whether the hand is at the goal and opens, so that what it had is to be left there."""
        position, command = observation["joint_position"], observation["joint_command"]
        return bool(grasping.lets_go(self._geometry, position, command, observation["goal"], grip))


class StackExpert(LiftExpert):
    """Grasps the cube and sets it down on the other one."""

    kind = laws.SET_DOWN
    inputs = ((0, 3, "object.base.position"), *CUBE_INPUTS)


def open_gap(side: float) -> float:
    """m between the fingertips of the gripper that goes down around a cube of this `side`, m."""
    return side + 2 * ROOM


def grip_angles(robot: Robot, side: float = CUBE) -> Array:
    """(5,) gripper angles, rad: closed, open, the least that means holding something, at the cube's width, pushing.

    For a cube of this `side`, m, and a gripper whose fingertips touch at its lower limit. A jaw turning about an axis
    at the distance L from the fingertip leaves a gap of 2 L sin(angle / 2).
    """
    assert robot.gripper is not None
    lower = float(robot.lower[robot.gripper])
    margin = float((robot.gate.position_margin + 0.005) * robot.model.scale[robot.gripper])
    gaps = (open_gap(side), HELD_SHARE * side, side, FORK_GAP)
    if robot.model.sliding[robot.gripper]:
        return lower + np.array([margin, *gaps])
    _, origins = link_poses(robot.model, np.zeros(robot.n))
    jaw = origins[robot.model.rows[robot.gripper]]
    length = float(np.linalg.norm(tool_position(robot.model, np.zeros(robot.n)) - jaw))
    angle = [2 * math.asin(min(1.0, gap / (2 * length))) for gap in gaps]
    return np.array([lower + margin, *(lower + a for a in angle)])


def hand_for(robot: Robot, side: float, under: float = 0.0) -> Array:
    """(GRIP,) what the laws know of a gripper and a cube of this `side`, m, put upon something `under` m high."""
    return np.array([*grip_angles(robot, side), side, max(LEAST_GRASP, GRASP_SHARE * side), under])


def holds_something(observation: Observation, robot: Robot, side: float = CUBE) -> bool:
    """Whether the hand holds a cube of this `side`, m, by several signs: see `grasping.holding`.

    By the jaw alone for arms that the experts do not know, and where nothing is said of a cube.
    """
    assert robot.gripper is not None
    q, c, j = observation["joint_position"], observation["joint_command"], robot.gripper
    if structure_problem(robot):
        closed, _, held, *_ = grip_angles(robot, side)
        return bool(c[j] < closed + 0.1 and q[j] > held)
    scene = np.zeros(laws.SCENE)
    scene[8] = MAX_AGE
    if all(key in observation for _, _, key in CUBE_INPUTS):
        for start, stop, key in CUBE_INPUTS:
            scene[start:stop] = observation[key]
        scene[9:11] = observation.get(SPREAD, 0.0)
    geometry, grip = _hand(robot, side)
    return bool(grasping.holding(geometry, np.array(q), np.array(c), scene, grip) > 0.5)


def _hand(robot: Robot, side: float) -> tuple[Array, Array]:
    """The laws' constants of a hand; those of the last one are kept, since a session asks at every tick."""
    global _last
    if _last is None or _last[0] is not robot or _last[1] != side:
        geometry = pointing_geometry(robot, (open_gap(side) / 2, 0.0))
        _last = robot, side, geometry, hand_for(robot, side)
    return _last[2], _last[3]


_last: tuple[Robot, float, Array, Array] | None = None


def hand_is_away(observation: Observation, robot: Robot, place: Array, side: float = CUBE) -> bool:
    """Whether the hand holds nothing and its tool is `AWAY` from a `place` (3,) m, by the joints."""
    tool = tool_position(robot.model, observation["joint_position"])
    away = float(np.linalg.norm(tool - place)) >= AWAY
    return away and (robot.gripper is None or not holds_something(observation, robot, side))


def seen_on_top(cube: Array, base: Array, upper: ObjectSpec, lower: ObjectSpec) -> bool | None:
    """Whether a cube is on top of another by where they are seen, (3,) m each; None where that cannot be told.

    A camera that knows only the table sees the upper cube further away than it is, on the table.
    """
    off = math.hypot(cube[0] - base[0], cube[1] - base[1])
    if cube[2] > upper.rest + 0.5 * lower.height:
        return off <= lower.rest
    return None if off < grasping.SEEMS_STACKED else False
