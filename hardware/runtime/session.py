"""Episodes on an arm: arm, go home, run, judge, repeat; and a defined way out of whatever happens.

The session only steers the loop (`ControlLoop.request` and friends) and watches it; while it waits, for a
command of the user or for anybody's answer, the loop goes on holding the arm.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.loop import ControlLoop
from hardware.runtime.supervisor import Phase, Request
from sim2real.errors import Sim2RealError
from sim2real.observation import Observation
from sim2real.tasks.base import HOLD, Task

Array = NDArray[np.float64]

ENOUGH = 1.0
"""Seconds for which the task's own estimate must say "done" before an episode ends early."""

COMMAND_TIMEOUT = 120.0
"""Seconds a user's command may take."""

SEE_TIMEOUT = 5.0
"""Seconds to wait at the start of an episode until the camera has found what the task needs."""


ESTOP_KEYS = (" ", "\x1b")
"""Space and Escape."""


class Stopped(Exception):
    """The operator, a signal or a fault ended the session; the reason is in the session."""


@dataclass
class EpisodeResult:
    """What came of one episode. `success` is None where nobody could tell."""

    episode: int
    goal: tuple[float, ...] | None
    success: bool | None
    judge: str
    """Who decided: "command", "estimate", "operator", "fault" (it ended in one) or "" (nobody)."""
    seconds: float
    estimate: bool | None
    clipped: int
    rejected: int
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What to do.

    `seconds`: one episode of this length instead of `episodes` of the task's duration. `goals`: gives the goal
    of episode i, (3,) m, None where the camera finds it. `before`, `judge`: shell commands run around each
    episode with EPISODE, TASK and, where it was given or drawn, GOAL (x,y,z) in their environment.
    """

    task: Task
    episodes: int = 1
    seconds: float | None = None
    seed: int = 0
    goals: Callable[[int], Array | None] = lambda i: None
    before: str | None = None
    judge: str | None = None
    motion: bool = True
    """False: a dry run; nothing is judged."""


class Recorder(Protocol):
    """Takes frames while an episode runs."""

    def begin(self) -> None: ...

    def frame(self, time: float, observation: Observation, loop: ControlLoop) -> None:
        """Called when a frame starts, before its actions are sent."""

    def end(self, success: bool | None) -> None:
        """Keep the episode."""

    def discard(self) -> None: ...


class Operator(Protocol):
    """Whoever sits at the terminal."""

    attended: bool

    def pressed(self) -> str:
        """The key pressed since the last call, or ""."""

    def tell(self, text: str) -> None:
        """Show a line."""


class NoOperator:
    """Nobody is there."""

    attended = False

    def __init__(self, tell: Callable[[str], None] = lambda text: None) -> None:
        self._tell = tell

    def pressed(self) -> str:
        return ""

    def tell(self, text: str) -> None:
        self._tell(text)


@dataclass
class Session:
    """One run of `plan` on `loop`. `run()` returns when the arm is limp again, or cannot be reached."""

    loop: ControlLoop
    plan: Plan
    recorder: Recorder | None = None
    operator: Operator = field(default_factory=NoOperator)
    results: list[EpisodeResult] = field(default_factory=list)
    interrupted: int = 0
    """Number of the signal that ended the session."""
    stopped: str = ""
    """Why it ended early, if it did."""
    _held: float = 0.0
    _estimate: bool | None = None
    _succeeded: bool = False

    def interrupt(self, number: int = signal.SIGINT, frame: Any = None) -> None:
        """A signal handler: stop at the next tick. Safe at any moment."""
        if not self.interrupted:
            self.interrupted = int(number)

    def run(self) -> list[EpisodeResult]:
        """Everything, from limp to limp."""
        self.loop.on_frame = self._frame
        try:
            self._connect()
            count = 1 if self.plan.seconds is not None else self.plan.episodes
            for index in range(count):
                self._episode(index)
            self._go_home()
        except Stopped:
            pass
        except Sim2RealError as error:
            self.stopped = str(error)
            self.loop.faults.append(self.stopped)
        finally:
            if self.recorder is not None:
                self.recorder.discard()
            self._lower()
        return self.results

    # Steps

    def _connect(self) -> None:
        self._until(lambda: self.loop.phase is Phase.LIMP, 5.0, "the arm to answer")
        self.loop.request = Request.ARM
        self._until(lambda: self.loop.phase is Phase.HOLD, 5.0, "the arm to be armed")
        self.loop.request = Request.NONE

    def _go_home(self) -> None:
        self.loop.travel(self.loop.robot.home)
        self.loop.request = Request.RUN
        timeout = 20.0 / self.loop.gate.speed
        self._until(lambda: self.loop.arrived, timeout, "the arm to arrive at home")
        self._halt()

    def _halt(self) -> None:
        self.loop.request = Request.STOP
        self._until(lambda: self.loop.phase is Phase.HOLD, 5.0, "the arm to stop")
        self.loop.request = Request.NONE

    def _episode(self, index: int) -> None:
        plan, loop = self.plan, self.loop
        goal = plan.goals(index)
        self._go_home()
        if plan.before and plan.motion:
            code = self._command(plan.before, index, goal)
            if code != 0:
                raise Sim2RealError(f"--before-episode ended with status {code} before episode {index}")
        note = ""
        loop.perception.begin(goal)
        if not self._wait(loop.perception.ready, SEE_TIMEOUT):
            note = "not everything the task needs was seen"
        counts = loop.counts
        clipped, rejected = counts.clipped, counts.rejected
        self._held, self._estimate, self._succeeded = 0.0, None, False
        loop.episode = index
        duration = plan.task.duration if plan.seconds is None else plan.seconds
        start = loop.clock.now()
        loop.start_policy(plan.seed + index)
        loop.request = Request.RUN
        if self.recorder is not None:
            self.recorder.begin()
        enough = (lambda: self._held >= ENOUGH) if plan.seconds is None else (lambda: False)
        ended = ""
        try:
            self._wait(enough, duration)
        except Stopped:
            # An episode that a fault ends has failed; one that somebody stops has not been.
            if loop.state.fault is None:
                raise
            ended = self.stopped
        seconds = loop.clock.now() - start
        # Recording stops with the policy, not with the braking that follows.
        loop.episode = -1
        if ended:
            success, judge, note = False if plan.motion else None, "fault", ended
        else:
            self._halt()
            loop.policy_on = False
            success, judge = self._verdict(index, goal)
            if self.recorder is not None:
                self.recorder.end(success)
        self.results.append(
            EpisodeResult(
                episode=index,
                goal=None if goal is None else tuple(float(x) for x in goal),
                success=success,
                judge=judge,
                seconds=seconds,
                estimate=None if self._estimate is None else self._succeeded,
                clipped=counts.clipped - clipped,
                rejected=counts.rejected - rejected,
                note=note,
            )
        )
        said = {True: "success", False: "failure", None: "unknown"}[success]
        self.operator.tell(f"episode {index}: {said} after {seconds:.1f} s" + (f" ({note})" if note else ""))
        if ended:
            raise Stopped

    def _verdict(self, index: int, goal: Array | None) -> tuple[bool | None, str]:
        """Whether the episode succeeded, and who says so; the arm still holds its last pose."""
        if not self.plan.motion:
            return None, ""
        if self.plan.judge:
            return self._command(self.plan.judge, index, goal) == 0, "command"
        if self._estimate is not None:
            return self._succeeded, "estimate"
        if self.operator.attended:
            self.operator.tell(f"episode {index}: did it succeed? y, n, or u for unknown")
            answer = ""

            def answered() -> bool:
                nonlocal answer
                answer = self._key().lower()
                return answer in ("y", "n", "u") and answer != ""

            self._wait(answered, COMMAND_TIMEOUT, keys=False)
            if answer in ("y", "n"):
                return answer == "y", "operator"
        return None, ""

    def _lower(self) -> None:
        """The way out: stop, hold still, lower, let go. Never raises."""
        loop = self.loop
        loop.policy_on = False
        if loop.phase in (Phase.RUNNING, Phase.DEGRADED):
            loop.request = Request.STOP
            loop.run(lambda: loop.phase not in (Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING), 5.0)
        if loop.ended():
            return
        if loop.state.fault is not None and self.operator.attended:
            self._ask_to_lower()
        loop.request = Request.SETTLE
        limits = loop.deadlines
        if not loop.run(loop.ended, limits.hold + limits.retreat + limits.settling + limits.silent):
            loop.faults.append("torque off could not be confirmed: switch the arm's power off")

    def _ask_to_lower(self) -> None:
        """The arm holds until the operator wants it lowered, or has gone."""
        loop = self.loop
        self.operator.tell(f"FAULT: {loop.faults[-1]}. The arm holds. Press s to lower it to rest.")
        if loop.phase is Phase.ESTOP:
            self.operator.tell("Space once more lets go at once: the arm drops.")

        def decided() -> bool:
            if loop.ended() or self.interrupted:
                return True
            if self._key().lower() != "s":
                return False
            if loop.phase is Phase.ESTOP and loop.vitals.stop_held:
                self.operator.tell("the emergency stop is still pressed: release it first, then press s")
                return False
            return True

        loop.run(decided)
        # Whoever ends the program is not there to decide any more.
        loop.attended = loop.attended and not self.interrupted

    def _key(self) -> str:
        """The key pressed since the last call; space and Escape are the emergency stop. Every key is a sign of life."""
        key = self.operator.pressed()
        if key:
            self.loop.operator_sign()
        if key in ESTOP_KEYS:
            self.loop.estop.press("key")
            return ""
        return key

    # Waiting

    def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._wait(condition, timeout):
            raise Sim2RealError(f"waited {timeout:.0f} s for {what}")

    def _wait(self, condition: Callable[[], bool], timeout: float, *, keys: bool = True) -> bool:
        """Tick until `condition()`; raises Stopped when something ends the session."""

        def done() -> bool:
            if self.interrupted or self.loop.state.fault is not None:
                return True
            if keys and self._key() in ("q", "Q"):
                self.stopped = "stopped at the terminal"
                return True
            return condition()

        reached = self.loop.run(done, timeout)
        if self.interrupted:
            self.stopped = f"stopped by {signal.Signals(self.interrupted).name}"
        elif self.loop.state.fault is not None:
            self.stopped = self.loop.faults[-1]
        if self.stopped:
            raise Stopped
        return reached

    def _command(self, command: str, index: int, goal: Array | None) -> int:
        """A user's shell command; its output goes to standard error, since ours is for the result."""
        environment = {**os.environ, "EPISODE": str(index), "TASK": self.plan.task.name}
        # Only a goal that was given: one that the camera found would make the judge believe the camera.
        environment.pop("GOAL", None)
        if goal is not None:
            environment["GOAL"] = ",".join(f"{x:.6g}" for x in goal)
        process = subprocess.Popen(
            command, shell=True, env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
        )
        try:
            if not self._wait(lambda: process.poll() is not None, COMMAND_TIMEOUT):
                raise Sim2RealError(f"the command took longer than {COMMAND_TIMEOUT:.0f} s: {command}")
            return int(process.returncode)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _frame(self, time: float, observation: Observation) -> None:
        if self.loop.episode < 0 or not self.loop.policy_on:
            return
        if self.recorder is not None:
            self.recorder.frame(time, observation, self.loop)
        self._estimate = self.plan.task.estimate(observation, self.loop.robot)
        self._held = self._held + 1 / self.loop.robot.policy_rate if self._estimate else 0.0
        self._succeeded = self._succeeded or self._held >= HOLD
