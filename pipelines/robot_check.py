"""All that can be said of a robot's file without its arm: what `Robot.load` does not look at, because it takes the
tables of the servos, or because only a simulation needs it."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

import numpy as np

from hardware.runtime.control.monitors import Thresholds
from hardware.servos.family import ServoFamily, ServoModel, family_of, joint_models
from sim2real.errors import UserError, nearest
from sim2real.gate.shapes import collision_shapes
from sim2real.meshes import meshes, missing_collision
from sim2real.model.kinematics import tool_position
from sim2real.model.servo import nominal_parameters
from sim2real.robot import Robot
from sim2real.urdf_file import UrdfFile


def check_robot(robot: Robot) -> list[str]:
    """What is odd, but can be worked with. Raises UserError for what cannot: it names key, value and what may be."""
    where = f"robot '{robot.name}': "
    family = family_of(robot)
    try:
        _check_bus(robot, family)
        _check_registers(robot, family, joint_models(robot))
    except ValueError as error:
        raise UserError(f"{where}{error}") from None
    except UserError as error:
        raise UserError(f"{where}{error}") from None
    nominal_parameters(robot)
    _check_monitors(robot)
    cameras = robot.cameras
    file = UrdfFile(robot.urdf)
    collision_shapes(robot)
    return [
        *file.remarks,
        *_driven(file, robot),
        *_missing(file.root, robot),
        *_out_of_reach(robot),
        *_remarks(robot, bool(cameras)),
    ]


def _check_bus(robot: Robot, family: ServoFamily) -> None:
    if robot.baud not in family.bauds:
        listed = ", ".join(map(str, family.bauds))
        raise ValueError(f"baud = {robot.baud}: servos of the family '{family.name}' have {listed}")
    for joint in robot.joints:
        if not 0 <= joint.servo_id <= family.max_id:
            raise ValueError(
                f"joint {joint.name}: servo_id = {joint.servo_id}; the IDs of {family.title} servos are 0 to "
                f"{family.max_id}"
            )


def _check_registers(robot: Robot, family: ServoFamily, models: tuple[ServoModel, ...]) -> None:
    by_joint = dict(zip(robot.joint_names, models))
    for name, registers in robot.servo_settings.items():
        where = f"[servo_settings.{name}]"
        if name != "all" and name not in by_joint:
            known = ("all", *robot.joint_names)
            raise ValueError(
                f"{where} is none of the joints; known are {', '.join(known)}{nearest(name, known)}"
            )
        if not isinstance(registers, Mapping):
            raise ValueError(f"{where} must be a table of registers and their values, got {registers!r}")
        for model in models if name == "all" else (by_joint[name],):
            for register, value in registers.items():
                _check_register(model, register, value, where)


def _check_register(model: ServoModel, name: str, value: object, where: str) -> None:
    try:
        register = model.table[name]
        if not register.writable:
            raise UserError(f"register {name} can only be read")
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"register {name} takes a whole number, got {value!r}")
        register.encode(value)
    except UserError as error:
        raise UserError(f"{where} {error}") from None


def _check_monitors(robot: Robot) -> None:
    for name, value in robot.monitors.items():
        numbers = value.values() if isinstance(value, Mapping) else (value,)
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            raise UserError(
                f"robot '{robot.name}': [monitors] {name} must be a number, or numbers by joint; got {value!r}"
            )
    Thresholds.of(robot)


def _driven(file: UrdfFile, robot: Robot) -> list[str]:
    found = []
    for name in robot.joint_names:
        mimic = file.by_name[name].mimic
        if mimic is not None:
            found.append(
                f"{name} follows {mimic.joint} in the URDF; it is listed, so it has a servo of its own"
            )
    return found


def _missing(root: ElementTree.Element, robot: Robot) -> list[str]:
    unseen = []
    for mesh in meshes(root, robot.urdf):
        if mesh.problem and mesh.use == "collision":
            raise missing_collision(mesh, robot.urdf)
        if mesh.problem:
            unseen.append(
                f"the visual mesh '{mesh.filename}' of link '{mesh.link}' {mesh.problem}: it is not drawn"
            )
    return unseen


def _out_of_reach(robot: Robot) -> list[str]:
    found = []
    for name, pose in (("home", robot.home), ("rest", robot.rest)):
        distance = float(np.linalg.norm(tool_position(robot.model, pose)))
        if distance > robot.gate.reach:
            found.append(
                f"at '{name}' the tool is {distance:.3g} m from the base, beyond [gate] reach = {robot.gate.reach:g}: "
                "the gate will not let the arm stay there"
            )
    return found


def _remarks(robot: Robot, cameras: bool) -> list[str]:
    found = []
    if robot.model.sliding.any():
        found.append("joints that slide can be simulated; the drivers of serial servos do not move them")
    if not any(shape.link >= 0 for shape in collision_shapes(robot)):
        found.append(
            "no moving link has a box, cylinder, capsule or sphere as <collision>: the gate keeps the links' origins "
            "off the table and sees no self-collision"
        )
    if not cameras:
        found.append(
            "without [cameras] pictures are taken from a default place, and no object is detected in them"
        )
    return found
