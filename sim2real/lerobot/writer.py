"""Writing LeRobot v3.0 data sets so that what is finished survives anything.

After every episode the folder is a complete data set: each file is written beside its place, synced and
renamed, and the table of episodes, which decides what exists, comes last. A writer that is killed leaves at
most rows and files that no episode refers to; the next writer on the folder removes them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import schema
from sim2real.lerobot.files import read_parquet
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.stats import KEYS, Stats, column_stats, pooled

VERSION = "v3.0"
CHUNK_SIZE = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
PART = ".part"
"""Suffix of files being written; readers look for .parquet and .mp4 only."""

_MANDATORY = {
    "timestamp": FeatureSpec("float32", (1,)),
    "frame_index": FeatureSpec("int64", (1,)),
    "episode_index": FeatureSpec("int64", (1,)),
    "index": FeatureSpec("int64", (1,)),
    "task_index": FeatureSpec("int64", (1,)),
}


@dataclass(frozen=True)
class VideoFile:
    """A finished video of one episode, to be moved into the data set, and the statistics of its pictures."""

    path: Path
    stats: Stats


class LeRobotWriter:
    """Appends episodes to a data set, which it makes with the first one. See the module docstring.

    `features` are those beside the mandatory ones; `notes` go into `schema.NOTES_FILE`. On a folder that
    holds a data set already, episodes are added to it; measurements that it was recorded without (by an earlier
    version) are NaN in its older episodes from then on. Raises UserError when that has other features or
    another rate, or the folder holds something else.
    """

    def __init__(
        self,
        root: str | Path,
        fps: int,
        features: Mapping[str, FeatureSpec],
        *,
        robot_type: str = "",
        video_info: Mapping[str, Mapping[str, Any]] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = Path(root)
        self.fps = int(fps)
        self.features: dict[str, FeatureSpec] = {**features, **_MANDATORY}
        self.robot_type = robot_type
        self.video_info = dict(video_info or {})
        self.notes = dict(notes or {})
        self._episodes: pa.Table | None = None
        self._tasks: list[str] = []
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is a file; give a folder for the data set")
        if (self.root / "meta" / "info.json").exists():
            self._resume()
        else:
            self._refuse_foreign()
        self._remove_parts()

    @property
    def episodes(self) -> int:
        """How many episodes are finished."""
        return 0 if self._episodes is None else self._episodes.num_rows

    @property
    def recordings(self) -> frozenset[str]:
        """The names by which recordings tell their finished episodes apart (see `append`)."""
        if self._episodes is None or "recording" not in self._episodes.column_names:
            return frozenset()
        return frozenset(self._episodes["recording"].to_pylist()) - {None}

    @property
    def frames(self) -> int:
        """How many frames the finished episodes have."""
        return 0 if self._episodes is None else int(sum(self._episodes["length"].to_pylist()))

    def append(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        task: str,
        success: bool | None = None,
        videos: Mapping[str, VideoFile] | None = None,
        ended: str = "",
        recording: str = "",
    ) -> int:
        """Add one episode and return its index. `columns` holds every feature but videos, (T,) or (T, size).

        `videos` holds each video feature's file, `ended` says how the episode came to its end where that is
        worth knowing, `recording` is its unique name. Raises UserError for columns that do not fit the features,
        Sim2RealError when the disk refuses; the data set is then what it was before.
        """
        videos = videos or {}
        length = self._check(columns, videos)
        index = self.episodes
        frames = np.arange(length)
        rows: dict[str, NDArray[Any]] = {name: np.asarray(values) for name, values in columns.items()}
        rows |= {
            "timestamp": frames / self.fps,
            "frame_index": frames,
            "episode_index": np.full(length, index),
            "index": self.frames + frames,
        }
        tasks = self._tasks if task in self._tasks else [*self._tasks, task]
        rows["task_index"] = np.full(length, tasks.index(task))
        try:
            marks = {"task": task, "success": success, "ended": ended, "recording": recording}
            self._store(index, length, rows, tasks, marks, videos)
        except OSError as error:
            self._remove_parts()
            raise Sim2RealError(
                f"cannot write episode {index} to {self.root}: {error}; the {index} episodes before it are safe"
            ) from error
        self._tasks = tasks
        return index

    def close(self) -> None:
        """Bring the quantiles of stats.json from pooled to exact. The data set is complete without it."""
        if self.episodes == 0:
            return
        dataset = LeRobotDataset.open(self.root)
        columns = [dataset.columns(position) for position in range(len(dataset))]
        exact = {
            name: column_stats(np.concatenate([episode[name] for episode in columns])) for name in columns[0]
        }
        self._write_json("meta/stats.json", _stats_json(self._pooled() | exact))

    # One episode

    def _check(self, columns: Mapping[str, NDArray[Any]], videos: Mapping[str, VideoFile]) -> int:
        needed = {name for name, spec in self.features.items() if not spec.visual} - set(_MANDATORY)
        pictures = {name for name, spec in self.features.items() if spec.visual}
        for what, want, got in (("columns", needed, set(columns)), ("videos", pictures, set(videos))):
            if want != got:
                raise UserError(
                    f"an episode of {self.root} needs the {what} {sorted(want)}, "
                    f"missing are {sorted(want - got)}, unknown {sorted(got - want)}"
                )
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise UserError(f"an episode needs columns of one length, at least one frame; got {lengths}")
        length = next(iter(lengths.values()))
        for name, values in columns.items():
            spec = self.features[name]
            expected = (length,) if spec.shape == (1,) else (length, *spec.shape)
            if np.shape(values) != expected:
                raise UserError(f"{name} must have the shape {expected}, got {np.shape(values)}")
        return length

    def _store(
        self,
        index: int,
        length: int,
        rows: Mapping[str, NDArray[Any]],
        tasks: list[str],
        marks: Mapping[str, Any],
        videos: Mapping[str, VideoFile],
    ) -> None:
        if index == 0:
            # From here on the folder is a data set, with nothing in it yet.
            self._write_info(0)
            if self.notes:
                self._write_json(schema.NOTES_FILE, self.notes)
        chunk, file = divmod(index, CHUNK_SIZE)
        entry: dict[str, Any] = {
            "episode_index": index,
            "tasks": [marks["task"]],
            "length": length,
            "success": marks["success"],
            "ended": marks["ended"] or None,
            "recording": marks["recording"] or None,
        }
        stats = {
            name: column_stats(values)
            for name, values in rows.items()
            if self.features[name].dtype != "string"
        }
        for name, video in videos.items():
            place = self.root / VIDEO_PATH.format(video_key=name, chunk_index=chunk, file_index=file)
            place.parent.mkdir(parents=True, exist_ok=True)
            _sync(video.path)
            os.replace(video.path, place)
            entry |= {
                f"videos/{name}/chunk_index": chunk,
                f"videos/{name}/file_index": file,
                f"videos/{name}/from_timestamp": 0.0,
                f"videos/{name}/to_timestamp": length / self.fps,
            }
            stats[name] = video.stats
        data_chunk, data_file = self._append_rows(rows)
        start = self.frames
        entry |= {
            "data/chunk_index": data_chunk,
            "data/file_index": data_file,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for name, values in stats.items():
            entry |= {f"stats/{name}/{key}": values[key].tolist() for key in KEYS}
        row = _episode_table(entry)
        if tasks != self._tasks:
            self._write_tasks(tasks)
        # Sets that were begun by an older version have fewer columns.
        table = (
            row
            if self._episodes is None
            else pa.concat_tables([self._episodes, row], promote_options="permissive")
        )
        self._write_parquet(EPISODES_PATH, table)
        self._episodes = table
        self._write_json("meta/stats.json", _stats_json(self._pooled()))
        self._write_info(len(tasks))

    def _append_rows(self, rows: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        """Add a row group to the last data file, or start the next one when that is full."""
        table = pa.table({name: _arrow(rows[name], spec) for name, spec in self._stored.items()})
        chunk, file, old = 0, 0, None
        if self._episodes is not None:
            chunk = self._episodes["data/chunk_index"][-1].as_py()
            file = self._episodes["data/file_index"][-1].as_py()
            old = self.root / DATA_PATH.format(chunk_index=chunk, file_index=file)
            if old.stat().st_size > DATA_FILE_MB * 2**20:
                file, old = file + 1, None
                if file == CHUNK_SIZE:
                    chunk, file = chunk + 1, 0
        place = self.root / DATA_PATH.format(chunk_index=chunk, file_index=file)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + PART)
        with pq.ParquetWriter(part, table.schema) as writer:
            if old is not None:
                source = pq.ParquetFile(old)
                for group in range(source.num_row_groups):
                    kept = source.read_row_group(group)
                    # Rows of an episode whose writer was killed before it was entered.
                    kept = kept.filter(pc.less(kept["episode_index"], self.episodes))
                    if kept.num_rows:
                        writer.write_table(kept.cast(table.schema), row_group_size=kept.num_rows)
            writer.write_table(table, row_group_size=table.num_rows)
        _into_place(part, place)
        return chunk, file

    def _pooled(self) -> dict[str, Stats]:
        assert self._episodes is not None
        names = [name for name, spec in self.features.items() if spec.dtype != "string"]
        rows = self._episodes.to_pylist()
        return {
            name: pooled([{key: np.asarray(row[f"stats/{name}/{key}"]) for key in KEYS} for row in rows])
            for name in names
        }

    # Files

    def _write_info(self, tasks: int) -> None:
        features = {
            name: {
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                "names": None if spec.names is None else list(spec.names),
            }
            | ({"info": dict(self.video_info[name])} if name in self.video_info else {})
            for name, spec in self.features.items()
        }
        self._write_json(
            "meta/info.json",
            {
                "codebase_version": VERSION,
                "robot_type": self.robot_type,
                "total_episodes": self.episodes,
                "total_frames": self.frames,
                "total_tasks": tasks,
                "chunks_size": CHUNK_SIZE,
                "data_files_size_in_mb": DATA_FILE_MB,
                "video_files_size_in_mb": VIDEO_FILE_MB,
                "fps": self.fps,
                "splits": {"train": f"0:{self.episodes}"},
                "data_path": DATA_PATH,
                "video_path": VIDEO_PATH if any(s.visual for s in self.features.values()) else None,
                "features": features,
            },
        )

    def _write_tasks(self, tasks: list[str]) -> None:
        # A pandas frame whose index is the task: pandas keeps what is an index in the file's metadata.
        def column(name: str | None, field: str, kind: str, storage: str) -> dict[str, Any]:
            return {
                "name": name,
                "field_name": field,
                "pandas_type": kind,
                "numpy_type": storage,
                "metadata": None,
            }

        index = "__index_level_0__"
        described = {
            "index_columns": [index],
            "column_indexes": [
                column(None, None, "unicode", "object") | {"metadata": {"encoding": "UTF-8"}}  # type: ignore[arg-type]
            ],
            "columns": [
                column("task_index", "task_index", "int64", "int64"),
                column(None, index, "unicode", "object"),
            ],
            "attributes": {},
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.2.0",
        }
        table = pa.table(
            {"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())}
        )
        self._write_parquet(
            "meta/tasks.parquet", table.replace_schema_metadata({"pandas": json.dumps(described)})
        )

    def _write_parquet(self, name: str, table: pa.Table) -> None:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + PART)
        pq.write_table(table, part)
        _into_place(part, place)

    def _write_json(self, name: str, content: Any) -> None:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + PART)
        part.write_text(json.dumps(content, indent=4), encoding="utf-8")
        _into_place(part, place)

    # What is there already

    def _refuse_foreign(self) -> None:
        for name in ("data", "meta", "videos"):
            # Files that a killed writer had not put into place yet do not count.
            if any(path.is_file() and path.suffix != PART for path in (self.root / name).rglob("*")):
                raise UserError(
                    f"{self.root} holds {name}/ but no data set (meta/info.json); give an empty folder"
                )

    def _resume(self) -> None:
        there = LeRobotDataset.open(self.root)
        if there.version != VERSION:
            raise UserError(
                f"{self.root} is a data set of version {there.version}; only {VERSION} can be continued"
            )
        if there.fps != self.fps:
            raise UserError(
                f"{self.root} was recorded at {there.fps:g} Hz, this is {self.fps} Hz; give another folder"
            )
        differ = [
            name
            for name in {**there.features, **self.features}
            if there.features.get(name) != self.features.get(name)
        ]
        if not all(
            name not in there.features and _may_be_unknown(name, self.features[name]) for name in differ
        ):
            raise UserError(
                f"{self.root} was recorded with other features ({', '.join(differ)} differ), by another version or "
                "for other objects; give another folder"
            )
        if there.notes.get("hand_guided") != self.notes.get("hand_guided"):
            kinds = ["moved by hand", "moved by its servos"]
            raise UserError(
                f"{self.root} was recorded with the arm {kinds[not there.notes.get('hand_guided')]}, this is the arm "
                f"{kinds[not self.notes.get('hand_guided')]}; give another folder"
            )
        self._tasks = list(there.tasks)
        if there.episodes and (self.root / EPISODES_PATH).exists():
            self._episodes = read_parquet(self.root / EPISODES_PATH)
        # Killed after an episode was entered, before the totals were: they follow from the table.
        if self.episodes != there.info.get("total_episodes"):
            self._write_json("meta/stats.json", _stats_json(self._pooled()))
            self._write_info(len(self._tasks))
        if differ:
            try:
                self._widen(differ)
            except OSError as error:
                self._remove_parts()
                raise Sim2RealError(
                    f"{self.root} was recorded without {', '.join(differ)}, and these columns cannot be added: "
                    f"{error}; its episodes are safe: make room, or give another folder"
                ) from error

    def _widen(self, names: list[str]) -> None:
        """Give the finished episodes columns that they were recorded without; what was not measured is NaN.

        Killed in between, the data set still says that it lacks them, and the next writer goes on here.
        """
        schema = pa.schema(
            [(name, _arrow(_unknown(0, spec), spec).type) for name, spec in self._stored.items()]
        )
        for place in sorted((self.root / "data").rglob("*.parquet")):
            source = pq.ParquetFile(place)
            part = place.with_name(place.name + PART)
            with pq.ParquetWriter(part, schema) as writer:
                for group in range(source.num_row_groups):
                    table = source.read_row_group(group)
                    for name in names:
                        if name not in table.column_names:
                            spec = self.features[name]
                            table = table.append_column(name, _arrow(_unknown(table.num_rows, spec), spec))
                    table = table.select(schema.names).cast(schema)
                    writer.write_table(table, row_group_size=max(table.num_rows, 1))
            _into_place(part, place)
        if self._episodes is not None:
            lengths = self._episodes["length"].to_pylist()
            for name in names:
                stats = [column_stats(_unknown(length, self.features[name])) for length in lengths]
                for key in KEYS:
                    if f"stats/{name}/{key}" not in self._episodes.column_names:
                        values = pa.array([one[key].tolist() for one in stats])
                        self._episodes = self._episodes.append_column(f"stats/{name}/{key}", values)
            self._write_parquet(EPISODES_PATH, self._episodes)
            self._write_json("meta/stats.json", _stats_json(self._pooled()))
        self._write_info(len(self._tasks))

    @property
    def _stored(self) -> dict[str, FeatureSpec]:
        """The features that are columns of the data files, in their order."""
        return {name: spec for name, spec in self.features.items() if not spec.visual}

    def _remove_parts(self) -> None:
        for path in self.root.rglob(f"*{PART}"):
            path.unlink(missing_ok=True)


def _may_be_unknown(name: str, spec: FeatureSpec) -> bool:
    """Whether a column may lack in the older episodes of a set: measurements beside what a policy learns from."""
    return spec.dtype.startswith("float") and not name.startswith(("observation.", "action"))


def _unknown(frames: int, spec: FeatureSpec) -> NDArray[Any]:
    return np.full((frames, *(spec.shape if spec.shape != (1,) else ())), np.nan)


def _episode_table(entry: Mapping[str, Any]) -> pa.Table:
    columns = {}
    for name, value in entry.items():
        if name == "success":
            columns[name] = pa.array([value], pa.bool_())
        elif name in ("ended", "recording"):
            columns[name] = pa.array([value], pa.string())
        elif name.endswith("/count"):
            columns[name] = pa.array([value], pa.list_(pa.int64()))
        else:
            columns[name] = pa.array([value])
    return pa.table(columns)


def _arrow(values: NDArray[Any], spec: FeatureSpec) -> pa.Array:
    if spec.dtype == "string":
        return pa.array([str(value) for value in values], pa.string())
    flat = pa.array(np.ascontiguousarray(values, dtype=spec.numpy).reshape(-1))
    if spec.shape == (1,):
        return flat
    for size in reversed(spec.shape):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _stats_json(stats: Mapping[str, Stats]) -> dict[str, Any]:
    return {name: {key: values[key].tolist() for key in KEYS} for name, values in stats.items()}


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _into_place(part: Path, place: Path) -> None:
    """Make `part` durable and give it its name, in one step as seen by readers and crashes."""
    _sync(part)
    os.replace(part, place)
