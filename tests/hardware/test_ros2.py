"""The bridge to ROS 2: bytes against rosbags, commands on a stepped clock, an emulated arm and another participant."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from hardware.ros2 import messages as m
from hardware.ros2 import topics
from hardware.ros2.dds import configure
from hardware.ros2.goals import RosGoals
from hardware.ros2.pictures import topic_of
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
NAMES = list(ROBOT.joint_names)
DOMAIN = 77


# Bytes


def examples() -> Iterator[tuple[str, Any]]:
    header = m.Header(m.Time(12, 345), "base_link")
    yield "std_msgs/msg/Bool", m.Bool(True)
    yield "std_msgs/msg/String", m.String("hold")
    layout = m.MultiArrayLayout([m.MultiArrayDimension("x", 2, 2)], 0)
    yield "std_msgs/msg/Float64MultiArray", m.Float64MultiArray(layout, [0.5, -1.25])
    yield "sensor_msgs/msg/JointState", m.JointState(header, ["a", "bcd"], [1.0, 2.0], [0.5, 0.25], [])
    points = [m.JointTrajectoryPoint([1.0, 2.0], [], [], [], m.Duration(1, 5)), m.JointTrajectoryPoint()]
    yield "trajectory_msgs/msg/JointTrajectory", m.JointTrajectory(header, ["a", "bcd"], points)
    status = m.DiagnosticStatus(2, "arm", "fault", "so101", [m.KeyValue("phase", "hold")])
    yield "diagnostic_msgs/msg/DiagnosticArray", m.DiagnosticArray(header, [status])
    transform = m.Transform(m.Vector3(0.1, 0.2, 0.3), m.Quaternion(0.0, 0.0, 0.6, 0.8))
    yield "tf2_msgs/msg/TFMessage", m.TFMessage([m.TransformStamped(header, "tool", transform)])


@pytest.mark.parametrize("kind, message", list(examples()), ids=lambda x: x if isinstance(x, str) else "")
def test_messages_are_byte_for_byte_those_of_rosbags(kind: str, message: Any) -> None:
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    ours = bytes(message.serialize())
    theirs = store.deserialize_cdr(ours, kind)
    assert bytes(store.serialize_cdr(theirs, kind)) == ours
    assert type(message).deserialize(ours) == message


# Commands


class Stepped:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, time: float) -> None:
        self.time = max(self.time, time)


def following() -> tuple[RosGoals, Stepped]:
    clock = Stepped()
    goals = RosGoals(ROBOT, clock, deadline=0.5)
    goals.reset(0)
    goals.send(100.0, {"joint_command": ROBOT.home})
    return goals, clock


def reached(goals: RosGoals) -> np.ndarray:
    """The goal 10 ms from now."""
    answer = goals.poll()
    assert answer is not None and answer.chunk is not None
    assert np.isfinite(answer.chunk.positions).all()
    return answer.chunk.positions[0]


def test_without_commands_the_arm_stays() -> None:
    goals, clock = following()
    np.testing.assert_allclose(reached(goals), ROBOT.home)
    assert goals.poll() is None  # no news
    clock.time += 3
    goals.send(clock.time, {"joint_command": ROBOT.home + 0.1})
    np.testing.assert_allclose(reached(goals), ROBOT.home)


def test_a_set_point_is_gone_to_in_a_straight_line_within_the_limits() -> None:
    goals, clock = following()
    target = ROBOT.home + np.array([0.6, 0.3, 0.0, 0.0, -0.3, 0.1])
    speed = np.array([joint.velocity for joint in ROBOT.joints])
    before, steps = ROBOT.home, []
    for _ in range(300):
        goals.offer_setpoint(target.tolist(), clock.time)
        now = reached(goals)
        steps.append(now - before)
        before, clock.time = now, clock.time + 0.01
    assert (np.abs(steps) <= speed * 0.01 + 1e-9).all()
    np.testing.assert_allclose(before, target)
    way = np.array(steps)[0]
    np.testing.assert_allclose(way / way[0], (target - ROBOT.home) / 0.6, atol=1e-9)


def test_a_stream_that_stops_stops_the_arm() -> None:
    goals, clock = following()
    goals.offer_setpoint((ROBOT.home + 3.0).tolist(), clock.time)
    seen = []
    for _ in range(120):
        clock.time += 0.01
        goals.send(clock.time, {"joint_command": ROBOT.home})
        seen.append(reached(goals)[0])
    speed = np.diff(seen) / 0.01
    assert (speed[:45] > 0.1).all()
    assert (np.abs(speed[52:]) < 1e-9).all()
    assert seen[-1] < ROBOT.home[0] + 2.9


def test_a_trajectory_is_followed_to_its_end_and_held() -> None:
    goals, clock = following()
    points = [(0.5, [0.2, -0.1]), (1.0, [0.2, 0.1])]
    goals.offer_trajectory([NAMES[3], NAMES[0]], points, clock.time)
    path = []
    for _ in range(150):
        goals.send(clock.time, {"joint_command": ROBOT.home})
        path.append(reached(goals))
        clock.time += 0.01
    np.testing.assert_allclose(path[49][[3, 0]], [0.2, -0.1])
    np.testing.assert_allclose(path[74][[3, 0]], [0.2, 0.0], atol=1e-9)
    np.testing.assert_allclose(path[149][[3, 0]], [0.2, 0.1])
    np.testing.assert_allclose(path[149][[1, 2, 4, 5]], ROBOT.home[[1, 2, 4, 5]])
    goals.offer_trajectory(NAMES, [], clock.time)
    np.testing.assert_allclose(reached(goals)[3], 0.2)


@pytest.mark.parametrize(
    "offer, said",
    [
        (lambda g: g.offer_setpoint([0.0] * 5, 100.0), "needs 6 values, got 5"),
        (lambda g: g.offer_setpoint([0.0] * 5 + [float("nan")], 100.0), "not finite"),
        (lambda g: g.offer_trajectory(["elbow"], [(1.0, [0.0])], 100.0), "does not have: 'elbow'"),
        (lambda g: g.offer_trajectory([NAMES[0]], [(1.0, [0.0, 1.0])], 100.0), "2 positions for 1 joints"),
        (lambda g: g.offer_trajectory([NAMES[0]] * 2, [(1.0, [0.0, 1.0])], 100.0), "twice"),
        (lambda g: g.offer_trajectory([], [(1.0, [])], 100.0), "or none"),
        (lambda g: g.offer_trajectory([NAMES[0]], [(1.0, [0.0]), (0.5, [0.0])], 100.0), "follow each other"),
        (lambda g: g.offer_trajectory([NAMES[0]], [(1e9, [0.0])], 100.0), "follow each other"),
        (lambda g: g.offer_trajectory([NAMES[0]], [(1.0, [float("inf")])], 100.0), "not finite"),
        (lambda g: g.offer_trajectory([NAMES[0]], [(1.0, [0.0])], 100.0, age=5.0), "stamped 5.0 s ago"),
        (
            lambda g: g.offer_trajectory([NAMES[0]], [(0.1 * k, [0.0]) for k in range(5000)], 100.0),
            "5000 points",
        ),
    ],
)
def test_what_makes_no_sense_moves_nothing(offer: Callable[[RosGoals], None], said: str) -> None:
    goals, clock = following()
    goals.poll()
    offer(goals)
    assert (goals.taken, goals.refused.count) == (0, 1)
    assert said in goals.refused.last
    goals.send(clock.time + 0.03, {"joint_command": ROBOT.home})
    np.testing.assert_allclose(reached(goals), ROBOT.home)


def test_nothing_is_taken_before_the_arm_follows() -> None:
    goals = RosGoals(ROBOT, Stepped())
    goals.offer_setpoint([0.0] * 6, 100.0)
    goals.offer_trajectory(NAMES, [(1.0, [0.0] * 6)], 100.0)
    assert goals.taken == 0 and goals.refused.count == 2
    assert goals.poll() is None


# The arm


class Other:
    """Another participant: what a ROS node would see and say."""

    def __init__(self) -> None:
        from cyclonedds.core import Policy, Qos
        from cyclonedds.domain import DomainParticipant
        from cyclonedds.pub import DataWriter
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic
        from cyclonedds.util import duration

        configure()
        self.quality = Qos(
            Policy.Reliability.Reliable(duration(milliseconds=100)), Policy.History.KeepLast(10000),
            Policy.Durability.Volatile,
        )  # fmt: skip
        self.participant = DomainParticipant(DOMAIN)

        def topic(name: str, kind: Any) -> Any:
            return Topic(self.participant, f"rt{name}", kind, qos=self.quality)

        self.states = DataReader(self.participant, topic(topics.JOINT_STATES, m.JointState), qos=self.quality)
        self.sent = DataReader(self.participant, topic(topics.EXECUTED, m.JointState), qos=self.quality)
        self.state = DataReader(self.participant, topic(topics.STATE, m.String), qos=self.quality)
        self.tf = DataReader(self.participant, topic(topics.TF, m.TFMessage), qos=self.quality)
        self.pictures = DataReader(
            self.participant, topic(topic_of("front"), m.CompressedImage), qos=self.quality
        )
        self.told = DataReader(
            self.participant, topic(topics.DIAGNOSTICS, m.DiagnosticArray), qos=self.quality
        )
        self.enable = DataWriter(self.participant, topic(topics.ENABLE, m.Bool), qos=self.quality)
        self.estop = DataWriter(self.participant, topic(topics.ESTOP, m.Bool), qos=self.quality)
        self.setpoint = DataWriter(
            self.participant, topic(topics.SETPOINT, m.Float64MultiArray), qos=self.quality
        )
        self.trajectory = DataWriter(
            self.participant, topic(topics.TRAJECTORY, m.JointTrajectory), qos=self.quality
        )
        self.phases: list[str] = []
        self.positions: list[list[float]] = []
        self.stamps: list[float] = []

    def look(self) -> None:
        for sample in self.states.take(1000):
            if sample.sample_info.valid_data:
                assert sample.name == NAMES
                self.positions.append(list(sample.position))
                self.stamps.append(sample.header.stamp.sec + 1e-9 * sample.header.stamp.nanosec)
        for sample in self.state.take(1000):
            if sample.sample_info.valid_data:
                self.phases.append(json.loads(sample.data)["phase"])

    def until(
        self, condition: Callable[[], bool], seconds: float, each: Callable[[], None] = lambda: None
    ) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            each()
            self.look()
            if condition():
                return True
            time.sleep(0.02)
        return False


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Other, Path]]:
    other = Other()
    out = tmp_path / "bridge"
    words = [
        "-m",
        "pipelines",
        "ros2",
        "bridge",
        "--port",
        "emulated",
        "--domain",
        str(DOMAIN),
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        [sys.executable, *words, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ,
    )  # fmt: skip
    try:
        yield process, other, out
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.slow
@pytest.mark.realtime
def test_an_arm_from_enabled_to_let_go(bridge: tuple[subprocess.Popen[str], Other, Path]) -> None:
    process, other, out = bridge
    assert other.until(lambda: "limp" in other.phases, 200), process.stderr and process.poll()
    assert "running" not in other.phases

    def enable() -> None:
        if not other.phases or other.phases[-1] == "limp":
            other.enable.write(m.Bool(True))

    begun = time.time()
    assert other.until(lambda: other.phases[-1] == "running", 60, enable), other.phases
    start = np.array(other.positions[-1])
    goal = start.copy()
    goal[0] += 0.3
    layout = m.MultiArrayLayout([], 0)

    def stream() -> None:
        other.setpoint.write(m.Float64MultiArray(layout, goal.tolist()))

    assert other.until(lambda: abs(other.positions[-1][0] - goal[0]) < 0.05, 20, stream)
    points = [m.JointTrajectoryPoint([float(start[0])], [], [], [], m.Duration(1, 0))]
    other.trajectory.write(m.JointTrajectory(m.Header(), [NAMES[0]], points))
    assert other.until(lambda: abs(other.positions[-1][0] - start[0]) < 0.05, 20)
    # Far outside: the gate lets the arm go to its limits and no further.
    goal[0] = 40.0
    other.until(lambda: False, 3.0, stream)
    other.trajectory.write(m.JointTrajectory(m.Header(), ["no_such_joint"], points))
    other.until(lambda: False, 0.5)
    sent = [s for s in other.sent.take(10000) if s.sample_info.valid_data]
    assert max(abs(s.position[0]) for s in sent) <= max(abs(ROBOT.lower[0]), abs(ROBOT.upper[0])) + 1e-6
    transforms = [s.transforms[0] for s in other.tf.take(10000) if s.sample_info.valid_data]
    norm = [sum(getattr(t.transform.rotation, k) ** 2 for k in "xyzw") for t in transforms]
    assert len(transforms) > 10 and norm == pytest.approx([1.0] * len(norm))
    other.enable.write(m.Bool(False))
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    result = json.loads(output)
    assert (result["final_state"], result["faults"]) == ("limp", [])
    assert result["taken"] > 10 and result["refused_commands"] >= 1
    assert "no_such_joint" in result["last_refusal"]
    assert result["unpublished"] == 0
    assert json.loads((out / "config.json").read_text())["command"] == "ros2 bridge"
    other.look()
    assert np.all(np.diff(other.stamps) > 0)
    shown = [s for s in other.pictures.take(10000) if s.sample_info.valid_data]
    taken = [s.header.stamp.sec + 1e-9 * s.header.stamp.nanosec for s in shown]
    assert len(shown) > 20 and 0.9 * len(shown) < result["pictures"]["front"]
    assert np.all(np.diff(taken) > 0) and begun - 60 < taken[0] < taken[-1] < time.time()
    picture = cv2.imdecode(np.array(shown[-1].data, np.uint8), cv2.IMREAD_COLOR)
    camera = ROBOT.cameras["front"]
    assert shown[-1].format == "jpeg" and picture.shape == (camera.height, camera.width, 3)
    assert picture.std() > 10
    assert len(other.positions) >= 0.98 * result["published"] - 50
    told = [s for s in other.told.take(1000) if s.sample_info.valid_data]
    assert {status.hardware_id for s in told for status in s.status} == {"so101"}


@pytest.mark.slow
@pytest.mark.realtime
def test_the_emergency_stop_is_a_topic(bridge: tuple[subprocess.Popen[str], Other, Path]) -> None:
    process, other, _ = bridge

    def enable() -> None:
        if not other.phases or other.phases[-1] == "limp":
            other.enable.write(m.Bool(True))

    assert other.until(lambda: "running" in other.phases, 220, enable), other.phases
    other.estop.write(m.Bool(True))
    assert other.until(lambda: "estop" in other.phases, 10), other.phases
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors


@pytest.mark.parametrize(
    "words, said",
    [
        (["--domain", "999"], "--domain must be 0 to 232"),
        (["--deadline", "0"], "--deadline must be 0.02 to 10 s"),
        (["--interface", "no_such_interface0"], "DDS cannot be opened on interface no_such_interface0"),
    ],
)
def test_a_wrong_bridge_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "ros2",
        "bridge",
        "--port",
        "emulated",
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.realtime
def test_a_real_ros_node_drives_the_arm(bridge: tuple[subprocess.Popen[str], Other, Path]) -> None:
    """rclpy over Fast DDS, both directions, and not one joint state lost."""
    python = os.environ.get("SIM2REAL_RCLPY")
    if not python:
        pytest.skip(
            "SIM2REAL_RCLPY names no interpreter with rclpy (an environment of its own: pip install ros-rclpy "
            "ros-sensor-msgs ros-trajectory-msgs ros-std-msgs ros-rmw-fastrtps-cpp)"
        )
    process, _, _ = bridge
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CYCLONEDDS_URI")}
    environment |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
    seconds = os.environ.get("SIM2REAL_RCLPY_SECONDS", "5")
    node = subprocess.run(
        [python, str(Path(__file__).with_name("rclpy_node.py")), str(DOMAIN), seconds],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert node.returncode == 0, node.stderr[-2000:]
    found = json.loads(node.stdout.splitlines()[-1])
    assert all(found[what] for what in ("limp", "running", "set-point", "trajectory", "let go")), found
    output, errors = process.communicate(timeout=60)
    result = json.loads(output)
    assert (process.returncode, result["unpublished"], result["refused_commands"]) == (0, 0, 0), errors
    assert result["taken"] > 1
    # What was said before it had been found it cannot have heard.
    assert result["published"] - 300 <= found["heard"] <= result["published"]
