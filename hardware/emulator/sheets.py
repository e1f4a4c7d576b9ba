"""Printed sheets that the emulated cameras see: in the gripper, on the table, or held up to a camera by a person.

A request is JSON: `name`, `image` (a picture file in base64, or null: take the sheet away), `width` in m, `held_by`
("tool", "base" or "camera": whose frame `poses` are in) and `poses`, a list of 4 x 4 matrices that take turns every
`every` s. A sheet's frame: origin in its middle, x right, y up, z towards its reader.
"""

import base64
import binascii
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.drawing.sheet import Sheet
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

Array = NDArray[np.float64]

HOLDERS = ("tool", "base", "camera")
_KEYS = ("name", "image", "width", "held_by", "poses", "every")
_LARGEST = 4096
"""px of a sheet's picture each way."""


@dataclass(frozen=True, eq=False)
class HeldSheet:
    """A sheet and where it is: `poses` (k, 4, 4) in its holder's frame, `every` s the next one, from `since` on."""

    sheet: Sheet
    held_by: str
    poses: Array
    every: float
    since: float

    def in_base(self, now: float, tool: Array, camera: Array) -> Array:
        """(4, 4) at time `now`, s, with the tool and the camera at these poses (4, 4)."""
        number = int((now - self.since) / self.every) if math.isfinite(self.every) else 0
        pose = self.poses[number % len(self.poses)]
        return np.asarray({"tool": tool, "base": np.eye(4), "camera": camera}[self.held_by] @ pose)


class Sheets:
    """All sheets by name. `show` is called by those who ask, `placed` by who draws."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._lock = threading.Lock()
        self._held: dict[str, HeldSheet] = {}

    def show(self, request: Any, now: float) -> dict[str, Any]:
        """Do what a request says. Returns the names of what is shown. Raises UserError for one that cannot be."""
        name, held = parse_request(request, now)
        with self._lock:
            self._held.pop(name, None)
            if held is not None:
                self._held[name] = held
            return {"shown": sorted(self._held)}

    def placed(self, joints: Array, camera: CameraModel, now: float) -> list[tuple[Sheet, Array]]:
        """Sheets with their poses (4, 4) in the base frame, the farthest first: nearer ones are drawn over it."""
        with self._lock:
            held = list(self._held.values())
        if not held:
            return []
        tool = np.eye(4)
        tool[:3, 3], tool[:3, :3] = tool_pose(self._robot.model, joints)
        found = [(one.sheet, one.in_base(now, tool, camera.camera_to_base)) for one in held]
        return sorted(found, key=lambda pair: -float(np.linalg.norm(pair[1][:3, 3] - camera.position)))


def parse_request(request: Any, now: float) -> tuple[str, HeldSheet | None]:
    """The sheet's name and the sheet, None to take it away. Raises UserError."""
    if not isinstance(request, Mapping) or (unknown := set(request) - set(_KEYS)):
        what = f"the unknown {', '.join(sorted(unknown))}" if isinstance(request, Mapping) else repr(request)
        raise UserError(f"a sheet is an object with {', '.join(_KEYS)}; got {what}")
    name = str(request.get("name", "sheet"))
    if request.get("image") is None:
        return name, None
    try:
        data = base64.b64decode(request["image"], validate=True)
        texture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except (TypeError, ValueError, binascii.Error, cv2.error):
        texture = None
    if texture is None or max(texture.shape) > _LARGEST or min(texture.shape) < 2:
        raise UserError(f"a sheet's image is a PNG or JPEG of 2 to {_LARGEST} pixels each way, in base64")
    width, every = (_number(request, key, default) for key, default in (("width", None), ("every", math.inf)))
    held_by = request.get("held_by", "base")
    if held_by not in HOLDERS:
        raise UserError(f"a sheet is held_by one of {', '.join(HOLDERS)}, got {held_by!r}")
    try:
        poses = np.array(request.get("poses"), dtype=np.float64)
    except (TypeError, ValueError):
        poses = np.zeros(0)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses) or not np.isfinite(poses).all():
        raise UserError("a sheet's poses are a list of 4 x 4 matrices of finite numbers, at least one")
    turns = poses[:, :3, :3]
    if np.abs(turns.transpose(0, 2, 1) @ turns - np.eye(3)).max() > 1e-3 or (np.linalg.det(turns) < 0).any():
        raise UserError("the upper left 3 x 3 parts of a sheet's poses must be rotations")
    return name, HeldSheet(Sheet(np.asarray(texture), width), held_by, poses, every, now)


def _number(request: Mapping[str, Any], key: str, default: float | None) -> float:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"a sheet's {key} must be a positive number, got {value!r}")
    return float(value)
