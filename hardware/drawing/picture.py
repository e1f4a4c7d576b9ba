"""What the emulated camera shows: the arm and the objects as they truly are, as a picture.

Needs no physics engine, only poses; so it runs in a process of its own beside the bus.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.drawing.lens import Lens
from hardware.drawing.raster import (
    Colour,
    Image,
    Light,
    Raster,
    TriangleMesh,
    box,
    cylinder,
    disc,
    rectangle,
    sphere,
    urdf_meshes,
)
from hardware.drawing.sheet import Sheet, paint
from sim2real.camera import CameraModel
from sim2real.carried import in_base
from sim2real.model.kinematics import link_poses
from sim2real.objects import ObjectSpec
from sim2real.primitives import Primitive
from sim2real.robot import Robot

Array = NDArray[np.float64]

TABLE = (0.80, 0.79, 0.76)
BACKGROUND = (0.90, 0.90, 0.90)
HAIR = np.array([0.0, 0.0, 4e-4])
"""What is painted lies this far above the table, m, or the two would flicker through each other."""
OBJECT = 3 + 9 + 1
"""Numbers of an object in a pose: place, rotation, its first measure."""


class Picture:
    """Draws the scene through one camera. `values` are the world's parameters (pose, light, exposure, …)."""

    def __init__(
        self,
        robot: Robot,
        camera: CameraModel,
        values: Mapping[str, float],
        objects: Sequence[ObjectSpec] = (),
    ) -> None:
        self.robot = robot
        self.objects = tuple(objects)
        self._looks: dict[tuple[str, float], tuple[Array, Array]] = {}
        self.camera = camera
        self._lens = Lens(camera)
        self._raster = Raster(self._lens.width, self._lens.height, 255 * values["camera.noise"])
        meshes = urdf_meshes(robot.urdf, robot.joint_names)
        self._fixed = _join(meshes.get(None, []))
        self._links = [_join(meshes.get(name, [])) for name in robot.model.link_joints]
        self._table = _join([rectangle((-0.4, 1.0), (-0.7, 0.7), TABLE, cells=16)])
        azimuth, elevation = values["light.azimuth"], values["light.elevation"]
        flat = np.cos(elevation)
        direction = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        self._light = Light(direction, values["light.ambient"], values["light.diffuse"])
        balance = values["camera.white_balance"]
        self._gains = 2.0 ** values["camera.exposure"] * np.array([1 + balance, 1.0, 1 - balance])

    def _look(self, spec: ObjectSpec, first: float) -> tuple[Array, Array]:
        """Triangles and colours of an object whose first measure is `first` m, made once."""
        key = (spec.name, first)
        if key not in self._looks:
            self._looks[key] = _join(_meshes(spec.scaled(first)))
        return self._looks[key]

    def draw(self, pose: Array, sheets: Sequence[tuple[Sheet, Array]] = ()) -> Image:
        """(height, width, 3) RGB for a pose: joint angles (n,), then OBJECT numbers for each object.

        NaN: an object is not there. Printed `sheets` are at (4, 4), base frame.
        """
        n = self.robot.n
        parts = self._arm(pose[:n])
        flat = [self._table]
        for spec, row in zip(self.objects, pose[n:].reshape(-1, OBJECT)):
            if not np.isfinite(row[0]):
                continue
            triangles, colours = self._look(spec, float(row[12]))
            placed = triangles @ row[3:12].reshape(3, 3).T + row[:3]
            if spec.moves:
                parts.append((placed, colours))
            else:
                flat.append((placed + HAIR, colours))
        camera = in_base(self.camera, self.robot, pose[:n])
        way, intrinsics = camera.base_to_camera, self._lens.intrinsics
        drawn = self._raster.draw(
            _stack(flat), _stack(parts), way, intrinsics, self._light, BACKGROUND, self._gains
        )
        for sheet, place in sheets:
            paint(drawn, self._raster, sheet, place, way, intrinsics, self._light, self._gains)
        return self._lens.bend(drawn)

    def silhouette(self, joints: Array) -> NDArray[np.bool_]:
        """(height, width): where the arm at `joints` (n,) rad is seen."""
        nothing = np.zeros((0, 3, 3)), np.zeros((0, 3))
        self._raster.draw(
            nothing, _stack(self._arm(joints)), self.camera.base_to_camera, self._lens.intrinsics,
            Light(np.zeros(3), 1.0, 0.0), BACKGROUND, self._gains,
        )  # fmt: skip
        seen = np.where(self._raster.depth > 0, 255, 0).astype(np.uint8)
        return np.asarray(self._lens.bend(seen) > 127)

    def _arm(self, joints: Array) -> list[tuple[Array, Array]]:
        rotations, origins = link_poses(self.robot.model, joints)
        parts = [self._fixed]
        for (triangles, colours), rotation, origin in zip(self._links, rotations, origins):
            parts.append((triangles @ rotation.T + origin, colours))
        return parts


def _meshes(spec: ObjectSpec) -> list[TriangleMesh]:
    """What an object is drawn with, in its frame."""
    if not spec.moves:
        return [disc(spec.measures[0], spec.rgb)]
    return [_placed(shape, spec.rgb) for shape in spec.shapes]


def _placed(shape: Primitive, colour: Colour) -> TriangleMesh:
    if shape.form == "box":
        mesh = box(shape.extent, colour)
    elif shape.form == "cylinder":
        mesh = cylinder(shape.size[0], shape.size[1], colour)
    else:
        mesh = sphere(shape.size[0], colour)
    c, s = np.cos(shape.yaw), np.sin(shape.yaw)
    turned = mesh.triangles @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return TriangleMesh(turned + np.array(shape.position), colour)


def _join(meshes: list[TriangleMesh]) -> tuple[Array, Array]:
    """Triangles (k, 3, 3) and colours (k, 3) of several meshes."""
    if not meshes:
        return np.zeros((0, 3, 3)), np.zeros((0, 3))
    triangles = np.concatenate([mesh.triangles for mesh in meshes])
    colours = np.concatenate([np.tile(mesh.colour, (len(mesh.triangles), 1)) for mesh in meshes])
    return triangles, colours


def _stack(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
