"""What emulated servos of every family share: memory after a register table, an encoder, heat, and a supply.

What their registers do is in `feetech/servo.py` and `dynamixel/servo.py`; how they talk in `feetech/line.py` and
`dynamixel/line.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from hardware.emulator.dialect import Dialect
from hardware.emulator.plant import OFF, Plant
from hardware.servos.registers import RegisterTable

BOOT_TIME = 0.1
"""How long a servo is deaf after it has started, s."""

RECOVERY = 0.2
"""By how much the supply must exceed the brown-out level before a servo starts again, V."""


@dataclass(frozen=True)
class Thermal:
    """A motor as one heat store: `resistance` Ω, `rise` K per W, `constant` s, `ambient` °C."""

    resistance: float = 4.8
    rise: float = 4.0
    constant: float = 240.0
    ambient: float = 25.0


class EmulatedServo(ABC):
    """One servo, bound to joint `index` of a plant.

    `sign` and `zero` map the joint's angle to the encoder: actual tick = zero + sign · angle / `tick`.
    `converter` is the output of a step-down converter between the supply and the servo, V (None: there is none).

    Faults come from outside: `encoder_fault` freezes what the encoder says, a supply below `brown_out` V switches
    the servo off until it returns.
    """

    family: str
    """Name of the servo family, as in `robot.protocol`."""
    tick: float
    """rad per count of the encoder."""
    brown_out: float
    """V below which the servo's processor stops."""

    def __init__(
        self,
        table: RegisterTable,
        plant: Plant,
        index: int,
        *,
        zero: float,
        sign: int,
        thermal: Thermal | None = None,
        converter: float | None = None,
    ) -> None:
        self.table = table
        self.plant = plant
        self.index = index
        self.zero = zero
        self.sign = sign
        self.thermal = thermal or Thermal()
        self.converter = converter
        self.temperature = self.thermal.ambient + 3.0
        self.alive = True
        """False while the supply is too low: the servo neither hears nor holds."""
        self.ready_at = 0.0
        """When the servo has started up, s on the plant's clock."""
        self.encoder_fault = False
        self.memory = bytearray(table.size)
        self._reading = 0.0
        self._supply(plant.supply)
        for register in table.values():
            self._put(register.name, register.default)

    # Memory

    def get(self, register: str) -> int:
        """The signed raw value of a register."""
        entry = self.table[register]
        return entry.decode(self.memory[entry.address : entry.end])

    def _put(self, register: str, value: int) -> None:
        entry = self.table[register]
        self.memory[entry.address : entry.end] = entry.encode(value)

    @property
    @abstractmethod
    def id(self) -> int: ...

    @property
    @abstractmethod
    def baud(self) -> int:
        """bit/s; 0 for a code that means no rate."""

    @property
    @abstractmethod
    def return_delay(self) -> float:
        """Pause before a reply, s."""

    @property
    @abstractmethod
    def status(self) -> int:
        """Bits of what is wrong with the servo; 0 when nothing is."""

    @abstractmethod
    def dialect(self) -> Dialect:
        """A line that servos of this family can be on."""

    @abstractmethod
    def power_up(self) -> None:
        """What a return of power does: EEPROM as stored, RAM at its defaults, torque off."""

    def restart(self, now: float) -> None:
        """`power_up` at `now`, s, and a while in which the servo hears nothing."""
        self.power_up()
        self.ready_at = now + BOOT_TIME

    def hears(self, now: float) -> bool:
        """Whether the servo listens to the line at `now`, s."""
        return self.alive and now >= self.ready_at

    # Physics

    def _actual(self) -> float:
        """The encoder's reading without offset, ticks."""
        if not self.encoder_fault:
            self._reading = self.zero + self.sign * float(self.plant.position[self.index]) / self.tick
        return self._reading

    def update(self, now: float, elapsed: float, voltage: float) -> None:
        """Heat, supply and protections after the plant has moved on by `elapsed` s to `now`; `voltage` of the line."""
        current = float(self.plant.current[self.index])
        heat = self.thermal
        target = heat.ambient + heat.rise * heat.resistance * current**2
        self.temperature += (target - self.temperature) * min(elapsed / heat.constant, 1.0)
        self._supply(voltage)
        if self.alive and self.voltage < self.brown_out:
            self.alive = False
            self.plant.drive.mode[self.index] = OFF
        elif not self.alive and self.voltage >= self.brown_out + RECOVERY:
            self.alive = True
            self.restart(now)
        if self.alive:
            self._protect(now)

    def _supply(self, voltage: float) -> None:
        self.voltage = voltage if self.converter is None else min(voltage, self.converter)

    @abstractmethod
    def trip(self, bits: int) -> None:
        """Report `bits` in `status`, and do what the servo's settings say about them."""

    @abstractmethod
    def _protect(self, now: float) -> None:
        """Look at temperature, voltage and load, and act."""


def since(start: float | None, condition: bool, now: float) -> float | None:
    """When `condition` began to hold: `start` if it did before, `now` if it does now, None if it does not."""
    return (now if start is None else start) if condition else None
