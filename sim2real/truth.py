"""The true state of a simulated scene, as tasks and experts judge it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What is really so at one instant. SI units, base frame, rotations as matrices (columns = the body's axes).

    `joint_position`, `joint_velocity`, `joint_command` are (n,): rad, rad/s, rad (the goal the servos were
    last given). `cube_size` is the side of the cube, m. `finger_contact` and `jaw_contact` say whether the
    fixed finger and the moving jaw touch the cube. Without a cube in the scene its position is NaN, its
    rotation the identity and its contacts False.
    """

    time: float
    joint_position: Array
    joint_velocity: Array
    joint_command: Array
    tool_position: Array
    tool_rotation: Array
    cube_position: Array
    cube_rotation: Array
    cube_size: float
    goal: Array
    finger_contact: bool
    jaw_contact: bool

    @property
    def grasped(self) -> bool:
        """Whether the cube is held between both fingers."""
        return self.finger_contact and self.jaw_contact
