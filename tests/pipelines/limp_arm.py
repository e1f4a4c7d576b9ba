"""A limp SO-101 on a pty that a hand moves when told to: a process for tests of what reads it.

    python -m tests.pipelines.limp_arm LINK     "hand" on standard input: every joint to both ends of its range

Its end of input ends it. The arm is ideal: no gravity, no stops, so the hand decides.
"""

import os
import select
import sys

import numpy as np

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.hand import HandPath
from hardware.emulator.plant import IdealPlant
from hardware.emulator.pty_port import Pty
from hardware.emulator.wire import EmulatedBus
from sim2real.robot import Robot

MOVE, LEAN = 0.15, 0.08  # s to a stop, and at it


def sweep(robot: Robot) -> HandPath:
    lower, upper = emulated_calibration(robot).limits
    points, time = [], 0.0
    for i in range(robot.n):
        for target in (lower[i], upper[i], 0.0):
            pose: list[float | None] = [None] * robot.n
            pose[i] = float(target)
            points += [(time + MOVE, pose), (time + MOVE + LEAN, pose)]
            time += MOVE + LEAN
    return HandPath.through(points)


def main() -> None:
    robot = Robot.load("so101")
    plant = IdealPlant(robot.n, np.zeros(robot.n))
    line = Pty(EmulatedBus(build_servos(robot, plant, emulated_calibration(robot)), plant), link=sys.argv[1])

    def ended() -> bool:
        if not select.select([0], [], [], 0)[0]:
            return False
        said = os.read(0, 100)
        if said:
            plant.hand.follow(sweep(robot))
        return not said

    print("ready", flush=True)
    line.serve(until=ended)
    line.close()


if __name__ == "__main__":
    main()
