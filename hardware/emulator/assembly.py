"""From a robot to its emulated servos: calibration, register contents, and which joint each one turns."""

import numpy as np

from hardware.emulator.dynamixel.servo import OFFSET_LIMIT, DynamixelServo
from hardware.emulator.feetech.servo import FeetechServo
from hardware.emulator.plant import Plant
from hardware.emulator.servos import EmulatedServo, Thermal
from hardware.servos.family import DYNAMIXEL, family_of, joint_models
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.robot import Robot

RANGE_MARGIN = 1.02
"""How much wider than the URDF's limits the emulated arm's calibrated range is; real ones are too."""

CENTRE, TICKS = 2048, 4096
"""The middle and the number of counts of an encoder, of every family."""

THERMAL = {
    "XL330-M288": Thermal(resistance=3.4, rise=8.0, constant=120.0),
    "XL330-M077": Thermal(resistance=3.4, rise=8.0, constant=120.0),
    "XL430-W250": Thermal(resistance=8.6, rise=4.0, constant=200.0),
    "XM430-W350": Thermal(resistance=5.2, rise=3.0, constant=300.0),
}
"""By model: resistance from the stall current in the data sheet, the rest as plastic or metal cases of their size
warm up. Of other models, as the servo's class has it."""


def emulated_calibration(robot: Robot) -> Calibration:
    """The calibration of the emulated arm: always the same for a robot, with offsets as a real arm has them."""
    family = family_of(robot)
    table: dict[str, dict[str, int]] = {}
    for i, joint in enumerate(robot.joints):
        lower, upper = float(robot.lower[i]), float(robot.upper[i])
        shift = (joint.servo_id * 37) % 61 - 30  # no two joints are mounted alike
        if i == robot.gripper:
            span = round((upper - lower) * RANGE_MARGIN / family.tick)
            low, high = CENTRE + shift - span // 2, CENTRE + shift - span // 2 + span
        else:
            # The zero is the middle of the range, so the range must reach as far to both sides.
            half = min(max(abs(lower), abs(upper)) * RANGE_MARGIN / family.tick, CENTRE - 1)
            middle = CENTRE + (shift if half + abs(shift) < CENTRE - 1 else 0)
            low, high = round(middle - half), round(middle + half)
        low, high = max(low, 0), min(high, TICKS - 1)
        offset = (joint.servo_id * 977) % 1801 - 900
        if family is DYNAMIXEL:
            # These servos count one turn and forget which: the joint must not leave it.
            offset = min(max(offset, high - TICKS + 1, -OFFSET_LIMIT), low, OFFSET_LIMIT)
        table[joint.name] = {
            "id": joint.servo_id,
            "drive_mode": 0,
            "homing_offset": offset,
            "range_min": low,
            "range_max": high,
        }
    return Calibration.create(table, robot, "the emulated arm's calibration")


def build_servos(robot: Robot, plant: Plant, calibration: Calibration) -> list[EmulatedServo]:
    """One servo per joint, storing the limits and offsets of `calibration`.

    Raises UserError for a robot whose servos are of no known family or model, or whose baud rate they do not have.
    """
    family = family_of(robot)
    if robot.baud not in family.bauds:
        raise UserError(
            f"{robot.name} runs at {robot.baud} baud; {family.title} servos know "
            f"{', '.join(map(str, family.bauds))}"
        )
    # The tick, not necessarily whole, at which each joint's angle is zero.
    sign = calibration.sign
    zero = -sign * calibration.ticks_to_radians(np.zeros(robot.n)) / family.tick
    servos: list[EmulatedServo] = []
    entries = zip(robot.joints, calibration.table().values(), joint_models(robot), strict=True)
    for i, (joint, entry, model) in enumerate(entries):
        values = {
            "model_number": model.number,
            "baud_rate": family.bauds.index(robot.baud),
            "return_delay_time": 0,
            "min_position_limit": entry["range_min"],
            "max_position_limit": entry["range_max"],
            "homing_offset": entry["homing_offset"],
        }
        if "drive_mode" in model.table:
            values["drive_mode"] = entry["drive_mode"]
        actual = float(zero[i]) - family.offset_sign * entry["homing_offset"]
        if family is DYNAMIXEL:
            servos.append(
                DynamixelServo(
                    joint.servo_id,
                    plant,
                    i,
                    table=model.table,
                    zero=actual,
                    sign=int(sign[i]),
                    values=values,
                    thermal=THERMAL.get(model.name),
                )
            )
        else:
            servos.append(
                FeetechServo(joint.servo_id, plant, i, zero=actual, sign=int(sign[i]), values=values)
            )
    return servos
