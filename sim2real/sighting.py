"""What single pictures show, and where the hand was: what `tracking` is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim2real.model.kinematics import tool_pose
from sim2real.objects import ByName
from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sighting:
    """One object in one picture.

    `position` (3,) m is its origin in the base frame, on the table unless it is seen to be lifted; `yaw` in rad, up to
    its symmetry, 0 for round ones; `visible` the fraction of it that is seen, and `confidence` how well it fits, 0…1.
    `covariance` (3, 3) is that of the errors of x, y and yaw (m², m·rad, rad²): it covers all `alternatives`, which
    are the solutions, best first, where the picture allows several. `lifted`: how likely it is, 0…1, that the object
    is above the table; where it is likelier than not, `position` says where, its height with the standard deviation
    `height_spread`, m.
    """

    position: Array
    yaw: float
    visible: float
    confidence: float
    covariance: Array
    alternatives: tuple["Sighting", ...] = ()
    lifted: float = 0.0
    height_spread: float = 0.0


@dataclass(frozen=True)
class Percept:
    """What one picture shows. `time` of capture, s. `objects`: those that were found, by name."""

    time: float
    objects: Mapping[str, Sighting] = field(default_factory=ByName)


@dataclass(frozen=True)
class Hand:
    """Where an arm's hand is: `position` (3,) m and `rotation` (3, 3) of its tool frame in the base frame, and its
    gripper's angle `opening`, rad (m where it slides), which is the larger the wider it is open."""

    position: Array
    rotation: Array
    opening: float

    @staticmethod
    def of(robot: Robot, joints: Array) -> "Hand":
        """The hand of an arm at the angles `joints` (n,), rad."""
        position, rotation = tool_pose(robot.model, joints)
        return Hand(position, rotation, 0.0 if robot.gripper is None else float(joints[robot.gripper]))
