"""What moves behind emulated servos: the interface, and an ideal arm for tests of the bus alone."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.hand import Hand

Array = NDArray[np.float64]

OFF, POSITION, DAMPING, DUTY, VELOCITY, CURRENT = range(6)
"""What a motor does: nothing; follow a goal; brake by short circuit; or a fixed duty, speed or current."""


@dataclass
class Drive:
    """What the servos' registers ask of the plant; arrays (n,) in the order of the robot's joints.

    `mode` is one of the constants above. `goal` rad counts in mode POSITION, `request` in the last three (duty
    −1..1, rad/s, A). `duty_limit` 0..1; `current_limit` A; `p`, `i`, `d` raw gains; `speed` rad/s and
    `acceleration` rad/s² limits of the profile, 0 = none.
    """

    n: int
    goal: Array = field(init=False)
    request: Array = field(init=False)
    mode: NDArray[np.int64] = field(init=False)
    duty_limit: Array = field(init=False)
    current_limit: Array = field(init=False)
    p: Array = field(init=False)
    i: Array = field(init=False)
    d: Array = field(init=False)
    speed: Array = field(init=False)
    acceleration: Array = field(init=False)

    def __post_init__(self) -> None:
        for name in ("goal", "request", "p", "i", "d", "speed", "acceleration"):
            setattr(self, name, np.zeros(self.n))
        self.mode = np.zeros(self.n, dtype=np.int64)
        self.duty_limit = np.ones(self.n)
        self.current_limit = np.full(self.n, np.inf)


class Plant(Protocol):
    """An arm with its motors, in its own time. Positions are those of the encoders, rad in URDF terms."""

    drive: Drive
    position: Array
    velocity: Array
    duty: Array
    """Signed fraction of the supply voltage on each motor."""
    current: Array
    """A, signed."""
    setpoint: Array
    setpoint_speed: Array
    """Where the servos' own trajectories are, rad and rad/s."""
    supply: float
    """V without load."""
    hand: Hand
    """Moves limp joints, as a person's hand does."""

    def advance(self, time: float) -> None:
        """Move on to `time`, s since the plant began; never backwards."""


class IdealPlant:
    """Joints that approach their goals as first-order lags of limited speed: enough to test the bus, not an arm.

    A hand moves joints without torque exactly as it wants, the others not at all.
    """

    def __init__(
        self, n: int, position: Array | None = None, *, lag: float = 0.05, speed: float = 4.5
    ) -> None:
        self.drive = Drive(n)
        self.position = np.zeros(n) if position is None else np.array(position, dtype=np.float64)
        self.drive.goal[:] = self.position
        self.velocity = np.zeros(n)
        self.duty = np.zeros(n)
        self.current = np.zeros(n)
        self.setpoint = self.position.copy()
        self.setpoint_speed = np.zeros(n)
        self.supply = 12.0
        self.hand = Hand(n)
        self.lag = lag
        self.speed = speed
        self._time = 0.0

    def advance(self, time: float) -> None:
        step = time - self._time
        if step <= 0:
            return
        self._time = time
        drive, mode = self.drive, self.drive.mode
        limit = np.minimum(drive.duty_limit, drive.current_limit / 2)
        gap = np.where(mode == POSITION, drive.goal - self.position, 0.0)
        top = np.where(drive.speed > 0, np.minimum(drive.speed, self.speed), self.speed)
        pace = np.minimum(np.maximum(gap * (1.0 - math.exp(-step / self.lag)) / step, -top), top)
        duty = np.minimum(np.maximum(gap, -limit), limit)
        if (mode > DAMPING).any():
            wanted = np.where(mode == CURRENT, drive.request / 2, drive.request)
            open_loop = (mode == DUTY) | (mode == CURRENT)
            duty = np.where(open_loop, np.clip(wanted, -limit, limit), duty)
            pace = np.where(open_loop, self.speed * duty, pace)
            pace = np.where(mode == VELOCITY, np.clip(wanted, -top, top), pace)
        if self.hand.holding:
            wanted, _ = self.hand.target(time, self.position)
            guided = (mode == OFF) & np.isfinite(wanted)
            pace = np.where(guided, (wanted - self.position) / step, pace)
        self.position = self.position + pace * step
        self.velocity = pace
        self.duty = duty
        self.current = 2.0 * duty
        self.setpoint = np.where(mode == POSITION, drive.goal, self.position)
