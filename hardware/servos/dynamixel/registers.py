"""The memories of Dynamixel X servos, and what their values mean.

Source: the vendor's control tables of XL330-M077, XL330-M288, XL430-W250 and XM430-W350. Raw values are little-endian,
signed ones two's complement. One position tick is 2π/4096 rad. Registers that mean the same as an STS3215's
have its names; where the vendor's name is another, the description gives it. The indirect addresses are left
out: nothing uses them.

The EEPROM area (below 64) can be written only while the torque is off. Goals outside the stored limits are
refused: with an error when they are written to one servo, silently in sync and bulk writes.
"""

from math import pi

from hardware.servos.registers import Register, RegisterTable, common

TICKS = 4096
TICK = 2 * pi / TICKS
CENTRE = 2048
VELOCITY_UNIT = 0.229 * 2 * pi / 60  # rad/s
ACCELERATION_UNIT = 214.577 * 2 * pi / 3600  # rad/s²
PWM_FULL = 885
WATCHDOG_UNIT = 0.02  # s

BAUD_CODES = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
"""Bits per second by the value of register `baud_rate`."""

TORQUE_OFF, TORQUE_ON = 0, 1

STATUS_BITS = {0: "voltage", 2: "temperature", 3: "encoder", 4: "electrical shock", 5: "overload"}
"""Bits of register `status` (the vendor's Hardware Error Status). A set one stays until the servo reboots; those
in `unloading_condition` also cut the torque."""

MAX_OFFSET = 1024
"""Ticks: in position mode a homing offset beyond that is ignored."""

EXTENDED = 1_048_575
"""Ticks to either side that positions reach in extended position mode."""

CURRENT_MODE, VELOCITY_MODE, POSITION_MODE, EXTENDED_MODE, CURRENT_POSITION_MODE, PWM_MODE = 0, 1, 3, 4, 5, 16


def _eeprom(name: str, address: int, size: int = 1, **rest: object) -> Register:
    rest.setdefault("high", 255 if size == 1 else 0xFFFF)
    return Register(name, address, size, area="eeprom", **rest)  # type: ignore[arg-type]


def _ram(name: str, address: int, size: int = 1, **rest: object) -> Register:
    return Register(name, address, size, **rest)  # type: ignore[arg-type]


def _reading(name: str, address: int, size: int = 1, **rest: object) -> Register:
    rest.setdefault("high", (1 << 8 * size) - 1)
    return Register(name, address, size, access="r", **rest)  # type: ignore[arg-type]


def _signed(limit: int) -> dict[str, object]:
    return {"encoding": "twos_complement", "low": -limit, "high": limit}


_GAIN = 16_383
_INT32 = 0x7FFFFFFF


def _table(
    name: str,
    *,
    model: int,
    voltage: tuple[int, int, int],
    temperature: int,
    velocity: tuple[int, int],
    drive_mode: int,
    unloading: int,
    gains: tuple[int, int, int, int, int],
    extra: tuple[Register, ...],
) -> RegisterTable:
    """A model's table. `voltage`: lowest, highest and default lowest limit; `velocity`: default and highest
    limit; `gains`: defaults of velocity I and P, position D, I and P."""
    low, high, default_low = voltage
    return RegisterTable(
        name,
        (
            _eeprom("model_number", 0, 2, access="r", default=model),
            _eeprom("model_information", 2, 4, access="r", high=0xFFFFFFFF),
            _eeprom("firmware_version", 6, access="r", default=50),
            _eeprom("id", 7, high=252, default=1),
            _eeprom(
                "baud_rate",
                8,
                high=6,
                default=1,
                description="0 = 9.6 kbit/s, 1 = 57.6, 2 = 115.2, 3 … 6 = 1 … 4 Mbit/s",
            ),
            _eeprom(
                "return_delay_time",
                9,
                high=254,
                default=250,
                unit="s",
                scale=2e-6,
                description="pause before a reply",
            ),
            _eeprom(
                "drive_mode",
                10,
                high=drive_mode,
                description="bit 0 reverse, bit 2 time-based profile, bit 3 torque on by goal",
            ),
            _eeprom(
                "operating_mode",
                11,
                high=16,
                default=POSITION_MODE,
                description="0 current, 1 velocity, 3 position, 4 extended position, 5 current-based position, 16 PWM",
            ),
            _eeprom("secondary_id", 12, default=255, description="above 252: none"),
            _eeprom("protocol_type", 13, low=1, high=22, default=2),
            _eeprom(
                "homing_offset",
                20,
                4,
                unit="rad",
                scale=TICK,
                **_signed(1_044_479),
                description="present position = actual + offset",
            ),
            _eeprom(
                "moving_velocity_threshold",
                24,
                4,
                high=1023,
                default=10,
                unit="rad/s",
                scale=VELOCITY_UNIT,
                description="Moving Threshold",
            ),
            _eeprom(
                "max_temperature_limit",
                31,
                high=100,
                default=temperature,
                unit="°C",
                description="Temperature Limit",
            ),
            _eeprom("max_voltage_limit", 32, 2, low=low, high=high, default=high, unit="V", scale=0.1),
            _eeprom("min_voltage_limit", 34, 2, low=low, high=high, default=default_low, unit="V", scale=0.1),
            _eeprom(
                "pwm_limit", 36, 2, high=PWM_FULL, default=PWM_FULL, unit="of full duty", scale=1 / PWM_FULL
            ),
            _eeprom(
                "velocity_limit",
                44,
                4,
                high=velocity[1],
                default=velocity[0],
                unit="rad/s",
                scale=VELOCITY_UNIT,
            ),
            _eeprom("max_position_limit", 48, 4, high=4095, default=4095, unit="rad", scale=TICK),
            _eeprom("min_position_limit", 52, 4, high=4095, unit="rad", scale=TICK),
            _eeprom(
                "startup_configuration", 60, high=3, description="bit 0 torque on, bit 1 restore the RAM area"
            ),
            _eeprom(
                "unloading_condition",
                63,
                high=63,
                default=unloading,
                description="Shutdown: which status bits cut the torque",
            ),
            _ram("torque_enable", 64, high=1, description="0 off, 1 on"),
            _ram("led", 65, high=1),
            _ram(
                "status_return_level",
                68,
                high=2,
                default=2,
                description="replies to: 0 ping, 1 ping and read, 2 all",
            ),
            _reading(
                "asynchronous_write",
                69,
                high=1,
                description="Registered Instruction: 1: a registered write waits for its action",
            ),
            _reading("status", 70, description="Hardware Error Status"),
            _ram(
                "velocity_i_coefficient", 76, 2, high=_GAIN, default=gains[0], description="Velocity I Gain"
            ),
            _ram(
                "velocity_p_coefficient", 78, 2, high=_GAIN, default=gains[1], description="Velocity P Gain"
            ),
            _ram("d_coefficient", 80, 2, high=_GAIN, default=gains[2], description="Position D Gain"),
            _ram("i_coefficient", 82, 2, high=_GAIN, default=gains[3], description="Position I Gain"),
            _ram("p_coefficient", 84, 2, high=_GAIN, default=gains[4], description="Position P Gain"),
            _ram("feedforward_2nd_gain", 88, 2, high=_GAIN),
            _ram("feedforward_1st_gain", 90, 2, high=_GAIN),
            _ram(
                "bus_watchdog",
                98,
                encoding="twos_complement",
                low=-1,
                high=127,
                unit="s",
                scale=WATCHDOG_UNIT,
                description="0 off; −1 tripped: goals are refused until 0 is written",
            ),
            _ram(
                "goal_pwm",
                100,
                2,
                default=PWM_FULL,
                unit="of full duty",
                scale=1 / PWM_FULL,
                **_signed(PWM_FULL),
                description="in the position modes the most that is used",
            ),
            _ram("goal_velocity", 104, 4, unit="rad/s", scale=VELOCITY_UNIT, **_signed(velocity[1])),
            _ram(
                "profile_acceleration",
                108,
                4,
                high=32_767,
                unit="rad/s²",
                scale=ACCELERATION_UNIT,
                description="0 = no limit; ms in a time-based profile",
            ),
            _ram(
                "profile_velocity",
                112,
                4,
                high=32_767,
                unit="rad/s",
                scale=VELOCITY_UNIT,
                description="0 = no limit; ms in a time-based profile",
            ),
            _ram("goal_position", 116, 4, unit="rad", scale=TICK, **_signed(EXTENDED)),
            _reading("realtime_tick", 120, 2, high=32_767, unit="s", scale=0.001),
            _reading("moving", 122, high=1),
            _reading("moving_status", 123),
            _reading("present_pwm", 124, 2, unit="of full duty", scale=1 / PWM_FULL, **_signed(PWM_FULL)),
            _reading("present_velocity", 128, 4, unit="rad/s", scale=VELOCITY_UNIT, **_signed(_INT32)),
            _reading("present_position", 132, 4, unit="rad", scale=TICK, **_signed(_INT32)),
            _reading("velocity_trajectory", 136, 4, unit="rad/s", scale=VELOCITY_UNIT, **_signed(_INT32)),
            _reading("position_trajectory", 140, 4, unit="rad", scale=TICK, **_signed(_INT32)),
            _reading("present_voltage", 144, 2, unit="V", scale=0.1),
            _reading("present_temperature", 146, unit="°C"),
            _reading("backup_ready", 147, high=1),
            *extra,
        ),
    )


def _current(limit: int, scale: float) -> tuple[Register, ...]:
    """The registers of a model that measures its current; `limit` is the most it takes, `scale` A per unit."""
    return (
        _eeprom("current_limit", 38, 2, high=limit, default=limit, unit="A", scale=scale),
        _ram("goal_current", 102, 2, default=limit, unit="A", scale=scale, **_signed(limit)),
        _reading("present_current", 126, 2, unit="A", scale=scale, **_signed(32_767)),
    )


_XL330_EXTRA = (
    *_current(1750, 0.001),
    _eeprom("pwm_slope", 62, low=1, default=140, unit="V/s", scale=1.977),
)

XL330_M077 = _table(
    "XL330-M077",
    model=1190,
    voltage=(31, 70, 35),
    temperature=70,
    velocity=(1620, 2047),
    drive_mode=13,
    unloading=53,
    gains=(400, 40, 0, 400, 400),
    extra=_XL330_EXTRA,
)

XL330_M288 = _table(
    "XL330-M288",
    model=1200,
    voltage=(31, 70, 35),
    temperature=70,
    velocity=(445, 2047),
    drive_mode=13,
    unloading=53,
    gains=(1600, 180, 0, 0, 400),
    extra=_XL330_EXTRA,
)

XL430_W250 = _table(
    "XL430-W250",
    model=1060,
    voltage=(60, 140, 60),
    temperature=72,
    velocity=(265, 1023),
    drive_mode=13,
    unloading=52,
    gains=(1000, 100, 4000, 0, 640),
    extra=(
        _reading(
            "present_load",
            126,
            2,
            unit="of full duty",
            scale=0.001,
            **_signed(1000),
            description="an estimate from the motor's voltage",
        ),
    ),
)

XM430_W350 = _table(
    "XM430-W350",
    model=1020,
    voltage=(95, 160, 95),
    temperature=80,
    velocity=(200, 1023),
    drive_mode=13,
    unloading=52,
    gains=(1920, 100, 0, 0, 800),
    extra=_current(1193, 0.00269),
)

TABLES = {1190: XL330_M077, 1200: XL330_M288, 1060: XL430_W250, 1020: XM430_W350}
"""Tables by model number."""

X_SERIES = common("Dynamixel X", tuple(TABLES.values()))
"""The registers that all models have at the same addresses."""
