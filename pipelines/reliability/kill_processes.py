"""The processes of the trials in `kill_trials.py`: an emulated arm that keeps a log, and runs that can be killed.

    python -m pipelines.reliability.kill_processes arm LINK LOG ROBOT
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
import tomllib
from pathlib import Path
from typing import Any, Final

import numpy as np

from hardware.runtime.control.tick import Tick
from sim2real.robot import Robot

PERIOD = 0.005
"""s between rows of the arm's log."""

PICTURE: Final = 0.5
"""Size of the camera's pictures, in terms of the usual: drawing takes processor time and shows nothing more here."""


def arm_process(link: str, log: str, robot: str) -> None:
    """An emulated arm until SIGTERM, or until its parent has died. SIGUSR2 begins its log anew, SIGUSR1 writes it to
    `log` and says "saved"."""
    from hardware.emulator.session import EmulatorOptions, EmulatorSession

    session = EmulatorSession(EmulatorOptions(robot=robot, link=link, task="push", seed=1))
    plant, latest, save = session.plant, 0.0, False
    rows: list[Any] = []

    def asked(number: int, frame: Any) -> None:
        nonlocal save
        save = True

    def moved(_: float) -> None:
        nonlocal latest, save
        now = time.monotonic()
        if now - latest >= PERIOD:
            latest = now
            rows.append(np.concatenate([[now], plant.world.position, plant.drive.goal, plant.drive.mode]))
        if save:
            save = False
            np.savez(log, rows=np.array(rows))
            print("saved", flush=True)

    plant.watch = moved
    signal.signal(signal.SIGUSR1, asked)
    signal.signal(signal.SIGUSR2, lambda number, frame: rows.clear())
    try:
        session.run(lambda: print("ready", flush=True), stdin_is_parent=True)
    finally:
        session.close()


def fork_server(link: str) -> None:
    """Forks a control process for each line on standard input; says its pid, and at its end "exit STATUS"."""
    _warm_up()
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


def _control(link: str, out: str, state: str, seconds: float, robot: str) -> int:
    """A run as `sim2real record` makes it, with the robot of that file."""
    from pipelines.deployment.request import Options
    from pipelines.deployment.rig import Observer
    from pipelines.deployment.run import run

    class Announcer(Observer):
        """Says which process is which, and when a policy moves the arm."""

        running = False

        def started(self, role: str, pid: int | None) -> None:
            print(f"{role} {pid}", flush=True)

        def tick(self, tick: Tick) -> None:
            if tick.episode >= 0 and not self.running:
                self.running = True
                print("running", flush=True)

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["SIM2REAL_STATE"] = state
    result, status = run(
        Options(
            command="record", robot=robot, port=link, out=out, task="push", seconds=seconds, record=True, yes=True,
            calibration=f"{link}.calibration.json", cameras=f"{link}.cameras.toml",
        ),
        Announcer(),
    )  # fmt: skip
    print(f"ended {result['final_state']} {result['faults']}", flush=True)
    return status


def robot_file(path: Path, reach: float) -> Path:
    """Write the file of an SO-101 with small pictures, whose home is so far on the way from rest to the real one."""
    import tomli_w

    robot = Robot.load("so101")
    table = tomllib.loads(robot.urdf.with_suffix(".toml").read_text())
    table["urdf"] = str(robot.urdf)
    table["poses"]["home"] = (robot.rest + reach * (robot.home - robot.rest)).tolist()
    for camera in table["cameras"].values():
        camera |= {key: camera[key] * PICTURE for key in ("fx", "fy", "cx", "cy")}
        camera |= {key: round(camera[key] * PICTURE) for key in ("width", "height")}
    path.write_text(tomli_w.dumps(table))
    return path


def _warm_up() -> None:
    """Load what control loads, and compile what it compiles: a whole session on an ideal arm without real time."""
    import pipelines.deployment.run  # noqa: F401
    from hardware.cameras.process import CameraProcess  # noqa: F401
    from hardware.cameras.tracking import CameraPerception  # noqa: F401
    from hardware.emulator.stepped import SteppedArm
    from hardware.runtime.control.loop import ControlLoop, LoopSettings
    from hardware.runtime.sessions.session import Plan, Session
    from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
    from sim2real.tasks.registry import load_task

    arm = SteppedArm("so101")
    arm.arm.identify()
    arm.arm.configure()
    task = load_task("reach", arm.robot.n)
    source = LocalPolicy(task.expert(arm.robot), 1 / arm.robot.policy_rate, arm.clock)
    settings = LoopSettings(limits=arm.calibration.limits)
    loop = ControlLoop(arm.arm, arm.clock, source, GoalOnly(), settings=settings)
    Session(loop, Plan(task, seconds=0.5, goals=lambda i: np.array([0.2, 0.0, 0.15]))).run()


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "arm":
        arm_process(*rest)
    else:
        fork_server(*rest)
