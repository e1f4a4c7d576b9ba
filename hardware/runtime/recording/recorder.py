"""Recording in a process of its own: LeRobot episodes with pictures, without ever delaying the loop.

Frames go through a pipe as fixed-size records of float64, written without blocking: if the recorder cannot keep
up, frames are lost and counted, the arm goes on. What begins and ends an episode goes through a second pipe and
says how many frames belong to it. Finished episodes are safe on disk before the recorder says so, and the one
under way is on disk but for its last moments: when the control process dies the recorder saves what it has, when
the recorder dies the next one does (`sim2real.lerobot.journal`). A full disk ends the recording of the episode
under way and is reported through the second pipe; the arm goes on.
"""

import fcntl
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import CODES
from hardware.runtime.control.tick import Tick
from sim2real.calibration import Calibration
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import schema
from sim2real.lerobot.journal import Recovered
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, keys_of, standard_features
from sim2real.robot import Robot
from sim2real.spawning import context, end_process

if TYPE_CHECKING:
    from sim2real.lerobot import FeatureSpec

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

STATE_FEATURE = "supervisor"
"""Feature that holds the code of the supervisor's state (see `supervisor.CODES`)."""

WANTED = "policy.action"
"""Feature that says what the policy wanted then, in the units of `action`; NaN where it had said nothing."""

SERVO = {"temperature": "servo.temperature", "current": "servo.current", "load": "servo.load"}
"""What is recorded of each servo, (n,): fields of `ArmState` and their features. °C, A, duty in -1..1."""

PIPE_SIZE = 1 << 20
KEPT = 90
"""Pictures kept per camera for frames that are still on their way: three seconds', on a machine that is too busy."""

SAVE_TIMEOUT, IDLE_TIMEOUT = 120.0, 15.0
"""s that saving an episode may take, and s of it in which the recorder process uses no processor time: then it hangs
and the arm, which holds meanwhile, need not wait any longer."""

TERMINATION = 0.5
"""Seconds between two looks whether the recorder process has been asked to end."""

STARTED = 300.0
"""Seconds for the process to start: it may have an earlier episode to recover first."""

ENDED = (
    "the recorder process has ended; the episodes saved before are safe, and what it had written of this one is "
    "recovered by the next recording into the folder, or by `sim2real data DIR --recover`"
)


class Pictures(Protocol):
    """Gives the recorder process the pictures of a camera. Must survive the way into another process."""

    def latest(self) -> tuple[float, Image] | None:
        """(time of capture in s of CLOCK_MONOTONIC, (H, W, 3) uint8 RGB) of the newest picture, if any."""


@dataclass(frozen=True)
class RecorderConfig:
    """What the recorder process needs to know. `robot` is a name or the path of a TOML."""

    root: str
    robot: str
    calibration: Mapping[str, Mapping[str, int]]
    task: str
    cameras: Mapping[str, CameraModel] = field(default_factory=dict)
    pictures: Mapping[str, Pictures] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Which camera each of `cameras` is (`hardware.cameras.sources`)."""
    hand_guided: bool = False
    """The arm is limp and moved by hand: the action of a frame is the state of the next one."""
    objects: tuple[ObjectSpec, ...] = ()
    """What lies on the table, whose observations are recorded."""
    corrections: bool = False
    """Whether it is recorded who acted, and what the policy wanted."""

    @property
    def environment(self) -> dict[str, int]:
        """What goes into `observation.environment_state`, in this order, and how many numbers each has."""
        names = ("goal", *(key for spec in self.objects for key in keys_of(spec)))
        return {feature.name: feature.size for feature in standard_features(names, 0)}

    def width(self, robot: Robot) -> int:
        """Numbers per frame: time, state of the supervisor, 3 + 3 joint vectors, environment, corrections."""
        corrections = (1 + robot.n) if self.corrections else 0
        return 2 + (3 + len(SERVO)) * robot.n + sum(self.environment.values()) + corrections


class Corrected(Protocol):
    """Knows who acts and what the policy wants (`sources.corrections.Corrections`)."""

    @property
    def acting(self) -> int: ...

    def wanted(self, time: float, n: int) -> Array:
        """(n,) rad."""


class RecorderNotice(str):
    """What the recorder says without being asked: why it has stopped recording the episode."""


class RecorderProcess:
    """A `session.Recorder`. Raises UserError at once when the folder cannot take the recording."""

    def __init__(
        self,
        config: RecorderConfig,
        wait: Callable[[Callable[[], bool], float], bool],
        corrected: Corrected | None = None,
    ) -> None:
        """`wait(condition, timeout)` is how the caller waits; it keeps the arm's loop going. `corrected`: where the
        configuration has `corrections`, whom to ask for them."""
        assert (corrected is not None) == config.corrections
        robot = Robot.load(config.robot)
        self._corrected = corrected
        self._wait = wait
        self._n = robot.n
        self._hand_guided = config.hand_guided
        self._environment = config.environment
        self._record = np.zeros(config.width(robot))
        reader, self._frames = context.Pipe(duplex=False)
        self._commands, theirs = context.Pipe()
        os.set_blocking(self._frames.fileno(), False)
        fcntl.fcntl(self._frames.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._process = context.Process(
            target=_serve, args=(config, reader, theirs), name="sim2real-recorder", daemon=True
        )
        self._process.start()
        reader.close()
        theirs.close()
        self.saved: list[int] = []
        self.lost = 0
        """Frames that the recorder could not take."""
        self.lost_pictures = 0
        """Frames of saved episodes whose picture was an old one: the camera, or the recorder, was too slow."""
        self.recovered: list[Recovered] = []
        """Episodes that an earlier recorder had left unfinished in the folder."""
        self._problem = ""
        self._hangs = False
        self._sent = 0
        self._pending = self._begun = False
        self._requested = self._executed = np.array(robot.home)
        """Of the last tick."""
        answer = self._answer(STARTED)
        if isinstance(answer, Exception):
            self.close()
            raise answer
        self.recovered = answer

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def problem(self) -> str:
        """Why the episode under way is not recorded any further; empty while it is. Never waits."""
        if not self._problem and self._begun:
            try:
                if self._commands.poll():
                    self._problem = str(self._commands.recv())
                elif not self._process.is_alive():
                    self._problem = ENDED
            except (EOFError, OSError):
                self._problem = ENDED
        return self._problem

    @property
    def taken(self) -> int:
        """Frames of the episode under way that the recorder has been handed."""
        return self._sent

    def begin(self) -> None:
        """An episode begins. Raises Sim2RealError when nobody is there to record it."""
        self._sent, self._pending, self._problem, self._begun = 0, False, "", True
        if self.problem == ENDED:
            raise Sim2RealError(ENDED)

    def tick(self, tick: Tick) -> None:
        """See `TickSink`: where a frame begins during an episode, the frame before it is complete."""
        if tick.observation is not None and self._begun and tick.episode >= 0:
            # A frame's actions are those sent until the next one starts: they are known only then.
            if self._pending:
                self._finish(tick.observation, tick.time)
            self._start_frame(tick, tick.observation)
        self._requested, self._executed = tick.requested, tick.executed

    def _start_frame(self, tick: Tick, observation: Observation) -> None:
        reading = tick.reading
        assert reading is not None
        record, n, at = self._record, self._n, 2
        record[0], record[1] = reading.time, CODES[tick.state.phase]
        record[at : at + n] = observation["joint_position"]
        at += 3 * n
        for name in SERVO:
            record[at : at + n] = getattr(reading, name)
            at += n
        for name, size in self._environment.items():
            record[at : at + size] = observation[name]
            at += size
        if self._corrected is not None:
            record[at] = self._corrected.acting
        self._pending = True

    def _finish(self, following: Observation, end: float) -> None:
        n, guided = self._n, self._hand_guided
        if self._corrected is not None:
            self._record[-n:] = self._corrected.wanted(end, n)
        self._record[2 + n : 2 + 2 * n] = following["joint_position"] if guided else self._requested
        self._record[2 + 2 * n : 2 + 3 * n] = following["joint_position"] if guided else self._executed
        try:
            # Small enough for the system to write it whole or not at all.
            os.write(self._frames.fileno(), self._record.tobytes())
            self._sent += 1
        except OSError:
            self.lost += 1
        self._pending = False

    def end(self, success: bool | None, ended: str = "") -> None:
        """Keep the episode (`ended`: what is unusual about its end); waits until it is safe on disk.

        Raises Sim2RealError when it is not.
        """
        answer = self._ask("save", success, ended)
        if isinstance(answer, Exception):
            raise answer
        index, self.lost_pictures = answer
        self.saved.append(index)

    def discard(self) -> None:
        """Drop the frames since `begin`, if there are any."""
        if self._sent:
            self._ask("discard", None)

    def _ask(self, what: str, success: bool | None, ended: str = "") -> Any:
        """Send a command about the frames sent so far; its answer, or the exception that stands for it."""
        problem = self.problem
        sent, self._sent, self._pending, self._problem = self._sent, 0, False, ""
        self._begun = False
        if problem == ENDED:
            return Sim2RealError(ENDED)
        try:
            self._commands.send((what, sent, success, ended))
        except OSError:
            return Sim2RealError(ENDED)
        used, since = _processor_time(self._process.pid), time.monotonic()

        def over() -> bool:
            nonlocal used, since
            if self._commands.poll() or not self._process.is_alive():
                return True
            if time.monotonic() - since > IDLE_TIMEOUT:
                before, used, since = used, _processor_time(self._process.pid), time.monotonic()
                self._hangs = used == before
            return self._hangs

        while True:
            if not self._wait(over, SAVE_TIMEOUT) or (self._hangs and not self._commands.poll()):
                self._hangs = True
                return Sim2RealError(
                    "the recorder process does not answer; the episodes saved before are safe"
                )
            answer = self._answer(0.0)
            # A report of trouble that was on its way is no answer; the answer says the same.
            if not isinstance(answer, RecorderNotice):
                return answer

    def _answer(self, timeout: float) -> Any:
        try:
            if self._commands.poll(timeout):
                return self._commands.recv()
        except (EOFError, OSError):
            pass
        return Sim2RealError(ENDED)

    def close(self) -> None:
        """Finish the data set and end the process; safe to call again."""
        if self._commands.closed:
            return
        try:
            self._commands.send(("close", 0, None, ""))
        except OSError:
            pass
        end_process(self._process, 0.0 if self._hangs else 30.0)
        self._frames.close()
        self._commands.close()


def corrections_features(robot: Robot) -> "dict[str, FeatureSpec]":
    """What is recorded where a person may take over from a policy."""
    from sim2real.lerobot import FeatureSpec

    joints = tuple(f"{joint}.pos" for joint in robot.joint_names)
    return {
        schema.INTERVENTION: FeatureSpec("int64", (1,)),
        WANTED: FeatureSpec("float32", (robot.n,), joints),
    }


def _processor_time(pid: int | None) -> int:
    """Of a process, in ticks of the system's clock; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _serve(config: RecorderConfig, frames: Connection, commands: Connection) -> None:
    """The recorder process. Ends when told to, or when the control process is gone."""
    # What ends the terminal ends the control process, which tells us, or is seen to end.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        writer = _Writer(config)
    except (UserError, Sim2RealError, OSError) as error:
        commands.send(error if isinstance(error, Sim2RealError) else Sim2RealError(str(error)))
        return
    signal.signal(signal.SIGTERM, writer.terminate)
    commands.send(writer.recorder.recovered)
    try:
        if not writer.serve(frames, commands):
            writer.rescue()
    finally:
        writer.close()


class _Writer:
    """Reads frames and commands, and writes episodes."""

    def __init__(self, config: RecorderConfig) -> None:
        from sim2real.lerobot import EpisodeRecorder, FeatureSpec
        from sim2real.lerobot.sources import NOTE

        robot = Robot.load(config.robot)
        calibration = Calibration.create(config.calibration, robot, "the calibration")
        self.config, self.n = config, robot.n
        self.recorder = EpisodeRecorder(
            Path(config.root),
            robot,
            calibration,
            environment=config.environment,
            extra={
                STATE_FEATURE: FeatureSpec("int64", (1,)),
                **{
                    feature: FeatureSpec(
                        "float32", (robot.n,), tuple(f"{joint}.{name}" for joint in robot.joint_names)
                    )
                    for name, feature in SERVO.items()
                },
                **(corrections_features(robot) if config.corrections else {}),
            },
            cameras=dict(config.cameras),
            notes=({"hand_guided": True} if config.hand_guided else {})
            | ({NOTE: dict(config.sources)} if config.sources else {}),
            task=config.task,
        )
        self.size = 8 * config.width(robot)
        self.reported = self.terminated = False
        self.buffer = b""
        self.taken = 0
        self.start = 0.0
        self.recent = {name: deque[tuple[float, Image]](maxlen=KEPT) for name in config.pictures}
        if config.pictures:
            # Encoding takes long now and then (its start above all); pictures must not be missed meanwhile.
            threading.Thread(target=self._watch, daemon=True).start()

    def serve(self, frames: Connection, commands: Connection) -> bool:
        """Until told to close (True), or terminated, or the other side is gone."""
        while not self.terminated:
            ready = select.select([frames.fileno(), commands.fileno()], [], [], TERMINATION)[0]
            if frames.fileno() in ready and not self._read(frames):
                return False
            if commands.fileno() in ready:
                try:
                    command = commands.recv()
                except (EOFError, OSError):
                    break
                if command[0] == "close":
                    return True
                self._finish(command, frames, commands)
            if self.recorder.problem and not self.reported:
                self.reported = True
                commands.send(RecorderNotice(self.recorder.problem))
        # Frames may still be in their pipe.
        while select.select([frames.fileno()], [], [], 0)[0] and self._read(frames):
            pass
        return False

    def terminate(self, number: int, frame: Any) -> None:
        """A signal handler: save what there is and end."""
        self.terminated = True

    def rescue(self) -> None:
        """The control process is gone: keep what there is of the episode under way."""
        if self.recorder.frames:
            try:
                self.recorder.save(self.config.task, None, "recovered")
            except Sim2RealError:
                pass  # its journal stays

    def _watch(self) -> None:
        """Keep the last pictures: a frame gets the newest one that was taken before it began."""
        while True:
            for name, source in self.config.pictures.items():
                newest, kept = source.latest(), self.recent[name]
                if newest is not None and (not kept or newest[0] > kept[-1][0]):
                    kept.append(newest)
            time.sleep(0.012)

    def _read(self, frames: Connection) -> bool:
        data = os.read(frames.fileno(), 1 << 16)
        if not data:
            return False
        self.buffer += data
        while len(self.buffer) >= self.size:
            record = np.frombuffer(self.buffer[: self.size], np.float64)
            self.buffer = self.buffer[self.size :]
            self._add(record)
        return True

    def _add(self, record: Array) -> None:
        if self.taken == 0:
            self.start = float(record[0])
        n, at = self.n, 2 + 3 * self.n
        extra: dict[str, Any] = {STATE_FEATURE: int(record[1])}
        for feature in SERVO.values():
            extra[feature] = record[at : at + n]
            at += n
        environment = {}
        for name, size in self.config.environment.items():
            environment[name] = record[at : at + size]
            at += size
        if self.config.corrections:
            extra[schema.INTERVENTION] = int(record[at])
            extra[WANTED] = self.recorder.in_units(record[at + 1 : at + 1 + n])
        images: dict[str, Image | None] = {}
        taken_at: dict[str, float] = {}
        for name, kept in self.recent.items():
            before = [picture for picture in tuple(kept) if picture[0] <= record[0]]
            images[name] = before[-1][1] if before else None
            if before:
                taken_at[name] = before[-1][0] - self.start
        self.recorder.add(
            time=float(record[0]) - self.start,
            state=record[2 : 2 + n],
            action=record[2 + n : 2 + 2 * n],
            executed=record[2 + 2 * n : 2 + 3 * n],
            environment=environment,
            extra=extra,
            images=images,
            image_times=taken_at,
        )
        self.taken += 1

    def _finish(self, command: tuple[Any, ...], frames: Connection, commands: Connection) -> None:
        # What was sent is in the pipe, however far behind we are; left there it would begin the next episode.
        while self.taken < command[1]:
            if not self._read(frames):
                return
        self.taken, self.reported = 0, False
        answer: Any = None
        try:
            if command[0] == "discard":
                self.recorder.discard()
            else:
                index = self.recorder.save(self.config.task, command[2], command[3])
                answer = (index, self.recorder.missing_images)
        except Sim2RealError as error:
            answer = error
        commands.send(answer)

    def close(self) -> None:
        """What is under way is dropped; what is finished stays."""
        try:
            self.recorder.close()
        except OSError:
            pass  # a full disk; the data set is complete without what closing adds
