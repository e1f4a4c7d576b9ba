"""The memory of a Feetech STS3215 and of servos of its series, and what its values mean.

Source: the vendor's STS/SMS memory table. Raw values are little-endian; signed ones are sign-magnitude.
One position tick is 2π/4096 rad; the speed unit is one tick per second (0.0146 rpm).
"""

from dataclasses import replace
from math import pi

from hardware.servos.registers import Register, RegisterTable

MODEL = 777
TICKS = 4096
TICK = 2 * pi / TICKS
CENTRE = 2048
CURRENT_UNIT = 0.0065  # A

BAUD_CODES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
"""Bits per second by the value of register `baud_rate`."""

TORQUE_OFF, TORQUE_ON, TORQUE_DAMPING, TORQUE_RECENTRE = 0, 1, 2, 128

STATUS_BITS = {0: "voltage", 1: "encoder", 2: "temperature", 3: "current", 5: "overload"}
"""Bits of the error byte of every reply, and of register `status`."""


def _eeprom(name: str, address: int, size: int = 1, **rest: object) -> Register:
    rest.setdefault("high", 254 if size == 1 else 0xFFFF)
    return Register(name, address, size, area="eeprom", **rest)  # type: ignore[arg-type]


def _reading(name: str, address: int, size: int = 1, **rest: object) -> Register:
    rest.setdefault("high", 255 if size == 1 else 0xFFFF)
    return Register(name, address, size, access="r", **rest)  # type: ignore[arg-type]


def _factory(name: str, address: int, **rest: object) -> Register:
    return Register(name, address, 1, area="factory", **rest)  # type: ignore[arg-type]


def _signed(bit: int, limit: int | None = None) -> dict[str, object]:
    limit = (1 << bit) - 1 if limit is None else limit
    return {"encoding": "sign_magnitude", "sign_bit": bit, "low": -limit, "high": limit}


STS3215 = RegisterTable(
    "STS3215",
    (
        _eeprom("firmware_major_version", 0, access="r", default=3),
        _eeprom("firmware_minor_version", 1, access="r", default=10),
        _eeprom("model_number", 3, 2, access="r", default=MODEL, description="777 for the STS3215"),
        _eeprom("id", 5, high=253, default=1),
        _eeprom("baud_rate", 6, high=7, description="0 = 1 Mbit/s … 7 = 38.4 kbit/s"),
        _eeprom("return_delay_time", 7, unit="s", scale=2e-6, description="pause before a reply"),
        _eeprom(
            "response_status_level", 8, high=1, default=1, description="0: replies to ping and read only"
        ),
        _eeprom("min_position_limit", 9, 2, high=4095, unit="rad", scale=TICK),
        _eeprom("max_position_limit", 11, 2, high=4095, default=4095, unit="rad", scale=TICK),
        _eeprom("max_temperature_limit", 13, high=100, default=70, unit="°C"),
        _eeprom("max_voltage_limit", 14, default=140, unit="V", scale=0.1),
        _eeprom("min_voltage_limit", 15, default=40, unit="V", scale=0.1),
        _eeprom(
            "max_torque_limit",
            16,
            2,
            high=1000,
            default=1000,
            scale=0.001,
            unit="of full duty",
            description="copied to torque_limit at power-up",
        ),
        _eeprom(
            "phase",
            18,
            default=12,
            description="bit 2 speed unit, bit 3 meaning of speed 0, bit 4 multi-turn",
        ),
        _eeprom("unloading_condition", 19, default=44, description="which status bits cut the torque"),
        _eeprom("led_alarm_condition", 20, default=47),
        _eeprom("p_coefficient", 21, default=32),
        _eeprom("d_coefficient", 22, default=32),
        _eeprom("i_coefficient", 23),
        _eeprom("minimum_startup_force", 24, 2, high=1000, default=16, scale=0.001, unit="of full duty"),
        _eeprom("cw_dead_zone", 26, high=32, default=1, unit="rad", scale=TICK),
        _eeprom("ccw_dead_zone", 27, high=32, default=1, unit="rad", scale=TICK),
        _eeprom("protection_current", 28, 2, high=2047, default=500, unit="A", scale=CURRENT_UNIT),
        _eeprom("angular_resolution", 30, low=1, high=128, default=1),
        _eeprom(
            "homing_offset",
            31,
            2,
            unit="rad",
            scale=TICK,
            **_signed(11),
            description="present position = actual − offset",
        ),
        _eeprom("operating_mode", 33, high=3, description="0 position, 1 speed, 2 PWM, 3 step"),
        _eeprom(
            "protective_torque",
            34,
            high=100,
            default=20,
            unit="of full duty",
            scale=0.01,
            description="duty left after an overload",
        ),
        _eeprom(
            "protection_time",
            35,
            default=200,
            unit="s",
            scale=0.01,
            description="how long an overload lasts until it trips",
        ),
        _eeprom("overload_torque", 36, high=100, default=80, unit="of full duty", scale=0.01),
        _eeprom("velocity_p_coefficient", 37, default=10),
        _eeprom("over_current_protection_time", 38, default=200, unit="s", scale=0.01),
        _eeprom("velocity_i_coefficient", 39, default=10),
        Register(
            "torque_enable",
            40,
            1,
            high=128,
            description="0 off, 1 on, 2 damping, 128 makes the present position 2048",
        ),
        Register(
            "acceleration", 41, 1, high=254, unit="rad/s²", scale=100 * TICK, description="0 = no limit"
        ),
        Register("goal_position", 42, 2, unit="rad", scale=TICK, **_signed(15)),  # type: ignore[arg-type]
        Register("goal_time", 44, 2, high=0xFFFF),
        Register("goal_velocity", 46, 2, unit="rad/s", scale=TICK, **_signed(15), description="0 = no limit"),  # type: ignore[arg-type]
        Register("torque_limit", 48, 2, high=1000, default=1000, unit="of full duty", scale=0.001),
        Register("lock", 55, 1, high=1, default=1, description="0: writes to the EEPROM area persist"),
        _reading("present_position", 56, 2, unit="rad", scale=TICK, **_signed(15)),
        _reading("present_velocity", 58, 2, unit="rad/s", scale=TICK, **_signed(15)),
        _reading("present_load", 60, 2, unit="of full duty", scale=0.001, **_signed(10, 1000)),
        _reading("present_voltage", 62, unit="V", scale=0.1),
        _reading("present_temperature", 63, unit="°C"),
        _reading("asynchronous_write", 64, description="1: a registered write waits for its action"),
        _reading("status", 65),
        _reading("moving", 66, high=1),
        _reading("present_goal", 67, 2, unit="rad", scale=TICK, **_signed(15)),
        _reading("present_current", 69, 2, unit="A", scale=CURRENT_UNIT, **_signed(15)),
        _factory("moving_velocity_threshold", 80, default=1),
        _factory("dts", 81),
        _factory("velocity_unit_factor", 82, default=50),
        _factory("hts", 83),
        _factory("maximum_velocity_limit", 84, default=68),
        _factory("maximum_acceleration", 85),
        _factory("acceleration_multiplier", 86),
    ),
)


def _like(name: str, model: int) -> RegisterTable:
    """A table for another `model` number with the STS3215's memory."""
    registers = (
        replace(r, default=model, description="") if r.name == "model_number" else r for r in STS3215.values()
    )
    return RegisterTable(name, tuple(registers))


STS3250 = _like("STS3250", 2825)
SM8512BL = _like("SM8512BL", 11272)
