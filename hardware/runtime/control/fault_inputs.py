"""What the control loop learns in a tick about the state of arm and operator: monitors, servo reports, stops."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.deadlines import Deadlines
from hardware.runtime.control.monitors import Monitors, Verdict
from hardware.runtime.control.supervisor import MONITORS
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.safety.estop import EmergencyStop, Reading
from sim2real.arm import ArmState
from sim2real.robot import Robot
from sim2real.status import STATUS_NAMES, report, status_names

Array = NDArray[np.float64]


def _bits(*names: str) -> int:
    return sum(1 << bit for bit, name in STATUS_NAMES.items() if name in names)


FAULT_BITS: Final = _bits(*STATUS_NAMES.values()) & ~_bits("current")
"""Bits of `ArmState.status` that latch: all but the current limit alone."""

GRIPPER_BITS: Final = FAULT_BITS & ~_bits("overload")
"""Bits that count as faults of a gripper: squeezing overloads it, and it protects itself by squeezing less."""

FAULT_TIME: Final = 0.1
"""s for which a servo must report a fault before it counts."""


class FaultInputs:
    """Monitors, servo faults, the emergency stop and the operator's signs of life, from tick to tick."""

    def __init__(self, robot: Robot, deadlines: Deadlines, *, operator_required: bool = False) -> None:
        """`operator_required`: whether the arm stops when nobody shows a sign of life."""
        self.robot, self.deadlines = robot, deadlines
        self.monitors = Monitors(robot)
        self.estop = EmergencyStop()
        self.operator_required = operator_required
        self.operator_seen = float("-inf")
        """When the operator last showed a sign of life, s."""
        self._fault_bits = np.full(robot.n, FAULT_BITS)
        if robot.gripper is not None:
            self._fault_bits[robot.gripper] = GRIPPER_BITS
        self._fault_since: float | None = None
        self._answered = 0
        self._stop = Reading(False, 0, "")
        self._pressed_by = ""

    def judge(self, now: float, reading: ArmState | None, goal: Array, *, on: bool, driven: bool) -> Verdict:
        """What the monitors say; see `Monitors.step`."""
        return Verdict() if reading is None else self.monitors.step(now, reading, goal, on=on, driven=driven)

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
            self._pressed_by = self._stop.source
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

    def detail(self, fault: FaultCode, now: float, reading: ArmState | None) -> str:
        """What is known here about a fault, for people; "" for nothing."""
        if fault in MONITORS:
            return self.monitors.joints(fault)
        match fault:
            case FaultCode.ESTOP:
                return self._pressed_by
            case FaultCode.FEEDBACK_LOST if reading is not None:
                return self._joints(reading.age + (now - reading.time) > self.deadlines.feedback_fault)
            case FaultCode.SERVO_FAULT if reading is not None:
                return "; ".join(
                    f"{name} reports {report(status_names(int(bits)))}"
                    for name, bits in zip(self.robot.joint_names, reading.status, strict=True)
                    if bits
                )
        return ""

    def _joints(self, which: NDArray[np.bool_]) -> str:
        return ", ".join(np.array(self.robot.joint_names)[which])
