"""Registers read together from servos of different kinds, against decoding one register at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hardware.servos.dynamixel.registers import TABLES
from hardware.servos.family import FAMILIES
from hardware.servos.feetech.registers import STS3215
from hardware.servos.spans import Span

MIXED = (TABLES[1060], TABLES[1200], TABLES[1060], TABLES[1190])


@given(st.data())
def test_every_column_is_what_the_register_says(data: st.DataObject) -> None:
    tables, names = data.draw(
        st.sampled_from(
            [((STS3215,) * 3, FAMILIES["feetech"].wide[0])]
            + [(MIXED, names) for names in FAMILIES["dynamixel"].wide]
        )
    )
    span = Span(tables, names)
    rows = [data.draw(st.binary(min_size=span.size + 2, max_size=span.size + 2)) for _ in tables]
    block = np.array([list(row) for row in rows], dtype=np.uint8)[:, : span.size]
    for name in names:
        for table, row, raw, value in zip(tables, rows, span.raw(block, name), span.value(block, name)):
            if name not in table:
                assert raw == 0 and np.isnan(value)
                continue
            register = table[name]
            at = register.address - span.address
            assert raw == register.decode(row[at : at + register.size])
            assert value == raw * register.scale


def test_a_span_is_as_long_as_it_must_be() -> None:
    fast = Span(MIXED, FAMILIES["dynamixel"].fast)
    assert (fast.address, fast.size) == (126, 10)
    fast = Span((STS3215,), FAMILIES["feetech"].fast)
    assert (fast.address, fast.size) == (56, 6)
    assert "present_load" in fast and "present_voltage" not in fast
