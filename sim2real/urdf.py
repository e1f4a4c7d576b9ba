"""The arm's tree of links as arrays, read from a URDF.

Only what dynamics and kinematics need is kept: for each actuated joint its parent, its frame, its axis and the
mass that moves with it. Joints of the URDF that are not actuated count as rigid (at zero), and the mass behind
them is lumped into the link they are fixed to.

Conventions: link i is the child of joint i; its frame is the joint's frame after the joint has moved. "Base" is
the URDF's root link. SI units and radians.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

CHAIN_COLUMNS = 17
"""Columns of `ArmModel.chain`: parent (−1: base), prismatic (0/1), rotation (9, row by row), origin (3), axis (3)."""
INERTIAL_COLUMNS = 10
"""Columns of an inertial array: mass, centre of mass (3), ixx, iyy, izz, ixy, ixz, iyz about the centre of mass."""


@dataclass(frozen=True, eq=False)
class ArmModel:
    """The tree of n actuated joints. All arrays are read-only.

    `chain` (n, 17) and `inertials` (n, 10) are what the compiled functions of `kinematics.py` and `dynamics.py`
    take; see CHAIN_COLUMNS and INERTIAL_COLUMNS. The other arrays are the same quantities under their names.
    """

    joint_names: tuple[str, ...]
    link_names: tuple[str, ...]
    """Name of the link that each joint moves."""
    parents: NDArray[np.int64]
    """(n,) index of the joint whose link carries joint i; −1 for the base. Always smaller than i."""
    origins: Array
    """(n, 3) m, joint frame in the parent link's frame."""
    rotations: Array
    """(n, 3, 3) joint frame's axes in the parent link's frame, at joint position zero."""
    axes: Array
    """(n, 3) unit vectors in the joint frame."""
    prismatic: NDArray[np.bool_]
    mass: Array
    """(n,) kg, lumped."""
    com: Array
    """(n, 3) m, in the link's frame."""
    inertia: Array
    """(n, 3, 3) kg·m² about the centre of mass, link axes."""
    lower: Array
    upper: Array
    """(n,) rad (m for prismatic joints); −π…π for continuous joints."""
    tool: Array
    """(13,): index of the joint that carries the tool, rotation (9, row by row) and origin (3) in its link."""
    chain: Array = field(init=False, repr=False)
    inertials: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        chain = np.zeros((n, CHAIN_COLUMNS))
        chain[:, 0] = self.parents
        chain[:, 1] = self.prismatic
        chain[:, 2:11] = self.rotations.reshape(n, 9)
        chain[:, 11:14] = self.origins
        chain[:, 14:17] = self.axes
        inertials = np.zeros((n, INERTIAL_COLUMNS))
        inertials[:, 0] = self.mass
        inertials[:, 1:4] = self.com
        inertials[:, 4:] = self.inertia[:, (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
        object.__setattr__(self, "chain", chain)
        object.__setattr__(self, "inertials", inertials)
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def n(self) -> int:
        """Number of actuated joints."""
        return len(self.joint_names)

    def descendants(self, joint: int) -> NDArray[np.bool_]:
        """(n,) which joints move when this one does, itself included."""
        moved = np.zeros(self.n, dtype=np.bool_)
        moved[joint] = True
        for i in range(joint + 1, self.n):
            moved[i] = self.parents[i] >= 0 and moved[self.parents[i]]
        return moved

    @classmethod
    def from_urdf(cls, path: str | Path, joint_names: Sequence[str], tool_link: str) -> "ArmModel":
        """Read the actuated joints (in this order, parents before children) and the tool's frame.

        Raises UserError when the file is not a URDF tree, a joint or the tool link is missing, a joint cannot
        be actuated, a moving link has no mass, or an inertia tensor is impossible.
        """
        return _Reader(Path(path)).model(tuple(joint_names), tool_link)


@dataclass(frozen=True)
class _Joint:
    name: str
    kind: str
    parent: str
    child: str
    rotation: Array
    origin: Array
    axis: Array
    lower: float
    upper: float


@dataclass(frozen=True)
class _Body:
    """Mass, centre of mass (3,) and inertia (3, 3) about it, in the frame it was last placed in."""

    mass: float
    com: Array
    inertia: Array

    def placed(self, rotation: Array, origin: Array) -> "_Body":
        return _Body(self.mass, rotation @ self.com + origin, rotation @ self.inertia @ rotation.T)

    def __add__(self, other: "_Body") -> "_Body":
        mass = self.mass + other.mass
        if mass == 0.0:
            return _Body(0.0, np.zeros(3), np.zeros((3, 3)))
        com = (self.mass * self.com + other.mass * other.com) / mass
        inertia = np.zeros((3, 3))
        for body in (self, other):
            arm = body.com - com
            inertia += body.inertia + body.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
        return _Body(mass, com, inertia)


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


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise UserError(f"the URDF {path} does not exist")
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise UserError(f"{path} is not valid XML: {error}") from None
        if root.tag != "robot":
            raise UserError(f"{path} is not a URDF: its root element is <{root.tag}>, it must be <robot>")
        self.bodies = {str(link.get("name")): self._body(link) for link in root.findall("link")}
        self.joints = [self._joint(joint) for joint in root.findall("joint")]
        self.joint_to: dict[str, _Joint] = {}
        for joint in self.joints:
            for link in (joint.parent, joint.child):
                if link not in self.bodies:
                    raise UserError(
                        f"{path}: joint '{joint.name}' names the link '{link}', which does not exist"
                    )
            if joint.child in self.joint_to:
                raise UserError(f"{path}: link '{joint.child}' has two parents; the links must form a tree")
            self.joint_to[joint.child] = joint
        roots = [name for name in self.bodies if name not in self.joint_to]
        if len(roots) != 1:
            raise UserError(
                f"{path}: the links must form one tree, found {len(roots)} roots: {sorted(roots)}"
            )

    def _vector(self, text: str | None, what: str, default: str = "0 0 0") -> Array:
        try:
            vector = np.array([float(word) for word in (text or default).split()])
        except ValueError:
            vector = np.empty(0)
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise UserError(f"{self.path}: {what} needs three finite numbers, got '{text}'")
        return vector

    def _frame(self, element: ElementTree.Element, what: str) -> tuple[Array, Array]:
        origin = element.find("origin")
        if origin is None:
            return np.eye(3), np.zeros(3)
        rpy = self._vector(origin.get("rpy"), f"the rpy of {what}")
        return rotation_from_rpy(*rpy), self._vector(origin.get("xyz"), f"the xyz of {what}")

    def _number(self, element: ElementTree.Element | None, key: str, what: str) -> float:
        text = None if element is None else element.get(key)
        try:
            value = float(text) if text is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"{self.path}: {what} needs a finite '{key}', got {text!r}")
        return value

    def _body(self, link: ElementTree.Element) -> _Body:
        what = f"link '{link.get('name')}'"
        inertial = link.find("inertial")
        if inertial is None:
            return _Body(0.0, np.zeros(3), np.zeros((3, 3)))
        rotation, origin = self._frame(inertial, f"the inertial of {what}")
        mass = self._number(inertial.find("mass"), "value", f"the mass of {what}")
        element = inertial.find("inertia")
        inertia = np.zeros((3, 3))
        if element is not None:
            for row, column, key in ((0, 0, "ixx"), (1, 1, "iyy"), (2, 2, "izz")):
                inertia[row, column] = self._number(element, key, f"the inertia of {what}")
            for row, column, key in ((0, 1, "ixy"), (0, 2, "ixz"), (1, 2, "iyz")):
                inertia[row, column] = inertia[column, row] = float(element.get(key) or 0.0)
        if mass < 0:
            raise UserError(f"{self.path}: the mass of {what} must not be negative, got {mass}")
        moments = np.linalg.eigvalsh(inertia)
        if moments[0] < 0 or moments[2] > (moments[0] + moments[1]) * (1 + 1e-3) + 1e-12:
            raise UserError(
                f"{self.path}: the inertia of {what} belongs to no body: its principal moments "
                f"{', '.join(f'{m:.3g}' for m in moments)} must be positive and each at most the sum of the others"
            )
        return _Body(mass, np.zeros(3), inertia).placed(rotation, origin)

    def _joint(self, element: ElementTree.Element) -> _Joint:
        name, kind = str(element.get("name")), str(element.get("type"))
        rotation, origin = self._frame(element, f"joint '{name}'")
        ends = {}
        for end in ("parent", "child"):
            found = element.find(end)
            if found is None or not found.get("link"):
                raise UserError(f"{self.path}: joint '{name}' has no {end} link")
            ends[end] = str(found.get("link"))
        axis_element = element.find("axis")
        axis = self._vector(
            None if axis_element is None else axis_element.get("xyz"), f"the axis of '{name}'", "1 0 0"
        )
        if kind != "fixed":
            if not np.linalg.norm(axis) > 0:
                raise UserError(f"{self.path}: the axis of joint '{name}' must not be zero")
            axis = axis / np.linalg.norm(axis)
        lower, upper = -math.pi, math.pi
        if kind in ("revolute", "prismatic"):
            limit = element.find("limit")
            lower = self._number(limit, "lower", f"the limit of joint '{name}'")
            upper = self._number(limit, "upper", f"the limit of joint '{name}'")
            if lower > upper:
                raise UserError(
                    f"{self.path}: joint '{name}': lower limit {lower} exceeds upper limit {upper}"
                )
        return _Joint(name, kind, ends["parent"], ends["child"], rotation, origin, axis, lower, upper)

    def model(self, names: tuple[str, ...], tool_link: str) -> ArmModel:
        by_name = {joint.name: joint for joint in self.joints}
        movable = [
            joint.name for joint in self.joints if joint.kind in ("revolute", "continuous", "prismatic")
        ]
        for name in names:
            if name not in by_name:
                raise UserError(
                    f"{self.path} has no joint '{name}'; its movable joints are {', '.join(movable)}"
                )
            if name not in movable:
                raise UserError(
                    f"{self.path}: joint '{name}' is of type '{by_name[name].kind}'; "
                    "revolute, continuous and prismatic joints can be actuated"
                )
        if tool_link not in self.bodies:
            raise UserError(f"{self.path} has no link '{tool_link}'; its links are {', '.join(self.bodies)}")
        index = {by_name[name].child: i for i, name in enumerate(names)}

        def carrier(link: str) -> tuple[int, Array, Array]:
            """The actuated link (−1: base) that carries this one, and this one's frame in it."""
            rotation, origin = np.eye(3), np.zeros(3)
            while link not in index and link in self.joint_to:
                joint = self.joint_to[link]
                rotation, origin = joint.rotation @ rotation, joint.rotation @ origin + joint.origin
                link = joint.parent
            return index.get(link, -1), rotation, origin

        n = len(names)
        bodies = [_Body(0.0, np.zeros(3), np.zeros((3, 3))) for _ in range(n)]
        for link, body in self.bodies.items():
            place, rotation, origin = carrier(link)
            if place >= 0:
                bodies[place] = bodies[place] + body.placed(rotation, origin)
        parents = np.empty(n, dtype=np.int64)
        origins, rotations = np.empty((n, 3)), np.empty((n, 3, 3))
        for i, name in enumerate(names):
            joint = by_name[name]
            parent, rotation, origin = carrier(joint.parent)
            if parent >= i:
                raise UserError(
                    f"{self.path}: joint '{name}' is listed before '{names[parent]}', which carries it; "
                    "list the joints from the base outward"
                )
            parents[i] = parent
            rotations[i], origins[i] = rotation @ joint.rotation, rotation @ joint.origin + origin
            if bodies[i].mass <= 0:
                raise UserError(
                    f"{self.path}: link '{joint.child}' moves with joint '{name}' but has no mass"
                )
        tool_parent, tool_rotation, tool_origin = carrier(tool_link)
        if tool_parent < 0:
            raise UserError(
                f"{self.path}: the tool link '{tool_link}' does not move with any of the joints {names}"
            )
        joints = [by_name[name] for name in names]
        return ArmModel(
            joint_names=names,
            link_names=tuple(joint.child for joint in joints),
            parents=parents,
            origins=origins,
            rotations=rotations,
            axes=np.array([joint.axis for joint in joints]),
            prismatic=np.array([joint.kind == "prismatic" for joint in joints]),
            mass=np.array([body.mass for body in bodies]),
            com=np.array([body.com for body in bodies]),
            inertia=np.array([body.inertia for body in bodies]),
            lower=np.array([joint.lower for joint in joints]),
            upper=np.array([joint.upper for joint in joints]),
            tool=np.concatenate([[float(tool_parent)], tool_rotation.ravel(), tool_origin]),
        )
