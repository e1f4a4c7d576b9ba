"""The arm's tree of links as arrays, read from a URDF.

Only what dynamics and kinematics need is kept: the links that move, each with its parent, its frame, its axis and
the mass that moves with it. A link is moved by a joint that is driven, or by one that follows a driven joint
(`<mimic>`, or the robot's own table): position = multiplier · the driven joint's + offset. All other joints of the URDF
count as rigid, and the mass behind them is lumped into the link they are fixed to.

n is the number of driven joints, L ≥ n that of links; without followers link i belongs to joint i, and L = n. A
link's frame is its joint's frame after the joint has moved. "Base" is the URDF's root link. SI units: rad for joints
that turn, m for those that slide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError, nearest
from sim2real.urdf_file import MOVABLE, Body, Mimic, UrdfFile

Array = NDArray[np.float64]

CHAIN_COLUMNS = 20
"""Columns of `ArmModel.chain`: parent (−1: base), prismatic (0/1), rotation (9, row by row), origin (3), axis (3), and
what moves the link: DRIVER (a joint), MULTIPLIER and SHIFT."""
DRIVER, MULTIPLIER, SHIFT = 17, 18, 19
INERTIAL_COLUMNS = 10
"""Columns of an inertial array: mass, centre of mass (3), ixx, iyy, izz, ixy, ixz, iyz about the centre of mass."""


PINION = 0.02
"""m that a sliding joint moves where a turning one turns by one rad: that of a pinion on a rack. What is given in rad
for all joints of a robot alike (margins, noise, a servo's usual gains) counts this much in m for those that slide."""


@dataclass(frozen=True, eq=False)
class ArmModel:
    """The tree of n driven joints and L links. All arrays are read-only.

    `chain` (L, 20) and `inertials` (L, 10) are what the compiled functions of `kinematics.py` and `dynamics.py`
    take; see CHAIN_COLUMNS and INERTIAL_COLUMNS. The other arrays are the same quantities under their names.
    """

    joint_names: tuple[str, ...]
    link_names: tuple[str, ...]
    """(L) names of the links that move."""
    link_joints: tuple[str, ...]
    """(L) name of the URDF's joint that moves each."""
    parents: NDArray[np.int64]
    """(L,) number of the link that carries link i; −1 for the base. Always smaller than i."""
    origins: Array
    """(L, 3) m, joint frame in the parent link's frame."""
    rotations: Array
    """(L, 3, 3) joint frame's axes in the parent link's frame, at joint position zero."""
    axes: Array
    """(L, 3) unit vectors in the joint frame."""
    prismatic: NDArray[np.bool_]
    """(L,) whether the link slides."""
    driver: NDArray[np.int64]
    """(L,) the joint that moves each link."""
    multiplier: Array
    shift: Array
    """(L,) its own position is multiplier · the joint's + shift; 1 and 0 for the joint's own link."""
    rows: NDArray[np.int64]
    """(n,) the link of each joint."""
    mass: Array
    """(L,) kg, lumped."""
    com: Array
    """(L, 3) m, in the link's frame."""
    inertia: Array
    """(L, 3, 3) kg·m² about the centre of mass, link axes."""
    lower: Array
    upper: Array
    """(n,) rad (m for prismatic joints); −π…π for continuous joints."""
    tool: Array
    """(13,): number of the link that carries the tool, rotation (9, row by row) and origin (3) in its link."""
    places: Mapping[str, tuple[int, Array, Array]] = field(repr=False)
    """By name of every link of the URDF: the moving link that carries it (−1: base), rotation and origin in that."""
    locked: Mapping[str, float]
    """Joints of the URDF that could move but stay at this position (rad or m), because nothing drives them."""
    chain: Array = field(init=False, repr=False)
    inertials: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        links = len(self.link_names)
        chain = np.zeros((links, CHAIN_COLUMNS))
        chain[:, 0] = self.parents
        chain[:, 1] = self.prismatic
        chain[:, 2:11] = self.rotations.reshape(links, 9)
        chain[:, 11:14] = self.origins
        chain[:, 14:17] = self.axes
        chain[:, DRIVER], chain[:, MULTIPLIER], chain[:, SHIFT] = self.driver, self.multiplier, self.shift
        inertials = np.zeros((links, INERTIAL_COLUMNS))
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
        """Number of driven joints."""
        return len(self.joint_names)

    @property
    def links(self) -> int:
        """L, the number of links that move."""
        return len(self.link_names)

    @property
    def sliding(self) -> NDArray[np.bool_]:
        """(n,) whether the joint slides."""
        return np.asarray(self.prismatic[self.rows])

    @property
    def scale(self) -> Array:
        """(n,) what counts like one rad: 1 rad for joints that turn, PINION m for those that slide."""
        return np.where(self.sliding, PINION, 1.0)

    @property
    def free_chain(self) -> Array:
        """(L, 20) `chain` as if every link had a joint of its own: followers are free."""
        chain = np.array(self.chain)
        chain[:, DRIVER], chain[:, MULTIPLIER], chain[:, SHIFT] = np.arange(self.links), 1.0, 0.0
        return chain

    def link_positions(self, q: Array) -> Array:
        """(L,) position of each link's own joint, rad or m, for the driven joints at `q` (n,)."""
        positions: Array = self.multiplier * np.asarray(q)[self.driver] + self.shift
        return positions

    def descendants(self, link: int) -> NDArray[np.bool_]:
        """(L,) which links move when this one does, itself included."""
        moved = np.zeros(self.links, dtype=np.bool_)
        moved[link] = True
        for i in range(link + 1, self.links):
            moved[i] = self.parents[i] >= 0 and moved[self.parents[i]]
        return moved

    def moved_by(self, joint: int) -> NDArray[np.bool_]:
        """(L,) which links move when this joint does."""
        moved = np.zeros(self.links, dtype=np.bool_)
        for i in np.flatnonzero(self.driver == joint):
            moved |= self.descendants(int(i))
        return moved

    @classmethod
    def from_urdf(
        cls,
        path: str | Path,
        joint_names: Sequence[str],
        tool_link: str,
        *,
        mimic: Mapping[str, Mimic] | None = None,
        locked: Mapping[str, float] | None = None,
    ) -> "ArmModel":
        """Read the driven joints (in this order, parents before children) and the tool's frame.

        `mimic`: by joint, what it follows, before what the URDF says; `locked`: by joint, where it stays (rad or m;
        joints that nothing drives stay at zero by themselves).

        Raises UserError when the file is not a URDF tree, a joint or the tool link is missing, a joint cannot be
        driven, a moving link has no mass, or an inertia tensor is impossible.
        """
        reader = _Reader(UrdfFile(Path(path)), tuple(joint_names), dict(mimic or {}), dict(locked or {}))
        return reader.model(tool_link)


@dataclass(frozen=True)
class _Motion:
    """What moves a joint of the URDF: a driven joint (its number) through multiplier and offset, or nothing (−1): then
    it stays at `offset`."""

    driver: int
    multiplier: float
    offset: float


class _Reader:
    """Makes the arrays of an ArmModel."""

    def __init__(
        self, file: UrdfFile, names: tuple[str, ...], mimic: dict[str, Mimic], locked: dict[str, float]
    ) -> None:
        self.file, self.names, self.mimic, self.locked = file, names, mimic, locked
        self._check()
        self.motions = {
            joint.name: self._motion(joint.name, ()) for joint in file.joints if joint.kind in MOVABLE
        }
        self.order = self._ordered()
        self.index = {file.by_name[name].child: i for i, name in enumerate(self.order)}

    def _check(self) -> None:
        file = self.file
        for name in self.names:
            if name not in file.by_name:
                raise UserError(
                    f"{file.path} has no joint '{name}'; its movable joints are "
                    f"{', '.join(file.movable)}{nearest(name, file.movable)}"
                )
            if file.by_name[name].kind not in MOVABLE:
                raise UserError(
                    f"{file.path}: joint '{name}' is of type '{file.by_name[name].kind}'; "
                    "revolute, continuous and prismatic joints can be actuated"
                )
        for table, given in (("[mimic]", self.mimic), ("[locked]", self.locked)):
            for name in given:
                if name not in file.movable:
                    raise UserError(
                        f"{table} names '{name}', which is not a movable joint of {file.path}"
                        f"; those are {', '.join(file.movable)}{nearest(name, file.movable)}"
                    )
                if name in self.names:
                    raise UserError(
                        f"{table} names '{name}', which is one of the robot's own joints and driven by a servo"
                    )

    def _motion(self, name: str, on_the_way: tuple[str, ...]) -> _Motion:
        if name in self.names:
            return _Motion(self.names.index(name), 1.0, 0.0)
        if name in self.locked:
            return _Motion(-1, 0.0, self.locked[name])
        mimic = self.mimic.get(name, self.file.by_name[name].mimic)
        if mimic is None:
            return _Motion(-1, 0.0, 0.0)
        if name in on_the_way:
            raise UserError(
                f"{self.file.path}: the joints {' → '.join((*on_the_way, name))} follow each other in a circle; one "
                "of them must be driven"
            )
        if mimic.joint not in self.file.movable:
            raise UserError(
                f"{self.file.path}: joint '{name}' follows '{mimic.joint}', which is not a movable joint"
                + nearest(mimic.joint, self.file.movable)
            )
        other = self._motion(mimic.joint, (*on_the_way, name))
        return _Motion(
            other.driver, mimic.multiplier * other.multiplier, mimic.multiplier * other.offset + mimic.offset
        )

    def _ordered(self) -> list[str]:
        """The joints that move, parents first: as listed, each follower before what it carries, the others last."""
        order: list[str] = []

        def above(name: str) -> list[str]:
            """Moving joints between this one and the base, outermost first."""
            found, link = [], self.file.by_name[name].parent
            while link in self.file.joint_to:
                joint = self.file.joint_to[link]
                if joint.kind in MOVABLE and self.motions[joint.name].driver >= 0:
                    found.append(joint.name)
                link = joint.parent
            return found

        followers = [
            name for name, motion in self.motions.items() if motion.driver >= 0 and name not in self.names
        ]
        for name in (*self.names, *followers):
            for carrier in reversed(above(name)):
                if carrier in order:
                    continue
                if carrier in self.names:
                    raise UserError(
                        f"{self.file.path}: joint '{name}' is listed before '{carrier}', which carries it; "
                        "list the joints from the base outward"
                    )
                order.append(carrier)
            if name not in order:
                order.append(name)
        return order

    def _place(self, link: str) -> tuple[int, Array, Array]:
        """The moving link (−1: base) that carries this one, and this one's frame in it."""
        rotation, origin = np.eye(3), np.zeros(3)
        while link not in self.index and link in self.file.joint_to:
            joint = self.file.joint_to[link]
            position = self.motions[joint.name].offset if joint.kind in MOVABLE else 0.0
            turned, moved = joint.displaced(position)
            rotation, origin = turned @ rotation, turned @ origin + moved
            link = joint.parent
        return self.index.get(link, -1), rotation, origin

    def model(self, tool_link: str) -> ArmModel:
        file = self.file
        if tool_link not in file.bodies:
            raise UserError(
                f"{file.path} has no link '{tool_link}'; its links are "
                f"{', '.join(file.bodies)}{nearest(tool_link, file.bodies)}"
            )
        places = {link: self._place(link) for link in file.bodies}
        links = len(self.order)
        bodies = [Body.nothing() for _ in range(links)]
        for link, body in file.bodies.items():
            place, rotation, origin = places[link]
            if place >= 0:
                bodies[place] = bodies[place] + body.placed(rotation, origin)
        joints = [file.by_name[name] for name in self.order]
        motions = [self.motions[name] for name in self.order]
        parents = np.empty(links, dtype=np.int64)
        origins, rotations = np.empty((links, 3)), np.empty((links, 3, 3))
        for i, joint in enumerate(joints):
            parents[i], rotation, origin = places[joint.parent]
            rotations[i], origins[i] = rotation @ joint.rotation, rotation @ joint.origin + origin
            if bodies[i].mass <= 0 and joint.name in self.names:
                raise UserError(
                    f"{file.path}: link '{joint.child}' moves with joint '{joint.name}' but has no mass: give it an "
                    "<inertial> with <mass> (kg) and <inertia> (kg·m²)"
                )
        tool_parent, tool_rotation, tool_origin = places[tool_link]
        if tool_parent < 0:
            raise UserError(
                f"{file.path}: the tool link '{tool_link}' does not move with any of the joints {self.names}"
            )
        limits = [file.limits(file.by_name[name]) for name in self.names]
        return ArmModel(
            joint_names=self.names,
            link_names=tuple(joint.child for joint in joints),
            link_joints=tuple(self.order),
            parents=parents,
            origins=origins,
            rotations=rotations,
            axes=np.array([joint.axis for joint in joints]),
            prismatic=np.array([joint.kind == "prismatic" for joint in joints]),
            driver=np.array([motion.driver for motion in motions]),
            multiplier=np.array([motion.multiplier for motion in motions]),
            shift=np.array([motion.offset for motion in motions]),
            rows=np.array([self.order.index(name) for name in self.names]),
            mass=np.array([body.mass for body in bodies]),
            com=np.array([body.com for body in bodies]),
            inertia=np.array([body.inertia for body in bodies]),
            lower=np.array([lower for lower, _ in limits]),
            upper=np.array([upper for _, upper in limits]),
            tool=np.concatenate([[float(tool_parent)], tool_rotation.ravel(), tool_origin]),
            places=places,
            locked={name: motion.offset for name, motion in self.motions.items() if motion.driver < 0},
        )
