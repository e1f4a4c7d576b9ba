"""Whose arm is on the bus: the right servos, each where the robot's file and the calibration say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.servos.bus import ServoBus
from hardware.servos.family import ServoFamily, family_of, joint_models
from sim2real.calibration import RESOLUTION, Calibration
from sim2real.errors import BusError, UserError
from sim2real.robot import Robot

CHECK_TIMEOUT = 0.3
"""s that a servo has for an answer, retries included, while nothing moves."""

CALIBRATED = {
    "min_position_limit": "range_min",
    "max_position_limit": "range_max",
    "homing_offset": "homing_offset",
}
"""Register by the calibration file's key that it must equal."""


@dataclass(frozen=True)
class ServoIdentity:
    """What one servo says about itself."""

    joint: str
    id: int
    model: int
    firmware: str
    registers: Mapping[str, int]


def identify(robot: Robot, bus: ServoBus) -> tuple[ServoIdentity, ...]:
    """Ask every servo of the robot who it is and how it is set up; nothing but that is changed.

    Raises BusError that lists which servos answered and which did not, UserError for other models or modes.
    """
    family, models = family_of(robot), joint_models(robot)
    bus.settle([joint.servo_id for joint in robot.joints])
    missing, found = [], []
    for joint in robot.joints:
        who = f"{joint.name} (ID {joint.servo_id})"
        try:
            bus.ping(joint.servo_id, CHECK_TIMEOUT)
            found.append(who)
        except BusError:
            missing.append(who)
    if missing:
        check = f"check power and cables, that the bus runs at {robot.baud} baud, and that the IDs are as expected"
        if not found:
            raise BusError(
                f"no servo of {robot.name} answers{bus.remark}; {check} (`sim2real setup --port PORT` looks for any "
                "servo)"
            )
        raise BusError(f"no answer from {', '.join(missing)}; found {', '.join(found)}; {check}")
    bus.prepare([joint.servo_id for joint in robot.joints])
    identities = tuple(_ask(family, bus, joint.name, joint.servo_id) for joint in robot.joints)
    wrong = [
        f"{one.joint} (ID {one.id}) is model {_called(family, one.model)}, not {model.number} ({model.name})"
        for one, model in zip(identities, models, strict=True)
        if one.model != model.number
    ]
    if wrong:
        raise UserError(f"{'; '.join(wrong)}: is this another robot's bus than {robot.name}'s?")
    for one in identities:
        _check_setup(robot, family, one)
    return identities


def _called(family: ServoFamily, number: int) -> str:
    model = family.model_by_number(number)
    return f"{number} ({model.name})" if model else str(number)


def _ask(family: ServoFamily, bus: ServoBus, joint: str, id: int) -> ServoIdentity:
    values = {}
    # The settings lie far apart in some memories; each gap would cost more than another request.
    for name in family.settings:
        values[name] = bus.read(id, name, CHECK_TIMEOUT)
    firmware = ".".join(str(values[name]) for name in family.firmware)
    return ServoIdentity(joint, id, values["model_number"], firmware, values)


def _check_setup(robot: Robot, family: ServoFamily, one: ServoIdentity) -> None:
    settings = servo_settings(robot, one.joint)
    mode = one.registers["operating_mode"]
    # A mode that the robot's file or the calibration asks for is written before use.
    if mode not in (family.position_mode, family.extended_mode) and "operating_mode" not in settings:
        raise UserError(
            f"{one.joint} (ID {one.id}) is in operating mode {mode}, not in position mode "
            f"({family.position_mode}): set register operating_mode to {family.position_mode}"
        )


def servo_settings(robot: Robot, joint: str, calibration: Calibration | None = None) -> dict[str, int]:
    """Registers that the robot's file asks for, of one joint; with a calibration also the mode that it needs."""
    settings = {**robot.servo_settings.get("all", {}), **robot.servo_settings.get(joint, {})}
    family = family_of(robot)
    if calibration is None or family.extended_mode is None:
        return settings
    if settings.get("operating_mode", family.position_mode) == family.position_mode:
        i = calibration.names.index(joint)
        fields = (calibration.homing_offset, calibration.range_min, calibration.range_max)
        settings["operating_mode"] = family.mode_for(*(int(field[i]) for field in fields))
    return settings


def counted_beyond(
    robot: Robot, bus: ServoBus, calibration: Calibration, modes: Sequence[int]
) -> NDArray[np.int64]:
    """(n,) ticks by which what the servos report now exceeds what the calibration calls the same position.

    Servos with an extended mode forget whole turns when they restart, so that they may be turns away from where
    they were calibrated; one in position mode leaves out an offset that is too large for it. `modes` are the
    operating modes. Raises BusError when a servo does not answer.
    """
    family, beyond = family_of(robot), np.zeros(robot.n, dtype=np.int64)
    if family.extended_mode is None:
        return beyond
    for i, joint in enumerate(robot.joints):
        stored = int(calibration.homing_offset[i])
        left_out = family.offset_sign * (stored - family.used_offset(modes[i], stored))
        present = bus.read(joint.servo_id, "present_position", CHECK_TIMEOUT) + left_out
        middle = (calibration.range_min[i] + calibration.range_max[i]) / 2
        beyond[i] = RESOLUTION * round((present - middle) / RESOLUTION) - left_out
    return beyond


def disagreements(identities: tuple[ServoIdentity, ...], calibration: Calibration) -> list[str]:
    """Where servos and file differ: joint, register and both values."""
    wrong = []
    for one, entry in zip(identities, calibration.table().values(), strict=True):
        for register, key in CALIBRATED.items():
            if one.registers[register] != entry[key]:
                wrong.append(
                    f"{one.joint}: {register} is {one.registers[register]} in the servo, "
                    f"{key} is {entry[key]} in the file"
                )
        if (reversed_ := _reversed_by_servo(one)) is not None and reversed_ != entry["drive_mode"]:
            wrong.append(
                f"{one.joint}: the servo's drive mode is {'reversed' if reversed_ else 'normal'}, "
                f"drive_mode is {entry['drive_mode']} in the file"
            )
    return wrong


def compare(identities: tuple[ServoIdentity, ...], calibration: Calibration) -> None:
    """Raises UserError that names joint, register and both values where a servo disagrees with the file."""
    wrong = disagreements(identities, calibration)
    if wrong:
        more = (
            f"; {len(wrong) - 3} more: see `sim2real check-calibration FILE --port PORT`"
            if len(wrong) > 3
            else ""
        )
        raise UserError(
            f"the servos' stored limits disagree with the calibration file ({'; '.join(wrong[:3])}{more}): "
            "use the file that was made with this arm, leave it out to use what the servos store, "
            "or calibrate again"
        )


def stored_calibration(robot: Robot, identities: tuple[ServoIdentity, ...]) -> Calibration:
    """The calibration that the servos store. Raises UserError when it cannot be one."""
    table = {
        one.joint: {
            "id": one.id,
            "drive_mode": _reversed_by_servo(one) or 0,
            **{key: one.registers[register] for register, key in CALIBRATED.items()},
        }
        for one in identities
    }
    try:
        return Calibration.create(table, robot, "what the servos store")
    except UserError as error:
        raise UserError(f"{error}; or give this arm's calibration file (--calibration)") from None


def _reversed_by_servo(one: ServoIdentity) -> int | None:
    """Whether the servo itself turns the direction round; None for one that cannot."""
    mode = one.registers.get("drive_mode")
    return None if mode is None else mode & 1


def write_settings(
    robot: Robot, bus: ServoBus, calibration: Calibration | None = None, *, permanent: bool
) -> None:
    """Write what differs from the robot's file, verified. Without `permanent` only what a loss of power takes
    away; with it the torque must be off."""
    for joint, model in zip(robot.joints, joint_models(robot), strict=True):
        id, wanted = joint.servo_id, servo_settings(robot, joint.name, calibration)
        stored = {name: value for name, value in wanted.items() if model.table[name].area == "eeprom"}
        if permanent:
            differing = _differing(bus, id, stored)
            if differing:
                bus.write_permanently(id, differing)
        # After those: another operating mode brings other gains.
        volatile = {name: value for name, value in wanted.items() if name not in stored}
        for name, value in _differing(bus, id, volatile).items():
            bus.write(id, name, value, CHECK_TIMEOUT, verify=True)


def _differing(bus: ServoBus, id: int, wanted: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in wanted.items() if bus.read(id, name, CHECK_TIMEOUT) != value}
