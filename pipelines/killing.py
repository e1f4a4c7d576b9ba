"""Real processes on an emulated arm, killed or stopped at a random moment, and what the arm physically did.

One trial: an emulated arm in a process of its own that logs its physics, and a run as `sim2real record` makes it
(control, inference, camera, recorder, watchdog). A victim gets SIGKILL or SIGSTOP; the log says what followed.

    python -m pipelines.killing arm LINK LOG           python -m pipelines.killing control LINK OUT SECONDS
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hardware.children import start_module
from sim2real.robot import Robot

Array = NDArray[np.float64]

ROLES: Final = ("control", "inference", "camera", "recorder")
SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

PERIOD = 0.005
"""s between rows of the arm's log."""
WINDOW = 0.1
"""s over which the speed of goals and joints is taken: rows come when the machine lets them."""
HELD, LEAST_HOLD = 0.1, 1.0
"""Goals stand still so soon after control is gone, and so long."""
START_TIMEOUT, END_TIMEOUT = 240.0, 120.0


@dataclass
class Trial:
    """What came of one. `held` s from the signal to the last goal before the hold (control only); `problems`: what
    should not have happened."""

    victims: list[str]
    seed: int
    held: float | None = None
    lowered: bool = False
    ended: str = ""
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_trial(folder: Path, victims: Sequence[tuple[str, str]], seed: int, seconds: float = 8.0) -> Trial:
    """One trial in `folder`: (role, "kill" | "stop") one after the other, at random moments; then judge the arm."""
    rng = np.random.default_rng(seed)
    trial = Trial([f"{how} {role}" for role, how in victims], seed)
    link, log = folder / "arm", folder / "arm.npz"
    arm = _spawn("arm", str(link), str(log))
    pids: dict[str, int] = {}
    control = None
    try:
        _await(arm, {"ready": {}}, START_TIMEOUT)
        control = _spawn("control", str(link), str(folder / "out"), str(seconds), state=folder / "state")
        pids = _await(control, {"running": pids}, START_TIMEOUT)
        pids["control"] = control.pid
        hit: list[float] = []
        for role, how in victims:
            time.sleep(float(rng.uniform(0.1, 1.5)))
            hit.append(time.monotonic())
            os.kill(pids[role], SIGNALS[how])
        control.wait(END_TIMEOUT)
        _await_end(pids["watchdog"], END_TIMEOUT)
        trial.ended = f"{_last_words(control)}status {control.returncode}"
    except (subprocess.TimeoutExpired, TimeoutError, EOFError) as error:
        trial.problems.append(f"{type(error).__name__}: {error}")
    finally:
        for pid in pids.values():
            _kill(pid)
        if control is not None:
            _kill(control.pid)
            control.wait()
        if arm.poll() is None:
            arm.terminate()
            arm.wait(60)
    if not trial.problems:
        with np.load(log) as kept:
            judge(trial, kept["rows"], hit[-1], victims[-1][0] == "control")
    return trial


def judge(trial: Trial, rows: Array, hit: float, control_gone: bool) -> None:
    """Add to `trial` what the log says: rows of time, true position (n), servo goal (n), torque mode (n)."""
    robot = Robot.load("so101")
    n = robot.n
    t, position, goal, mode = rows[:, 0], rows[:, 1 : 1 + n], rows[:, 1 + n : 1 + 2 * n], rows[:, 1 + 2 * n :]
    problems, limit = trial.problems, robot.limits("velocity")
    if mode[-1].any():
        problems.append("the torque is on at the end")
    if np.abs(position[-1] - robot.rest)[:-1].max() > 0.15:
        problems.append(f"not at rest at the end: {np.round(position[-1] - robot.rest, 2).tolist()}")
    on = (mode == 1).all(axis=1)
    armed = int(np.argmax(on))
    off = len(t) - int(np.argmax(on[::-1]))
    # Rows as far apart as the window, with torque on all the time.
    later = np.searchsorted(t, t + WINDOW)
    first = np.arange(len(t))
    pairs = (first > np.searchsorted(t, t[armed] + 0.5)) & (later < off)
    for what, values, slack in (("goals", goal, 1.15), ("joints", position, 1.3)):
        if pairs.any():
            a, b = first[pairs], later[pairs]
            speed = np.abs(values[b] - values[a]) / (t[b] - t[a])[:, None]
            share = float((speed / (slack * limit + 0.3)).max())
            if share > 1.0:
                problems.append(f"{what} moved at {share:.2f} of what is allowed")
    if not on[armed:off].all():
        problems.append("torque was lost on the way")
    moves = np.flatnonzero(np.abs(np.diff(goal, axis=0)).max(axis=1) > 0) + 1
    after = moves[(t[moves] > hit) & (moves < off)]
    trial.lowered = bool(len(after)) and bool(on[armed:off].all())
    if not control_gone:
        return
    # A goal that was on its way when control went may still arrive; then nothing for a second, then the descent.
    gaps = np.diff(np.concatenate([[hit], t[after], [t[off - 1]]]))
    k = int(np.argmax(gaps >= LEAST_HOLD)) if (gaps >= LEAST_HOLD).any() else -1
    if k < 0:
        problems.append("it did not hold for a second before it moved")
        return
    trial.held = 0.0 if k == 0 else float(t[after[k - 1]] - hit)
    if trial.held > HELD:
        problems.append(f"goals moved for {trial.held * 1000:.0f} ms after control was gone")


# The processes of a trial


def arm_process(link: str, log: str) -> None:
    """An emulated arm that logs its physics until SIGTERM."""
    from hardware.emulator.session import EmulatorOptions, Session

    session = Session(EmulatorOptions(link=link, task="push", seed=1))
    plant, ended, rows, latest = session.plant, session._ended, [], 0.0

    def watched() -> bool:
        nonlocal latest
        now = time.monotonic()
        if now - latest >= PERIOD:
            latest = now
            rows.append(np.concatenate([[now], plant.world.position, plant.drive.goal, plant.drive.mode]))
        return ended()

    session._ended = watched  # type: ignore[method-assign]
    try:
        print("ready", flush=True)
        session.run()
    finally:
        session.close()
        np.savez(log, rows=np.array(rows))


def control_process(link: str, out: str, seconds: str) -> int:
    """A recorded run that says which process is which, and when a policy moves the arm."""
    from hardware.cameras import CameraProcess
    from hardware.runtime.guardian import Watchdog
    from hardware.runtime.inference import InferenceProcess
    from hardware.runtime.loop import ControlLoop
    from hardware.runtime.recorder import RecorderProcess
    from pipelines.arm_request import Options
    from pipelines.deploy import run

    roles = {
        "camera": CameraProcess,
        "watchdog": Watchdog,
        "inference": InferenceProcess,
        "recorder": RecorderProcess,
    }
    for role, kind in roles.items():
        _announced(kind, role)
    start = ControlLoop.start_policy

    def started(self: ControlLoop, seed: int) -> None:
        start(self, seed)
        print("running", flush=True)

    ControlLoop.start_policy = started  # type: ignore[method-assign]
    result, status = run(
        Options(
            command="record", port=link, out=out, task="push", calibration=f"{link}.calibration.json",
            cameras=f"{link}.cameras.toml", seconds=float(seconds), record=True, yes=True,
        )
    )  # fmt: skip
    print(f"ended {result['final_state']} {result['faults']}", flush=True)
    return status


def _announced(kind: Any, role: str) -> None:
    begin = kind.__init__

    def announced(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        print(f"{role} {self._process.pid}", flush=True)

    kind.__init__ = announced


# Their parent


def _spawn(*arguments: str, state: Path | None = None) -> "subprocess.Popen[str]":
    return start_module(
        "pipelines.killing",
        *arguments,
        environment={} if state is None else {"SIM2REAL_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _await(
    process: "subprocess.Popen[str]", wanted: dict[str, dict[str, int]], timeout: float
) -> dict[str, int]:
    """Read "role pid" lines until the word that is wanted; raises EOFError, TimeoutError."""
    assert process.stdout is not None
    (word, pids), stream = next(iter(wanted.items())), process.stdout
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    try:
        for text in stream:
            parts = text.split()
            if parts == [word]:
                return pids
            if len(parts) == 2 and parts[1].isdecimal():
                pids[parts[0]] = int(parts[1])
        raise EOFError(f"a process ended before it said '{word}'")
    finally:
        timer.cancel()


def _await_end(pid: int, timeout: float) -> None:
    end = time.monotonic() + timeout
    while Path(f"/proc/{pid}").exists():
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} did not end within {timeout:.0f} s")
        time.sleep(0.02)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _last_words(process: "subprocess.Popen[str]") -> str:
    """How a run that could end by itself says that it did."""
    assert process.stdout is not None
    said = [line.strip() for line in process.stdout if line.startswith("ended ")]
    return f"{said[-1].removeprefix('ended ')}, " if said else ""


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "control":
        sys.exit(control_process(*rest))
    arm_process(*rest)
