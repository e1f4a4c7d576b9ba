"""A policy on an arm: everything that has to be checked, started and written around a session.

`deploy` and `record` are the same run; recording adds a recorder process. The order is: what can be wrong in the
request, then the port, then the other processes, then (on a terminal) a question, and only then torque.
"""

import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.loop import ControlLoop
from hardware.runtime.session import NoOperator, Plan, Session
from hardware.runtime.sources import GoalOnly, PerceptionSource
from hardware.runtime.supervisor import ENERGISED, Phase
from sim2real.arm import ArmState
from sim2real.calibration import Calibration
from sim2real.clock import RealClock
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.statistics import wilson_interval
from sim2real.tasks.base import Task, load_task

if TYPE_CHECKING:
    from hardware.cameras import CameraProcess
    from hardware.runtime.recorder import RecorderProcess
    from hardware.serial_arm import SerialArm
    from sim2real.camera import CameraModel

Array = NDArray[np.float64]

EYE = "front"
"""The camera that looks for objects, where there are several."""

EMULATED = "emulated"
"""The port that starts an emulated arm."""


@dataclass(frozen=True)
class Options:
    """What `deploy` and `record` were asked for; names as on the command line."""

    command: str
    port: str
    out: str
    policy: str = "expert"
    task: str | None = None
    robot: str = "so101"
    calibration: str | None = None
    camera: tuple[str, ...] = ()
    cameras: str | None = None
    goal: str | None = None
    episodes: int | None = None
    seconds: float | None = None
    before_episode: str | None = None
    success: str | None = None
    seed: int = 0
    speed: float = 1.0
    dry_run: bool = False
    yes: bool = False
    record: bool = False

    def __post_init__(self) -> None:
        if self.episodes is not None and self.seconds is not None:
            raise UserError("--episodes and --seconds exclude each other: give one of them")
        if self.episodes is not None and self.episodes < 1:
            raise UserError(f"--episodes must be at least 1, got {self.episodes}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise UserError(f"--seconds must be positive, got {self.seconds}")
        if not 0 < self.speed <= 1:
            raise UserError(f"--speed scales the limits and must be in (0, 1], got {self.speed}")


@dataclass(frozen=True)
class Setup:
    """The request, understood and checked; nothing has been opened yet."""

    options: Options
    robot: Robot
    task: Task
    task_name: str
    policy: Mapping[str, Any]
    """What is known of the policy: its name, and hash and provenance of a file."""
    goal: Array | None


def run(options: Options) -> tuple[dict[str, Any], int]:
    """Deploy or record. Returns the result (the JSON of the command) and the exit status.

    Raises UserError for mistakes found before anything moves, Sim2RealError for what could not be started.
    """
    with ExitStack() as stack:
        # Termination cleans up like Ctrl-C, and Ctrl-C works even where a shell made us ignore it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            previous = signal.signal(number, _interrupt)
            stack.callback(signal.signal, number, previous)
        setup = prepare(options)
        rig = None
        try:
            options = _emulate(options, setup, stack)
            rig = _Rig(setup, options, stack)
            return rig.run()
        except _Interrupted as stop:
            # Torque has not been on: the session handles signals by itself.
            result = empty_result(setup, Phase.DISCONNECTED if rig is None else rig.phase)
            return result | {"stopped": f"stopped by {stop.signal.name}"}, status_of(stop.signal)


def prepare(options: Options) -> Setup:
    """Everything that can be found wrong without touching the arm."""
    robot = Robot.load(options.robot)
    policy: dict[str, Any] = {"policy": options.policy}
    task_name = options.task
    if options.policy.endswith(".onnx") or Path(options.policy).is_file():
        from hardware.policy_file import load_policy_file

        file = load_policy_file(options.policy)
        file.check(robot)
        task_name = task_name or file.info.task
        file.check(robot, load_task(task_name))
        policy |= {"sha256": file.sha256, "provenance": dict(file.info.provenance)}
    elif task_name is None:
        raise UserError(
            f"the policy '{options.policy}' does not say what it is for: add --task "
            "(policy files know their task)"
        )
    task = load_task(task_name)
    goal = None if options.goal is None else parse_goal(options.goal, robot)
    if options.calibration is not None:
        Calibration.load(options.calibration, robot)
    return Setup(options, robot, task, task_name, policy, goal)


def parse_goal(text: str, robot: Robot) -> Array:
    """(3,) m from "x,y,z". Raises UserError for anything else, and for a place that the arm cannot reach."""
    try:
        goal = np.array([float(part) for part in text.split(",")])
    except ValueError:
        goal = np.zeros(0)
    if goal.shape != (3,) or not np.isfinite(goal).all():
        raise UserError(f"--goal takes x,y,z in metres in the robot's base frame, got '{text}'")
    distance = float(np.linalg.norm(goal))
    if distance > robot.gate.reach or goal[2] < 0:
        raise UserError(
            f"--goal {text} is out of reach: {robot.name} works up to {robot.gate.reach} m from its base, above "
            f"its table (z = 0); the goal is {distance:.2f} m away at z = {goal[2]:g} m"
        )
    return goal


def goals_of(setup: Setup) -> Callable[[int], Array | None]:
    """The goal of episode i: the one given, one drawn from the task's distribution, or None (the camera's)."""
    task, seed = setup.task, setup.options.seed
    if setup.goal is not None:
        return lambda i: setup.goal
    if "mark" in task.objects or not any(feature.name == "goal" for feature in task.features):
        return lambda i: None

    def drawn(i: int) -> Array:
        rng = np.random.default_rng([seed, i])
        values = {p.name: rng.uniform(p.low, p.high) for p in task.scene_parameters()}
        return np.array(task.setup(values, rng).goal)

    return drawn


def objects_to_see(setup: Setup) -> frozenset[str]:
    """What the camera must find: the cube, and the mark unless the goal was given."""
    return setup.task.objects - ({"mark"} if setup.goal is not None else set())


def _emulate(options: Options, setup: Setup, stack: ExitStack) -> Options:
    """Start an emulated arm when asked to, and use its files and commands where none were given."""
    if options.port != EMULATED:
        return options
    from dataclasses import replace

    from hardware.emulator.launch import start_emulator

    _say("starting an emulated arm")
    handle = stack.enter_context(start_emulator(options.robot, task=setup.task_name, seed=options.seed))
    defaults: dict[str, Any] = {"port": handle.port}
    if options.calibration is None:
        defaults["calibration"] = handle.calibration
    if options.cameras is None:
        defaults["cameras"] = handle.cameras_file
    if not options.camera:
        defaults["camera"] = tuple(f"{name}={source}" for name, source in handle.sources.items())
    if options.before_episode is None:
        defaults["before_episode"] = handle.before_episode
    if options.success is None:
        defaults["success"] = handle.success_command
    return replace(options, **defaults)


class DryArm:
    """The real arm without the motion: reads, sends nothing."""

    def __init__(self, arm: "SerialArm") -> None:
        self._arm = arm
        self.robot = arm.robot
        self.enabled = np.ones(arm.robot.n, dtype=np.bool_)

    def observe(self) -> ArmState:
        return self._arm.observe()

    def command(self, position: Array) -> Array:
        return np.clip(position, *self._arm.calibration.limits)

    def enable(self) -> None:
        pass

    def relax(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self._arm.close()


class _Rig:
    """Arm, processes and session of one run."""

    def __init__(self, setup: Setup, options: Options, stack: ExitStack) -> None:
        self.setup, self.options, self.stack = setup, options, stack
        self.out = Path(options.out)
        self.phase = Phase.DISCONNECTED
        self._cameras: dict[str, CameraProcess] = {}
        self.privileges: dict[str, bool] = {}

    def run(self) -> tuple[dict[str, Any], int]:
        from hardware.runtime.priority import release_priority, take_priority
        from hardware.runtime.recorder import RecorderProcess
        from hardware.runtime.terminal import Terminal

        setup, options = self.setup, self.options
        cameras = self._camera_models()
        arm = self._connect()
        loop = self._loop(arm, cameras)
        terminal = Terminal() if Terminal.available() else None
        if terminal is not None:
            self.stack.enter_context(terminal)
        loop.attended = terminal is not None
        plan = Plan(
            task=setup.task,
            episodes=options.episodes or 1,
            seconds=options.seconds,
            seed=options.seed,
            goals=goals_of(setup),
            before=options.before_episode,
            judge=options.success,
            motion=not options.dry_run,
        )
        operator = terminal if terminal is not None else NoOperator(_say)
        session = Session(loop, plan, operator=operator)
        if options.record:
            session.recorder = self._recorder(arm, loop)
        if terminal is not None and not options.yes and not options.dry_run:
            where = f"{setup.robot.name} at {options.port}"
            if not terminal.confirm(
                f"{where} is about to move. Is its workspace free? (q or space stops it)"
            ):
                raise UserError("not confirmed: nothing has moved")
        begin = time.monotonic()
        self._make_out()
        gc.collect()
        gc.freeze()
        with _handled(session):
            self.privileges = take_priority()
            loop.resync()
            try:
                session.run()
            finally:
                release_priority()
            arm.close()
            result = self._result(loop, session, time.monotonic() - begin)
            if isinstance(session.recorder, RecorderProcess):
                session.recorder.close()
                result |= {"recorded": session.recorder.saved, "lost_frames": session.recorder.lost}
            self._write(result, loop, session)
        return result, self._status(session)

    # Parts

    def _connect(self) -> "SerialArm":
        from hardware.serial_arm import SerialArm

        options, robot = self.options, self.setup.robot
        calibration = None if options.calibration is None else Calibration.load(options.calibration, robot)
        arm = SerialArm.connect(robot, options.port, calibration)
        self.stack.callback(arm.close)
        self.phase = Phase.LIMP
        return arm

    def _camera_models(self) -> dict[str, "CameraModel"]:
        """The cameras to use, each with its source. Raises UserError when one that is needed is missing."""
        from dataclasses import replace

        from sim2real.camera import load_cameras

        options, needed = self.options, objects_to_see(self.setup)
        tables = {} if options.cameras is None else load_cameras(options.cameras)
        sources: dict[str, str] = {}
        for entry in options.camera:
            name, separator, source = entry.partition("=")
            if not separator or not name or not source:
                raise UserError(
                    f"--camera takes name=SOURCE (an index, device, file or stream), got '{entry}'"
                )
            if name not in tables:
                where = f"{options.cameras} has {', '.join(tables) or 'none'}" if options.cameras else ""
                raise UserError(
                    f"camera '{name}' is not described{': ' + where if where else ''}; "
                    "give --cameras FILE with a table of that name (size, intrinsics, camera_to_base)"
                )
            sources[name] = source
        used = {
            name: replace(model, source=sources.get(name, model.source))
            for name, model in tables.items()
            if sources.get(name, model.source)
        }
        if needed and not used:
            raise UserError(
                f"the task '{self.setup.task.name}' has to see {' and '.join(sorted(needed))}: "
                "give --cameras FILE and --camera name=SOURCE"
                + (" (or --goal x,y,z for the mark)" if needed == {"mark"} else "")
            )
        return used

    def _loop(self, arm: "SerialArm", cameras: Mapping[str, "CameraModel"]) -> ControlLoop:
        """Start everything that runs beside the loop, and the loop itself (not yet ticking)."""
        from hardware.runtime.guardian import Watchdog
        from hardware.runtime.inference import InferenceProcess

        setup, options = self.setup, self.options
        robot_spec = options.robot
        # First, so that they load while the rest starts.
        policy = InferenceProcess(options.policy, setup.task_name, robot_spec, seed=options.seed)
        self.stack.callback(policy.close)
        perception = self._perception(cameras)
        guardian = None
        if not options.dry_run:
            guardian = Watchdog(setup.robot, options.port, arm.calibration, speed=options.speed)
            self.stack.callback(guardian.close)
        policy.wait_ready()
        return ControlLoop(
            DryArm(arm) if options.dry_run else arm,
            RealClock(),
            policy,
            perception,
            speed=options.speed,
            limits=arm.calibration.limits,
            guardian=guardian,
        )

    def _perception(self, cameras: Mapping[str, "CameraModel"]) -> PerceptionSource:
        """Start the cameras: the one that looks for objects, and when recording also those that only see."""
        needed = objects_to_see(self.setup)
        if not needed and not self.options.record:
            return GoalOnly(self.setup.goal)
        from hardware.cameras import CameraProcess
        from hardware.tracking import CameraPerception

        looking = (EYE if EYE in cameras else next(iter(cameras), None)) if needed else None
        if not self.options.record:
            cameras = {name: model for name, model in cameras.items() if name == looking}
        for name, model in cameras.items():
            self._cameras[name] = CameraProcess(model, needed if name == looking else ())
            self.stack.callback(self._cameras[name].close)
        for camera in self._cameras.values():
            camera.wait_ready()
        if looking is None:
            return GoalOnly(self.setup.goal)
        return CameraPerception(self._cameras[looking], needed, self.setup.goal)

    def _recorder(self, arm: "SerialArm", loop: ControlLoop) -> "RecorderProcess":
        from hardware.runtime.recorder import RecorderConfig, RecorderProcess

        config = RecorderConfig(
            root=str(self.out),
            robot=self.options.robot,
            calibration=arm.calibration.table(),
            task=self.setup.task.name,
            cameras={name: camera.camera for name, camera in self._cameras.items()},
            pictures={name: camera.reader for name, camera in self._cameras.items()},
        )
        recorder = RecorderProcess(config, lambda condition, timeout: loop.run(condition, timeout))
        self.stack.callback(recorder.close)
        return recorder

    def _make_out(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out} cannot be made: {error.strerror}") from None

    # Reporting

    def _result(self, loop: ControlLoop, session: Session, seconds: float) -> dict[str, Any]:
        results = session.results
        successes = sum(r.success is True for r in results)
        judged = sum(r.success is not None for r in results)
        counts = loop.counts
        columns = loop.log.columns()
        energised = np.isin(columns["phase"], [list(Phase).index(phase) for phase in ENERGISED])
        errors = columns["period_error"][energised]
        return empty_result(self.setup, loop.phase) | {
            "episodes": len(results),
            "successes": successes,
            "success_rate": successes / judged if judged else None,
            "wilson_95": list(wilson_interval(successes, judged)),
            "unknown": len(results) - judged,
            "rate_hz": float(1 / (loop.period + errors.mean())) if len(errors) else None,
            "period_error_ms": _spread(np.abs(errors), PERIOD_KEYS),
            "commands": counts.commands,
            "clipped": counts.clipped,
            "rejected": counts.rejected,
            "overruns": counts.overruns,
            "faults": list(loop.faults),
            "stopped": session.stopped,
            "seconds": round(seconds, 3),
            "latency_ms": _spread(np.array(counts.latencies), LATENCY_KEYS),
            "chunks": counts.chunks,
            "expired": counts.expired,
            "refused": counts.refused,
            "bus_errors": counts.bus_errors,
            "privileges": self.privileges,
        }

    def _status(self, session: Session) -> int:
        if session.loop.state.fault is not None or session.loop.faults:
            return 1
        if session.interrupted:
            return status_of(signal.Signals(session.interrupted))
        return 130 if session.stopped else 0

    def _write(self, result: Mapping[str, Any], loop: ControlLoop, session: Session) -> None:
        """result.json, config.json and the logs. A full disk costs the files, not the result."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from pipelines.sweep import provenance

        config = provenance(self.options.command) | {
            "seed": self.options.seed,
            "policy": self.options.policy,
            "settings": asdict(self.options)
            | {
                "task": self.setup.task.name,
                "robot": self.setup.robot.name,
                "policy_file": self.setup.policy,
            },
        }
        rows = [asdict(r) for r in session.results]
        try:
            _write_json(self.out / "config.json", config)
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), self.out / "episodes.parquet")
            if len(loop.log):
                pq.write_table(loop.log.table(), self.out / "log.parquet")
            _write_json(self.out / "result.json", result)
        except OSError as error:
            _say(f"could not write to {self.out}: {error}")


PERIOD_KEYS = ("p50", "p99", "max")
LATENCY_KEYS = ("mean", "p50", "p95", "p99", "max")


def empty_result(setup: Setup, phase: Phase) -> dict[str, Any]:
    """The result of a run in which nothing has happened yet: every key that there is."""
    nothing = np.zeros(0)
    counts = ("episodes", "successes", "unknown", "commands", "clipped", "rejected", "overruns", "chunks")
    return {name: 0 for name in (*counts, "expired", "refused", "bus_errors")} | {
        "success_rate": None,
        "wilson_95": list(wilson_interval(0, 0)),
        "rate_hz": None,
        "period_error_ms": _spread(nothing, PERIOD_KEYS),
        "faults": [],
        "final_state": phase.value,
        "stopped": "",
        "task": setup.task.name,
        "robot": setup.robot.name,
        "policy": setup.options.policy,
        "dry_run": setup.options.dry_run,
        "seconds": 0.0,
        "latency_ms": _spread(nothing, LATENCY_KEYS),
        "privileges": {},
        "out": setup.options.out,
    }


def status_of(number: signal.Signals) -> int:
    """The exit status after a signal: 130 for Ctrl-C, as shells have it for the others."""
    return 128 + int(number)


def _spread(values: Array, keys: tuple[str, ...]) -> dict[str, float | None]:
    """Mean, percentiles and maximum in ms of values in s; null where there are none."""
    spread: dict[str, float | None] = {}
    for key in keys:
        if len(values) == 0:
            spread[key] = None
        elif key == "mean":
            spread[key] = round(float(values.mean()) * 1000, 4)
        else:
            quantile = 100.0 if key == "max" else float(key[1:])
            spread[key] = round(float(np.percentile(values, quantile)) * 1000, 4)
    return spread


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)


class _Interrupted(BaseException):
    """A signal came while nothing could move. No `Exception`: nobody must catch it on the way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(number)


@contextmanager
def _handled(session: Session) -> Iterator[None]:
    """While the arm may move, and until its story is written, signals mean: stop, lower, let go."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, session.interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def summary(result: Mapping[str, Any]) -> str:
    """The result in a few lines, for people."""
    rate = result["success_rate"]
    low, high = result["wilson_95"]
    error = result["period_error_ms"]
    lines = [
        f"episodes    {result['episodes']}, {result['successes']} succeeded"
        + (f" ({rate:.0%}, 95 % interval {low:.0%} to {high:.0%})" if rate is not None else "")
        + (f", {result['unknown']} unknown" if result["unknown"] else ""),
        f"loop        {result['rate_hz'] or 0:.1f} Hz, period error p50 {error['p50']} ms, p99 {error['p99']} ms, "
        f"max {error['max']} ms, {result['overruns']} periods skipped",
        f"commands    {result['commands']}, {result['clipped']} clipped, {result['rejected']} rejected",
        f"faults      {'; '.join(result['faults']) or 'none'}",
        f"the arm is  {result['final_state']}",
        f"written to  {result['out']}",
    ]
    return "\n".join(lines)
