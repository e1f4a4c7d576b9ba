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
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

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
class Primitive:
    """One primitive that an object is made of, in the object's frame, turned by `yaw` rad about z.

    `size`, m: a box's edges along x, y and z; a cylinder's radius and length along z; a sphere's radius.
    """

    form: Literal["box", "cylinder", "sphere"]
    size: tuple[float, ...]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    @property
    def volume(self) -> float:
        """m³"""
        if self.form == "box":
            return self.size[0] * self.size[1] * self.size[2]
        if self.form == "cylinder":
            return math.pi * self.size[0] ** 2 * self.size[1]
        return 4 / 3 * math.pi * self.size[0] ** 3

    @property
    def extent(self) -> tuple[float, float, float]:
        """Edges of the box around it, in its own frame, m."""
        if self.form == "box":
            return self.size[0], self.size[1], self.size[2]
        if self.form == "cylinder":
            return 2 * self.size[0], 2 * self.size[0], self.size[1]
        return (2 * self.size[0],) * 3

    def inertia(self, mass: float) -> tuple[float, float, float]:
        """Principal moments about its own centre and axes, kg·m²."""
        if self.form == "box":
            x, y, z = self.size
            return mass * (y * y + z * z) / 12, mass * (x * x + z * z) / 12, mass * (x * x + y * y) / 12
        if self.form == "cylinder":
            r, length = self.size
            across = mass * (3 * r * r + length * length) / 12
            return across, across, mass * r * r / 2
        return (0.4 * mass * self.size[0] ** 2,) * 3

    def corners(self) -> Array:
        """(k, 3) points whose convex hull is the shape (round ones: a good approximation), object's frame."""
        if self.form == "box":
            signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            points = signs * np.array(self.size) / 2
        else:
            turn = np.linspace(0.0, 2 * math.pi, 24, endpoint=False)
            ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1) * self.size[0]
            if self.form == "cylinder":
                end = np.array([0.0, 0.0, self.size[1] / 2])
                points = np.concatenate([ring - end, ring + end])
            else:
                up = np.linspace(-math.pi / 2, math.pi / 2, 9)
                points = np.concatenate(
                    [ring * (math.cos(a), math.cos(a), 1) + (0, 0, self.size[0] * math.sin(a)) for a in up]
                )
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        turned = points @ np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(turned + np.array(self.position))


@dataclass(frozen=True)
class Kind:
    """What objects of one kind have in common.

    `measures`: what the numbers of `size` mean, m. `shapes`: what it is made of for a size, standing on z = 0.
    `symmetry`: into how many equal turns a full turn about the vertical falls; 0: it looks the same from all
    sides. `moves`: whether it is a body; otherwise it is painted on the table. `hollow`: whether things go in.
    `rolls`: whether it rolls, which something must slow down.
    """

    measures: tuple[str, ...]
    shapes: Callable[[tuple[float, ...]], tuple[Primitive, ...]]
    symmetry: int = 0
    moves: bool = True
    hollow: bool = False
    rolls: bool = False


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


def _nothing(size: tuple[float, ...]) -> tuple[Primitive, ...]:
    return ()


KINDS: Mapping[str, Kind] = {
    "cube": Kind(("side",), _cube, symmetry=4),
    "block": Kind(("length", "width", "height"), _block, symmetry=2),
    "cylinder": Kind(("radius", "height"), _cylinder, rolls=True),
    "ball": Kind(("radius",), _ball, rolls=True),
    "bowl": Kind(("radius", "height"), _bowl, hollow=True),
    "box": Kind(("length", "width", "height"), _open_box, symmetry=2, hollow=True),
    "zone": Kind(("radius",), _nothing, moves=False),
}
"""All kinds of objects by name. A bowl and a box are open at the top; a zone is a disc painted on the table."""


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
        if self.moves and not 1e-3 <= self.mass <= 10.0:
            raise UserError(f"{where}: its mass must be 0.001 … 10 kg, got {self.mass}")
        if not self.moves and self.mass:
            raise UserError(f"{where}, is painted on the table and has no mass, got {self.mass} kg")

    @property
    def measures(self) -> tuple[float, ...]:
        """The numbers of `size`, m."""
        assert isinstance(self.size, tuple)
        return self.size

    @property
    def moves(self) -> bool:
        """Whether the object is a body, not only painted on the table."""
        return KINDS[self.kind].moves

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
        if volume == 0.0:
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
        x, y, z = (float(value) for value in np.ptp(points, axis=0))
        return x, y, z

    @property
    def width(self) -> float:
        """The smaller of its two measures along the table, m: how far a hand must open around it."""
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
    table. Raises UserError for numbers that are not finite."""

    x: float
    y: float
    yaw: float = 0.0
    above: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.x, self.y, self.yaw, self.above)):
            raise UserError(f"a pose needs finite numbers, got {self}")

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


def _numbers(value: object, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in value) if isinstance(value, Iterable) else (float(value),)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{what} must be numbers, got {value!r}") from None
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{what} must be finite, got {value!r}")
    return numbers
