"""The running episode on disk, so that a recorder that dies loses at most its last moments.

A journal is a folder `ROOT/.journal/<number>/` beside the finished data: `rows.bin` is one line of JSON (all that
is needed to make a data set of it) and then one record of fixed size per frame, each with its checksum; beside it
lies a video per camera, in fragments that can be played as far as they were written. What has been handed to
`add` is in the hands of the system when it returns, and on the disk within `SYNC` s. Saving or discarding an
episode removes its journal; `recover` turns the journals that are left into episodes.
"""

import fcntl
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.video import finished_video
from sim2real.lerobot.writer import PART, LeRobotWriter, VideoFile

FOLDER = ".journal"
ROWS = "rows.bin"

SYNC = 0.5
"""Seconds between two requests that the system write the journal through to the disk."""

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another recorder on the same folder: one whose control process has died is still saving."""


@dataclass(frozen=True)
class JournalHeader:
    """What a journal says of its episode. `columns` are the features that `add` is given; `features` all of them."""

    recording: str
    """Unique to the episode: one that was saved just before the end is not recovered a second time."""
    fps: int
    robot_type: str
    task: str
    features: Mapping[str, FeatureSpec]
    columns: tuple[str, ...]
    video_info: Mapping[str, Mapping[str, Any]]
    notes: Mapping[str, Any]

    def record(self) -> np.dtype[np.void]:
        """The layout of one record on disk."""
        fields = [(name, self.features[name].numpy, self.features[name].shape) for name in self.columns]
        return np.dtype([*fields, (_CHECK, np.uint32)])

    def to_json(self) -> dict[str, Any]:
        content = {key: value for key, value in vars(self).items() if key != "features"}
        content["features"] = {
            name: {"dtype": spec.dtype, "shape": spec.shape, "names": spec.names}
            for name, spec in self.features.items()
        }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "JournalHeader":
        features = {name: FeatureSpec.from_info(raw) for name, raw in content["features"].items()}
        return cls(**{**content, "features": features, "columns": tuple(content["columns"])})


_CHECK = "journal checksum"


class Journal:
    """Writes one episode's journal; made with its first frame. Raises OSError when the disk refuses."""

    def __init__(self, root: Path, header: JournalHeader) -> None:
        numbers = [int(path.name) for path in _folders(root)]
        self.folder = root / FOLDER / f"{max(numbers, default=0) + 1:06d}"
        self.folder.mkdir(parents=True)
        self._dtype = header.record()
        self._row = np.zeros((), self._dtype)
        self._payload = self._dtype.itemsize - 4
        self._closed = threading.Event()
        self._file: BinaryIO = open(self.folder / ROWS, "wb", buffering=0)
        self._write((json.dumps(header.to_json()) + "\n").encode())
        self._thread = threading.Thread(target=self._sync, daemon=True)
        self._thread.start()

    def video(self, camera: str) -> Path:
        """Where the pictures of `camera` belong."""
        return self.folder / f"{camera}.mp4"

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one frame: a value for each of the header's columns."""
        for name, value in row.items():
            self._row[name] = value
        content = self._row.tobytes()[: self._payload]
        self._write(content + np.uint32(zlib.crc32(content)).tobytes())

    def _write(self, content: bytes) -> None:
        if self._file.write(content) != len(content):
            raise OSError(f"{self.folder / ROWS}: the disk took only a part")

    def _sync(self) -> None:
        """In a thread of its own: a slow disk must not keep frames and pictures waiting."""
        while not self._closed.wait(SYNC):
            for path in self.folder.glob("*"):
                try:
                    descriptor = os.open(path, os.O_RDONLY)
                except OSError:
                    continue
                try:
                    os.fsync(descriptor)
                except OSError:
                    pass
                finally:
                    os.close(descriptor)

    def close(self) -> None:
        """Leave it on disk, to be recovered."""
        self._closed.set()
        self._file.close()

    def remove(self) -> None:
        """The episode is safe elsewhere, or not wanted."""
        self.close()
        _remove(self.folder)


@dataclass(frozen=True)
class Recovered:
    """An episode that `recover` brought back: its index in the data set, its frames and how long they took, s."""

    index: int
    frames: int
    seconds: float


def pending(root: str | Path) -> int:
    """How many unfinished episodes the folder holds."""
    return len(_folders(Path(root)))


def recover(root: str | Path) -> list[Recovered]:
    """Turn the journals in `root` into episodes: success unknown, `ended` is "recovered".

    Safe at any time and to repeat; journals without a single whole frame are removed. Raises UserError when
    another process is recording there, or the folder holds another kind of data set.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give the folder of a recording")
    with locked(root):
        return recover_locked(root)


def recover_locked(root: Path) -> list[Recovered]:
    """`recover` for who holds the folder's lock."""
    found = [_recover(root, folder) for folder in _folders(root)]
    return [episode for episode in found if episode is not None]


@contextmanager
def locked(root: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Keep other recorders off the folder. Raises UserError when one is there for longer than `timeout` s."""
    lock = FolderLock(root, timeout)
    try:
        yield
    finally:
        lock.release()


class FolderLock:
    """An advisory lock on a folder, which ends with the process at the latest."""

    def __init__(self, root: Path, timeout: float = LOCK_TIMEOUT) -> None:
        self._descriptor = os.open(root, os.O_RDONLY)
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > end:
                    os.close(self._descriptor)
                    raise UserError(
                        f"another process is recording into {root}; wait until it has ended, or give another folder"
                    ) from None
                time.sleep(0.05)

    def release(self) -> None:
        """Safe to call again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in (root / FOLDER).glob("*") if path.name.isdecimal())


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()
    except OSError:
        pass  # others are there


def _recover(root: Path, folder: Path) -> Recovered | None:
    got = _read(folder / ROWS)
    if got is None:
        _remove(folder)
        return None
    header, rows = got
    writer = LeRobotWriter(
        root,
        header.fps,
        {name: spec for name, spec in header.features.items() if name not in schema.MANDATORY},
        robot_type=header.robot_type,
        video_info=header.video_info,
        notes=header.notes,
    )
    length = len(rows)
    videos = {}
    for name in (name for name, spec in header.features.items() if spec.visual):
        camera = name.removeprefix(schema.IMAGES)
        path = root / f".{camera}.mp4{PART}"
        frames, stats = finished_video(folder / f"{camera}.mp4", path, len(rows))
        length = min(length, frames)
        if stats is not None:
            videos[name] = VideoFile(path, stats)
    known = header.recording in writer.recordings
    if known or length == 0:
        for video in videos.values():
            video.path.unlink(missing_ok=True)
        _remove(folder)
        return None
    columns: dict[str, NDArray[Any]] = {name: rows[name][:length] for name in header.columns}
    columns = {
        name: values.reshape(length) if header.features[name].shape == (1,) else values
        for name, values in columns.items()
    }
    if schema.SUCCESS in header.features:
        columns[schema.SUCCESS] = np.zeros(length, dtype=bool)
    index = writer.append(
        columns,
        task=header.task,
        success=None,
        videos=videos,
        ended="recovered",
        recording=header.recording,
    )
    writer.close()
    _remove(folder)
    seconds = float(columns[schema.TIME][-1]) if schema.TIME in columns else length / header.fps
    return Recovered(index, length, seconds)


def _read(path: Path) -> tuple[JournalHeader, NDArray[np.void]] | None:
    """Header and whole records up to the first that is not; None when there is none."""
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
        header = JournalHeader.from_json(json.loads(first))
        dtype = header.record()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    count = len(rest) // dtype.itemsize
    rows = np.frombuffer(rest, dtype, count)
    for i in range(count):
        record = rest[i * dtype.itemsize : (i + 1) * dtype.itemsize]
        if zlib.crc32(record[:-4]) != int(rows[i][_CHECK]):
            rows = rows[:i]
            break
    return (header, rows) if len(rows) else None
