"""What moves behind emulated servos: the interface, and an ideal arm for tests of the bus alone."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Drive:
    """What the servos' registers ask of the plant; arrays (n,) in the order of the robot's joints.

    `goal` rad; `mode` 0 off, 1 on, 2 damping; `duty_limit` 0..1; `p`, `i`, `d` raw gains; `speed` rad/s and
    `acceleration` rad/s² limits of the profile, 0 = none.
    """

    n: int
    goal: Array = field(init=False)
    mode: NDArray[np.int64] = field(init=False)
    duty_limit: Array = field(init=False)
    p: Array = field(init=False)
    i: Array = field(init=False)
    d: Array = field(init=False)
    speed: Array = field(init=False)
    acceleration: Array = field(init=False)

    def __post_init__(self) -> None:
        for name in ("goal", "p", "i", "d", "speed", "acceleration"):
            setattr(self, name, np.zeros(self.n))
        self.mode = np.zeros(self.n, dtype=np.int64)
        self.duty_limit = np.ones(self.n)


class Plant(Protocol):
    """An arm with its motors, in its own time. Positions are those of the encoders, rad in URDF terms."""

    drive: Drive
    position: Array
    velocity: Array
    duty: Array
    """Signed fraction of the supply voltage on each motor."""
    current: Array
    """A, signed."""
    supply: float
    """V without load."""

    def advance(self, time: float) -> None:
        """Move on to `time`, s since the plant began; never backwards."""


class IdealPlant:
    """Joints that approach their goals as first-order lags of limited speed: enough to test the bus, not an arm."""

    def __init__(
        self, n: int, position: Array | None = None, *, lag: float = 0.05, speed: float = 4.5
    ) -> None:
        self.drive = Drive(n)
        self.position = np.zeros(n) if position is None else np.array(position, dtype=np.float64)
        self.drive.goal[:] = self.position
        self.velocity = np.zeros(n)
        self.duty = np.zeros(n)
        self.current = np.zeros(n)
        self.supply = 12.0
        self.lag = lag
        self.speed = speed
        self._time = 0.0

    def advance(self, time: float) -> None:
        step = time - self._time
        if step <= 0:
            return
        self._time = time
        on = self.drive.mode == 1
        gap = np.where(on, self.drive.goal - self.position, 0.0)
        moved = np.clip(gap * (1.0 - np.exp(-step / self.lag)), -self.speed * step, self.speed * step)
        self.position = self.position + moved
        self.velocity = moved / step
        self.duty = np.clip(gap, -self.drive.duty_limit, self.drive.duty_limit)
        self.current = 2.0 * self.duty
