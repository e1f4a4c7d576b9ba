"""Calibrations made with phosphobot."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hardware.commissioning.phosphobot import from_phosphobot
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.robot import Robot

PHOSPHO = {
    "name": "so-100",
    "servos_voltage": 6.0,
    "servos_offsets": [2045.0, 2049.0, 2048.0, 2048.0, 2047.0, 2048.0],
    "servos_calibration_position": [1067.0, 3085.0, 1139.0, 949.0, 3146.0, 3274.0],
    "servos_offsets_signs": [-1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "pid_gains": [],
}


def test_phosphobots_zeros_are_taken_over():
    robot = Robot.load("so101")
    calibration, todo = from_phosphobot(PHOSPHO, robot, [5, -7, 0, 100, -100, 1])
    np.testing.assert_allclose(
        calibration.ticks_to_radians(PHOSPHO["servos_offsets"])[:5], 0, atol=2e-3, err_msg="zeros stay zeros"
    )
    assert calibration.homing_offset.tolist() == [5, -7, 0, 100, -100, 1]
    assert calibration.drive_mode.tolist() == [0] * 6, "an SO-100 put together as usual"
    lower, upper = calibration.limits
    assert (lower[:4] <= robot.lower[:4] + 2e-3).all() and (upper[:4] >= robot.upper[:4] - 2e-3).all()
    # Closed and open are in the file.
    assert (calibration.range_min[5], calibration.range_max[5]) == (2048, 3274)
    assert len(todo) == 1 and "not recorded" in todo[0]
    assert "taken as 0" in from_phosphobot(PHOSPHO, robot)[1][1]


def test_phosphobots_directions():
    robot = Robot.load("so101")
    turned = PHOSPHO | {"servos_offsets_signs": [-1, 1, -1, 1, 1, 1]}
    assert from_phosphobot(turned, robot)[0].drive_mode.tolist() == [0, 0, 1, 0, 0, 0]
    shut = PHOSPHO | {"servos_calibration_position": [1067, 3085, 1139, 949, 3146, 900]}
    calibration = from_phosphobot(shut, robot)[0]
    assert calibration.ticks_to_radians([2048] * 6)[5] == pytest.approx(robot.lower[5]), "closed is closed"
    unknown, todo = from_phosphobot(PHOSPHO | {"name": "my-arm"}, robot)
    assert unknown.drive_mode[0] == 1 and any("model of 'my-arm', which may differ" in text for text in todo)


def test_servos_that_turn_round_themselves_count_the_other_way():
    robot = Robot.load("koch")
    table = PHOSPHO | {"name": "koch-v1.1", "servos_offsets": [2081, 1905, 2112, 2075, 2048, 2013],
                       "servos_offsets_signs": [1, -1, -1, 1, -1, -1]}  # fmt: skip
    offsets = np.array([10, -20, 30, 0, 0, 5])
    calibration, _ = from_phosphobot(table, robot, offsets.tolist())
    assert calibration.drive_mode.tolist() == [0, 1, 1, 0, 1, 0]
    # What the servo said at a joint's zero, and says once it has been turned round.
    raw = np.array(table["servos_offsets"]) - offsets
    turned = np.where(calibration.drive_mode == 1, -raw, raw) + offsets
    np.testing.assert_allclose(calibration.ticks_to_radians(turned % 4096)[:5], 0, atol=2e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "koch-v1.1"}, "phosphobot's calibration of 'koch-v1.1', not of so101; use --robot koch"),
        ({"servos_offsets": [1.0] * 7}, "servos_offsets must be 6 numbers"),
        ({"servos_offsets": "all"}, "servos_offsets must be 6 numbers"),
        ({"servos_offsets_signs": [1, 1, 1, 1, 1, 0]}, "must be 1 or -1"),
        (
            {"servos_calibration_position": [float("nan")] * 6},
            "servos_calibration_position must be 6 numbers",
        ),
        ({"servos_offsets": [2045.0, 2049.0, 9000.0, 2048.0, 2047.0, 2048.0]}, "elbow_flex"),
    ],
)
def test_other_phosphobot_files_are_refused(change, words):
    with pytest.raises(UserError, match="the file") as caught:
        from_phosphobot(PHOSPHO | change, Robot.load("so101"))
    assert words in str(caught.value)


def test_every_real_phosphobot_file_is_taken_over_or_refused_with_a_reason():
    root = os.environ.get("SIM2REAL_REAL_DATA")
    if not root:
        pytest.skip("SIM2REAL_REAL_DATA is not set: no real calibration files to read")
    robot, read = Robot.load("so101"), 0
    for path in sorted(Path(root).glob("calibrations/*.json")):
        table = json.loads(path.read_text())
        if "servos_offsets" not in table:
            continue
        try:
            calibration, todo = from_phosphobot(table, robot, source=path.name)
        except UserError as error:
            assert path.name in str(error) and table["name"] != "so-100"
            continue
        read += 1
        assert todo and isinstance(calibration, Calibration)
    assert read > 0
