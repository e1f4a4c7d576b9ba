"""Photographs of the user's own empty table, from files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.camera_placement import looking
from sim2real.errors import UserError
from sim2real.lerobot.pictures import decode

Image = NDArray[np.uint8]

LARGEST = 800
"""Pixels that a photograph keeps each way; policies see far fewer."""


def read_photographs(files: Sequence[str]) -> list[Image]:
    """The photographs (H, W, 3) uint8 RGB. Raises UserError for a file that is none."""
    return [_read(Path(file)) for file in files]


def check_photographs(files: Sequence[str], cameras: Mapping[str, CameraModel] | None) -> None:
    """Raise UserError where one cannot be read, or cannot be from the camera that `cameras` describe."""
    from sim2real.simulation.photographs import Photograph

    name = None if cameras is None else looking(cameras)
    taken_by = None if cameras is None or name is None else cameras[name]
    for file, image in zip(files, read_photographs(files)):
        try:
            Photograph(image, taken_by)
        except UserError as error:
            raise UserError(f"the photograph {file}: {error}") from None


def _read(path: Path) -> Image:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the photograph {path}: {error.strerror}") from None
    image = decode(content, path.parent, f"the photograph {path}")
    step = -(-max(image.shape[:2]) // LARGEST)
    return np.ascontiguousarray(image[::step, ::step])
