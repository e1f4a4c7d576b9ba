"""Whatever a master says, emulated servos live on: random requests, well framed and not, on both kinds of line."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hardware.servos.dynamixel.protocol as dynamixel
import hardware.servos.feetech.protocol as feetech
from hardware.emulator.wire import EmulatedBus

from .conftest import Rig as FeetechRig
from .test_emulated_dynamixel import Rig as DynamixelRig

IDS = st.sampled_from((1, 2, 3, 4, 9, 254))
CODES = st.sampled_from(
    (1, 2, 3, 4, 5, 6, 8, 0x0A, 0x0B, 0x10, 0x20, 0x33, 0x55, 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A)
)
REQUESTS = st.lists(st.tuples(IDS, CODES, st.binary(max_size=40)), min_size=1, max_size=12)


def _feetech() -> tuple[EmulatedBus, Callable[[int, int, bytes], bytes], Callable[[], bytes]]:
    rig = FeetechRig(4)
    return rig.line, feetech.encode, lambda: feetech.ping(rig.servos[0].id)


def _dynamixel() -> tuple[EmulatedBus, Callable[[int, int, bytes], bytes], Callable[[], bytes]]:
    rig = DynamixelRig()
    return rig.line, dynamixel.encode, lambda: dynamixel.ping(rig.servos[0].id)


@pytest.mark.parametrize("make", [_feetech, _dynamixel])
@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS)
def test_any_request_is_survived(make: Callable, requests: list[tuple[int, int, bytes]]) -> None:
    line, encode, ping = make()
    now = 0.0
    for id, code, data in requests:
        line.receive(encode(id, code, data), now)
        now += 0.05
        line.due(now)
    now += 1.0
    line.receive(ping(), now)
    assert line.due(now + 1.0)


@pytest.mark.parametrize("make", [_feetech, _dynamixel])
@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.binary(max_size=60), max_size=8), damage=st.integers(0, 255), at=st.integers(0, 9))
def test_any_garbage_is_survived(make: Callable, chunks: list[bytes], damage: int, at: int) -> None:
    line, _, ping = make()
    now = 0.0
    broken = bytearray(ping())
    broken[at % len(broken)] ^= damage
    for chunk in [*chunks, bytes(broken)]:
        line.receive(chunk, now)
        now += 0.001
    now += 1.0
    line.due(now)
    line.receive(ping(), now)
    assert line.due(now + 1.0)


def test_a_position_far_from_home_can_be_read() -> None:
    """Turned by hand as far as it goes: what is reported stays within what the register can carry."""
    for turns in (3.0, -3.0, 2000.0, -2000.0):
        rig = FeetechRig(1)
        rig.plant.position[0] = turns * 6.283
        rig.servos[0].read(56, 15)
        assert abs(rig.servos[0].get("present_position")) <= 32_767
        other = DynamixelRig()
        other.plant.position[0] = turns * 6.283
        assert len(other.servos[0].read(120, 27)[1]) == 27
        other.servos[0].power_up()


@pytest.mark.parametrize("make", [_feetech, _dynamixel])
def test_requests_written_byte_by_byte_are_understood(make: Callable) -> None:
    line, _, ping = make()
    for k, byte in enumerate(ping()):
        line.receive(bytes((byte,)), 0.05 * k)
    assert line.due(2.0)
