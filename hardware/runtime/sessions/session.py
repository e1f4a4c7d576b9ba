"""Episodes on an arm: arm, go home, run, judge, repeat; and a defined way out of whatever happens.

The session only steers the loop (`ControlLoop.request` and friends) and watches it; while it waits, for a
command of the user or for anybody's answer, the loop goes on holding the arm.
"""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.safety.way_back import longest
from hardware.runtime.sessions.roles import EpisodeResult, Judge, NoOperator, Operator, Plan, Recorder
from hardware.runtime.sessions.table import Status
from hardware.runtime.sources.inference import example_observation, observed_features
from sim2real.errors import Sim2RealError
from sim2real.observation import Observation
from sim2real.task import Hold

Array = NDArray[np.float64]

ENOUGH = 1.0
"""Seconds for which the task's own estimate must say "done" before an episode ends early."""

COMMAND_TIMEOUT = 120.0
"""Seconds a user's command may take."""

SEE_TIMEOUT = 5.0
"""Seconds to wait at the start of an episode until the camera has found what the task needs."""


class Key(StrEnum):
    """Keys that end an episode under way, or the session."""

    SUCCESS = "s"
    FAILURE = "f"
    DISCARD = "d"
    REDO = "r"
    STOP = "q"


VERDICTS = (Key.SUCCESS, Key.FAILURE, Key.DISCARD, Key.REDO)

AT_TERMINAL = "stopped at the terminal"
"""Why a session ended that the operator ended with a key."""

RATE_TIME = 0.5
"""Seconds over which the rate that is shown is measured."""

ESTOP_KEYS = (" ", "\x1b")
"""Space and Escape."""


class Stopped(Exception):
    """The operator, a signal or a fault ended the session; the reason is in the session."""


@dataclass
class Session:
    """One run of `plan` on `loop`. `run()` returns when the arm is limp again, or cannot be reached."""

    loop: ControlLoop
    plan: Plan
    recorder: Recorder | None = None
    operator: Operator = field(default_factory=NoOperator)
    results: list[EpisodeResult] = field(default_factory=list)
    on_fault: Callable[[str], None] | None = None
    """Called once when a fault ends the session, before the arm is lowered; must return at once."""
    interrupted: int = 0
    """Number of the signal that ended the session."""
    stopped: str = ""
    """Why the session ended early, if it did."""
    _typed: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    """Keys that nobody has asked for yet: the last ones. A key that is held down counts while it is down."""
    _said: str = ""
    _asking: str = ""
    """The keys that answer a question, while there is one."""
    _activity: str = "starting"
    _since: float = 0.0
    _rate: tuple[float, int, float] = (0.0, 0, 0.0)
    _told_problem: str = ""
    _hold: Hold = field(default_factory=Hold)
    _estimate: bool | None = None

    def __post_init__(self) -> None:
        task, robot = self.plan.task, self.loop.robot
        if task is not None:
            # What it calls may be compiled, for longer than the watchdog waits. What it raises it raises again at
            # the first frame of an episode, where that is told.
            with suppress(Exception):
                task.estimate(example_observation(robot, observed_features(task, robot)), robot)

    def interrupt(self, number: int = signal.SIGINT, frame: Any = None) -> None:
        """A signal handler: stop at the next tick. Safe at any moment."""
        if not self.interrupted:
            self.interrupted = int(number)

    def run(self) -> list[EpisodeResult]:
        """Everything, from limp to limp."""
        self.loop.on_frame = self._frame
        if self.recorder is not None:
            self.loop.sinks.append(self.recorder)
        self._do("starting")
        try:
            self._connect()
            self._work()
        except Stopped:
            pass
        except Sim2RealError as error:
            self.stopped = str(error)
            self.loop.faults.append(self.stopped)
        finally:
            # No frame is looked at any more: whatever raised an exception there would do so again on the way down.
            self.loop.episode = -1
            self.loop.stop_policy()
            self._report_fault()
            try:
                if self.recorder is not None:
                    self.recorder.discard()
            finally:
                self._lower()
                self._report_fault()
        return self.results

    # Steps

    def _connect(self) -> None:
        self._until(lambda: self.loop.phase is Phase.LIMP, 5.0, "the arm to answer")
        self.loop.request = Request.ARM
        self._until(lambda: self.loop.phase is Phase.HOLD, 5.0, "the arm to be armed")
        self.loop.request = Request.NONE

    def _work(self) -> None:
        """What is done between arming and lowering."""
        count = 1 if self.plan.seconds is not None else self.plan.episodes or 1
        index = 0
        while index < count:
            if self._episode(index) != Key.REDO:
                index += 1
        self._go_home()

    def _go_home(self) -> None:
        self._do("going home")
        loop = self.loop
        loop.go_home()
        loop.request = Request.RUN
        # Twice the longest way: a monitor that warns halves the speed.
        timeout = max(20.0 / loop.gate.speed, 2.0 * longest(loop.robot, loop.gate.speed))
        self._until(lambda: loop.arrived or loop.barred, timeout, "the arm to arrive at home")
        if not loop.arrived:
            raise Sim2RealError(
                "the way home is barred: by the table, the end of the workspace or the arm itself"
            )
        self._halt()

    def _halt(self) -> None:
        self.loop.request = Request.STOP
        self._until(lambda: self.loop.phase is Phase.HOLD, 5.0, "the arm to stop")
        self.loop.request = Request.NONE

    def _episode(self, index: int) -> str:
        """From home through the policy's motion to the verdict; returns the key that ended it, if one did."""
        plan, loop = self.plan, self.loop
        goal = plan.goals(index)
        self._go_home()
        self._do("preparing")
        if plan.before and plan.motion:
            code = self._command(plan.before, index, goal)
            if code != 0:
                raise Sim2RealError(f"--before-episode ended with status {code} before episode {index}")
        note = ""
        loop.perception.begin(goal)
        if not self._wait(loop.perception.ready, SEE_TIMEOUT):
            note = "not everything the task needs was seen"
        loop.start_policy(plan.seed + index)
        loop.request = Request.RUN
        if plan.seconds is not None or plan.task is None:
            return self._live(index, goal, lambda: False, plan.seconds or float("inf"), note)
        return self._live(index, goal, lambda: self._hold.seconds >= ENOUGH, plan.task.duration, note)

    def _live(
        self, index: int, goal: Array | None, enough: Callable[[], bool], duration: float, note: str = ""
    ) -> str:
        """The episode itself: until `enough()`, for `duration` s at most, or until a key says how it went.

        Returns that key. Raises Stopped; what was recorded is kept then, and marked.
        """
        loop, counts = self.loop, self.loop.counts
        clipped, rejected = counts.clipped, counts.rejected
        self._hold, self._estimate = Hold(), None
        self._do(f"episode {index}")
        start = loop.clock.now()
        if self.recorder is not None:
            self.recorder.begin()
        loop.episode = index
        self._said, ended = "", ""
        try:
            self._wait(enough, duration, also=VERDICTS if self.recorder is not None else ())
        except Stopped:
            ended = self.stopped
        seconds = loop.clock.now() - start
        # Recording stops with the policy, not with the braking that follows.
        loop.episode = -1
        if ended:
            self._break_off()
            # An episode that a fault ends has failed; one that a person stops has not been.
            if loop.state.fault is None:
                raise Stopped
            success, judge, note = False if self.plan.motion else None, Judge.FAULT, ended
        else:
            self._after()
            if self._said in (Key.DISCARD, Key.REDO):
                assert self.recorder is not None
                self.recorder.discard()
                again = ", once more" if self._said == Key.REDO else ""
                self.operator.tell(f"episode {index}: dropped{again}")
                return self._said
            if self._said:
                success, judge = self._said == Key.SUCCESS, Judge.OPERATOR
            else:
                success, judge = self._verdict(index, goal)
            if self.recorder is not None:
                self._do("saving")
                self.recorder.end(success)
        self.results.append(
            EpisodeResult(
                episode=index,
                goal=None if goal is None else tuple(float(x) for x in goal),
                success=success,
                judge=judge,
                seconds=seconds,
                estimate=None if self._estimate is None else self._hold.succeeded,
                clipped=counts.clipped - clipped,
                rejected=counts.rejected - rejected,
                note=note,
            )
        )
        said = {True: "success", False: "failure", None: "unknown"}[success]
        self.operator.tell(f"episode {index}: {said} after {seconds:.1f} s" + (f" ({note})" if note else ""))
        if ended:
            raise Stopped
        return self._said

    def _after(self) -> None:
        """What the arm does once an episode has ended: it stops where it is."""
        self._halt()
        self.loop.stop_policy()

    def _break_off(self) -> None:
        """Keep what was recorded of an episode in the middle of which a person or a fault has ended the session."""
        loop, recorder = self.loop, self.recorder
        # Saving takes a while, and the loop goes on meanwhile.
        loop.request = Request.STOP
        if recorder is None or not recorder.taken:
            return
        fault = loop.state.fault is not None
        try:
            recorder.end(False if fault and self.plan.motion else None, "fault" if fault else "stopped")
        except Sim2RealError as error:
            self.operator.tell(str(error))

    def _verdict(self, index: int, goal: Array | None) -> tuple[bool | None, Judge]:
        """Whether the episode succeeded, and who says so; the arm still holds its last pose."""
        if not self.plan.motion:
            return None, Judge.NOBODY
        if self.plan.judge:
            return self._command(self.plan.judge, index, goal) == 0, Judge.COMMAND
        if self._estimate is not None:
            return self._hold.succeeded, Judge.ESTIMATE
        if self.operator.attended:
            self._typed.clear()
            self.operator.tell(f"episode {index}: did it succeed? y, n, or u for unknown")
            answer = ""

            def answered() -> bool:
                nonlocal answer
                answer = self._key().lower()
                return answer in ("y", "n", "u") and answer != ""

            self._wait(answered, COMMAND_TIMEOUT, keys=False)
            if answer in ("y", "n"):
                return answer == "y", Judge.OPERATOR
        return None, Judge.NOBODY

    def _lower(self) -> None:
        """The way out: stop, hold still, lower, let go. Never raises."""
        loop = self.loop
        if loop.phase in (Phase.RUNNING, Phase.DEGRADED):
            loop.request = Request.STOP
            loop.run(lambda: loop.phase not in (Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING), 5.0)
        if loop.ended():
            return
        if loop.state.fault is not None and self.operator.attended:
            self._ask_to_lower()
        limits = loop.settings.deadlines
        while True:
            loop.request = Request.SETTLE
            before = loop.inputs.presses

            def stopped() -> bool:
                self._key()
                return loop.attended and loop.phase is Phase.ESTOP and loop.inputs.presses > before  # noqa: B023

            if not loop.run(
                lambda: loop.ended() or stopped(),
                limits.hold + limits.retreat + limits.settling + limits.silent,
            ):
                loop.faults.append("torque off could not be confirmed: switch the arm's power off")
                return
            if loop.ended():
                return
            # Stopped on the way down: the operator decides again.
            loop.request = Request.NONE
            self._ask_to_lower()

    def _report_fault(self) -> None:
        """Once: a fault may also come while the arm is lowered."""
        if self.loop.state.fault is not None and self.on_fault is not None:
            report, self.on_fault = self.on_fault, None
            report(self.loop.faults[0])

    def _ask_to_lower(self) -> None:
        """The arm holds until the operator wants it lowered, or has gone."""
        loop = self.loop
        # What was typed before the question is no answer.
        self._typed.clear()
        self.operator.tell(f"FAULT: {loop.faults[-1]}. The arm holds. Press s to lower it to rest.")
        self._asking = "s lower the arm to rest  space EMERGENCY STOP"
        if loop.phase is Phase.ESTOP:
            self.operator.tell("Space once more lets go at once: the arm drops.")
            self._asking = "s lower the arm to rest  space let go: the arm drops"

        def decided() -> bool:
            if loop.ended() or self.interrupted:
                return True
            if self._key().lower() != "s":
                return False
            if loop.phase is Phase.ESTOP and loop.inputs.stop_held:
                self.operator.tell("the emergency stop is still pressed: release it first, then press s")
                return False
            return True

        loop.run(decided)
        self._asking = ""
        # A person who has ended the program is not there to decide any more.
        loop.attended = loop.attended and not self.interrupted

    def _key(self) -> str:
        """The next key that was pressed and nobody has asked for, or ""."""
        self._listen()
        return self._typed.popleft() if self._typed else ""

    def _listen(self) -> None:
        """Take keys as they come, whatever is waited for: space and Escape are the emergency stop, every key is a sign
        of life. The others wait for `_key`."""
        key = self.operator.pressed()
        if key:
            self.loop.operator_sign()
        if key in ESTOP_KEYS:
            self.loop.estop.press("key")
        elif key:
            self._typed.append(key)

    # Waiting

    def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._wait(condition, timeout):
            raise Sim2RealError(f"waited {timeout:.0f} s for {what}{self._obstacle()}")

    def _obstacle(self) -> str:
        """What the gate keeps the arm from leaving, if it stands where it must not be."""
        gate = self.loop.gate
        places = (
            ("too near the table or the workspace's end", gate.clearance(gate.position)),
            ("folded into itself", gate.self_clearance(gate.position)),
        )
        wrong = [f"{what} ({1000 * by:.0f} mm)" for what, by in places if by < 0]
        if not wrong:
            return ""
        return (
            f"; it stands {' and '.join(wrong)}: put the limp arm near its rest pose by hand and begin again"
        )

    def _wait(
        self, condition: Callable[[], bool], timeout: float, *, keys: bool = True, also: Sequence[str] = ()
    ) -> bool:
        """Tick until `condition()`, or until one of the keys `also` (then in `_said`).

        Raises Stopped when something ends the session.
        """

        def done() -> bool:
            if self.interrupted or self.loop.state.fault is not None:
                return True
            key = self._key() if keys else ""
            if key:
                if key in also or key.lower() in also:
                    self._said = key.lower()
                    return True
                if key.lower() == Key.STOP:
                    self.stopped = AT_TERMINAL
                    return True
                self._other_key(key)
            return condition()

        reached = self.loop.run(done, timeout)
        if self.interrupted:
            self.stopped = f"stopped by {signal.Signals(self.interrupted).name}"
        elif self.loop.state.fault is not None:
            self.stopped = self.loop.faults[-1]
        if self.stopped:
            raise Stopped
        return reached

    def _other_key(self, key: str) -> None:
        """A key that means nothing to the session."""

    def _command(self, command: str, index: int, goal: Array | None) -> int:
        """A user's shell command; its output goes to standard error, since ours is for the result."""
        environment = {**os.environ, "EPISODE": str(index), "TASK": self.plan.task_name}
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

    # Frames

    def _do(self, what: str) -> None:
        """Say what the session is doing from now on."""
        self._activity, self._since = what, self.loop.clock.now()

    def _frame(self, time: float, observation: Observation) -> None:
        self._listen()
        if self.interrupted and self.loop.request is Request.RUN:
            self.loop.request = Request.STOP
        self._look_on(time)
        if self.loop.episode < 0 or not self._acting:
            return
        if self.recorder is not None:
            problem = self.recorder.problem
            if problem and problem != self._told_problem:
                self._told_problem = problem
                self.operator.tell(f"{problem}. The arm goes on.")
        if self.plan.task is not None:
            self._estimate = self.plan.task.estimate(observation, self.loop.robot)
        self._hold.look(time, bool(self._estimate))

    @property
    def _acting(self) -> bool:
        """Whether what happens now belongs to an episode."""
        return self.loop.policy.on

    def _look_on(self, time: float) -> None:
        """Let the operator know how things stand."""
        loop, recorder = self.loop, self.recorder
        since, ticks, _ = self._rate
        if time - since >= RATE_TIME:
            self._rate = (time, loop.counts.ticks, (loop.counts.ticks - ticks) / (time - since))
        reading = loop.reading
        assert reading is not None
        self.operator.show(
            Status(
                robot=loop.robot.name,
                state=loop.phase.value,
                fault=loop.state.fault or "",
                joints=loop.robot.joint_names,
                position=reading.position,
                goal=loop.executed if loop.energised else reading.position,
                temperature=reading.temperature,
                rate=self._rate[2],
                overruns=loop.counts.overruns,
                clipped=loop.counts.clipped,
                rejected=loop.counts.rejected,
                activity=self._activity,
                elapsed=time - self._since,
                kept=len(self.results),
                planned=self.plan.episodes,
                recording=recorder is not None,
                recorded=0 if recorder is None else recorder.taken,
                lost=0 if recorder is None else recorder.lost,
                problem="" if recorder is None else recorder.problem,
                keys=self._asking or self._keys(),
            )
        )

    def _keys(self) -> str:
        """Which keys do what just now."""
        if self.loop.episode >= 0 and self.recorder is not None:
            return "s success  f failure  d discard  r redo  q stop  space EMERGENCY STOP"
        return "q stop  space EMERGENCY STOP"
