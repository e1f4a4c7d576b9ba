"""From a robot to its emulated servos: calibration, register contents, and which joint each one turns."""

import numpy as np

from hardware.emulator.feetech_servos import FeetechServo
from hardware.emulator.plant import Plant
from hardware.feetech.registers import BAUD_CODES, CENTRE, TICK, TICKS
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.robot import Robot

RANGE_MARGIN = 1.02
"""How much wider than the URDF's limits the emulated arm's calibrated range is; real ones are too."""


def emulated_calibration(robot: Robot) -> Calibration:
    """The calibration of the emulated arm: always the same for a robot, with offsets as a real arm has them."""
    table: dict[str, dict[str, int]] = {}
    for i, joint in enumerate(robot.joints):
        lower, upper = float(robot.lower[i]), float(robot.upper[i])
        shift = (joint.servo_id * 37) % 61 - 30  # no two joints are mounted alike
        if i == robot.gripper:
            span = round((upper - lower) * RANGE_MARGIN / TICK)
            low, high = CENTRE + shift - span // 2, CENTRE + shift - span // 2 + span
        else:
            # The zero is the middle of the range, so the range must reach as far to both sides.
            half = min(max(abs(lower), abs(upper)) * RANGE_MARGIN / TICK, CENTRE - 1)
            middle = CENTRE + (shift if half + abs(shift) < CENTRE - 1 else 0)
            low, high = round(middle - half), round(middle + half)
        table[joint.name] = {
            "id": joint.servo_id,
            "drive_mode": 0,
            "homing_offset": (joint.servo_id * 977) % 1801 - 900,
            "range_min": max(low, 0),
            "range_max": min(high, TICKS - 1),
        }
    return Calibration.create(table, robot, "the emulated arm's calibration")


def build_servos(robot: Robot, plant: Plant, calibration: Calibration) -> list[FeetechServo]:
    """One servo per joint, storing the limits and offsets of `calibration`.

    Raises UserError for a robot whose servos speak another protocol or whose baud rate they do not have.
    """
    if robot.protocol != "feetech":
        raise UserError(f"{robot.name} speaks '{robot.protocol}'; the emulator speaks 'feetech'")
    if robot.baud not in BAUD_CODES:
        raise UserError(
            f"{robot.name} runs at {robot.baud} baud; the servos know {', '.join(map(str, BAUD_CODES))}"
        )
    # The tick, not necessarily whole, at which each joint's angle is zero.
    sign = np.where(calibration.drive_mode == 1, -1, 1)
    zero = -sign * calibration.ticks_to_radians(np.zeros(robot.n)) / TICK
    servos = []
    for i, (joint, entry) in enumerate(zip(robot.joints, calibration.table().values(), strict=True)):
        values = {
            "baud_rate": BAUD_CODES.index(robot.baud),
            "return_delay_time": 0,
            "min_position_limit": entry["range_min"],
            "max_position_limit": entry["range_max"],
            "homing_offset": entry["homing_offset"],
        }
        offset = float(zero[i]) + entry["homing_offset"]
        servos.append(FeetechServo(joint.servo_id, plant, i, zero=offset, sign=int(sign[i]), values=values))
    return servos
