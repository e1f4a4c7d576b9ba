"""Where the way down to rest is barred, or that home: ways from random poses, in the gate alone, without physics.

    python benchmarks/descent.py [--home] [--poses 300] [--robot so101 --robot koch …] [--seed 0]

Poses are drawn evenly within the joint limits; those that touch the table, the workspace's end or the arm itself are
drawn again. An arm whose way is barred wherever it turned is let go where it stands; from how high is in the last
column. `straight`: the direct way sufficed; `round`: it was barred, and another one was found.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.runtime.control.goals import TRAVEL_SPEED
from hardware.runtime.safety.way_back import SPEED, WayBack, longest
from sim2real.gate.gate import Gate
from sim2real.model.kinematics import tool_position
from sim2real.robot import Robot, robot_names


def clear_poses(gate: Gate, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """(count) poses (n,) rad at which an arm may stand."""
    robot, margin, found = gate.robot, gate.robot.gate.position_margin, []
    while len(found) < count:
        pose = rng.uniform(robot.lower + margin, robot.upper - margin)
        if gate.clearance(pose) >= 0 and gate.self_clearance(pose) >= 0:
            found.append(pose)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--poses", type=int, default=300, help="for each robot (%(default)s)")
    parser.add_argument("--robot", action="append", help=f"may be repeated (all: {', '.join(robot_names())})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--home", action="store_true", help="ways home at a session's speed, not down to rest"
    )
    chosen = parser.parse_args()
    print(f"{'robot':20}{'straight':>9}{'round':>7}{'let go':>8}{'median':>9}{'longest':>9}{'allowed':>9}")
    barred = 0
    for name in chosen.robot or robot_names():
        robot = Robot.load(name)
        gate = Gate(robot, TRAVEL_SPEED if chosen.home else SPEED)
        way = WayBack(robot, gate, down=not chosen.home)
        straight, times, fallen = 0, [], []
        begun = time.monotonic()
        for pose in clear_poses(gate, chosen.poses, np.random.default_rng(chosen.seed)):
            gate.reset(pose)
            way.begin()
            ticks = 0
            while not way.done:
                way.step()
                ticks += 1
            times.append(ticks / robot.command_rate)
            straight += way.arrived and not way.turns
            if not way.arrived:
                fallen.append(float(tool_position(robot.model, gate.position)[2]))
        found = chosen.poses - straight - len(fallen)
        heights = f"  from {', '.join(f'{height:.2f}' for height in fallen)} m" if fallen else ""
        print(
            f"{name:20}{straight:9}{found:7}{len(fallen):8}{np.median(times):7.1f} s{max(times):7.1f} s"
            f"{longest(robot, gate.speed):7.1f} s{heights}"
        )
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        barred += len(fallen)
    return 1 if barred else 0


if __name__ == "__main__":
    sys.exit(main())
