"""Emulated STS3215 servos: what their registers do.

A servo's memory follows the register table of the driver. Writes to the EEPROM area take effect at once but
survive a loss of power only while `lock` is 0; goals beyond the stored limits are clipped; `torque_enable`
128 recentres. Protections act as `unloading_condition` says: overload leaves `protective_torque`, the others
cut the torque; what tripped stays in `status` until the torque is switched or, for an overload, a goal leads
away from the load. Positions wrap from 4095 to 0 unless `phase` says otherwise, and so does what a goal means;
with both position limits at 0 goals count whole turns. In step mode a goal is so many ticks from the one before.
"""

import struct
from collections.abc import Mapping

import numpy as np

from hardware.emulator.feetech.line import FeetechLine
from hardware.emulator.plant import DAMPING, DUTY, OFF, POSITION, VELOCITY, Plant
from hardware.emulator.servos import EmulatedServo, Thermal, since
from hardware.servos.feetech.registers import (
    BAUD_CODES,
    CENTRE,
    CURRENT_UNIT,
    STS3215,
    TICK,
    TICKS,
    TORQUE_DAMPING,
    TORQUE_ON,
    TORQUE_RECENTRE,
)

VOLTAGE, ENCODER, TEMPERATURE, CURRENT, OVERLOAD = (1 << bit for bit in (0, 1, 2, 3, 5))

CONVERTER = 12.0  # V
MOVING_THRESHOLD = 0.03  # rad/s
SPEED_MODE, PWM_MODE, STEP_MODE = 1, 2, 3
MULTI_TURN = 1 << 4
"""Bit of register `phase`: positions count on beyond one turn."""

_FEEDBACK = struct.Struct("<HHHBBBBBHH")
_FEEDBACK_AT = STS3215["present_position"].address
_GOAL = (STS3215["goal_position"],)
_EEPROM_END = 40


class FeetechServo(EmulatedServo):
    """One STS3215; see `EmulatedServo`. `values` are register contents that differ from the defaults."""

    family = "feetech"
    tick = TICK
    brown_out = 3.3

    def __init__(
        self,
        id: int,
        plant: Plant,
        index: int,
        *,
        zero: float = CENTRE,
        sign: int = 1,
        values: Mapping[str, int] | None = None,
        thermal: Thermal | None = None,
    ) -> None:
        # A robot with stronger motors than these runs at a voltage that they do not take.
        converter = CONVERTER if plant.supply > 0.1 * STS3215["max_voltage_limit"].default else None
        super().__init__(STS3215, plant, index, zero=zero, sign=sign, thermal=thermal, converter=converter)
        self._put("id", id)
        for name, value in (values or {}).items():
            self._put(name, value)
        self.stored = bytes(self.memory[:_EEPROM_END])
        self._waiting: tuple[int, bytes] | None = None
        self._overload_since = self._current_since = None  # type: float | None
        self._load_sign = 0.0
        self._stepped = 0  # the goal of step mode, ticks
        self.power_up()

    def dialect(self) -> FeetechLine:
        return FeetechLine()

    # Memory

    @property
    def id(self) -> int:
        return self.memory[5]

    @property
    def baud(self) -> int:
        code = self.memory[6]
        return BAUD_CODES[code] if code < len(BAUD_CODES) else 0

    @property
    def return_delay(self) -> float:
        return self.memory[7] * 2e-6

    @property
    def acknowledges(self) -> bool:
        return self.memory[8] != 0

    @property
    def status(self) -> int:
        return self.memory[65]

    def power_up(self) -> None:
        """See `EmulatedServo`; the goal is where the joint is."""
        self.memory[:_EEPROM_END] = self.stored
        for register in STS3215.values():
            if register.area == "ram" and register.writable:
                self._put(register.name, register.default)
        self._put("torque_limit", self.get("max_torque_limit"))
        self._put("status", 0)
        self._put("goal_position", int(np.clip(self._present(), -32767, 32767)))
        self._waiting = None
        self._overload_since = self._current_since = None
        self._stepped = self._counted()
        self._apply()

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`; what lies behind the table reads as zero."""
        if address < _FEEDBACK_AT + _FEEDBACK.size and address + size > _FEEDBACK_AT:
            self._report()
        return bytes(self.memory[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Take what is writable; read-only bytes and values out of range are ignored, as the firmware does."""
        torque_before = self.memory[40]
        touched = STS3215.touching(address, len(data))
        for register in touched:
            if not register.writable or register.address < address or register.end > address + len(data):
                continue
            raw = data[register.address - address : register.end - address]
            if register.low <= register.decode(raw) <= register.high:
                self.memory[register.address : register.end] = raw
                if register.area == "eeprom" and self.memory[55] == 0:
                    stored = bytearray(self.stored)
                    stored[register.address : register.end] = raw
                    self.stored = bytes(stored)
        if self.memory[33] == STEP_MODE and STS3215["goal_position"] in touched:
            self._stepped = self._within(self._stepped + self.get("goal_position"))
        if touched == _GOAL and not self.status & OVERLOAD:
            # What nearly every request to a servo is changes nothing else.
            self._aim()
            return
        names = {register.name for register in touched}
        if "torque_enable" in names:
            self._switch(torque_before)
        if names & {"torque_enable", "operating_mode"}:
            self._stepped = self._counted()
        if "goal_position" in names:
            self._consider_release()
        self._apply()

    def reg_write(self, address: int, data: bytes) -> None:
        self._waiting = (address, data)
        self.memory[64] = 1

    def action(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self.memory[64] = 0
            self.write(*waiting)

    def recalibrate(self, position: int = CENTRE) -> None:
        """Choose the offset so that the present position becomes `position`."""
        offset = (round(self._actual()) - position + TICKS // 2) % TICKS - TICKS // 2
        self._put("homing_offset", max(-2047, min(2047, offset)))
        stored = bytearray(self.stored)
        stored[31:33] = self.memory[31:33]
        self.stored = bytes(stored)

    def factory_reset(self) -> None:
        """EEPROM back to its defaults; ID and baud rate stay, as the firmware keeps them."""
        keep = self.memory[5:7]
        for register in STS3215.values():
            if register.area == "eeprom":
                self._put(register.name, register.default)
        self.memory[5:7] = keep
        self.stored = bytes(self.memory[:_EEPROM_END])
        self.power_up()

    def _switch(self, before: int) -> None:
        value = self.memory[40]
        if value == TORQUE_RECENTRE:
            self.recalibrate()
            self.memory[40] = before
        elif value > 2:
            self.memory[40] = before
        else:
            self.memory[65] = 0
            self._overload_since = self._current_since = None

    # Physics

    def _counted(self) -> int:
        """Position with its offset, as many turns as there are."""
        return round(self._actual()) - self.get("homing_offset")

    def _present(self) -> int:
        counted = self._counted()
        return counted if self.memory[18] & MULTI_TURN else counted % TICKS

    def _apply(self) -> None:
        """Pass on to the plant what the registers now ask for."""
        self._aim()
        drive, i = self.plant.drive, self.index
        tripped = self.status & self.memory[19] & ~OVERLOAD
        drive.mode[i] = OFF if tripped else self._mode()
        if self.memory[33] == SPEED_MODE:
            drive.request[i] = self.sign * self.get("goal_velocity") * TICK
        elif self.memory[33] == PWM_MODE:
            drive.request[i] = self.sign * _decoded(self.get("goal_time"), 10) / 1000
        limit = self.get("torque_limit") / 1000
        if self.status & OVERLOAD & self.memory[19]:
            limit = min(limit, self.memory[34] / 100)
        drive.duty_limit[i] = limit
        drive.p[i], drive.d[i], drive.i[i] = self.memory[21], self.memory[22], self.memory[23]
        # In speed mode the goal speed is a request, not a limit.
        drive.speed[i] = 0.0 if self.memory[33] == SPEED_MODE else abs(self.get("goal_velocity")) * TICK
        drive.acceleration[i] = self.memory[41] * 100 * TICK

    def _aim(self) -> None:
        """Pass on the goal, within the servo's own limits."""
        goal, offset, turns = self._within(self.get("goal_position")), self.get("homing_offset"), 0
        if self.memory[33] == STEP_MODE:
            goal = self._stepped
        elif not (self._endless or self.memory[18] & MULTI_TURN):
            # A goal is meant within the turn that the encoder is in.
            turns = (round(self._actual()) - offset) // TICKS * TICKS
        self._put("present_goal", max(-32767, min(goal, 32767)))
        self.plant.drive.goal[self.index] = self.sign * (goal + offset + turns - self.zero) * TICK

    @property
    def _endless(self) -> bool:
        return not any(self.memory[9:13])

    def _within(self, goal: int) -> int:
        """`goal` within the stored position limits, ticks."""
        if self._endless:
            return goal
        return min(max(goal, self.get("min_position_limit")), self.get("max_position_limit"))

    def _mode(self) -> int:
        """What the plant's motor does, by torque switch and operating mode."""
        if self.memory[40] == TORQUE_ON:
            return {SPEED_MODE: VELOCITY, PWM_MODE: DUTY}.get(self.memory[33], POSITION)
        return DAMPING if self.memory[40] == TORQUE_DAMPING else OFF

    def trip(self, bits: int) -> None:
        """See `EmulatedServo`; what trips stays until the torque is switched or a goal releases it."""
        self.memory[65] |= bits
        self._apply()

    def _protect(self, now: float) -> None:
        current = abs(float(self.plant.current[self.index]))
        duty = float(self.plant.duty[self.index])
        status = self.status
        decivolts = round(self.voltage * 10)
        if decivolts > self.memory[14] or decivolts < self.memory[15]:
            status |= VOLTAGE
        elif not self.memory[19] & VOLTAGE:
            status &= ~VOLTAGE
        if self.temperature > self.memory[13]:
            status |= TEMPERATURE
        if self.encoder_fault:
            status |= ENCODER
        if self.memory[40] != TORQUE_ON:
            self._overload_since = self._current_since = None
        else:
            overloaded = abs(duty) * 100 >= self.memory[36]
            self._overload_since = since(self._overload_since, overloaded, now)
            if self._overload_since is not None and now - self._overload_since > self.memory[35] * 0.01:
                if not status & OVERLOAD:
                    self._load_sign = np.sign(duty)
                status |= OVERLOAD
            too_much = current / CURRENT_UNIT > self.get("protection_current")
            self._current_since = since(self._current_since, too_much, now)
            if self._current_since is not None and now - self._current_since > self.memory[38] * 0.01:
                status |= CURRENT
        if status != self.status:
            self.memory[65] = status
            self._apply()

    def _consider_release(self) -> None:
        """A goal on the other side of the joint than the load takes an overload back."""
        if self.status & OVERLOAD:
            away = self.sign * (self.get("goal_position") - self._present())
            if away * self._load_sign <= 0:
                self.memory[65] &= ~OVERLOAD
                self._overload_since = None

    def _report(self) -> None:
        """Bring the feedback registers (56 to 70) up to date."""
        i, plant = self.index, self.plant
        speed = float(plant.velocity[i])
        _FEEDBACK.pack_into(
            self.memory,
            _FEEDBACK_AT,
            _signed(self._present(), 15),
            _signed(round(self.sign * speed / TICK), 15),
            _signed(round(self.sign * float(plant.duty[i]) * 1000), 10),
            max(0, min(255, round(self.voltage * 10))),
            max(0, min(255, round(self.temperature))),
            self.memory[64],
            self.memory[65],
            int(abs(speed) > MOVING_THRESHOLD),
            _signed(self.get("present_goal"), 15),
            _signed(round(self.sign * float(plant.current[i]) / CURRENT_UNIT), 15),
        )


def _signed(value: int, bit: int) -> int:
    magnitude = min(abs(value), (1 << bit) - 1)
    return magnitude | 1 << bit if value < 0 else magnitude


def _decoded(raw: int, bit: int) -> int:
    magnitude = raw & ((1 << bit) - 1)
    return -magnitude if raw >> bit & 1 else magnitude
