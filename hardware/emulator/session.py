"""A whole emulated arm as a program: bus on a pty, physics, objects, camera, control, and its files.

Two processes: this one has the bus and the physics, `web.py` the pictures and HTTP. Beside the link it leaves
`LINK.json` (where everything is), `LINK.calibration.json`, `LINK.cameras.toml` and `LINK.twin.toml` (the arm's
true parameters); all of it goes away with the emulator.
"""

import gc
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hardware.children import ENDING
from hardware.emulator import tell
from hardware.emulator.hand import HandPath
from hardware.emulator.view import PICTURES
from sim2real.errors import HardwareError, UserError, nearest
from sim2real.spawning import context

if TYPE_CHECKING:
    from hardware.emulator.traces import SideFiles

POSE_PERIOD = 1 / 120
"""How often poses are handed to the camera, s."""

CALIBRATION, CAMERAS, TWIN = SUFFIXES = (".calibration.json", ".cameras.toml", ".twin.toml")
"""What the files beside the link are called."""

ENGINES = ("bullet", "mujoco")
"""Who can compute the physics."""

ORPHAN_QUIET = 1.0
"""An emulator whose parent has died ends once nobody has used its bus for this long, s: a watchdog may still be
lowering the arm."""


@dataclass(frozen=True)
class EmulatorOptions:
    """What to emulate. `task` chooses the objects (None: a cube and a mark), `twin` a file of parameters, or these by
    name; `engine` who computes the physics. `cameras`, tables by name, stand elsewhere than the robot's file says;
    `pictures` says who draws for them (`view.PICTURES`).

    `episode` is the number of the first episode that is asked for. `faults` are what goes wrong and when, as
    `faults.parse_fault` takes them.
    """

    robot: str = "so101"
    link: str | None = None
    task: str | None = None
    twin: str | Mapping[str, float] | None = None
    engine: str = "bullet"
    cameras: Mapping[str, Any] = field(default_factory=dict)
    pictures: str = "raster"
    episode: int = 1
    seed: int = 0
    camera: bool = True
    http_port: int = 0
    faults: tuple[str, ...] = ()
    carried: bool = False
    """Cameras on the arm, too."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"--seed must be 0 or more, got {self.seed}")
        if self.pictures not in PICTURES:
            raise UserError(f"pictures are drawn by {' or '.join(PICTURES)}, got {self.pictures!r}")
        if self.engine not in ENGINES:
            raise UserError(
                f"--engine must be {' or '.join(ENGINES)}, got {self.engine!r}{nearest(self.engine, ENGINES)}"
            )
        if not 0 <= self.http_port <= 65535:
            raise UserError(f"--http-port is 0 (any free one) to 65535, got {self.http_port}")


@dataclass(frozen=True)
class Announcement:
    """Where a running emulator can be reached, and the commands to use it with."""

    pid: int
    port: str
    calibration: str
    cameras_file: str
    twin: str
    control_url: str
    sources: dict[str, str]
    before_episode: str
    success_command: str
    robot: str
    task: str
    seed: int


def on_signals(numbers: Iterable[signal.Signals], act: Callable[[int, Any], Any]) -> None:
    """Let `act` answer these signals; a SIGHUP that is ignored (nohup) stays so."""
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, act)


def leave_on_signals() -> None:
    """Until a session serves: what they do by themselves would leave its second process, link and files behind."""
    on_signals((signal.SIGTERM, signal.SIGHUP), lambda *_: sys.exit(0))


class EmulatorSession:
    """One emulated arm; `run` makes its link and serves it, `close` removes every trace."""

    def __init__(self, options: EmulatorOptions) -> None:
        from hardware.emulator.assembly import build_servos, emulated_calibration
        from hardware.emulator.faults.catalogue import EMULATED, Place
        from hardware.emulator.faults.fault import parse_fault
        from hardware.emulator.faults.injector import FaultInjector
        from hardware.emulator.pty_port import Pty
        from hardware.emulator.traces import clear_leftovers
        from hardware.emulator.wire import EmulatedBus
        from hardware.emulator.world_plant import Engine, WorldPlant, stage_task
        from hardware.servos.family import refuse_sliding
        from sim2real.parameters import load_twin
        from sim2real.robot import Robot

        self.options = options
        self._files: SideFiles | None = None
        self._pty: Pty | None = None
        self._web: Any = None
        self._stopping = ""
        try:
            planned = [parse_fault(text) for text in options.faults]
            if options.link is not None:
                clear_leftovers(options.link, SUFFIXES)
            robot = Robot.load(options.robot)
            refuse_sliding(robot)
            robot = replace(robot, camera_tables={**robot.camera_tables, **options.cameras})
            calibration = emulated_calibration(robot)
            twin = load_twin(options.twin) if isinstance(options.twin, str) else options.twin
            task = stage_task(options.task, robot)
            self.plant = WorldPlant(
                robot,
                calibration,
                task=task,
                twin=twin,
                seed=options.seed,
                engine=cast(Engine, options.engine),
            )
            self.plant.episode = options.episode
            self.bus = EmulatedBus(build_servos(robot, self.plant, calibration), self.plant)
            link = options.link or tempfile.mktemp(prefix="sim2real-tty")
            self._link = link
            self._pty = Pty(self.bus)
            places = EMULATED if options.camera else EMULATED - {Place.CAMERA}
            self.injector = FaultInjector(self.bus, self._pty, planned, seed=options.seed, places=places)
            self._start_web()
            self.announcement = self._announce(link)
        except BaseException:
            self.close()
            raise

    def _camera_names(self) -> list[str]:
        """Those around the arm, and on request those that it carries."""
        cameras = self.plant.robot.cameras
        return [name for name, camera in cameras.items() if camera.link is None or self.options.carried]

    def _start_web(self) -> None:
        from hardware.emulator.view import Pictures
        from hardware.emulator.web import CameraTrouble, PoseBoard, WebOptions, serve
        from sim2real.simulation.cameras import Cameras

        robot, values = self.plant.robot, self.plant.world.values
        given = robot.cameras if self.options.cameras else None
        self._cameras = Cameras(robot, given)
        self._cameras.reset(values, self.options.seed)
        options = WebOptions(
            robot,
            tuple(self._camera_names()) if self.options.camera else (),
            given,
            cast(Pictures, self.options.pictures),
            dict(values),
            self.plant.world.objects,
            self.options.http_port,
            self.options.seed,
        )
        self._connection, theirs = context.Pipe()
        size = len(self.plant.pose())
        shared = context.RawArray("d", size + 2)
        self._board = PoseBoard(shared, size)
        trouble = context.RawArray("d", 2)
        self._trouble = CameraTrouble(trouble)
        self._posted = -np.inf
        self._post()
        self._web = context.Process(target=serve, args=(options, theirs, shared, size, trouble), daemon=True)
        self._web.start()
        theirs.close()
        answer = _receive(self._connection, 60.0)
        if not isinstance(answer, int):
            raise UserError(f"{answer}; choose another --http-port")
        self.url = f"http://127.0.0.1:{answer}"

    def _announce(self, link: str) -> Announcement:
        import tomli_w

        from hardware.emulator.traces import SideFiles

        robot = self.plant.robot
        sources = {}
        if self.options.camera:
            sources = {name: f"{self.url}/{name}.mjpg" for name in self._camera_names()}
        script = shlex.join([sys.executable, "-SE", str(Path(tell.__file__).resolve())])
        announcement = Announcement(
            pid=os.getpid(),
            port=link,
            calibration=link + CALIBRATION,
            cameras_file=link + CAMERAS,
            twin=link + TWIN,
            control_url=self.url,
            sources=sources,
            before_episode=f"{script} episode --link {shlex.quote(link)}",
            success_command=f"{script} success --link {shlex.quote(link)}",
            robot=self.options.robot,
            task=self.plant.task.name,
            seed=self.options.seed,
        )
        from hardware.emulator.assembly import emulated_calibration

        calibration = emulated_calibration(robot).table()
        cameras = {
            name: replace(self._cameras.described(name), source=sources.get(name)).table()
            for name in self._camera_names()
        }
        truth = {"robot": robot.name, "parameters": self.plant.twin}
        contents = {
            announcement.calibration: (json.dumps(calibration, indent=2) + "\n").encode(),
            announcement.cameras_file: tomli_w.dumps(cameras).encode(),
            announcement.twin: tomli_w.dumps(truth).encode(),
        }
        self._files = SideFiles(link, contents, asdict(announcement))
        return announcement

    # Running

    def run(self, ready: Callable[[], None] = lambda: None, *, stdin_is_parent: bool = False) -> str:
        """Serve until SIGINT, SIGTERM or SIGHUP, or, with `stdin_is_parent`, until standard input ends.

        The link appears, and `ready` is called, once the servos answer. Returns why it ended: the signal's name, or
        "parent".
        """
        from hardware.emulator.pty_port import prefer

        assert self._pty is not None
        on_signals(ENDING, self._signalled)
        watch: dict[int, Callable[[], None]] = {self._connection.fileno(): self._answer}
        if stdin_is_parent:
            watch[sys.stdin.fileno()] = self._parent_spoke
        prefer()
        gc.collect()
        gc.freeze()
        self._orphan_since = np.inf
        self._requests = 0
        self._pty.rehearse()
        self._pty.show(self._link)
        ready()
        self._pty.serve(until=self._ended, watch=watch)
        return self._stopping

    def _signalled(self, number: int, _: Any) -> None:
        self._stopping = signal.Signals(number).name

    def _ended(self) -> bool:
        now = time.monotonic()
        if now - self._posted >= POSE_PERIOD:
            self._post()
        if not self._web.is_alive():
            raise HardwareError("the emulator's camera process has died")
        if np.isfinite(self._orphan_since):
            if self.bus.requests != self._requests:
                self._requests, self._orphan_since = self.bus.requests, now
            elif now - self._orphan_since > ORPHAN_QUIET:
                self._stopping = "parent"
        return bool(self._stopping)

    def _parent_spoke(self) -> None:
        if not np.isfinite(self._orphan_since) and not os.read(sys.stdin.fileno(), 4096):
            self._orphan_since = time.monotonic()

    def _post(self) -> None:
        self._posted = time.monotonic()
        self._board.write(self.plant.pose(), self._posted)
        if self._pty is not None:
            self.injector.advance(self._pty.now())
            self._trouble.set(self.injector)

    def _answer(self) -> None:
        try:
            question = self._connection.recv()
        except (EOFError, OSError):
            raise HardwareError("the emulator's camera process has died") from None
        try:
            answer = self._handle(question)
        except UserError as error:
            answer = {"error": str(error)}
        self._connection.send(answer)

    def _handle(self, question: dict[str, Any]) -> dict[str, Any]:
        plant = self.plant
        if question["op"] == "episode":
            return {"episode": plant.new_episode()}
        if question["op"] == "state":
            return plant.state()
        if question["op"] == "fault":
            from hardware.emulator.faults.fault import parse_fault

            assert self._pty is not None
            fault = parse_fault(str(question["body"]))
            self.injector.add(fault, self._pty.now())
            return {"fault": str(fault)}
        if question["op"] == "hand":
            path = HandPath.parse(question["body"], plant.robot.n)
            plant.hand.follow(path)
            return {"seconds": path.duration}
        from sim2real.tasks.registry import built_in_task

        # A task of the user's own is the one that this emulator was started with, or none: requests import nothing.
        name = question.get("task") or plant.task.name
        task = (
            plant.task if name in (plant.task.name, self.options.task) else built_in_task(name, plant.robot.n)
        )
        goal = _goal(question.get("goal"))
        if goal is None and not task.objects:
            raise UserError(f"whether '{name}' is done depends on the goal: give goal=x,y,z in m, base frame")
        there = {(spec.name, spec.kind) for spec in plant.task.objects}
        missing = [spec.name for spec in task.objects if (spec.name, spec.kind) not in there]
        if missing:
            raise UserError(
                f"'{name}' needs {', '.join(missing)}, but this emulator was set up for {plant.task.name}"
            )
        return {"success": plant.succeeded(task, goal), "task": name}

    def close(self) -> None:
        """End the second process, hang up, remove the link and all files."""
        for number in ENDING:
            try:
                signal.signal(number, signal.SIG_IGN)
            except ValueError:
                break  # not the main thread: signals are not ours
        # A signal may have come before it was started.
        if self._web is not None and self._web.pid is not None:
            self._web.kill()
            self._web.join(5)
        if self._pty is not None:
            self._pty.close()
        if self._files is not None:
            self._files.remove()
        if hasattr(self, "plant"):
            self.plant.close()


def _goal(text: str | None) -> Any:
    if not text:
        return None
    try:
        goal = np.array([float(part) for part in text.split(",")])
    except ValueError:
        goal = np.zeros(0)
    if goal.shape != (3,) or not np.isfinite(goal).all():
        raise UserError(f"goal must be x,y,z in m, got {text!r}")
    return goal


def _receive(connection: Connection, timeout: float) -> Any:
    if not connection.poll(timeout):
        raise HardwareError("the emulator's camera process did not start")
    try:
        return connection.recv()
    except EOFError:
        raise HardwareError("the emulator's camera process ended at once") from None
