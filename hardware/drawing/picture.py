"""What the emulated camera shows: the arm, the cube and the mark as they truly are, as a picture.

Needs no physics engine, only poses; so it runs in a process of its own beside the bus.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hardware.drawing.raster import Image, Light, Mesh, Raster, box, disc, rectangle, urdf_meshes
from sim2real.camera import CameraModel
from sim2real.model.kinematics import link_poses
from sim2real.robot import Robot

Array = NDArray[np.float64]

TABLE = (0.80, 0.79, 0.76)
CUBE = (0.85, 0.08, 0.08)
MARK = (0.10, 0.62, 0.22)
BACKGROUND = (0.90, 0.90, 0.90)


class Picture:
    """Draws the scene through one camera. `values` are the world's parameters (pose, light, exposure, …)."""

    def __init__(self, robot: Robot, camera: CameraModel, values: Mapping[str, float]) -> None:
        self.robot = robot
        self.camera = camera
        self._raster = Raster(camera.width, camera.height, 255 * values["camera.noise"])
        meshes = urdf_meshes(robot.urdf, robot.joint_names)
        self._fixed = _join(meshes.get(None, []))
        self._links = [_join(meshes.get(name, [])) for name in robot.model.link_joints]
        self._table = _join([rectangle((-0.4, 1.0), (-0.7, 0.7), TABLE, cells=16)])
        self._mark = disc(0.03, MARK)
        azimuth, elevation = values["light.azimuth"], values["light.elevation"]
        flat = np.cos(elevation)
        direction = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        self._light = Light(direction, values["light.ambient"], values["light.diffuse"])
        balance = values["camera.white_balance"]
        self._gains = 2.0 ** values["camera.exposure"] * np.array([1 + balance, 1.0, 1 - balance])

    def draw(self, pose: Array) -> Image:
        """(height, width, 3) RGB for a pose as `WorldPlant.pose` gives it."""
        n = self.robot.n
        rotations, origins = link_poses(self.robot.model, pose[:n])
        parts = [self._fixed]
        for (triangles, colours), rotation, origin in zip(self._links, rotations, origins):
            parts.append((triangles @ rotation.T + origin, colours))
        if np.isfinite(pose[n]):
            side = pose[n + 12]
            cube = box((side, side, side), CUBE)
            rotation = pose[n + 3 : n + 12].reshape(3, 3)
            parts.append(_join([Mesh(cube.triangles @ rotation.T + pose[n : n + 3], CUBE)]))
        flat = [self._table]
        if np.isfinite(pose[n + 13]):
            # A hair above the table, or the two would flicker through each other.
            place = np.array([pose[n + 13], pose[n + 14], 4e-4])
            flat.append(_join([Mesh(self._mark.triangles + place, MARK)]))
        camera = self.camera
        return self._raster.draw(
            _stack(flat),
            _stack(parts),
            camera.base_to_camera,
            (camera.fx, camera.fy, camera.cx, camera.cy),
            self._light,
            BACKGROUND,
            self._gains,
        )


def _join(meshes: list[Mesh]) -> tuple[Array, Array]:
    """Triangles (k, 3, 3) and colours (k, 3) of several meshes."""
    if not meshes:
        return np.zeros((0, 3, 3)), np.zeros((0, 3))
    triangles = np.concatenate([mesh.triangles for mesh in meshes])
    colours = np.concatenate([np.tile(mesh.colour, (len(mesh.triangles), 1)) for mesh in meshes])
    return triangles, colours


def _stack(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
