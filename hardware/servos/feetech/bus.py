"""A bus of Feetech servos; what it shares with others is in `hardware/servos/exchange.py`."""

from collections.abc import Mapping, Sequence

from hardware.servos.exchange import ALLOWANCE, LATE_VARIANTS, PacketBus
from hardware.servos.feetech import protocol
from hardware.servos.feetech.registers import STS3215
from hardware.servos.ports import Port
from hardware.servos.registers import RegisterTable
from sim2real.errors import HardwareError


class FeetechBus(PacketBus):
    """One bus on one port; see `PacketBus`."""

    packets = protocol
    overhead = 6
    ping_reply = 6

    def __init__(self, port: Port, *, table: RegisterTable = STS3215, allowance: float = ALLOWANCE) -> None:
        super().__init__(port, table, allowance)

    def ping(self, id: int, timeout: float = 0.05) -> int:
        request = protocol.ping(id)
        answer = self._insist(lambda end: self._request(id, request, 0, end), timeout, id, "ping")
        return int(answer.code)

    def write_permanently(self, id: int, values: Mapping[str, int], timeout: float = 0.2) -> None:
        """Write EEPROM registers and verify them; the lock is closed again whatever happens."""
        self.write(id, "lock", 0, timeout)
        try:
            for register, value in values.items():
                self.write(id, register, value, timeout, verify=True)
        finally:
            self.write(id, "lock", 1, timeout)

    def prepare(self, ids: Sequence[int]) -> None:
        """Nothing to find out: there is one way to read several servos."""

    def reboot(self, id: int, timeout: float = 0.2) -> None:
        """Raises HardwareError: only a loss of power restarts these servos, and they latch nothing."""
        raise HardwareError(f"servo {id} cannot be restarted over the bus: switch the arm's power off and on")

    def _longest(self, size: int) -> int:
        return size + 2 + LATE_VARIANTS

    def _error(self, answer: protocol.Packet) -> int:
        return answer.code

    def _refusal(self, error: int) -> str:
        return ""  # the error byte speaks of the servo's state alone

    def _is_alarm(self, error: int) -> bool:
        return error != 0

    def _sync_plan(self, ids: tuple[int, ...], address: int, size: int) -> "_SyncPlan":
        key = (ids, address, size)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = _SyncPlan(*key)
        return plan


class _SyncPlan:
    """A sync read whose replies have no length but one."""

    offset, error_at, data_at = 0, 4, 5

    def __init__(self, ids: tuple[int, ...], address: int, size: int) -> None:
        self.ids = ids
        self.size = size
        self.request = protocol.sync_read(address, size, ids)
        self.stride = size + FeetechBus.overhead
        self.reply_bytes = self.stride * len(ids)
        self._heads = [protocol.HEADER + bytes((id, size + 2)) for id in ids]

    def is_exact(self, buffer: bytes) -> bool:
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
