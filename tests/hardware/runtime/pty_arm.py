"""A process that is an arm on a pty: real physics behind emulated servos, and a log of what really happened.

    python -m tests.hardware.runtime.pty_arm LINK LOG ROBOT     ends when its standard input closes; then writes LOG

LOG is an .npz of rows every 10 ms: time (CLOCK_MONOTONIC), true position (n), servo goal (n), torque mode (n).
"""

import select
import sys
import time

import numpy as np

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.pty_port import Pty
from hardware.emulator.wire import EmulatedBus
from hardware.emulator.world_plant import WorldPlant
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task


def main() -> None:
    link, path, name = sys.argv[1:]
    robot = Robot.load(name)
    calibration = emulated_calibration(robot)
    plant = WorldPlant(robot, calibration, task=load_task("reach"))
    bus = EmulatedBus(build_servos(robot, plant, calibration), plant)
    line = Pty(bus, link=link)
    rows: list[np.ndarray] = []
    latest = 0.0

    def ended() -> bool:
        nonlocal latest
        now = time.monotonic()
        if now - latest >= 0.01:
            latest = now
            drive = plant.drive
            rows.append(np.concatenate([[now], plant.world.position, drive.goal, drive.mode]))
        return bool(select.select([sys.stdin], [], [], 0)[0])

    print("ready", flush=True)
    line.serve(until=ended)
    line.close()
    np.savez(path, rows=np.array(rows))


if __name__ == "__main__":
    main()
