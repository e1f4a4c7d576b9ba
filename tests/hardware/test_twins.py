"""Two servos with one ID are written to together: they must be found before anything is written. Over a real pty."""

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from hardware.commissioning.scan import assign, scan
from hardware.emulator.dynamixel.servo import DynamixelServo
from hardware.emulator.feetech.servo import FeetechServo
from hardware.emulator.plant import IdealPlant
from hardware.emulator.wire import EmulatedBus
from hardware.servos.dynamixel.registers import XL330_M288
from hardware.servos.family import DYNAMIXEL, FEETECH, ServoFamily
from hardware.servos.ports import SerialPort
from sim2real.errors import UserError

Mix = Callable[[bytes, bytes], bytes]
BAUD = 1_000_000


def one_after_the_other(a: bytes, b: bytes) -> bytes:
    return a + b


def pulled_low(a: bytes, b: bytes) -> bytes:
    """An open line: a zero of either is a zero."""
    return bytes(x & y for x, y in zip(a, b)) + a[len(b) :] + b[len(a) :]


def pushed_high(a: bytes, b: bytes) -> bytes:
    return bytes(x | y for x, y in zip(a, b)) + a[len(b) :] + b[len(a) :]


class Twins:
    """One or two servos of a family, all with ID 1, each at its angle (rad); `mix`: what is heard of two who speak."""

    def __init__(self, family: ServoFamily, angles: tuple[float, ...], mix: Mix = pulled_low) -> None:
        self.family, self.mix = family, mix
        self.plants = [IdealPlant(1, [angle]) for angle in angles]
        values = {"baud_rate": family.bauds.index(BAUD), "return_delay_time": 0}
        self.servos = [
            FeetechServo(1, plant, 0, values=values)
            if family is FEETECH
            else DynamixelServo(1, plant, 0, table=XL330_M288, values=values)
            for plant in self.plants
        ]
        self.lines = [EmulatedBus([servo], plant) for servo, plant in zip(self.servos, self.plants)]
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self._stop not in (ready := select.select([self._master, self._stop], [], [])[0]):
            data = os.read(self._master, 4096) if ready else b""
            answers = []
            for line in self.lines:
                line.receive(data, time.monotonic(), BAUD)
                answers.append(line.due(float("inf")))
            heard = [answer for answer in answers if answer]
            if heard:
                os.write(self._master, heard[0] if len(heard) == 1 else self.mix(*heard))

    def open(self, baud: int) -> SerialPort:
        return SerialPort(self.port, baud, echoes=False)

    def assign(self, **options: object) -> object:
        found = scan(self.open, [self.family], [BAUD])
        return assign(self.open, found, id=3, **options)

    @property
    def ids(self) -> list[int]:
        return [servo.id for servo in self.servos]

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        for descriptor in (self._master, self._slave, self._stop, self._wake):
            os.close(descriptor)


@pytest.fixture
def make() -> Iterator[Callable[..., Twins]]:
    made: list[Twins] = []

    def build(*arguments: object, **more: object) -> Twins:
        made.append(Twins(*arguments, **more))
        return made[-1]

    yield build
    for twins in made:
        twins.close()


FAMILIES = pytest.mark.parametrize("family", [FEETECH, DYNAMIXEL], ids=lambda family: family.name)


@pytest.mark.parametrize(
    ("family", "mix", "apart"),
    [
        (FEETECH, one_after_the_other, 1.0),
        (FEETECH, pulled_low, 1.0),
        (FEETECH, pulled_low, 0.01),
        (FEETECH, pushed_high, 0.01),
        (DYNAMIXEL, one_after_the_other, 0.01),
        (DYNAMIXEL, pulled_low, 0.01),
    ],
)
def test_two_under_one_id_are_not_written_to(make, family, mix, apart):
    twins = make(family, (-0.3, apart - 0.3), mix)
    (found,) = scan(twins.open, [family], [BAUD])
    assert found.id == 1 and found.shared
    for only in (None, 1):
        with pytest.raises(
            UserError, match="with the same ID.*connect one servo alone .unplug all servos but one"
        ):
            assign(twins.open, [found], only=only, id=3)
    assert twins.ids == [1, 1]


@FAMILIES
def test_what_a_scan_took_for_one_is_looked_at_again(make, family):
    """Somebody plugs in a second servo between looking and writing."""
    twins = make(family, (0.2, 1.2))
    (found,) = scan(make(family, (0.2,)).open, [family], [BAUD])
    assert not found.shared
    with pytest.raises(
        UserError, match="not certain that one servo alone answers.*damaged.*Nothing was written"
    ):
        assign(twins.open, [found], id=3)
    assert twins.ids == [1, 1]


@FAMILIES
def test_two_that_stand_exactly_alike_come_apart_when_one_is_turned(make, family):
    twins = make(family, (0.5, 0.5))

    def turn(servo: str) -> bool:
        twins.plants[1].position[:] = 0.9
        return True

    with pytest.raises(UserError, match="not certain that one servo alone answers"):
        twins.assign(turn=turn)
    assert twins.ids == [1, 1]


@FAMILIES
def test_the_servo_that_was_turned_is_the_one_that_answers(make, family):
    alone = make(family, (0.5,))
    with pytest.raises(UserError, match="position is still .*what was turned is not what answers"):
        alone.assign(turn=lambda servo: True)
    assert alone.ids == [1]

    def turn(servo: str) -> bool:
        assert "ID 1" in servo
        alone.plants[0].position[:] = 0.7
        return True

    alone.assign(turn=turn)
    assert alone.ids == [3]


@FAMILIES
def test_one_alone_is_believed(make, family):
    alone = make(family, (0.5,))
    alone.assign()
    assert alone.ids == [3]
    again = make(family, (0.5,))
    again.assign(turn=lambda servo: False)  # a person vouches for it
    assert again.ids == [3]
