"""Pictures of an episode as an H.264 file, written and read one by one with av."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot.stats import Stats, image_stats

CODEC = "h264"
PIXEL_FORMAT = "yuv420p"

_KEYFRAME_EVERY = 10
"""Training jumps to random frames; each jump decodes from the last key frame on."""
_SAMPLE_FRAMES, _SAMPLE_PIXELS = 10, 8
"""Statistics use every 10th picture and every 8th pixel of each row and column."""


class VideoEncoder:
    """Encodes (height, width, 3) uint8 RGB pictures to a file as they come.

    The file is complete only after `finish`. Raises UserError for sizes that H.264 cannot hold.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        import av

        if width % 2 or height % 2:
            raise UserError(f"videos need an even width and height, got {width} x {height}")
        self.path = path
        self.width, self.height = width, height
        self.frames = 0
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1000),
            options={"preset": "veryfast", "crf": "23", "g": str(_KEYFRAME_EVERY), "bf": "0"},
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = PIXEL_FORMAT
        self._stream.thread_count = 1
        self._pixels: list[NDArray[np.uint8]] = []

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append one picture."""
        import av

        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise UserError(
                f"this video takes pictures of {self.height} x {self.width} x 3 bytes, "
                f"got {image.shape} of {image.dtype}"
            )
        if self.frames % _SAMPLE_FRAMES == 0:
            self._pixels.append(image[::_SAMPLE_PIXELS, ::_SAMPLE_PIXELS].reshape(-1, 3).copy())
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.frames
        frame.time_base = 1 / self._stream.codec_context.framerate
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> Stats | None:
        """Complete the file; returns the statistics of its pictures, None when there were none."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return image_stats(np.concatenate(self._pixels), self.frames) if self._pixels else None

    def abort(self) -> None:
        """Drop the file."""
        self._container.close()
        self.path.unlink(missing_ok=True)


def video_info(width: int, height: int, fps: float) -> dict[str, Any]:
    """What info.json says about a video feature."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": PIXEL_FORMAT,
        "video.is_depth_map": False,
        "video.fps": int(fps) if float(fps).is_integer() else fps,
        "video.channels": 3,
        "has_audio": False,
    }


def read_video(path: Path, start: float, count: int, fps: float) -> Iterator[NDArray[np.uint8]]:
    """`count` pictures from second `start` on, (H, W, 3) uint8 RGB, in order.

    Raises UserError when the file is missing or unreadable, Sim2RealError when it ends too early.
    """
    import av

    if not path.is_file():
        raise UserError(f"the data set is incomplete: {path} does not exist")
    given = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if start > 0 and stream.time_base is not None:
                container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                # Half a frame of tolerance: presentation times are rounded.
                if frame.time is not None and frame.time < start - 0.5 / fps:
                    continue
                if given == count:
                    return
                yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                given += 1
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"{path} is not readable as a video: {error}") from None
    if given < count:
        raise Sim2RealError(f"{path} ends after {given} of {count} pictures")
