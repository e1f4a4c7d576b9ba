"""Reading LeRobot data sets, v3.0 and v2.x.

Opening reads the metadata only; rows are read per file when an episode is asked for, pictures when they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError, spans
from sim2real.lerobot import labels, schema
from sim2real.lerobot.files import contradiction, read_json
from sim2real.lerobot.grid import settle
from sim2real.lerobot.joints import columns_of
from sim2real.lerobot.mapping import mapped
from sim2real.lerobot.metadata import Metadata, read_metadata, visible
from sim2real.lerobot.rows import DataFile, EpisodeRows
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.stamps import times_of
from sim2real.lerobot.units import UnitsFound, find_units, modern
from sim2real.robot import Robot

Array = NDArray[np.float64]


class LeRobotDataset:
    """A data set on disk. Made by `LeRobotDataset.open`.

    `fps` is the stated rate, Hz; `features` holds what each frame has; `episodes` the metadata of each; `arm` which
    of several arms is meant ("left"), where joints are named `left_shoulder_pan` and `right_shoulder_pan`; `remarks`
    what its metadata contradicts itself in.
    """

    def __init__(
        self,
        root: Path,
        info: Mapping[str, Any],
        features: dict[str, FeatureSpec],
        metadata: Metadata,
        arm: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.arm = arm
        found = mapped(features, names or {}, str(root))
        features, self._stored, self._mapped_cameras = found.features, found.columns, found.cameras
        self.info = info
        self.version = str(info["codebase_version"])
        self.fps = float(info["fps"])
        self.robot_type = str(info.get("robot_type") or "")
        self.features = features
        self.tasks = metadata.tasks
        self.episodes = metadata.episodes
        self.remarks = (*metadata.remarks, *found.remarks)
        self._labelled = metadata.labelled
        self._files: dict[Path, DataFile] = {}

    def __len__(self) -> int:
        return len(self.episodes)

    def __repr__(self) -> str:
        return (
            f"LeRobotDataset({self.root}, {self.version}, {len(self)} episodes, "
            f"{sum(entry.length for entry in self.episodes)} frames at {self.fps:g} Hz)"
        )

    @classmethod
    def open(
        cls, root: str | Path, arm: str | None = None, names: Mapping[str, str] | None = None
    ) -> "LeRobotDataset":
        """Open the data set in folder `root`; `arm` chooses one of several, `names` are ours by theirs where they
        differ (`mapping.py`).

        Raises UserError for names that it does not have, when it is not one, of an unknown version, or its metadata is
        missing or broken.
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
            if isinstance(info["fps"], bool) or not 1 <= float(info["fps"]) <= 1000:
                raise UserError(f"{info_path}: fps must be 1 to 1000 Hz, got {info['fps']}")
            features = {str(name): FeatureSpec.from_info(raw) for name, raw in info["features"].items()}
        except KeyError as error:
            raise UserError(f"{info_path} is not a LeRobot info file: it lacks {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{info_path} is not a LeRobot info file: {error}") from None
        number = re.match(r"v?([23])(\.|$)", version)
        if number is None:
            raise UserError(f"{root} is a data set of version {version}; v3.0 and v2.x can be read")
        return cls(root, info, features, read_metadata(root, int(number[1]), info, features), arm, names)

    # What else lies beside the data

    @cached_property
    def notes(self) -> Mapping[str, Any]:
        """What our own recordings say beyond the format (units, robot, task); empty for others."""
        path = self.root / schema.NOTES_FILE
        return read_json(path) if path.is_file() else {}

    def calibration(self, robot: Robot, path: str | Path | None = None) -> Calibration | None:
        """The calibration in `path`, by default the one beside the data; None when there is none.

        Of a file that holds more than the arm (wheels, a second arm), the arm's part.
        """
        beside = self.root / schema.CALIBRATION_FILE
        if path is None and not beside.is_file():
            return None
        source = beside if path is None else Path(path)
        shown = contradiction(source, "JSON") if source.exists() else None
        if shown is not None:
            raise UserError(f"cannot read the calibration file {source}: {shown}")
        return Calibration.load(source, robot, self.arm)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that were recorded."""
        return tuple(self._of_cameras)

    @cached_property
    def _of_cameras(self) -> dict[str, str]:
        """The feature of each camera."""
        renamed = set(self._mapped_cameras.values())
        own = {
            name.removeprefix(schema.IMAGES).removeprefix("observation."): name
            for name, spec in self.features.items()
            if spec.visual and name.startswith("observation.") and name not in renamed
        }
        return own | dict(self._mapped_cameras)

    @cached_property
    def unlisted(self) -> tuple[str, ...]:
        """What lies in data/ and no episode of the table refers to, in words for people."""
        listed: dict[Path, set[int]] = {}
        for entry in self.episodes:
            listed.setdefault(entry.data, set()).add(entry.index)
        found = visible(list((self.root / "data").rglob("*.parquet")), self.root)
        extra = [path for path in found if path not in listed]
        remarks = []
        if extra:
            more = f" and {len(extra) - 1} more files" if extra[1:] else ""
            remarks.append(f"no episode of the table refers to {extra[0]}{more}")
        held = {path: set(file.episodes()) for path, file in self._files.items()}
        beyond = sorted(set().union(*(held[path] - listed.get(path, set()) for path in held)) if held else ())
        if beyond:
            remarks.append(
                f"data files hold the episodes {spans(beyond)}, which the table does not list there"
            )
        return tuple(remarks)

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
        """All numeric features of the episode at `position`: {name: (T,) or (T, size)} as stored, frame by frame.

        Raises UserError for a missing, truncated or inconsistent file.
        """
        rows = self._rows(position)
        lacking = [
            name for name, spec in self.features.items() if spec.numeric and name not in rows.file.names
        ]
        if lacking:
            raise UserError(
                f"{rows.file.path} lacks the columns {', '.join(lacking)} that meta/info.json promises"
            )
        return {name: rows.column(name, spec.shape) for name, spec in self.features.items() if spec.numeric}

    def success(self, position: int) -> tuple[bool | None, str]:
        """Whether the episode at `position` succeeded, by the table of episodes or by its frames (None: not judged).

        And what is there instead of a label that can be read ("" if nothing).
        """
        entry = self.episodes[position]
        if entry.success is not None or entry.label_problem:
            return entry.success, entry.label_problem
        try:
            rows = self._rows(position)
        except UserError:
            return None, ""  # what cannot be read nobody judged
        return labels.judged(rows, self.features, self._labelled)

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
        columns = columns_of(names, expected, self.arm, f"{feature} of {self.root}", robot.name)
        return np.array(columns, dtype=np.intp)

    def joints(self, position: int, feature: str, robot: Robot) -> Array:
        """(T, n) of a joint feature as stored, in the order of the robot's joints.

        Raises UserError for values that are not finite.
        """
        order = self.joint_order(feature, robot)
        names = self.features[feature].names or ()
        stored = self._rows(position).column(feature)
        stored = stored.reshape(len(stored), int(np.prod(stored.shape[1:])))
        if stored.shape[1] != len(names):
            raise UserError(
                f"{feature} of {self.root} has {len(names)} names in meta/info.json, but {stored.shape[1]} numbers in "
                f"the rows of episode {self.episodes[position].index}: nothing says which is which; mend the names"
            )
        values = np.asarray(stored[:, order], dtype=np.float64)
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

    def episode(
        self, position: int, robot: Robot, convert: "Converter | None" = None, *, commands: bool = True
    ) -> Episode:
        """The episode at `position` in radians, in the order of the robot's joints, without pictures.

        `convert` is what `converter` returned, by default for the calibration beside the data. Recordings
        that do not say what was really sent have `executed` equal to `action`; without `commands` both are the
        states. `info` says which column tells the `time` ("clock"; "": none, it is frame / fps), "remarks", and who
        acted, "intervention" (T,), where that was recorded. Raises
        UserError for missing features, other joints, unclear units, broken files, and an episode without frames.
        """
        convert = convert or self.converter(robot)
        entry = self.episodes[position]
        if entry.length < 1:
            raise UserError(f"episode {entry.index} of {self.root} has no frames")
        rows = self._rows(position)
        state = convert(self.joints(position, schema.STATE, robot))
        action = state if not commands else convert(self.joints(position, schema.ACTION, robot))
        executed = action
        if commands and schema.EXECUTED in self.features:
            executed = convert(self.joints(position, schema.EXECUTED, robot))
        features, lack = self._environment(rows)
        acted: dict[str, Any] = {}
        if schema.INTERVENTION in self.features and schema.INTERVENTION in rows.file.names:
            acted["intervention"] = np.ravel(rows.column(schema.INTERVENTION)).astype(np.int64)
        times = times_of(rows, self.features, self.fps, f"episode {entry.index} of {self.root}")
        return Episode(
            time=times.seconds,
            state=state,
            action=action,
            executed=executed,
            fps=self.fps,
            robot=robot.name,
            task=entry.tasks[0] if entry.tasks else "",
            features=features,
            success=self.success(position)[0],
            info={
                "episode": entry.index,
                "source": str(self.root),
                "ended": entry.ended,
                "clock": times.column,
                **acted,
                "remarks": (*rows.remarks, *times.remarks, *lack),
            },
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

    def _environment(self, rows: EpisodeRows) -> tuple[dict[str, Array], tuple[str, ...]]:
        """The parts of observation.environment_state by the name of the observation, (T, k) each; and why there are
        none, where some were promised."""
        spec = self.features.get(schema.ENVIRONMENT)
        if spec is None or spec.names is None:
            return {}, ()
        try:
            values = np.asarray(rows.column(schema.ENVIRONMENT), dtype=np.float64)
        except UserError as error:
            return {}, (f"{schema.ENVIRONMENT} cannot be read: {error}",)
        values = values.reshape(len(values), int(np.prod(values.shape[1:])))
        if values.shape[1] != len(spec.names):
            what = f"{len(spec.names)} names in meta/info.json and {values.shape[1]} numbers in its rows"
            return {}, (f"{schema.ENVIRONMENT} cannot be read: it has {what}",)
        return {name: values[:, index] for name, index in schema.grouped(spec.names).items()}, ()

    def frames(self, position: int, camera: str) -> Iterator[NDArray[np.uint8]]:
        """The pictures of an episode one by one, (H, W, 3) uint8 RGB, from its video or from its rows.

        Raises UserError when there are none, or one cannot be decoded.
        """
        feature = self._of_cameras.get(camera, schema.IMAGES + camera)
        entry = self.episodes[position]
        self.require(feature)
        if feature in entry.videos:
            from sim2real.lerobot.pictures import why_no_video
            from sim2real.lerobot.video import read_video

            video = entry.videos[feature]
            why = why_no_video(video.path)
            if why is not None:
                raise UserError(f"no pictures of the camera {camera}: {why}")
            return read_video(video.path, video.start, entry.length, self.fps)
        from sim2real.lerobot.pictures import in_rows

        return in_rows(self._rows(position), feature, self.root)

    def without_pictures(self, position: int, camera: str) -> str | None:
        """Why the episode at `position` has no pictures of a camera; None when they seem to be there."""
        feature = self._of_cameras[camera]
        video = self.episodes[position].videos.get(feature)
        if video is not None:
            from sim2real.lerobot.pictures import why_no_video

            why = why_no_video(video.path)
            return None if why is None else f"no pictures of the camera {camera}: {why}"
        try:
            stored = feature in self._file(position).names
        except UserError:
            return None  # told already
        return (
            None
            if stored
            else f"no pictures of the camera {camera}: neither a video nor a column of the rows"
        )

    def _rows(self, position: int) -> EpisodeRows:
        entry = self.episodes[position]
        if entry.problem:
            raise UserError(entry.problem)
        return self._file(position).frames(entry.index, entry.length)

    def _file(self, position: int) -> DataFile:
        path = self.episodes[position].data
        if path not in self._files:
            usual = (
                schema.STAMP,
                schema.TIME,
                schema.STATE,
                schema.ACTION,
                schema.EXECUTED,
                schema.ENVIRONMENT,
            )
            judging = [name for name in (*labels.IN_FRAMES, *labels.REWARDS) if name in self.features]
            self._files[path] = DataFile(path, (*usual, *judging), self._stored)
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
