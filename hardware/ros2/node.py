"""The bridge's end in DDS: one thread that publishes what the loop has told and takes what others say.

The loop never calls DDS: it puts a few numbers into a queue. Loopback and unicast alone, unless an interface is named.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.ros2 import topics
from hardware.ros2.dds import LOOPBACK, configure, cyclonedds, reader, writer
from hardware.ros2.goals import RosGoals
from hardware.runtime.control.tick import Tick
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.text import printable

Array = NDArray[np.float64]

PAUSE = 0.002
"""s between two looks of the thread at what the loop has told; what others say wakes it at once."""
BREATH = 0.0005
"""s that it sleeps in any case: nobody who sends without end gets all of this process."""
KEEP = 100
"""Messages of a topic that wait for slow readers."""
KEPT = 2000
"""Ticks that wait to be published at most; older ones are dropped and counted."""
EVERY = 1.0
"""s between diagnostics."""


class _Told(NamedTuple):
    """What of a tick is published."""

    stamp: float
    position: Array | None
    velocity: Array | None
    executed: Array
    phase: str
    fault: str
    frame: bool
    clipped: int
    rejected: int


class RosNode:
    """A `TickSink` that publishes, and the listener that feeds `goals`. `start` once, `close` at the end.

    tool: gives the tool's position (3,) m and rotation matrix (3, 3) in the base's frame from joint angles (n,).
    """

    def __init__(
        self, robot: Robot, goals: RosGoals, domain: int, interface: str = LOOPBACK,
        tool: Callable[[Array], tuple[Array, Array]] | None = None,
    ) -> None:  # fmt: skip
        self.robot, self.goals, self.domain, self.interface, self.tool = robot, goals, domain, interface, tool
        self.wanted = False
        """Whether somebody wants the arm to follow."""
        self.lost = 0
        """Ticks that were not published."""
        self.published = 0
        self._read = 0.0
        """s, wall time: of the last reading that was published."""
        self.problem = ""
        self.name = "ros2"
        self._presses = 0
        self._queue: deque[_Told] = deque()
        self._wall = time.time() - time.monotonic()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_state = ""

    def start(self) -> None:
        """Open the participant and begin. Raises UserError when DDS cannot be opened."""
        configure(self.interface)
        library = cyclonedds()
        from hardware.ros2 import messages as m

        try:
            self._participant = library.domain.DomainParticipant(self.domain)
            self._writers = {
                name: writer(library, self._participant, name, kind, keep=KEEP)
                for name, kind in (
                    (topics.JOINT_STATES, m.JointState), (topics.EXECUTED, m.JointState), (topics.TF, m.TFMessage),
                    (topics.STATE, m.String), (topics.DIAGNOSTICS, m.DiagnosticArray),
                )
            }  # fmt: skip
            self._readers = {
                name: reader(library, self._participant, name, kind, keep=KEEP)
                for name, kind in (
                    (topics.TRAJECTORY, m.JointTrajectory), (topics.SETPOINT, m.Float64MultiArray),
                    (topics.ENABLE, m.Bool), (topics.ESTOP, m.Bool),
                )
            }  # fmt: skip
            self._wake = library.core.WaitSet(self._participant)
            core = library.core
            unread = core.SampleState.NotRead | core.ViewState.Any | core.InstanceState.Any
            for one in self._readers.values():
                self._wake.attach(core.ReadCondition(one, unread))
        except Exception as error:  # whatever DDS raises where it cannot open a socket
            raise UserError(
                f"DDS cannot be opened on interface {self.interface}, domain {self.domain}: {printable(error)}"
            ) from None
        self._m, self._library = m, library
        self._thread = threading.Thread(target=self._run, name="ros2", daemon=True)
        self._thread.start()

    # From the loop

    def tick(self, tick: Tick) -> None:
        reading = tick.reading
        if len(self._queue) >= KEPT:
            self.lost += 1
            return
        self._queue.append(
            _Told(
                stamp=(tick.time if reading is None else reading.time) + self._wall,
                position=None if reading is None else reading.position,
                velocity=None if reading is None else reading.velocity,
                executed=tick.executed,
                phase=str(tick.state.phase.value),
                fault="" if tick.state.fault is None else str(tick.state.fault),
                frame=tick.observation is not None,
                clipped=tick.clipped,
                rejected=tick.rejected,
            )
        )

    def state(self, now: float) -> tuple[bool, int]:
        """As a `StopInput`: never held, and how often the emergency stop was pressed."""
        return False, self._presses

    def why_dead(self) -> str:
        """Why nobody listens any more; "" while somebody does."""
        if self.problem:
            return self.problem
        return "" if self._thread is not None and self._thread.is_alive() else "the ROS 2 side is not running"

    def close(self) -> None:
        """Publish what is left, and end."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(2.0)

    # The thread

    def _run(self) -> None:
        told = 0.0
        try:
            while True:
                ending = self._end.is_set()
                self._listen()
                while self._queue:
                    self._publish(self._queue.popleft())
                if ending:
                    return
                if time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    self._last_state = ""  # said once more
                    self._diagnose()
                time.sleep(BREATH)
                self._wake.wait(round((PAUSE - BREATH) * 1e9))
        except Exception as error:  # whatever it is: the loop must learn of it, not die of it
            self.problem = f"the ROS 2 side has failed: {type(error).__name__}: {printable(error)}"

    def _listen(self) -> None:
        """Take what has come on all topics, in the order in which it was sent."""
        come = [
            (sample.sample_info.source_timestamp, name, sample)
            for name, reader in self._readers.items()
            for sample in reader.take(100)
            if sample.sample_info.valid_data
        ]
        now = time.monotonic()
        for _, name, sample in sorted(come, key=lambda one: one[0]):
            if name == topics.SETPOINT:
                self.goals.offer_setpoint(sample.data, now)
            elif name == topics.TRAJECTORY:
                self._trajectory(sample, now)
            elif name == topics.ENABLE:
                self.wanted = bool(sample.data)
            elif sample.data:
                self._presses += 1

    def _trajectory(self, message: Any, now: float) -> None:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        points = [
            (p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec, p.positions) for p in message.points
        ]
        age = 0.0 if stamp == 0 else now + self._wall - stamp
        self.goals.offer_trajectory(list(message.joint_names), points, now, age)

    def _publish(self, told: _Told) -> None:
        m, names = self._m, list(self.robot.joint_names)
        header = m.Header(m.time_of(told.stamp), "")
        # A reading that a silent arm has not renewed is old: again it would look new, and tf warns.
        if told.position is not None and told.velocity is not None and told.stamp > self._read:
            self._read = told.stamp
            state = m.JointState(header, names, told.position.tolist(), told.velocity.tolist(), [])
            self._write(topics.JOINT_STATES, state)
            if told.frame and self.tool is not None:
                self._write(topics.TF, self._transform(told.stamp, told.position))
        self._write(topics.EXECUTED, m.JointState(header, names, told.executed.tolist(), [], []))
        self._tell_state(told)
        self._now = told

    def _tell_state(self, told: _Told) -> None:
        text = json.dumps({"phase": told.phase, "fault": told.fault, "following": self.wanted})
        if text != self._last_state:
            self._last_state = text
            self._write(topics.STATE, self._m.String(text))

    def _transform(self, stamp: float, position: Array) -> Any:
        m = self._m
        assert self.tool is not None
        place, rotation = self.tool(position)
        x, y, z, w = _quaternion(rotation)
        return m.TFMessage(
            [
                m.TransformStamped(
                    m.Header(m.time_of(stamp), "base_link"),
                    self.robot.tool_link,
                    m.Transform(m.Vector3(*map(float, place)), m.Quaternion(x, y, z, w)),
                )
            ]
        )

    def _diagnose(self) -> None:
        told: _Told | None = getattr(self, "_now", None)
        if told is None:
            return
        m = self._m
        facts: Mapping[str, object] = {
            "phase": told.phase, "fault": told.fault, "commands taken": self.goals.taken,
            "commands refused": self.goals.refused.count, "last refusal": self.goals.refused.last,
            "clipped by the gate": told.clipped, "rejected by the gate": told.rejected, "ticks lost": self.lost,
        }  # fmt: skip
        level = 2 if told.fault else 1 if self.goals.refused.count or told.rejected else 0
        status = m.DiagnosticStatus(
            level, "sim2real", told.fault or told.phase, self.robot.name,
            [m.KeyValue(key, printable(value)) for key, value in facts.items()],
        )  # fmt: skip
        self._write(topics.DIAGNOSTICS, m.DiagnosticArray(m.Header(m.time_of(told.stamp), ""), [status]))

    def _write(self, topic: str, message: Any) -> None:
        try:
            self._writers[topic].write(message)
            self.published += topic == topics.JOINT_STATES
        except self._library.core.DDSException:
            self.lost += 1  # readers that do not keep up


def _quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return float(x), float(y), float(z), float(w)
