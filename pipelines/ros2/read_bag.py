"""Episodes from a bag: joint states and commands of one arm, from this project or any other ROS 2 system."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.ros2 import topics
from pipelines.ros2.bags import rosbags, typestore
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError, nearest
from sim2real.joint_names import joint_of
from sim2real.robot import Robot
from sim2real.text import printable

Array = NDArray[np.float64]

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
COMMAND_WORDS = ("command", "cmd", "goal", "target", "action", "desired", "reference", "executed", "setpoint")
"""In a topic's name: it holds what joints shall do, not where they are."""

GAP = 1.0
"""s without joint states after which another episode begins, where the bag does not say."""
SHORTEST = 10
"""Frames of an episode; what is shorter is left out."""
MOST_RADIANS = 30.0
"""No arm's joint is turned so far: larger angles are degrees or ticks."""
MOST_APART = 0.5
"""s between a message's own stamp and its arrival, beyond which stamps are taken for another clock's."""


@dataclass
class BagContent:
    """What was read: episodes in radians, the calibration if the bag has one, and what the user should know."""

    robot: Robot
    episodes: list[Episode]
    calibration: Calibration | None
    states: str
    commands: str
    sent: bool
    """Whether the bag says what was really sent, after the gate."""
    remarks: list[str] = field(default_factory=list)


@dataclass
class _Series:
    """Messages of one topic: times in s (from the first state), and contents."""

    time: list[float] = field(default_factory=list)
    content: list[Any] = field(default_factory=list)


def read_bag(
    path: str | Path,
    robot: str | Path | Robot | None = None,
    *,
    states: str | None = None,
    commands: str | None = None,
    fps: float | None = None,
) -> BagContent:
    """Read the episodes of a bag (a folder, .mcap or .db3).

    robot: by default what the bag says, else the SO-101. states, commands: topics; by default /joint_states, and the
    trajectory, command array or commanded joint state there is. fps: take frames at this rate, by default those of the
    joint states. A frame's action is the command that comes before the next frame. Raises UserError for what is no bag,
    lacks joints or commands, or holds no radians.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no bag {path}")
    library = rosbags()
    try:
        with library.highlevel.AnyReader([path], default_typestore=typestore()) as reader:
            return _read(reader, path, robot, states, commands, fps)
    except library.highlevel.AnyReaderError as error:
        raise UserError(f"cannot read the bag {path}: {printable(error)}") from None


def _read(
    reader: Any,
    path: Path,
    wanted: str | Path | Robot | None,
    states: str | None,
    commands: str | None,
    fps: float | None,
) -> BagContent:
    kinds = {name: info.msgtype for name, info in reader.topics.items()}
    state_topic = _state_topic(kinds, states, path)
    command_topic = _command_topic(kinds, commands, state_topic, path)
    used = {state_topic, command_topic, topics.EXECUTED, topics.EPISODE}
    used |= {name for name in kinds if name.startswith(topics.OBSERVATION)}
    series = _series(reader, used, path)
    marks = [json_of(message.data) for message in series.get(topics.EPISODE, _Series()).content]
    begins = [mark for mark in marks if mark.get("event") == "begin"]
    about = begins[0] if begins else {}
    robot = wanted if isinstance(wanted, Robot) else Robot.load(wanted or str(about.get("robot", "so101")))
    content = BagContent(robot, [], None, state_topic, command_topic, topics.EXECUTED in series)
    if wanted is None and not begins:
        content.remarks.append(
            f"the bag does not say of which robot it is: taken for {robot.name}, see --robot"
        )
    pictures = [name for name, kind in kinds.items() if "Image" in kind]
    if pictures:
        content.remarks.append(f"pictures are left out: {', '.join(pictures)}")
    if isinstance(about.get("calibration"), Mapping):
        content.calibration = Calibration.create(about["calibration"], robot, str(path))
    time, position = _positions(series[state_topic], robot, state_topic, path)
    _require_radians(position, state_topic, path)
    goals = _goals(series[command_topic], robot, command_topic, path)
    executed = (
        _executed(series.get(topics.EXECUTED), robot, path) if command_topic != topics.EXECUTED else None
    )
    spans = _spans(series.get(topics.EPISODE), marks, time)
    left_out = 0
    for start, end, mark, success in spans:
        rows = np.flatnonzero((time >= start) & (time <= end))
        episode = _episode(time[rows], position[rows], goals, executed, series, robot, mark, success, fps)
        if episode is None:
            left_out += 1
        else:
            content.episodes.append(episode)
    if not content.episodes:
        raise UserError(
            f"{path} has no stretch of {SHORTEST} joint states on {state_topic} with commands on {command_topic}"
        )
    if left_out:
        content.remarks.append(
            f"{left_out} stretches without commands or shorter than {SHORTEST} frames are left out"
        )
    return content


# Topics


def _state_topic(kinds: Mapping[str, str], wanted: str | None, path: Path) -> str:
    found = [name for name, kind in kinds.items() if kind == JOINT_STATE]
    if wanted is not None:
        return _named(wanted, found, "joint states", kinds, path)
    measured = [name for name in found if not _commands(name)]
    if topics.JOINT_STATES in measured:
        return topics.JOINT_STATES
    if len(measured) == 1:
        return measured[0]
    if measured:
        raise UserError(
            f"{path} has several topics of joint states: name one with --states ({', '.join(measured)})"
        )
    raise UserError(f"{path} has no joint states ({JOINT_STATE}); its topics are {_listed(kinds)}")


def _command_topic(kinds: Mapping[str, str], wanted: str | None, states: str, path: Path) -> str:
    ours = {topics.EXECUTED}
    found = [name for name, kind in kinds.items() if kind == TRAJECTORY]
    found += [
        name for name, kind in kinds.items() if kind == ARRAY and not name.startswith(topics.OBSERVATION)
    ]
    found += [
        name for name, kind in kinds.items() if kind == JOINT_STATE and name != states and _commands(name)
    ]
    if wanted is not None:
        allowed = [*found, *(name for name, kind in kinds.items() if kind == JOINT_STATE and name != states)]
        return _named(wanted, allowed, "commands", kinds, path)
    for known in (topics.TRAJECTORY, topics.SETPOINT):
        if known in found:
            return known
    others = [name for name in found if name not in ours] or found
    if len(others) == 1:
        return others[0]
    if others:
        raise UserError(
            f"{path} has several topics of commands: name one with --commands ({', '.join(others)})"
        )
    raise UserError(
        f"{path} has no commands ({TRAJECTORY}, {ARRAY}, or a {JOINT_STATE} whose topic says so); its topics are "
        f"{_listed(kinds)}"
    )


def _commands(topic: str) -> bool:
    return any(word in topic.lower() for word in COMMAND_WORDS)


def _named(wanted: str, allowed: Sequence[str], what: str, kinds: Mapping[str, str], path: Path) -> str:
    topic = wanted if wanted.startswith("/") else f"/{wanted}"
    if topic in allowed:
        return topic
    if topic in kinds:
        raise UserError(f"{wanted} in {path} is {kinds[topic]}, which holds no {what}")
    raise UserError(
        f"{path} has no topic {printable(wanted)}{nearest(topic, kinds)}; it has {_listed(kinds)}"
    )


def _listed(kinds: Mapping[str, str]) -> str:
    return ", ".join(printable(name) for name in sorted(kinds)[:12]) + (", …" if len(kinds) > 12 else "")


# Messages


def _series(reader: Any, used: set[str], path: Path) -> dict[str, _Series]:
    """Messages by topic in order of time; a message's own stamp where it has one and clocks agree."""
    raw: dict[str, list[tuple[float, float, Any]]] = {}
    connections = [one for one in reader.connections if one.topic in used]
    for connection, arrived, data in reader.messages(connections=connections):
        try:
            message = reader.deserialize(data, connection.msgtype)
        except Exception as error:  # whatever a damaged message makes of the parser
            raise UserError(
                f"{path}: a message of {connection.topic} cannot be read ({type(error).__name__}); the bag is damaged"
            ) from None
        raw.setdefault(connection.topic, []).append((arrived / 1e9, _stamp(message), message))
    agree = all(
        math.isnan(stamp) or abs(stamp - arrived) < MOST_APART
        for rows in raw.values()
        for arrived, stamp, _ in rows
    )
    series = {}
    for topic, rows in raw.items():
        timed = [
            (stamp if agree and not math.isnan(stamp) else arrived, k)
            for k, (arrived, stamp, _) in enumerate(rows)
        ]
        timed.sort()
        series[topic] = _Series([time for time, _ in timed], [rows[k][2] for _, k in timed])
    return series


def _stamp(message: Any) -> float:
    """s, NaN where a message has none (0 means none)."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None or (stamp.sec == 0 and stamp.nanosec == 0):
        return math.nan
    return float(stamp.sec + stamp.nanosec * 1e-9)


def json_of(text: str) -> dict[str, Any]:
    """An object from JSON that somebody else may have written; empty where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _order(names: Sequence[str], robot: Robot, topic: str, path: Path) -> NDArray[np.intp] | None:
    """Where each joint of the robot stands among `names`; None where some are missing."""
    plain = [joint_of(str(name)) for name in names]
    if not set(robot.joint_names) <= set(plain):
        return None
    return np.array([plain.index(name) for name in robot.joint_names])


def _positions(series: _Series, robot: Robot, topic: str, path: Path) -> tuple[Array, Array]:
    """Times (T,) and angles (T, n) of the messages that have all of the robot's joints."""
    times, rows, seen = [], [], set()
    orders: dict[tuple[str, ...], NDArray[np.intp] | None] = {}
    for at, message in zip(series.time, series.content):
        names = tuple(message.name)
        seen |= set(names)
        order = orders.setdefault(names, _order(names, robot, topic, path))
        if order is not None and len(message.position) == len(names):
            times.append(at)
            rows.append(np.asarray(message.position, np.float64)[order])
    if not rows:
        lack = [name for name in robot.joint_names if name not in {joint_of(str(name)) for name in seen}]
        raise UserError(
            f"{topic} of {path} never has all joints of {robot.name}: it lacks {', '.join(lack) or 'angles'} (it has "
            f"{', '.join(printable(name) for name in sorted(seen)) or 'none'}); name its robot with --robot"
        )
    keep = np.isfinite(rows).all(axis=1)
    time, position = np.asarray(times)[keep], np.asarray(rows)[keep]
    fresh = np.concatenate([[True], np.diff(time) > 0])
    return time[fresh], position[fresh]


def _require_radians(position: Array, topic: str, path: Path) -> None:
    most = float(np.abs(position).max()) if position.size else 0.0
    if most > MOST_RADIANS:
        raise UserError(
            f"{topic} of {path} has values up to {most:.4g}, which are no angles in radians; ROS has radians there"
        )


@dataclass
class _Goals:
    """Commands over time: each message holds until the next, a trajectory in it is followed."""

    time: Array
    points: list[tuple[Array, Array]]
    """Of each message: times after its stamp (k,), goals (k, n)."""

    def before(self, deadline: float, due: float) -> Array | None:
        """What the last message sent before `deadline` wants for the time `due`; None before the first."""
        last = int(np.searchsorted(self.time, deadline, side="left")) - 1
        if last < 0:
            return None
        after, goals = self.points[last]
        x = due - self.time[last]
        return np.array([np.interp(x, after, column) for column in goals.T])


def _goals(series: _Series, robot: Robot, topic: str, path: Path) -> _Goals:
    times, points = [], []
    for time, message in zip(series.time, series.content):
        found = _goal(message, robot, topic, path)
        if found is not None and np.isfinite(found[1]).all():
            times.append(time)
            points.append(found)
    if not times:
        raise UserError(f"{topic} of {path} has no command for all joints of {robot.name}")
    return _Goals(np.asarray(times), points)


def _goal(message: Any, robot: Robot, topic: str, path: Path) -> tuple[Array, Array] | None:
    if hasattr(message, "points"):
        order = _order(message.joint_names, robot, topic, path)
        rows = [p for p in message.points if len(p.positions) == len(message.joint_names)]
        if order is None or not rows:
            return None
        after = np.array([p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in rows])
        return after, np.array([np.asarray(p.positions, np.float64)[order] for p in rows])
    if hasattr(message, "data"):
        data = np.asarray(message.data, np.float64)
        return (np.zeros(1), data[None]) if data.shape == (robot.n,) else None
    order = _order(message.name, robot, topic, path)
    if order is None or len(message.position) != len(message.name):
        return None
    return np.zeros(1), np.asarray(message.position, np.float64)[order][None]


def _executed(series: _Series | None, robot: Robot, path: Path) -> _Goals | None:
    return None if series is None else _goals(series, robot, topics.EXECUTED, path)


# Episodes

Span = tuple[float, float, Mapping[str, Any], bool | None]


def _spans(series: _Series | None, marks: Sequence[Mapping[str, Any]], time: Array) -> list[Span]:
    """Start, end, what the bag says and success of each episode: as marked, else wherever states pause."""
    if series is not None and any(mark.get("event") == "begin" for mark in marks):
        spans: list[Span] = []
        begun: tuple[float, Mapping[str, Any]] | None = None
        for at, mark in zip(series.time, marks):
            if mark.get("event") == "begin":
                begun = (at, mark)
            elif mark.get("event") == "end" and begun is not None:
                success = mark.get("success")
                spans.append((begun[0], at, begun[1], success if isinstance(success, bool) else None))
                begun = None
        if begun is not None:
            spans.append((begun[0], float(time[-1]), begun[1], None))
        return spans
    ends = np.flatnonzero(np.diff(time) > GAP)
    starts = [0, *(ends + 1)]
    return [(float(time[a]), float(time[b]), {}, None) for a, b in zip(starts, [*ends, len(time) - 1])]


def _episode(
    time: Array, position: Array, goals: _Goals, executed: _Goals | None, series: Mapping[str, _Series],
    robot: Robot, mark: Mapping[str, Any], success: bool | None, wanted: float | None,
) -> Episode | None:  # fmt: skip
    if len(time) < SHORTEST:
        return None
    rate = 1.0 / float(np.median(np.diff(time)))
    said = mark.get("fps")
    fps = wanted or (
        float(said) if isinstance(said, (int, float)) and 1 <= said <= 1000 else float(round(rate)) or 1.0
    )
    if wanted is not None and rate > 1.2 * wanted:
        grid = np.arange(time[0], time[-1], 1.0 / wanted)
        taken = np.unique(np.searchsorted(time, grid - 1e-6))
        time, position = time[taken], position[taken]
    period = 1.0 / fps
    deadlines = np.append(time[1:], time[-1] + period) - 1e-6
    deadlines = np.minimum(deadlines, time + 2 * period)
    found = [goals.before(deadline, at + period) for deadline, at in zip(deadlines, time)]
    first = next((i for i, goal in enumerate(found) if goal is not None), len(found))
    if len(found) - first < SHORTEST:
        return None
    action = np.array(found[first:])
    sent = action
    if executed is not None:
        rows_sent = [executed.before(d, d) for d in deadlines[first:]]
        if all(row is not None for row in rows_sent):
            sent = np.array(rows_sent)
    start = time[first]
    features = {
        name.removeprefix(topics.OBSERVATION).replace("/", "."): _held(one, time[first:])
        for name, one in series.items()
        if name.startswith(topics.OBSERVATION)
    }
    return Episode(
        time=time[first:] - start,
        state=position[first:],
        action=action,
        executed=sent,
        fps=fps,
        robot=robot.name,
        task=printable(mark.get("task", "")),
        features={name: values for name, values in features.items() if values is not None},
        success=success,
    )


def _held(series: _Series, time: Array) -> Array | None:
    """A part of the observation at `time`, each held until the next; None where its size changes."""
    rows = np.searchsorted(np.asarray(series.time), time + 1e-6, side="right") - 1
    values = [np.asarray(series.content[max(row, 0)].data, np.float64) for row in rows]
    return np.array(values) if len({value.shape for value in values}) == 1 else None
