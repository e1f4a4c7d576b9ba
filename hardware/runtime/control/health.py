"""What the supervisor is told: everything that is known in one tick."""

from enum import Enum
from typing import Final, NamedTuple

from hardware.runtime.fault_codes import FaultCode

NOTHING: Final[frozenset[FaultCode]] = frozenset()


class Request(Enum):
    """What the session or the operator wants. A wish stays until it changes; none of them skips a state."""

    NONE = "none"
    ARM = "arm"
    RUN = "run"
    STOP = "stop"
    SETTLE = "settle"
    ACKNOWLEDGE = "acknowledge"


class Health(NamedTuple):
    """Everything the supervisor knows in one tick. Ages in s; infinite when there was never a value."""

    request: Request = Request.NONE
    connected: bool = True
    """The port is open and has not died."""
    identified: bool = True
    """All servos answered and are what calibration and robot say they are."""
    feedback_age: float = 0.0
    """Age of the oldest joint's last good reading."""
    bus_age: float = 0.0
    """Age of the newest good reading of any joint: how long nothing at all has been heard."""
    armed: bool = False
    """Torque is on and the arm has been seen not to move."""
    refused: bool = False
    """The arm has moved while torque came on: trying once more would move it once more."""
    torque_lost: bool = False
    """A servo that should hold has let go (brown-out, reset)."""
    torque_gone: bool = False
    """All servos that should hold have let go, or none ever held."""
    servo_fault: bool = False
    """A servo reports overload, heat, voltage or current."""
    policy_needed: bool = False
    policy_alive: bool = True
    remaining: float = 1.0
    """s until the last known action is due; negative when the policy is late."""
    bad_chunks: int = 0
    """Chunks refused in a row."""
    rejected: float = 0.0
    """s for which the gate has rejected every request."""
    camera_needed: bool = False
    camera_age: float = 0.0
    still: bool = False
    """The goal has stopped moving."""
    rested: bool = False
    """The descent has arrived."""
    attended: bool = False
    """An operator is there to decide what follows a fault."""
    relaxed: bool = False
    """Torque off has been confirmed."""
    guarded: bool = True
    """The watchdog process is there."""
    estop: bool = False
    """An emergency stop is pressed, or was pressed and has not been answered."""
    estop_press: bool = False
    """The emergency stop was pressed (again) since the last tick."""
    operator_age: float = 0.0
    """s since the operator's last sign of life; 0 where none is required."""
    warned: frozenset[FaultCode] = NOTHING
    """Monitors that warn (see `monitors.py`)."""
    faulty: frozenset[FaultCode] = NOTHING
    """Monitors that see a fault."""
    retreated: bool = False
    """The way out after the fault has been gone."""
    obstructed: bool = False
    """The arm pushes against something on that way, or where the fault stopped it."""
