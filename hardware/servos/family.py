"""What differs between servo families, so that nothing above the bus needs to know.

`FAMILIES[robot.protocol]` is a `ServoFamily`: its models, the registers that are read in every cycle, what its
torque register takes, what its status bits mean, and how its bus is opened.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import TYPE_CHECKING, Any, Literal, Protocol

import hardware.servos.dynamixel.protocol as dynamixel_packets
import hardware.servos.feetech.protocol as feetech_packets
from hardware.servos.dynamixel import registers as dynamixel
from hardware.servos.feetech import registers as feetech
from hardware.servos.registers import RegisterTable
from sim2real.errors import UserError, nearest
from sim2real.status import STATUS_NAMES

if TYPE_CHECKING:  # the watchdog process lives without numpy
    from hardware.servos.bus import ServoBus
    from hardware.servos.ports import Port
    from sim2real.robot import Robot


class PacketParser(Protocol):
    """Finds packets (with `id` and `data`) in a stream of bytes; `garbage` counts those that belong to none."""

    garbage: int

    def clear(self) -> int: ...
    def feed(self, data: bytes) -> Sequence[Any]: ...


class Packets(Protocol):
    """What the packet modules have in common: requests as bytes, and a parser for the replies."""

    @property
    def Parser(self) -> Callable[..., PacketParser]: ...

    @property
    def BROADCAST(self) -> int: ...

    def ping(self, id: int) -> bytes: ...
    def read(self, id: int, address: int, size: int) -> bytes: ...
    def write(self, id: int, address: int, data: bytes) -> bytes: ...
    def sync_write(self, address: int, size: int, values: Iterable[tuple[int, bytes]]) -> bytes: ...


@dataclass(frozen=True)
class ServoModel:
    """One kind of servo: `max_speed` rad/s that no servo of the kind exceeds whatever pushes it, `voltage`
    (lowest, highest) V that it runs at, `max_temperature` °C above which it should be left to cool down."""

    name: str
    number: int
    table: RegisterTable
    max_speed: float
    voltage: tuple[float, float]
    max_temperature: float = 60.0
    full_current: float | None = None
    """A, what a servo draws that does all it can; needed where there is no `present_load`."""


@dataclass(frozen=True)
class ServoFamily:
    """See the module docstring."""

    name: str
    title: str
    models: tuple[ServoModel, ...]
    """The first is meant where a robot does not say which."""
    table: RegisterTable
    """The registers that all models share."""
    packets: Packets
    bauds: tuple[int, ...]
    """Bits per second by the value of register `baud_rate`."""
    max_id: int
    roll_call: float
    """s within which all servos that there are have answered a ping to all."""
    tick: float
    """rad per tick of position registers, and the unit of `homing_offset` and of the limits."""
    offset_sign: Literal[1, -1]
    """present position = actual + offset_sign · homing_offset."""
    max_offset: int
    """Largest `homing_offset` that counts in position mode, ticks."""
    extended_mode: int | None
    """The operating mode for ranges that position mode cannot serve; None: it serves all. There every offset counts
    and positions count on beyond one turn, but a restart forgets the turns, and the stored limits do not bind."""
    fast: tuple[str, ...]
    """Registers read in every cycle, of those that a model has."""
    wide: tuple[tuple[str, ...], ...]
    """Readings taken in turn, one every `wide_every` cycles; one that contains `fast` replaces it."""
    wide_every: int
    settings: tuple[str, ...]
    """Registers that say how a servo is set up; read when it is identified."""
    firmware: tuple[str, ...]
    torque_off: int
    torque_on: int
    max_torque: str
    """Register of the stored limit of the motor's duty."""
    torque_limit: str
    """Register of the limit in force, in the unit of `max_torque`."""
    position_mode: int
    status_bits: Mapping[int, str]
    latching: frozenset[str]
    """Status bits that only a reboot takes back."""
    alert: int | None
    """Bit of a reply's error byte that says that the status register holds something; None where the error byte
    is the status itself."""
    eeprom: Literal["lock", "torque off"]
    """What lets a write to the EEPROM area persist."""
    watchdog: str | None
    """Register of the servo's own watchdog over the bus, if it has one: 0 off, −1 tripped."""
    watchdog_unit: float
    """s per unit of that register."""
    open_port: Callable[["Port", float], "ServoBus"]
    """The bus on an open port, given how long (s) the adapter may hold bytes back."""

    @property
    def tables(self) -> dict[int, RegisterTable]:
        """Register tables by model number."""
        return {model.number: model.table for model in self.models}

    def model(self, name: str = "") -> ServoModel:
        """The model called `name`, the family's first for ''. Raises UserError that lists what there is."""
        for model in self.models:
            if name in ("", model.name):
                return model
        names = [model.name for model in self.models]
        raise UserError(
            f"there is no {self.title} servo called '{name}'; known are {', '.join(names)}{nearest(name, names)}"
        )

    def model_by_number(self, number: int) -> ServoModel | None:
        """The model that reports `number`, or None for one that nobody has declared."""
        return next((model for model in self.models if model.number == number), None)

    def status_names(self, bits: int) -> tuple[str, ...]:
        """What the family's status register says, e.g. `("overload",)`; unknown bits appear as `bit 6`."""
        return tuple(self.status_bits.get(bit, f"bit {bit}") for bit in range(8) if bits >> bit & 1)

    @cached_property
    def common_status(self) -> tuple[int, ...]:
        """By the family's own status byte, 0..255: that status in the bits of `STATUS_NAMES`."""
        position = {name: bit for bit, name in STATUS_NAMES.items()}
        return tuple(
            sum(1 << position[name] for bit, name in self.status_bits.items() if value >> bit & 1)
            for value in range(256)
        )

    def used_offset(self, mode: int, offset: int) -> int:
        """The part of a stored homing offset that has effect in an operating mode, ticks."""
        return 0 if mode == self.position_mode and abs(offset) > self.max_offset else offset

    def mode_for(self, offset: int, low: int, high: int) -> int:
        """The operating mode for a joint with this homing offset and range, ticks.

        Position mode where the offset counts and the range does not cross the encoder's zero: only there does the
        servo itself refuse goals outside its limits.
        """
        if self.extended_mode is None:
            return self.position_mode
        first, last = low - self.offset_sign * offset, high - self.offset_sign * offset
        turn = round(2 * pi / self.tick)
        served = abs(offset) <= self.max_offset and 0 <= first and last < turn
        return self.position_mode if served else self.extended_mode

    def open_bus(self, port: str, baud: int) -> "ServoBus":
        """The bus on a serial port. Raises PortUnavailable when that cannot be opened."""
        from hardware.servos.ports import SerialPort, latency_timer

        # An adapter that holds bytes back does so once per exchange.
        return self.open_port(SerialPort(port, baud), latency_timer(port) or 0.0)


def _feetech_bus(port: "Port", latency: float) -> "ServoBus":
    from hardware.servos.exchange import ALLOWANCE
    from hardware.servos.feetech.bus import FeetechBus

    return FeetechBus(port, allowance=ALLOWANCE + latency)


def _dynamixel_bus(port: "Port", latency: float) -> "ServoBus":
    from hardware.servos.dynamixel.bus import DynamixelBus
    from hardware.servos.exchange import ALLOWANCE

    return DynamixelBus(port, allowance=ALLOWANCE + latency)


_FAST = ("present_position", "present_velocity", "present_load")
_SETTINGS = ("model_number", "min_position_limit", "max_position_limit", "homing_offset", "operating_mode")

FEETECH = ServoFamily(
    name="feetech",
    title="Feetech STS",
    # No-load speeds: 4.8 and 7.9 rad/s (12 V), 6.5 rad/s (24 V).
    models=(
        ServoModel("STS3215", feetech.MODEL, feetech.STS3215, max_speed=8.0, voltage=(6.0, 13.0)),
        ServoModel("STS3250", 2825, feetech.STS3250, max_speed=12.0, voltage=(6.0, 13.0)),
        ServoModel("SM8512BL", 11272, feetech.SM8512BL, max_speed=10.0, voltage=(11.0, 26.0)),
    ),
    table=feetech.STS3215,
    packets=feetech_packets,
    bauds=feetech.BAUD_CODES,
    max_id=feetech_packets.MAX_ID,
    roll_call=0.3,
    tick=feetech.TICK,
    offset_sign=-1,
    max_offset=2047,
    extended_mode=None,
    fast=_FAST,
    wide=((*_FAST, "torque_enable", "present_voltage", "present_temperature", "status", "present_current"),),
    wide_every=10,
    settings=("firmware_major_version", "firmware_minor_version", *_SETTINGS),
    firmware=("firmware_major_version", "firmware_minor_version"),
    torque_off=feetech.TORQUE_OFF,
    torque_on=feetech.TORQUE_ON,
    max_torque="max_torque_limit",
    torque_limit="torque_limit",
    position_mode=0,
    status_bits=feetech.STATUS_BITS,
    latching=frozenset(),
    alert=None,
    eeprom="lock",
    watchdog=None,
    watchdog_unit=0.0,
    open_port=_feetech_bus,
)

_EFFORT = ("present_position", "present_velocity", "present_load", "present_current")

DYNAMIXEL = ServoFamily(
    name="dynamixel",
    title="Dynamixel X",
    # No-load speeds: 10.8 rad/s (5 V), 40 rad/s (5 V), 6.4 and 4.8 rad/s (12 V); stall: 1.47 A (5 V), 2.3 A (12 V).
    models=(
        ServoModel(
            "XL330-M288", 1200, dynamixel.XL330_M288, max_speed=15.0, voltage=(3.7, 6.0), full_current=1.47
        ),
        ServoModel(
            "XL330-M077", 1190, dynamixel.XL330_M077, max_speed=50.0, voltage=(3.7, 6.0), full_current=1.47
        ),
        ServoModel("XL430-W250", 1060, dynamixel.XL430_W250, max_speed=9.0, voltage=(6.5, 12.6)),
        ServoModel(
            "XM430-W350", 1020, dynamixel.XM430_W350, max_speed=8.0, voltage=(10.0, 14.8), full_current=2.3
        ),
    ),
    table=dynamixel.X_SERIES,
    packets=dynamixel_packets,
    bauds=dynamixel.BAUD_CODES,
    max_id=dynamixel_packets.MAX_ID,
    roll_call=1.0,  # they take turns, 3 ms per ID
    tick=dynamixel.TICK,
    offset_sign=1,
    max_offset=dynamixel.MAX_OFFSET,
    extended_mode=dynamixel.EXTENDED_MODE,
    fast=_EFFORT,
    wide=(
        (*_EFFORT, "present_voltage", "present_temperature"),
        ("torque_enable", "status"),
        ("bus_watchdog",),
    ),
    wide_every=4,
    settings=("firmware_version", "drive_mode", *_SETTINGS),
    firmware=("firmware_version",),
    torque_off=dynamixel.TORQUE_OFF,
    torque_on=dynamixel.TORQUE_ON,
    max_torque="pwm_limit",
    torque_limit="goal_pwm",
    position_mode=dynamixel.POSITION_MODE,
    status_bits=dynamixel.STATUS_BITS,
    latching=frozenset(dynamixel.STATUS_BITS.values()),
    alert=dynamixel_packets.ALERT,
    eeprom="torque off",
    watchdog="bus_watchdog",
    watchdog_unit=dynamixel.WATCHDOG_UNIT,
    open_port=_dynamixel_bus,
)

FAMILIES: dict[str, ServoFamily] = {family.name: family for family in (FEETECH, DYNAMIXEL)}
"""By the name of the protocol in a robot's file; a family of one's own is added here."""


def family_of(robot: "Robot") -> ServoFamily:
    """The family of a robot's servos. Raises UserError for a protocol without driver."""
    try:
        return FAMILIES[robot.protocol]
    except KeyError:
        raise UserError(
            f"{robot.name} speaks the protocol '{robot.protocol}'; there are drivers for {', '.join(FAMILIES)}"
        ) from None


def joint_models(robot: "Robot") -> tuple[ServoModel, ...]:
    """The servo model of each joint, as the robot's file says."""
    family = family_of(robot)
    return tuple(family.model(joint.model) for joint in robot.joints)


def refuse_sliding(robot: "Robot") -> None:
    """Raises UserError for a robot with a joint that slides: its servos turn, by an unknown angle per metre."""
    sliding = [name for name, unit in zip(robot.joint_names, robot.units) if unit == "m"]
    if sliding:
        raise UserError(
            f"joint {sliding[0]} of {robot.name} slides; serial servos turn, and how far it slides per turn is not "
            "known: such a robot can be simulated, not driven over a serial port"
        )
