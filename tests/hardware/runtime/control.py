"""A control process for tests of what happens when it dies.

python -m tests.hardware.runtime.control PORT ROBOT [SECONDS]      prints "running" once the policy moves the arm
"""

import sys

import numpy as np

from hardware.arm.serial_arm import SerialArm
from hardware.emulator.assembly import emulated_calibration
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.safety.watchdog_client import Watchdog
from hardware.runtime.sessions.session import Plan, Session
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from sim2real.clock import RealClock
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task


class Sway:
    """Goes to and fro all the time, out over the table."""

    horizon = 10

    def __init__(self, robot):
        self.robot, self.calls = robot, 0

    def reset(self, seed):
        self.calls = 0

    def act(self, observation):
        if self.calls == 30:
            print("running", flush=True)
        phase = 2 * np.pi * 0.5 * (self.calls + 1 + np.arange(self.horizon)) / self.robot.policy_rate
        self.calls += 1
        swing = np.array([0.5, 0.3, -0.3, 0.2, 0.3, 0.2])
        return self.robot.home + (np.sin(phase) * np.minimum(phase, 1.0))[:, None] * swing - 0.2 * swing


def main() -> None:
    port, name = sys.argv[1:3]
    robot, clock, task = Robot.load(name), RealClock(), load_task("reach")
    calibration = emulated_calibration(robot)
    arm = SerialArm.connect(robot, port, calibration)
    with Watchdog(robot, port, arm.servo_goals) as guardian:
        loop = ControlLoop(
            arm, clock, LocalPolicy(Sway(robot), 1 / robot.policy_rate, clock), GoalOnly(),
            settings=LoopSettings(limits=calibration.limits), guardian=guardian,
        )  # fmt: skip
        print(f"watchdog {guardian.pid}", flush=True)
        seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 600.0
        Session(loop, Plan(task, seconds=seconds)).run()
        print(f"ended {loop.phase.value} {loop.faults}", flush=True)
        arm.close()


if __name__ == "__main__":
    main()
