"""A robot's episodes as a LeRobot data set: radians in, LeRobot's units on disk.

Each frame has `observation.state` (read before the action of the same frame is sent), `action` (requested),
`action.executed` (really sent), `time` (true time of capture) and, where given,
`observation.environment_state`, pictures and further columns. Arm joints are in LeRobot's degrees, the gripper
in 0…100, both by the calibration that is saved beside the data.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.calibration import Calibration, Units
from sim2real.camera import CameraModel, save_cameras
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.video import VideoEncoder, video_info
from sim2real.lerobot.writer import PART, LeRobotWriter, VideoFile
from sim2real.robot import Robot

UNITS: Units = "degrees"


class EpisodeRecorder:
    """Collects frames and writes an episode when it is finished. One at a time.

    `environment` gives the size of each observation that goes into `observation.environment_state`, in
    order: {"goal": 3, "cube_age": 1}. `extra` are further features, stored as they are. `cameras` are those
    whose pictures are kept. Finished episodes survive whatever happens to the process. Raises UserError as
    `LeRobotWriter` does, and when the folder's calibration is another arm's.
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
    ) -> None:
        self.root = Path(root)
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
        features |= self.extra
        self._check_calibration()
        self.writer = LeRobotWriter(
            self.root,
            self.fps,
            features,
            robot_type=f"{robot.name}_follower",
            video_info={
                schema.IMAGES + name: video_info(camera.width, camera.height, self.fps)
                for name, camera in self.cameras.items()
            },
            notes={"format": 1, "robot": robot.name, "units": UNITS},
        )
        self._rows: dict[str, list[NDArray[Any]]] = {}
        self._encoders: dict[str, VideoEncoder] = {}
        self._last: dict[str, NDArray[np.uint8]] = {}
        self.missing_images = 0

    @property
    def frames(self) -> int:
        """Frames of the episode under way."""
        return len(self._rows.get(schema.TIME, []))

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
    ) -> None:
        """Add one frame: `time` s, joint vectors (n,) rad, pictures (H, W, 3) uint8 RGB.

        A picture that is missing is replaced by the last one (black before the first) and counted.
        """
        observed = environment or {}
        row: dict[str, ArrayLike] = {
            schema.TIME: time,
            schema.STATE: self.calibration.from_radians(state, UNITS),
            schema.ACTION: self.calibration.from_radians(action, UNITS),
            schema.EXECUTED: self.calibration.from_radians(executed, UNITS),
            **(extra or {}),
        }
        if self.environment:
            parts = [
                np.asarray(observed.get(key, np.full(size, np.nan)), dtype=np.float64).reshape(size)
                for key, size in self.environment.items()
            ]
            row[schema.ENVIRONMENT] = np.concatenate(parts)
        for name, value in row.items():
            self._rows.setdefault(name, []).append(np.asarray(value))
        for name, camera in self.cameras.items():
            image = (images or {}).get(name)
            if image is None:
                self.missing_images += 1
                image = self._last.get(name, np.zeros((camera.height, camera.width, 3), np.uint8))
            self._last[name] = image
            self._encoder(name, camera).add(image)

    def save(self, task: str, success: bool | None) -> int:
        """Finish the episode; returns its index. `success` is None when nobody judged it."""
        if not self.frames:
            raise UserError("an episode without frames cannot be saved")
        columns = {name: np.stack(values) for name, values in self._rows.items()}
        columns[schema.SUCCESS] = np.zeros(self.frames, dtype=bool)
        columns[schema.SUCCESS][-1] = success is True
        videos = {}
        for name, encoder in self._encoders.items():
            stats = encoder.finish()
            assert stats is not None
            videos[schema.IMAGES + name] = VideoFile(encoder.path, stats)
        self._encoders = {}
        if self.writer.episodes == 0:
            self._write_beside()
        try:
            return self.writer.append(columns, task=task, success=success, videos=videos)
        finally:
            self._clear()

    def discard(self) -> None:
        """Drop the episode under way."""
        for encoder in self._encoders.values():
            encoder.abort()
        self._encoders = {}
        self._clear()

    def close(self) -> None:
        """Drop what is not finished and bring the statistics up to date."""
        self.discard()
        self.writer.close()

    def __enter__(self) -> "EpisodeRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clear(self) -> None:
        self._rows = {}
        self._last = {}

    def _encoder(self, name: str, camera: CameraModel) -> VideoEncoder:
        if name not in self._encoders:
            self.root.mkdir(parents=True, exist_ok=True)
            path = self.root / f".{name}.mp4{PART}"
            self._encoders[name] = VideoEncoder(path, camera.width, camera.height, self.fps)
        return self._encoders[name]

    def _check_calibration(self) -> None:
        path = self.root / schema.CALIBRATION_FILE
        if (self.root / "meta" / "info.json").exists() and path.exists():
            there = Calibration.load(path, self.robot)
            if there.table() != self.calibration.table():
                raise UserError(
                    f"{self.root} was recorded with another calibration ({path}); "
                    "give another folder, or the calibration it was recorded with"
                )

    def _write_beside(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.calibration.save(self.root / schema.CALIBRATION_FILE)
        if self.cameras:
            save_cameras(self.cameras, self.root / "cameras.toml")


def write_episodes(
    root: str | Path, robot: Robot, calibration: Calibration, episodes: Iterable[Episode]
) -> LeRobotDataset:
    """Store episodes (all with the same features) as a new data set, or add them to one."""
    recorder: EpisodeRecorder | None = None
    for episode in episodes:
        if recorder is None:
            recorder = EpisodeRecorder(
                root,
                robot,
                calibration,
                fps=round(episode.fps),
                environment={name: values.shape[1] for name, values in episode.features.items()},
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
