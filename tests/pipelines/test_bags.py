"""ROS 2 bags: a recording there and back, bags of others, and what is said of those that are none."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pipelines.cli import main
from pipelines.ros2.convert import bag_to_dataset
from pipelines.ros2.read_bag import read_bag
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.recording import write_episodes
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
NAMES = list(ROBOT.joint_names)
STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types


def an_episode(seed: int, frames: int = 60, fps: float = 30, success: bool | None = True) -> Episode:
    """A slow swing; joints trail their commands by three frames."""
    t = np.arange(frames + 3) / fps
    phase = np.random.default_rng(seed).uniform(0, 6, ROBOT.n)
    wave = ROBOT.home + 0.15 * np.sin(2 * t[:, None] + phase)
    return Episode(
        time=t[:frames], state=wave[:frames], action=wave[3:], executed=wave[3:] + 0.01, fps=fps, robot="so101",
        task="swing", success=success, features={"goal": np.tile([0.1, 0.2, float(seed)], (frames, 1))},
    )  # fmt: skip


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "swing"
    calibration = Calibration.nominal(ROBOT)
    write_episodes(
        root, ROBOT, calibration, [an_episode(0), an_episode(1, success=False), an_episode(2, success=None)]
    )
    return root


@pytest.mark.parametrize("name", ["swing.mcap", "swing_bag"])
def test_a_recording_there_and_back(
    recording: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, again = tmp_path / name, tmp_path / "again"
    assert main(["ros2", "bag", str(recording), "--out", str(bag), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["messages"]["/joint_states"] == 180 and told["episodes"] == 3
    assert bag.is_file() == name.endswith(".mcap")
    assert main(["ros2", "bag", str(bag), "--out", str(again)]) == 0
    before, after = LeRobotDataset.open(recording), LeRobotDataset.open(again)
    assert len(after) == 3 and after.fps == 30
    assert after.calibration(ROBOT).table() == before.calibration(ROBOT).table()  # type: ignore[union-attr]
    for position in range(3):
        one, two = before.episode(position, ROBOT), after.episode(position, ROBOT)
        for key in ("time", "state", "action", "executed"):
            np.testing.assert_allclose(getattr(two, key), getattr(one, key), atol=2e-6)
        np.testing.assert_allclose(two.features["goal"], one.features["goal"], atol=1e-6)
        assert (two.success, two.task) == (one.success, one.task)
    assert not list(tmp_path.glob(".*.part"))


def test_what_a_bag_says_to_others(recording: Path, tmp_path: Path) -> None:
    """By the conventions: names, radians, one stamp per frame, and nothing but standard types."""
    assert main(["ros2", "bag", str(recording), "--episodes", "0", "--out", str(tmp_path / "b.mcap")]) == 0
    source = LeRobotDataset.open(recording).episode(0, ROBOT)
    with AnyReader([tmp_path / "b.mcap"]) as reader:
        assert {info.msgtype for info in reader.topics.values()} == {
            "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray",
            "std_msgs/msg/String",
        }  # fmt: skip
        read = [(c.topic, at, reader.deserialize(raw, c.msgtype)) for c, at, raw in reader.messages()]
    states = [(at, message) for topic, at, message in read if topic == "/joint_states"]
    assert [list(message.name) for _, message in states] == [NAMES] * 60
    np.testing.assert_allclose([message.position for _, message in states], source.state)
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in states]
    assert stamps == [at for at, _ in states]
    goals = [m for topic, _, m in read if topic == "/joint_trajectory_controller/joint_trajectory"]
    np.testing.assert_allclose([goal.points[0].positions for goal in goals], source.action)
    assert goals[0].points[0].time_from_start.nanosec == pytest.approx(1e9 / 30, abs=1)


def test_a_recording_that_does_not_know_what_was_sent(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a", ROBOT, Calibration.nominal(ROBOT), [an_episode(0)], executed=False)
    assert main(["ros2", "bag", str(tmp_path / "a"), "--out", str(tmp_path / "a.mcap")]) == 0
    assert main(["ros2", "bag", str(tmp_path / "a.mcap"), "--out", str(tmp_path / "b")]) == 0
    assert "action.executed" not in LeRobotDataset.open(tmp_path / "b").features


# Bags of others


def a_bag(
    path: Path, fill: Callable[[Any, Callable[..., None]], None], plugin: Any = StoragePlugin.MCAP
) -> Path:
    """A bag whose messages `fill` writes with put(topic, kind, seconds, message)."""
    connections: dict[str, Any] = {}
    with Writer(path, version=9, storage_plugin=plugin) as writer:

        def put(topic: str, kind: str, seconds: float, message: Any) -> None:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], round(seconds * 1e9), STORE.serialize_cdr(message, kind))

        fill(writer, put)
    return path


def state(names: Sequence[str], position: Sequence[float], stamp: float = 0.0) -> Any:
    whole = int(stamp)
    time = TYPES["builtin_interfaces/msg/Time"](whole, round((stamp - whole) * 1e9))
    header = TYPES["std_msgs/msg/Header"](time, "")
    return TYPES["sensor_msgs/msg/JointState"](
        header, list(names), np.array(position, float), np.zeros(0), np.zeros(0)
    )


def array(values: Sequence[float]) -> Any:
    layout = TYPES["std_msgs/msg/MultiArrayLayout"]([], 0)
    return TYPES["std_msgs/msg/Float64MultiArray"](layout, np.array(values, float))


def trajectory(names: Sequence[str], points: Sequence[tuple[float, Sequence[float]]]) -> Any:
    nothing = np.zeros(0)
    rows = [
        TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
            np.array(goal, float), nothing, nothing, nothing,
            TYPES["builtin_interfaces/msg/Duration"](int(after), round((after % 1) * 1e9)),
        )
        for after, goal in points
    ]  # fmt: skip
    header = TYPES["std_msgs/msg/Header"](TYPES["builtin_interfaces/msg/Time"](0, 0), "")
    return TYPES["trajectory_msgs/msg/JointTrajectory"](header, list(names), rows)


JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_of_another_system(tmp_path: Path, plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """100 Hz states with joints in another order and one more, commands as arrays at 50 Hz, a pause between two runs,
    no stamps, a camera."""
    names = [*reversed(NAMES), "wheel"]

    def fill(writer: Any, put: Callable[..., None]) -> None:
        for start in (100.0, 110.0):
            for k in range(200):
                at = start + 0.01 * k
                put(
                    "/joint_states", JOINT_STATE, at, state(names, [*(0.1 + 0.001 * k + np.arange(6.0)), 9.0])
                )
                if k % 2 == 0:
                    put("/arm/commands", ARRAY, at + 0.003, array([k / 100.0] * 6))
        put("/camera/image", "std_msgs/msg/String", 111.0, TYPES["std_msgs/msg/String"]("x"))

    bag = a_bag(tmp_path / "theirs", fill, plugin)
    content = read_bag(bag)
    assert [len(episode) for episode in content.episodes] == [200, 200]
    one = content.episodes[0]
    assert one.fps == 100
    np.testing.assert_allclose(one.state[7], 0.107 + np.arange(6.0)[::-1])
    # The command that was sent before the next state: at even frames a new one, at odd ones that of before.
    np.testing.assert_allclose(one.action[:6, 0], [0, 0, 0.02, 0.02, 0.04, 0.04])
    assert any("taken for so101" in remark for remark in content.remarks)
    slower = read_bag(bag, fps=25).episodes[0]
    assert (slower.fps, len(slower)) == (25, 50)
    np.testing.assert_allclose(np.diff(slower.time), 0.04, atol=1e-6)
    assert main(["ros2", "bag", str(bag), "--fps", "25", "--out", str(tmp_path / "d")]) == 0
    assert len(LeRobotDataset.open(tmp_path / "d")) == 2


def test_a_trajectory_is_followed(tmp_path: Path) -> None:
    def fill(writer: Any, put: Callable[..., None]) -> None:
        put("/c", TRAJECTORY, 9.99, trajectory(NAMES, [(0.01, [0.0] * 6), (1.01, [1.0] * 6)]))
        for k in range(50):
            put("/joint_states", JOINT_STATE, 10 + 0.05 * k, state(NAMES, [0.0] * 6))

    found = read_bag(a_bag(tmp_path / "t", fill)).episodes[0]
    wanted = np.clip(0.05 * (np.arange(50) + 1), 0, 1)
    np.testing.assert_allclose(found.action[:, 0], wanted, atol=1e-9)


@pytest.mark.parametrize(
    "case, said",
    [
        ("no states", "has no joint states"),
        ("no commands", "has no commands"),
        ("two commands", "name one with --commands (/a/commands, /b/commands)"),
        ("degrees", "no angles in radians"),
        ("other joints", "it lacks shoulder_pan"),
        ("short commands", "no command for all joints"),
        ("late commands", "no stretch of 10"),
    ],
)
def test_a_bag_that_will_not_do(
    case: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = 90.0 if case == "degrees" else 0.1
    names = [f"j{k}" for k in range(6)] if case == "other joints" else NAMES

    def fill(writer: Any, put: Callable[..., None]) -> None:
        for k in range(30):
            at = 5 + k / 30
            if case != "no states":
                put("/joint_states", JOINT_STATE, at, state(names, [scale] * 6))
            if case != "no commands":
                late = 60.0 if case == "late commands" else 0.0
                put("/a/commands", ARRAY, at + late, array([0.1] * (3 if case == "short commands" else 6)))
            if case == "two commands":
                put("/b/commands", ARRAY, at, array([0.1] * 6))

    bag = a_bag(tmp_path / "b", fill)
    assert main(["ros2", "bag", str(bag), "--out", str(tmp_path / "d")]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "d").exists()


def test_topics_can_be_named(tmp_path: Path) -> None:
    def fill(writer: Any, put: Callable[..., None]) -> None:
        for k in range(30):
            put("/left/joint_states", JOINT_STATE, 5 + k / 30, state(NAMES, [0.1] * 6))
            put("/leader/joint_states", JOINT_STATE, 5 + k / 30, state(NAMES, [0.2] * 6))

    bag = a_bag(tmp_path / "b", fill)
    with pytest.raises(UserError, match="several topics of joint states"):
        read_bag(bag)
    found = read_bag(bag, states="left/joint_states", commands="/leader/joint_states").episodes[0]
    assert found.state[3, 0] == 0.1 and found.action[3, 0] == 0.2
    with pytest.raises(UserError, match="did you mean '/left/joint_states'"):
        read_bag(bag, states="/lef/joint_states")


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "missing"])
def test_what_is_no_bag(
    damage: str, tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.mcap"
    if damage == "cut":
        assert main(["ros2", "bag", str(recording), "--out", str(path)]) == 0
        path.write_bytes(path.read_bytes()[:-200])
    elif damage != "missing":
        path.write_bytes(b"hello there, this is no bag" if damage == "other" else b"")
    capsys.readouterr()
    for words in (["ros2", "bag", str(path), "--out", str(tmp_path / "d")], ["data", str(path)]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "bag" in error and str(path) in error and "Traceback" not in error
    assert not (tmp_path / "d").exists()


def test_nothing_is_overwritten(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "a.mcap"
    bag.write_text("mine")
    assert main(["ros2", "bag", str(recording), "--out", str(bag)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert bag.read_text() == "mine"
    with pytest.raises(UserError, match="not overwritten"):
        bag_to_dataset(bag, recording)
    assert main(["ros2", "bag", str(recording), "--fps", "10", "--out", str(tmp_path / "b.mcap")]) == 2
    assert "--fps reads a bag" in capsys.readouterr().err


def test_data_and_replay_read_bags(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "swing.mcap"
    assert main(["ros2", "bag", str(recording), "--out", str(bag)]) == 0
    capsys.readouterr()
    assert main(["data", str(bag), "--json"]) == 0
    of_bag = json.loads(capsys.readouterr().out)
    assert main(["data", str(recording), "--json"]) == 0
    of_data = json.loads(capsys.readouterr().out)
    assert of_bag["joints"] == of_data["joints"]
    assert main(["replay", "--data", str(bag), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert main(["replay", "--data", str(recording), "--json"]) == 0
    assert replayed["mean_deg"] == pytest.approx(json.loads(capsys.readouterr().out)["mean_deg"], abs=1e-4)


def test_without_rosbags_it_says_how_to_get_it(
    recording: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    assert main(["ros2", "bag", str(recording), "--out", str(tmp_path / "a.mcap")]) == 2
    assert "pip install 'sim2real-transfer[ros2]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
