import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real.calibration import RADIANS_PER_TICK, Calibration
from sim2real.errors import UserError
from sim2real.robot import Robot

RANGES = {
    "shoulder_pan": (704, 3392),
    "shoulder_lift": (876, 3221),
    "elbow_flex": (948, 3148),
    "wrist_flex": (931, 3165),
    "wrist_roll": (0, 4095),
    "gripper": (1322, 2774),
}


def table(**changes: dict[str, object]) -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = {
        name: {"id": i + 1, "drive_mode": 0, "homing_offset": 0, "range_min": low, "range_max": high}
        for i, (name, (low, high)) in enumerate(RANGES.items())
    }
    for name, change in changes.items():
        entries[name].update(change)
    return entries


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot.load("so101")


@pytest.fixture(scope="module")
def calibration(robot: Robot) -> Calibration:
    return Calibration.create(table(), robot)


def test_zero_is_the_middle_and_gripper_zero_its_lower_limit(calibration: Calibration, robot: Robot) -> None:
    middle = [(low + high) / 2 for low, high in RANGES.values()]
    middle[5] = RANGES["gripper"][0]
    expected = np.zeros(6)
    expected[5] = robot.lower[5]
    np.testing.assert_allclose(calibration.ticks_to_radians(middle), expected, atol=1e-12)


def test_a_tick_is_a_4096th_of_a_turn(calibration: Calibration) -> None:
    step = calibration.ticks_to_radians(np.full(6, 2001)) - calibration.ticks_to_radians(np.full(6, 2000))
    np.testing.assert_allclose(step, 2 * np.pi / 4096)


def test_limits_are_the_calibrated_range(calibration: Calibration) -> None:
    lower, upper = calibration.limits
    spans = np.array([high - low for low, high in RANGES.values()])
    np.testing.assert_allclose((upper - lower) / RADIANS_PER_TICK, spans)
    np.testing.assert_allclose(lower[:5], -upper[:5])
    np.testing.assert_array_equal(calibration.radians_to_ticks(lower), [r[0] for r in RANGES.values()])


def test_normalised_ends(calibration: Calibration) -> None:
    lower, upper = calibration.limits
    np.testing.assert_allclose(calibration.radians_to_normalised(lower), [-100] * 5 + [0], atol=1e-9)
    np.testing.assert_allclose(calibration.radians_to_normalised(upper), [100] * 6, atol=1e-9)
    np.testing.assert_allclose(calibration.radians_to_normalised(upper + 0.2), [100] * 6)
    assert np.all(calibration.radians_to_normalised(upper + 0.2, saturate=False) > 105)


def test_degrees_are_lerobots(calibration: Calibration) -> None:
    ticks = np.array([1000, 1100, 1200, 1300, 1400, 1500])
    degrees = calibration.radians_to_degrees(calibration.ticks_to_radians(ticks))
    middle = np.array([(low + high) / 2 for low, high in RANGES.values()])
    np.testing.assert_allclose(degrees[:5], ((ticks - middle) * 360 / 4095)[:5])
    np.testing.assert_allclose(degrees[5], (1500 - 1322) / (2774 - 1322) * 100)


def test_drive_mode_reverses(robot: Robot) -> None:
    plain = Calibration.create(table(), robot)
    turned = Calibration.create(table(elbow_flex={"drive_mode": 1}, gripper={"drive_mode": 1}), robot)
    ticks = np.array([1000, 1100, 1200, 1300, 1400, 1500])
    a, b = plain.ticks_to_radians(ticks), turned.ticks_to_radians(ticks)
    np.testing.assert_allclose(b[[0, 1, 3, 4]], a[[0, 1, 3, 4]])
    np.testing.assert_allclose(b[2], -a[2])
    # The far end of a reversed gripper is closed.
    assert turned.ticks_to_radians(np.full(6, 2774))[5] == pytest.approx(robot.lower[5])
    # As LeRobot: normalised values turn round, degrees do not.
    values = turned.radians_to_normalised(b)
    np.testing.assert_allclose(values[2], -plain.radians_to_normalised(a)[2])
    np.testing.assert_allclose(values[5], 100 - plain.radians_to_normalised(a)[5])
    np.testing.assert_allclose(turned.radians_to_degrees(b)[2], plain.radians_to_degrees(a)[2])
    np.testing.assert_allclose(turned.lower[:5], plain.lower[:5])


@given(
    values=st.lists(st.floats(-3, 3), min_size=6, max_size=6),
    modes=st.lists(st.sampled_from([0, 1]), min_size=6, max_size=6),
    units=st.sampled_from(["normalised", "degrees"]),
)
def test_conversions_round_trip(values: list[float], modes: list[int], units: str) -> None:
    robot = Robot.load("so101")
    calibration = Calibration.create(
        table(**{name: {"drive_mode": mode} for name, mode in zip(RANGES, modes)}), robot
    )
    position = np.array(values)
    inside = np.clip(position, *calibration.limits)
    back = calibration.to_radians(calibration.from_radians(inside, units), units)  # type: ignore[arg-type]
    np.testing.assert_allclose(back, inside, atol=1e-9)
    ticks = calibration.radians_to_ticks(position)
    assert np.all(np.abs(calibration.ticks_to_radians(ticks) - inside) <= RADIANS_PER_TICK / 2 + 1e-9)
    # Batches convert as rows do.
    batch = np.stack([inside, inside])
    np.testing.assert_array_equal(
        calibration.from_radians(batch, units)[1],  # type: ignore[arg-type]
        calibration.from_radians(inside, units),  # type: ignore[arg-type]
    )


def test_non_finite_angles_have_no_tick(calibration: Calibration) -> None:
    with pytest.raises(ValueError, match="finite"):
        calibration.radians_to_ticks([0, 0, np.nan, 0, 0, 0])


def test_saves_what_it_loads(calibration: Calibration, robot: Robot, tmp_path: Path) -> None:
    calibration.save(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == table()
    assert Calibration.load(tmp_path / "c.json", robot).table() == table()


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"elbow_flex": {"range_min": 0, "range_max": 4095}}, "wrapped"),
        ({"shoulder_pan": {"range_min": 1, "range_max": 4095}}, "wrapped"),
        ({"gripper": {"range_min": 800, "range_max": 3200}}, "it turns only about 1252"),
        ({"elbow_flex": {"range_min": 3148, "range_max": 948}}, "range_min < range_max"),
        ({"elbow_flex": {"range_min": -3}}, "range_min -3"),
        ({"wrist_roll": {"range_max": 4096}}, "range_max 4096"),
        ({"elbow_flex": {"range_max": 30.5}}, "whole number, got 30.5"),
        ({"elbow_flex": {"range_max": "3000"}}, "whole number, got '3000'"),
        ({"elbow_flex": {"range_max": float("nan")}}, "whole number"),
        ({"elbow_flex": {"drive_mode": 2}}, "drive_mode 2"),
        ({"elbow_flex": {"homing_offset": 5000}}, "homing_offset 5000"),
        ({"elbow_flex": {"id": 2}}, "shoulder_lift and elbow_flex both have the servo id 2"),
        ({"gripper": {"id": 9}}, "servo id 9, but so101 expects 6"),
    ],
)
def test_refuses_and_names_the_joint(change: dict[str, dict[str, object]], needle: str, robot: Robot) -> None:
    with pytest.raises(UserError) as caught:
        Calibration.create(table(**change), robot, source="my.json")
    assert needle in str(caught.value)
    assert "my.json" in str(caught.value)
    assert next(iter(change)) in str(caught.value)


def test_refuses_other_contents(robot: Robot, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no calibration file at"):
        Calibration.load(tmp_path / "absent.json", robot)
    path = tmp_path / "c.json"
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        Calibration.load(path, robot)
    cases: list[tuple[object, str]] = [
        ([], "not a calibration"),
        ({}, "lacks the joints"),
        ({k: v for k, v in table().items() if k != "gripper"}, "lacks the joint gripper"),
        (table() | {"elbow_roll": table()["gripper"]}, "does not have: elbow_roll"),
        (
            {f"{arm}_{name}": entry for arm in ("left", "right") for name, entry in table().items()},
            "of 2 arms (left, right)",
        ),
        (table() | {"gripper": 3}, "must be an object"),
        (table() | {"gripper": {"id": 6}}, "lacks drive_mode"),
        ({"motor_names": ["shoulder_pan"]}, "old format"),
    ]
    for content, needle in cases:
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=re.escape(needle)):
            Calibration.load(path, robot)


def test_of_a_file_that_holds_more_the_arms_part_is_read(robot: Robot, tmp_path: Path) -> None:
    """An arm on wheels, two arms, other spellings."""
    wheels = {
        f"base_{side}_wheel": table()["gripper"] | {"id": 7 + i}
        for i, side in enumerate(("left", "back", "right"))
    }
    both = {f"{arm}_{name}": entry for arm in ("left", "right") for name, entry in table().items()}
    both["left_gripper"] = both["left_gripper"] | {"homing_offset": 7}
    contents: list[tuple[dict[str, Any], str | None]] = [
        ({f"arm_{name}": entry for name, entry in table().items()} | wheels, None),
        (table() | wheels, None),
        ({name.replace("_", " ").title(): entry for name, entry in table().items()}, None),
        (both, "right"),
    ]
    for content, arm in contents:
        (tmp_path / "c.json").write_text(json.dumps(content))
        assert Calibration.load(tmp_path / "c.json", robot, arm).table() == table()
    assert Calibration.load(tmp_path / "c.json", robot, "left").table()["gripper"]["homing_offset"] == 7


def _real_files() -> list[Path]:
    root = os.environ.get("SIM2REAL_REAL_DATA")
    return (
        sorted(Path(root).glob("**/*calibration*.json")) + sorted(Path(root).glob("calibrations/*.json"))
        if root
        else []
    )


def test_every_real_calibration_is_read_or_refused_with_a_reason(robot: Robot) -> None:
    files = _real_files()
    if not files:
        pytest.skip("SIM2REAL_REAL_DATA is not set: no real calibration files to read")
    read = 0
    for path in files:
        content = json.loads(path.read_text())
        if "servos_offsets" in content:
            with pytest.raises(UserError, match="phosphobot"):
                Calibration.load(path, robot)
            continue
        calibration = Calibration.load(path, robot)
        read += 1
        assert calibration.table() == content
        lower, upper = calibration.limits
        # The calibrated range covers most of what the joint can turn.
        assert np.all(upper - lower > 0.85 * (robot.upper - robot.lower)[: len(upper)])
    assert read > 0
