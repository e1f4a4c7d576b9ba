"""What counts as a servo's report of a fault."""

import numpy as np
import pytest

from hardware.runtime.control.deadlines import Deadlines
from hardware.runtime.control.fault_inputs import FAULT_TIME, FaultInputs
from sim2real.arm import ArmState
from sim2real.robot import Robot
from sim2real.status import STATUS_NAMES

TICK = 0.01
OVERHEATED = 1 << next(bit for bit, name in STATUS_NAMES.items() if name == "temperature")


def reports(readings: list[tuple[int, bool]]) -> float | None:
    """When a fault counts, s: per tick, what the second servo's status says and whether the servo answered."""
    robot = Robot.load("so101")
    inputs = FaultInputs(robot, Deadlines())
    age, zeros = np.zeros(robot.n), np.zeros(robot.n)
    for k, (bits, answered) in enumerate(readings):
        now = k * TICK
        age = np.where(np.arange(robot.n) == 1, 0.0 if answered else age + TICK, 0.0)
        status = np.where(np.arange(robot.n) == 1, bits, 0)
        reading = ArmState(now, zeros, zeros, zeros, age == 0, age, zeros, zeros, zeros, status)
        if inputs.servo_fault(now, reading):
            return now
    return None


def test_a_fault_that_lasts_counts() -> None:
    assert reports([(OVERHEATED, True)] * 30) == pytest.approx(FAULT_TIME, abs=1.5 * TICK)


def test_a_fault_that_goes_by_itself_does_not() -> None:
    assert reports([(OVERHEATED, True)] * 5 + [(0, True)] * 30) is None


def test_what_was_heard_once_before_a_servo_fell_silent_does_not() -> None:
    assert reports([(OVERHEATED, True)] + [(OVERHEATED, False)] * 80) is None


def test_a_servo_that_repeats_it_after_a_silence_is_believed() -> None:
    assert reports([(OVERHEATED, True)] + [(OVERHEATED, False)] * 30 + [(OVERHEATED, True)] * 3) is not None
