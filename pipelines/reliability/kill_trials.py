"""Real processes on an emulated arm, killed or stopped at a random moment, and what the arm physically did.

One trial: a run as `sim2real record` makes it (control, inference, camera, recorder, watchdog) on an emulated arm in
a process of its own that logs its physics. A victim gets SIGKILL or SIGSTOP; the log says what followed. A `Bench`
makes one trial after the other on the same arm; `kill_processes.py` has its processes.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hardware.children import start_module
from pipelines.reliability.kill_processes import robot_file
from sim2real.robot import Robot

Array = NDArray[np.float64]

ROLES: Final = ("control", "inference", "camera", "recorder")
SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

AFTERMATH: Final = {"control": 30.0, "inference": 4.0, "camera": 4.5, "recorder": 1.0}
"""s that the policy would go on after the last signal, by victim: until what may be latched would be."""
WINDOW = 0.1
"""s over which the speed of goals and joints is taken: rows come when the machine lets them."""
HELD, LEAST_HOLD = 0.1, 1.0
"""Goals stand still so soon after control is gone, and so long."""
START_TIMEOUT, END_TIMEOUT = 240.0, 120.0
LEAVE_TIMEOUT = 20.0
"""s for what control has started to end, once control has."""


@dataclass
class Trial:
    """What came of one kill. `held` s from the signal to the last goal before the hold (control only); `problems`: what
    should not have happened."""

    victims: list[str]
    seed: int
    held: float | None = None
    ended: str = ""
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """An emulated arm and a fork server of control processes, in `folder`. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._link, self._log = folder / "arm", folder / "arm.npz"
        self._count = 0
        self._processes: list[subprocess.Popen[str]] = []

    def trial(self, victims: Sequence[tuple[str, str]], seed: int) -> Trial:
        """(role, "kill" | "stop" | "fill") one after the other, at random moments; then judge the arm. "fill": there is
        no room left on the disk, for any of the run's processes."""
        rng = np.random.default_rng(seed)
        trial = Trial([f"{how} {role}" for role, how in victims], seed)
        delays = rng.uniform(0.1, 1.5, len(victims))
        self._count += 1
        out = self.folder / f"out{self._count}"
        request = {
            "out": str(out),
            "state": str(self.folder / f"state{self._count}"),
            "seconds": float(delays.sum() + AFTERMATH[victims[-1][0]]),
            # Near rest it is lowered sooner; now and then from as far out as it works.
            "robot": str(
                robot_file(
                    self.folder / f"robot{self._count}.toml",
                    float(rng.uniform(0.2, 1.0 if seed % 4 == 0 else 0.4)),
                )
            ),
        }
        pids: dict[str, int] = {}
        try:
            self._start()
            arm, forks = self._processes
            arm.send_signal(signal.SIGUSR2)
            assert forks.stdin is not None
            forks.stdin.write(json.dumps(request) + "\n")
            forks.stdin.flush()
            _await(forks, "running", START_TIMEOUT, pids)
            hit = []
            for (role, how), delay in zip(victims, delays):
                time.sleep(float(delay))
                hit.append(time.monotonic())
                if how == "fill":
                    fill_disk(pids.values())
                else:
                    os.kill(pids[role], SIGNALS[how])
            said = _await(forks, "exit", END_TIMEOUT, pids)
            words = [line.removeprefix("ended ") for line in said if line.startswith("ended ")]
            trial.ended = ", ".join([*words, f"status {said[-1].removeprefix('exit ')}"])
            _await_end(pids["watchdog"], END_TIMEOUT)
            stopped = {role for role, how in victims if how == "stop"}
            for role in pids.keys() - stopped:
                _await_end(pids[role], LEAVE_TIMEOUT)
            arm.send_signal(signal.SIGUSR1)
            _await(arm, "saved", END_TIMEOUT, {})
            with np.load(self._log) as kept:
                gone = victims[-1][0] == "control" and victims[-1][1] in SIGNALS
                judge(trial, kept["rows"], hit[-1], gone)
        except (OSError, TimeoutError, EOFError) as error:
            trial.problems.append(f"{type(error).__name__}: {error}")
        finally:
            for pid in pids.values():
                _kill(pid)
        if trial.problems:
            self.close()
        shutil.rmtree(out, ignore_errors=True)
        return trial

    def _start(self) -> None:
        if self._processes:
            return
        self._processes = [
            _spawn("arm", str(self._link), str(self._log), str(robot_file(self.folder / "robot.toml", 1.0))),
            _spawn("forks", str(self._link)),
        ]
        for process in self._processes:
            _await(process, "ready", START_TIMEOUT, {})

    def close(self) -> None:
        """End both processes; the next trial starts them anew."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()
        self._processes = []

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    if not len(after):
        problems.append("it was let go without being lowered")
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


# Processes


def fill_disk(pids: Iterable[int]) -> None:
    """Whatever these processes write to a file from now on is refused, as on a full disk. (Pipes and ports are no
    files.)"""
    for pid in pids:
        try:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))
        except ProcessLookupError:
            pass


def _spawn(*arguments: str) -> "subprocess.Popen[str]":
    return start_module(
        "pipelines.reliability.kill_processes",
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _await(process: "subprocess.Popen[str]", word: str, timeout: float, pids: dict[str, int]) -> list[str]:
    """Read lines until one that begins with `word`, and note the "role pid" among them in `pids`.

    Raises EOFError when the process, or a control process of it, ends before, or has to be killed after `timeout` s.
    """
    assert process.stdout is not None
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    lines = []
    try:
        for text in process.stdout:
            lines.append(text.strip())
            parts = text.split()
            if parts[:1] == [word]:
                return lines
            if parts[:1] == ["exit"]:
                raise EOFError(f"control ended with status {parts[1]} before it said '{word}'")
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
