"""Faults by name: what is understood, what is refused, and that each does what the catalogue says."""

import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.arm.serial_arm import open_bus
from hardware.emulator.faults.catalogue import CATALOGUE, Place, markdown
from hardware.emulator.faults.effects import EFFECTS
from hardware.emulator.faults.fault import Fault, parse_fault
from hardware.emulator.faults.injector import FaultInjector
from hardware.emulator.launch import start_emulator
from hardware.emulator.tell import tell
from pipelines.reliability.proving import ProvingRig
from pipelines.reliability.stand_ins import SteppedPlug
from sim2real.errors import BusError, Sim2RealError, UserError
from sim2real.robot import Robot
from tests.hardware.conftest import ArmRig
from tests.hardware.conftest import Rig as BusRig

ROOT = Path(__file__).parents[2]


def test_a_fault_is_what_its_text_says() -> None:
    fault = parse_fault(" mute:id=3, at=5.0,for=0.2 ")
    assert fault == Fault("mute", 5.0, 0.2, {"id": 3.0})
    assert fault.end == pytest.approx(5.2) and fault["id"] == 3 and fault.after == "torque"
    assert parse_fault("brown_out").lasts == CATALOGUE["brown_out"].lasts
    assert parse_fault("bit_flip:for=inf").lasts == float("inf")


@given(
    name=st.sampled_from(sorted(CATALOGUE)),
    at=st.floats(0, 1e5),
    lasts=st.floats(1e-3, 1e5) | st.just(float("inf")),
    after=st.sampled_from(["torque", "start"]),
    data=st.data(),
)
def test_text_and_fault_are_the_same(name, at, lasts, after, data) -> None:
    values = {p.name: data.draw(st.floats(p.low, p.high)) for p in CATALOGUE[name].parameters}
    fault = Fault(name, at, lasts, values, after)
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no fault ''; faults are bit_flip, truncate"),
        ("mut:id=3", "did you mean 'mute'"),
        ("mute:servo=3", "no parameter 'servo'; it takes id (servo ID; 3 unless given), at (s), for (s; 0.2"),
        ("mute:id", "'id' is not of the form key=value"),
        ("mute:id=", "'id=' is not of the form key=value"),
        ("mute:id=three", "id must be a number, got 'three'"),
        ("mute:id=nan", "id must be a number, got 'nan'"),
        ("mute:id=300", "id must be between 1 and 253, got 300"),
        ("mute:id=3,id=4", "id is given twice"),
        ("mute:at=-1", "'at' is a time of 0 s or more"),
        ("mute:for=0", "'for' a duration above 0 s"),
        ("late:ms=inf", "ms must be between 0 and 1000 ms, got inf"),
        ("mute:after=noon", "'after' is torque or start, got 'noon'"),
    ],
)
def test_mistakes_are_explained(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_fault(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_arm_refuses_faults_it_cannot_have(rig: BusRig) -> None:
    injector = FaultInjector(rig.line, places={Place.BUS, Place.SERVO, Place.PORT})
    with pytest.raises(UserError, match=r"there is no servo 9; the arm has \[1, 2, 3, 4, 5, 6\]"):
        injector.add(Fault("mute", values={"id": 9}))
    with pytest.raises(UserError, match=r"acts on the policy, which is not part of the emulated arm"):
        injector.add(Fault("policy_nan"))
    with pytest.raises(UserError, match=r"acts on the port"):
        injector.add(Fault("unplug"))
    with pytest.raises(UserError, match=r"there is no servo 3.5"):
        injector.add(Fault("mute", values={"id": 3.5}))
    with pytest.raises(
        UserError, match=r"acts on dynamixel servos, but those of the emulated arm are feetech"
    ):
        injector.add(Fault("watchdog_trip"))


def test_the_table_in_the_manual_is_the_catalogue() -> None:
    assert markdown() in (ROOT / "docs" / "safety.md").read_text()


def test_every_fault_names_tests_that_are_in_the_file_it_says() -> None:
    for kind in CATALOGUE.values():
        assert kind.tests
        for named in kind.tests:
            file, test = named.split("::")
            text = (ROOT / "tests" / "hardware" / file).read_text()
            assert re.search(rf"^def {test}\(", text, re.MULTILINE), f"{kind.name}: {named}"


def test_every_fault_of_the_arm_has_an_effect() -> None:
    own = {kind.name for kind in CATALOGUE.values() if kind.place in (Place.BUS, Place.PORT, Place.SERVO)}
    assert own == set(EFFECTS)


def test_time_counts_from_torque_or_from_the_start(rig: BusRig) -> None:
    faults = [parse_fault("mute:id=1,at=0.5,for=0.1,after=start"), parse_fault("mute:id=2,at=0.2,for=0.1")]
    FaultInjector(rig.line, faults=faults)
    silent: dict[int, list[float]] = {0: [], 1: []}
    on_at = 0.0
    for tick in range(200):
        now = rig.port.now()
        if tick == 100:
            rig.bus.write(6, "torque_enable", 1)
            on_at = now
        for servo in silent:
            if rig.positions()[servo] == -1:
                silent[servo].append(now)
        rig.port.clock.sleep_until(now + 0.01)
    assert silent[0][0] == pytest.approx(0.5, abs=0.03) and silent[0][-1] == pytest.approx(0.6, abs=0.03)
    assert silent[1][0] == pytest.approx(on_at + 0.2, abs=0.03)
    assert silent[1][-1] == pytest.approx(on_at + 0.3, abs=0.03)


@pytest.mark.slow
@pytest.mark.realtime
def test_faults_of_a_running_emulator() -> None:
    """Told over its control URL: a servo falls silent, the camera goes black, the port disappears and comes back."""
    with start_emulator("so101") as emulator:
        robot = Robot.load("so101")

        def fault(text: str) -> tuple[int, str]:
            return tell("fault", emulator.port, fault=text)

        bus = open_bus(robot, emulator.port)
        ids = [joint.servo_id for joint in robot.joints]
        deadline = time.monotonic() + 60
        while not bus.sync_read(ids, 56, 2).valid.all():
            assert time.monotonic() < deadline
        assert fault("mute:id=3,for=600")[0] == 0
        while bus.sync_read(ids, 56, 2).valid.tolist() != [True, True, False, True, True, True]:
            assert time.monotonic() < deadline
        assert fault("camera_black:for=600")[0] == 0
        with urllib.request.urlopen(f"{emulator.control_url}/front.jpg", timeout=20) as answer:
            answer.read()  # one may have been on its way
        with urllib.request.urlopen(f"{emulator.control_url}/front.jpg", timeout=20) as answer:
            picture = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (480, 640, 3) and picture.max() < 10
        status, said = fault("mute:id=77")
        assert status == 2 and "there is no servo 77" in said
        status, said = fault("policy_nan")
        assert status == 2 and "not part of the emulated arm" in said
        assert fault("unplug:for=1")[0] == 0
        with pytest.raises(Sim2RealError):
            while time.monotonic() < deadline + 20:
                bus.ping(1)
        bus.close()
        while not Path(emulator.port).exists():
            assert time.monotonic() < deadline + 40
            time.sleep(0.05)
        bus = open_bus(robot, emulator.port)
        assert bus.ping(1, 20.0) == 0
        bus.close()


BUS = [kind.name for kind in CATALOGUE.values() if kind.place is Place.BUS]


@pytest.mark.parametrize("name", BUS)
def test_bus_faults_are_seen_and_pass(rig: BusRig, name: str) -> None:
    """While it lasts, the line's counters move or servos are missing; afterwards everything is as before."""
    truth = rig.positions()
    injector = FaultInjector(rig.line, seed=1)
    injector.add(Fault(name, lasts=2.0), rig.port.now())
    rig.bus.statistics.servos.clear()
    before = replace(rig.bus.statistics)
    missing = wrong = 0
    for _ in range(40):
        found = rig.positions()
        missing += found.count(-1)
        wrong += sum(a not in (b, -1) for a, b in zip(found, truth))
        if name == "ignore_writes":
            rig.bus.sync_write("goal_position", rig.ids, [100] * 6)
        rig.port.clock.sleep_until(rig.port.now() + 0.01)
    assert injector.begun and injector.active(name) is not None
    after = rig.bus.statistics
    noticed = (
        missing
        + sum(one.wrong_length + one.late for one in after.servos.values())
        + after.garbage - before.garbage + after.unexpected - before.unexpected
        + after.wrong_id - before.wrong_id + after.duplicates - before.duplicates
    )  # fmt: skip
    if name == "ignore_writes":
        assert all(servo.get("goal_position") != 100 for servo in rig.servos)
    elif name == "compensate":
        assert wrong > 0, "a sum cannot see it: plausibility must"
    else:
        assert noticed > 0 and (wrong == 0 or name == "wrong_id")
    rig.port.clock.sleep_until(rig.port.now() + 2.0)
    rig.positions()
    assert injector.quiet
    rig.port.clock.sleep_until(rig.port.now() + 0.1)
    rig.positions()
    assert rig.positions() == truth


@pytest.mark.parametrize("first", BUS)
def test_bus_faults_hit_what_others_have_left(rig: BusRig, first: str) -> None:
    """Each on top of each: whatever is left of a reply, the next fault takes it, and the line lives on."""
    truth = rig.positions()
    for second in sorted(set(BUS) - {first}):
        injector = FaultInjector(rig.line, seed=2)
        for name in (first, second):
            injector.add(Fault(name, lasts=0.1), rig.port.now())
        while not injector.quiet:
            rig.positions()
        assert [fault.name for fault in injector.begun] == [first, second]
    rig.port.clock.sleep_until(rig.port.now() + 0.3)
    rig.positions()
    assert rig.positions() == truth


def test_overlapping_faults_end_each_for_itself(arm_rig: ArmRig) -> None:
    arm = arm_rig.ready()
    injector = FaultInjector(arm_rig.line)
    servo = arm_rig.servos[2]
    own = type(servo).write
    injector.add(parse_fault("ignore_writes:id=3,for=1"), arm_rig.clock.now())
    injector.add(parse_fault("eeprom_locked:for=2"), arm_rig.clock.now())
    goal = arm_rig.plant.position.copy()
    arm_rig.run(0.3, goal + 0.2)
    assert abs(arm_rig.plant.position[2] - goal[2]) < 0.01 and abs(arm_rig.plant.position[1] - goal[1]) > 0.1
    arm_rig.run(1.2, goal + 0.2)
    assert abs(arm_rig.plant.position[2] - goal[2]) > 0.1, "it hears again"
    stored = servo.get("max_temperature_limit")
    with pytest.raises(BusError, match="max_temperature_limit"):
        arm.bus.write_permanently(3, {"max_temperature_limit": stored - 5})
    arm_rig.run(0.8)
    arm.bus.write_permanently(3, {"max_temperature_limit": stored - 5})
    assert servo.write.__func__ is own and injector.quiet


@pytest.mark.parametrize(
    "first, second",
    [("wrong_baud:id=3,for=1", "wrong_baud:for=2"), ("wrong_baud:for=2", "wrong_baud:id=3,for=1")],
)
def test_servos_at_a_wrong_rate_twice_come_back_to_the_right_one(
    arm_rig: ArmRig, first: str, second: str
) -> None:
    injector, now = FaultInjector(arm_rig.line), arm_rig.clock.now()
    servo = next(servo for servo in arm_rig.servos if servo.id == 3)
    right = servo.get("baud_rate")
    injector.add(parse_fault(first), now)
    injector.add(parse_fault(second), now)
    for after in (0.0, 0.5, 1.5):
        injector.advance(now + after)
        assert servo.get("baud_rate") != right, "one of them is still in effect"
    injector.advance(now + 2.5)
    assert injector.quiet and all(servo.get("baud_rate") == right for servo in arm_rig.servos)


def test_a_locked_eeprom_is_surfaced(arm_rig: ArmRig) -> None:
    """The setting that the arm needs is not taken: one error that names it; nothing moves."""
    servo = arm_rig.servos[3]
    name = next(n for n in arm_rig.robot.servo_settings["all"] if servo.table[n].area == "eeprom")
    servo._put(name, servo.table[name].low)
    FaultInjector(arm_rig.line).add(parse_fault("eeprom_locked"), arm_rig.clock.now())
    with pytest.raises(BusError, match=rf"{name}.*reads back"):
        arm_rig.arm.identify()
        arm_rig.arm.configure()
    assert not arm_rig.arm.enabled.any() and (arm_rig.plant.drive.mode == 0).all()


def test_a_port_under_another_name_is_identified_again() -> None:
    """Unplugged while it moves, back under another name: nothing arms, a new start finds the same arm."""
    rig = ProvingRig()
    try:
        rig.connect()
        identities = rig.arm.identities
        rig.arm.enable()
        rig.injector.add(parse_fault("rename:for=0.5"), rig.clock.now())
        with pytest.raises(Sim2RealError):
            for _ in range(10):
                rig.arm.observe()
        with pytest.raises(Sim2RealError, match="does not exist"):
            rig.connect()
        held = rig.plant.world.position
        rig.idle(1.0)
        assert rig.line.name != SteppedPlug(rig.bus, rig.clock).name
        assert rig.torque.all() and np.abs(rig.plant.world.position - held).max() < 0.05, "it holds"
        rig.connect()
        assert rig.arm.identities == identities and not rig.torque.any()
    finally:
        rig.close()
