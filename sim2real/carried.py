"""Cameras on the arm: where they stand, by its joints."""

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.model.kinematics import link_poses, tool_pose
from sim2real.robot import Robot


def in_base(camera: CameraModel, robot: Robot, position: NDArray[np.float64]) -> CameraModel:
    """`camera` in the base frame when the joints are at `position` (n,) rad; one that stands still as it is.

    Raises UserError for a link that the arm does not have.
    """
    if camera.link is None:
        return camera
    if camera.link == robot.tool_link:
        return camera.carried_at(*tool_pose(robot.model, position))
    names = robot.model.link_names
    if camera.link not in names:
        raise UserError(
            f"the camera '{camera.name}' is carried by the link '{camera.link}', which '{robot.name}' does not have; "
            f"it has {', '.join(names)} and {robot.tool_link}"
        )
    rotations, origins = link_poses(robot.model, position)
    at = names.index(camera.link)
    return camera.carried_at(origins[at], rotations[at])
