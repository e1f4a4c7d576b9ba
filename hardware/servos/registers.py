"""Register tables: what a servo's memory holds, declared once.

A `Register` says where a value lives, how its bytes carry it and what it means; a `RegisterTable` is the
whole memory of one servo family. The driver, the emulator and the register documentation are derived from
the same table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from sim2real.errors import UserError, nearest

Encoding = Literal["unsigned", "sign_magnitude", "twos_complement"]
Area = Literal["eeprom", "ram", "factory"]


@dataclass(frozen=True)
class Register:
    """One value in a servo's memory; little-endian, `size` bytes from `address`.

    `low..high` is the allowed raw value after decoding the sign. `scale` turns a raw value into `unit`
    (SI value = raw × scale). `sign_bit` is the bit that carries the sign of a sign-magnitude register.
    """

    name: str
    address: int
    size: int
    access: Literal["r", "rw"] = "rw"
    area: Area = "ram"
    unit: str = ""
    scale: float = 1.0
    low: int = 0
    high: int = 255
    default: int = 0
    encoding: Encoding = "unsigned"
    sign_bit: int | None = None
    description: str = ""
    end: int = field(init=False, repr=False, compare=False)
    """The first address behind the register."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", self.address + self.size)
        if self.size not in (1, 2, 4) or not 0 <= self.address <= 0xFFFF:
            raise ValueError(f"register {self.name}: bad address {self.address} or size {self.size}")
        if (self.encoding == "sign_magnitude") != (self.sign_bit is not None):
            raise ValueError(f"register {self.name}: a sign bit goes with sign-magnitude encoding only")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"register {self.name}: default {self.default} outside {self.low}..{self.high}")

    @property
    def writable(self) -> bool:
        return self.access == "rw"

    def decode(self, data: bytes | bytearray | memoryview) -> int:
        """The signed raw value of `size` bytes. Raises ValueError for any other number of bytes."""
        if len(data) != self.size:
            raise ValueError(f"register {self.name} has {self.size} bytes, got {len(data)}")
        raw = int.from_bytes(data, "little", signed=self.encoding == "twos_complement")
        if self.sign_bit is None:
            return raw
        magnitude = raw & ((1 << self.sign_bit) - 1)
        return -magnitude if raw >> self.sign_bit & 1 else magnitude

    def encode(self, value: int) -> bytes:
        """`value` as bytes. Raises UserError when it is outside `low..high`."""
        if not self.low <= value <= self.high:
            raise UserError(
                f"register {self.name} takes {self.low} to {self.high}"
                f"{' (' + self.unit + ' ÷ ' + format(self.scale, 'g') + ')' if self.unit else ''}, got {value}"
            )
        if self.sign_bit is not None and value < 0:
            value = -value | 1 << self.sign_bit
        return value.to_bytes(self.size, "little", signed=self.encoding == "twos_complement")


class RegisterTable(Mapping[str, Register]):
    """The registers of one servo family by name, in the order of their addresses; checked for overlaps."""

    def __init__(self, name: str, registers: tuple[Register, ...]) -> None:
        ordered = sorted(registers, key=lambda register: register.address)
        for before, after in pairwise(ordered):
            if before.end > after.address:
                raise ValueError(f"registers {before.name} and {after.name} of {name} overlap")
        self.name = name
        self._registers = MappingProxyType({register.name: register for register in ordered})
        if len(self._registers) != len(registers):
            raise ValueError(f"two registers of {name} have the same name")
        self.size = ordered[-1].end
        self._touching: dict[tuple[int, int], tuple[Register, ...]] = {}

    def __getitem__(self, name: str) -> Register:
        try:
            return self._registers[name]
        except KeyError:
            raise UserError(
                f"{self.name} has no register called {name!r}; it has {', '.join(self._registers)}"
                + nearest(name, self._registers)
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._registers

    def __iter__(self) -> Iterator[str]:
        return iter(self._registers)

    def __len__(self) -> int:
        return len(self._registers)

    def within(self, address: int, size: int) -> tuple[Register, ...]:
        """The registers that lie wholly inside `size` bytes from `address`."""
        return tuple(r for r in self.values() if address <= r.address and r.end <= address + size)

    def touching(self, address: int, size: int) -> tuple[Register, ...]:
        """The registers of which at least one byte lies inside `size` bytes from `address`."""
        found = self._touching.get((address, size))
        if found is None:
            # Asked for with every write to an emulated servo, always about the same few places.
            found = tuple(r for r in self.values() if r.address < address + size and r.end > address)
            self._touching[address, size] = found
        return found

    def markdown(self) -> str:
        """The table as a section of documentation."""
        rows = [
            f"## {self.name}",
            "",
            "| address | bytes | name | access | area | range | default | unit | |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for r in self.values():
            unit = f"{r.scale:g} {r.unit}" if r.unit else ""
            rows.append(
                f"| {r.address} | {r.size} | `{r.name}` | {r.access} | {r.area} | {r.low} … {r.high} |"
                f" {r.default} | {unit} | {r.description} |"
            )
        return "\n".join(rows) + "\n"


def common(name: str, tables: tuple[RegisterTable, ...]) -> RegisterTable:
    """The registers that all `tables` carry at the same place in the same way, each with its widest range."""
    shared = []
    for register in tables[0].values():
        others = [table[register.name] for table in tables if register.name in table]
        if len(others) == len(tables) and len({_layout(other) for other in others}) == 1:
            low, high = min(other.low for other in others), max(other.high for other in others)
            shared.append(replace(register, low=low, high=high))
    return RegisterTable(name, tuple(shared))


def _layout(register: Register) -> tuple[object, ...]:
    return register.address, register.size, register.access, register.encoding, register.sign_bit
