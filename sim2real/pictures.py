"""Pictures as policies see them: small, and cut out of what a camera delivers in a way that a policy file declares.

| view | what is in it |
|---|---|
| `table` | the table from straight above: every pixel is a place in the base frame, wherever the camera stands |
| `frame` | the camera's whole picture, cut in its middle to the proportions that are asked for, and made smaller |

For `table` the camera's pose must be known. Two pictures that were taken from one place differ by a projective map, so
this view is what another camera at that place would see that looks straight down: simulation draws that one
(`PictureInput.camera_for`), and on an arm the real picture is sampled where its pixels belong (`PictureTaker`).
What stands on the table leans away from the camera in it, as in any picture.

In an observation such a picture is the entry `image.<camera>`: (height, width, 3) uint8 RGB. Where a camera stands that
sees the table from above is the entry `camera.<camera>`: (3,) m, base frame. It says which way things lean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.errors import UserError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

View = Literal["table", "frame"]
VIEWS: tuple[View, ...] = ("table", "frame")

PREFIX = "image."
"""Of the observation's entries that are pictures."""

AREA = (0.06, 0.34, -0.22, 0.22)
"""x from, x to, y from, y to, m: the part of the table that the view from above shows by default."""
TABLE_SIZE, FRAME_SIZE = (64, 96), (72, 96)
"""Height and width by default, pixels: 4.5 mm of the table each, and a camera's usual proportions."""
SMALLEST, LARGEST = 16, 512
LOWEST = 0.05
"""m over the table from where it can be seen from above at all."""

PLACE = "camera."
"""Of the observation's entries that say where a camera stands."""

_DOWN: Array = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Axes of a camera that looks straight down, the base's +x at its upper edge."""

_SAMPLES = 3
"""Samples per side of a pixel of the view from above."""


def entry(camera: str) -> str:
    """The observation's entry with a camera's picture."""
    return PREFIX + camera


class _Virtual(CameraModel):
    """A camera that nobody built: its optical axis may lie far outside its picture."""

    CENTRE_WITHIN = float("inf")


@dataclass(frozen=True)
class PictureInput:
    """One picture that a policy sees: of which camera, how large (pixels), and what is in it.

    `area` (x from, x to, y from, y to), m, is what the view `table` shows; the view `frame` has none. Raises
    UserError for what cannot be.
    """

    camera: str
    height: int
    width: int
    view: View = "table"
    area: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UserError(
                f"a picture's view is {' or '.join(VIEWS)}, got {self.view!r} for the camera '{self.camera}'"
            )
        for size in (self.height, self.width):
            if isinstance(size, bool) or not isinstance(size, int) or not SMALLEST <= size <= LARGEST:
                raise UserError(
                    f"a policy's picture has {SMALLEST} to {LARGEST} pixels each way, got {self.width} x "
                    f"{self.height} for the camera '{self.camera}'"
                )
        if self.view == "frame":
            object.__setattr__(self, "area", None)
            return
        area = tuple(float(value) for value in (AREA if self.area is None else self.area))
        if len(area) != 4 or not (np.isfinite(area).all() and area[0] < area[1] and area[2] < area[3]):
            raise UserError(f"the area of a table is x from, x to, y from, y to in m, got {area}")
        object.__setattr__(self, "area", area)

    @property
    def entry(self) -> str:
        return entry(self.camera)

    @property
    def place(self) -> str | None:
        """The observation's entry that says where the camera stands, for views in which that matters."""
        return PLACE + self.camera if self.view == "table" else None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    def table(self) -> dict[str, Any]:
        """As plain values, for a policy file."""
        return asdict(self)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "PictureInput":
        """From what `table` gave. Raises TypeError or UserError for anything else."""
        area = table.get("area")
        return cls(**{**table, "area": None if area is None else tuple(area)})

    def check(self, camera: CameraModel) -> None:
        """Raise UserError unless this picture can be made of what `camera` delivers."""
        if self.view == "table":
            if camera.link is not None:
                raise UserError(
                    f"the policy sees the table from above through the camera '{self.camera}', and this one is carried "
                    f"by '{camera.link}': give a camera that stands still"
                )
            if camera.position[2] < LOWEST:
                raise UserError(
                    f"the camera '{self.camera}' stands {camera.position[2]:.2f} m over the table by its "
                    f"camera_to_base; to show the table from above it must be at least {LOWEST} m over it: "
                    "calibrate it (`sim2real calibrate-camera`)"
                )
        elif camera.height < self.height / 2 or camera.width < self.width / 2:
            raise UserError(
                f"the camera '{self.camera}' delivers {camera.width} x {camera.height} pixels, the policy sees "
                f"{self.width} x {self.height}: set it to a larger picture"
            )

    def camera_for(self, camera: CameraModel, believed: CameraModel | None = None) -> CameraModel:
        """The camera whose picture is this one, when `camera` is where the real one is.

        `believed`, for the view from above: where those who cut the picture think that it is.
        """
        if self.view == "frame":
            x, y, width, height = self._crop(camera.width, camera.height)
            sx, sy = self.width / width, self.height / height
            return replace(
                camera,
                width=self.width,
                height=self.height,
                fx=camera.fx * sx,
                fy=camera.fy * sy,
                cx=(camera.cx - x + 0.5) * sx - 0.5,
                cy=(camera.cy - y + 0.5) * sy - 0.5,
            )
        believed = believed or camera
        assert self.area is not None
        x_low, x_high, y_low, y_high = self.area
        pose = np.eye(4)
        # What they think that they turned, turned by how far they are mistaken.
        pose[:3, :3] = camera.rotation @ believed.rotation.T @ _DOWN
        pose[:3, 3] = camera.position
        x, y, z = believed.position
        rows, columns = self.height / (x_high - x_low), self.width / (y_high - y_low)
        return _Virtual(
            width=self.width,
            height=self.height,
            fx=z * columns,
            fy=z * rows,
            cx=(y_high - y) * columns - 0.5,
            cy=(x_high - x) * rows - 0.5,
            camera_to_base=pose,
            name=camera.name,
        )

    def _crop(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of the largest part in the middle with this picture's proportions."""
        wide = min(width, round(height * self.width / self.height))
        high = min(height, round(width * self.height / self.width))
        return (width - wide) // 2, (height - high) // 2, wide, high

    def places(self) -> Array:
        """(height, width, 2) x, y, m: where on the table the pixels of the view from above lie."""
        assert self.area is not None
        return self._places(1)

    def _places(self, samples: int) -> Array:
        assert self.area is not None
        x_low, x_high, y_low, y_high = self.area
        rows = (np.arange(samples * self.height) + 0.5) / (samples * self.height)
        columns = (np.arange(samples * self.width) + 0.5) / (samples * self.width)
        x, y = x_high - rows * (x_high - x_low), y_high - columns * (y_high - y_low)
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)


def places_of(wanted: Sequence[PictureInput], cameras: Mapping[str, CameraModel]) -> dict[str, Array]:
    """The entries of an observation that say where cameras stand, by their descriptions."""
    return {
        picture.place: np.array(cameras[picture.camera].position)
        for picture in wanted
        if picture.place is not None
    }


class PictureTaker:
    """Cuts a policy's picture out of what one camera delivers. Raises UserError when that cannot be done."""

    def __init__(self, wanted: PictureInput, camera: CameraModel) -> None:
        wanted.check(camera)
        self.wanted, self.camera = wanted, camera
        if wanted.view == "table":
            self._sampled()
        else:
            x, y, width, height = wanted._crop(camera.width, camera.height)
            self._rows = y + _edges(height, wanted.height)
            self._columns = x + _edges(width, wanted.width)

    def _sampled(self) -> None:
        """Where in the picture the samples of each pixel are; outside of it they are black."""
        wanted, camera = self.wanted, self.camera
        places = wanted._places(_SAMPLES)
        points = np.concatenate([places, np.zeros_like(places[..., :1])], axis=-1)
        pixels = camera.project(points)
        inside = camera.contains(pixels)
        nearest = np.rint(np.where(inside[..., None], pixels, 0.0)).astype(np.intp)
        index = nearest[..., 1] * camera.width + nearest[..., 0]
        index[~inside] = camera.width * camera.height  # a black pixel behind the last one
        split = index.reshape(wanted.height, _SAMPLES, wanted.width, _SAMPLES)
        self._index = np.ascontiguousarray(split.transpose(1, 3, 0, 2)).reshape(_SAMPLES**2, -1)

    def __call__(self, picture: Image) -> Image:
        """(height, width, 3) uint8 as the policy sees it, of the camera's own (H, W, 3) uint8 RGB."""
        expected = (self.camera.height, self.camera.width, 3)
        if picture.shape != expected or picture.dtype != np.uint8:
            raise UserError(
                f"the camera '{self.wanted.camera}' gave a picture of {picture.shape} {picture.dtype}, "
                f"its description says {expected} uint8"
            )
        if self.wanted.view == "table":
            flat = np.concatenate([picture.reshape(-1, 3), np.zeros((1, 3), np.uint8)])
            total = np.zeros((self._index.shape[1], 3), np.uint16)
            for sample in self._index:
                total += flat[sample]
            return ((total + _SAMPLES**2 // 2) // _SAMPLES**2).astype(np.uint8).reshape(self.wanted.shape)
        part = picture[self._rows[0] : self._rows[-1], self._columns[0] : self._columns[-1]]
        if (np.diff(self._rows) < 1).any() or (np.diff(self._columns) < 1).any():
            # Fewer pixels than are wanted: the nearest.
            return np.ascontiguousarray(picture[self._rows[:-1]][:, self._columns[:-1]])
        sums = np.add.reduceat(part.astype(np.float32), self._rows[:-1] - self._rows[0], axis=0)
        sums = np.add.reduceat(sums, self._columns[:-1] - self._columns[0], axis=1)
        counts = np.diff(self._rows)[:, None, None] * np.diff(self._columns)[None, :, None]
        return np.asarray(np.rint(sums / counts), dtype=np.uint8)


def _edges(size: int, count: int) -> NDArray[np.intp]:
    """Where `count` parts of `size` pixels begin and the last one ends, (count + 1,)."""
    return np.rint(np.linspace(0, size, count + 1)).astype(np.intp)


def find_cameras(wanted: Sequence[PictureInput], cameras: Mapping[str, CameraModel], what: str) -> None:
    """Raise UserError unless there are cameras of which all `wanted` pictures can be made; `what` wants to see them."""
    for picture in wanted:
        if picture.camera not in cameras:
            raise UserError(
                f"{what} sees through the camera '{picture.camera}'; there is {', '.join(cameras) or 'none'}"
            )
        picture.check(cameras[picture.camera])
