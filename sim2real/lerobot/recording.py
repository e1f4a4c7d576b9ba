"""A robot's episodes as a LeRobot data set: radians in, LeRobot's units on disk.

Each frame has `observation.state` (read before the action of the same frame is sent), `action` (requested),
`action.executed` (really sent), `time` (true time of capture) and, where given,
`observation.environment_state`, pictures and further columns. Arm joints are in LeRobot's degrees, the gripper
in 0…100, both by the calibration that is saved beside the data.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.calibration import Calibration, Units
from sim2real.camera import CameraModel, save_cameras
from sim2real.episode import Episode
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import schema
from sim2real.lerobot.files import read_json
from sim2real.lerobot.journal import FolderLock, Journal, JournalHeader, Recovered, recover_locked
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.sources import NOTE, compare_sources
from sim2real.lerobot.video import VideoEncoder, plain_video, video_info
from sim2real.lerobot.writer import PART, LeRobotWriter, VideoFile
from sim2real.robot import Robot

UNITS: Units = "degrees"


class EpisodeRecorder:
    """Collects frames and writes an episode when it is finished. One at a time.

    `environment` gives the size of each observation that goes into `observation.environment_state`, in
    order: {"goal": 3, "object.cube.age": 1}. `extra` are further features, stored as they are. `cameras` are those
    whose pictures are kept; `notes` go into the data set's notes (a folder takes only recordings with the same).
    Finished episodes survive whatever happens to the process.

    With `task` the episode under way does, too, but for its last moments (see `journal`): what a recorder left
    unfinished in the folder is finished first (`recovered`), and the folder is locked. A disk that refuses ends
    the recording of the episode under way, not the calls: `problem` then says so, and `save` raises.

    Without `executed` the data set does not say what was really sent: nobody knows.

    Raises UserError as `LeRobotWriter` does, and when the folder's calibration is another arm's, or its cameras (in
    `notes`, see `sources.NOTE`) are swapped.
    """

    def __init__(
        self,
        root: str | Path,
        robot: Robot,
        calibration: Calibration,
        *,
        fps: int | None = None,
        environment: Mapping[str, int] | None = None,
        extra: Mapping[str, FeatureSpec] | None = None,
        cameras: Mapping[str, CameraModel] | None = None,
        notes: Mapping[str, Any] | None = None,
        task: str | None = None,
        executed: bool = True,
    ) -> None:
        self.root = Path(root)
        self.task = task
        self.problem = ""
        self.recovered: list[Recovered] = []
        self._lock: FolderLock | None = None
        if task is not None:
            self._take_over()
        self.robot = robot
        self.calibration = calibration
        self.fps = robot.policy_rate if fps is None else int(fps)
        self.environment = dict(environment or {})
        self.extra = dict(extra or {})
        self.cameras = dict(cameras or {})
        joints = FeatureSpec("float32", (robot.n,), tuple(f"{name}.pos" for name in robot.joint_names))
        features = {
            schema.STATE: joints,
            schema.ACTION: joints,
            schema.EXECUTED: joints,
            schema.TIME: FeatureSpec("float64", (1,)),
            schema.SUCCESS: FeatureSpec("bool", (1,)),
        }
        if self.environment:
            names = [
                name for key, size in self.environment.items() for name in schema.component_names(key, size)
            ]
            features[schema.ENVIRONMENT] = FeatureSpec("float32", (len(names),), tuple(names))
        for name, camera in self.cameras.items():
            features[schema.IMAGES + name] = FeatureSpec(
                "video", (camera.height, camera.width, 3), ("height", "width", "channels")
            )
            features[schema.capture_time(name)] = FeatureSpec("float64", (1,))
        features |= self.extra
        self.executed = executed
        if not executed:
            del features[schema.EXECUTED]
        self._check_calibration()
        self._check_sources(notes or {})
        self.writer = LeRobotWriter(
            self.root,
            self.fps,
            features,
            robot_type=f"{robot.name}_follower",
            video_info={
                schema.IMAGES + name: video_info(camera.width, camera.height, self.fps)
                for name, camera in self.cameras.items()
            },
            notes={"format": 1, "robot": robot.name, "units": UNITS, **(notes or {})},
        )
        self._rows: dict[str, list[NDArray[Any]]] = {}
        self._journal: Journal | None = None
        self._recording = ""
        self._encoders: dict[str, VideoEncoder] = {}
        self._last: dict[str, NDArray[np.uint8]] = {}
        self.missing_images = 0

    @property
    def frames(self) -> int:
        """Frames of the episode under way."""
        return len(self._rows.get(schema.TIME, []))

    def in_units(self, position: ArrayLike) -> NDArray[np.float64]:
        """Joint vectors (…, n) rad as they are stored."""
        return self.calibration.from_radians(position, UNITS)

    def add(
        self,
        *,
        time: float,
        state: ArrayLike,
        action: ArrayLike,
        executed: ArrayLike,
        environment: Mapping[str, ArrayLike] | None = None,
        extra: Mapping[str, ArrayLike] | None = None,
        images: Mapping[str, NDArray[np.uint8] | None] | None = None,
        image_times: Mapping[str, float] | None = None,
    ) -> None:
        """Add one frame: `time` s, joint vectors (n,) rad, pictures (H, W, 3) uint8 RGB and when they were taken.

        A picture that is missing is replaced by the last one (black before the first) and counted.
        """
        if self.problem:
            return
        observed = environment or {}
        row: dict[str, ArrayLike] = {
            schema.TIME: time,
            schema.STATE: self.calibration.from_radians(state, UNITS),
            schema.ACTION: self.calibration.from_radians(action, UNITS),
            schema.EXECUTED: self.calibration.from_radians(executed, UNITS),
            **(extra or {}),
        }
        if not self.executed:
            del row[schema.EXECUTED]
        if self.environment:
            parts = [
                np.asarray(observed.get(key, np.full(size, np.nan)), dtype=np.float64).reshape(size)
                for key, size in self.environment.items()
            ]
            row[schema.ENVIRONMENT] = np.concatenate(parts)
        for name in self.cameras:
            row[schema.capture_time(name)] = (image_times or {}).get(name, np.nan)
        try:
            self._write(row, images or {})
        except OSError as error:
            self._give_up(error)
            return
        for key, value in row.items():
            self._rows.setdefault(key, []).append(np.asarray(value))

    def _write(self, row: Mapping[str, ArrayLike], images: Mapping[str, NDArray[np.uint8] | None]) -> None:
        """The pictures to their videos, then the row to the journal: no row there without its pictures."""
        if self.task is not None and self._journal is None:
            self._journal = self._begin_journal(tuple(row))
        for name, camera in self.cameras.items():
            image = images.get(name)
            if image is None:
                self.missing_images += 1
                image = self._last.get(name, np.zeros((camera.height, camera.width, 3), np.uint8))
            self._last[name] = image
            self._encoder(name, camera).add(image)
        if self._journal is not None:
            self._journal.add(row)

    def save(self, task: str, success: bool | None, ended: str = "") -> int:
        """Finish the episode; returns its index. `success` is None when nobody judged it; `ended` as in the reader.

        Raises Sim2RealError when the disk refuses; what the journal has of the episode stays there.
        """
        if self.problem:
            self._clear()
            problem, self.problem = self.problem, ""
            raise Sim2RealError(problem)
        if not self.frames:
            raise UserError("an episode without frames cannot be saved")
        try:
            return self._save(task, success, ended)
        except (OSError, Sim2RealError) as error:
            if self._journal is None:
                raise
            self._give_up(error)
            return self.save(task, success)
        finally:
            self._clear()

    def _save(self, task: str, success: bool | None, ended: str) -> int:
        columns = {name: np.stack(values) for name, values in self._rows.items()}
        columns[schema.SUCCESS] = np.zeros(self.frames, dtype=bool)
        columns[schema.SUCCESS][-1] = success is True
        videos = {}
        while self._encoders:
            name, encoder = self._encoders.popitem()
            path, stats = encoder.path, encoder.finish()
            if self._journal is not None:
                path = self._part(name)
                plain_video(encoder.path, path, self.frames)
            assert stats is not None
            videos[schema.IMAGES + name] = VideoFile(path, stats)
        if self.writer.episodes == 0:
            self._write_beside()
        index = self.writer.append(
            columns, task=task, success=success, videos=videos, ended=ended, recording=self._recording
        )
        if self._journal is not None:
            self._journal.remove()
            self._journal = None
        return index

    def discard(self) -> None:
        """Drop the episode under way."""
        for encoder in self._encoders.values():
            encoder.abort()
        self._encoders = {}
        if self._journal is not None:
            self._journal.remove()
            self._journal = None
        self.problem = ""
        self._clear()

    def close(self) -> None:
        """Drop what is not finished and bring the statistics up to date."""
        self.discard()
        try:
            self.writer.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> "EpisodeRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_over(self) -> None:
        """Lock the folder and finish what a recorder that died has left in it."""
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is a file; give a folder for the data set")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.root} cannot be made: {error.strerror}") from None
        self._lock = FolderLock(self.root)
        self.recovered = recover_locked(self.root)

    def _begin_journal(self, columns: tuple[str, ...]) -> Journal:
        self._write_beside()
        writer, self._recording = self.writer, token_hex(8)
        header = JournalHeader(
            recording=self._recording,
            fps=self.fps,
            robot_type=writer.robot_type,
            task=self.task or "",
            features=writer.features,
            columns=columns,
            video_info=writer.video_info,
            notes=writer.notes,
        )
        return Journal(self.root, header)

    def _give_up(self, error: Exception) -> None:
        """The disk refuses: stop writing the episode, and leave what is there of it."""
        for encoder in self._encoders.values():
            encoder.leave()
        self._encoders = {}
        seconds = self.frames / self.fps
        where = "what was recorded of this episode is lost"
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            where = (
                "the rest of this episode will be missing; what is there is recovered by the next recording "
                f"into the folder, or by `sim2real data {self.root} --recover`"
            )
        self.problem = f"cannot write to {self.root} after {seconds:.1f} s of an episode ({error}): {where}"

    def _clear(self) -> None:
        self._rows = {}
        self._last = {}
        self._recording = ""

    def _part(self, camera: str) -> Path:
        return self.root / f".{camera}.mp4{PART}"

    def _encoder(self, name: str, camera: CameraModel) -> VideoEncoder:
        if name not in self._encoders:
            self.root.mkdir(parents=True, exist_ok=True)
            path = self._part(name) if self._journal is None else self._journal.video(name)
            fragments = self._journal is not None
            self._encoders[name] = VideoEncoder(
                path, camera.width, camera.height, self.fps, fragments=fragments
            )
        return self._encoders[name]

    def _check_calibration(self) -> None:
        path = self.root / schema.CALIBRATION_FILE
        if path.exists():
            there = Calibration.load(path, self.robot)
            if there.table() != self.calibration.table():
                raise UserError(
                    f"{self.root} was recorded with another calibration ({path}); "
                    "give another folder, or the calibration it was recorded with"
                )

    def _check_sources(self, notes: Mapping[str, Any]) -> None:
        path = self.root / schema.NOTES_FILE
        if NOTE in notes and path.is_file():
            compare_sources(self.root, read_json(path).get(NOTE), notes[NOTE])

    def _write_beside(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.calibration.save(self.root / schema.CALIBRATION_FILE)
        if self.cameras:
            save_cameras(self.cameras, self.root / "cameras.toml")


def write_episodes(
    root: str | Path,
    robot: Robot,
    calibration: Calibration,
    episodes: Iterable[Episode],
    *,
    executed: bool = True,
) -> LeRobotDataset:
    """Store episodes (all with the same features) as a new data set, or add them to one; without what was really sent
    where that is not known."""
    recorder: EpisodeRecorder | None = None
    for episode in episodes:
        if recorder is None:
            recorder = EpisodeRecorder(
                root,
                robot,
                calibration,
                fps=round(episode.fps),
                environment={name: values.shape[1] for name, values in episode.features.items()},
                executed=executed,
            )
        for i in range(len(episode)):
            recorder.add(
                time=float(episode.time[i]),
                state=episode.state[i],
                action=episode.action[i],
                executed=episode.executed[i],
                environment={name: values[i] for name, values in episode.features.items()},
            )
        recorder.save(episode.task, episode.success)
    if recorder is None:
        raise UserError("there are no episodes to write")
    recorder.close()
    return LeRobotDataset.open(root)
