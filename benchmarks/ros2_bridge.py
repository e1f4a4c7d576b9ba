"""What ROS 2 adds between a command and the loop that follows it: from the other program's `write` until the loop's
next look would find the command.

    python benchmarks/ros2_bridge.py [--seconds 30] [--rate 100] [--domain 91] [--json]

Another process writes set-points on loopback; the bridge's node takes them, checks them and offers them, while a loop
of 100 Hz hands it what it publishes. Clocks are one: CLOCK_MONOTONIC. What follows is as with any policy: the wait for
the next cycle and the servo line.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.ros2 import topics
from hardware.ros2.dds import configure, cyclonedds
from hardware.ros2.goals import RosGoals
from hardware.ros2.node import RosNode
from hardware.runtime.control.supervisor import Action, Health, Phase, State
from hardware.runtime.control.tick import Tick
from sim2real.arm import ArmState
from sim2real.clock import RealClock
from sim2real.robot import Robot

WANTED = 5.0
"""ms, p99."""


class Timed(RosGoals):
    """Set-points say in their first value when they were written."""

    ages: list[float]

    def offer_setpoint(self, values: Sequence[float], at: float) -> None:
        written, values = values[0], [0.0, *list(values)[1:]]
        super().offer_setpoint(values, at)
        self.ages.append(time.monotonic() - written)


def write(domain: int, rate: float, seconds: float, joints: int) -> None:
    """Another program's part."""
    configure()
    library = cyclonedds()
    from hardware.ros2 import messages as m

    participant = library.domain.DomainParticipant(domain)
    topic = library.topic.Topic(participant, f"rt{topics.SETPOINT}", m.Float64MultiArray)
    writer = library.pub.DataWriter(participant, topic)
    time.sleep(2.0)  # until both have found each other
    rng, end = random.Random(0), time.monotonic() + seconds
    while time.monotonic() < end:
        # Not in step with whoever takes them.
        time.sleep(rng.uniform(0.5, 1.5) / rate)
        values = [0.0] * joints
        values[0] = time.monotonic()
        writer.write(m.Float64MultiArray(m.MultiArrayLayout([], 0), values))


def measure(seconds: float, rate: float, domain: int) -> dict[str, Any]:
    """ms."""
    robot = Robot.load("so101")
    home = np.array(robot.home)
    goals = Timed(robot, RealClock())
    goals.ages = []
    goals.reset(0)
    goals.send(0.0, {"joint_command": home})
    node = RosNode(robot, goals, domain)
    node.start()
    other = multiprocessing.get_context("spawn").Process(
        target=write, args=(domain, rate, seconds, robot.n), daemon=True
    )
    other.start()
    zeros, running = np.zeros(robot.n), State(Phase.RUNNING)
    due = time.monotonic()
    while other.is_alive():
        due += 1 / robot.command_rate
        time.sleep(max(due - time.monotonic(), 0.0))
        now = time.monotonic()
        reading = ArmState(
            now, home, zeros, zeros, zeros > -1, zeros, zeros, zeros, zeros, np.zeros(robot.n, int)
        )
        node.tick(Tick(now, running, running, Action.FOLLOW, Health(), reading, home, home, home, False))
        goals.poll()
    node.close()
    ages = 1e3 * np.array(goals.ages)
    return {
        "commands": len(ages),
        "p50_ms": float(np.percentile(ages, 50)),
        "p99_ms": float(np.percentile(ages, 99)),
        "max_ms": float(ages.max()),
        "wanted_p99_ms": WANTED,
        "published": node.published,
        "lost": node.lost,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=100.0, help="set-points a second (%(default)s)")
    parser.add_argument("--domain", type=int, default=91)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.seconds, args.rate, args.domain)
    if args.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['commands']} set-points: p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, at most "
            f"{found['max_ms']:.2f} ms (wanted: {WANTED:g} ms p99); beside them {found['published']} joint states "
            f"published, {found['lost']} lost"
        )
    return 0 if found["p99_ms"] <= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
