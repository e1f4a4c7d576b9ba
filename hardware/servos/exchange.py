"""Requests, replies and deadlines on a half-duplex line, whatever the packets look like.

Neither protocol has sequence numbers, so a reply that comes after its deadline looks like the answer to the
next request of the same kind, and would shift every later cycle by one. Two measures prevent it: input is
cleared before each request, and after an exchange that stayed incomplete the following requests ask for a
few bytes more than they need: for the length, among those that do, that has not been asked for the longest.
A late reply, whatever register it is about, then has the wrong length and is dropped. Acknowledgements have
no length to vary: after a missing one the bus is listened to until it is quiet.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware.servos.bus import BusStatistics, ServoRefused, SyncReading
from hardware.servos.ports import Port, echo_remark
from hardware.servos.registers import Register, RegisterTable
from sim2real.errors import BusError, UserError

T = TypeVar("T")
Row = tuple[int, bytes]
"""Error byte and data of one servo."""

LATE_VARIANTS = 12
"""Most bytes that are asked for in vain after incomplete exchanges."""

LATE_HORIZON = 0.2
"""Seconds after which a reply that is still missing is believed lost."""

ALLOWANCE = 0.006
"""How long servos and operating system may take for an answer beyond the time on the wire, s."""

SHARE = 0.5
"""Upper bound of that allowance as a share of the period of a loop that reads in every cycle."""

SLOWEST = 0.15
"""Seconds that an answer is waited for while it is not known how slow the line is."""

QUICK = 0.002
"""Seconds within which a usual adapter brings an answer; `ALLOWANCE` has room for that and more."""

PINGS = 9
"""Answers by which the line is timed."""

QUIET = 0.004
"""Seconds of silence after which no acknowledgement is expected any more."""


class ServoReply(Protocol):
    """A reply as a parser returns it."""

    @property
    def id(self) -> int: ...

    @property
    def data(self) -> bytes: ...


class SyncPlan(Protocol):
    """A sync read worked out in advance: its request, and where each servo's part lies if all is well.

    Servo k's part starts at byte `offset` + k · `stride` of the `reply_bytes`; `error_at` and `data_at` are
    places in it.
    """

    ids: tuple[int, ...]
    size: int
    request: bytes
    reply_bytes: int
    offset: int
    stride: int
    error_at: int
    data_at: int

    def is_exact(self, buffer: bytes) -> bool:
        """Whether `buffer` is exactly what all servos should send, in order, and every check is right."""


@cache
def _all_well(count: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """`valid` and `error` of a reading in which nothing is wrong."""
    valid, error = np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.int64)
    valid.setflags(write=False)
    error.setflags(write=False)
    return valid, error


class PacketBus(ABC):
    """What the buses have in common. Not safe for use from several threads.

    `allowance` is how long the adapter, the servos and the operating system may take beyond the time the
    bytes need on the wire, s; it includes the servos' return delays.
    """

    packets: Any
    """The module of the protocol's packets."""
    overhead: int
    """Bytes of a reply besides its parameters."""
    ping_reply: int
    """Bytes of the answer to a ping."""
    damaged: frozenset[int] = frozenset()
    """Errors by which a servo says that it did not get the request whole."""

    def __init__(self, port: Port, table: RegisterTable, allowance: float) -> None:
        self.port = port
        self.table = table
        self.tables: dict[int, RegisterTable] = {}
        self.allowance = self._patience = allowance
        self._hurry = 0.0
        self.statistics = BusStatistics()
        self.now = port.now
        self._byte_time = 10 / port.baud
        self._plans: dict[tuple[object, ...], Any] = {}
        self._asked: dict[int, float] = {}  # when each length was last asked for
        self._last_failure = -np.inf

    def pace(self, period: float) -> None:
        """Be read every `period` s from now on: a silent cycle must be over before the next one is due."""
        self._hurry = max(ALLOWANCE - SHARE * period, 0.0)
        self.allowance = self._patience - self._hurry

    def settle(self, ids: Sequence[int]) -> float | None:
        """Find out how slow the line is, and wait for late answers as long as that takes from now on.

        Returns how long an answer takes beyond its time on the wire, s, by the first of `ids` that gives one; None
        when none does. To be called while nothing moves: it takes up to 0.15 s for each servo that is not there.
        """
        usual = self.allowance
        self.allowance = SLOWEST
        try:
            for id in ids:
                if self._ping_time(id) is not None:
                    times = sorted(filter(None, (self._ping_time(id) for _ in range(PINGS))))
                    break
            else:
                return None
        finally:
            self.allowance = usual
        if len(times) < 2:
            return None
        # What the system was too busy for once does not count.
        self._patience = max(self._patience, ALLOWANCE + times[-2] - QUICK)
        self.allowance = self._patience - self._hurry
        return times[len(times) // 2]

    def _ping_time(self, id: int) -> float | None:
        """s from question to answer, without the time on the wire."""
        before, start = self.port.now(), self.statistics.retries
        try:
            self.ping(id, SLOWEST)
        except BusError:
            return None
        if self.statistics.retries != start:
            return None
        wire = (len(self.packets.ping(id)) + self.ping_reply) * self._byte_time
        return max(self.port.now() - before - wire, 1e-6)

    def close(self) -> None:
        self.port.close()

    @property
    def remark(self) -> str:
        """What is peculiar about the port where nobody answers, to be put into a sentence; "" if nothing is."""
        return echo_remark(self.port)

    @property
    def echoes(self) -> bool:
        """Whether the adapter sends back what it is sent (which is left out of what is read)."""
        return bool(getattr(self.port, "echoes", False))

    @property
    def taken(self) -> int:
        """How often another program has taken what had arrived."""
        return int(getattr(self.port, "taken", 0))

    def reading_time(self, ids: Sequence[int], address: int, size: int) -> float:
        """s that a `sync_read` needs on the wire."""
        plan = self._sync_plan(tuple(ids), address, size)
        return (len(plan.request) + plan.reply_bytes) * self._byte_time

    # What the protocols do in their own ways

    @abstractmethod
    def ping(self, id: int, timeout: float = 0.05) -> int:
        """The servo's error byte. Raises BusError when it does not answer within `timeout`, s."""

    @abstractmethod
    def write_permanently(self, id: int, values: Mapping[str, int], timeout: float = 0.2) -> None:
        """Write EEPROM registers and verify them."""

    @abstractmethod
    def prepare(self, ids: Sequence[int]) -> None:
        """Find out the quickest way to read these servos. Call it while nothing moves."""

    @abstractmethod
    def _longest(self, size: int) -> int:
        """LEN of the longest reply with `size` parameters that may be believed."""

    @abstractmethod
    def _error(self, answer: Any) -> int:
        """A reply's error byte."""

    @abstractmethod
    def _refusal(self, error: int) -> str:
        """Why the servo did not do what it was asked, by a reply's error byte; "" when it did."""

    @abstractmethod
    def _is_alarm(self, error: int) -> bool:
        """Whether an error byte says that something is wrong with the servo itself."""

    @abstractmethod
    def _sync_plan(self, ids: tuple[int, ...], address: int, size: int) -> SyncPlan:
        """How to read `size` bytes of several servos."""

    # One servo

    def read_block(self, id: int, address: int, size: int, timeout: float = 0.05) -> bytes:
        """`size` bytes of one servo's memory from `address`."""

        def attempt(end: float) -> bytes:
            length = self._length(id, address, size)
            request = self.packets.read(id, address, length)
            data: bytes = self._request(id, request, length, end).data[:size]
            return data

        return self._insist(attempt, timeout, id, f"read of {size} bytes at {address}")

    def read(self, id: int, register: str, timeout: float = 0.05) -> int:
        """The signed raw value of a register."""
        entry = self.table_of(id)[register]
        return entry.decode(self.read_block(id, entry.address, entry.size, timeout))

    def write(
        self, id: int, register: str, value: int, timeout: float = 0.05, *, verify: bool = False
    ) -> None:
        """Write a raw value and wait for the acknowledgement.

        With `verify` the register is read back. Raises BusError without acknowledgement or when the value
        read back differs, ServoRefused when the servo says no, UserError for a value out of range or a
        read-only register.
        """
        entry = self._writable(register, id)
        deadline = self.now() + timeout
        request = self.packets.write(id, entry.address, entry.encode(value))
        what = f"write of {register} = {value}"
        self._insist(lambda end: self._request(id, request, 0, end), timeout, id, what)
        if verify:
            stored = self.read(id, register, max(deadline - self.now(), 0.02))
            if stored != value:
                raise BusError(
                    f"servo {id} did not take {register} = {value}: it reads back {stored}; "
                    "is the register locked, or outside the servo's own limits?"
                )

    def reg_write(self, id: int, register: str, value: int, timeout: float = 0.05) -> None:
        """A write that waits in the servo for `action`."""
        entry = self._writable(register, id)
        request = self.packets.reg_write(id, entry.address, entry.encode(value))
        what = f"registered write of {register} = {value}"
        self._insist(lambda end: self._request(id, request, 0, end), timeout, id, what)

    def action(self) -> None:
        """Carry out all registered writes; not acknowledged."""
        self._send(self.packets.action())

    # Several servos

    def sync_read(
        self, ids: Sequence[int], address: int, size: int, timeout: float | None = None
    ) -> SyncReading:
        """`size` bytes from `address` on of several servos. Those that do not answer are marked, nothing is raised.

        Waits until all have answered, at most `timeout` s (default: wire time plus `allowance`).
        """
        plan = self._sync_plan(tuple(ids), address, self._length(ids[0], address, size))
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
            table: NDArray[np.uint8] = np.ndarray((len(ids), plan.stride), np.uint8, buffer, plan.offset)
            data = table[:, plan.data_at : plan.data_at + size]
            if not any(buffer[plan.offset + plan.error_at :: plan.stride]):
                time = self.now()
                servos = self.statistics.servos
                for id in plan.ids:
                    counts = servos[id]
                    counts.requests += 1
                    counts.replies += 1
                return SyncReading(data, *_all_well(len(ids)), time)
            error = table[:, plan.error_at].astype(np.int64)
            errors = error.tolist()
            # Whether a reply that arrived whole is an answer, its error byte says.
            valid = np.array([not (e and self._refusal(e)) for e in errors], dtype=np.bool_)
        else:
            rows = self._sort_out(plan, buffer, deadline)
            valid = np.array([row is not None for row in rows], dtype=np.bool_)
            errors = [0 if row is None else row[0] for row in rows]
            error = np.array(errors, dtype=np.int64)
            data = np.zeros((len(ids), size), np.uint8)
            for i, row in enumerate(rows):
                if row is not None:
                    data[i] = np.frombuffer(row[1][:size], np.uint8)
        time = self.now()
        self._count(plan.ids, valid.tolist(), errors)
        return SyncReading(data, valid, error, time)

    def sync_write(self, register: str, ids: Sequence[int], values: Sequence[int]) -> None:
        """Write one register of several servos; not acknowledged, so verify what matters."""
        entry = self._writable(register)
        encode = entry.encode
        data = [(id, encode(int(value))) for id, value in zip(ids, values, strict=True)]
        self._send(self.packets.sync_write(entry.address, entry.size, data))

    # Inside

    def table_of(self, id: int) -> RegisterTable:
        """The registers of one servo, as far as its model is known."""
        return self.tables.get(id, self.table)

    def _writable(self, register: str, id: int | None = None) -> Register:
        table = self.table if id is None else self.table_of(id)
        entry = table[register]
        if not entry.writable:
            raise UserError(f"register {register} of the {table.name} is read-only")
        return entry

    def _length(self, id: int, address: int, size: int) -> int:
        """How many bytes to ask for when `size` are wanted, so that late replies are told apart."""
        now, length = self.now(), size
        if now - self._last_failure < LATE_HORIZON:
            room = min(LATE_VARIANTS, max(self.table_of(id).size - address - size, 0))
            past = now - LATE_HORIZON
            length = min(range(size, size + room + 1), key=lambda n: max(self._asked.get(n, past), past))
        self._asked[length] = now
        return length

    def _failed(self) -> None:
        self.statistics.incomplete += 1
        self._last_failure = self.now()

    def _send(self, request: bytes) -> None:
        if dropped := self.port.discard_input():
            self.statistics.unexpected += dropped
            self.statistics.strange += self.now() - self._last_failure > LATE_HORIZON
        self.statistics.exchanges += 1
        self.port.write(request)

    def _insist(self, attempt: Callable[[float], T], timeout: float, id: int, what: str) -> T:
        """Repeat an exchange until it succeeds or `timeout` s have passed; a refusal is final."""
        deadline = self.now() + timeout
        while True:
            try:
                return attempt(deadline)
            except ServoRefused as error:
                raise ServoRefused(f"servo {id} refused a {what}: {error}") from None
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

    def _request(self, id: int, request: bytes, size: int, end: float) -> Any:
        """One exchange with one servo; BusError unless a reply with `size` parameters arrives before `end`,
        ServoRefused when the servo says that it did not do it."""
        counts = self.statistics.servos[id]
        counts.requests += 1
        self._send(request)
        wire = (len(request) + size + self.overhead) * self._byte_time
        deadline = min(self.now() + wire + self.allowance, end)
        parser = self.packets.Parser(max_length=self._longest(size))
        answer: Any = None
        while answer is None:
            data = self.port.read(256, deadline)
            if not data:
                break
            for packet in parser.feed(data):
                # A refusal carries no parameters, whatever was asked for.
                refused = bool(self._refusal(self._error(packet))) and not packet.data
                if packet.id == id and (len(packet.data) == size or refused):
                    answer = packet
                else:
                    self._stray(packet, (id,))
        self._note_damage(parser, (id,))
        if answer is None:
            counts.timeouts += 1
            self._failed()
            raise BusError(f"servo {id} did not answer")
        counts.replies += 1
        error = self._error(answer)
        counts.alarms += self._is_alarm(error)
        if refusal := self._refusal(error):
            raise (BusError if error in self.damaged else ServoRefused)(refusal)
        return answer

    def _sort_out(self, plan: Any, buffer: bytes, deadline: float) -> list[Row | None]:
        """Find the replies in a stream that is not exactly what was expected; wait for missing ones."""
        parser = self.packets.Parser(max_length=self._longest(plan.size))
        found: dict[int, Row] = {}
        data = buffer
        while data:
            for packet in parser.feed(data):
                error = self._error(packet)
                if packet.id not in plan.ids or len(packet.data) != plan.size or self._refusal(error):
                    self._stray(packet, plan.ids)
                    continue
                # Of two replies the later one is the answer: the earlier was sent to an older request.
                self.statistics.duplicates += packet.id in found
                found[packet.id] = error, packet.data
            # Servos answer in the order they were asked: after the last one nobody follows.
            if len(found) == len(plan.ids) or (plan.ids[-1] in found and not parser.pending):
                break
            data = self.port.read(4096, deadline)
        self._note_damage(parser, plan.ids)
        return [found.get(id) for id in plan.ids]

    def _stray(self, packet: ServoReply, asked: Sequence[int]) -> None:
        if packet.id not in asked:
            self.statistics.wrong_id += 1
        elif self.now() - self._last_failure < LATE_HORIZON:
            self.statistics.servos[packet.id].late += 1
        else:
            self.statistics.servos[packet.id].wrong_length += 1

    def _note_damage(self, parser: Any, asked: Sequence[int]) -> None:
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
                if error and self._is_alarm(error):
                    counts.alarms += 1
            else:
                counts.timeouts += 1
        if not all(valid):
            self._failed()
