"""A LeRobot data set as a bag: joint states, commands, what was sent, observations and pictures, episode by episode."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.ros2 import topics
from pipelines.ros2.bags import rosbags, typestore
from sim2real.episode import Episode
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import LeRobotDataset, schema
from sim2real.robot import Robot

EPOCH = 946_684_800
"""2000-01-01, s: recordings do not tell the hour, and 0 means "now" in ROS."""
PAUSE = 2.0
"""Between episodes, s; readers that know no episodes tell them apart by it."""
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Written:
    """What went into a bag."""

    path: Path
    episodes: int
    messages: Mapping[str, int]
    """By topic."""
    seconds: float


def write_bag(
    data: str | Path, out: str | Path, robot: Robot, *, episodes: str | None = None, pictures: bool = True
) -> Written:
    """Write episodes of a data set as a bag: one file where `out` ends with .mcap, else a folder like those of ROS.

    Raises UserError for a data set that cannot be read and an `out` that exists, Sim2RealError when the disk refuses.
    """
    out = Path(out)
    if os.path.lexists(out):
        raise UserError(f"{out} exists; it is not overwritten: name another --out")
    dataset = LeRobotDataset.open(data)
    convert = dataset.converter(robot)
    positions = dataset.select(episodes)
    library = rosbags()
    part = out.parent / f".{out.name}.{token_hex(4)}.part"
    bag = _Bag(typestore())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        plugin = library.rosbag2.StoragePlugin.MCAP
        with library.rosbag2.Writer(part, version=9, storage_plugin=plugin) as writer:
            bag.writer = writer
            start = float(EPOCH)
            for position in positions:
                episode = dataset.episode(position, robot, convert)
                about = {
                    "calibration": convert.calibration.table(),
                    "index": dataset.episodes[position].index,
                }
                cameras = dataset.cameras if pictures else ()
                frames = {name: dataset.frames(position, name) for name in cameras}
                bag.add(episode, robot, start, about, frames, schema.EXECUTED in dataset.features)
                start = np.ceil(start + episode.time[-1] + PAUSE)
        if out.suffix == ".mcap":
            next(part.glob("*.mcap")).rename(out)
        else:
            _name_after(part, out)
            part.rename(out)
    except OSError as error:
        raise Sim2RealError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Written(out, len(positions), bag.counts, bag.seconds)


def _name_after(part: Path, out: Path) -> None:
    """The file in a bag's folder has the folder's name, and metadata.yaml says so."""
    file = next(part.glob("*.mcap"))
    metadata = part / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace(file.name, f"{out.name}.mcap"))
    file.rename(part / f"{out.name}.mcap")


class _Bag:
    """Messages in the making."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.writer: Any = None
        self.connections: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.seconds = 0.0

    def add(
        self,
        episode: Episode,
        robot: Robot,
        start: float,
        about: Mapping[str, Any],
        frames: Mapping[str, Iterator[NDArray[np.uint8]]],
        sent: bool,
    ) -> None:
        """One episode whose first frame is at `start`, s; `sent`: the recording knows what was really sent."""
        names, period = list(robot.joint_names), 1.0 / episode.fps
        begin = {"event": "begin", "task": episode.task, "robot": robot.name, "fps": episode.fps, **about}
        first = _nanoseconds(start + episode.time[0])
        self.text(topics.EPISODE, first, begin)
        for i, time in enumerate(episode.time):
            at = _nanoseconds(start + time)
            self.joints(topics.JOINT_STATES, at, names, episode.state[i])
            for name, values in episode.features.items():
                self.array(topics.OBSERVATION + name.replace(".", "/"), at, values[i])
            for camera, pictures in frames.items():
                picture = next(pictures, None)
                if picture is not None:
                    self.picture(camera, at, picture)
            self.trajectory(at, names, episode.action[i], period)
            if sent:
                self.joints(topics.EXECUTED, at, names, episode.executed[i])
        self.text(topics.EPISODE, at, {"event": "end", "success": episode.success})
        self.seconds += float(episode.time[-1] - episode.time[0])

    def joints(self, topic: str, at: int, names: list[str], position: NDArray[np.float64]) -> None:
        nothing = np.zeros(0)
        position = np.ascontiguousarray(position, np.float64)
        self.write(
            topic, "sensor_msgs/msg/JointState", at, self.header(at), names, position, nothing, nothing
        )

    def trajectory(self, at: int, names: list[str], goal: NDArray[np.float64], period: float) -> None:
        nothing = np.zeros(0)
        due = self.make("builtin_interfaces/msg/Duration", 0, round(1e9 * period))
        point = self.make(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            np.ascontiguousarray(goal),
            nothing,
            nothing,
            nothing,
            due,
        )
        self.write(
            topics.TRAJECTORY, "trajectory_msgs/msg/JointTrajectory", at, self.header(at), names, [point]
        )

    def array(self, topic: str, at: int, values: NDArray[np.float64]) -> None:
        layout = self.make("std_msgs/msg/MultiArrayLayout", [], 0)
        self.write(
            topic, "std_msgs/msg/Float64MultiArray", at, layout, np.ascontiguousarray(values, np.float64)
        )

    def text(self, topic: str, at: int, content: Mapping[str, Any]) -> None:
        self.write(topic, "std_msgs/msg/String", at, json.dumps(content))

    def picture(self, camera: str, at: int, rgb: NDArray[np.uint8]) -> None:
        import cv2

        done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise Sim2RealError(f"a picture of {camera} could not be compressed")
        topic = topics.CAMERA.format(name=camera)
        self.write(
            topic, "sensor_msgs/msg/CompressedImage", at, self.header(at, camera), "jpeg", data.ravel()
        )

    def header(self, at: int, frame: str = "") -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", *divmod(at, 1_000_000_000))
        return self.make("std_msgs/msg/Header", stamp, frame)

    def make(self, kind: str, *fields: Any) -> Any:
        return self.store.types[kind](*fields)

    def write(self, topic: str, kind: str, at: int, *fields: Any) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.store)
        message = self.store.serialize_cdr(self.make(kind, *fields), kind)
        self.writer.write(self.connections[topic], at, message)
        self.counts[topic] = self.counts.get(topic, 0) + 1


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000
