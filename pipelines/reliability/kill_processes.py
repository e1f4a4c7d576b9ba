"""The processes of the trials in `kill_trials.py`: an emulated arm that keeps a log, and runs that can be killed.

    python -m pipelines.reliability.kill_processes arm LINK LOG
    python -m pipelines.reliability.kill_processes forks LINK

Both serve one trial after the other. The second has loaded everything that a control process needs and forks one
for each line of JSON on its standard input; what control starts (inference, camera, recorder, watchdog) starts as
it always does.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from typing import Any, Final

import numpy as np

from sim2real.robot import Robot

PERIOD = 0.005
"""s between rows of the arm's log."""

PICTURE: Final = 0.5
"""Size of the camera's pictures, in terms of the usual: drawing takes processor time and shows nothing more here."""


def arm_process(link: str, log: str) -> None:
    """An emulated arm until SIGTERM, or until its parent has died. SIGUSR2 begins its log anew, SIGUSR1 writes it to
    `log` and says "saved"."""
    from hardware.emulator.session import EmulatorOptions, Session

    _robots(_with_small_pictures)
    session = Session(EmulatorOptions(link=link, task="push", seed=1))
    plant, ended, latest, save = session.plant, session._ended, 0.0, False
    rows: list[Any] = []

    def asked(number: int, frame: Any) -> None:
        nonlocal save
        save = True

    def watched() -> bool:
        nonlocal latest, save
        now = time.monotonic()
        if now - latest >= PERIOD:
            latest = now
            rows.append(np.concatenate([[now], plant.world.position, plant.drive.goal, plant.drive.mode]))
        if save:
            save = False
            np.savez(log, rows=np.array(rows))
            print("saved", flush=True)
        return ended()

    session._ended = watched  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, asked)
    signal.signal(signal.SIGUSR2, lambda number, frame: rows.clear())
    try:
        print("ready", flush=True)
        session.run(stdin_is_parent=True)
    finally:
        session.close()


def _with_small_pictures(robot: Robot) -> Robot:
    tables = {
        name: table | {key: table[key] * PICTURE for key in ("fx", "fy", "cx", "cy")}
        | {key: round(table[key] * PICTURE) for key in ("width", "height")}
        for name, table in robot.camera_tables.items()
    }  # fmt: skip
    return replace(robot, camera_tables=tables)


def fork_server(link: str) -> None:
    """Forks a control process for each line on standard input; says its pid, and at its end "exit STATUS"."""
    _warm_up()
    _announce_children()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = _control(link, **json.loads(line))
            finally:
                sys.stdout.flush()
                os._exit(status)
        print(f"control {pid}", flush=True)
        print(f"exit {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)


def _control(link: str, out: str, state: str, seconds: float, reach: float) -> int:
    """A run as `sim2real record` makes it. `reach`: how far on the way from rest to home the arm begins to work."""
    from pipelines.deployment.request import Options
    from pipelines.deployment.run import run

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["SIM2REAL_STATE"] = state
    _robots(lambda robot: replace(robot, home=robot.rest + reach * (robot.home - robot.rest)))
    result, status = run(
        Options(
            command="record", port=link, out=out, task="push", calibration=f"{link}.calibration.json",
            cameras=f"{link}.cameras.toml", seconds=seconds, record=True, yes=True,
        )
    )  # fmt: skip
    print(f"ended {result['final_state']} {result['faults']}", flush=True)
    return status


def _announce_children() -> None:
    """Say which process is which, and when a policy moves the arm."""
    from hardware.cameras.process import CameraProcess
    from hardware.runtime.control.loop import ControlLoop
    from hardware.runtime.recording.recorder import RecorderProcess
    from hardware.runtime.safety.watchdog_client import Watchdog
    from hardware.runtime.sources.inference import InferenceProcess

    def announced(kind: Any, role: str) -> None:
        begin = kind.__init__

        def init(self: Any, *args: Any, **options: Any) -> None:
            begin(self, *args, **options)
            print(f"{role} {self._process.pid}", flush=True)

        kind.__init__ = init

    announced(CameraProcess, "camera")
    announced(Watchdog, "watchdog")
    announced(InferenceProcess, "inference")
    announced(RecorderProcess, "recorder")
    start = ControlLoop.start_policy

    def started(self: ControlLoop, seed: int) -> None:
        start(self, seed)
        print("running", flush=True)

    ControlLoop.start_policy = started  # type: ignore[method-assign]


def _warm_up() -> None:
    """Load what control loads, and compile what it compiles: a whole session on an ideal arm without real time."""
    import pipelines.deployment.run  # noqa: F401
    from hardware.cameras.process import CameraProcess  # noqa: F401
    from hardware.cameras.tracking import CameraPerception  # noqa: F401
    from hardware.emulator.stepped import SteppedArm
    from hardware.runtime.control.loop import ControlLoop
    from hardware.runtime.sessions.session import Plan, Session
    from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
    from sim2real.tasks.registry import load_task

    arm = SteppedArm("so101")
    arm.arm.identify()
    arm.arm.configure()
    task = load_task("reach", arm.robot.n)
    source = LocalPolicy(task.expert(arm.robot), 1 / arm.robot.policy_rate, arm.clock)
    loop = ControlLoop(arm.arm, arm.clock, source, GoalOnly(), limits=arm.calibration.limits)
    Session(loop, Plan(task, seconds=0.5, goals=lambda i: np.array([0.2, 0.0, 0.15]))).run()


def _robots(change: Any) -> None:
    """From now on robots are loaded with a change."""
    load = Robot.load.__func__  # type: ignore[attr-defined]
    Robot.load = classmethod(lambda kind, name: name if isinstance(name, Robot) else change(load(kind, name)))  # type: ignore


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "arm":
        arm_process(*rest)
    else:
        fork_server(*rest)
