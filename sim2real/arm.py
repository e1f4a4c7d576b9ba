"""What a simulated and a serial arm have in common."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ArmState:
    """One reading of all joints. Arrays are (n,) in the order of `robot.joints`.

    `time` is when the reading arrived, s on the arm's clock. `valid[i]` is False when joint i did not answer
    in this cycle: its values are then the last good ones and `age[i]` says how old they are, s. Quantities
    that a servo does not report are NaN. `load` is the motor's duty in -1..1; `status` holds the
    bits of `sim2real.status.STATUS_NAMES` that the servos report.
    """

    time: float
    position: Array
    velocity: Array
    load: Array
    valid: NDArray[np.bool_]
    age: Array
    voltage: Array
    temperature: Array
    current: Array
    status: NDArray[np.int64]


class Arm(Protocol):
    """An arm that can be observed and commanded. No method waits longer than its documented deadline."""

    robot: Robot
    enabled: NDArray[np.bool_]
    """(n,) whether each servo said that its torque is on when it was last asked."""

    def observe(self) -> ArmState:
        """The current reading; raises BusError when no joint at all answered, PortError when it is gone."""

    def command(self, position: Array) -> Array:
        """Send joint goals (n,), rad; returns what was really sent. Non-finite: UserError."""

    def enable(self) -> Array:
        """Torque on, with the present position as goal, so that nothing moves; returns these goals (n,), rad."""

    def relax(self) -> None:
        """Torque off on every joint, each tried even if others fail."""

    def stop(self) -> None:
        """Hold: the present position becomes the goal."""

    def acknowledge(self) -> tuple[str, ...]:
        """Take back the faults that servos latch until they restart, on a person's word; the torque is off
        afterwards. Returns the joints that were restarted."""

    def close(self) -> None:
        """Release the port; torque stays as it is."""
