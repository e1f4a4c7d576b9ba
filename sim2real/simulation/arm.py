"""A simulated arm behind the same interface as a real one, in the time of a given clock."""

import numpy as np
from numpy.typing import NDArray

from sim2real.arm import ArmState
from sim2real.clock import Clock
from sim2real.errors import BusError, PortError, UserError
from sim2real.robot import Robot
from sim2real.simulation.world import World

Array = NDArray[np.float64]


class SimulatedArm:
    """The arm of a `World` as an `Arm`. The world is advanced to the clock's time at every call.

    Faults can be set from outside: `silent` joints do not answer (all of them: BusError), `unplugged` raises
    PortError, `status` (n,) holds servo error bits, `temperature` and `voltage` (n,) what servos report of them
    (NaN: nothing).
    """

    def __init__(self, world: World, clock: Clock) -> None:
        self.world, self.clock = world, clock
        self.robot: Robot = world.robot
        n = self.robot.n
        self.silent = np.zeros(n, dtype=np.bool_)
        self.unplugged = False
        self.status = np.zeros(n, dtype=np.int64)
        self.temperature, self.voltage = np.full(n, np.nan), np.full(n, np.nan)
        self._origin = clock.now() - world.time
        self._last_heard = np.full(n, -np.inf)
        self._position = world.sensed_position
        self._velocity = np.zeros(n)
        world.servo.enabled[:] = 0

    @property
    def enabled(self) -> NDArray[np.bool_]:
        return np.asarray(self.world.servo.enabled > 0)

    def catch_up(self) -> None:
        """Advance the physics to the clock's time."""
        steps = round((self.clock.now() - self._origin - self.world.time) * self.world.physics_rate)
        if steps > 0:
            self.world.advance(None, steps)

    def _check(self) -> None:
        self.catch_up()
        if self.unplugged:
            raise PortError("the simulated port has gone away")

    def observe(self) -> ArmState:
        self._check()
        now = self.clock.now()
        heard = ~self.silent
        if not heard.any():
            raise BusError("no servo answered")
        self._position = np.where(heard, self.world.sensed_position, self._position)
        self._velocity = np.where(heard, self.world.sensed_velocity, self._velocity)
        self._last_heard[heard] = now
        return ArmState(
            time=now,
            position=self._position.copy(),
            velocity=self._velocity.copy(),
            load=self.world.servo.duty.copy(),
            valid=heard,
            age=now - self._last_heard,
            voltage=self.voltage.copy(),
            temperature=self.temperature.copy(),
            current=self.world.servo.current.copy(),
            status=np.where(heard, self.status, 0),
        )

    def command(self, position: Array) -> Array:
        if not np.isfinite(position).all():
            raise UserError(f"a goal must be finite, got {position}")
        self._check()
        # A servo that does not hear keeps its goal.
        goal = np.where(self.silent, self.world.goal, position)
        self.world.advance(goal, 0)
        return np.array(position, dtype=np.float64)

    def enable(self) -> Array:
        goals = self.command(self.world.sensed_position)
        self.world.servo.enabled[:] = 1
        return goals

    def relax(self) -> None:
        self._check()
        if self.silent.all():
            raise BusError("no servo answered")
        self.world.servo.enabled[~self.silent] = 0

    def stop(self) -> None:
        self.command(self.world.sensed_position)

    def acknowledge(self) -> tuple[str, ...]:
        return ()  # nothing latches

    def close(self) -> None:
        self.catch_up()
