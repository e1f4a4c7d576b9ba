"""How far a follower is behind its leader: two emulated arms, the leader swung by a hand, everything as in `record`.

    python benchmarks/teleoperation.py [--seconds 10] [--amplitude 0.25] [--frequency 0.5]

Servo bytes of both arms through ptys at the wire's pace, the leader read by its own process, the follower behind its
gate. All delays are against the leader's readings, at the time their bytes were on the wire:

- `goal`: until the follower's servos are sent the same angle (reading, process, chunk, gate),
- `arm`: until the follower's joints are there (its servos as well).

Both are the shift that brings the two curves together best, per joint; the rest is what no shift explains.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Array = NDArray[np.float64]

SHIFTS = np.arange(0.0, 0.4, 0.0005)
"""Delays that are tried, s."""


def shift(time: Array, leader: Array, follower_time: Array, follower: Array) -> tuple[float, float]:
    """(delay s, RMS rad that is left) of one joint; the leader is interpolated."""
    inside = (follower_time > time[0] + SHIFTS[-1]) & (follower_time < time[-1])
    at, there = follower_time[inside], follower[inside]
    left = []
    for delay in SHIFTS:
        apart = there - np.interp(at - delay, time, leader)
        left.append(float(np.std(apart)))
    best = int(np.argmin(left))
    return float(SHIFTS[best]), left[best]


def swing(url: str, start: Array, seconds: float, amplitude: float, frequency: float) -> None:
    """Have a hand take the leader to `start` and swing all its joints about it."""
    lead_in, period = 1.0, 0.02
    points = [{"time": 0.5, "position": start.tolist()}]
    for k in range(round(seconds / period)):
        t = k * period
        # It begins softly, as a person does.
        angle = amplitude * min(t, 1.0) * np.sin(2 * np.pi * frequency * t)
        points.append({"time": lead_in + t, "position": (start + angle).tolist()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps(points).encode()
    with opener.open(urllib.request.Request(f"{url}/hand", data=body), timeout=30) as answer:
        assert answer.status == 200


def measure(seconds: float, amplitude: float, frequency: float) -> dict[str, Any]:
    """Delays in ms by joint, and their medians."""
    from steering import bring_home, bring_to_rest

    from hardware.arm.serial_arm import SerialArm
    from hardware.emulator.launch import start_emulator
    from hardware.runtime.control.loop import ControlLoop, LoopSettings
    from hardware.runtime.safety.watchdog_client import Watchdog
    from hardware.runtime.sources.sources import GoalOnly
    from hardware.runtime.sources.teleop import Leader
    from sim2real.calibration import Calibration
    from sim2real.clock import RealClock
    from sim2real.robot import Robot

    robot, clock = Robot.load("so101"), RealClock()
    read: list[tuple[float, Array]] = []

    class Watched(Leader):
        """Keeps what was read from the leader."""

        def poll(self) -> Any:
            answer = super().poll()
            if answer is not None and self._latest is not None:
                read.append(self._latest)
            return answer

    sent: list[tuple[float, Array]] = []
    seen: list[tuple[float, Array]] = []
    with (
        start_emulator("so101", camera=False) as leads,
        start_emulator("so101", camera=False) as follows,
    ):
        calibration = Calibration.load(follows.calibration, robot)
        arm = SerialArm.connect(robot, follows.port, calibration)
        leader = Watched("so101", leads.port, leads.calibration, "so101", calibration.limits)
        with Watchdog(robot, follows.port, arm.servo_goals) as guardian:
            leader.wait_ready()
            loop = ControlLoop(
                arm,
                clock,
                leader,
                GoalOnly(),
                settings=LoopSettings(limits=calibration.limits),
                guardian=guardian,
            )
            bring_home(loop)
            swing(leads.control_url, np.array(robot.home), seconds + 6, amplitude, frequency)
            loop.run(lambda: not leader.apart(loop.gate.position), 10)
            loop.start_policy(0)
            loop.run(lambda: False, 4.0)  # it comes up to the leader
            read.clear()
            end = clock.now() + seconds

            def keep() -> bool:
                sent.append((clock.now(), loop.executed.copy()))
                if loop.reading is not None:
                    seen.append((loop.reading.time, loop.reading.position.copy()))
                return clock.now() > end

            loop.run(keep, seconds + 5)
            faults = list(loop.faults)
            bring_to_rest(loop)
        leader.close()
        arm.close()
    if faults:
        raise SystemExit(f"the run was ended by {', '.join(faults)}")
    columns = {
        name: (np.array([t for t, _ in rows]), np.array([q for _, q in rows]))
        for name, rows in (("leader", read), ("goal", sent), ("arm", seen))
    }
    time, angles = columns["leader"]
    joints: dict[str, Any] = {}
    for i in robot.arm:
        name = robot.joint_names[i]
        joints[name] = {}
        for what in ("goal", "arm"):
            delay, left = shift(time, angles[:, i], columns[what][0], columns[what][1][:, i])
            joints[name][what] = {"ms": round(1000 * delay, 1), "left_deg": round(float(np.degrees(left)), 2)}
    return {
        "joints": joints,
        "goal_ms": float(np.median([joint["goal"]["ms"] for joint in joints.values()])),
        "arm_ms": float(np.median([joint["arm"]["ms"] for joint in joints.values()])),
        "readings_hz": round(len(time) / (time[-1] - time[0]), 1),
        "peak_speed": round(2 * np.pi * frequency * amplitude, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--amplitude", type=float, default=0.25, help="rad")
    parser.add_argument("--frequency", type=float, default=0.5, help="Hz")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measure(args.seconds, args.amplitude, args.frequency)
    if args.json:
        print(json.dumps(result))
        return
    print(f"leader read at {result['readings_hz']} Hz, swung at up to {result['peak_speed']} rad/s")
    print(f"{'joint':15} {'goal ms':>8} {'left °':>7} {'arm ms':>8} {'left °':>7}")
    for name, joint in result["joints"].items():
        goal, arm = joint["goal"], joint["arm"]
        print(f"{name:15} {goal['ms']:8} {goal['left_deg']:7} {arm['ms']:8} {arm['left_deg']:7}")
    print(
        f"median: the goal is {result['goal_ms']:.0f} ms behind the leader, the arm {result['arm_ms']:.0f} ms"
    )


if __name__ == "__main__":
    main()
