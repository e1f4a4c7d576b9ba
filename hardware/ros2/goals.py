"""Commands from ROS as actions for the control loop: checked, timed, and stopped when they stop coming.

Nothing here knows DDS. Commands come from another thread through `offer…`; the loop polls.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sources.sources import PolicyAnswer
from sim2real.chunks import Chunk
from sim2real.clock import Clock
from sim2real.observation import Observation
from sim2real.robot import Robot

Array = NDArray[np.float64]

DEADLINE = 0.5
"""s after the last set-point at which the arm stops where it is."""
AHEAD = 0.2
"""s that a chunk reaches ahead."""
LATE, EARLY = 1.0, 10.0
"""s by which a trajectory's own stamp may lie in the past and in the future."""
LONGEST, MOST_POINTS = 600.0, 2000
"""s, and points, of one trajectory."""
SHARE = 0.9
"""Of the gate's velocity limits, at which the goal goes to a set-point: so the gate has nothing to clip."""


@dataclass
class Refusals:
    """What was not followed, and why the last time."""

    count: int = 0
    last: str = ""

    def note(self, why: str) -> None:
        self.count += 1
        self.last = why


@dataclass(frozen=True)
class _Motion:
    """Where goals go: at `times` (k,) s the goals (k, n) rad; held before the first and after the last."""

    times: Array
    goals: Array
    until: float
    """s, from which on nobody vouches for it any more."""


@dataclass
class RosGoals:
    """A `PolicySource` fed from outside. `alive_check` says whether whoever feeds it still lives ("" or why not)."""

    robot: Robot
    clock: Clock
    deadline: float = DEADLINE
    alive_check: Callable[[], str] = lambda: ""
    refused: Refusals = field(default_factory=Refusals)
    taken: int = 0
    """Commands that were accepted."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._period = 1.0 / self.robot.command_rate
        self._speed = SHARE * np.array([joint.velocity for joint in self.robot.joints])
        self._motion: _Motion | None = None
        self._hold: Array | None = None
        """Where the goal was last, (n,) rad."""
        self._fresh = False
        self._on = False

    # From the thread that listens

    def offer_setpoint(self, values: Sequence[float], at: float) -> None:
        """A goal for all joints in the robot's order, which came at `at` s on the loop's clock."""
        goal = np.asarray(values, np.float64)
        if goal.shape != (self.robot.n,):
            self.refused.note(f"a set-point needs {self.robot.n} values, got {goal.size}")
        elif not np.isfinite(goal).all():
            self.refused.note("a set-point with values that are not finite")
        else:
            with self._lock:
                if self._hold is None:
                    self.refused.note("a set-point before the arm follows")
                    return
                start = self._at(at)
                takes = max(float(np.max(np.abs(goal - start) / self._speed)), self._period)
                self._take(_Motion(np.array([at, at + takes]), np.stack([start, goal]), at + self.deadline))

    def offer_trajectory(
        self,
        names: Sequence[str],
        points: Sequence[tuple[float, Sequence[float]]],
        at: float,
        age: float = 0.0,
    ) -> None:
        """Goals (s after the start, rad by joint name), which came at `at`; `age` s is how long ago it says it began.

        Joints that are not named stay where they are. A trajectory without points stops the arm.
        """
        problem = self._wrong(names, points, age)
        if problem:
            self.refused.note(problem)
            return
        with self._lock:
            if self._hold is None:
                self.refused.note("a trajectory before the arm follows")
                return
            now = self._at(at)
            columns = [self.robot.joint_names.index(name) for name in names]
            times, goals = [at], [now]
            for after, positions in points:
                due = at - age + after
                if due <= times[-1]:
                    continue  # over already
                goal = now.copy()
                goal[columns] = positions
                times.append(due)
                goals.append(goal)
            self._take(_Motion(np.array(times), np.stack(goals), math.inf))

    def _wrong(
        self, names: Sequence[str], points: Sequence[tuple[float, Sequence[float]]], age: float
    ) -> str:
        unknown = [name for name in names if name not in self.robot.joint_names]
        if unknown:
            return f"a trajectory for joints that {self.robot.name} does not have: {', '.join(map(repr, unknown[:3]))}"
        if len(set(names)) < len(names) or (points and not names):
            return "a trajectory that names a joint twice, or none"
        if len(points) > MOST_POINTS:
            return f"a trajectory of {len(points)} points, at most {MOST_POINTS}"
        if not -EARLY <= age <= LATE:
            when = f"{age:.1f} s ago" if age > 0 else f"in {-age:.1f} s"
            return f"a trajectory stamped {when}; set its stamp to zero to begin at once"
        before = -1.0
        for after, positions in points:
            if len(positions) != len(names):
                return f"a point with {len(positions)} positions for {len(names)} joints"
            if not np.isfinite(positions).all():
                return "a trajectory with positions that are not finite"
            if not before < after <= LONGEST:
                return f"points of a trajectory must follow each other within {LONGEST:g} s"
            before = after
        return ""

    def _take(self, motion: _Motion) -> None:
        self._motion, self._fresh = motion, True
        self.taken += 1

    def _at(self, time: float) -> Array:
        """(n,) where the goal is at `time`."""
        motion = self._motion
        assert self._hold is not None
        if motion is None:
            return self._hold
        return np.array([np.interp(time, motion.times, column) for column in motion.goals.T])

    # From the loop

    @property
    def alive(self) -> bool:
        return not self.problem

    @property
    def problem(self) -> str:
        return self.alive_check()

    def reset(self, seed: int) -> None:
        """Begin to follow, from wherever the arm is."""
        with self._lock:
            self._motion, self._hold, self._fresh, self._on = None, None, False, True

    def send(self, time: float, observation: Observation) -> None:
        """Once a frame: go on with what is under way, or stand still."""
        with self._lock:
            if self._hold is None:
                self._hold = np.array(observation["joint_command"])
            self._fresh = True

    def poll(self) -> PolicyAnswer | None:
        """The goals from now on, whenever there is news, in the very tick after it came."""
        now = self.clock.now()
        with self._lock:
            if not self._fresh or self._hold is None or not self._on:
                return None
            self._fresh = False
            motion = self._motion
            if motion is not None and now > motion.until:
                # Nobody has said anything for too long: stop here, whatever was meant.
                self._hold, self._motion = self._at(now), None
            elif motion is not None and now > motion.times[-1]:
                self._hold = motion.goals[-1]
            last = math.inf if self._motion is None else self._motion.until
            rows = [
                self._at(min(now + k * self._period, last)) for k in range(1, round(AHEAD / self._period) + 1)
            ]
        return PolicyAnswer(Chunk(now, self._period, np.array(rows)), now)

    def close(self) -> None:
        with self._lock:
            self._on = False
