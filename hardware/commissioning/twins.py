"""Is it one servo that answers under an ID, or are there several?

Servos with one ID do everything together, so whatever is written goes to all of them. No program can tell how many
they are if they say the same at the same moment; what gives them away is that they hardly ever do: replies come twice,
or damaged where they differ, and a motor's position, voltage or temperature differs from one servo to the next.
"""

from collections.abc import Sequence
from typing import Any

from hardware.servos.family import ServoFamily
from hardware.servos.ports import Port

CONFUSED = 0.1
"""Share of the questions of one look that may go wrong for another reason: noise, a busy machine."""

LEAP = 150
"""Ticks that no limp joint moves between two questions: far beyond what a hand does in some 10 ms."""

TURNED = 40
"""Ticks by which a servo has been turned on purpose, 3.5°."""

HOW_TO_PART = (
    "unplug all servos but one, give that one its ID, then plug in the next; two that stand exactly alike cannot be "
    "told apart at all"
)


FIRST, SILENCE = 0.15, 0.02
"""s in which an answer begins, on a slow line and a busy machine as well; s without a byte that end it."""


class IdCheck:
    """Questions to one ID, and everything that comes back to them."""

    def __init__(self, port: Port, family: ServoFamily, id: int, allowance: float) -> None:
        """`allowance`: how long the line may take for an answer, s."""
        self.port, self.family, self.id = port, family, id
        self.silence = max(SILENCE, allowance)
        self.asked = self.missing = self.damaged = self.double = 0
        self.leaps = 0
        self.positions: list[int] = []
        self._settings: set[bytes] = set()
        table = family.table
        self._position = table["present_position"]
        present = [register for register in table.values() if register.name.startswith("present_")]
        first = min(register.address for register in present)
        self._present = first, max(register.end for register in present) - first
        stored = [table[name] for name in ("model_number", "id", *family.settings)]
        start = min(register.address for register in stored)
        self._stored = start, max(register.end for register in stored) - start

    def ask(self, rounds: int) -> "IdCheck":
        """What is stored and how it stands, `rounds` times."""
        for _ in range(rounds):
            self._settings.update(self._read(*self._stored))
            start, size = self._present
            for data in self._read(start, size):
                at = self._position.address - start
                position = self._position.decode(data[at : at + self._position.size])
                self.leaps += bool(self.positions) and abs(position - self.positions[-1]) > LEAP
                self.positions.append(position)
        return self

    def _read(self, address: int, size: int) -> list[bytes]:
        """The replies to one question."""
        port, packets = self.port, self.family.packets
        port.discard_input()
        port.write(packets.read(self.id, address, size))
        self.asked += 1
        parser: Any = packets.Parser()
        found: list[bytes] = []
        wire = (size + 40) * 10 / port.baud
        end, last = port.now() + FIRST + wire, port.now() + 10 * (FIRST + wire)
        while port.now() < last and (data := port.read(4096, end)):
            found += [packet.data for packet in parser.feed(data) if packet.id == self.id]
            end = port.now() + self.silence
        parser.clear()
        whole = [data for data in found if len(data) == size]
        self.damaged += parser.garbage > 0 or len(whole) < len(found)
        self.missing += not found and not parser.garbage
        self.double += len(found) > 1
        return whole

    @property
    def doubt(self) -> str:
        """Why there may be several servos, "" if nothing speaks for it."""
        # Once is an accident.
        few = max(1.0, CONFUSED * self.asked)
        if self.double > few:
            return f"{self.double} of {self.asked} questions were answered twice"
        if self.damaged > few:
            return f"{self.damaged} of {self.asked} answers came damaged, as when two speak at once"
        if len(self._settings) > 1:
            return "what is stored differs from one answer to the next"
        if self.leaps > 1:
            return f"its position leaps by more than {LEAP} ticks from one answer to the next"
        if self.missing > self.asked / 2:
            return f"{self.missing} of {self.asked} questions were not answered"
        return ""


def turned(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a servo has been turned between two looks at its position, ticks."""
    return bool(before and after) and abs(after[-1] - before[-1]) >= TURNED
