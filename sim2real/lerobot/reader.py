"""Reading LeRobot data sets, v3.0 and v2.x.

Opening reads the metadata only; rows are read per file when an episode is asked for, pictures when they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.grid import settle
from sim2real.lerobot.metadata import EpisodeEntry, metadata_v2, metadata_v3, read_json, read_parquet
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.units import UnitsFound, find_units, modern
from sim2real.robot import Robot

Array = NDArray[np.float64]


class LeRobotDataset:
    """A data set on disk. Made by `LeRobotDataset.open`.

    `fps` is the stated rate, Hz; `features` holds what each frame has; `episodes` the metadata of each; `arm` which
    of several arms is meant ("left"), where joints are named `left_shoulder_pan` and `right_shoulder_pan`.
    """

    def __init__(
        self,
        root: Path,
        info: Mapping[str, Any],
        features: dict[str, FeatureSpec],
        tasks: tuple[str, ...],
        episodes: tuple[EpisodeEntry, ...],
        arm: str | None = None,
    ) -> None:
        self.root = root
        self.arm = arm
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
    def open(cls, root: str | Path, arm: str | None = None) -> "LeRobotDataset":
        """Open the data set in folder `root`; `arm` chooses one of several.

        Raises UserError when it is not one, of an unknown version, or its metadata is missing or broken.
        """
        root = Path(root)
        info_path = root / "meta" / "info.json"
        if not info_path.is_file():
            raise UserError(
                f"{root} is not a LeRobot data set: there is no {info_path}; "
                "give the folder that contains meta/ and data/"
            )
        info = read_json(info_path)
        try:
            version = str(info["codebase_version"])
            if not 1 <= float(info["fps"]) <= 1000:
                raise UserError(f"{info_path}: fps must be 1 to 1000 Hz, got {info['fps']}")
            features = {name: FeatureSpec.from_info(raw) for name, raw in info["features"].items()}
        except KeyError as error:
            raise UserError(f"{info_path} is not a LeRobot info file: it lacks {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{info_path} is not a LeRobot info file: {error}") from None
        if version.startswith("v3"):
            tasks, episodes = metadata_v3(root, info, features)
        elif version.startswith("v2"):
            tasks, episodes = metadata_v2(root, info, features)
        else:
            raise UserError(f"{root} is a data set of version {version}; v3.0 and v2.x can be read")
        return cls(root, info, features, tasks, episodes, arm)

    # What else lies beside the data

    @cached_property
    def notes(self) -> Mapping[str, Any]:
        """What our own recordings say beyond the format (units, robot, task); empty for others."""
        path = self.root / schema.NOTES_FILE
        return read_json(path) if path.is_file() else {}

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
        """Positions of the episodes in `A:B` (as in Python; either may be missing), of `A`, of several, or of all."""
        positions = range(len(self))
        if text is None:
            return tuple(positions)
        chosen: set[int] = set()
        try:
            for part in text.split(","):
                if ":" in part:
                    first, last = (int(end) if end else None for end in part.split(":"))
                    chosen.update(positions[first:last])
                else:
                    chosen.update(positions[int(part) : int(part) + 1 or None])
        except ValueError:
            raise UserError(
                f"--episodes needs A:B with whole numbers (10:20, :5, -3:, or 0:4,6), got '{text}'"
            ) from None
        if not chosen:
            raise UserError(
                f"--episodes {text} selects nothing: {self.root} has {len(self)} episodes, from 0"
            )
        return tuple(sorted(chosen))

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
        """Columns of `feature` in the order of the robot's joints, (n,). Raises UserError on other joints.

        Joints that the robot does not have (a mobile base, a second arm) are left alone.
        """
        self.require(feature)
        names = self.features[feature].names
        expected = robot.joint_names
        if names is None:
            raise UserError(
                f"the data set {self.root} does not name the joints of {feature}, so nothing says which is "
                f"which; add names to meta/info.json, in the recorded order, out of {', '.join(expected)}"
            )
        found = [schema.joint_of(name) for name in names]
        arms = schema.arms_of(found, expected)
        if self.arm is not None:
            wanted = f"{self.arm}_"
            if wanted not in arms:
                there = ", ".join(arm.rstrip("_") for arm in arms if arm) or "no such names"
                raise UserError(
                    f"{self.root} has no arm '{self.arm}' with the joints of {robot.name}; its arms are {there}, its "
                    f"joints {', '.join(names)}"
                )
        elif len(arms) == 1 or "" in arms:
            wanted = "" if "" in arms else arms[0]
        elif arms:
            raise UserError(
                f"{self.root} is of {len(arms)} arms; choose one with --arm "
                f"{' or '.join(arm.rstrip('_') for arm in arms)}, and its --calibration"
            )
        else:
            raise UserError(
                f"{feature} of {self.root} has the joints {', '.join(names)}, but {robot.name} has "
                f"{', '.join(expected)}; choose the robot that was recorded with --robot, or mend the names in "
                "meta/info.json"
            )
        return np.array([found.index(wanted + name) for name in expected], dtype=np.intp)

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
                f"not numbers, first at frame {bad[0]}: the episode cannot be used"
            )
        return values

    def find_units(
        self, robot: Robot, calibration: Calibration | None, requested: str = "auto"
    ) -> UnitsFound:
        """In which units joint angles are stored, and how that is known.

        `requested` is one of `units.CHOICES`. Raises UserError when auto cannot tell.
        """
        if requested == "auto" and "units" in self.notes:
            return UnitsFound(self.notes["units"], f"{schema.NOTES_FILE} says so")
        if not len(self):
            raise UserError(f"the data set {self.root} has no episodes")
        features = [name for name in (schema.STATE, schema.ACTION) if name in self.features]
        readable: list[list[Array]] = []
        problem: UserError | None = None
        # A few thousand frames tell as much as all of them; what cannot be read is not this function's concern.
        for i in np.random.default_rng(0).permutation(len(self)):
            try:
                readable.append([self.joints(int(i), feature, robot) for feature in features])
            except UserError as error:
                problem = problem or error
            if len(readable) == 12:
                break
        if not readable:
            assert problem is not None
            raise problem
        state, action = (np.concatenate([part[k] for part in readable]) for k in (0, -1))
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

        `calibration` defaults to the one beside the data; `units` is one of `units.CHOICES`. Values in degrees
        and radians can do without a calibration, normalised ones where their grid tells it. Raises UserError when
        units are unclear, or nothing tells the calibration of normalised values.
        """
        calibration = calibration or self.calibration(robot)
        found = self.find_units(robot, calibration, units)
        settled = settle(calibration, found.spans, found.units, robot)
        if settled is None:
            raise UserError(
                f"{self.root} stores joints as a percentage of their calibrated range and has no "
                f"{schema.CALIBRATION_FILE}; give the arm's calibration file with --calibration (the states lie on no "
                "grid of servo ticks that would tell the ranges)"
            )
        return Converter(settled.calibration, found, robot, settled.source, settled.remarks)

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
    """Takes stored joint values (..., n) to radians (..., n).

    `source` says where the calibration is from: "file", "data" (the grid of the states), or "nominal" (the URDF's
    ranges). `remarks` are what the user should know of it.
    """

    calibration: Calibration
    found: UnitsFound
    robot: Robot
    source: str = "file"
    remarks: tuple[str, ...] = ()

    def __call__(self, values: Array) -> Array:
        units = self.found.units
        if units == "radians":
            return np.array(values, dtype=np.float64)
        if units == "old-degrees":
            return self.calibration.degrees_to_radians(modern(values, self.robot))
        return self.calibration.to_radians(values, units)


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
