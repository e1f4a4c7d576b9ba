"""What a run on an arm needs around its loop: the arm, cameras, the policy's process, watchdog and recorder.

Everything that is started goes onto an ExitStack and ends with it, in the reverse order.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.deadlines import Deadlines
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.control.tick import Tick, TickSink
from hardware.runtime.recording.blackbox import BlackBox
from hardware.runtime.recording.blackbox_rows import BlackBoxSink, about
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.playback import EpisodeSource
from hardware.runtime.sources.corrections import Corrections
from hardware.runtime.sources.inference import InferenceProcess
from hardware.runtime.sources.jog import KeyboardJog
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy, PerceptionSource, PolicySource
from hardware.runtime.sources.teleop import Guide, Leader
from pipelines.deployment.policy_pace import check_pace
from pipelines.deployment.request import EMULATED, Options, Setup, objects_to_see
from pipelines.deployment.result import say
from sim2real.arm import ArmState
from sim2real.calibration import Calibration
from sim2real.camera_coverage import difference
from sim2real.camera_placement import looking as looking_camera
from sim2real.clock import RealClock
from sim2real.errors import UserError
from sim2real.pictures import find_cameras
from sim2real.policies.remote import Surroundings

if TYPE_CHECKING:
    from hardware.arm.serial_arm import SerialArm
    from hardware.cameras.process import CameraProcess
    from hardware.cameras.shared import CameraReader
    from hardware.runtime.recording.recorder import RecorderProcess
    from hardware.runtime.safety.estop_line import LineWatcher
    from hardware.runtime.safety.watchdog_client import Watchdog
    from hardware.runtime.sessions.session import Session
    from pipelines.deployment.browser_view import BrowserView
    from pipelines.deployment.view import LiveView
    from sim2real.camera import CameraModel

Array = NDArray[np.float64]

TIMED = 25
"""Readings by which the line is timed before torque comes on."""

ATTEMPTS = 3
"""Times that a line is found too slow before that is believed."""

STRANGE = 20
"""How often in a session something may come that nobody asked for: noise, damaged requests."""


def emulate(options: Options, setup: Setup, stack: ExitStack) -> Options:
    """Start emulated arms when asked to, and use their files and commands where none were given."""
    from hardware.emulator.launch import start_emulator

    if options.leader == EMULATED:
        robot = options.leader_robot or options.robot
        say("starting an emulated leader")
        leader = stack.enter_context(start_emulator(robot, seed=options.seed, camera=False))
        say(f"the leader is moved through {leader.control_url}/hand")
        options = replace(
            options,
            leader=leader.port,
            leader_calibration=options.leader_calibration or leader.calibration,
        )
    if options.port != EMULATED:
        return options
    say("starting an emulated arm")
    task = None if setup.task is None else setup.task_name
    handle = stack.enter_context(start_emulator(options.robot, task=task, seed=options.seed))
    if options.hand:
        say(f"the arm is moved through {handle.control_url}/hand")
    defaults: dict[str, Any] = {"port": handle.port}
    if options.calibration is None:
        defaults["calibration"] = handle.calibration
    if options.cameras is None and handle.sources:
        defaults["cameras"] = handle.cameras_file
    if not options.camera:
        defaults["camera"] = tuple(f"{name}={source}" for name, source in handle.sources.items())
    if options.acts == "policy" and options.before_episode is None:
        defaults["before_episode"] = handle.before_episode
    if options.acts == "policy" and options.success is None:
        defaults["success"] = handle.success_command
    return replace(options, **defaults)


class Observer:
    """Looks on at a run: told which processes it starts, and every tick of its loop. This one does nothing."""

    def started(self, role: str, pid: int | None) -> None:
        """A process of the run's own has been started."""

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""


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

    def enable(self) -> Array:
        return self._arm.observe().position

    def relax(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def acknowledge(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self._arm.close()


class Rig:
    """Arm and processes of one run."""

    def __init__(
        self, setup: Setup, options: Options, stack: ExitStack, observer: Observer | None = None
    ) -> None:
        self.setup, self.options, self.stack = setup, options, stack
        self.observer = Observer() if observer is None else observer
        self.out = Path(options.out)
        self.phase = Phase.DISCONNECTED
        self._cameras: dict[str, CameraProcess] = {}
        self._sources: dict[str, str] = {}
        self._stops: list[LineWatcher] = []
        self._needed = objects_to_see(setup)
        """What the camera must find."""
        self.guide: Guide | None = None
        """The person who acts, if one does."""
        self.corrections: Corrections | None = None
        """The policy and the person who may take over from it, if one may."""
        self.guardian: Watchdog | None = None
        self.log = TickLog(setup.robot.joint_names)
        """Every tick of the loop."""

    def connect(self) -> "SerialArm":
        from hardware.arm.serial_arm import SerialArm
        from hardware.servos.pace import LinePace
        from sim2real.status import report

        options, robot = self.options, self.setup.robot
        calibration = None if options.calibration is None else Calibration.load(options.calibration, robot)
        arm = SerialArm.connect(robot, options.port, calibration)
        self.stack.callback(arm.close)
        self.phase = Phase.LIMP
        arm.observe()
        for attempt in range(ATTEMPTS):
            # More than once: it may have been this machine, which loads so much just now.
            pace = LinePace(options.port, *arm.time_readings(TIMED))
            if pace.serves(robot) or attempt == ATTEMPTS - 1:
                pace.require(robot)
                break
        for joint, names in arm.alarms().items():
            say(f"{joint} reports {report(names)}")
        return arm

    def require_alone(self) -> None:
        """Raise PortShared when another program has the arm's port open by now."""
        from hardware.servos.port_users import require_alone

        require_alone(self.options.port)

    def note_strangers(self, arm: "SerialArm", session: "Session") -> str:
        """Say so when another program had the port open, or spoke on the line: faults may have their cause there.

        Returns what was said, "" for nothing.
        """
        from hardware.servos.port_users import programs_on

        others = programs_on(self.options.port)
        if others:
            told = f"another program has {self.options.port} open ({'; '.join(map(str, others))})"
        elif arm.bus.taken:
            told = f"another program took replies from {self.options.port} {arm.bus.taken} times"
        elif arm.bus.statistics.strange > STRANGE:
            told = f"somebody else talks on the line: {arm.bus.statistics.strange} times came what nobody had asked for"
        else:
            return ""
        faults = session.loop.faults
        if faults:
            if session.stopped == faults[-1]:
                session.stopped += f"; {told}"
            faults[-1] += f"; {told}"
        else:
            session.operator.tell(
                f"{told}: it may take replies and move joints; close it before the next run"
            )
        return told

    def camera_models(self) -> dict[str, "CameraModel"]:
        """The cameras to use, each with its source. Raises UserError when one that is needed is missing."""
        from sim2real.camera import load_cameras

        options = self.options
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
        self._sources = self._check_sources(used)
        if options.manual and not used:
            # Who acts sees for himself; without a camera the recording just does not say where things are.
            self._needed = ()
        needed = self._needed
        if needed and not used:
            task = self.setup.task
            names = [spec.name for spec in needed]
            zone = None if task is None else task.goal_zone
            raise UserError(
                f"the task '{self.setup.name}' has to see {' and '.join(names)}: "
                "give --cameras FILE and --camera name=SOURCE"
                + (f" (or --goal x,y,z for the {zone})" if names == [zone] else "")
            )
        missing = [name for name in self.setup.pictures if name not in used]
        if missing:
            raise UserError(
                f"the policy at {options.policy} wants to see the camera {', '.join(missing)}: "
                "give --cameras FILE and --camera name=SOURCE"
            )
        find_cameras(self.setup.sees, used, f"the policy {options.policy}")
        return used

    def _check_sources(self, used: Mapping[str, "CameraModel"]) -> dict[str, str]:
        """The identity of each camera; what may become a mistake later is told. Raises UserError for two names of one
        camera, and for cameras that are swapped in the data set that is continued."""
        if not used:
            return {}
        from hardware.cameras.sources import check_distinct, unstable
        from sim2real.lerobot import schema
        from sim2real.lerobot.files import read_json
        from sim2real.lerobot.sources import NOTE, compare_sources

        found = check_distinct({name: model.source for name, model in used.items()})
        if self.options.record:
            for hint in (unstable(name, model.source or "") for name, model in used.items()):
                if hint:
                    say(hint)
            notes = self.out / schema.NOTES_FILE
            if notes.is_file():
                for warning in compare_sources(self.out, read_json(notes).get(NOTE), found):
                    say(warning)
        return found

    def make_loop(self, arm: "SerialArm", cameras: Mapping[str, "CameraModel"]) -> ControlLoop:
        """Start everything that runs beside the loop, and the loop itself (not yet ticking)."""
        from hardware.runtime.safety.watchdog_client import Watchdog

        setup, options = self.setup, self.options
        # First, so that they load while the rest starts.
        self._watch_stops()
        looking = self._start_cameras(cameras)
        source = self._source(arm)
        perception = self._perception(looking)
        guardian = None
        if not options.dry_run and not options.hand:
            guardian = self.guardian = Watchdog(
                setup.robot, options.port, arm.servo_goals, speed=options.speed
            )
            self.stack.callback(guardian.close)
            self.observer.started("watchdog", guardian.pid)
        for part in (
            (source,) if self.corrections is None else (self.corrections.policy, self.corrections.person)
        ):
            if isinstance(part, InferenceProcess | Leader):
                part.wait_ready()
            if isinstance(part, InferenceProcess) and part.timing is not None:
                remark = check_pace(setup.actor, *part.timing)
                if remark:
                    say(remark)
        for stop in self._stops:
            stop.wait_ready()
        loop = ControlLoop(
            DryArm(arm) if options.dry_run else arm,
            RealClock(),
            source,
            perception,
            settings=LoopSettings(
                speed=options.speed,
                limits=arm.calibration.limits,
                deadlines=(
                    Deadlines()
                    if options.operator_timeout is None
                    else Deadlines(operator=options.operator_timeout)
                ),
                moves=not options.dry_run,
                operator_required=options.operator_timeout is not None,
            ),
            guardian=guardian,
            sinks=(self.log, self._black_box(arm), self.observer),
        )
        if isinstance(perception, TickSink):
            # Where the arm is says what it hides from the camera, and what it carries.
            loop.sinks.append(perception)
        loop.estop.inputs += self._stops
        return loop

    def _source(self, arm: "SerialArm") -> PolicySource | None:
        """Whatever gives the actions; None when a hand moves the limp arm."""
        setup, options = self.setup, self.options
        limits = arm.calibration.limits
        source: PolicySource | None = None
        if options.acts == "policy":
            shown = {name: self._cameras[name].reader for name in setup.pictures}
            source = InferenceProcess(
                setup.actor,
                setup.task_name,
                options.robot,
                seed=options.seed,
                surroundings=Surroundings(*limits, cameras=shown),
                timed=True,
            )
            self.observer.started("inference", source.pid)
            if options.collect:
                person, guide = self._person(limits)
                period = 1.0 / setup.robot.policy_rate
                source = self.corrections = Corrections(source, person, guide, period, RealClock())
        elif options.manual and not options.hand:
            source, self.guide = self._person(limits)
        elif setup.motion is not None:
            source = EpisodeSource(setup.motion)
        if source is not None:
            self.stack.callback(source.close)
        return source

    def _person(self, limits: tuple[Array, Array]) -> tuple[PolicySource, Guide]:
        """The actions of a person, and how they see and give them: through a leader arm, or keys."""
        options, robot = self.options, self.setup.robot
        if options.leader is not None:
            leader = Leader(
                options.leader_robot or options.robot,
                options.leader,
                options.leader_calibration,
                options.robot,
                limits,
            )
            return leader, leader
        jog = KeyboardJog(robot, limits)
        return LocalPolicy(jog, 1.0 / robot.policy_rate, RealClock()), jog

    def _black_box(self, arm: "SerialArm") -> BlackBoxSink:
        setup, options = self.setup, self.options
        more = {"command": options.command, "port": options.port, "policy": setup.actor}
        box = BlackBox(setup.robot.n, setup.robot.command_rate, about(setup.robot, task=setup.name, **more))
        box.tap(arm.bus)
        box.start_writer(self.out)
        self.stack.callback(box.close)
        return BlackBoxSink(box)

    def _watch_stops(self) -> None:
        if self.options.estop:
            from hardware.runtime.safety.estop_line import LineWatcher

            for spec in self.options.estop:
                self._stops.append(LineWatcher(spec))
                self.stack.callback(self._stops[-1].close)

    def _start_cameras(self, cameras: Mapping[str, "CameraModel"]) -> str | None:
        """Start the cameras: the one that looks for objects (its name is returned), those that the policy wants
        to see, and where somebody else looks on (a recording, a view, ROS) all others too."""
        needed = self._needed
        still = [name for name, model in cameras.items() if model.link is None]
        looking = looking_camera(still) if needed else None
        if not self.options.record and self.options.view is None and not self.options.ros2:
            wanted = {looking, *self.setup.pictures}
            cameras = {name: model for name, model in cameras.items() if name in wanted}
        if looking is not None and (
            other := difference(self.setup.policy.get("provenance", {}), cameras[looking])
        ):
            say(f"note: {other}: expect it to do worse")
        if cameras:
            from hardware.cameras.process import CameraProcess
        for name, model in cameras.items():
            objects = needed if name == looking else ()
            self._cameras[name] = CameraProcess(model, objects, self.setup.robot if objects else None)
            self.stack.callback(self._cameras[name].close)
            self.observer.started("camera", self._cameras[name].pid)
        return looking

    def _perception(self, looking: str | None) -> PerceptionSource:
        """What is known of the scene, once every camera delivers."""
        for camera in self._cameras.values():
            camera.wait_ready()
        task = self.setup.task
        if self.setup.sees:
            from hardware.cameras.watching import CamerasOnly

            watched = [self._cameras[name] for name in self.setup.pictures]
            return CamerasOnly(watched, self.setup.goal, () if task is None else task.objects)
        if looking is None or task is None:
            return GoalOnly(self.setup.goal, () if task is None else task.objects)
        from hardware.cameras.tracking import CameraPerception

        return CameraPerception(
            self._cameras[looking],
            task.objects,
            self.setup.goal,
            goal_zone=task.goal_zone,
            goal_height=task.goal_height,
            robot=self.setup.robot,
        )

    def readers(self) -> dict[str, "CameraReader"]:
        """What the cameras see that were started, by name."""
        return {name: camera.reader for name, camera in self._cameras.items()}

    def reader(self, camera: str) -> "CameraReader":
        """What a camera that was started sees."""
        return self._cameras[camera].reader

    def make_recorder(self, arm: "SerialArm", loop: ControlLoop) -> "RecorderProcess":
        from hardware.runtime.recording.recorder import RecorderConfig, RecorderProcess

        config = RecorderConfig(
            root=str(self.out),
            robot=self.options.robot,
            calibration=arm.calibration.table(),
            task=self.setup.name,
            cameras={name: camera.camera for name, camera in self._cameras.items()},
            pictures=self.readers(),
            sources={name: self._sources[name] for name in self._cameras if name in self._sources},
            hand_guided=self.options.hand,
            objects=() if self.setup.task is None else self.setup.task.objects,
            corrections=self.corrections is not None,
        )
        recorder = RecorderProcess(
            config, lambda condition, timeout: loop.run(condition, timeout), self.corrections
        )
        self.stack.callback(recorder.close)
        self.observer.started("recorder", recorder.pid)
        return recorder

    def make_view(self) -> "LiveView | BrowserView | None":
        """The viewer, when one was asked for."""
        if self.options.view is None:
            return None
        from pipelines.deployment.browser_view import BrowserView, asked_for
        from pipelines.deployment.view import LiveView

        pictures = {name: camera.reader for name, camera in self._cameras.items()}
        view: LiveView | BrowserView
        if asked_for(self.options.view):
            view = BrowserView(self.setup.robot, self.options.view, pictures)
            say(f"the arm's page is {view.url}")
        else:
            view = LiveView(self.setup.robot, self.options.view, pictures)
        self.stack.callback(view.close)
        return view

    def make_out(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out} cannot be made: {error.strerror}") from None
