"""The register table against an independent machine-readable one, and its encodings in closed form."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.documentation import registers_page
from hardware.servos.dynamixel.registers import TABLES, X_SERIES
from hardware.servos.family import FAMILIES, ServoFamily
from hardware.servos.feetech.registers import MODEL, STS3215
from hardware.servos.registers import Register, RegisterTable
from sim2real.errors import UserError


def test_agrees_with_rustypot() -> None:
    rustypot = pytest.importorskip("rustypot")
    theirs = rustypot.Sts3215PyController.registers()
    ours = {register.address: register for register in STS3215.values()}
    compared = 0
    for register in theirs:
        mine = ours.get(register.addr)
        if mine is None:
            continue
        compared += 1
        assert mine.size == register.size, register.name
        if register.sign_bit is not None:
            assert mine.sign_bit == register.sign_bit, register.name
        if mine.area != "factory":
            assert mine.writable == ("Write" in str(register.access)), register.name
    assert compared > 50
    models = rustypot.Sts3215PyController.definition().models
    assert models["STS3215"] == MODEL
    for model in FAMILIES["feetech"].models:
        assert models[model.name] == model.number == model.table["model_number"].default


@pytest.mark.parametrize(
    "controller, numbers", [("Xl330PyController", (1190, 1200)), ("Xl430PyController", (1060, 1020))]
)
def test_dynamixel_tables_agree_with_rustypot(controller: str, numbers: tuple[int, ...]) -> None:
    rustypot = pytest.importorskip("rustypot")
    theirs = getattr(rustypot, controller)
    assert set(numbers) <= set(theirs.definition().models.values())
    for number in numbers:
        ours = {register.address: register for register in TABLES[number].values()}
        compared = set()
        for register in theirs.registers():
            mine = ours.get(register.addr)
            # Theirs has names of other families at 38 and 44, and calls some readings writable.
            if mine is None or register.name in ("torque_limit", "moving_speed"):
                continue
            compared.add(register.addr)
            assert mine.size == register.size, register.name
            assert "Write" in str(register.access) or not mine.writable, register.name
        assert compared == set(ours)


def test_what_dynamixels_share_is_at_the_same_place() -> None:
    assert {"present_position", "goal_position", "torque_enable", "status", "bus_watchdog"} <= set(X_SERIES)
    assert "present_current" not in X_SERIES and "present_load" not in X_SERIES
    for table in TABLES.values():
        for register in X_SERIES.values():
            own = table[register.name]
            assert (own.address, own.size, own.encoding) == (
                register.address,
                register.size,
                register.encoding,
            )
            assert register.low <= own.low and own.high <= register.high


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_familys_registers_exist(family: ServoFamily) -> None:
    names = {*family.settings, *family.firmware, family.max_torque, family.torque_limit}
    names |= {"goal_position", "torque_enable", "present_position", "id", "baud_rate", "status"}
    names |= {family.watchdog} - {None}
    assert names <= set(family.table)
    for model in family.models:
        assert family.model(model.name) is model and family.model_by_number(model.number) is model
        assert "present_load" in model.table or "present_current" in model.table
    for reading in (family.fast, *family.wide):
        assert all(any(name in model.table for model in family.models) for name in reading)
    with pytest.raises(UserError, match=rf"no {family.title} servo called 'AX-12'; known are"):
        family.model("AX-12")


def test_status_bits_of_all_families_mean_the_same() -> None:
    assert FAMILIES["feetech"].common_status[0b101011] == 0b101011
    assert FAMILIES["dynamixel"].common_status[0b001000] == 0b000010
    assert FAMILIES["dynamixel"].common_status[0b110101] == 0b110101
    assert FAMILIES["dynamixel"].status_names(0b11000) == ("encoder", "electrical shock")


_ALL = [register for table in (STS3215, *TABLES.values()) for register in table.values()]


@given(st.sampled_from(_ALL), st.data())
def test_every_allowed_value_survives_the_wire(register: Register, data: st.DataObject) -> None:
    value = data.draw(st.integers(register.low, register.high))
    raw = register.encode(value)
    assert len(raw) == register.size
    assert register.decode(raw) == value


def test_sign_magnitude_in_closed_form() -> None:
    assert STS3215["homing_offset"].encode(-1) == bytes((0x01, 0x08))
    assert STS3215["homing_offset"].encode(2047) == bytes((0xFF, 0x07))
    assert STS3215["present_velocity"].decode(bytes((0x02, 0x80))) == -2
    assert STS3215["present_load"].decode(bytes((0xE8, 0x07))) == -1000
    assert STS3215["goal_position"].encode(4095) == bytes((0xFF, 0x0F))


def test_twos_complement_in_closed_form() -> None:
    assert X_SERIES["bus_watchdog"].decode(b"\xff") == -1
    assert X_SERIES["homing_offset"].encode(-2) == b"\xfe\xff\xff\xff"
    assert TABLES[1200]["present_current"].decode(b"\x18\xfc") == -1000


def test_refuses_what_the_servo_cannot_hold() -> None:
    with pytest.raises(UserError, match=r"torque_limit takes 0 to 1000.*got 1001"):
        STS3215["torque_limit"].encode(1001)
    with pytest.raises(UserError, match=r"no register called 'p_gain'; it has .*p_coefficient"):
        STS3215["p_gain"]


def test_overlaps_are_found() -> None:
    with pytest.raises(ValueError, match="overlap"):
        RegisterTable("x", (Register("a", 4, 2), Register("b", 5, 1)))


def test_documentation_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "registers.md"
    assert page.read_text() == registers_page(), "python -m hardware.documentation > docs/registers.md"


def test_status_names() -> None:
    assert FAMILIES["feetech"].status_names(0b100101) == ("voltage", "temperature", "overload")
