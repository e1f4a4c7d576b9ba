"""The driver against emulated servos on a stepped clock: every fault a reply can have, and its figures."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from hardware.emulator.wire import Reply
from hardware.servos.feetech import protocol
from sim2real.errors import BusError, PortError, UserError

from .conftest import Rig


def test_ping_read_write(rig: Rig) -> None:
    assert rig.bus.ping(3) == 0
    assert rig.bus.read(3, "model_number") == 777
    rig.bus.write(3, "torque_limit", 400, verify=True)
    assert rig.bus.read(3, "torque_limit") == 400
    assert rig.bus.read(2, "torque_limit") == 1000


def test_sync_read_and_write(rig: Rig) -> None:
    assert rig.positions() == rig.truth()
    rig.bus.sync_write("goal_position", rig.ids, [2000] * 6)
    rig.bus.sync_write("torque_enable", rig.ids, [1] * 6)
    rig.port.clock.advance(1.0)
    assert rig.positions() == [2000] * 6


def test_cycle_takes_what_the_wire_takes(rig: Rig) -> None:
    """Six servos, six bytes each, and six goals: 112 bytes are 1.12 ms at 1 Mbit/s."""
    for _ in range(3):
        start = rig.port.now()
        rig.positions()
        rig.bus.sync_write("goal_position", rig.ids, [2048] * 6)
    # The goals of one cycle are still on the wire when the next one's request follows.
    start = rig.port.now()
    rig.positions()
    assert rig.port.now() - start == pytest.approx((26 + 14 + 72) * 10e-6, abs=1e-9)


def test_registered_writes_wait_for_action(rig: Rig) -> None:
    rig.bus.reg_write(1, "goal_position", 1234)
    assert rig.bus.read(1, "goal_position") != 1234
    assert rig.bus.read(1, "asynchronous_write") == 1
    rig.bus.action()
    assert rig.bus.read(1, "goal_position") == 1234


def test_permanent_writes_survive_loss_of_power(rig: Rig) -> None:
    rig.bus.write(2, "p_coefficient", 9)
    rig.bus.write_permanently(2, {"d_coefficient": 7})
    rig.servos[1].power_up()
    assert rig.bus.read(2, "d_coefficient") == 7
    assert rig.bus.read(2, "p_coefficient") == 32
    assert rig.bus.read(2, "lock") == 1


def test_refuses_read_only_and_out_of_range(rig: Rig) -> None:
    with pytest.raises(UserError, match="read-only"):
        rig.bus.write(1, "present_position", 0)
    with pytest.raises(UserError, match="0 to 1000"):
        rig.bus.sync_write("torque_limit", [1], [2000])
    assert rig.line.requests == 0


def test_absent_servo_is_named_within_the_deadline(rig: Rig) -> None:
    start = rig.port.now()
    with pytest.raises(BusError, match=r"servo 9 .* within 50 ms"):
        rig.bus.ping(9)
    assert rig.port.now() - start <= 0.0501


def test_retries_recover_a_lost_reply(rig: Rig) -> None:
    lost = iter([True, True])
    rig.line.tamper = lambda reply: [] if next(lost, False) else [reply]
    assert rig.bus.read(4, "model_number") == 777
    assert rig.bus.statistics.retries == 2
    assert rig.bus.statistics.servos[4].timeouts == 2


def test_verified_write_notices_a_value_not_taken(rig: Rig) -> None:
    rig.servos[0].write = lambda address, data: None  # type: ignore[method-assign]
    with pytest.raises(BusError, match="servo 1 did not take torque_limit = 300"):
        rig.bus.write(1, "torque_limit", 300, verify=True)


def _only(id: int, change: Callable[[bytes], Iterable[bytes]]) -> Callable[[Reply], Iterable[Reply]]:
    def tamper(reply: Reply) -> Iterable[Reply]:
        return [reply] if reply.id != id else [replace(reply, data=data) for data in change(reply.data)]

    return tamper


FAULTS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "mute": lambda data: [],
    "bit flip": lambda data: [data[:6] + bytes((data[6] ^ 4,)) + data[7:]],
    "truncated": lambda data: [data[:-3]],
    "wrong id": lambda data: [protocol.reply(77, 0, data[5:-1])],
    "neighbour's id": lambda data: [protocol.reply(2, 0, data[5:-1])],
    "short but valid payload": lambda data: [protocol.reply(3, 0, b"")],
    "garbage instead": lambda data: [b"\xff\x00\xff\xff\x03\xff\xff"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_reply_leaves_the_others(rig: Rig, fault: str) -> None:
    rig.line.tamper = _only(3, FAULTS[fault])
    truth = rig.truth()
    for _ in range(20):
        found = rig.positions()
        assert found[2] == -1
        others = [0, 3, 4, 5] if fault == "neighbour's id" else [0, 1, 3, 4, 5]
        assert [found[i] for i in others] == [truth[i] for i in others]
    assert rig.bus.statistics.incomplete == 20
    assert rig.bus.statistics.servos[3].error_rate == 1.0
    rig.line.tamper = None
    rig.port.clock.advance(0.1)
    assert rig.positions() == truth


def test_garbage_around_replies_is_skipped_and_counted(rig: Rig) -> None:
    rig.line.tamper = _only(2, lambda data: [b"\x00\xff\x17" + data + b"\xff\xff\xff"])
    truth = rig.truth()
    assert rig.positions() == truth
    assert rig.bus.statistics.garbage >= 3


def test_damage_is_attributed(rig: Rig) -> None:
    rig.line.tamper = _only(5, FAULTS["bit flip"])
    rig.positions()
    assert rig.bus.statistics.servos[5].checksum == 1
    rig.line.tamper = _only(5, FAULTS["wrong id"])
    rig.positions()
    assert rig.bus.statistics.wrong_id == 1


@pytest.mark.parametrize("delay", [0.004, 0.0075, 0.01, 0.0125, 0.02, 0.033, 0.05])
def test_late_replies_never_shift_a_cycle(rig: Rig, delay: float) -> None:
    """Servo 3 answers `delay` late in every cycle: whatever is accepted belongs to the request of its cycle."""

    def tamper(reply: Reply) -> Iterable[Reply]:
        return [reply] if reply.id != 3 else [replace(reply, due=reply.due + delay)]

    rig.line.tamper = tamper
    for cycle in range(60):
        # A position that names its cycle, so that an answer to an older request is recognised.
        rig.plant.position[:] = rig.plant.drive.goal[:] = (1000 + cycle * 7 - 2048) * 2 * np.pi / 4096
        true = 1000 + cycle * 7
        start = rig.port.now()
        found = rig.positions()
        assert [value for i, value in enumerate(found) if i != 2] == [true] * 5
        assert found[2] in (-1, true)
        rig.port.clock.sleep_until(start + 0.01)
    if delay > 0.007:
        assert rig.bus.statistics.servos[3].late + rig.bus.statistics.unexpected > 0


def test_a_reply_sent_twice_counts_once(rig: Rig) -> None:
    rig.line.tamper = _only(3, lambda data: [data, data])
    for _ in range(5):
        assert rig.positions() == rig.truth()
    assert rig.bus.statistics.duplicates + rig.bus.statistics.unexpected > 0


def test_wrong_baud_is_silence(rig: Rig) -> None:
    rig.port.baud = 500_000
    assert rig.positions() == [-1] * 6


def test_unplugging_is_a_port_error(rig: Rig) -> None:
    rig.port.plugged = False
    with pytest.raises(PortError):
        rig.positions()
    with pytest.raises(PortError):
        rig.bus.read(1, "id")


def test_random_damage_never_yields_a_wrong_position(rig: Rig) -> None:
    """Bytes changed, dropped and inserted at random: apart from sums that happen to fit, no wrong value."""
    rng = np.random.default_rng(11)

    def damage(reply: Reply) -> Iterable[Reply]:
        data = bytearray(reply.data)
        kind = rng.integers(8)
        if kind == 0:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif kind == 1:
            del data[rng.integers(len(data))]
        elif kind == 2:
            data.insert(rng.integers(len(data)), rng.integers(256))
        elif kind == 3:
            return []
        return [replace(reply, data=bytes(data))]

    rig.line.tamper = damage
    truth = rig.truth()
    wrong = accepted = 0
    for _ in range(1500):
        for found, true in zip(rig.positions(), truth):
            accepted += found != -1
            wrong += found not in (-1, true)
        rig.port.clock.advance(0.002)
    assert accepted > 4000
    assert wrong <= 3
