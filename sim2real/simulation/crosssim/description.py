"""The arm, the table and the objects as MuJoCo describes them (MJCF), from the robot's URDF and the task's objects.

Each joint of the arm has two degrees of freedom about one axis: the motor with its armature, and behind it the play
of its gears, a hinge that is free between two stops. Collision shapes are those of the URDF, which must be
primitives. Contacts between what is handled and what handles it are declared pair by pair, because MuJoCo by itself
takes the larger of two friction coefficients, where they should be multiplied, and is so soft that fingers sink
millimetres into a light cube.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.objects import KINDS, ObjectSpec
from sim2real.primitives import Primitive
from sim2real.robot import Robot
from sim2real.urdf_file import UrdfFile

Array = NDArray[np.float64]
Element = ElementTree.Element

TIMESTEP = 1e-3
"""s"""
SOLREF = "0.004 1"
SOLIMP = "0.98 0.995 0.0005"
"""Of contacts with objects: a cube of 16 g and 25 mm between fingers at 30 N keeps its width to 0.3 mm. With MuJoCo's
defaults it has 5 mm left."""
STOPS = "0.004 1"
"""solref of joint limits."""
DRY = ("0.002 1", "0.99 0.999 0.001")
"""solref and solimp of dry friction: a joint at rest creeps by less than an encoder's tick in a second."""
ROLLING = (0.005, 1e-4)
"""Torsional friction, m, and rolling friction, m, of objects."""
PLAY_ARMATURE = 2e-4
"""kg·m² of the gear behind the play: without any, the light last links would rattle beyond what a step resolves."""
NO_PLAY = 1e-5
"""rad: joints without play have this much, since a hinge cannot be removed."""
ARM, TABLE, THING, BASE = 1, 2, 4, 8
"""Groups of shapes, as bits: the arm touches table and things but not itself, the base only things."""


@dataclass(frozen=True)
class Body:
    """What an arm in MuJoCo is made from: inertials (L, 10) as drawn, armature (n,) kg·m², full width of the play
    (n,) rad or m, and of each object that moves its spec in this size, mass kg, friction."""

    inertials: Array
    armature: Array
    play: Array
    things: Sequence[tuple[ObjectSpec, float, float]]
    table_friction: float
    table_height: float
    finger_friction: float
    gravity: Array


def finger_links(robot: Robot) -> dict[int, str]:
    """By number of a moving link: "finger" (the fixed one) or "jaw" (the one that the gripper's joint moves)."""
    model = robot.model
    if robot.gripper is None:
        return {model.links - 1: "finger"}
    row = int(model.rows[robot.gripper])
    others = [int(i) for i in np.flatnonzero(model.driver == robot.gripper) if i != row]
    return {others[0] if others else int(model.parents[row]): "finger", row: "jaw"}


def mjcf(robot: Robot, body: Body) -> str:
    """The description as XML. Raises UserError for a robot whose collision shapes are meshes."""
    model = robot.model
    root = ElementTree.Element("mujoco", model=robot.name)
    _add(root, "compiler", angle="radian", balanceinertia="true", autolimits="true", inertiafromgeom="false")
    options = {
        "timestep": TIMESTEP, "gravity": body.gravity, "integrator": "implicitfast", "cone": "elliptic",
        "impratio": 10.0, "iterations": 60, "tolerance": 1e-10,
    }  # fmt: skip
    _add(root, "option", **options)
    world = _add(root, "worldbody")
    _add(
        world, "geom", name="table", type="plane", size="2 2 0.1", pos=(0.0, 0.0, body.table_height),
        contype=TABLE, conaffinity=ARM | THING, friction=(body.table_friction, *ROLLING), solref=SOLREF, solimp=SOLIMP,
    )  # fmt: skip
    parts: list[Element] = []
    for i, name in enumerate(model.link_names):
        parent = int(model.parents[i])
        part = _add(
            world if parent < 0 else parts[parent], "body", name=name, pos=model.origins[i],
            quat=_quaternion(model.rotations[i]),
        )  # fmt: skip
        parts.append(part)
        row = body.inertials[i]
        mass, moments = max(float(row[0]), 1e-4), row[4:]
        if row[0] < 1e-4:
            moments = np.array([1e-7, 1e-7, 1e-7, 0.0, 0.0, 0.0])
        _add(part, "inertial", pos=row[1:4], mass=mass, fullinertia=moments)
        _joints(part, robot, i, body)
    for link, geometry in _shapes(robot):
        _add(world if link < 0 else parts[link], "geom", **geometry)
    for k, (spec, mass, friction) in enumerate(body.things):
        thing = _add(world, "body", name=f"object.{spec.name}", pos=(50.0 + k, 50.0, spec.rest))
        _add(thing, "freejoint", name=f"object.{spec.name}")
        _add(thing, "inertial", pos=(0.0, 0.0, 0.0), mass=mass, diaginertia=spec.inertia(mass))
        for j, shape in enumerate(spec.shapes):
            _add(
                thing, "geom", name=f"object.{spec.name}.{j}", **_primitive(shape), contype=THING,
                conaffinity=ARM | TABLE | THING | BASE, friction=(friction, *ROLLING),
                condim=6 if KINDS[spec.kind].rolls else 4, solref=SOLREF, solimp=SOLIMP,
            )  # fmt: skip
    _contacts(root, robot, body)
    _followers(root, robot)
    return ElementTree.tostring(root, encoding="unicode")


def _joints(part: Element, robot: Robot, link: int, body: Body) -> None:
    model = robot.model
    kind = "slide" if model.prismatic[link] else "hinge"
    j = int(model.driver[link])
    name = model.link_joints[link]
    if link != int(model.rows[j]):
        # A follower: its motor is another's.
        _add(part, "joint", name=name, type=kind, axis=model.axes[link], armature=1e-4, damping=1e-3)
        return
    _add(
        part, "joint", name=name, type=kind, axis=model.axes[link], armature=float(body.armature[j]),
        range=(float(model.lower[j]), float(model.upper[j])), solreflimit=STOPS, solreffriction=DRY[0],
        solimpfriction=DRY[1], frictionloss=1e-3,
    )  # fmt: skip
    half = max(float(body.play[j]), NO_PLAY) / 2
    _add(
        part, "joint", name=f"{name}.play", type=kind, axis=model.axes[link], armature=PLAY_ARMATURE,
        range=(-half, half), solreflimit=STOPS, damping=2e-3,
    )  # fmt: skip


def _shapes(robot: Robot) -> Iterator[tuple[int, dict[str, object]]]:
    """Of every collision shape the moving link that carries it (−1: the base), and its <geom>."""
    file = UrdfFile(robot.urdf)
    model = robot.model
    for element in file.root.findall("link"):
        link = str(element.get("name"))
        carrier, turn, origin = model.places[link]
        for k, shape in enumerate(element.findall("collision")):
            rotation, place = file.frame(shape, f"a collision shape of '{link}'")
            base = carrier < 0
            yield (
                carrier,
                {
                    "name": f"{link}.{k}",
                    "pos": turn @ place + origin,
                    "quat": _quaternion(turn @ rotation),
                    "contype": BASE if base else ARM,
                    "conaffinity": 0 if base else TABLE,
                    **_geometry(shape.find("geometry"), robot, link),
                },
            )


def _geometry(element: Element | None, robot: Robot, link: str) -> dict[str, object]:
    shape = None if element is None or len(element) == 0 else element[0]
    if shape is not None and shape.tag == "box":
        edges = [float(word) for word in str(shape.get("size")).split()]
        return {"type": "box", "size": [edge / 2 for edge in edges]}
    if shape is not None and shape.tag == "cylinder":
        return {
            "type": "cylinder",
            "size": [float(shape.get("radius", 0)), float(shape.get("length", 0)) / 2],
        }
    if shape is not None and shape.tag == "sphere":
        return {"type": "sphere", "size": [float(shape.get("radius", 0))]}
    raise UserError(
        f"{robot.urdf}: link '{link}' has a collision shape that is no box, cylinder or sphere; the MuJoCo engine "
        "takes primitive shapes only (--engine bullet takes meshes)"
    )


def _primitive(shape: Primitive) -> dict[str, object]:
    size = {
        "box": lambda: [edge / 2 for edge in shape.size],
        "cylinder": lambda: [shape.size[0], shape.size[1] / 2],
        "sphere": lambda: [shape.size[0]],
    }[shape.form]()
    half = shape.yaw / 2
    return {
        "type": shape.form,
        "size": size,
        "pos": shape.position,
        "quat": (math.cos(half), 0.0, 0.0, math.sin(half)),
    }


def _contacts(root: Element, robot: Robot, body: Body) -> None:
    """Pairs of an object and what handles it, with the product of their friction."""
    contact = _add(root, "contact")
    fingers = finger_links(robot)
    model = robot.model
    handlers = [("table", body.table_friction)]
    for link in (element.get("name") for element in UrdfFile(robot.urdf).root.findall("link")):
        if model.places[str(link)][0] in fingers:
            count = sum(1 for geom in root.iter("geom") if str(geom.get("name")).rpartition(".")[0] == link)
            handlers += [(f"{link}.{k}", body.finger_friction) for k in range(count)]
    for spec, _, friction in body.things:
        for j in range(len(spec.shapes)):
            for name, other in handlers:
                slide = friction * other
                _add(
                    contact, "pair", geom1=f"object.{spec.name}.{j}", geom2=name,
                    friction=(slide, slide, ROLLING[0], ROLLING[1], ROLLING[1]),
                    condim=6 if KINDS[spec.kind].rolls else 4, solref=SOLREF, solimp=SOLIMP,
                )  # fmt: skip


def _followers(root: Element, robot: Robot) -> None:
    model = robot.model
    equality = _add(root, "equality")
    for i in range(model.links):
        j = int(model.driver[i])
        if i != int(model.rows[j]):
            _add(
                equality, "joint", joint1=model.link_joints[i], joint2=model.link_joints[int(model.rows[j])],
                polycoef=(float(model.shift[i]), float(model.multiplier[i]), 0.0, 0.0, 0.0), solref=STOPS,
            )  # fmt: skip


def _add(parent: Element, tag: str, **attributes: object) -> Element:
    return ElementTree.SubElement(parent, tag, {key: _text(value) for key, value in attributes.items()})


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence | np.ndarray):
        return " ".join(repr(float(x)) for x in value)
    return repr(value)


def _quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """(w, x, y, z) of a rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat().tolist()
    return w, x, y, z


def by_object(
    values: Mapping[str, float], objects: Sequence[ObjectSpec]
) -> list[tuple[ObjectSpec, float, float]]:
    """Of each object that moves: its spec in the size that `values` say, its mass in kg and its friction."""
    return [
        (
            spec.scaled(values[f"object.{spec.name}.size"]),
            values[f"object.{spec.name}.mass"],
            values[f"object.{spec.name}.friction"],
        )
        for spec in objects
        if spec.moves
    ]
