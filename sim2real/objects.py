"""What lies on the table: objects by name and kind.

    ObjectSpec("cube", "cube", 0.025, "red", 0.02)
    ObjectSpec("bowl", "bowl", (0.05, 0.03), "yellow", 0.05)
    ObjectSpec("goal_zone", "zone", 0.03, "green")

A kind says what an object is made of, what its measures mean, how it looks the same again when it is turned, and
whether it moves; `KINDS` declares each once, and simulation, pictures and perception take it from there. Lengths
in m, masses in kg, angles in rad. An object's frame has its origin at the centre of mass (of uniform density), z
up as it stands and x along its length; a zone's is at its middle, on the table.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.mechanisms import MECHANISMS, Joint
from sim2real.primitives import Primitive

Array = NDArray[np.float64]
Rgb = tuple[float, float, float]
T = TypeVar("T")

WALL = 0.003
"""Thickness of what bowls and boxes are made of, m."""
SIDES = 8
"""Plates that the wall of a bowl is made of."""
RANGE = (0.005, 0.5)
"""Least and largest measure of an object, m."""

RESERVED = ("arm", "table", "background", "start", "goal", "finger", "jaw")
"""Names that mean something else in parameters, observations and contacts."""

COLOURS: Mapping[str, Rgb] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.10, 0.62, 0.22),
    "blue": (0.08, 0.22, 0.80),
    "yellow": (0.90, 0.78, 0.08),
    "orange": (0.95, 0.45, 0.05),
    "purple": (0.48, 0.12, 0.65),
    "turquoise": (0.05, 0.65, 0.65),
    "pink": (0.92, 0.30, 0.60),
    "white": (0.92, 0.92, 0.92),
    "grey": (0.50, 0.50, 0.50),
    "black": (0.10, 0.10, 0.10),
}


@dataclass(frozen=True)
class Kind:
    """What objects of one kind have in common.

    `measures`: what the numbers of `size` mean, m. `shapes`: what it is made of for a size, standing on z = 0.
    `symmetry`: into how many equal turns a full turn about the vertical falls; 0: it looks the same from all
    sides. `moves`: whether it lies loose on the table; otherwise it stays where it is. `hollow`: whether things go in.
    `rolls`: whether it rolls, which something must slow down. `joint`: how a part of it moves, for a size.
    """

    measures: tuple[str, ...]
    shapes: Callable[[tuple[float, ...]], tuple[Primitive, ...]]
    symmetry: int = 0
    moves: bool = True
    hollow: bool = False
    rolls: bool = False
    joint: Callable[[tuple[float, ...]], Joint] | None = None


def _cube(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    (side,) = size
    return (Primitive("box", (side, side, side), (0.0, 0.0, side / 2)),)


def _block(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    length, width, height = size
    return (Primitive("box", (length, width, height), (0.0, 0.0, height / 2)),)


def _cylinder(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    radius, height = size
    return (Primitive("cylinder", (radius, height), (0.0, 0.0, height / 2)),)


def _ball(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    (radius,) = size
    return (Primitive("sphere", (radius,), (0.0, 0.0, radius)),)


def _open_box(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    length, width, height = size
    wall, middle = height - WALL, WALL + (height - WALL) / 2
    x, y = (length - WALL) / 2, (width - WALL) / 2
    return (
        Primitive("box", (length, width, WALL), (0.0, 0.0, WALL / 2)),
        Primitive("box", (WALL, width, wall), (x, 0.0, middle)),
        Primitive("box", (WALL, width, wall), (-x, 0.0, middle)),
        Primitive("box", (length - 2 * WALL, WALL, wall), (0.0, y, middle)),
        Primitive("box", (length - 2 * WALL, WALL, wall), (0.0, -y, middle)),
    )


def _bowl(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    """A regular polygon of plates; its floor are strips from side to side, which cover all of it."""
    radius, height = size
    edge = 2 * radius * math.tan(math.pi / SIDES)
    wall, middle, out = height - WALL, WALL + (height - WALL) / 2, radius - WALL / 2
    floor = [
        Primitive("box", (2 * radius, edge, WALL), (0.0, 0.0, WALL / 2), 2 * math.pi * k / SIDES)
        for k in range(SIDES // 2)
    ]
    turns = [2 * math.pi * k / SIDES for k in range(SIDES)]
    walls = [
        Primitive("box", (WALL, edge, wall), (out * math.cos(a), out * math.sin(a), middle), a) for a in turns
    ]
    return (*floor, *walls)


def _ring(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    """A bowl without a floor."""
    radius, height = size
    edge, out = 2 * radius * math.tan(math.pi / SIDES), radius - WALL / 2
    return tuple(
        Primitive("box", (WALL, edge, height), (out * math.cos(a), out * math.sin(a), height / 2), a)
        for a in (2 * math.pi * k / SIDES for k in range(SIDES))
    )


def _pole(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    """A rod on a round foot."""
    radius, height = size
    foot = 0.006
    return (
        Primitive("cylinder", (radius + 0.022, foot), (0.0, 0.0, foot / 2)),
        Primitive("cylinder", (radius, height - foot), (0.0, 0.0, (height + foot) / 2)),
    )


def _socket(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    """A block with a square hole through its middle: four thick walls."""
    side, hole, height = size
    wall = (side - hole) / 2
    off, middle = (hole + wall) / 2, height / 2
    return (
        Primitive("box", (wall, side, height), (off, 0.0, middle)),
        Primitive("box", (wall, side, height), (-off, 0.0, middle)),
        Primitive("box", (hole, wall, height), (0.0, off, middle)),
        Primitive("box", (hole, wall, height), (0.0, -off, middle)),
    )


def _nothing(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    return ()


def _mechanism(name: str, *measures: str) -> Kind:
    make = MECHANISMS[name]
    return Kind(measures, lambda size: make(size)[0], 1, moves=False, joint=lambda size: make(size)[1])


KINDS: Mapping[str, Kind] = {
    "cube": Kind(("side",), _cube, symmetry=4),
    "block": Kind(("length", "width", "height"), _block, symmetry=2),
    "cylinder": Kind(("radius", "height"), _cylinder, rolls=True),
    "ball": Kind(("radius",), _ball, rolls=True),
    "bowl": Kind(("radius", "height"), _bowl, hollow=True),
    "box": Kind(("length", "width", "height"), _open_box, symmetry=2, hollow=True),
    "ring": Kind(("radius", "height"), _ring, symmetry=4),
    "pole": Kind(("radius", "height"), _pole),
    "socket": Kind(("side", "hole", "height"), _socket, symmetry=4),
    "zone": Kind(("radius",), _nothing, moves=False),
    "drawer": _mechanism("drawer", "length", "width", "height"),
    "slider": _mechanism("slider", "length", "width", "height"),
    "lever": _mechanism("lever", "radius", "height"),
    "knob": _mechanism("knob", "radius", "height"),
    "lid": _mechanism("lid", "length", "width", "height"),
    "button": _mechanism("button", "radius", "height"),
}
"""All kinds of objects by name. A bowl and a box are open at the top; a pole stands on a foot, and a ring goes around
it; a socket has a square hole, for pegs; a zone is a disc painted on the table. What moves on a joint is in
`mechanisms.py`: it is fixed to the table, and its mass is that of the part that moves."""


@dataclass(frozen=True)
class ObjectSpec:
    """One object: its name, what it is, how large, of what colour and how heavy.

    `size`: the measures of its kind, m, one number or several (`KINDS[kind].measures`). `colour`: one of
    `COLOURS` or red, green, blue in 0..1. `mass` in kg; 0 for a zone. Raises UserError for what cannot be.
    """

    name: str
    kind: str
    size: float | tuple[float, ...]
    colour: str | Rgb = "red"
    mass: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[a-z][a-z0-9_]*", self.name):
            raise UserError(
                f"an object's name is lower-case letters, digits and underscores, got {self.name!r}"
            )
        if self.name in RESERVED:
            raise UserError(f"an object cannot be called '{self.name}', which is a name of something else")
        if self.kind not in KINDS:
            raise UserError(f"object '{self.name}': {unknown(self.kind, KINDS, 'kind of object')}")
        measures = KINDS[self.kind].measures
        where = f"object '{self.name}', a {self.kind}"
        size = _numbers(self.size, f"{where}: its size")
        low, high = RANGE
        if len(size) != len(measures) or not all(low <= value <= high for value in size):
            raise UserError(
                f"{where}: its size is {len(measures)} number{'s' * (len(measures) > 1)} "
                f"({', '.join(measures)}) of {low} … {high} m, got {self.size}"
            )
        if KINDS[self.kind].hollow and min(size) <= 2 * WALL:
            raise UserError(
                f"{where}: every measure must be more than two walls, {2 * WALL} m, got {self.size}"
            )
        object.__setattr__(self, "size", size)
        if isinstance(self.colour, str):
            if self.colour not in COLOURS:
                raise UserError(
                    f"{where}: {unknown(self.colour, COLOURS, 'colour')}; or three numbers in 0..1"
                )
        else:
            rgb = _numbers(self.colour, f"{where}: its colour")
            if len(rgb) != 3 or not all(0.0 <= value <= 1.0 for value in rgb) or max(rgb) < 0.02:
                raise UserError(
                    f"{where}: a colour is a name ({', '.join(COLOURS)}) or red, green and blue in 0..1, "
                    f"the largest at least 0.02; got {self.colour}"
                )
            object.__setattr__(self, "colour", rgb)
        if self.kind == "socket" and size[0] < size[1] + 4 * WALL:
            raise UserError(f"{where}: it must be {4 * WALL} m wider than its hole, got {self.size}")
        if self.joint is not None:
            made = [value for shape in (*self._parts, *self.joint.shapes) for value in shape.size]
            if self.joint.travel < 0.004 or min(made) <= 0.0:
                raise UserError(f"{where}: its size leaves no room for the part that moves, got {self.size}")
        if self.solid and not 1e-3 <= self.mass <= 10.0:
            raise UserError(f"{where}: its mass must be 0.001 … 10 kg, got {self.mass}")
        if not self.solid and self.mass:
            raise UserError(f"{where}, is painted on the table and has no mass, got {self.mass} kg")

    @property
    def measures(self) -> tuple[float, ...]:
        """The numbers of `size`, m."""
        assert isinstance(self.size, tuple)
        return self.size

    @property
    def moves(self) -> bool:
        """Whether the object lies loose on the table, so that it can be taken away."""
        return KINDS[self.kind].moves

    @property
    def solid(self) -> bool:
        """Whether it can be touched; a zone is only painted on the table."""
        return self.moves or self.joint is not None

    @cached_property
    def joint(self) -> Joint | None:
        """How a part of it moves; None for what has no joint."""
        make = KINDS[self.kind].joint
        return None if make is None else make(self.measures)

    def share(self, value: float) -> float:
        """A joint's value, m or rad, as a share of its way, 0 … 1; 0 for what has no joint."""
        return 0.0 if self.joint is None else min(max(value / self.joint.travel, 0.0), 1.0)

    @property
    def rgb(self) -> Rgb:
        """Red, green and blue in 0..1."""
        return COLOURS[self.colour] if isinstance(self.colour, str) else self.colour

    @property
    def symmetry(self) -> int:
        """Into how many equal turns a full turn about the vertical falls; 0 for round things."""
        if self.kind in ("block", "box") and self.measures[0] == self.measures[1]:
            return 4
        return KINDS[self.kind].symmetry

    @cached_property
    def shapes(self) -> tuple[Primitive, ...]:
        """The primitives that the object is made of, in its frame."""
        return tuple(
            replace(shape, position=(*shape.position[:2], shape.position[2] - self.rest))
            for shape in self._parts
        )

    @cached_property
    def rest(self) -> float:
        """Height of the object's origin over what it stands on, m."""
        volume = sum(shape.volume for shape in self._parts)
        if volume == 0.0 or self.joint is not None:
            return 0.0
        return sum(shape.volume / volume * shape.position[2] for shape in self._parts)

    @cached_property
    def height(self) -> float:
        """m from the object's underside to its top; 0 for a zone."""
        return max((shape.position[2] + shape.extent[2] / 2 for shape in self._parts), default=0.0)

    @cached_property
    def extent(self) -> tuple[float, float, float]:
        """Edges of the box around it as it stands, m; a zone's has no height."""
        if not self._parts:
            return 2 * self.measures[0], 2 * self.measures[0], 0.0
        points = np.concatenate([shape.corners() for shape in self._parts])
        if self.joint is not None:
            # The room that it takes, wherever its part is.
            ends = [self.joint.handle_at(share * self.joint.travel) for share in (0.0, 0.5, 1.0)]
            around = np.array([(x, y, 0.0) for x in (-0.012, 0.012) for y in (-0.012, 0.012)])
            grips = [end + corner for end in ends for corner in around]
            points = np.concatenate([points, grips])
        x, y, z = (float(value) for value in np.ptp(points, axis=0))
        return x, y, z

    @property
    def width(self) -> float:
        """The smaller of its two measures along the table, m: how far a hand must open around it; of what moves on a
        joint, the handle's."""
        if self.joint is not None:
            return self.joint.width
        return min(self.extent[0], self.extent[1])

    @cached_property
    def _parts(self) -> tuple[Primitive, ...]:
        return KINDS[self.kind].shapes(self.measures)

    def inertia(self, mass: float) -> tuple[float, float, float]:
        """Moments about the axes of its frame, kg·m², for a mass in kg spread evenly over its shapes."""
        volume = sum(shape.volume for shape in self.shapes)
        total = [0.0, 0.0, 0.0]
        for shape in self.shapes:
            share = mass * (shape.volume / volume)
            own = shape.inertia(share)
            c, s = math.cos(shape.yaw) ** 2, math.sin(shape.yaw) ** 2
            x, y, z = shape.position
            total[0] += c * own[0] + s * own[1] + share * (y * y + z * z)
            total[1] += s * own[0] + c * own[1] + share * (x * x + z * z)
            total[2] += own[2] + share * (x * x + y * y)
        return total[0], total[1], total[2]

    def scaled(self, first: float) -> "ObjectSpec":
        """This object with `first` m as the first of its measures and the others in proportion."""
        if first == self.measures[0]:
            return self
        factor = first / self.measures[0]
        return replace(self, size=(first, *(factor * value for value in self.measures[1:])))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for files."""
        colour = self.colour if isinstance(self.colour, str) else list(self.colour)
        return {
            "name": self.name,
            "kind": self.kind,
            "size": list(self.measures),
            "colour": colour,
            "mass": self.mass,
        }


@dataclass(frozen=True)
class Pose:
    """Where an object is put: x, y in m in the base frame, turned by `yaw` rad, its underside `above` m over the
    table, its joint (if it has one) at `joint`, a share of its way, 0 … 1. Raises UserError for other numbers."""

    x: float
    y: float
    yaw: float = 0.0
    above: float = 0.0
    joint: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.x, self.y, self.yaw, self.above)):
            raise UserError(f"a pose needs finite numbers, got {self}")
        if not 0.0 <= self.joint <= 1.0:
            raise UserError(f"a pose has a joint at 0 … 1 of its way, got {self.joint}")

    @property
    def xy(self) -> tuple[float, float]:
        return self.x, self.y


class ByName(dict[str, T]):
    """Things of objects by the objects' names: a dictionary that says which names there are. To be read only."""

    def __missing__(self, name: str) -> T:
        raise UserError(unknown(name, self, "object"))


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """A message: there is no such thing, what there is, and the nearest names first."""
    names = list(known)
    near = get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no {what} '{name}'; {hint}known: {', '.join(names) or 'none'}"


def checked(objects: Sequence[ObjectSpec]) -> tuple[ObjectSpec, ...]:
    """The objects of a scene. Raises UserError when two have one name."""
    names = [spec.name for spec in objects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two objects are called '{twice[0]}'; every object needs a name of its own")
    return tuple(objects)


def without_joints(objects: Iterable[ObjectSpec], who: str) -> None:
    """Raise UserError when one of the objects has a joint, which `who` does not know of."""
    for spec in objects:
        if spec.joint is not None:
            raise UserError(
                f"'{spec.name}' is a {spec.kind}, and {who}: tasks with things that move on joints run in the "
                "simulation of training only, where a sensor says how far they have gone"
            )


def _numbers(value: object, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in value) if isinstance(value, Iterable) else (float(value),)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{what} must be numbers, got {value!r}") from None
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{what} must be finite, got {value!r}")
    return numbers
