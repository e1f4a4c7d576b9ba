"""The true state of a simulated scene, as tasks and experts judge it."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim2real.objects import ByName, ObjectSpec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ObjectState:
    """One object at one instant: origin (3,) m, rotation (3, 3) and quaternion (x, y, z, w), velocity (3,) m/s
    of the origin, angular velocity (3,) rad/s, and what it is with the size that it has in this episode.

    `touches` names what it touches: other objects, "table", "finger" (the fixed one), "jaw" (the moving one) and
    "arm" (the rest of it). A zone lies still and touches nothing. `joint` (m or rad, 0 … its travel) is where the
    moving part of what has a joint is, `joint_speed` (m/s or rad/s) how fast that moves; 0 for everything else.
    """

    spec: ObjectSpec
    position: Array
    rotation: Array
    quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    velocity: Array = field(default_factory=lambda: np.zeros(3))
    angular_velocity: Array = field(default_factory=lambda: np.zeros(3))
    touches: frozenset[str] = frozenset()
    joint: float = 0.0
    joint_speed: float = 0.0

    @property
    def share(self) -> float:
        """How far its joint has gone, as a share of its way, 0 … 1; 0 for what has no joint."""
        return self.spec.share(self.joint)

    @property
    def grasped(self) -> bool:
        """Whether the object is held between both fingers."""
        return "finger" in self.touches and "jaw" in self.touches


@dataclass(frozen=True)
class Truth:
    """What is really so at one instant. SI units, base frame, rotations as matrices (columns = the body's axes).

    `joint_position`, `joint_velocity`, `joint_command` are (n,): rad, rad/s, rad (the goal the servos were
    last given). `objects` holds those that are there in this episode, by name: another name is a UserError.
    """

    time: float
    joint_position: Array
    joint_velocity: Array
    joint_command: Array
    tool_position: Array
    tool_rotation: Array
    goal: Array
    objects: ByName[ObjectState] = field(default_factory=ByName)


AWAY = 0.04
"""m between the tool and an object that the hand is away from."""

AT_REST = 0.02
"""m/s below which an object is at rest: what the simulated contacts leave of motion is a tenth of it."""


def left_alone(state: ObjectState, truth: Truth) -> bool:
    """Whether an object is at rest, with nothing of the arm at it and the tool `AWAY`."""
    away = math.dist(state.position.tolist(), truth.tool_position.tolist()) >= AWAY
    at_rest = float(np.linalg.norm(state.velocity)) < AT_REST
    return away and at_rest and not state.touches & {"finger", "jaw", "arm"}
