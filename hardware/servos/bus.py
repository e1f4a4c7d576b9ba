"""What every servo bus offers, whatever protocol it speaks, and what it counts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.servos.registers import RegisterTable
from sim2real.errors import BusError


class ServoRefused(BusError):
    """A servo answered that it did not do what it was asked. Asking again does not help."""


@dataclass
class ServoStatistics:
    """Exchanges with one servo: how many, and how each of the others failed."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    checksum: int = 0
    wrong_length: int = 0
    late: int = 0
    implausible: int = 0
    alarms: int = 0  # replies with an error bit set

    @property
    def error_rate(self) -> float:
        """Fraction of requests without a usable reply."""
        return 0.0 if not self.requests else 1.0 - (self.replies - self.implausible) / self.requests


@dataclass
class BusStatistics:
    """Exchanges on one bus, and what arrived that nobody had asked for."""

    exchanges: int = 0
    incomplete: int = 0
    retries: int = 0
    garbage: int = 0  # bytes that belonged to no packet
    unexpected: int = 0  # bytes that were waiting before a request was sent
    strange: int = (
        0  # how often there were such bytes though no reply was missing: another program is talking
    )
    wrong_id: int = 0  # packets from servos that were not asked
    duplicates: int = 0
    servos: dict[int, ServoStatistics] = field(default_factory=lambda: defaultdict(ServoStatistics))

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, servos by ID."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"servos": {id: asdict(servo) for id, servo in sorted(self.servos.items())}}


@dataclass(frozen=True)
class SyncReading:
    """What several servos answered to one request.

    `data` (k, size) uint8 holds their bytes in the order they were asked, `valid` (k,) says which rows arrived
    whole, `error` (k,) their error bytes, `time` when the last byte arrived (the port's clock, s).
    """

    data: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    error: NDArray[np.int64]
    time: float


class ServoBus(Protocol):
    """Servos on a half-duplex line. Raises BusError when an exchange fails, PortError when the line is gone."""

    table: RegisterTable
    """The registers that all servos on the bus share."""
    tables: dict[int, RegisterTable]
    """By ID, the registers of servos whose model is known."""
    statistics: BusStatistics

    allowance: float
    """How long an answer may take beyond its time on the wire, s."""

    @property
    def echoes(self) -> bool:
        """Whether the adapter sends back what it is sent (which is left out of what is read)."""

    @property
    def taken(self) -> int:
        """How often another program has taken what had arrived."""

    @property
    def remark(self) -> str:
        """What is peculiar about the port where nobody answers, to be put into a sentence; "" if nothing is."""

    def now(self) -> float:
        """Monotonic seconds, the time base of all deadlines."""

    def ping(self, id: int, timeout: float = ...) -> int:
        """The servo's error byte."""

    def read(self, id: int, register: str, timeout: float = ...) -> int:
        """The signed raw value of a register."""

    def read_block(self, id: int, address: int, size: int, timeout: float = ...) -> bytes:
        """`size` bytes of one servo's memory."""

    def write(self, id: int, register: str, value: int, timeout: float = ..., *, verify: bool = ...) -> None:
        """Write a raw value, acknowledged; with `verify` read it back and compare."""

    def write_permanently(self, id: int, values: Mapping[str, int], timeout: float = ...) -> None:
        """Write and verify registers that survive loss of power."""

    def prepare(self, ids: Sequence[int]) -> None:
        """Find out the quickest way to read these servos. Call it while nothing moves."""

    def sync_read(
        self, ids: Sequence[int], address: int, size: int, timeout: float | None = ...
    ) -> SyncReading:
        """`size` bytes from `address` on of several servos; never raises BusError: see `SyncReading.valid`."""

    def reading_time(self, ids: Sequence[int], address: int, size: int) -> float:
        """s that a `sync_read` needs on the wire."""

    def sync_write(self, register: str, ids: Sequence[int], values: Sequence[int]) -> None:
        """One register of several servos; not acknowledged."""

    def reboot(self, id: int, timeout: float = ...) -> None:
        """Restart a servo, which takes back latched errors; waits until it answers again."""

    def pace(self, period: float) -> None:
        """Be read every `period` s from now on: a cycle without answers must be over before the next is due."""

    def settle(self, ids: Sequence[int]) -> float | None:
        """Find out how slow the line is by the first of `ids` that answers, and be as patient from now on. Returns how
        long an answer takes beyond its time on the wire, s; None when none answers."""

    def close(self) -> None:
        """Release the port."""
