"""A leader arm: a person moves it by hand, and the follower goes to the same joint angles.

The leader is limp. A process of its own reads it at the command rate over its own port, so that whatever happens to
that port cannot hold up the follower's loop; the newest reading goes through shared memory. In the control process
`Leader` is a source of actions like a policy: each reading becomes a short chunk. Joints are mapped by name, the
arm's angle for angle, the gripper by the share of its calibrated range.

When the follower starts it takes the way from where it is to where the leader is at `RAMP`, while the leader may
already move; further apart than `APART` it does not start at all. When readings stop the follower holds where it was
told to be last; the supervisor's deadlines for a policy apply.
"""

import os
import select
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sources.inference import FAILED, NOTE, READY, STARTING, Slot
from hardware.runtime.sources.sources import PolicyAnswer
from sim2real.calibration import Calibration
from sim2real.chunks import Chunk
from sim2real.clock import RealClock
from sim2real.errors import BusError, Sim2RealError, UserError
from sim2real.observation import Observation
from sim2real.robot import Robot
from sim2real.spawning import context, end_process

Array = NDArray[np.float64]

APART = 0.8
"""rad; with any joint of the arm further from the leader than this the follower does not start (as in GELLO).

The gripper may be: a leader's is often held open by a spring, and coming up to it slowly moves nothing else.
"""

RAMP = 0.5
"""rad/s at which the follower comes up to the leader."""

ROWS = 5
"""Command periods for which a reading is good: one that is late by less does not stop the arm."""

JUMP = 0.5
"""rad between two readings, also after a pause: no hand is that fast, and where readings were missing the leader
must be found again near where it was."""

DISBELIEF = 0.1
"""Seconds of implausible readings after which the leader's process takes them as they are."""

LOST = 0.5
"""Seconds without a reading after which the leader counts as gone before the start."""


class Guide(Protocol):
    """The person who acts, as the session sees them."""

    @property
    def hint(self) -> str:
        """Which keys do what, or what else there is to know."""

    def apart(self, position: Array) -> str:
        """Why the arm, whose goal (n,) rad is `position`, cannot take over yet; "" when it can."""

    def key(self, key: str) -> None:
        """A key was pressed that means nothing to the session."""


class Mapping:
    """Takes the leader's joints to the follower's. Raises UserError when a joint has no counterpart."""

    def __init__(
        self, leader: Robot, leader_limits: tuple[Array, Array], robot: Robot, limits: tuple[Array, Array]
    ) -> None:
        check_joints(leader, robot)
        self._from = np.array([leader.joint_names.index(name) for name in robot.joint_names])
        self._gripper = robot.gripper
        self._leader_limits, self._limits = leader_limits, limits

    def __call__(self, position: Array) -> Array:
        """(n of the leader,) rad → (n,) rad."""
        mapped: Array = position[self._from]
        if (i := self._gripper) is not None:
            k = self._from[i]
            lower, upper = self._leader_limits[0][k], self._leader_limits[1][k]
            share = np.clip((position[k] - lower) / (upper - lower), 0.0, 1.0)
            mapped[i] = self._limits[0][i] + share * (self._limits[1][i] - self._limits[0][i])
        return mapped


def check_joints(leader: Robot, robot: Robot) -> None:
    """Raise UserError unless the leader has every joint of the robot, by name."""
    missing = [name for name in robot.joint_names if name not in leader.joint_names]
    if missing:
        raise UserError(
            f"{leader.name} cannot lead {robot.name}: it has no joint {', '.join(missing)} "
            f"(it has {', '.join(leader.joint_names)}); joints are matched by name"
        )


class Leader:
    """A policy source and a guide. The constructor returns at once; `wait_ready` waits until the leader answers.

    `leader` and `robot` (the follower) are names or paths; `limits` (lower, upper), (n,) rad, the follower's
    calibrated range; `calibration` the leader's file, None: what its servos store.
    """

    def __init__(
        self,
        leader: str,
        port: str,
        calibration: str | None,
        robot: str,
        limits: tuple[Array, Array],
    ) -> None:
        self.hint = "move the leader arm"
        self.port = port
        self._robot, self._leader, self._limits = Robot.load(robot), Robot.load(leader), limits
        check_joints(self._leader, self._robot)
        self._period = 1.0 / self._robot.command_rate
        n = self._leader.n
        self._reading = Slot(1 + n)
        """Time of the reading, then the leader's joints."""
        self._range = Slot(2 * n)
        self._status = RawArray("i", 1)
        self._note = RawArray("c", NOTE)
        self._mapping: Mapping | None = None
        self._seen = 0
        self._latest: tuple[float, Array] | None = None
        self._offset: Array | None = None
        self._began = self._ramp = 0.0
        self._fault = ""
        theirs, self._end = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve,
            args=(leader, port, calibration, self._reading, self._range, self._status, self._note, theirs),
            name="sim2real-leader",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Raises UserError for a mistake (port, calibration, another arm), Sim2RealError when it does not answer."""
        end = time.monotonic() + timeout
        while self._status[0] == STARTING or (self._status[0] == READY and self._reading.version == 0):
            if not self.alive:
                raise Sim2RealError(f"leader: {self.problem}")
            if time.monotonic() > end:
                raise Sim2RealError(
                    f"the leader at {self.port} gave no reading of all its joints within {timeout:.0f} s"
                )
            time.sleep(0.01)
        if self._status[0] == FAILED:
            raise UserError(f"leader: {self.problem}")
        n = self._leader.n
        values = self._range.read()
        assert values is not None
        self._mapping = Mapping(self._leader, (values[1][:n], values[1][n:]), self._robot, self._limits)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        if not self._fault and self._process.exitcode is not None:
            self._fault = (
                self._message() or f"the leader's process ended (exit status {self._process.exitcode})"
            )
        return not self._fault and self._status[0] != FAILED

    @property
    def problem(self) -> str:
        return self._fault or self._message()

    def _message(self) -> str:
        return bytes(self._note.value).decode("utf-8", "replace")

    def apart(self, position: Array) -> str:
        self._look()
        if self._latest is None or time.monotonic() - self._latest[0] > LOST:
            return f"the leader at {self.port} does not answer"
        distance = self._latest[1] - position
        far = [i for i in self._robot.arm if abs(distance[i]) > APART]
        if not far:
            return ""
        what = ", ".join(f"{self._robot.joint_names[i]} by {np.degrees(distance[i]):+.0f}°" for i in far)
        return f"leader and follower are too far apart ({what}): bring the leader within {np.degrees(APART):.0f}°"

    def key(self, key: str) -> None:
        pass

    def reset(self, seed: int) -> None:
        self._offset = None

    def send(self, time: float, observation: Observation) -> None:
        """The first observation after `reset` says where the follower starts from."""
        if self._offset is not None or self._latest is None:
            return
        self._offset = observation["joint_command"] - self._latest[1]
        self._began, self._ramp = time, max(float(np.abs(self._offset).max()) / RAMP, self._period)

    def poll(self) -> PolicyAnswer | None:
        if not self._look() or self._offset is None:
            return None
        assert self._latest is not None
        taken, position = self._latest
        due = taken + self._period * (1 + np.arange(ROWS))
        left = np.clip(1.0 - (due - self._began) / self._ramp, 0.0, 1.0)
        chunk = Chunk(taken, self._period, position + left[:, None] * self._offset)
        return PolicyAnswer(chunk, time.monotonic())

    def _look(self) -> bool:
        """Take the newest reading; False when there is no new one, or the leader cannot be trusted any more."""
        if self._mapping is None or not self.alive or self._reading.version <= self._seen:
            return False
        got = self._reading.read()
        if got is None:
            return False
        self._seen, values = got
        taken, position = float(values[0]), self._mapping(values[1:])
        if self._latest is not None:
            step = np.abs(position - self._latest[1])
            if (step > JUMP).any():
                joint = self._robot.joint_names[int(step.argmax())]
                self._fault = (
                    f"the leader's {joint} jumped by {np.degrees(step.max()):.0f}° between two readings; check its "
                    "cable and its calibration"
                )
                return False
        self._latest = (taken, position)
        return True

    def close(self) -> None:
        self._end.close()
        end_process(self._process, 2.0)


def _serve(
    leader: str,
    port: str,
    calibration: str | None,
    reading: Slot,
    limits: Slot,
    status: Any,
    note: Any,
    end: Connection,
) -> None:
    """The leader's process. Ends when the control process closes the pipe or dies."""
    import signal

    from hardware.arm.serial_arm import SerialArm, open_bus
    from hardware.servos.port_users import require_alone

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        robot = Robot.load(leader)
        file = None if calibration is None else Calibration.load(calibration, robot)
        # Nothing is configured: a leader is only read.
        arm = SerialArm(robot, open_bus(robot, port), file)
        try:
            require_alone(port)
            arm.identify()
            arm.relax()
            limits.write(*arm.calibration.limits)
            status[0] = READY
            _read(arm, reading, end)
        finally:
            arm.close()
    except Sim2RealError as error:
        note.value = str(error).encode("utf-8", "replace")[: NOTE - 1]
        status[0] = FAILED


def _read(arm: Any, reading: Slot, end: Connection) -> None:
    """Read the leader at the command rate until the other side has gone. Raises PortError with the port."""
    clock, period = RealClock(), 1.0 / arm.robot.command_rate
    deadline = believed = clock.now()
    descriptor = end.fileno()
    while not (select.select([descriptor], [], [], 0)[0] and not os.read(descriptor, 1)):
        deadline = max(deadline + period, clock.now())
        clock.sleep_until(deadline)
        try:
            state = arm.observe()
        except BusError:
            continue
        # A joint that did not answer would freeze while the others go on: the whole arm waits for it.
        if state.valid.all():
            reading.write((state.time,), state.position)
            believed = state.time
        elif state.time - believed > DISBELIEF:
            # A hand may be faster than a servo. Whether it was a hand the control process judges (JUMP).
            arm.forget_readings()
            believed = state.time
