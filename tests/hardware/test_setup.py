"""Finding servos and giving them IDs and baud rates, on emulated lines of both families."""

import pytest

from hardware.commissioning.scan import assign, find_unplugged, scan
from hardware.emulator.dynamixel.servo import DynamixelServo
from hardware.emulator.feetech.servo import FeetechServo
from hardware.emulator.plant import IdealPlant
from hardware.emulator.stepped import SteppedPort
from hardware.emulator.wire import EmulatedBus, Reply
from hardware.servos.dynamixel.registers import XL330_M288, XL430_W250
from hardware.servos.family import DYNAMIXEL, FEETECH
from hardware.servos.ports import PortUnavailable
from sim2real.clock import SimulatedClock
from sim2real.errors import HardwareError, UserError

FACTORY = 0  # the baud code of 1 Mbit/s


class Bench:
    """Feetech servos on one line, and a port that opens at any rate."""

    def __init__(self, *servos: dict[str, int]) -> None:
        self.plant = IdealPlant(len(servos))
        self.servos = [
            FeetechServo(values.pop("id", 1), self.plant, i, values=values) for i, values in enumerate(servos)
        ]
        self.line = EmulatedBus(self.servos, self.plant)
        self.clock = SimulatedClock()
        self.written: list[bytes] = []

    def open(self, baud: int) -> SteppedPort:
        return SteppedPort(self.line, self.clock, baud=baud)

    def scan(self, **options):
        return scan(self.open, [FEETECH], **options)

    def memory(self) -> list[bytes]:
        return [bytes(servo.memory[:56]) for servo in self.servos]


def test_every_baud_rate_is_looked_at_and_nothing_is_written():
    bench = Bench({"id": 1}, {"id": 7, "baud_rate": 4}, {"id": 253, "baud_rate": 7})
    before = bench.memory()
    asked: list[str] = []
    found = scan(bench.open, progress=asked.append)
    assert [(servo.id, servo.baud) for servo in found] == [(1, 1_000_000), (7, 115_200), (253, 38_400)]
    assert {(servo.protocol, servo.model, servo.firmware) for servo in found} == {
        ("feetech", "STS3215", "3.10")
    }
    assert not any(servo.torque or servo.shared for servo in found)
    assert len(asked) == len(FEETECH.bauds) + len(DYNAMIXEL.bauds)
    assert bench.memory() == before


def test_only_the_baud_rates_asked_for():
    bench = Bench({"id": 1}, {"id": 7, "baud_rate": 4})
    assert [servo.id for servo in bench.scan(bauds=[115_200])] == [7]
    assert bench.scan(bauds=[500_000]) == ()


def test_servos_that_speak_at_once_are_asked_one_by_one():
    bench = Bench({"id": 3}, {"id": 20}, {"id": 150})

    def collide(reply: Reply) -> list[Reply]:
        # Answers to a ping to all come together: of a short packet nothing is left but a header.
        together = bench.line.dialect is not None and len(reply.data) == 6 and bench.all_asked
        return [Reply(reply.due, reply.id, b"\xff\xff\x00")] if together else [reply]

    def overhear(data: bytes, now: float) -> bytes:
        bench.all_asked = data[2] == 0xFE
        return data

    bench.all_asked = False
    bench.line.tamper, bench.line.overhear = collide, overhear
    assert [servo.id for servo in bench.scan(bauds=[1_000_000])] == [3, 20, 150]


def test_two_servos_with_one_id_are_seen():
    bench = Bench({"id": 4}, {"id": 4}, {"id": 5})
    found = bench.scan(bauds=[1_000_000])
    assert [(servo.id, servo.shared) for servo in found] == [(4, True), (5, False)]
    with pytest.raises(UserError, match="some with the same ID.*connect one servo alone"):
        assign(bench.open, found, only=4, id=9)


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ({"id": 6}, (6, FACTORY)),
        ({"baud": 115_200}, (1, 4)),
        ({"id": 12, "baud": 38_400}, (12, 7)),
        ({"id": 1}, (1, FACTORY)),
    ],
)
def test_assign(change, stored):
    bench = Bench({"id": 1})
    servo = assign(bench.open, bench.scan(), **change)
    assert (servo.id, FEETECH.bauds.index(servo.baud)) == stored
    memory = bench.servos[0]
    assert (memory.memory[5], memory.memory[6]) == stored
    assert memory.get("lock") == 1
    # It is still so when power has been off.
    memory.power_up()
    assert (memory.memory[5], memory.memory[6]) == stored
    assert [(one.id, one.baud) for one in bench.scan()] == [(servo.id, servo.baud)]


def test_dynamixels_are_found_and_assigned():
    plant = IdealPlant(2)
    servos = [
        DynamixelServo(1, plant, 0, table=XL330_M288, values={"baud_rate": 1}),
        DynamixelServo(7, plant, 1, table=XL430_W250, values={"baud_rate": 3}),
    ]
    line, clock = EmulatedBus(servos, plant), SimulatedClock()

    def open_port(baud: int) -> SteppedPort:
        return SteppedPort(line, clock, baud=baud)

    found = scan(open_port)
    assert [(one.protocol, one.id, one.baud, one.model) for one in found] == [
        ("dynamixel", 1, 57_600, "XL330-M288"),
        ("dynamixel", 7, 1_000_000, "XL430-W250"),
    ]
    servo = assign(open_port, found, only=1, id=3, baud=1_000_000)
    assert (servo.id, servo.baud, servo.model) == (3, 1_000_000, "XL330-M288")
    with pytest.raises(UserError, match="an ID of a Dynamixel X servo is 0 to 252, got 253"):
        assign(open_port, [servo], id=253)
    servos[0].power_up()
    assert [(one.id, one.baud) for one in scan(open_port, [DYNAMIXEL])] == [(3, 1_000_000), (7, 1_000_000)]


def test_one_of_several_that_differ():
    bench = Bench({"id": 1}, {"id": 2}, {"id": 3})
    found = bench.scan()
    with pytest.raises(UserError, match="several servos answer .*or say which with --id"):
        assign(bench.open, found, id=9)
    with pytest.raises(UserError, match="the ID 3 is taken"):
        assign(bench.open, found, only=2, id=3)
    with pytest.raises(UserError, match="no servo answers with ID 8; there is STS3215 with ID 1"):
        assign(bench.open, found, only=8, id=9)
    assert [servo.id for servo in bench.servos] == [1, 2, 3], "nothing was written"
    assign(bench.open, found, only=2, id=9)
    assert [servo.id for servo in bench.servos] == [1, 9, 3]


def test_what_cannot_be_is_refused_before_anything_is_written():
    bench = Bench({"id": 1})
    before = bench.memory()
    found = bench.scan()
    for change, words in (
        ({"id": 254}, "ID of a Feetech STS servo is 0 to 253, got 254"),
        ({"id": -1}, "got -1"),
        ({"baud": 57_601}, "not at 57601"),
        ({"baud": 2_000_000}, "not at 2000000"),
    ):
        with pytest.raises(UserError, match=words):
            assign(bench.open, found, **change)
    with pytest.raises(HardwareError, match="no servo answers at any baud rate"):
        assign(bench.open, (), id=3)
    assert bench.memory() == before


def test_a_servo_that_holds_its_joint_is_left_alone():
    bench = Bench({"id": 1})
    bench.servos[0].write(40, b"\x01")
    found = bench.scan()
    assert found[0].torque
    with pytest.raises(UserError, match="holds its joint"):
        assign(bench.open, found, id=2)
    assert bench.servos[0].id == 1


def test_a_change_that_does_not_take_is_reported():
    bench = Bench({"id": 1})
    found = bench.scan()
    bench.line.overhear = lambda data, now: b"" if data[4:5] == b"\x03" and data[5:6] == b"\x05" else data
    with pytest.raises(HardwareError, match="does not answer with ID 2 at 1000000 baud after the change"):
        assign(bench.open, found, id=2)


def test_a_rate_that_the_adapter_does_not_know_is_skipped_unless_it_knows_none():
    bench = Bench({"id": 1})

    def picky(baud: int) -> SteppedPort:
        if baud != 1_000_000:
            raise PortUnavailable(f"cannot open at {baud} baud")
        return bench.open(baud)

    assert len(scan(picky, [FEETECH])) == 1

    def busy(baud: int) -> SteppedPort:
        raise PortUnavailable("busy")

    with pytest.raises(PortUnavailable, match="busy"):
        scan(busy, [FEETECH])


def test_the_port_that_went_away_and_came_back():
    assert find_unplugged(["a", "b"], ["b"], ["a", "b"]) == "a"
    assert find_unplugged(["a", "b"], ["b"], ["b", "c"]) == "c", "under another name"
    with pytest.raises(UserError, match="no serial device went away"):
        find_unplugged(["a"], ["a"], ["a"])
    with pytest.raises(UserError, match="a, b went away and a, b came back"):
        find_unplugged(["a", "b"], [], ["a", "b"])
    with pytest.raises(UserError, match="a went away and nothing came back"):
        find_unplugged(["a"], [], [])
