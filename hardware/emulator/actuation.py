"""What the servo model of the world has no mode for: motors driven by duty, speed or current, and a hand on the arm.

The model runs one controller, position control with a profile. A set-point beyond the horizon makes it saturate, so
its duty is whatever the limit says: that is open-loop duty, and current through Ohm's law. A goal beyond the horizon
makes its profile run at constant speed: that is speed control.
"""

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.hand import Hand
from hardware.emulator.plant import CURRENT, DUTY, VELOCITY, Drive
from sim2real.model import servo
from sim2real.simulation.crosssim.world import MujocoWorld
from sim2real.simulation.world import World

Array = NDArray[np.float64]

HORIZON = 1e3  # rad
LEAD = 0.5
"""A blocked joint's set-point runs ahead of it by at most this, rad."""

GRASP = 60.0
"""How quickly a hand corrects a joint, rad/s: the natural frequency of its grasp, critically damped."""


class Actuation:
    """Acts on the servos and joints of a world, one physics step at a time."""

    def __init__(self, world: World | MujocoWorld, strength: float = 4.0) -> None:
        self.world = world
        self.strength = strength
        """Most torque of the hand on each joint, N·m."""
        self._driven = np.zeros(world.robot.n, dtype=np.bool_)

    def settle(self, drive: Drive, driven: NDArray[np.bool_]) -> None:
        """Joints that are no longer `driven` (n,) continue from where they are."""
        if not np.count_nonzero(self._driven):
            self._driven = driven
            return
        state = self.world.servo.state
        for i in np.flatnonzero(self._driven & ~driven):
            state[i, servo.SETPOINT], state[i, servo.SETPOINT_SPEED] = state[i, servo.SENSED], 0.0
            state[i, servo.DELAY_LINE :] = drive.goal[i]
        self._driven = driven

    def act(self, drive: Drive, driven: NDArray[np.bool_]) -> None:
        """Before a step: what the `driven` joints (n,) are to do, and every limit of current."""
        bank, state = self.world.servo, self.world.servo.state
        for i in np.flatnonzero(driven | np.isfinite(drive.current_limit)).tolist():
            limit, most = float(drive.duty_limit[i]), float(drive.current_limit[i])
            direction = np.sign(bank.duty[i])
            if drive.mode[i] == VELOCITY:
                self._run(i, float(drive.request[i]))
            elif driven[i]:
                wanted = float(drive.request[i])
                if drive.mode[i] == CURRENT:
                    wanted = self._duty_for(i, float(np.clip(wanted, -most, most)))
                direction, limit = np.sign(wanted), min(abs(wanted), limit)
                state[i, servo.SETPOINT] = bank.goal[i] = state[i, servo.SENSED] + direction * HORIZON
                state[i, servo.DELAY_LINE :] = bank.goal[i]
            if np.isfinite(most) and drive.mode[i] != DUTY and direction != 0.0:
                limit = min(limit, max(direction * self._duty_for(i, direction * most), 0.0))
            bank.duty_limit[i] = limit

    def _duty_for(self, i: int, current: float) -> float:
        """The duty that drives `current`, A, through motor i at its present speed."""
        p = self.world.servo.parameters[i]
        speed = float(self.world.velocity[i])
        return float((current * p[servo.RESISTANCE] + p[servo.TORQUE_CONSTANT] * speed) / p[servo.VOLTAGE])

    def _run(self, i: int, speed: float) -> None:
        bank, state = self.world.servo, self.world.servo.state
        here = state[i, servo.SENSED]
        state[i, servo.SETPOINT] = np.clip(state[i, servo.SETPOINT], here - LEAD, here + LEAD)
        goal = state[i, servo.SETPOINT] + np.sign(speed) * HORIZON
        bank.goal[i] = goal
        state[i, servo.DELAY_LINE :] = goal
        bank.speed[i] = abs(speed)

    def guide(self, hand: Hand, time: float) -> None:
        """Before a step: the hand's torque on each joint: it bears the arm's weight and corrects, if strong enough."""
        external = self.world.servo.external
        position, velocity = self.world.position, self.world.velocity
        wanted, pace = hand.target(time, position)
        held = np.isfinite(wanted)
        if not held.any():
            external[:] = 0.0
            return
        bank = self.world.servo
        acceleration = GRASP * (GRASP * (wanted - position) + 2.0 * (pace - velocity))
        inertia = bank.mass + np.diag(bank.parameters[:, servo.ARMATURE])
        torque = bank.bias + inertia @ np.where(held, acceleration, 0.0)
        external[:] = np.where(held, np.clip(torque, -self.strength, self.strength), 0.0)
