"""A bus of Dynamixel servos; what it shares with others is in `hardware/servos/exchange.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hardware.servos.bus import SyncReading
from hardware.servos.dynamixel import protocol
from hardware.servos.dynamixel.registers import TABLES, X_SERIES
from hardware.servos.exchange import ALLOWANCE, LATE_VARIANTS, PacketBus, Row
from hardware.servos.ports import Port
from hardware.servos.registers import RegisterTable
from sim2real.errors import BusError

FAST_AGAIN = 20
"""Complete readings in a row after which the fast kind is used again. One silent servo spoils those of all that
come after it, so that with one silent the ordinary kind is better."""

ATTEMPTS = 3
"""Fast readings tried before servos count as unable to answer them."""

REBOOT_TIME = 2.0
"""s that a servo may take to answer again after a reboot."""

SCAN_TIME = 1.0
"""s that the servos may take to answer a ping to all: each waits for its turn, 3 ms per ID."""


class DynamixelBus(PacketBus):
    """One bus on one port; see `PacketBus`.

    A servo's own registers are known once it has been pinged; until then those that all models share are.
    `fast` says whether several servos are read with one common reply (`prepare` finds out).
    """

    packets = protocol
    overhead = 11
    ping_reply = 14
    damaged = frozenset({3, 3 | protocol.ALERT})

    def __init__(self, port: Port, *, table: RegisterTable = X_SERIES, allowance: float = ALLOWANCE) -> None:
        super().__init__(port, table, allowance)
        self.firmware: dict[int, int] = {}
        self.fast = False
        self._fast_ids: tuple[int, ...] = ()
        self._complete = 0

    # One servo

    def ping(self, id: int, timeout: float = 0.05) -> int:
        """The servo's error byte; its model and firmware are remembered."""
        request = protocol.ping(id)
        answer = self._insist(lambda end: self._request(id, request, 3, end), timeout, id, "ping")
        self._learn(answer)
        return int(answer.error)

    def _learn(self, answer: protocol.Packet) -> None:
        table = TABLES.get(int.from_bytes(answer.data[:2], "little"))
        if table is not None:
            self.tables[answer.id] = table
        self.firmware[answer.id] = answer.data[2]

    def scan(self) -> list[int]:
        """The IDs of all servos on the line, by one request; takes about a second."""
        self._send(protocol.ping())
        parser = protocol.Parser(max_length=self._longest(3))
        found = set()
        deadline = self.now() + SCAN_TIME
        while data := self.port.read(4096, deadline):
            for packet in parser.feed(data):
                if packet.code == protocol.Instruction.STATUS and len(packet.data) == 3:
                    self._learn(packet)
                    found.add(packet.id)
        self._note_damage(parser, ())
        return sorted(found)

    def write_permanently(self, id: int, values: Mapping[str, int], timeout: float = 0.2) -> None:
        """Write EEPROM registers and verify them. Raises ServoRefused while the servo's torque is on."""
        for register, value in values.items():
            self.write(id, register, value, timeout, verify=True)

    def reboot(self, id: int, timeout: float = 0.2) -> None:
        """Restart a servo, which takes back latched errors; it lets go of its joint. Waits until it is back."""
        self._acknowledged(id, protocol.reboot(id), timeout, "reboot")
        self._await_return(id)

    def factory_reset(self, id: int, timeout: float = 0.2) -> None:
        """Take back every setting but ID and baud rate; the servo restarts."""
        self._acknowledged(id, protocol.factory_reset(id), timeout, "factory reset")
        self._await_return(id)

    def clear(self, id: int, timeout: float = 0.1) -> None:
        """Forget whole turns: the present position becomes one within a turn."""
        self._acknowledged(id, protocol.clear(id), timeout, "clear")

    def _acknowledged(self, id: int, request: bytes, timeout: float, what: str) -> None:
        self._insist(lambda end: self._request(id, request, 0, end), timeout, id, what)

    def _await_return(self, id: int) -> None:
        try:
            self.ping(id, REBOOT_TIME)
        except BusError:
            raise BusError(f"servo {id} has not come back {REBOOT_TIME:g} s after a restart") from None

    # Several servos

    def prepare(self, ids: Sequence[int]) -> None:
        """Have every request answered, and use fast readings of these servos if all of them know them."""
        self.sync_write("status_return_level", ids, [2] * len(ids))
        self._fast_ids = tuple(ids)
        entry = self.table["present_position"]
        for _ in range(ATTEMPTS):
            self.fast, self._complete = True, FAST_AGAIN
            if self.sync_read(ids, entry.address, entry.size).valid.all():
                return
        self.fast = False

    def sync_read(
        self, ids: Sequence[int], address: int, size: int, timeout: float | None = None
    ) -> SyncReading:
        reading = super().sync_read(ids, address, size, timeout)
        self._complete = self._complete + 1 if reading.valid.all() else 0
        return reading

    def bulk_read(
        self, spans: Sequence[tuple[int, int, int]], timeout: float | None = None
    ) -> dict[int, bytes]:
        """The bytes of (ID, address, size) by ID; servos without a valid answer are left out."""
        request = protocol.bulk_read(spans)
        sizes = {id: size for id, _, size in spans}
        self._send(request)
        reply_bytes = sum(size + self.overhead for size in sizes.values())
        wire = (len(request) + reply_bytes) * self._byte_time
        deadline = self.now() + (wire + self.allowance if timeout is None else timeout)
        parser = protocol.Parser(max_length=self._longest(max(sizes.values())))
        found: dict[int, Row] = {}
        while len(found) < len(sizes) and (data := self.port.read(4096, deadline)):
            for packet in parser.feed(data):
                if len(packet.data) != sizes.get(packet.id, -1) or self._refusal(packet.error):
                    self._stray(packet, tuple(sizes))
                else:
                    found[packet.id] = packet.error, packet.data
        self._note_damage(parser, tuple(sizes))
        rows = [found.get(id) for id in sizes]
        self._count(
            tuple(sizes), [row is not None for row in rows], [0 if row is None else row[0] for row in rows]
        )
        return {id: data for id, (_, data) in found.items()}

    def bulk_write(self, values: Sequence[tuple[int, str, int]]) -> None:
        """(ID, register, raw value) of several servos; not acknowledged, so verify what matters."""
        parts = []
        for id, register, value in values:
            entry = self._writable(register, id)
            parts.append((id, entry.address, entry.encode(value)))
        self._send(protocol.bulk_write(parts))

    # Inside

    def _longest(self, size: int) -> int:
        # Of three bytes at most one can need stuffing.
        return 4 + (size + LATE_VARIANTS) * 4 // 3 + 1

    def _error(self, answer: protocol.Packet) -> int:
        return answer.error

    def _refusal(self, error: int) -> str:
        code = error & ~protocol.ALERT
        return protocol.ERRORS.get(code, f"error {code}") if code else ""

    def _is_alarm(self, error: int) -> bool:
        return bool(error & protocol.ALERT)

    def _sync_plan(self, ids: tuple[int, ...], address: int, size: int) -> "_SyncPlan | _FastPlan":
        fast = self.fast and ids == self._fast_ids and self._complete >= FAST_AGAIN
        key = (ids, address, size, fast)
        plan: _SyncPlan | _FastPlan | None = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = (_FastPlan if fast else _SyncPlan)(ids, address, size)
        return plan

    def _sort_out(self, plan: Any, buffer: bytes, deadline: float) -> list[Row | None]:
        if isinstance(plan, _SyncPlan):
            return super()._sort_out(plan, buffer, deadline)
        while True:
            start = max(buffer.find(plan.head), 0)
            missing = start + plan.reply_bytes - len(buffer)
            data = self.port.read(missing, deadline) if missing > 0 else b""
            if not data:
                break
            buffer += data
        rows = protocol.fast_sync_rows(buffer[start:], plan.ids, plan.size)
        broken = next((i for i, row in enumerate(rows) if row is None), len(rows))
        part = plan.offset + broken * plan.stride
        if broken < len(rows) and len(buffer) - start >= part + plan.stride:
            self.statistics.servos[plan.ids[broken]].checksum += 1
        self.statistics.garbage += start
        return [None if row is None or self._refusal(row[0]) else row for row in rows]


class _SyncPlan:
    """A sync read that every servo answers with a packet of its own, none of them stuffed."""

    offset, error_at, data_at = 0, 8, 9

    def __init__(self, ids: tuple[int, ...], address: int, size: int) -> None:
        self.ids = ids
        self.size = size
        self.request = protocol.sync_read(address, size, ids)
        self.stride = size + DynamixelBus.overhead
        self.reply_bytes = self.stride * len(ids)
        # Each CRC begins with the header's, which is always the same.
        heads = [protocol.reply(id, 0, bytes(size))[:8] for id in ids]
        self._heads = [(head, protocol.crc(head)) for head in heads]

    def is_exact(self, buffer: bytes) -> bool:
        if len(buffer) != self.reply_bytes:
            return False
        at = 0
        for head, value in self._heads:
            end = at + self.stride
            check = protocol.crc(buffer[at + 8 : end - 2], value)
            if buffer[at : at + 8] != head or buffer[end - 2] | buffer[end - 1] << 8 != check:
                return False
            at = end
        # Stuffed bytes inside would have to be taken out first (the header itself has none).
        return buffer.count(protocol.HEADER[:3]) == len(self.ids)


class _FastPlan:
    """A sync read that all servos answer with one common packet."""

    offset, error_at, data_at = 8, 0, 2

    def __init__(self, ids: tuple[int, ...], address: int, size: int) -> None:
        self.ids = ids
        self.size = size
        self.request = protocol.fast_sync_read(address, size, ids)
        self.stride = size + 4
        self.head = protocol.fast_sync_head(size, len(ids))
        self.reply_bytes = len(self.head) + self.stride * len(ids)
        self._start = protocol.crc(self.head)
        self._asked = bytes(ids)

    def is_exact(self, buffer: bytes) -> bool:
        # The last CRC covers everything, the others included.
        return (
            len(buffer) == self.reply_bytes
            and buffer.startswith(self.head)
            and buffer[9 :: self.stride] == self._asked
            and protocol.crc(buffer[8:-2], self._start) == buffer[-2] | buffer[-1] << 8
        )
