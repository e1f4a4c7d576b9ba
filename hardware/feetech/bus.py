"""A bus of Feetech servos: requests, replies, deadlines.

The protocol has no sequence numbers, so a reply that comes after its deadline looks like the answer to the
next request of the same kind, and would shift every later cycle by one. Two measures prevent it: input is
cleared before each request, and after an exchange that stayed incomplete the following requests ask for a
few bytes more than they need, a different number each time. A late reply then has the wrong length and is
dropped. Acknowledgements have no length to vary: after a missing one the bus is listened to until it is
quiet.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hardware.bus import BusStatistics, SyncReading
from hardware.feetech import protocol
from hardware.feetech.registers import STS3215
from hardware.ports import Port
from hardware.registers import Register, RegisterTable
from sim2real.errors import BusError, UserError

T = TypeVar("T")

LATE_VARIANTS = 6
"""Number of different reply lengths that are used in turn after incomplete exchanges."""

LATE_HORIZON = 0.06
"""Seconds after which a reply that is still missing is believed lost."""

QUIET = 0.004
"""Seconds of silence after which no acknowledgement is expected any more."""

_OVERHEAD = 6  # bytes of a reply besides its parameters


class FeetechBus:
    """One bus on one port. Not safe for use from several threads.

    `allowance` is how long the adapter, the servos and the operating system may take beyond the time the
    bytes need on the wire, s; it includes the servos' return delays.
    """

    def __init__(self, port: Port, *, table: RegisterTable = STS3215, allowance: float = 0.006) -> None:
        self.port = port
        self.table = table
        self.allowance = allowance
        self.statistics = BusStatistics()
        self.now = port.now
        self._byte_time = 10 / port.baud
        self._plans: dict[tuple[tuple[int, ...], int, int], _SyncPlan] = {}
        self._variant = 0
        self._last_failure = -np.inf

    def close(self) -> None:
        self.port.close()

    # One servo

    def ping(self, id: int, timeout: float = 0.05) -> int:
        """The servo's error byte. Raises BusError when it does not answer within `timeout`, s."""
        request = protocol.ping(id)
        return self._insist(lambda end: self._request(id, request, 0, end).code, timeout, id, "ping")

    def read_block(self, id: int, address: int, size: int, timeout: float = 0.05) -> bytes:
        """`size` bytes of one servo's memory from `address`."""

        def attempt(end: float) -> bytes:
            extra = self._extra(address, size)
            request = protocol.read(id, address, size + extra)
            return self._request(id, request, size + extra, end).data[:size]

        return self._insist(attempt, timeout, id, f"read of {size} bytes at {address}")

    def read(self, id: int, register: str, timeout: float = 0.05) -> int:
        """The signed raw value of a register."""
        entry = self.table[register]
        return entry.decode(self.read_block(id, entry.address, entry.size, timeout))

    def write(
        self, id: int, register: str, value: int, timeout: float = 0.05, *, verify: bool = False
    ) -> None:
        """Write a raw value and wait for the acknowledgement.

        With `verify` the register is read back. Raises BusError without acknowledgement or when the value
        read back differs, UserError for a value out of range or a read-only register.
        """
        entry = self._writable(register)
        deadline = self.now() + timeout
        request = protocol.write(id, entry.address, entry.encode(value))
        self._insist(lambda end: self._request(id, request, 0, end), timeout, id, f"write of {register}")
        if verify:
            stored = self.read(id, register, max(deadline - self.now(), 0.02))
            if stored != value:
                raise BusError(
                    f"servo {id} did not take {register} = {value}: it reads back {stored}; "
                    "is the register locked, or outside the servo's own limits?"
                )

    def write_permanently(self, id: int, values: Mapping[str, int], timeout: float = 0.2) -> None:
        """Write EEPROM registers and verify them; the lock is closed again whatever happens."""
        self.write(id, "lock", 0, timeout)
        try:
            for register, value in values.items():
                self.write(id, register, value, timeout, verify=True)
        finally:
            self.write(id, "lock", 1, timeout)

    def reg_write(self, id: int, register: str, value: int, timeout: float = 0.05) -> None:
        """A write that waits in the servo for `action`."""
        entry = self._writable(register)
        request = protocol.reg_write(id, entry.address, entry.encode(value))
        self._insist(
            lambda end: self._request(id, request, 0, end), timeout, id, f"registered write of {register}"
        )

    def action(self) -> None:
        """Carry out all registered writes; not acknowledged."""
        self._send(protocol.action())

    # Several servos

    def sync_read(
        self, ids: Sequence[int], address: int, size: int, timeout: float | None = None
    ) -> SyncReading:
        """The same `size` bytes of several servos. Servos that do not answer are marked, nothing is raised.

        Waits until all have answered, at most `timeout` s (default: wire time plus `allowance`).
        """
        extra = self._extra(address, size)
        key = (tuple(ids), address, size + extra)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = _SyncPlan(*key)
        self._send(plan.request)
        wire = (len(plan.request) + plan.reply_bytes) * self._byte_time
        deadline = self.now() + (wire + self.allowance if timeout is None else timeout)
        buffer = b""
        while len(buffer) < plan.reply_bytes:
            chunk = self.port.read(plan.reply_bytes - len(buffer), deadline)
            if not chunk:
                break
            buffer += chunk
        if plan.is_exact(buffer):
            valid = np.ones(len(ids), dtype=np.bool_)
        else:
            rows = self._sort_out(plan, buffer, deadline)
            valid = np.array([row is not None for row in rows])
            blank = bytes(plan.stride)
            buffer = b"".join(row or blank for row in rows)
        time = self.now()
        table = np.frombuffer(buffer, np.uint8).reshape(len(ids), plan.stride)
        error = table[:, 4].astype(np.int64)
        self._count(plan.ids, valid.tolist(), error.tolist())
        return SyncReading(table[:, 5 : 5 + size], valid, error, time)

    def sync_write(self, register: str, ids: Sequence[int], values: Sequence[int]) -> None:
        """Write one register of several servos; not acknowledged, so verify what matters."""
        entry = self._writable(register)
        encode = entry.encode
        data = [(id, encode(int(value))) for id, value in zip(ids, values, strict=True)]
        self._send(protocol.sync_write(entry.address, entry.size, data))

    # Inside

    def _writable(self, register: str) -> Register:
        entry = self.table[register]
        if not entry.writable:
            raise UserError(f"register {register} of the {self.table.name} is read-only")
        return entry

    def _extra(self, address: int, size: int) -> int:
        """How many bytes more than needed to ask for, so that late replies are told apart."""
        if self._variant and self.now() - self._last_failure > LATE_HORIZON:
            self._variant = 0
        return min(self._variant, max(self.table.size - address - size, 0))

    def _failed(self) -> None:
        self.statistics.incomplete += 1
        self._variant = (self._variant + 1) % LATE_VARIANTS
        self._last_failure = self.now()

    def _send(self, request: bytes) -> None:
        self.statistics.unexpected += self.port.discard_input()
        self.statistics.exchanges += 1
        self.port.write(request)

    def _insist(self, attempt: Callable[[float], T], timeout: float, id: int, what: str) -> T:
        """Repeat an exchange until it succeeds or `timeout` s have passed."""
        deadline = self.now() + timeout
        while True:
            try:
                return attempt(deadline)
            except BusError:
                # An acknowledgement that is merely late must not answer the next request.
                self._await_quiet(deadline)
                if self.now() >= deadline:
                    raise BusError(
                        f"servo {id} gave no valid answer to a {what} within {timeout * 1000:.0f} ms; "
                        "check its cable, power, ID and baud rate"
                    ) from None
                self.statistics.retries += 1

    def _await_quiet(self, deadline: float) -> None:
        while self.now() < deadline:
            data = self.port.read(256, min(self.now() + QUIET, deadline))
            if not data:
                return
            self.statistics.unexpected += len(data)

    def _request(self, id: int, request: bytes, size: int, end: float) -> protocol.Packet:
        """One exchange with one servo; BusError unless a reply with `size` parameters arrives before `end`."""
        counts = self.statistics.servos[id]
        counts.requests += 1
        self._send(request)
        wire = (len(request) + size + _OVERHEAD) * self._byte_time
        deadline = min(self.now() + wire + self.allowance, end)
        parser = protocol.Parser(max_length=size + 2 + LATE_VARIANTS)
        answer: protocol.Packet | None = None
        while answer is None:
            data = self.port.read(256, deadline)
            if not data:
                break
            for packet in parser.feed(data):
                if packet.id == id and len(packet.data) == size:
                    answer = packet
                else:
                    self._stray(packet, (id,))
        self._note_damage(parser, (id,))
        if answer is None:
            counts.timeouts += 1
            self._failed()
            raise BusError(f"servo {id} did not answer")
        counts.replies += 1
        counts.alarms += answer.code != 0
        return answer

    def _sort_out(self, plan: "_SyncPlan", buffer: bytes, deadline: float) -> list[bytes | None]:
        """Find the replies in a stream that is not exactly what was expected; wait for missing ones."""
        parser = protocol.Parser(max_length=plan.size + 2 + LATE_VARIANTS)
        found: dict[int, bytes] = {}
        data = buffer
        while data:
            for packet in parser.feed(data):
                if packet.id not in plan.ids or len(packet.data) != plan.size:
                    self._stray(packet, plan.ids)
                    continue
                # Of two replies the later one is the answer: the earlier was sent to an older request.
                self.statistics.duplicates += packet.id in found
                found[packet.id] = protocol.reply(packet.id, packet.code, packet.data)
            # Servos answer in the order they were asked: after the last one nobody follows.
            if len(found) == len(plan.ids) or (plan.ids[-1] in found and not parser.pending):
                break
            data = self.port.read(4096, deadline)
        self._note_damage(parser, plan.ids)
        return [found.get(id) for id in plan.ids]

    def _stray(self, packet: protocol.Packet, asked: Sequence[int]) -> None:
        if packet.id not in asked:
            self.statistics.wrong_id += 1
        elif self.now() - self._last_failure < LATE_HORIZON:
            self.statistics.servos[packet.id].late += 1
        else:
            self.statistics.servos[packet.id].wrong_length += 1

    def _note_damage(self, parser: protocol.Parser, asked: Sequence[int]) -> None:
        parser.clear()
        self.statistics.garbage += parser.garbage
        for id in parser.suspects:
            if id in asked:
                self.statistics.servos[id].checksum += 1

    def _count(self, ids: Sequence[int], valid: Sequence[bool], errors: Sequence[int]) -> None:
        servos = self.statistics.servos
        for id, answered, error in zip(ids, valid, errors, strict=True):
            counts = servos[id]
            counts.requests += 1
            if answered:
                counts.replies += 1
                if error:
                    counts.alarms += 1
            else:
                counts.timeouts += 1
        if not all(valid):
            self._failed()


class _SyncPlan:
    """A sync read worked out in advance: its request, and where each servo's reply lies if all is well."""

    def __init__(self, ids: tuple[int, ...], address: int, size: int) -> None:
        self.ids = ids
        self.size = size
        self.request = protocol.sync_read(address, size, ids)
        self.stride = size + _OVERHEAD
        self.reply_bytes = self.stride * len(ids)
        self._heads = [protocol.HEADER + bytes((id, size + 2)) for id in ids]

    def is_exact(self, buffer: bytes) -> bool:
        """Whether `buffer` is exactly what all servos should send, in order, and every sum is right."""
        if len(buffer) != self.reply_bytes:
            return False
        at = 0
        for head in self._heads:
            end = at + self.stride
            # Everything behind the header sums up to 255, the sum's byte included.
            if buffer[at : at + 4] != head or sum(buffer[at + 2 : end]) & 0xFF != 0xFF:
                return False
            at = end
        return True
