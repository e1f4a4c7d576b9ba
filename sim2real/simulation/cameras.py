"""The cameras of a world: where their descriptions say that they stand, and where they really do.

Without a cameras file the camera that looks for objects may stand anywhere around the table: the parameters
`camera.azimuth` to `camera.resolution` (`camera_placement.py`) say where, and its calibration knows. With one,
cameras stand where the file says. In either case they really stand a little elsewhere, by `camera.x` to
`camera.focal`, which nobody knows: the error of a calibration. What looks for objects goes by the description, what
is rendered by where a camera really is.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.camera_placement import DETECTOR_CAMERA, Placement, looking
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_span
from sim2real.robot import Robot
from sim2real.simulation.drift import Drift

Array = NDArray[np.float64]

DRIFT_STEP = 0.25
"""s between two places of a drifting camera."""
MOUNT = 4.0
"""A camera on the arm, which nobody calibrates, may be so many times as far from where it is described as others."""


class Cameras:
    """All cameras of a world. `reset` once per episode; `given` replaces those of the robot's own description."""

    def __init__(self, robot: Robot, given: Mapping[str, CameraModel] | None = None) -> None:
        own = robot.cameras or {DETECTOR_CAMERA: default_view(robot)}
        self._nominal = dict(own if given is None else given)
        known = robot.cameras if given is None else given
        self.detector = looking(name for name, camera in known.items() if camera.link is None)
        """The camera that looks for objects; None where nobody has described one."""
        anywhere = (
            self._nominal[DETECTOR_CAMERA] if given is None and self.detector == DETECTOR_CAMERA else None
        )
        self._usual = None if anywhere is None else Placement.of(anywhere)
        self._values: Mapping[str, float] = {}
        self._described: dict[str, CameraModel] = {}
        self._real: dict[str, CameraModel] = {}
        self.drift = Drift(np.zeros(3), np.zeros(3))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._nominal)

    def reset(self, values: Mapping[str, float], seed: int) -> None:
        """Take the parameters of an episode."""
        self._values = values
        self._described.clear()
        self._real.clear()
        self.drift = Drift.drawn(values, seed)

    def described(self, name: str) -> CameraModel:
        """The camera as its calibration has it in this episode. Raises UserError for an unknown name."""
        if name not in self._described:
            if name not in self._nominal:
                raise UserError(f"there is no camera '{name}'; known are {', '.join(self._nominal)}")
            camera = self._nominal[name]
            if name == DETECTOR_CAMERA and self._usual is not None:
                placement = Placement.from_values(self._values)
                # As it is described, to the last digit, where nothing was drawn.
                camera = camera if placement == self._usual else placement.camera(camera)
            self._described[name] = camera
        return self._described[name]

    def real(self, name: str, time: float = 0.0) -> CameraModel:
        """The camera as it really stands `time` s into this episode. Raises UserError for an unknown name."""
        if name not in self._real:
            self._real[name] = perturbed(self.described(name), self._values)
        moment = self.moments(time)
        return self.drift.after(self._real[name], moment * DRIFT_STEP) if moment else self._real[name]

    def moments(self, time: float) -> int:
        """How often the cameras have moved by `time`: in small steps, because each needs the table drawn anew."""
        return int(time / DRIFT_STEP + 1e-9) if self.drift else 0


def perturbed(camera: CameraModel, values: Mapping[str, float]) -> CameraModel:
    """The camera as it really stands: the nominal one displaced by the `camera.*` parameters."""
    turn, times = np.eye(3), MOUNT if camera.link is not None else 1.0
    for axis, name in enumerate(("camera.pitch", "camera.yaw", "camera.roll")):
        turn = turn @ _rotation(axis, times * values[name])
    pose = camera.camera_to_base.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    pose[:3, 3] += times * np.array([values["camera.x"], values["camera.y"], values["camera.z"]])
    distortion = camera.distortion.copy()
    distortion[0] += values["camera.distortion"]
    focal = values["camera.focal"]
    return replace(
        camera, fx=camera.fx * focal, fy=camera.fy * focal, distortion=distortion, camera_to_base=pose
    )


def default_view(robot: Robot) -> CameraModel:
    """A camera that has the whole arm in view, from the left in front, as far away as the arm is large."""
    size = tool_span(robot.model)
    return CameraModel.looking_at(
        (1.6 * size, 0.9 * size, 1.1 * size), (0.35 * size, 0.0, 0.3 * size), name=DETECTOR_CAMERA
    )


def _rotation(axis: int, angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix
