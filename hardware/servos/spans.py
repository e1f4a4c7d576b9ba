"""Registers that are read together, from servos that need not be of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.servos.registers import Register, RegisterTable

_DTYPES: dict[tuple[int, bool], Any] = {
    (1, True): np.dtype("i1"),
    (2, True): np.dtype("<i2"),
    (4, True): np.dtype("<i4"),
    (1, False): np.dtype("u1"),
    (2, False): np.dtype("<u2"),
    (4, False): np.dtype("<u4"),
}


@dataclass(frozen=True)
class _Column:
    """Where one register lies in the bytes of the servos that have it; `rows` None: all of them."""

    register: Register
    at: int
    rows: NDArray[np.intp] | None

    def decode(self, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        register = self.register
        part = data[:, self.at : self.at + register.size]
        if self.rows is not None:
            part = part[self.rows]
        dtype = _DTYPES[register.size, register.encoding == "twos_complement"]
        raw: NDArray[np.int64] = np.ascontiguousarray(part).view(dtype)[:, 0].astype(np.int64)
        if register.sign_bit is not None:
            magnitude = raw & ((1 << register.sign_bit) - 1)
            raw = np.where(raw >> register.sign_bit & 1, -magnitude, magnitude)
        return raw


class Span:
    """The bytes that hold the registers `names` of servos with `tables` (one per servo).

    A register that some of the servos do not have is left out for them.
    """

    def __init__(self, tables: Sequence[RegisterTable], names: Sequence[str]) -> None:
        self.n = len(tables)
        found = {(name, i): table[name] for name in names for i, table in enumerate(tables) if name in table}
        self.address = min(register.address for register in found.values())
        self.size = max(register.end for register in found.values()) - self.address
        self.scale: dict[str, NDArray[np.float64]] = {}
        """By register: (n,) SI value per raw value, NaN for servos without it."""
        self._columns: dict[str, list[_Column]] = {}
        for name in names:
            have = [i for i in range(self.n) if (name, i) in found]
            scale = np.full(self.n, np.nan)
            scale[have] = [found[name, i].scale for i in have]
            self.scale[name] = scale
            places = {(found[name, i].address, found[name, i].encoding): found[name, i] for i in have}
            self._columns[name] = [
                _Column(
                    register,
                    register.address - self.address,
                    None
                    if len(have) == self.n and len(places) == 1
                    else np.array(
                        [i for i in have if (found[name, i].address, found[name, i].encoding) == place]
                    ),
                )
                for place, register in places.items()
            ]

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def raw(self, data: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
        """(n, size) bytes → (n,) signed raw values; 0 for servos without the register."""
        columns = self._columns[name]
        if len(columns) == 1 and columns[0].rows is None:
            return columns[0].decode(data)
        values = np.zeros(self.n, dtype=np.int64)
        for column in columns:
            values[column.rows] = column.decode(data)
        return values

    def value(self, data: NDArray[np.uint8], name: str) -> NDArray[np.float64]:
        """(n, size) bytes → (n,) values in the register's unit; NaN for servos without the register."""
        return np.asarray(self.raw(data, name) * self.scale[name], dtype=np.float64)
