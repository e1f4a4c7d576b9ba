import dataclasses

import numpy as np
import pytest

from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot.grid import settle, spans
from sim2real.lerobot.units import find_units
from sim2real.robot import Robot
from tests.sim2real.lerobot.conftest import NAMES

SPANS = dict(zip(NAMES, (2590, 2391, 2240, 2396, 3830, 1830)))
"""An arm whose gripper opens wider than the URDF's."""


def arm_of(robot: Robot, found: dict[str, int]) -> Calibration:
    table = {
        name: {"id": i + 1, "drive_mode": 0, "homing_offset": 0, "range_min": 4095 // 2 - span // 2,
               "range_max": 4095 // 2 - span // 2 + span}
        for i, (name, span) in enumerate(found.items())
    }  # fmt: skip
    return Calibration.create(table, robot)


def states(robot: Robot, calibration: Calibration, readings: int = 300) -> np.ndarray:
    """(readings, n) normalised states of an arm that wanders, as they are stored."""
    rng = np.random.default_rng(1)
    ticks = np.rint(
        np.linspace(calibration.range_min + 300, calibration.range_min + 900, readings)
        + rng.uniform(-20, 20, (readings, robot.n))
    )
    values = calibration.radians_to_normalised(calibration.ticks_to_radians(ticks))
    return values.astype(np.float32).astype(np.float64)


def test_the_grid_of_the_states_is_the_calibration(robot: Robot) -> None:
    calibration = arm_of(robot, SPANS)
    stored = states(robot, calibration)
    stored[5] = 12.3456  # a read error
    stored[7:20, 1] = 100.0  # saturated
    assert spans(stored, robot) == SPANS
    found = find_units(stored, stored, robot, None, "auto", "x")
    assert found.units == "normalised"
    settled = settle(None, found.spans, "normalised", robot)
    assert settled is not None and settled.source == "data" and "wrist_roll 3830" in settled.remarks[0]
    np.testing.assert_allclose(
        settled.calibration.normalised_to_radians(stored),
        calibration.normalised_to_radians(stored),
        atol=1e-9,
    )


def test_few_readings_tell_no_range(robot: Robot) -> None:
    stored = states(robot, arm_of(robot, SPANS))
    stored[:, 3] = np.float32(stored[0, 3])
    found = spans(stored, robot)
    assert found == {name: span for name, span in SPANS.items() if name != "wrist_flex"}
    settled = settle(None, found, "normalised", robot)
    assert settled is not None and "wrist_flex do not tell" in settled.remarks[1]
    noise = np.random.default_rng(0).uniform(-50, 50, (300, robot.n))
    assert spans(noise, robot) == {}
    assert settle(None, {}, "normalised", robot) is None


def test_degrees_are_not_taken_for_a_grid_of_per_cent(robot: Robot) -> None:
    """Multiples of 360/4095 are whole ticks of a range of 2275, too."""
    calibration = arm_of(robot, SPANS)
    position = calibration.normalised_to_radians(states(robot, calibration))
    stored = calibration.radians_to_degrees(position).astype(np.float32).astype(np.float64)
    found = find_units(stored, stored, robot, None, "auto", "x")
    assert found.units == "degrees"
    # The gripper is in per cent all the same.
    settled = settle(None, found.spans, "degrees", robot)
    assert settled is not None and settled.source == "nominal"
    assert settled.calibration.range_max[5] - settled.calibration.range_min[5] == SPANS["gripper"]
    np.testing.assert_allclose(settled.calibration.degrees_to_radians(stored), position, atol=2e-3)


def test_a_file_of_other_ranges_is_told_and_mended(robot: Robot) -> None:
    calibration = arm_of(robot, SPANS)
    stored = states(robot, calibration)
    other = arm_of(robot, SPANS | {"elbow_flex": 2222})
    found = find_units(stored, stored, robot, other, "auto", "x")
    settled = settle(other, found.spans, found.units, robot)
    assert settled is not None
    assert (
        "elbow_flex 2240 ticks (the file: 2222)" in settled.remarks[0]
        and "shoulder" not in settled.remarks[0]
    )
    np.testing.assert_allclose(
        settled.calibration.normalised_to_radians(stored),
        calibration.normalised_to_radians(stored),
        atol=1e-9,
    )
    right = settle(calibration, found.spans, found.units, robot)
    assert right is not None and right.calibration is calibration and not right.remarks
    turned = dataclasses.replace(calibration, drive_mode=np.array([0, 0, 1, 0, 0, 1]))
    values = turned.radians_to_normalised(calibration.normalised_to_radians(stored))
    assert spans(values, robot) == SPANS


def test_a_wide_gripper_is_a_calibration_and_a_wrapped_one_is_none(robot: Robot) -> None:
    arm_of(robot, SPANS | {"gripper": 1940})
    with pytest.raises(UserError, match="gripper has a range of 2600"):
        arm_of(robot, SPANS | {"gripper": 2600})
