"""Where a camera stands and how it maps points to pixels.

The camera's axes are OpenCV's: x right, y down, z forward. Pixel (0, 0) is the centre of the top left pixel,
so the image covers −0.5 … width − 0.5. Distortion is the Brown–Conrady model with OpenCV's five coefficients
(k1, k2, p1, p2, k3). Lengths are metres, in the robot's base frame, whose z = 0 is the table.

A cameras file is TOML with a table per camera:

    [front]
    source = "http://192.168.1.20:8080/front.mjpg"   # optional; whatever cv2.VideoCapture opens
    width = 640
    height = 480
    fx = 600.0
    fy = 600.0
    cx = 319.5
    cy = 239.5
    distortion = [0.0, 0.0, 0.0, 0.0, 0.0]
    camera_to_base = [[…], […], […], [0, 0, 0, 1]]
    position_deviation = 0.0012    # optional: how well its place is known, standard deviation in m
    rotation_deviation = 0.0020    # and its direction, rad

A camera that is carried has `link = "gripper"`, the link's name, and `camera_to_link` instead of `camera_to_base`.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

_NUMBERS = ("fx", "fy", "cx", "cy")
_REQUIRED = ("width", "height", *_NUMBERS, "camera_to_base")
_DEVIATIONS = ("position_deviation", "rotation_deviation")
_OPTIONAL = ("distortion", "source", "link", *_DEVIATIONS)
_CARRIED = "camera_to_link"
"""Instead of `camera_to_base` where there is a `link`."""
_ORTHONORMAL = 1e-3
"""Largest deviation of RᵀR from the identity: lets through a matrix written with four decimals."""

_EXACT = 1e-14
"""Such a deviation is rounding: the matrix stays as it is, so that writing and reading a camera changes nothing."""


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera. `camera_to_base` (4, 4) takes points from the camera's frame to the base frame.

    `fx, fy, cx, cy` are in pixels. A camera with a `link` is carried by it, and `camera_to_base` is its pose in that
    link's frame (`carried_at` says where it is then). Raises UserError for values that cannot be.
    """

    CENTRE_WITHIN: ClassVar[float] = 1.0
    """How far outside the picture the optical axis may pass, of the picture's size."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    camera_to_base: Array
    distortion: Array = (0.0, 0.0, 0.0, 0.0, 0.0)  # type: ignore[assignment]
    source: str | None = None
    name: str = "camera"
    link: str | None = None
    position_deviation: float | None = None
    rotation_deviation: float | None = None

    def __post_init__(self) -> None:
        for field in ("width", "height"):
            value = getattr(self, field)
            if isinstance(value, bool) or int(value) != value or not 0 < value <= 16384:
                raise self._error(f"{field} must be a whole number of pixels in 1..16384, got {value!r}")
            object.__setattr__(self, field, int(value))
        for field in _NUMBERS:
            value = float(getattr(self, field))
            if not math.isfinite(value):
                raise self._error(f"{field} must be a finite number of pixels, got {value}")
            if field in ("fx", "fy") and value <= 0:
                raise self._error(f"{field} must be positive (pixels), got {value}")
            object.__setattr__(self, field, value)
        for field, size in (("cx", self.width), ("cy", self.height)):
            value = getattr(self, field)
            if not -self.CENTRE_WITHIN <= value / size <= 1 + self.CENTRE_WITHIN:
                raise self._error(f"{field} = {value} lies far outside the image of {size} pixels")
        for field in _DEVIATIONS:
            value = getattr(self, field)
            if value is not None and not 0.0 <= value <= 0.5:
                raise self._error(
                    f"{field} must be a standard deviation within 0 … 0.5 (m, rad), got {value}"
                )
        object.__setattr__(self, "distortion", self._numbers("distortion", (5,)))
        pose = self._numbers("camera_to_base", (4, 4))
        rotation = pose[:3, :3]
        if not np.allclose(pose[3], (0.0, 0.0, 0.0, 1.0), atol=1e-9):
            raise self._error(f"the last row of camera_to_base must be 0 0 0 1, got {pose[3].tolist()}")
        deviation = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
        if deviation > _ORTHONORMAL or np.linalg.det(rotation) < 0:
            raise self._error(
                "the upper left 3 x 3 part of camera_to_base must be a rotation (orthonormal columns, "
                f"determinant +1): its product with its transpose deviates by {deviation:.2g} from the "
                f"identity and its determinant is {np.linalg.det(rotation):.3f}; allowed is "
                f"{_ORTHONORMAL:g}; lengths are metres, axes right, down, forward"
            )
        exact = pose.copy()
        if deviation > _EXACT:
            # Decimals in a file leave a rotation slightly skewed: take the nearest exact one.
            u, _, vt = np.linalg.svd(rotation)
            exact[:3, :3] = u @ vt
        exact.setflags(write=False)
        object.__setattr__(self, "camera_to_base", exact)

    def _error(self, text: str) -> UserError:
        return UserError(f"camera '{self.name}': {text}")

    def _numbers(self, field: str, shape: tuple[int, ...]) -> Array:
        try:
            values = np.array(getattr(self, field), dtype=np.float64)
        except (TypeError, ValueError):
            raise self._error(f"{field} must hold numbers only") from None
        if values.shape != shape:
            expected = " x ".join(map(str, shape))
            raise self._error(f"{field} needs {expected} numbers, got the shape {values.shape}")
        if not np.isfinite(values).all():
            raise self._error(f"{field} must be finite, got {values.tolist()}")
        values.setflags(write=False)
        return values

    # Making one

    @classmethod
    def from_table(cls, table: Mapping[str, Any], name: str = "camera") -> "CameraModel":
        """From a table as in a cameras file. Raises UserError naming the camera and what is wrong."""
        if not isinstance(table, Mapping):
            raise UserError(f"camera '{name}': expected a table with {', '.join(_REQUIRED)}, got {table!r}")
        if "link" in table and _CARRIED in table and "camera_to_base" not in table:
            rest = {key: value for key, value in table.items() if key != _CARRIED}
            table = {**rest, "camera_to_base": table[_CARRIED]}
        missing = [key for key in _REQUIRED if key not in table]
        if missing:
            raise UserError(
                f"camera '{name}' lacks {', '.join(missing)}; a camera needs {', '.join(_REQUIRED)} "
                f"and may have {', '.join(_OPTIONAL)}"
            )
        unknown = [key for key in table if key not in _REQUIRED + _OPTIONAL]
        if unknown:
            raise UserError(
                f"camera '{name}' has the unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
                f"known are {', '.join(_REQUIRED + _OPTIONAL)}"
            )
        values = dict(table)
        for key in ("width", "height", *_NUMBERS, *(key for key in _DEVIATIONS if key in values)):
            if isinstance(values[key], bool) or not isinstance(values[key], int | float):
                raise UserError(f"camera '{name}': {key} must be a number, got {values[key]!r}")
        for key in ("source", "link"):
            if values.get(key) is not None:
                values[key] = str(values[key])
        return cls(**values, name=name)

    def table(self) -> dict[str, Any]:
        """The camera as plain values, as in a cameras file."""
        table: dict[str, Any] = {} if self.source is None else {"source": self.source}
        table |= {key: getattr(self, key) for key in ("width", "height", *_NUMBERS)}
        table["distortion"] = self.distortion.tolist()
        if self.link is not None:
            table["link"] = self.link
        table["camera_to_base" if self.link is None else _CARRIED] = self.camera_to_base.tolist()
        known = {key: getattr(self, key) for key in _DEVIATIONS}
        return table | {key: value for key, value in known.items() if value is not None}

    @classmethod
    def looking_at(
        cls,
        position: ArrayLike,
        target: ArrayLike,
        *,
        width: int = 640,
        height: int = 480,
        fov: float = math.radians(50),
        name: str = "camera",
    ) -> "CameraModel":
        """An upright, undistorted camera at `position` (3,), m, that has `target` (3,) in its centre.

        `fov` is the vertical field of view, rad.
        """
        focal = height / 2 / math.tan(fov / 2)
        return cls(
            width=width,
            height=height,
            fx=focal,
            fy=focal,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
            camera_to_base=look_at(position, target),
            name=name,
        )

    # Geometry

    @property
    def matrix(self) -> Array:
        """The 3 × 3 matrix of the intrinsics."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def position(self) -> Array:
        """The optical centre in the base frame, (3,) m."""
        return self.camera_to_base[:3, 3]

    @property
    def rotation(self) -> Array:
        """(3, 3): camera axes in the base frame."""
        return self.camera_to_base[:3, :3]

    @cached_property
    def base_to_camera(self) -> Array:
        """(4, 4), the inverse of `camera_to_base`."""
        inverse = np.eye(4)
        inverse[:3, :3] = self.rotation.T
        inverse[:3, 3] = -self.rotation.T @ self.position
        return inverse

    def project(self, points: ArrayLike) -> Array:
        """Points (..., 3), m, base frame → pixels (..., 2). NaN for points that are not in front of it."""
        points = np.asarray(points, dtype=np.float64)
        return self.project_local(points @ self.base_to_camera[:3, :3].T + self.base_to_camera[:3, 3])

    def project_local(self, points: ArrayLike) -> Array:
        """Points (..., 3), m, in the camera's own frame → pixels (..., 2). NaN for points not in front of it."""
        local = np.asarray(points, dtype=np.float64)
        depth = np.where(local[..., 2] > 1e-6, local[..., 2], np.nan)
        ideal = local[..., :2] / depth[..., None]
        return self._distort(ideal)[0] * (self.fx, self.fy) + (self.cx, self.cy)

    def pixel_rays(self, pixels: ArrayLike) -> Array:
        """Pixels (..., 2) → unit directions (..., 3) in the base frame, from `position` outward."""
        pixels = np.asarray(pixels, dtype=np.float64)
        ideal = self._undistort((pixels - (self.cx, self.cy)) / (self.fx, self.fy))
        local = np.concatenate([ideal, np.ones_like(ideal[..., :1])], axis=-1)
        local /= np.linalg.norm(local, axis=-1, keepdims=True)
        return local @ self.rotation.T

    def on_plane(self, pixels: ArrayLike, height: float = 0.0) -> Array:
        """Pixels (..., 2) → where their rays meet the plane z = `height`, (..., 3) m, base frame.

        NaN where a ray never meets it (the horizon and above).
        """
        return self.meet_plane(self.pixel_rays(pixels), height)

    def meet_plane(self, directions: ArrayLike, height: float = 0.0) -> Array:
        """Rays from the camera with `directions` (..., 3) → where they meet z = `height`, (..., 3) or NaN."""
        directions = np.asarray(directions, dtype=np.float64)
        drop = directions[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (height - self.position[2]) / drop
        distance = np.where(np.isfinite(distance) & (distance > 0), distance, np.nan)
        return self.position + distance[..., None] * directions

    def seen_on_plane(self, points: ArrayLike, height: float) -> Array:
        """Where a camera that takes everything for lying on z = `height` sees `points` (..., 3): (..., 3) m.

        A point above the plane appears further away than it is.
        """
        return self.meet_plane(np.asarray(points, dtype=np.float64) - self.position, height)

    def contains(self, pixels: ArrayLike) -> NDArray[np.bool_]:
        """Whether pixels (..., 2) lie inside the image. False for NaN."""
        pixels = np.asarray(pixels, dtype=np.float64)
        inside = (pixels >= -0.5) & (pixels < (self.width - 0.5, self.height - 0.5))
        return np.asarray(inside.all(axis=-1))

    def carried_at(self, position: ArrayLike, rotation: ArrayLike) -> "CameraModel":
        """Where a camera that is carried stands when its link's frame is at `position` (3,) with `rotation` (3, 3)."""
        pose = np.eye(4)
        pose[:3, :3] = np.asarray(rotation) @ self.rotation
        pose[:3, 3] = np.asarray(position) + np.asarray(rotation) @ self.position
        return replace(self, camera_to_base=pose, link=None)

    def resized(self, width: int, height: int) -> "CameraModel":
        """This camera when it delivers another image size of the same field of view.

        Raises UserError when the proportions differ: then the driver has cropped and nothing can be said.
        """
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        if abs(sx / sy - 1) > 0.01:
            raise self._error(
                f"the image is {width} x {height}, its calibration is for {self.width} x {self.height}; "
                "the proportions differ, so the driver crops; set the camera to the calibrated size"
            )
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def _distort(self, ideal: Array) -> tuple[Array, Array]:
        """Ideal image coordinates (..., 2) → distorted ones (..., 2), and the Jacobian (..., 2, 2)."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = ideal[..., 0], ideal[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))  # d radial / dx = slope · x
        distorted = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )
        jacobian = np.empty((*x.shape, 2, 2))
        jacobian[..., 0, 0] = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
        jacobian[..., 0, 1] = jacobian[..., 1, 0] = x * y * slope + 2 * p1 * x + 2 * p2 * y
        jacobian[..., 1, 1] = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
        return distorted, jacobian

    def _undistort(self, distorted: Array) -> Array:
        """The inverse of `_distort`, by Newton's method: quadratic where OpenCV's fixed point is linear."""
        ideal = distorted.copy()
        if not self.distortion.any():
            return ideal
        for _ in range(20):
            value, jacobian = self._distort(ideal)
            step = np.linalg.solve(jacobian, (distorted - value)[..., None])[..., 0]
            ideal = ideal + np.clip(step, -0.5, 0.5)
            if np.abs(step).max(initial=0.0) < 1e-12:
                break
        return ideal


def look_at(position: ArrayLike, target: ArrayLike) -> Array:
    """`camera_to_base` (4, 4) of an upright camera at `position` (3,) that looks at `target` (3,), m.

    Straight down, the image's upper edge points along the base's +x. Raises ValueError when both coincide.
    """
    eye = np.asarray(position, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - eye
    length = float(np.linalg.norm(forward))
    if length < 1e-9:
        raise ValueError("a camera cannot look at the point it stands at")
    forward /= length
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.9999 else np.array([1.0, 0.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def load_cameras(path: str | Path) -> dict[str, CameraModel]:
    """Read a cameras file. Raises UserError for a missing or invalid one."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no cameras file at {path}; it is TOML, a table per camera with {', '.join(_REQUIRED)}"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"cannot read the cameras file {path}: {error}") from None
    if not tables:
        raise UserError(f"{path} holds no camera; it needs a table per camera, [front] for instance")
    try:
        return {name: CameraModel.from_table(table, name) for name, table in tables.items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def save_cameras(cameras: Mapping[str, CameraModel], path: str | Path) -> None:
    """Write a cameras file."""
    import tomli_w

    text = tomli_w.dumps({name: camera.table() for name, camera in cameras.items()})
    Path(path).write_text(text, encoding="utf-8")
