"""Emulated Dynamixel X servos: how they move, and how they protect themselves.

What trips sets a bit in `status` that stays until a reboot; bits in `unloading_condition` also cut the torque until
then. The bus watchdog stops a servo with torque that hears no request, for itself or another.

The encoder knows one turn. In position mode whole turns are forgotten whenever the torque comes on, in every mode at
a reboot. A homing offset beyond ±1024 is ignored in position mode. A goal survives a change of the torque: a joint
that was moved by hand goes back when it is switched on again.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.emulator import plant as motor
from hardware.emulator.dynamixel.memory import FEEDBACK, RESULT, DynamixelMemory
from hardware.emulator.plant import Plant
from hardware.emulator.servos import Thermal, since
from hardware.servos.dynamixel.registers import (
    ACCELERATION_UNIT,
    CENTRE,
    CURRENT_MODE,
    CURRENT_POSITION_MODE,
    EXTENDED,
    EXTENDED_MODE,
    POSITION_MODE,
    PWM_FULL,
    PWM_MODE,
    TICK,
    TICKS,
    VELOCITY_MODE,
    VELOCITY_UNIT,
    WATCHDOG_UNIT,
    XL330_M288,
)
from hardware.servos.registers import RegisterTable

VOLTAGE, TEMPERATURE, ENCODER, SHOCK, OVERLOAD = (1 << bit for bit in (0, 2, 3, 4, 5))

OVERLOAD_DUTY = 0.8
OVERLOAD_TIME = 1.0
"""A motor that gets this share of full duty for this long, s, without turning is overloaded; the manual says only
"persistent load that exceeds maximum output"."""
STANDSTILL = 0.3  # rad/s

OFFSET_LIMIT = 1024
"""Largest homing offset that counts in position mode, ticks."""
ARRIVED = 20
"""Ticks from the goal within which `moving_status` says that it is reached."""
UNDER_WAY = 1 << 1
"""Bit of `moving_status`: the profile has not come to its end."""
LAGGING = 100
"""Ticks behind its own trajectory at which `moving_status` speaks of a following error."""

_FEEDBACK = struct.Struct("<HBBhhiiiiHB")
_GOAL_ALONE = {"goal_position"}
_MOTORS = {
    POSITION_MODE: motor.POSITION,
    EXTENDED_MODE: motor.POSITION,
    CURRENT_POSITION_MODE: motor.POSITION,
    CURRENT_MODE: motor.CURRENT,
    VELOCITY_MODE: motor.VELOCITY,
    PWM_MODE: motor.DUTY,
}


@dataclass
class _Settings:
    """Registers as `_report` and `_protect` use them."""

    offset: int = 0  # ticks
    goal: int = 0
    still: float = 0.0  # rad/s
    watchdog: float = 0.0  # s
    voltage: tuple[int, int] = (0, 0)  # 0.1 V
    temperature: int = 0  # °C
    profile: int = 0  # as `moving_status` names it


class DynamixelServo(DynamixelMemory):
    """See `DynamixelMemory` and `EmulatedServo`."""

    family = "dynamixel"
    tick = TICK

    def __init__(
        self,
        id: int,
        plant: Plant,
        index: int,
        *,
        table: RegisterTable = XL330_M288,
        zero: float = CENTRE,
        sign: int = 1,
        values: Mapping[str, int] | None = None,
        thermal: Thermal | None = None,
    ) -> None:
        super().__init__(id, plant, index, table=table, zero=zero, sign=sign, values=values, thermal=thermal)
        self._fed = 0.0  # when a request was last heard, s
        self._now = 0.0
        self._timed = (0.0, 0.0)
        self._overload_since: float | None = None
        self._turns = 0  # whole turns added to what the encoder counts
        self._settings = _Settings()
        self.power_up()

    def _begin(self) -> None:
        self._overload_since = None
        self._timed = (0.0, 0.0)
        self._stay()

    def _stay(self) -> None:
        """Forget whole turns; the goal is where the joint is."""
        self._look_up()
        self._wrap()
        self._put("goal_position", self._representable(self._present()))
        self._apply()

    def _changed(self, names: set[str], torque_came_on: bool) -> None:
        if names == _GOAL_ALONE and not torque_came_on and not self.memory[10] & 4:
            # What a control loop writes a hundred times a second changes nothing else.
            goal = self._settings.goal = self.get("goal_position")
            self.plant.drive.goal[self.index] = self._angle(goal)
            return
        self._look_up()
        if torque_came_on and self.memory[11] == POSITION_MODE:
            self._wrap()
        if "goal_position" in names:
            self._timed = self._schedule()
        self._apply()

    def clear_turns(self) -> int:
        """Forget whole turns; refused while the joint moves. Returns the error number, 0 for none."""
        if abs(float(self.plant.velocity[self.index])) > STANDSTILL:
            return RESULT
        self._stay()
        return 0

    # Position

    @property
    def _direction(self) -> int:
        """1, or −1 in reverse drive mode."""
        return -1 if self.memory[10] & 1 else 1

    def _present(self) -> int:
        return round(self._direction * self._actual()) + self._turns * TICKS + self._settings.offset

    def _wrap(self) -> None:
        self._turns = -(round(self._direction * self._actual()) // TICKS)

    def _look_up(self) -> None:
        """Decode what is needed in every reading."""
        offset, get = self.get("homing_offset"), self.get
        ignored = self.memory[11] == POSITION_MODE and abs(offset) > OFFSET_LIMIT
        speed, acceleration = self._profile()
        self._settings = _Settings(
            offset=0 if ignored else offset,
            goal=get("goal_position"),
            still=get("moving_velocity_threshold") * VELOCITY_UNIT,
            watchdog=get("bus_watchdog") * WATCHDOG_UNIT,
            voltage=(get("min_voltage_limit"), get("max_voltage_limit")),
            temperature=get("max_temperature_limit"),
            profile=3 if speed and acceleration else 1 if speed else 0,
        )

    def _angle(self, present: float) -> float:
        """The joint's angle, rad, at which `present` would be reported."""
        actual = self._direction * (present - self._settings.offset - self._turns * TICKS)
        return self.sign * (actual - self.zero) * TICK

    @staticmethod
    def _representable(present: int) -> int:
        return min(max(present, -EXTENDED), EXTENDED)

    # Physics

    def _apply(self) -> None:
        """Pass on to the plant what the registers now ask for."""
        self._look_up()
        drive, i, mode = self.plant.drive, self.index, self.memory[11]
        drive.mode[i] = _MOTORS[mode] if self.memory[64] else motor.OFF
        drive.goal[i] = self._angle(self.get("goal_position"))
        direction = self.sign * self._direction
        drive.duty_limit[i] = abs(self.get("goal_pwm")) / PWM_FULL
        drive.current_limit[i] = np.inf
        speed, acceleration = self._profile()
        match mode:
            case 1:
                drive.request[i] = direction * self.get("goal_velocity") * VELOCITY_UNIT
                speed = 0.0
            case 0:
                drive.request[i] = direction * self.get("goal_current") * self.current_unit
                drive.current_limit[i] = self.get("current_limit") * self.current_unit
            case 5:
                drive.current_limit[i] = abs(self.get("goal_current")) * self.current_unit
            case 16:
                drive.request[i] = direction * self.get("goal_pwm") / PWM_FULL
        drive.speed[i], drive.acceleration[i] = speed, acceleration
        drive.p[i], drive.i[i], drive.d[i] = (
            self.get(name) for name in ("p_coefficient", "i_coefficient", "d_coefficient")
        )

    def _profile(self) -> tuple[float, float]:
        """Speed rad/s and acceleration rad/s² of the profile; 0: no limit. Positions have none without a speed."""
        if self.halted:
            return 0.0, 0.0
        if self.memory[10] & 4:
            return self._timed
        speed = self.get("profile_velocity")
        if speed:
            speed = min(speed, self.get("velocity_limit"))
        elif self.memory[11] != VELOCITY_MODE:
            return 0.0, 0.0
        return speed * VELOCITY_UNIT, self.get("profile_acceleration") * ACCELERATION_UNIT

    def _schedule(self) -> tuple[float, float]:
        """The profile that reaches the goal in the time that a time-based profile asks for."""
        duration, ramp = self.get("profile_velocity") * 0.001, self.get("profile_acceleration") * 0.001
        distance = abs(self.get("goal_position") - self._present()) * TICK
        if not duration or not distance:
            return 0.0, 0.0
        ramp = min(ramp, duration / 2)
        speed = distance / (duration - ramp)
        return speed, speed / ramp if ramp else 0.0

    def heard(self, now: float) -> None:
        """A request passed by, for whomever; it feeds the bus watchdog."""
        self._fed = now

    def trip(self, bits: int) -> None:
        """Report `bits` in `status` until the next reboot; those in `unloading_condition` cut the torque."""
        self.memory[70] |= bits
        if self._shut_down:
            self.memory[64] = 0
        self._apply()

    def _protect(self, now: float) -> None:
        self._now = now
        settings = self._settings
        if settings.watchdog > 0 and self.memory[64] and now - self._fed > settings.watchdog:
            self.halt()
        bits = ENCODER if self.encoder_fault else 0
        lowest, highest = settings.voltage
        if not lowest <= round(self.voltage * 10) <= highest:
            bits |= VOLTAGE
        if self.temperature > settings.temperature:
            bits |= TEMPERATURE
        stalled = (
            bool(self.memory[64])
            and abs(float(self.plant.duty[self.index])) >= OVERLOAD_DUTY
            and abs(float(self.plant.velocity[self.index])) < STANDSTILL
        )
        self._overload_since = since(self._overload_since, stalled, now)
        if self._overload_since is not None and now - self._overload_since > OVERLOAD_TIME:
            bits |= OVERLOAD
        if bits & ~self.status:
            self.trip(bits)

    def halt(self) -> None:
        """What the bus watchdog does: stop here, and refuse goals until it is cleared."""
        self._put("bus_watchdog", -1)
        self._put("goal_velocity", 0)
        self._put("goal_position", self._representable(self._present()))
        if self.memory[11] == PWM_MODE:
            self._put("goal_pwm", 0)
        if self.memory[11] == CURRENT_MODE:
            self._put("goal_current", 0)
        self._apply()

    def _report(self) -> None:
        """Bring the feedback registers (120 to 146) up to date."""
        i, plant = self.index, self.plant
        direction = self.sign * self._direction
        present = self._present()
        velocity = direction * float(plant.velocity[i])
        planned = present
        if plant.drive.mode[i] == motor.POSITION:
            planned = round(self._direction * (self.zero + self.sign * float(plant.setpoint[i]) / TICK))
            planned += self._turns * TICKS + self._settings.offset
        duty = direction * float(plant.duty[i])
        effort = 1000 * duty
        if self.current_unit:
            effort = direction * float(plant.current[i]) / self.current_unit
        moving_status = self._moving_status(present, planned)
        moving = abs(velocity) > self._settings.still or (
            self._settings.profile and moving_status & UNDER_WAY
        )
        _FEEDBACK.pack_into(
            self.memory,
            FEEDBACK.start,
            round(self._now * 1000) % 32_768,
            bool(moving),
            moving_status,
            round(duty * PWM_FULL),
            min(max(round(effort), -32_768), 32_767),
            round(velocity / VELOCITY_UNIT),
            present,
            round(direction * float(plant.setpoint_speed[i]) / VELOCITY_UNIT),
            planned,
            max(0, round(self.voltage * 10)),
            min(max(round(self.temperature), 0), 255),
        )

    def _moving_status(self, present: int, planned: int) -> int:
        goal, torque = self._settings.goal, bool(self.memory[64])
        arrived = abs(goal - present) <= ARRIVED
        under_way = torque and abs(goal - planned) > 1
        lagging = abs(planned - present) > LAGGING
        return arrived | under_way * UNDER_WAY | lagging << 3 | self._settings.profile << 4
