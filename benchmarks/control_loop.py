"""How well the 100 Hz loop keeps time on the emulated arm, and how soon it holds when the bus falls silent.

    python benchmarks/control_loop.py [--minutes 5] [--task reach] [--policy expert] [--silences 20]

Everything is as in `sim2real deploy`: servo bytes through a pty, inference and watchdog processes, with the camera
for tasks that need it. The emulator and its camera renderer share the machine's cores with what is measured.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def deploy(minutes: float, task: str, policy: str, out: Path) -> dict:
    """One continuous episode through the command line; its JSON."""
    words = [
        *(sys.executable, "-m", "pipelines", "deploy", "--policy", policy, "--task", task),
        *("--port", "emulated", "--seconds", str(60 * minutes), "--out", str(out), "--yes", "--json"),
    ]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False, cwd=ROOT
    )
    if not done.stdout:
        raise SystemExit(f"deploy ended with status {done.returncode}")
    return dict(json.loads(done.stdout))


def gaps(out: Path) -> dict:
    """From the log of a run: how old joint readings were, and how long the arm stood still for want of them."""
    import pyarrow.parquet as pq

    table = pq.read_table(out / "log.parquet", columns=["feedback_age", "state", "work"])
    age = table["feedback_age"].to_numpy() * 1000
    states = table["state"].to_pylist()
    return {
        "work": np.percentile(table["work"].to_numpy(), [50, 99]).tolist(),
        "late_readings": int((age > 5).sum()),
        "degraded_ticks": states.count("degraded"),
        "ticks": len(age),
    }


def silences(count: int) -> list[float]:
    """s from the last good reading until the loop holds, for a bus that stops answering in mid-motion."""
    from hardware.emulator.launch import start_emulator
    from hardware.runtime.loop import ControlLoop
    from hardware.runtime.sources import GoalOnly, LocalPolicy
    from hardware.runtime.supervisor import Action, Phase, Request
    from hardware.serial_arm import SerialArm
    from sim2real.calibration import Calibration
    from sim2real.clock import RealClock
    from sim2real.robot import Robot

    class Sway:
        horizon = 10

        def __init__(self) -> None:
            self.calls = 0

        def reset(self, seed: int) -> None:
            self.calls = 0

        def act(self, observation: dict) -> np.ndarray:
            phase = 2 * np.pi * 0.5 * (self.calls + 1 + np.arange(self.horizon)) / robot.policy_rate
            self.calls += 1
            return robot.home - 0.2 * (1 - np.cos(phase))[:, None] * np.ones(robot.n)

    robot, clock = Robot.load("so101"), RealClock()
    found: list[float] = []
    with start_emulator("so101", camera=False) as handle:
        arm = SerialArm.connect(robot, handle.port, Calibration.load(handle.calibration, robot))
        loop = ControlLoop(arm, clock, LocalPolicy(Sway(), 1 / robot.policy_rate, clock), GoalOnly())
        rng = np.random.default_rng(0)
        loop.run(lambda: loop.phase is Phase.LIMP, 5)
        loop.request = Request.ARM
        loop.run(lambda: loop.phase is Phase.HOLD, 5)
        loop.travel(robot.home)
        loop.request = Request.RUN
        loop.run(lambda: loop.arrived, 20)
        loop.start_policy(0)

        def held() -> bool:
            return loop.doing is Action.HOLD

        for _ in range(count):
            loop.run(lambda: False, 0.5 + float(rng.random()))
            os.kill(handle.pid, signal.SIGSTOP)
            try:
                loop.run(held, 1.0)
                assert loop.reading is not None
                found.append(clock.now() - loop.reading.time)
            finally:
                os.kill(handle.pid, signal.SIGCONT)
        loop.request = Request.STOP
        loop.run(lambda: loop.phase is Phase.HOLD, 5)
        loop.request = Request.SETTLE
        loop.run(loop.ended, 30)
        arm.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--task", default="reach")
    parser.add_argument("--policy", default="expert")
    parser.add_argument("--silences", type=int, default=20)
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        result = deploy(chosen.minutes, chosen.task, chosen.policy, Path(folder))
        seen = gaps(Path(folder))
    error, latency = result["period_error_ms"], result["latency_ms"]
    load = os.getloadavg()[0]
    print(f"loop, {chosen.minutes:g} min, task {chosen.task}, policy {chosen.policy}, load {load:.1f} on "
          f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")  # fmt: skip
    print(f"  rate                    {result['rate_hz']:.4f} Hz")
    print(
        f"  period error            p50 {error['p50']:.3f} ms, p99 {error['p99']:.3f} ms, max {error['max']:.2f} ms"
    )
    print(f"  missed deadlines        {result['overruns']} of {seen['ticks']} periods skipped")
    work = [v * 1000 for v in seen["work"]]
    print(
        f"  the loop's own work     p50 {work[0]:.3f} ms, p99 {work[1]:.3f} ms (reading the servos included)"
    )
    print(f"  late joint readings     {seen['late_readings']} (replaced by the next), "
          f"{seen['degraded_ticks']} periods degraded")  # fmt: skip
    print(f"  observation to chunk    mean {latency['mean']:.1f} ms, p95 {latency['p95']:.1f} ms, "
          f"max {latency['max']:.1f} ms")  # fmt: skip
    print(f"  real-time privileges    {result['privileges']}")
    print(f"  faults                  {result['faults'] or 'none'}, final state {result['final_state']}")
    if chosen.silences:
        times = np.array(silences(chosen.silences)) * 1000
        print(f"silent bus to hold, {len(times)} times   p50 {np.median(times):.1f} ms, max {times.max():.1f} ms "
              f"(three periods are 30 ms, and the arm's own deadline 7)")  # fmt: skip


if __name__ == "__main__":
    main()
