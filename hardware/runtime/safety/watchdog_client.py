"""The control process's side of the watchdog: heartbeats, and a descent that is always up to date."""

import fcntl
import math
import os
import struct
import subprocess
import termios
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardware.children import start_module
from hardware.runtime.safety import watchdog
from hardware.runtime.safety.way_back import SPEED, WayBack, longest_descent
from sim2real.errors import Sim2RealError
from sim2real.gate.gate import Gate
from sim2real.robot import Robot

Array = NDArray[np.float64]

STEPS_PER_BEAT = 20
"""Ticks of the descent that are computed per cycle: a tenth of a millisecond, a new descent every 0.2–0.5 s."""

SEARCH_COST = 10
"""Ticks of a descent for which a step of the search for a way round counts: it takes as long."""

SPACING = 0.05
"""s between the ticks of the descent that are kept, or more where a slow robot's would be too many; the watchdog
interpolates."""

DEAF = 3.0
"""s of heartbeats that nobody has read, after which the watchdog counts as gone: it is stopped, or hangs."""


class DescentPlanner:
    """Computes the way from a goal to the rest pose through a slow gate, a few ticks at a time."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self._gate = Gate(robot, SPEED)
        self._descent = WayBack(robot, self._gate, down=True)
        self.longest = math.ceil(longest_descent(robot) * robot.command_rate)
        """Ticks after which a descent counts as complete wherever it is."""
        fitting = math.ceil(self.longest / (watchdog.MAX_POINTS - 2))
        self.every = max(round(SPACING * robot.command_rate), fitting)
        """Ticks of a planned descent from one point that is kept to the next."""
        self._points: list[Array] = []
        self._ticks = 0
        self._busy = False

    def begin(self, start: Array) -> None:
        """Start over from a goal at which the arm holds still."""
        self._gate.reset(start)
        self._descent.begin()
        self._points = [np.array(start)]
        self._ticks = 0
        self._busy = True

    def advance(self, ticks: int) -> list[Array] | None:
        """Compute `ticks` more; the points, (n,) rad each, when the descent is complete."""
        if not self._busy:
            return None
        while ticks > 0:
            if self._descent.searching:
                # No time of the way passes meanwhile, but some of ours.
                self._descent.step()
                ticks -= SEARCH_COST
                continue
            self._descent.step()
            ticks -= 1
            self._ticks += 1
            if self._ticks % self.every == 0:
                self._points.append(self._gate.position)
            if self._descent.done or self._ticks >= self.longest:
                self._points.append(self._gate.position)
                self._busy = False
                return self._points
        return None


class Watchdog:
    """Starts the watchdog process and keeps it informed; a `loop.Guardian`. Use as a context manager.

    `goals` takes joint angles (..., n) rad to what the servos' goal registers take at present
    (`SerialArm.servo_goals`). `speed`: share of the gate's limits that was chosen for the whole run.
    """

    def __init__(
        self, robot: Robot, port: str, goals: Callable[[Array], NDArray[np.int64]], *, speed: float = 1.0
    ) -> None:
        self.robot, self._goals = robot, goals
        self._planner = DescentPlanner(robot)
        # Where everything is slow a descent takes longer: it must end at rest, however long that takes.
        self._period = self._planner.every / robot.command_rate * max(1.0, SPEED / speed)
        self._deaf = round(DEAF * robot.command_rate)  # heartbeats
        memory = os.memfd_create("sim2real-descent")
        os.ftruncate(memory, watchdog.SIZE)
        self._memory = watchdog.DescentMemory(memory)
        self._memory.start(robot.n, self._period)
        theirs, self._pipe = os.pipe()
        ready, answered = os.pipe()
        os.set_blocking(self._pipe, False)
        self._process = start_module(
            "hardware.runtime.safety.watchdog",
            *("--port", port, "--baud", str(robot.baud), "--protocol", robot.protocol),
            *("--ids", ",".join(str(joint.servo_id) for joint in robot.joints), "--pipe", str(theirs)),
            *("--memory", str(memory), "--ready", str(answered), "--parent", str(os.getpid())),
            pass_fds=(theirs, memory, answered),
            stdin=subprocess.DEVNULL,
            stdout=2,
        )
        for descriptor in (theirs, memory, answered):
            os.close(descriptor)
        try:
            if os.read(ready, 1) != b"R":
                raise Sim2RealError("the watchdog process did not start; nothing has moved")
        finally:
            os.close(ready)
        self._mode = b""
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, 4096)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the watchdog is there to take over, and listens."""
        if self._pipe < 0:
            return False
        (unread,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))
        return bool(unread < self._deaf)

    def beat(self, armed: bool, executed: Array) -> None:
        """See `loop.Guardian`. Never blocks."""
        if armed:
            self._memory.set_last(self._goals(executed).tolist())
            if self._mode != watchdog.ARMED:
                # The first descent must be there when it counts from now on.
                self._planner.begin(executed)
                self._publish(self._planner.advance(self._planner.longest))
            points = self._planner.advance(STEPS_PER_BEAT)
            if points is not None:
                self._publish(points)
                self._planner.begin(executed)
        elif self._mode != watchdog.LIMP:
            # A limp arm is moved, and its servos restarted: the old descent is no way from anywhere.
            self._memory.start(self.robot.n, self._period)
        self._write(watchdog.ARMED if armed else watchdog.LIMP)

    def busy(self) -> None:
        """An exchange follows that takes longer than a cycle."""
        self._write(watchdog.BUSY)

    def _publish(self, points: list[Array] | None) -> None:
        if points is None:
            return
        ticks = self._goals(np.array(points[: watchdog.MAX_POINTS]))
        self._memory.set_descent(ticks.tolist())

    def _write(self, mode: bytes) -> None:
        self._mode = mode
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, mode)
        except BlockingIOError:
            pass  # `alive` says what that means
        except OSError:
            os.close(self._pipe)
            self._pipe = -1

    def close(self) -> None:
        """Tell the watchdog that it is not needed any more, and wait for its end.

        With torque still on it is needed: it is left alone, and lowers the arm when this process has ended.
        """
        armed = self._mode in (watchdog.ARMED, watchdog.BUSY)
        if not armed:
            self._write(watchdog.QUIT)
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if armed:
            return
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
