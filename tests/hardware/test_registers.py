"""The register table against an independent machine-readable one, and its encodings in closed form."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.feetech.registers import MODEL, STS3215, status_names
from hardware.registers import Register, RegisterTable
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
    assert rustypot.Sts3215PyController.definition().models["STS3215"] == MODEL


@given(st.sampled_from(list(STS3215.values())), st.data())
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
    assert page.read_text() == STS3215.markdown(), "write STS3215.markdown() to docs/registers.md"


def test_status_names() -> None:
    assert status_names(0b100101) == ("voltage", "temperature", "overload")
