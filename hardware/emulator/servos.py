"""Emulated STS3215 servos: their memory and how they behave, without bus or physics.

A servo's memory follows the register table of the driver. Writes to the EEPROM area take effect at once but
survive a loss of power only while `lock` is 0; goals beyond the stored limits are clipped; `torque_enable`
128 recentres. Protections act as `unloading_condition` says: overload leaves `protective_torque`, the others
cut the torque; what tripped stays in `status` until the torque is switched or, for an overload, a goal leads
away from the load.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.emulator.plant import Plant
from hardware.feetech.registers import (
    BAUD_CODES,
    CENTRE,
    CURRENT_UNIT,
    STS3215,
    TICK,
    TICKS,
    TORQUE_OFF,
    TORQUE_ON,
    TORQUE_RECENTRE,
)

VOLTAGE, ENCODER, TEMPERATURE, CURRENT, OVERLOAD = (1 << bit for bit in (0, 1, 2, 3, 5))

NO_LOAD_SPEED = 4.8  # rad/s at 12 V
MOVING_THRESHOLD = 0.03  # rad/s

_FEEDBACK = struct.Struct("<HHHBBBBBHH")
_FEEDBACK_AT = STS3215["present_position"].address
_EEPROM_END = 40


@dataclass(frozen=True)
class Thermal:
    """A motor as one heat store: `resistance` Ω, `rise` K per W, `constant` s, `ambient` °C."""

    resistance: float = 4.8
    rise: float = 4.0
    constant: float = 240.0
    ambient: float = 25.0


class EmulatedServo:
    """One servo, bound to joint `index` of a plant.

    `sign` and `zero` map the joint's angle to the encoder: actual tick = zero + sign · angle / TICK.
    """

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
        self.plant = plant
        self.index = index
        self.zero = zero
        self.sign = sign
        self.thermal = thermal or Thermal()
        self.temperature = self.thermal.ambient + 3.0
        self.voltage = plant.supply
        self.memory = bytearray(STS3215.size)
        for register in STS3215.values():
            self._put(register.name, register.default)
        self._put("id", id)
        for name, value in (values or {}).items():
            self._put(name, value)
        self.stored = bytes(self.memory[:_EEPROM_END])
        self._waiting: tuple[int, bytes] | None = None
        self._overload_since = self._current_since = None  # type: float | None
        self._load_sign = 0.0
        self.power_up()

    # Memory

    def get(self, register: str) -> int:
        entry = STS3215[register]
        return entry.decode(self.memory[entry.address : entry.end])

    def _put(self, register: str, value: int) -> None:
        entry = STS3215[register]
        self.memory[entry.address : entry.end] = entry.encode(value)

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
        """What a return of power does: EEPROM as stored, torque off, goal where the arm is."""
        self.memory[:_EEPROM_END] = self.stored
        for register in STS3215.values():
            if register.area == "ram" and register.writable:
                self._put(register.name, register.default)
        self._put("torque_limit", self.get("max_torque_limit"))
        self._put("status", 0)
        self._put("goal_position", int(np.clip(self._present(), -32767, 32767)))
        self._waiting = None
        self._overload_since = self._current_since = None
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
        names = {register.name for register in touched}
        if "torque_enable" in names:
            self._switch(torque_before)
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

    def _actual(self) -> float:
        """The encoder's reading without offset, ticks."""
        return self.zero + self.sign * float(self.plant.position[self.index]) / TICK

    def _present(self) -> int:
        return round(self._actual()) - self.get("homing_offset")

    def _apply(self) -> None:
        """Pass on to the plant what the registers now ask for."""
        drive, i = self.plant.drive, self.index
        goal = min(
            max(self.get("goal_position"), self.get("min_position_limit")), self.get("max_position_limit")
        )
        self._put("present_goal", goal)
        drive.goal[i] = self.sign * (goal + self.get("homing_offset") - self.zero) * TICK
        tripped = self.status & self.memory[19] & ~OVERLOAD
        drive.mode[i] = TORQUE_OFF if tripped else self.memory[40]
        limit = self.get("torque_limit") / 1000
        if self.status & OVERLOAD & self.memory[19]:
            limit = min(limit, self.memory[34] / 100)
        drive.duty_limit[i] = limit
        drive.p[i], drive.d[i], drive.i[i] = self.memory[21], self.memory[22], self.memory[23]
        drive.speed[i] = abs(self.get("goal_velocity")) * TICK
        drive.acceleration[i] = self.memory[41] * 100 * TICK

    def update(self, now: float, elapsed: float, voltage: float) -> None:
        """Heat, supply and protections after the plant has moved on by `elapsed` s to `now`."""
        current = abs(float(self.plant.current[self.index]))
        duty = float(self.plant.duty[self.index])
        heat = self.thermal
        target = heat.ambient + heat.rise * heat.resistance * current**2
        self.temperature += (target - self.temperature) * min(elapsed / heat.constant, 1.0)
        self.voltage = voltage
        status = self.status
        decivolts = round(voltage * 10)
        if decivolts > self.memory[14] or decivolts < self.memory[15]:
            status |= VOLTAGE
        elif not self.memory[19] & VOLTAGE:
            status &= ~VOLTAGE
        if self.temperature > self.memory[13]:
            status |= TEMPERATURE
        if self.memory[40] != TORQUE_ON:
            self._overload_since = self._current_since = None
        else:
            overloaded = abs(duty) * 100 >= self.memory[36]
            self._overload_since = self._since(self._overload_since, overloaded, now)
            if self._overload_since is not None and now - self._overload_since > self.memory[35] * 0.01:
                if not status & OVERLOAD:
                    self._load_sign = np.sign(duty)
                status |= OVERLOAD
            too_much = current / CURRENT_UNIT > self.get("protection_current")
            self._current_since = self._since(self._current_since, too_much, now)
            if self._current_since is not None and now - self._current_since > self.memory[38] * 0.01:
                status |= CURRENT
        if status != self.status:
            self.memory[65] = status
            self._apply()

    @staticmethod
    def _since(start: float | None, condition: bool, now: float) -> float | None:
        return (now if start is None else start) if condition else None

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
