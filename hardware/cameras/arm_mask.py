"""Where the arm is in a picture, by its joint angles: what may hide an object.

The arm is taken for the collision shapes of its URDF, each as the convex hull of its corners. Joints are not zeroed
exactly and shapes are not those that were built, so the mask is wider than the arm by `MARGIN`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.gate.shapes import collision_shapes
from sim2real.model.kinematics import link_poses, tool_pose
from sim2real.robot import Robot

Array = NDArray[np.float64]
Mask = NDArray[np.uint8]

MARGIN = 0.005
"""m by which the arm may be elsewhere than its joints say, and otherwise shaped."""
PIXELS = 1.5
"""px by which an edge of the arm in a picture, blurred and compressed, may be elsewhere."""


@dataclass(frozen=True)
class ArmOutlines:
    """The arm in one picture. Of each of its shapes: the convex outline (k, 2) px, how near to the camera it comes, m,
    and by how many px it may be elsewhere. `tool` (3,) m is where the tool frame is."""

    shapes: tuple[tuple[Array, float, float], ...]
    tool: Array

    def hidden(self, corner: tuple[int, int], shape: tuple[int, int], furthest: float) -> tuple[Mask, Mask]:
        """What of the arm may be in front of something `furthest` m away, in the window (h, w) that begins at `corner`
        px: where it is by its joints, and where it may be."""
        certain, possible = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for outline, nearest, margin in self.shapes:
            low, high = outline.min(axis=0) - margin - corner, outline.max(axis=0) + margin - corner
            if nearest > furthest or low[0] > shape[1] or low[1] > shape[0] or high.min() < 0:
                continue
            polygon = np.rint((outline - corner) * 16).astype(np.int32)
            cv2.fillConvexPoly(certain, polygon, 1, shift=4)
            cv2.fillConvexPoly(possible, polygon, 1, shift=4)
            cv2.polylines(possible, [polygon], True, 1, thickness=max(round(2 * margin), 1), shift=4)
        return certain, possible


class ArmMask:
    """Outlines of a robot's links in one camera's pictures."""

    def __init__(self, camera: CameraModel, robot: Robot) -> None:
        self.camera, self.robot = camera, robot
        shapes = collision_shapes(robot)
        self._corners = [shape.corners for shape in shapes]
        self._links = [shape.link for shape in shapes]
        self._ends = np.cumsum([len(corners) for corners in self._corners])
        self._focal = float(np.sqrt(camera.fx * camera.fy))

    def at(self, joints: Array) -> ArmOutlines:
        """The arm at `joints` (n,) rad."""
        rotations, origins = link_poses(self.robot.model, joints)
        tool, _ = tool_pose(self.robot.model, joints)
        placed = [
            corners if link < 0 else corners @ rotations[link].T + origins[link]
            for corners, link in zip(self._corners, self._links)
        ]
        if not placed:
            return ArmOutlines((), tool)
        points = np.concatenate(placed)
        pixels = self.camera.project(points).astype(np.float32)
        away = np.linalg.norm(points - self.camera.position, axis=1)
        found = []
        for flat, far in zip(np.split(pixels, self._ends[:-1]), np.split(away, self._ends[:-1])):
            if np.isfinite(flat).all():
                nearest = float(far.min())
                hull = np.asarray(cv2.convexHull(flat)[:, 0], dtype=np.float64)
                found.append((hull, nearest, PIXELS + self._focal * MARGIN / nearest))
        return ArmOutlines(tuple(found), tool)
