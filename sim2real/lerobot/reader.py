"""Reading LeRobot data sets, v3.0 and v2.x.

Opening reads the metadata only; rows are read per file when an episode is asked for, pictures when they are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.units import UnitsFound, find_units
from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Video:
    """Where an episode's pictures are: seconds `start`..`end` of a file (`end` may be infinite)."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class EpisodeEntry:
    """What the metadata says of an episode.

    `success` is None when nobody judged it. `ended` says what is unusual about its end: "recovered" (the
    recorder died, this is what it had written), "stopped" or "fault"; empty for others.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, Video] = field(default_factory=dict)
    success: bool | None = None
    ended: str = ""


class LeRobotDataset:
    """A data set on disk. Made by `LeRobotDataset.open`.

    `fps` is the stated rate, Hz; `features` holds what each frame has; `episodes` the metadata of each.
    """

    def __init__(
        self,
        root: Path,
        info: Mapping[str, Any],
        features: dict[str, FeatureSpec],
        tasks: tuple[str, ...],
        episodes: tuple[EpisodeEntry, ...],
    ) -> None:
        self.root = root
        self.info = info
        self.version = str(info["codebase_version"])
        self.fps = float(info["fps"])
        self.robot_type = str(info.get("robot_type") or "")
        self.features = features
        self.tasks = tasks
        self.episodes = episodes
        self._files: dict[Path, dict[str, NDArray[Any]]] = {}

    def __len__(self) -> int:
        return len(self.episodes)

    def __repr__(self) -> str:
        return (
            f"LeRobotDataset({self.root}, {self.version}, {len(self)} episodes, "
            f"{sum(entry.length for entry in self.episodes)} frames at {self.fps:g} Hz)"
        )

    @classmethod
    def open(cls, root: str | Path) -> "LeRobotDataset":
        """Open the data set in folder `root`.

        Raises UserError when it is not one, of an unknown version, or its metadata is missing or broken.
        """
        root = Path(root)
        info_path = root / "meta" / "info.json"
        if not info_path.is_file():
            raise UserError(
                f"{root} is not a LeRobot data set: there is no {info_path}; "
                "give the folder that contains meta/ and data/"
            )
        info = _read_json(info_path)
        try:
            version = str(info["codebase_version"])
            if not float(info["fps"]) > 0:
                raise UserError(f"{info_path}: fps must be positive, got {info['fps']}")
            features = {name: FeatureSpec.from_info(raw) for name, raw in info["features"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{info_path} is not a LeRobot info file: {error!r}") from None
        if version.startswith("v3"):
            tasks, episodes = _metadata_v3(root, info, features)
        elif version.startswith("v2"):
            tasks, episodes = _metadata_v2(root, info, features)
        else:
            raise UserError(f"{root} is a data set of version {version}; v3.0 and v2.x can be read")
        return cls(root, info, features, tasks, episodes)

    # What else lies beside the data

    @cached_property
    def notes(self) -> Mapping[str, Any]:
        """What our own recordings say beyond the format (units, robot, task); empty for others."""
        path = self.root / schema.NOTES_FILE
        return _read_json(path) if path.is_file() else {}

    def calibration(self, robot: Robot, path: str | Path | None = None) -> Calibration | None:
        """The calibration in `path`, by default the one beside the data; None when there is none."""
        if path is not None:
            return Calibration.load(path, robot)
        beside = self.root / schema.CALIBRATION_FILE
        return Calibration.load(beside, robot) if beside.is_file() else None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that were recorded."""
        return tuple(
            name.removeprefix(schema.IMAGES)
            for name, spec in self.features.items()
            if spec.visual and name.startswith(schema.IMAGES)
        )

    # Rows

    def select(self, text: str | None) -> tuple[int, ...]:
        """Positions of the episodes in `A:B` (as in Python; either may be missing), of `A`, or of all."""
        positions = range(len(self))
        if text is None:
            return tuple(positions)
        try:
            if ":" in text:
                first, last = (int(part) if part else None for part in text.split(":"))
                chosen = positions[first:last]
            else:
                chosen = positions[int(text) : int(text) + 1 or None]
        except ValueError:
            raise UserError(
                f"--episodes needs A:B with whole numbers (10:20, :5, -3:), got '{text}'"
            ) from None
        if not chosen:
            raise UserError(
                f"--episodes {text} selects nothing: {self.root} has {len(self)} episodes, from 0"
            )
        return tuple(chosen)

    def columns(self, position: int) -> dict[str, NDArray[Any]]:
        """All numeric features of the episode at `position`: {name: (T,) or (T, size)} as stored.

        Raises UserError for a missing, truncated or inconsistent file.
        """
        entry = self.episodes[position]
        table = self._load(entry.data)
        rows = table["episode_index"] == entry.index
        if int(rows.sum()) != entry.length:
            raise UserError(
                f"episode {entry.index} has {int(rows.sum())} frames in {entry.data}, but its metadata says "
                f"{entry.length}; the recording was interrupted or the files do not belong together"
            )
        return {name: values[rows] for name, values in table.items()}

    def require(self, *names: str) -> None:
        """Raise UserError unless the data set has these features."""
        missing = [name for name in names if name not in self.features]
        if missing:
            raise UserError(
                f"the data set {self.root} lacks {', '.join(missing)}; it has "
                f"{', '.join(name for name in self.features if name not in schema.MANDATORY)}"
            )

    def joint_order(self, feature: str, robot: Robot) -> NDArray[np.intp]:
        """Columns of `feature` in the order of the robot's joints, (n,). Raises UserError on other joints."""
        self.require(feature)
        names = self.features[feature].names
        expected = robot.joint_names
        if names is None:
            raise UserError(
                f"the data set {self.root} does not name the joints of {feature}, so nothing says which is "
                f"which; add names to meta/info.json, in the recorded order, out of {', '.join(expected)}"
            )
        found = [schema.joint_of(name) for name in names]
        if sorted(found) != sorted(expected):
            raise UserError(
                f"{feature} of {self.root} has the joints {', '.join(names)}, but {robot.name} has "
                f"{', '.join(expected)}; choose the robot that was recorded with --robot"
            )
        return np.array([found.index(name) for name in expected], dtype=np.intp)

    def joints(self, position: int, feature: str, robot: Robot) -> Array:
        """(T, n) of a joint feature as stored, in the order of the robot's joints.

        Raises UserError for values that are not finite.
        """
        order = self.joint_order(feature, robot)
        values = np.asarray(self.columns(position)[feature], dtype=np.float64)[:, order]
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise UserError(
                f"{feature} of episode {self.episodes[position].index} in {self.root} holds values that are "
                f"not numbers, first at frame {bad[0]}; leave the episode out with --episodes"
            )
        return values

    def find_units(
        self, robot: Robot, calibration: Calibration | None, requested: str = "auto"
    ) -> UnitsFound:
        """In which units joint angles are stored, and how that is known.

        `requested` is auto, normalised or degrees. Raises UserError when auto cannot tell.
        """
        if requested == "auto" and "units" in self.notes:
            return UnitsFound(self.notes["units"], f"{schema.NOTES_FILE} says so")
        # A few thousand frames tell as much as all of them.
        some = np.unique(np.linspace(0, len(self) - 1, min(len(self), 12)).round().astype(int))
        state, action = (
            np.concatenate([self.joints(i, feature, robot) for i in some])
            for feature in (schema.STATE, schema.ACTION)
        )
        return find_units(state, action, robot, calibration, requested, str(self.root))

    def episode(self, position: int, robot: Robot, convert: "Converter | None" = None) -> Episode:
        """The episode at `position` in radians, in the order of the robot's joints, without pictures.

        `convert` is what `converter` returned, by default for the calibration beside the data. Recordings
        that do not say what was really sent have `executed` equal to `action`. Raises UserError for missing
        features, other joints, unclear units, broken files.
        """
        convert = convert or self.converter(robot)
        columns = self.columns(position)
        entry = self.episodes[position]
        state = convert(self.joints(position, schema.STATE, robot))
        action = convert(self.joints(position, schema.ACTION, robot))
        executed = action
        if schema.EXECUTED in self.features:
            executed = convert(self.joints(position, schema.EXECUTED, robot))
        time = np.asarray(
            columns[schema.TIME] if schema.TIME in columns else columns["timestamp"], dtype=np.float64
        )
        return Episode(
            time=time - time[0],
            state=state,
            action=action,
            executed=executed,
            fps=self.fps,
            robot=robot.name,
            task=entry.tasks[0] if entry.tasks else "",
            features=self._environment(columns),
            success=entry.success,
            info={"episode": entry.index, "source": str(self.root), "ended": entry.ended},
        )

    def load(
        self, robot: Robot, convert: "Converter | None" = None, positions: Sequence[int] | None = None
    ) -> list[Episode]:
        """Several episodes, by default all, as `episode` returns them."""
        convert = convert or self.converter(robot)
        chosen = range(len(self)) if positions is None else positions
        return [self.episode(position, robot, convert) for position in chosen]

    def converter(
        self, robot: Robot, calibration: Calibration | None = None, units: str = "auto"
    ) -> "Converter":
        """The function that takes stored joint values to radians; its `found` says from which units.

        `calibration` defaults to the one beside the data; `units` is auto, normalised or degrees. Values in
        degrees can do without a calibration. Raises UserError when units are unclear, or normalised and no
        calibration is there.
        """
        calibration = calibration or self.calibration(robot)
        found = self.find_units(robot, calibration, units)
        if calibration is None:
            if found.units == "normalised":
                raise UserError(
                    f"{self.root} stores joints as a percentage of their calibrated range and has no "
                    f"{schema.CALIBRATION_FILE}; give the arm's calibration file with --calibration"
                )
            calibration = Calibration.nominal(robot)
        return Converter(calibration, found)

    def _environment(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
        """The parts of observation.environment_state by the name of the observation, (T, k) each."""
        spec = self.features.get(schema.ENVIRONMENT)
        if spec is None or spec.names is None:
            return {}
        values = np.asarray(columns[schema.ENVIRONMENT], dtype=np.float64).reshape(-1, len(spec.names))
        return {name: values[:, index] for name, index in schema.grouped(spec.names).items()}

    def frames(self, position: int, camera: str) -> Iterator[NDArray[np.uint8]]:
        """The pictures of an episode one by one, (H, W, 3) uint8 RGB. Raises UserError when there are none."""
        feature = schema.IMAGES + camera
        entry = self.episodes[position]
        self.require(feature)
        if feature not in entry.videos:
            raise UserError(f"{feature} of {self.root} is not stored as a video and cannot be read")
        from sim2real.lerobot.video import read_video

        video = entry.videos[feature]
        return read_video(video.path, video.start, entry.length, self.fps)

    def _load(self, path: Path) -> dict[str, NDArray[Any]]:
        if path not in self._files:
            names = [name for name, spec in self.features.items() if not spec.visual]
            table = read_parquet(path)
            lacking = [name for name in names if name not in table.column_names]
            if lacking:
                raise UserError(f"{path} lacks the columns {', '.join(lacking)} that meta/info.json promises")
            self._files[path] = {
                name: _to_numpy(table[name], self.features[name], path, name)
                for name in names
                if self.features[name].dtype != "string"
            }
            if "episode_index" not in self._files[path]:
                raise UserError(f"{path} lacks the column episode_index")
        return self._files[path]


@dataclass(frozen=True)
class Converter:
    """Takes stored joint values (..., n) to radians (..., n)."""

    calibration: Calibration
    found: UnitsFound

    def __call__(self, values: Array) -> Array:
        return self.calibration.to_radians(values, self.found.units)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole parquet file. Raises UserError when it is missing or broken."""
    if not path.is_file():
        raise UserError(f"the data set is incomplete: {path} does not exist; copy it in, or record again")
    try:
        return pq.ParquetFile(path).read(columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not readable as parquet ({reason}); a recorder that is killed leaves such a file: "
            "what it holds is lost, remove the episodes in it or record them again"
        ) from None


def _to_numpy(column: pa.ChunkedArray, spec: FeatureSpec, path: Path, name: str) -> NDArray[Any]:
    values = column.combine_chunks()
    rows = len(values)
    while any(is_list(values.type) for is_list in _LISTS):
        values = values.flatten()
    try:
        flat = np.asarray(values.to_numpy(zero_copy_only=False), dtype=spec.numpy)
        return flat.reshape(rows) if spec.shape == (1,) else flat.reshape(rows, *spec.shape)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: the column {name} does not hold {spec.shape} numbers: {error}") from None


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"cannot read {path}: expected a JSON object")
    return content


def _metadata_v3(
    root: Path, info: Mapping[str, Any], features: Mapping[str, FeatureSpec]
) -> tuple[tuple[str, ...], tuple[EpisodeEntry, ...]]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        if int(info.get("total_episodes", 0)) > 0:
            raise UserError(f"the data set is incomplete: there is nothing in {root}/meta/episodes")
        return (), ()
    task_table = read_parquet(root / "meta" / "tasks.parquet").to_pydict()
    numbers = task_table.pop("task_index", None)
    # The frame's index: pandas calls it so when it has no name of its own.
    texts = next(iter(task_table.values()), None)
    if numbers is None or texts is None:
        raise UserError(f"{root}/meta/tasks.parquet needs the tasks and their task_index")
    tasks = tuple(text for _, text in sorted(zip(numbers, texts)))

    videos = [name for name, spec in features.items() if spec.dtype == "video"]
    entries = []
    for path in files:
        wanted = [name for name in _column_names(path) if not name.startswith("stats/")]
        for row in read_parquet(path, wanted).to_pylist():
            try:
                entries.append(_entry_v3(root, info, row, videos))
            except (KeyError, TypeError) as error:
                raise UserError(f"{path} lacks {error} for an episode") from None
    return tasks, tuple(sorted(entries, key=lambda entry: entry.index))


def _column_names(path: Path) -> list[str]:
    """Names of a parquet file's columns. Raises UserError when it cannot be read."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not readable as parquet: {str(error).splitlines()[0]}") from None


def _entry_v3(
    root: Path, info: Mapping[str, Any], row: Mapping[str, Any], videos: Sequence[str]
) -> EpisodeEntry:
    data = str(info["data_path"]).format(
        chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
    )
    found = {}
    for name in videos:
        prefix = f"videos/{name}/"
        if row.get(prefix + "file_index") is None:
            continue
        path = str(info["video_path"]).format(
            video_key=name,
            chunk_index=row[prefix + "chunk_index"],
            file_index=row[prefix + "file_index"],
        )
        found[name] = Video(root / path, row[prefix + "from_timestamp"], row[prefix + "to_timestamp"])
    return EpisodeEntry(
        index=int(row["episode_index"]),
        length=int(row["length"]),
        tasks=tuple(row["tasks"] or ()),
        data=root / data,
        videos=found,
        success=row.get("success"),
        ended=row.get("ended") or "",
    )


def _metadata_v2(
    root: Path, info: Mapping[str, Any], features: Mapping[str, FeatureSpec]
) -> tuple[tuple[str, ...], tuple[EpisodeEntry, ...]]:
    def lines(name: str) -> list[dict[str, Any]]:
        path = root / "meta" / name
        if not path.is_file():
            raise UserError(f"the data set is incomplete: {path} does not exist")
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None

    try:
        tasks = tuple(
            str(row["task"]) for row in sorted(lines("tasks.jsonl"), key=lambda row: int(row["task_index"]))
        )
        chunk_size = int(info.get("chunks_size", 1000))
        videos = [name for name, spec in features.items() if spec.dtype == "video"]
        entries = []
        for row in lines("episodes.jsonl"):
            index = int(row["episode_index"])
            where = {"episode_chunk": index // chunk_size, "episode_index": index}
            entries.append(
                EpisodeEntry(
                    index=index,
                    length=int(row["length"]),
                    tasks=tuple(row.get("tasks") or ()),
                    data=root / str(info["data_path"]).format(**where),
                    videos={
                        name: Video(
                            root / str(info["video_path"]).format(video_key=name, **where), 0.0, float("inf")
                        )
                        for name in videos
                    },
                    success=row.get("success"),
                )
            )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the metadata of {root} lacks {error}") from None
    return tasks, tuple(sorted(entries, key=lambda entry: entry.index))
