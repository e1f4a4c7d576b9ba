"""The memory of an emulated Dynamixel X servo: what can be read and written, and what is refused.

A write is taken as a whole or refused as a whole, with the error that the vendor's manual names: the EEPROM area
(below 64) while the torque is on, values outside their range, goals outside the stored limits, goals after the bus
watchdog has tripped, torque after a shutdown.
"""

from abc import abstractmethod
from collections.abc import Mapping

from hardware.emulator.dynamixel.indirect import LONG, SHORT, IndirectArea
from hardware.emulator.dynamixel.line import EEPROM_END, DynamixelLine
from hardware.emulator.plant import Plant
from hardware.emulator.servos import EmulatedServo, Thermal
from hardware.servos.dynamixel.registers import (
    BAUD_CODES,
    CURRENT_MODE,
    CURRENT_POSITION_MODE,
    EXTENDED_MODE,
    POSITION_MODE,
    PWM_MODE,
    VELOCITY_MODE,
    XL330_M288,
)
from hardware.servos.registers import Register, RegisterTable

RESULT, INSTRUCTION, CRC, RANGE, LENGTH, LIMIT, ACCESS = range(1, 8)
"""Error numbers of a reply."""

GOALS = ("goal_pwm", "goal_current", "goal_velocity", "goal_position")

CONVERTER = 5.0
"""V behind the step-down converter of an arm whose supply is too high for some of its servos."""

FEEDBACK = range(XL330_M288["realtime_tick"].address, XL330_M288["present_temperature"].end)
"""Addresses that change by themselves."""

_MODES = (CURRENT_MODE, VELOCITY_MODE, POSITION_MODE, EXTENDED_MODE, CURRENT_POSITION_MODE, PWM_MODE)
_NEED_CURRENT = (CURRENT_MODE, CURRENT_POSITION_MODE)


class DynamixelMemory(EmulatedServo):
    """One servo with the memory of `table`; see `EmulatedServo`. `values` differ from the table's defaults."""

    def __init__(
        self,
        id: int,
        plant: Plant,
        index: int,
        *,
        table: RegisterTable,
        zero: float,
        sign: int,
        values: Mapping[str, int] | None,
        thermal: Thermal | None,
    ) -> None:
        thermal = thermal or Thermal(resistance=3.4, rise=8.0, constant=120.0)
        # On an arm with servos of two voltages, those of the lower one sit behind a converter.
        converter = CONVERTER if plant.supply > 0.1 * table["max_voltage_limit"].high else None
        super().__init__(table, plant, index, zero=zero, sign=sign, thermal=thermal, converter=converter)
        self.brown_out = 2.8 if table["min_voltage_limit"].low < 50 else 5.0
        small = table.name.startswith("XL330")
        self.space = 228 if small else 662
        """Bytes of memory, reserved and indirect areas included."""
        self.memory.extend(bytes(self.space - len(self.memory)))
        self.indirect = IndirectArea(self.memory, SHORT if small else LONG)
        self.current_unit = table["present_current"].scale if "present_current" in table else 0.0
        """A per unit of the current registers; 0 for a servo that measures none."""
        self._put("id", id)
        for name, value in (values or {}).items():
            self._put(name, value)
        self._backup: bytes | None = None
        self._waiting: tuple[int, bytes] | None = None

    def dialect(self) -> DynamixelLine:
        return DynamixelLine()

    @property
    def id(self) -> int:
        return self.memory[7]

    @property
    def secondary_id(self) -> int:
        return self.memory[12]

    @property
    def baud(self) -> int:
        code = self.memory[8]
        return BAUD_CODES[code] if code < len(BAUD_CODES) else 0

    @property
    def return_delay(self) -> float:
        return self.memory[9] * 2e-6

    @property
    def return_level(self) -> int:
        """Replies to: 0 ping, 1 ping and read, 2 everything."""
        return self.memory[68]

    @property
    def status(self) -> int:
        return self.memory[70]

    @property
    def identity(self) -> bytes:
        """What a ping is answered with: model number and firmware version."""
        return bytes((*self.memory[0:2], self.memory[6]))

    @property
    def _shut_down(self) -> bool:
        return bool(self.status & self.get("unloading_condition"))

    @property
    def halted(self) -> bool:
        """Whether the bus watchdog has tripped: it reads −1."""
        return self.memory[98] == 0xFF

    def power_up(self) -> None:
        """See `EmulatedServo`; `startup_configuration` may switch the torque on and restore stored settings."""
        for register in self.table.values():
            if register.area == "ram":
                self._put(register.name, register.default)
        self.indirect.reset()
        self._reset_limits()
        startup = self.get("startup_configuration")
        if startup & 2 and self._backup is not None:
            self.memory[EEPROM_END : len(self._backup) + EEPROM_END] = self._backup
        self._put("backup_ready", int(self._backup is not None))
        self._put("status", 0)
        self._put("bus_watchdog", 0)
        self._put("torque_enable", startup & 1)
        self._waiting = None
        self._begin()

    def _reset_limits(self) -> None:
        self._put("goal_pwm", self.get("pwm_limit"))
        if self.current_unit:
            self._put("goal_current", self.get("current_limit"))

    def read(self, address: int, size: int) -> tuple[int, bytes]:
        """(error, data); what lies between the tables reads as zero, what lies behind the memory is an error."""
        if not size:
            return LENGTH, b""
        if address + size > self.space:
            return ACCESS, b""
        if address + size > self.table.size and self.indirect.holds(address, size):
            self._report()
            return 0, self.indirect.read(address, size)
        if address < FEEDBACK.stop and address + size > FEEDBACK.start:
            self._report()
        return 0, bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> int:
        """Take all of `data`, or nothing; returns the error number, 0 for none."""
        if address >= self.table.size:
            return self._write_indirect(address, data)
        error = self._check(address, data)
        if error:
            return error
        touched = self.table.touching(address, len(data))
        torque = self.memory[64]
        for register in touched:
            self.memory[register.address : register.end] = data[
                register.address - address : register.end - address
            ]
        names = {register.name for register in touched}
        self._react(names)
        self._changed(names, bool(self.memory[64]) and not torque)
        return 0

    def _write_indirect(self, address: int, data: bytes) -> int:
        area = self.indirect
        if area.is_address(address):
            words = area.words(address, data)
            if words is None:
                return LENGTH
            if not all(EEPROM_END <= word < self.space for word in words):
                return RANGE
            self.memory[address : address + len(data)] = data
            return 0
        if not area.covers(address, len(data)):
            return ACCESS
        runs = area.runs(address, data)
        for at, part in runs:
            if at < self.table.size:
                error = self._check(at, part)
            else:
                error = 0 if area.covers(at, len(part)) else ACCESS
            if error:
                return error
        for at, part in runs:
            if at < self.table.size:
                self.write(at, part)
            else:
                self.memory[at : at + len(part)] = part
        return 0

    def _check(self, address: int, data: bytes) -> int:
        """Why `data` may not be written to `address`: an error number, or 0."""
        end = address + len(data)
        touched = self.table.touching(address, len(data))
        if not touched:
            return ACCESS
        if any(register.address < address or register.end > end for register in touched):
            return LENGTH
        for register in touched:
            error = self._refusal(
                register, register.decode(data[register.address - address : register.end - address])
            )
            if error:
                return error
        return 0

    def _refusal(self, register: Register, value: int) -> int:
        """Why `value` may not be written: an error number, or 0."""
        name, torque = register.name, self.memory[64]
        if not register.writable or (register.area == "eeprom" and torque):
            return ACCESS
        if not register.low <= value <= register.high or (self.halted and name in GOALS):
            return RANGE
        match name:
            case "bus_watchdog":
                return RANGE if value < 0 or (self.halted and value) else 0
            case "operating_mode":
                known = value in _MODES and (self.current_unit or value not in _NEED_CURRENT)
                return 0 if known else RANGE
            case "goal_position" if self.memory[11] == POSITION_MODE:
                low, high = self.get("min_position_limit"), self.get("max_position_limit")
                return 0 if low <= value <= high else LIMIT
            case "goal_pwm" | "goal_current" | "goal_velocity":
                return 0 if abs(value) <= self.get(name[5:] + "_limit") else LIMIT
            case "torque_enable" if value and self._shut_down:
                return RESULT
        return 0

    def _react(self, names: set[str]) -> None:
        """What else changes in the memory when registers `names` have been written."""
        if "operating_mode" in names:
            for register in self.table.within(76, 16) + self.table.within(108, 8):
                self._put(register.name, register.default)
            self._reset_limits()
        if names.intersection(GOALS) and self.memory[10] & 8 and not self._shut_down:
            self.memory[64] = 1

    def reg_write(self, address: int, data: bytes) -> int:
        self._waiting = (address, data)
        self._put("asynchronous_write", 1)
        return 0

    def action(self) -> int:
        """Carry out the write that waits; an error when there is none."""
        if self._waiting is None:
            return INSTRUCTION
        waiting, self._waiting = self._waiting, None
        self._put("asynchronous_write", 0)
        return self.write(*waiting)

    def factory_reset(self, keep: int) -> None:
        """EEPROM back to its defaults; `keep` as in the protocol: 255 nothing, 1 the ID, 2 ID and baud rate."""
        id, baud = self.memory[7], self.memory[8]
        for register in self.table.values():
            if register.area == "eeprom":
                self._put(register.name, register.default)
        if keep in (1, 2):
            self.memory[7] = id
        if keep == 2:
            self.memory[8] = baud
        self._backup = None

    def store_backup(self) -> int:
        """Keep the writable RAM for a start with `startup_configuration` bit 1; refused with torque."""
        if self.memory[64]:
            return ACCESS
        self._backup = bytes(self.memory[EEPROM_END : FEEDBACK.start])
        self._put("backup_ready", 1)
        return 0

    # What the memory moves

    @abstractmethod
    def _begin(self) -> None:
        """The servo has just started: turns are forgotten, the goal is where the joint is."""

    @abstractmethod
    def _changed(self, names: set[str], torque_came_on: bool) -> None:
        """Registers `names` have been written."""

    @abstractmethod
    def _report(self) -> None:
        """Bring the registers in `FEEDBACK` up to date."""
