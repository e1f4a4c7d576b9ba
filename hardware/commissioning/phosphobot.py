"""Calibrations made with phosphobot: what they hold, and what is left to do."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.calibration import RADIANS_PER_TICK, Calibration
from sim2real.calibration_checks import RESOLUTION, REVERSING
from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]

SAME_ROBOT: Mapping[str, Sequence[str]] = {"so-100": ("so100", "so101"), "koch-v1.1": ("koch",)}
"""Our robots by phosphobot's names."""

USUAL_SIGNS: Mapping[str, Sequence[int]] = {"so-100": (-1, 1, 1, 1, 1, 1)}
"""phosphobot's signs of an arm that is put together as usual: its model of the SO-100 turns the first joint the
other way than ours. For other arms it is not known how its model differs."""


def from_phosphobot(
    table: Mapping[str, object], robot: Robot, offsets: Sequence[int] | None = None, source: str = "the file"
) -> tuple[Calibration, list[str]]:
    """A calibration from phosphobot's file, and what must still be done or checked.

    phosphobot stores for each servo the tick of the joint's zero (`servos_offsets`), a sign, and the tick of one
    other pose (`servos_calibration_position`, for the gripper: open); angle = sign · (tick − zero) · 2π / 4095. It
    has no ranges: those of the URDF around the zero stand in for them. `offsets` are the homing offsets that the
    servos store, which its ticks are meant with. Raises UserError for another robot's file or malformed values.
    """
    name = str(table.get("name"))
    if name in SAME_ROBOT and robot.name not in SAME_ROBOT[name]:
        raise UserError(
            f"{source} is phosphobot's calibration of '{name}', not of {robot.name}; "
            f"use --robot {' or '.join(SAME_ROBOT[name])}"
        )
    zeros = _numbers(table, "servos_offsets", robot, source)
    signs = _numbers(table, "servos_offsets_signs", robot, source)
    others = _numbers(table, "servos_calibration_position", robot, source)
    if not np.isin(signs, (-1, 1)).all():
        raise UserError(f"{source}: servos_offsets_signs must be 1 or -1, got {signs.tolist()}")
    usual = USUAL_SIGNS.get(name)
    reversed_ = signs * (np.ones(robot.n) if usual is None else np.array(usual)) < 0
    if robot.gripper is not None:
        # The gripper's other pose is open, which says in which direction it opens.
        reversed_[robot.gripper] = zeros[robot.gripper] > others[robot.gripper]
    if robot.protocol in REVERSING:
        # Such a servo counts the other way once it has been told to turn round.
        base = 2.0 * np.array(offsets if offsets is not None else np.zeros(robot.n))
        zeros = np.where(reversed_, (base - zeros) % RESOLUTION, zeros)
        others = np.where(reversed_, (base - others) % RESOLUTION, others)
    entries = {}
    cut = []
    for i, joint in enumerate(robot.joints):
        if i == robot.gripper:
            ends = sorted((round(zeros[i]), round(others[i])))
        else:
            half = max(abs(robot.lower[i]), abs(robot.upper[i])) / RADIANS_PER_TICK
            room = min(zeros[i], RESOLUTION - 1 - zeros[i])
            if room < half:
                cut.append(joint.name)
                half = room
            ends = [round(zeros[i] - half), round(zeros[i] + half)]
        entries[joint.name] = {
            "id": joint.servo_id,
            "drive_mode": int(reversed_[i]),
            "homing_offset": 0 if offsets is None else int(offsets[i]),
            "range_min": ends[0],
            "range_max": ends[1],
        }
    todo = [
        "the ranges are those of the robot's description around phosphobot's zeros, not recorded: see that every joint "
        "can really go there, or record them with `sim2real calibrate --port PORT`"
    ]
    if offsets is None:
        todo.append(
            "the servos' homing offsets are not in the file and were taken as 0: import with --port to read them"
        )
    if usual is None:
        todo.append(
            f"directions and zeros are those of phosphobot's own model of '{name}', which may differ: see with "
            "`sim2real check-calibration FILE --port PORT --draw arm.png` that the arm stands as it is drawn"
        )
    if cut:
        todo.append(
            f"the range of {', '.join(cut)} is cut short by the end of the encoder: calibrate by hand"
        )
    return Calibration.create(entries, robot, f"{source} (phosphobot)"), todo


def _numbers(table: Mapping[str, object], key: str, robot: Robot, source: str) -> Array:
    values = table.get(key)
    if (
        not isinstance(values, list)
        or len(values) != robot.n
        or not all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in values)
    ):
        raise UserError(
            f"{source}: {key} must be {robot.n} numbers, one for each joint of {robot.name}, got {values!r}"
        )
    return np.array(values, dtype=np.float64)
