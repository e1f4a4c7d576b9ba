"""A slice of benchmarks/fuzz.py: random and damaged bytes against parsers and a whole arm."""

import numpy as np
import pytest

from hardware.emulator.faults.fuzzing import MUTATIONS, FuzzReport, fuzz_arm, fuzz_parser
from hardware.servos.family import FAMILIES
from tests.hardware.conftest import ArmRig


@pytest.mark.parametrize("name", FAMILIES)
def test_random_and_damaged_bytes(name: str) -> None:
    """No exception, no hang, nothing accepted that was not in the stream with the right checksum."""
    report = fuzz_parser(FAMILIES[name], 400_000, seed=1)
    assert report.bytes >= 400_000 and min(report.damaged[kind] for kind in MUTATIONS) > 500
    assert report.recovered >= 0.995 * report.intact
    damaged = sum(report.damaged.values())
    if name == "dynamixel":
        # A 16-bit CRC: one in 65,536 of what is damaged beyond its guarantees.
        assert sum(report.passed.values()) <= 1 + damaged / 5000
    else:
        blind = ("compensate", "swap")  # what a plain sum cannot see
        assert report.passed["compensate"] > 0.3 * report.damaged["compensate"]
        others = sum(count for kind, count in report.passed.items() if kind not in blind)
        assert others < 0.02 * damaged


def test_damaged_replies_on_a_line(arm_rig: ArmRig) -> None:
    """A third of all replies damaged: what the arm believes is right but for a fraction of a per cent."""
    arm_rig.arm.identify()
    arm_rig.arm.configure()
    arm_rig.plant.advance = lambda time: None
    report = fuzz_arm(arm_rig.arm, arm_rig.line, arm_rig.plant, arm_rig.clock, 150_000, seed=1)
    assert report.readings > 2000 and sum(report.damaged.values()) > 1000
    assert report.wrong / report.readings < 0.005
    # A servo at full speed comes as far in the time between two good readings.
    assert report.worst < 0.6


def test_reports_add_up() -> None:
    one, two = fuzz_parser(FAMILIES["feetech"], 5000, 1), fuzz_parser(FAMILIES["feetech"], 5000, 2)
    total = FuzzReport()
    total.add(one)
    total.add(two)
    assert total.bytes == one.bytes + two.bytes and total.damaged == one.damaged + two.damaged
    assert FuzzReport.from_dict(total.as_dict()) == total
    again = fuzz_parser(FAMILIES["feetech"], 5000, 1)
    assert again == one and np.isfinite(total.worst)
