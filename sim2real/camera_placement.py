"""Where a camera stands around the workspace, in words a person would use, and whether it sees what it must.

A placement is an upright pinhole camera: how far, from which side and from how high it looks at a point of the
table, how wide its lens is and how many rows its picture has. `Placement.camera` never comes so near that a part of
the workspace falls out of the picture.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel, look_at
from sim2real.errors import UserError

Array = NDArray[np.float64]

DETECTOR_CAMERA = "front"
"""The camera that looks for the objects, where there are several."""

MARGIN = 1.04
"""The workspace fills no more than this share of the picture, inverted: cameras stand a little askew."""


def _workspace() -> Array:
    """(k, 3) m: points around everything that the built-in tasks put on the table and lift."""
    radius, angle = np.meshgrid([0.155, 0.285], np.linspace(-0.75, 0.75, 7))
    ring = np.stack([0.04 + radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
    return np.concatenate([np.insert(ring, 2, z, axis=1) for z in (0.0, 0.06)])


WORKSPACE = _workspace()


@dataclass(frozen=True)
class Placement:
    """`azimuth` rad from the base's x axis, `elevation` rad over the table, `distance` m: where the camera is, seen
    from the point (`aim_x`, `aim_y`, 0) m at which it looks. `tilt` rad about its own axis; `fov` rad, vertical;
    `resolution`: rows of its picture."""

    azimuth: float
    elevation: float
    distance: float
    aim_x: float
    aim_y: float
    tilt: float
    fov: float
    resolution: float

    @classmethod
    def of(cls, camera: CameraModel) -> "Placement | None":
        """Where `camera` stands; None for one whose middle does not look at the table."""
        aim = camera.meet_plane(camera.rotation[:, 2])
        if not np.isfinite(aim).all() or camera.position[2] <= 0.0:
            return None
        away = camera.position - aim
        distance = float(np.linalg.norm(away))
        upright = look_at(camera.position, aim)[:3, :3].T @ camera.rotation
        return cls(
            azimuth=math.atan2(away[1], away[0]),
            elevation=math.asin(min(away[2] / distance, 1.0)),
            distance=distance,
            aim_x=float(aim[0]),
            aim_y=float(aim[1]),
            tilt=math.atan2(upright[1, 0], upright[0, 0]),
            fov=2 * math.atan(camera.height / 2 / camera.fy),
            resolution=camera.height,
        )

    @classmethod
    def from_values(cls, values: Mapping[str, float]) -> "Placement":
        """From the parameters `camera.azimuth` and so on."""
        return cls(**{field.name: values[f"camera.{field.name}"] for field in fields(cls)})

    def values(self) -> dict[str, float]:
        """The parameters `camera.azimuth` and so on."""
        return {f"camera.{field.name}": getattr(self, field.name) for field in fields(self)}

    def camera(self, like: CameraModel) -> CameraModel:
        """The camera that stands so, with the proportions and the name of `like`."""
        # Even, as videos must be.
        height = 2 * round(self.resolution / 2)
        width = 2 * round(height * like.width / like.height / 2)
        focal = height / 2 / math.tan(self.fov / 2)
        level = math.cos(self.elevation)
        toward = np.array(
            [
                level * math.cos(self.azimuth),
                level * math.sin(self.azimuth),
                math.sin(self.elevation),
            ]
        )
        aim = np.array([self.aim_x, self.aim_y, 0.0])
        pose = look_at(aim + toward, aim)
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        pose[:3, :3] = pose[:3, :3] @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        # From `distance` m a point of the workspace is at (x, y) across and distance + z along the camera's axis.
        x, y, z = ((WORKSPACE - aim) @ pose[:3, :3]).T
        across = np.maximum(np.abs(x) * focal / (width / 2), np.abs(y) * focal / (height / 2))
        distance = max(self.distance, float(np.max(MARGIN * across - z)))
        pose[:3, 3] = aim + distance * toward
        return replace(
            like,
            width=width,
            height=height,
            fx=focal,
            fy=focal,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
            distortion=np.zeros(5),
            camera_to_base=pose,
        )


def looking(names: Iterable[str]) -> str | None:
    """The camera among these that looks for objects: the one called "front", or else the first."""
    known = list(names)
    return DETECTOR_CAMERA if DETECTOR_CAMERA in known else next(iter(known), None)


def share_seen(camera: CameraModel) -> float:
    """How much of the workspace's outline is in the picture, 0…1."""
    return float(camera.contains(camera.project(WORKSPACE)).mean())


def check_sight(camera: CameraModel, where: str) -> None:
    """Raise UserError when by its description the camera sees nothing of the workspace."""
    if Placement.of(camera) is not None and share_seen(camera) > 0.0:
        return
    x, y, z = camera.position
    raise UserError(
        f"camera '{camera.name}' of {where} does not see the table in front of the arm: by its camera_to_base it "
        f"stands at ({x:.2f}, {y:.2f}, {z:.2f}) m and looks along {np.round(camera.rotation[:, 2], 2).tolist()}; the "
        "matrix must take points from the camera (axes right, down, forward) to the robot's base, whose z = 0 is the "
        "table"
    )
