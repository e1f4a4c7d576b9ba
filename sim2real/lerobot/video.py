"""Pictures of an episode as an H.264 file, written and read one by one with av."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
_FRAGMENTS = "frag_every_frame+empty_moov+default_base_moof"
_LOOKAHEAD = "rc-lookahead=5:sync-lookahead=0"
"""How many pictures the encoder keeps to itself: they are lost when its process dies."""
_SAMPLE_FRAMES, _SAMPLE_PIXELS = 10, 8
"""Statistics use every 10th picture and every 8th pixel of each row and column."""


class VideoEncoder:
    """Encodes (height, width, 3) uint8 RGB pictures to a file as they come.

    The file is complete only after `finish`; with `fragments` it can be played as far as it was written at any
    moment, all but the last quarter of a second (see `finished_video`). Raises UserError for sizes that H.264
    cannot hold.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, *, fragments: bool = False) -> None:
        import av

        if width % 2 or height % 2:
            raise UserError(f"videos need an even width and height, got {width} x {height}")
        self.path = path
        self.width, self.height = width, height
        self.frames = 0
        self._sink: _Append | None = None
        if fragments:
            self._sink = _Append(path)
            options = {"movflags": _FRAGMENTS, "flush_packets": "1"}
            self._container = av.open(self._sink, "w", format="mp4", options=options)
        else:
            self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1000),
            options={
                "preset": "veryfast",
                "crf": "23",
                "g": str(_KEYFRAME_EVERY),
                "bf": "0",
                "x264-params": _LOOKAHEAD,
            },
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = PIXEL_FORMAT
        self._stream.thread_count = 1
        self._pixels: list[NDArray[np.uint8]] = []

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append one picture. Raises OSError when the disk refuses."""
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
        with _refusals(self.path):
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> Stats | None:
        """Complete the file; returns the statistics of its pictures, None when there were none.

        Raises OSError when the disk refuses.
        """
        with _refusals(self.path):
            self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._sink is not None:
                self._sink.stop()
        return image_stats(np.concatenate(self._pixels), self.frames) if self._pixels else None

    def abort(self) -> None:
        """Drop the file."""
        self.leave()
        self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Stop writing and keep the file as it is, on a disk that may be full."""
        import av

        if self._sink is not None:
            self._sink.stop()
        try:
            self._container.close()
        except (OSError, av.FFmpegError):
            pass


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What av raises while it writes, as OSError."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def plain_video(fragments: Path, path: Path, most: int) -> None:
    """Copy up to `most` pictures of a whole file in fragments into a plain one at `path`; nothing is encoded again.

    Raises OSError when the disk refuses.
    """
    import av

    with _refusals(path), av.open(str(fragments)) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        copied = 0
        for packet in source.demux(video=0):
            if packet.dts is None or copied == most:
                break
            packet.stream = stream
            target.mux(packet)
            copied += 1


def finished_video(fragments: Path, path: Path, most: int) -> tuple[int, Stats | None]:
    """Copy up to `most` pictures of a file in fragments that was broken off into a plain one at `path`.

    Returns how many there were, and the statistics of their pictures: (0, None) and no file when not one can be
    read. Raises OSError when the disk refuses.
    """
    import av

    frames, pixels = 0, []
    try:
        # A box that is not whole makes all of the file unreadable.
        os.truncate(fragments, _whole(fragments))
        source = av.open(str(fragments))
    except (OSError, av.FFmpegError):
        return 0, None
    with source:
        try:
            for frame in source.decode(video=0):
                if frames == most:
                    break
                if frames % _SAMPLE_FRAMES == 0:
                    image = frame.to_ndarray(format="rgb24")
                    pixels.append(image[::_SAMPLE_PIXELS, ::_SAMPLE_PIXELS].reshape(-1, 3).copy())
                frames += 1
        except (av.FFmpegError, IndexError):
            pass  # the last fragment is not whole
    if frames == 0:
        return 0, None
    plain_video(fragments, path, frames)
    return frames, image_stats(np.concatenate(pixels), frames)


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole fragment (a box `moof` and its `mdat`), or of the file's head."""
    end = whole = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            end += length
            if length < 8 or end > size:
                break
            if kind in (b"mdat", b"moov"):
                whole = end
            file.seek(end)
    return whole


class _Append:
    """A file that only grows, and from `stop` on not even that: a muxer's last words must not spoil the others."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)

    def write(self, data: bytes) -> int:
        if not self._file.closed and self._file.write(data) != len(data):
            raise OSError(f"{self._file.name}: the disk took only a part")
        return len(data)

    def stop(self) -> None:
        self._file.close()


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
