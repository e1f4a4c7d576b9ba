"""What the control loop needs of the process that lowers the arm when the loop no longer can."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Guardian(Protocol):
    """A process that lowers the arm when this one no longer can."""

    @property
    def alive(self) -> bool:
        """Whether the guardian is there. An arm without one is stopped and lowered."""

    def beat(self, armed: bool, executed: Array) -> None:
        """Called every tick: we are alive; torque is on or off; the last goal (n,), rad."""

    def busy(self) -> None:
        """Called before exchanges that take longer than a cycle."""
