"""Indirect addresses of Dynamixel X servos: bytes that stand for bytes elsewhere in the memory.

A word of the address area says for which byte the byte of the same number in the data area stands: until it is told
otherwise for itself, and never for one of the EEPROM area. Programs gather there what they read and write in every
cycle, to reach it with one request. Source: the vendor's control tables.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Block:
    """`count` words from `addresses` and as many bytes from `data`."""

    addresses: int
    data: int
    count: int


SHORT = (Block(168, 208, 20),)  # XL330
LONG = (Block(168, 224, 28), Block(578, 634, 28))


class IndirectArea:
    """The `blocks` of a servo with `memory`, which it changes in place."""

    def __init__(self, memory: bytearray, blocks: tuple[Block, ...]) -> None:
        self.memory = memory
        self._word = {b.data + k: b.addresses + 2 * k for b in blocks for k in range(b.count)}
        self._words = frozenset(self._word.values())
        self._address_bytes = self._words | {word + 1 for word in self._words}

    def reset(self) -> None:
        """What a start of the servo does."""
        for byte, word in self._word.items():
            self.memory[byte] = 0
            self.memory[word : word + 2] = byte.to_bytes(2, "little")

    def holds(self, address: int, size: int) -> bool:
        """Whether any of `size` bytes from `address` stands for another."""
        return any(byte in self._word for byte in range(address, address + size))

    def covers(self, address: int, size: int) -> bool:
        """Whether each of `size` bytes from `address` stands for another."""
        return all(byte in self._word for byte in range(address, address + size))

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`, each what it stands for."""
        return bytes(self.memory[self._target(byte)] for byte in range(address, address + size))

    def is_address(self, address: int) -> bool:
        return address in self._address_bytes

    def words(self, address: int, data: bytes) -> list[int] | None:
        """The words that `data` would put at `address` of the address area; None unless it is whole words."""
        if address not in self._words or len(data) % 2 or address + len(data) - 1 not in self._address_bytes:
            return None
        return [data[at] | data[at + 1] << 8 for at in range(0, len(data), 2)]

    def runs(self, address: int, data: bytes) -> list[tuple[int, bytes]]:
        """What a write to the data area means: (address, bytes), neighbours together."""
        targets = [self._target(byte) for byte in range(address, address + len(data))]
        starts = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(targets)) if b != a + 1), len(targets)]
        return [(targets[a], data[a:b]) for a, b in pairwise(starts)]

    def _target(self, byte: int) -> int:
        word = self._word.get(byte)
        return byte if word is None else self.memory[word] | self.memory[word + 1] << 8
