"""Names of everything that the supervisor can latch."""

from enum import StrEnum
from typing import Final


class FaultCode(StrEnum):
    """A fault by its name: in logs, in results, and for people. It stays until a person acknowledges it."""

    PORT_LOST = "port_lost"
    ESTOP = "estop"
    WATCHDOG_LOST = "watchdog_lost"
    ARMING_FAILED = "arming_failed"
    TORQUE_LOST = "torque_lost"
    SERVO_FAULT = "servo_fault"
    FEEDBACK_LOST = "feedback_lost"
    POLICY_DIED = "policy_died"
    POLICY_LATE = "policy_late"
    POLICY_INVALID = "policy_invalid"
    POLICY_REJECTED = "policy_rejected"
    CAMERA_LOST = "camera_lost"
    OPERATOR_LOST = "operator_lost"
    STALLED = "stalled"
    OFF_TRACK = "off_track"
    OVERHEATED = "overheated"
    VOLTAGE = "voltage"
    OVERCURRENT = "overcurrent"
    OVERLOADED = "overloaded"
    ENCODER_JUMPED = "encoder_jumped"
    GRIPPER_STUCK = "gripper_stuck"
    REST_UNREACHABLE = "rest_unreachable"
    SETTLING_TOO_LONG = "settling_too_long"


DECIDED: Final = frozenset({FaultCode.ESTOP, FaultCode.OPERATOR_LOST})
"""Faults that a person has decided on: they are no failures."""
