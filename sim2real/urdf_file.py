"""Reading a URDF: its links, joints and bodies, checked, whatever they are used for later.

What a mistake is, where it is and what to do about it is said here; `urdf.py` makes arrays of the joints that a
robot names.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError, nearest

Array = NDArray[np.float64]

MOVABLE = ("revolute", "continuous", "prismatic")
"""Kinds of joints that can be driven, or follow one that is."""
KINDS = (*MOVABLE, "fixed", "floating", "planar")
ROUNDED = 1.5
"""The largest moment of inertia may exceed the sum of the others by this factor: some vendors' files have that, and it
only makes the arm a little wrong."""
NARROWEST = 3e-4
WIDEST = 10.0
"""m; parts of an arm have a radius of gyration between these, or their inertia is in other units than kg·m²."""


@dataclass(frozen=True)
class Mimic:
    """A joint follows another: position = multiplier · the other's + offset (rad, or m)."""

    joint: str
    multiplier: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.multiplier) or not math.isfinite(self.offset):
            raise ValueError(f"multiplier and offset must be finite, got {self.multiplier} and {self.offset}")


@dataclass(frozen=True)
class UrdfJoint:
    """A joint as the file has it. `lower`, `upper` rad or m: ±π for continuous joints, NaN where none are given."""

    name: str
    kind: str
    parent: str
    child: str
    rotation: Array
    origin: Array
    axis: Array
    lower: float
    upper: float
    mimic: Mimic | None

    def displaced(self, position: float) -> tuple[Array, Array]:
        """Rotation (3, 3) and origin (3,) of the child's frame in the parent's with the joint at `position`."""
        if position == 0.0:
            return self.rotation, self.origin
        if self.kind == "prismatic":
            return self.rotation, self.origin + self.rotation @ (position * self.axis)
        return self.rotation @ rotation_about(self.axis, position), self.origin


@dataclass(frozen=True)
class Body:
    """Mass, centre of mass (3,) and inertia (3, 3) about it, in the frame it was last placed in."""

    mass: float
    com: Array
    inertia: Array

    @classmethod
    def nothing(cls) -> "Body":
        return cls(0.0, np.zeros(3), np.zeros((3, 3)))

    def placed(self, rotation: Array, origin: Array) -> "Body":
        return Body(self.mass, rotation @ self.com + origin, rotation @ self.inertia @ rotation.T)

    def __add__(self, other: "Body") -> "Body":
        mass = self.mass + other.mass
        if mass == 0.0:
            return Body.nothing()
        com = (self.mass * self.com + other.mass * other.com) / mass
        inertia = np.zeros((3, 3))
        for body in (self, other):
            arm = body.com - com
            inertia += body.inertia + body.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
        return Body(mass, com, inertia)


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """(3, 3) rotation of a URDF `rpy`: about the fixed x, then y, then z axis; rad."""
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_about(axis: Array, angle: float) -> Array:
    """(3, 3) rotation by `angle` rad about the unit vector `axis` (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    result: Array = np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
    return result


class UrdfFile:
    """The links and joints of a file. Raises UserError that names the element and what to do about it.

    `bodies` by link, in the link's frame; `joints` in the file's order; `joint_to` the joint above each link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = _parsed(path)
        self.remarks: list[str] = []
        """What is odd, but can be worked with."""
        self.bodies: dict[str, Body] = {}
        for link in self.root.findall("link"):
            name = self._name(link, "link", self.bodies)
            self.bodies[name] = self._body(link, name)
        self.joints: list[UrdfJoint] = []
        self.by_name: dict[str, UrdfJoint] = {}
        for element in self.root.findall("joint"):
            joint = self._joint(element, self._name(element, "joint", self.by_name))
            self.joints.append(joint)
            self.by_name[joint.name] = joint
        self.joint_to: dict[str, UrdfJoint] = {}
        self._check_tree()

    @property
    def movable(self) -> list[str]:
        """Names of the joints that can be driven."""
        return [joint.name for joint in self.joints if joint.kind in MOVABLE]

    def _wrong(self, text: str) -> UserError:
        return UserError(f"{self.path}: {text}")

    def _name(self, element: ElementTree.Element, what: str, known: Mapping[str, object]) -> str:
        name = element.get("name")
        if not name:
            raise self._wrong(f"a <{what}> has no name")
        if name in known:
            raise self._wrong(f"there are two {what}s called '{name}'; rename one of them")
        return name

    def _check_tree(self) -> None:
        for joint in self.joints:
            for link in (joint.parent, joint.child):
                if link not in self.bodies:
                    raise self._wrong(
                        f"joint '{joint.name}' names the link '{link}', which does not exist"
                        + nearest(link, self.bodies)
                    )
            if joint.child in self.joint_to:
                raise self._wrong(
                    f"link '{joint.child}' has two parents: joints '{self.joint_to[joint.child].name}' and "
                    f"'{joint.name}' both end there. A URDF is a tree and holds no closed loops: take one of them "
                    "out, and let the joints that it moved follow others with <mimic>"
                )
            self.joint_to[joint.child] = joint
        if not self.bodies:
            raise self._wrong("there is no <link> in it")
        roots = [name for name in self.bodies if name not in self.joint_to]
        if len(roots) > 1:
            raise self._wrong(
                f"the links must form one tree, found {len(roots)} roots: {', '.join(sorted(roots))}. Every link "
                "but the base is the child of one joint: connect the others with joints (of type 'fixed' where "
                "nothing moves) or remove them"
            )
        below: dict[str, list[str]] = {}
        for joint in self.joints:
            below.setdefault(joint.parent, []).append(joint.child)
        reached, waiting = set(roots), list(roots)
        while waiting:
            children = below.get(waiting.pop(), [])
            reached.update(children)
            waiting += children
        loop = [name for name in self.bodies if name not in reached]
        if loop:
            raise self._wrong(
                f"the links {', '.join(loop)} form a closed loop that nothing carries; a URDF is a tree that begins "
                "at one base link"
            )

    def vector(self, text: str | None, what: str, default: str = "0 0 0") -> Array:
        """Three finite numbers."""
        try:
            vector = np.array([float(word) for word in (text or default).split()])
        except ValueError:
            vector = np.empty(0)
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise self._wrong(f"{what} needs three finite numbers, got '{text}'")
        return vector

    def frame(self, element: ElementTree.Element, what: str) -> tuple[Array, Array]:
        """Rotation (3, 3) and origin (3,) m of the <origin> in `element`."""
        origin = element.find("origin")
        if origin is None:
            return np.eye(3), np.zeros(3)
        rpy = self.vector(origin.get("rpy"), f"the rpy of {what}")
        return rotation_from_rpy(*rpy), self.vector(origin.get("xyz"), f"the xyz of {what}")

    def number(
        self, element: ElementTree.Element | None, key: str, what: str, default: float | None = None
    ) -> float:
        """A finite number; `default` where there is none. Raises UserError without default."""
        text = None if element is None else element.get(key)
        if text is None and default is not None:
            return default
        try:
            value = float(text) if text is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._wrong(f"{what} needs a finite '{key}', got {text!r}")
        return value

    def _body(self, link: ElementTree.Element, name: str) -> Body:
        what = f"link '{name}'"
        inertial = link.find("inertial")
        if inertial is None:
            return Body.nothing()
        rotation, origin = self.frame(inertial, f"the inertial of {what}")
        mass = self.number(inertial.find("mass"), "value", f"the mass of {what}")
        if mass < 0:
            raise self._wrong(f"the mass of {what} must not be negative, got {mass}")
        element = inertial.find("inertia")
        inertia = np.zeros((3, 3))
        if element is not None:
            for row, column, key in ((0, 0, "ixx"), (1, 1, "iyy"), (2, 2, "izz")):
                inertia[row, column] = self.number(element, key, f"the inertia of {what}")
            for row, column, key in ((0, 1, "ixy"), (0, 2, "ixz"), (1, 2, "iyz")):
                value = self.number(element, key, f"the inertia of {what}", 0.0)
                inertia[row, column] = inertia[column, row] = value
        moments = np.linalg.eigvalsh(inertia)
        listed = ", ".join(f"{m:.3g}" for m in moments)
        if moments[0] < -1e-12 or moments[2] > (moments[0] + moments[1]) * ROUNDED + 1e-12:
            raise self._wrong(
                f"the inertia of {what} belongs to no body: its principal moments {listed} must be positive and each "
                "at most the sum of the others"
            )
        if moments[2] > (moments[0] + moments[1]) * (1 + 1e-3) + 1e-12:
            self.remarks.append(
                f"the inertia of {what} belongs to no body: of its principal moments {listed} the largest exceeds the "
                "sum of the others; it is used as it is"
            )
        if mass > 0 and moments[0] < mass * NARROWEST**2:
            self.remarks.append(
                f"the inertia of {what}, {listed} kg·m², is that of a body of {mass:g} kg less than a millimetre wide: "
                "the link counts as a point mass. Is it in kg·m²?"
            )
        if mass > 0 and moments[2] > mass * WIDEST**2:
            raise self._wrong(
                f"the inertia of {what}, {listed} kg·m², is that of a body {math.sqrt(moments[2] / mass):.0f} m wide; "
                "are mass in kg and inertia in kg·m² (g·mm² is 1e-9 of that)?"
            )
        return Body(mass, np.zeros(3), inertia).placed(rotation, origin)

    def _joint(self, element: ElementTree.Element, name: str) -> UrdfJoint:
        what = f"joint '{name}'"
        kind = str(element.get("type"))
        if kind not in KINDS:
            raise self._wrong(
                f"{what} is of the unknown type '{kind}'; URDF knows {', '.join(KINDS)}{nearest(kind, KINDS)}"
            )
        rotation, origin = self.frame(element, what)
        ends = {}
        for end in ("parent", "child"):
            found = element.find(end)
            if found is None or not found.get("link"):
                raise self._wrong(f"{what} has no {end} link")
            ends[end] = str(found.get("link"))
        axis_element = element.find("axis")
        axis = self.vector(
            None if axis_element is None else axis_element.get("xyz"), f"the axis of '{name}'", "1 0 0"
        )
        if kind in MOVABLE:
            if not np.linalg.norm(axis) > 0:
                raise self._wrong(f"the axis of {what} must not be zero")
            axis = axis / np.linalg.norm(axis)
        lower, upper = -math.pi, math.pi
        if kind in ("revolute", "prismatic"):
            limit = element.find("limit")
            lower = self.number(limit, "lower", f"the limit of {what}", math.nan)
            upper = self.number(limit, "upper", f"the limit of {what}", math.nan)
        mimic = element.find("mimic")
        follows = None
        if mimic is not None:
            factors = [
                self.number(mimic, key, f"the <mimic> of {what}", default)
                for key, default in (("multiplier", 1.0), ("offset", 0.0))
            ]
            follows = Mimic(str(mimic.get("joint")), *factors)
        return UrdfJoint(
            name, kind, ends["parent"], ends["child"], rotation, origin, axis, lower, upper, follows
        )

    def limits(self, joint: UrdfJoint) -> tuple[float, float]:
        """Lower and upper limit, rad or m, of a joint that is to be driven. Raises UserError without a range."""
        unit = "m" if joint.kind == "prismatic" else "rad"
        if math.isnan(joint.lower) or math.isnan(joint.upper):
            raise self._wrong(
                f"the limit of joint '{joint.name}' needs a finite 'lower' and 'upper' ({unit}): give it "
                '<limit lower="…" upper="…" effort="…" velocity="…"/>'
                + (", or the type 'continuous' if it turns without end" if joint.kind == "revolute" else "")
            )
        if joint.lower > joint.upper:
            raise self._wrong(
                f"joint '{joint.name}': lower limit {joint.lower} exceeds upper limit {joint.upper} {unit}"
            )
        if joint.lower == joint.upper:
            raise self._wrong(
                f"joint '{joint.name}' has no range: lower and upper limit are both {joint.lower:g} {unit}. Give it "
                "its range, or leave it out of the robot's joints: then it stays where it is"
            )
        return joint.lower, joint.upper


def _parsed(path: Path) -> ElementTree.Element:
    """The file's <robot> element. Raises UserError for anything else, xacro above all."""
    if not path.exists():
        raise UserError(f"the URDF {path} does not exist")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is not valid XML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a URDF: {error}") from None
    macro = _xacro_in(root)
    if macro:
        expanded = path.name.removesuffix(".xacro").removesuffix(".urdf") + ".urdf"
        if expanded == path.name:
            expanded = "expanded.urdf"
        raise UserError(
            f"{path} is a xacro file, not a URDF ({macro}). Expand it first: xacro {path.name} > {expanded} "
            "(with ROS; without: pip install xacro), and name the result in the robot's file"
        )
    if root.tag != "robot":
        known = {"sdf": "SDF", "mujoco": "MuJoCo's MJCF", "COLLADA": "a mesh"}.get(root.tag.rsplit("}")[-1])
        raise UserError(
            f"{path} is not a URDF: its root element is <{root.tag}>"
            + (f" ({known})" if known else "")
            + ", it must be <robot>"
        )
    return root


def _xacro_in(root: ElementTree.Element) -> str:
    """What in the file only xacro understands; "" when there is nothing of that."""
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag.startswith("{") and "xacro" in element.tag:
            return f"it holds <xacro:{element.tag.rpartition('}')[2]}>"
        for key, value in element.items():
            if "${" in value or "$(" in value:
                return f'<{element.tag}> has {key}="{value}"'
    return ""
