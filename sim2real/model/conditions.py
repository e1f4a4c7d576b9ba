"""What the servos of an arm share, so that its joints vary together: supply, temperature, friction; and the grip's lag.

Temperature acts on a motor through its winding (copper: +0.393 % resistance per kelvin) and its magnets (neodymium:
−0.11 % flux, so torque constant, per kelvin). That of the grease is part of `servo.friction`, a factor on all friction.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim2real.model import servo

Array = NDArray[np.float64]

COPPER = 0.00393
"""Winding resistance per kelvin."""
MAGNET = -0.0011
"""Torque constant per kelvin."""
FRICTION = (
    servo.COULOMB,
    servo.VISCOUS,
    servo.STRIBECK,
    servo.LOAD_MOTOR,
    servo.LOAD_EXTERNAL,
    servo.LOAD_MOTOR_STRIBECK,
    servo.LOAD_EXTERNAL_STRIBECK,
)
"""Columns of what `servo.friction` scales."""


def apply_conditions(parameters: Array, values: Mapping[str, float], gripper: int | None) -> None:
    """Change the servos' own `parameters` (n, F) in place by the shared ones in `values`; missing ones are nominal."""
    parameters[:, servo.VOLTAGE] *= values.get("servo.voltage", 1.0)
    parameters[:, FRICTION] *= values.get("servo.friction", 1.0)
    warmer = values.get("servo.temperature", 0.0)
    parameters[:, servo.RESISTANCE] *= 1.0 + COPPER * warmer
    parameters[:, servo.TORQUE_CONSTANT] *= 1.0 + MAGNET * warmer
    if gripper is not None:
        parameters[gripper, servo.COMMAND_DELAY] += values.get("gripper.lag", 0.0)
