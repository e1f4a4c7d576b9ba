"""What the control loop learns about arm and operator in a tick, and how a fault is told in words."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.health import Deadlines
from hardware.runtime.safety.estop import EmergencyStop, Reading
from sim2real.arm import ArmState
from sim2real.robot import Robot

Array = NDArray[np.float64]

FAULT_BITS = 0b1110111
"""Bits of `sim2real.status` that latch: all but the current limit alone."""

GRIPPER_BITS = 0b1010111
"""The same for the gripper: squeezing overloads it, and it protects itself by squeezing less."""

FAULT_TIME = 0.1
"""Seconds for which a servo must report a fault before it counts."""


class Guardian(Protocol):
    """Whoever lowers the arm when this process no longer can."""

    @property
    def alive(self) -> bool:
        """Whether it is there. An arm without a guardian is stopped and lowered."""

    def beat(self, armed: bool, executed: Array) -> None:
        """Called every tick: we are alive; torque is on or off; the last goal (n,), rad."""

    def busy(self) -> None:
        """Called before exchanges that take longer than a cycle."""


class Vitals:
    """Servo faults, the emergency stop and the operator's signs of life, from tick to tick."""

    def __init__(self, robot: Robot, deadlines: Deadlines, problems: dict[str, str]) -> None:
        """`problems`: by fault, what is known about it besides its name; others write to it as well."""
        self.robot, self.deadlines = robot, deadlines
        self.estop = EmergencyStop()
        self.operator_required = False
        """Whether the arm stops when nobody shows a sign of life."""
        self.operator_seen = float("-inf")
        """When somebody last did, s."""
        self.problems = problems
        self._fault_bits = np.full(robot.n, FAULT_BITS)
        if robot.gripper is not None:
            self._fault_bits[robot.gripper] = GRIPPER_BITS
        self._fault_since: float | None = None
        self._answered = 0
        self._stop = Reading(False, 0, "")

    def servo_fault(self, now: float, reading: ArmState | None) -> bool:
        """Whether a servo has reported a fault for long enough.

        What was heard once, before the servo fell silent, is no report: a damaged reply may have passed for one.
        """
        reported = reading is not None and (reading.status & self._fault_bits) != 0
        if reading is None or not np.any(reported):
            self._fault_since = None
            return False
        if self._fault_since is None:
            self._fault_since = now
        fresh = reading.age + (now - reading.time) <= self.deadlines.feedback_hold
        return now - self._fault_since >= FAULT_TIME and bool((reported & fresh).any())

    def stop(self, now: float) -> tuple[bool, bool]:
        """(an emergency stop is pressed or unanswered, it was pressed anew)."""
        self._stop = self.estop.read(now)
        press = self._stop.presses > self._answered
        if press:
            self.problems["estop"] = self._stop.source
        return self._stop.held or press, press

    @property
    def stop_held(self) -> bool:
        """Whether an emergency stop input is still pressed."""
        return self._stop.held

    @property
    def presses(self) -> int:
        """How often an emergency stop has been pressed."""
        return self._stop.presses

    def answer_stop(self) -> None:
        """The presses so far have had their effect."""
        self._answered = self._stop.presses

    def operator_age(self, now: float) -> float:
        """s since the operator's last sign of life; 0 where none is required."""
        return now - self.operator_seen if self.operator_required else 0.0

    def describe(self, fault: str, now: float, reading: ArmState | None) -> str:
        """A fault with what is known about it, for people."""
        detail = self.problems.get(fault, "")
        if fault in ("feedback_lost", "servo_fault") and reading is not None:
            stale = reading.age + (now - reading.time)
            bad = stale > self.deadlines.feedback_fault if fault == "feedback_lost" else reading.status != 0
            detail = ", ".join(np.array(self.robot.joint_names)[bad])
        return f"{fault}: {detail}" if detail else fault
