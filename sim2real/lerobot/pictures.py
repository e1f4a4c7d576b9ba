"""Pictures that lie in the rows of a data set, as files' bytes or as paths of files beside it."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.lerobot.files import contradiction, missing
from sim2real.lerobot.rows import EpisodeRows


def in_rows(rows: EpisodeRows, feature: str, root: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of an episode one by one, (H, W, 3) uint8 RGB. Raises UserError for what is none."""
    for row, stored in zip(rows.rows, rows.values(feature)):
        yield decode(stored, root, f"the picture of {feature} in row {row} of {rows.file.path}")


def decode(stored: Any, root: Path, what: str) -> NDArray[np.uint8]:
    """One picture, (H, W, 3) uint8 RGB, from what a row holds: {bytes, path}, bytes, a path, or nested lists.

    `root` is the data set's folder, `what` names the picture in messages. Raises UserError when it is none.
    """
    content, path = stored, None
    if isinstance(stored, Mapping):
        content, path = stored.get("bytes"), stored.get("path")
    if isinstance(content, list):
        return _from_numbers(content, what)
    if isinstance(content, str):
        content, path = None, content
    if not content and path:
        content = _beside(root, str(path), what)
    if not content:
        raise UserError(f"{what} is not there: its row holds neither a picture nor the path of one")
    return _from_file(bytes(content), what)


def _beside(root: Path, path: str, what: str) -> bytes:
    place = (root / path).resolve()
    if not place.is_relative_to(root.resolve()):
        raise UserError(f"{what} would be {path}, which is outside of the data set's folder")
    if not place.is_file():
        raise UserError(f"{what} is not there: {missing(root / path)}")
    return place.read_bytes()


def _from_file(content: bytes, what: str) -> NDArray[np.uint8]:
    import av

    try:
        with av.open(BytesIO(content), "r") as container:
            for frame in container.decode(video=0):
                return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{what} cannot be decoded: {reason}; it begins with {content[:8]!r}") from None
    raise UserError(f"{what} cannot be decoded: it begins with {content[:8]!r}")


def _from_numbers(rows: list[Any], what: str) -> NDArray[np.uint8]:
    try:
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what} is a list of something else than numbers") from None
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not np.isfinite(array).all():
        raise UserError(f"{what} must be (height, width, 3) numbers, got the shape {array.shape}")
    if array.max(initial=0.0) <= 1.0 and (array != np.rint(array)).any():
        array = 255.0 * array
    return np.repeat(array, 3 // array.shape[2], axis=2).clip(0, 255).round().astype(np.uint8)


def why_no_video(path: Path) -> str | None:
    """Why there are no pictures in the file of an episode's video; None when it looks like one."""
    return missing(path) if not path.exists() else contradiction(path, "video")
