"""How well the control loop keeps time on the emulated arm, with inference running; one table.

    python benchmarks/control_loop.py [--rate 100 --rate 200] [--busy] [--slow] [--minutes 1] [--silences 20]

Everything is as in `sim2real deploy`: servo bytes through a pty, inference and watchdog processes, with the camera
for tasks that need it. The emulator shares the machine's cores with what is measured. `--busy` keeps every core
busy besides (a process each that counts, at ordinary priority), `--slow` takes a policy that computes for 200 ms per
call. `--silences N` stops the emulator N times in mid-motion (0: never) and measures how long after the last good
reading the loop holds; there the loop runs in this process, everything else as above.

The columns: drift is how much later the last cycle began than the first one and the rate say; skipped counts
periods that were left out because the machine did not run the loop in time, late those without a new reading.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sim2real.robot import Robot

ROOT = Path(__file__).resolve().parents[1]

THINKING = 0.2
"""s that a call of the slow policy takes."""


class Slow:
    """The task's expert, computing for `THINKING` s per call. The next chunk comes two calls after the observation
    of the last one, so that chunks have to be longer than that: the expert's last action is repeated."""

    def __init__(self, task: Any, robot: Robot) -> None:
        self._expert = task.expert(robot)
        self.horizon = max(self._expert.horizon, int(3 * THINKING * robot.policy_rate))

    def reset(self, seed: int) -> None:
        self._expert.reset(seed)

    def act(self, observation: Any) -> Any:
        end = time.monotonic() + THINKING
        chunk = self._expert.act(observation)
        while time.monotonic() < end:
            pass
        return np.concatenate([chunk, np.repeat(chunk[-1:], self.horizon - len(chunk), axis=0)])


def at_rate(rate: int, folder: str) -> Path:
    """The SO-101's file with another command rate. (Physics runs at a multiple of it.)"""
    robot = Robot.load("so101")
    physics = next(k * rate for k in range(1, 99) if k * rate >= 300 and k * rate % robot.policy_rate == 0)
    text = robot.urdf.with_suffix(".toml").read_text()
    for old, new in (
        (f"command = {robot.command_rate}", f"command = {rate}"),
        (f"physics = {robot.physics_rate}", f"physics = {physics}"),
        (f'urdf = "{robot.urdf.name}"', f'urdf = "{robot.urdf}"'),
    ):
        assert old in text, f"the robot's file has no '{old}'"
        text = text.replace(old, new)
    path = Path(folder) / f"so101-{rate}.toml"
    path.write_text(text)
    return path


def _count() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() > 1:
        for _ in range(1_000_000):
            pass


@contextmanager
def burners(count: int) -> Iterator[None]:
    """`count` processes that do nothing but use a core."""
    processes = [
        multiprocessing.get_context("spawn").Process(target=_count, daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def deploy(minutes: float, task: str, policy: str, robot: Path, out: Path) -> dict[str, Any]:
    """One continuous episode through the command line; its JSON."""
    words = [
        *(
            sys.executable,
            "-m",
            "pipelines",
            "deploy",
            "--policy",
            policy,
            "--task",
            task,
            "--robot",
            str(robot),
        ),
        *("--port", "emulated", "--seconds", str(60 * minutes), "--out", str(out), "--yes", "--json"),
    ]
    paths = [str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        words,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    if not done.stdout:
        raise SystemExit(f"deploy ended with status {done.returncode}: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def seen(out: Path, rate: int) -> dict[str, float]:
    """What the log of a run says about the time while the policy acted."""
    import pyarrow.parquet as pq

    table = pq.read_table(
        out / "log.parquet", columns=["t", "period_error", "work", "feedback_age", "remaining", "state"]
    )
    states = np.array(table["state"].to_pylist())
    remaining = table["remaining"].to_numpy()  # 0 unless the policy acts
    first = int(np.flatnonzero(remaining > 0)[0])
    acting = np.isin(states, ["running", "degraded"]) & (remaining != 0) & (np.arange(len(states)) >= first)
    column = {name: table[name].to_numpy()[acting] for name in table.column_names if name != "state"}
    since = (column["t"] - column["t"][0]) * rate
    phase = since - np.round(since)  # of a period; skipped periods leave it as it is
    tenth = len(phase) // 10
    error = np.abs(column["period_error"][1:])
    return {
        "ticks": len(phase),
        "rate_hz": round(since[-1]) / float(column["t"][-1] - column["t"][0]),
        "p50_ms": 1e3 * float(np.percentile(error, 50)),
        "p99_ms": 1e3 * float(np.percentile(error, 99)),
        "max_ms": 1e3 * float(error.max()),
        "drift_us": 1e6 * float(np.median(phase[-tenth:]) - np.median(phase[:tenth])) / rate,
        "skipped": int(round(since[-1]) + 1 - len(since)),
        "late": int((column["feedback_age"] > 1 / rate).sum()),
        "starved": int((column["remaining"] < 0).sum()),
        "work_ms": 1e3 * float(np.median(column["work"])),
    }


def silences(count: int, path: Path) -> np.ndarray:
    """(count,) s from the last good reading until the loop holds, for a bus that stops answering in mid-motion."""
    from steering import bring_home, bring_to_rest

    from hardware.arm.serial_arm import SerialArm
    from hardware.emulator.launch import start_emulator
    from hardware.runtime.control.loop import ControlLoop
    from hardware.runtime.control.supervisor import Action, Phase
    from hardware.runtime.priority import release_priority, take_priority
    from hardware.runtime.sources.inference import InferenceProcess
    from hardware.runtime.sources.sources import GoalOnly
    from sim2real.calibration import Calibration
    from sim2real.clock import RealClock

    robot, clock = Robot.load(path), RealClock()
    found: list[float] = []
    with start_emulator(str(path), camera=False) as handle:
        policy = InferenceProcess("control_loop:Sway", "reach", path)
        policy.wait_ready()
        arm = SerialArm.connect(robot, handle.port, Calibration.load(handle.calibration, robot))
        loop = ControlLoop(arm, clock, policy, GoalOnly(np.array([0.2, 0.0, 0.1])))
        rng = np.random.default_rng(0)
        take_priority()
        bring_home(loop)
        loop.start_policy(0)

        def held() -> bool:
            return loop.doing is Action.HOLD

        for _ in range(count):
            loop.run(lambda: loop.phase is Phase.RUNNING, 5)
            loop.run(lambda: False, 0.5 + float(rng.random()))
            os.kill(handle.pid, signal.SIGSTOP)
            try:
                loop.run(held, 1.0)
                assert loop.reading is not None
                found.append(clock.now() - loop.reading.time)
            finally:
                os.kill(handle.pid, signal.SIGCONT)
        bring_to_rest(loop)
        release_priority()
        arm.close()
        policy.close()
    return np.array(found)


class Sway:
    """A policy that keeps all joints moving."""

    horizon = 10

    def __init__(self, task: Any, robot: Robot) -> None:
        self._robot, self._calls = robot, 0

    def reset(self, seed: int) -> None:
        self._calls = 0

    def act(self, observation: Any) -> Any:
        phase = 2 * np.pi * 0.5 * (self._calls + 1 + np.arange(self.horizon)) / self._robot.policy_rate
        self._calls += 1
        return self._robot.home - 0.2 * (1 - np.cos(phase))[:, None] * np.ones(self._robot.n)


def measure(rate: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    policy = "control_loop:Slow" if chosen.slow else chosen.policy
    with tempfile.TemporaryDirectory() as folder, burners(chosen.busy * (os.cpu_count() or 1)):
        path, out = at_rate(rate, folder), Path(folder) / "out"
        row: dict[str, Any] = {"rate": rate, "busy": chosen.busy, "policy": policy, "task": chosen.task}
        if chosen.minutes > 0:
            result = deploy(chosen.minutes, chosen.task, policy, path, out)
            row |= seen(out, rate)
            keys = ("faults", "privileges", "final_state")
            row |= {key: result[key] for key in keys} | {"latency_ms": result["latency_ms"]["mean"]}
        if chosen.silences:
            times = silences(chosen.silences, path) * rate
            row |= {"hold_median": float(np.median(times)), "hold_max": float(times.max())}
    return row


COLUMNS = (
    ("rate_hz", "rate", "{:.4f} Hz"),
    ("p50_ms", "p50", "{:.3f} ms"),
    ("p99_ms", "p99", "{:.3f} ms"),
    ("max_ms", "max", "{:.2f} ms"),
    ("drift_us", "drift", "{:+.0f} µs"),
    ("ticks", "cycles", "{}"),
    ("skipped", "skipped", "{}"),
    ("late", "late", "{}"),
    ("starved", "starved", "{}"),
    ("work_ms", "work", "{:.2f} ms"),
    ("latency_ms", "chunk after", "{:.0f} ms"),
    ("hold_median", "silent bus to hold", "{:.2f}"),
    ("hold_max", "at most", "{:.2f} periods"),
)


def show(row: dict[str, Any]) -> None:
    """A row of the table, after the heading of its columns."""
    found = [(name, text.format(row[key])) for key, name, text in COLUMNS if key in row]
    widths = [max(len(name), len(value)) for name, value in found]
    head = f"{row['rate']} Hz, {'all cores busy' if row['busy'] else 'idle'}, {row['policy']}"
    print(f"\n{head}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    print("  ".join(name.rjust(width) for (name, _), width in zip(found, widths)))
    print("  ".join(value.rjust(width) for (_, value), width in zip(found, widths)))
    if row.get("faults"):
        print(f"faults: {row['faults']}, final state {row['final_state']}")
    if "privileges" in row:
        print(f"privileges: {', '.join(k for k, granted in row['privileges'].items() if granted) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, action="append", help="Hz; may be repeated (100 and 200)")
    parser.add_argument("--busy", action="store_true", help="keep all cores busy")
    parser.add_argument(
        "--slow", action="store_true", help=f"a policy that takes {THINKING * 1e3:.0f} ms per call"
    )
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="of the policy acting; 0: none (%(default)s)"
    )
    parser.add_argument("--task", default="reach")
    parser.add_argument("--policy", default="expert")
    parser.add_argument("--silences", type=int, default=20, metavar="N")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    rows = []
    for rate in chosen.rate or (100, 200):
        rows.append(measure(rate, chosen))
        if not chosen.json:
            show(rows[-1])
    if chosen.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
