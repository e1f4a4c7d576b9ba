"""Goals: what shall be so on the table, said of objects by name.

A predicate is a frozen value: it compares, hashes, prints itself as it is written (`On(a='cube', b='base')`), and
goes through JSON. Each knows whether it holds by the true state, how far it is from that (m, 0 where it holds), what an
arm that sees can say of it (None: it cannot tell), and its English. `And` and `Not` nest.

Lengths in m, base frame, z = 0 the table; `left` is +y, `right` −y, `behind` +x (away from the base), `before` −x.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError, nearest
from sim2real.goal import Named, Predicate, Specs
from sim2real.joint_goals import Closed, Open, Pressed, Turned
from sim2real.objects import WALL, ObjectSpec
from sim2real.observation import Observation
from sim2real.text import printable
from sim2real.truth import Truth, left_alone

Array = NDArray[np.float64]
LEVEL = 0.006
"""m by which an object may be off the height at which it lies flat on another."""
INSIDE = 0.006
"""m by which the middle of what is in a bowl or box must be inside its wall."""
AT = 0.025
"""m between an object's middle and a zone's, at most; less where the zone is smaller."""
BESIDE = (0.045, 0.11)
"""m between the middles of two objects that are near each other, along the table."""
SECTOR = math.radians(50.0)
"""How far the direction of what lies left of something may be off that."""
RISE = 0.05
"""m by which a raised object is above where it rests."""
UPRIGHT = math.radians(15.0)
"""How far an upright object may be tilted."""
INSERTED = 0.4
"""Share of the height of a socket or pole above whose foot what is inserted may still be."""
LEAST_ROOM, SLACK = 0.004, 0.004
"""m on every side that an arm needs to insert something, and by which contacts and tilt may let it be beside that."""
SEEN = 1.0
"""s: what was last seen longer ago than this, nobody can vouch for."""
DIRECTIONS: Mapping[str, tuple[float, float]] = {
    "left": (0.0, 1.0),
    "right": (0.0, -1.0),
    "behind": (1.0, 0.0),
    "before": (-1.0, 0.0),
}
"""x, y of the directions on the table as the arm has them."""
_SAID = {
    "": "next to",
    "left": "to the left of",
    "right": "to the right of",
    "behind": "behind",
    "before": "in front of",
}


def _flat(p: Array, q: Array) -> float:
    return math.hypot(p[0] - q[0], p[1] - q[1])


def _position(observation: Observation, name: str) -> Array | None:
    """Where an object is seen; None when it was not, or too long ago."""
    if observation[f"object.{name}.age"][0] > SEEN:
        return None
    return observation[f"object.{name}.position"]


def _must_move(specs: Specs, name: str) -> str:
    return "" if specs[name].moves else f"{name} is a {specs[name].kind}, which lies where it is"


@dataclass(frozen=True)
class On(Predicate):
    """`a` lies flat on top of `b`, let go and at rest."""

    a: str
    b: str
    kind: ClassVar[str] = "on"

    def holds(self, truth: Truth) -> bool:
        a, b = truth.objects[self.a], truth.objects[self.b]
        level = abs(a.position[2] - self._height(a.spec, b.spec, float(b.position[2]))) < LEVEL
        return bool(level and _flat(a.position, b.position) <= b.spec.width / 2 and left_alone(a, truth))

    def left(self, truth: Truth) -> float:
        a, b = truth.objects[self.a], truth.objects[self.b]
        top = self._height(a.spec, b.spec, float(b.position[2]))
        return math.hypot(_flat(a.position, b.position), a.position[2] - top)

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        a, b = _position(observation, self.a), _position(observation, self.b)
        if a is None or b is None:
            return None
        if a[2] < specs[self.a].rest + 0.5 * specs[self.b].height:
            # A camera that takes everything for lying on the table sees what is up further away than it is.
            return None if _flat(a, b) < 3.5 * specs[self.b].width / 2 else False
        return _flat(a, b) <= specs[self.b].width / 2

    def english(self, named: Named) -> str:
        return f"put {named(self.a)} on {named(self.b)}"

    def refusal(self, specs: Specs) -> str:
        a, b = specs[self.a], specs[self.b]
        if b.kind == "ball" or a.kind == "ball":
            return "a ball rolls off, and nothing stays on one"
        if b.kind in ("bowl", "box"):
            return f"{self.b} is open at the top; say In"
        if b.kind == "zone":
            return f"{self.b} is painted on the table; say At"
        if b.kind in ("ring", "pole", "socket") or b.joint is not None:
            return f"nothing lies flat on a {b.kind}"
        return _must_move(specs, self.a) or ("nothing lies on itself" if self.a == self.b else "")

    @staticmethod
    def _height(a: ObjectSpec, b: ObjectSpec, height: float) -> float:
        return height - b.rest + b.height + a.rest


@dataclass(frozen=True)
class In(Predicate):
    """`a` is within the walls of `b`, a bowl or a box, let go and at rest."""

    a: str
    b: str
    kind: ClassVar[str] = "in"

    def holds(self, truth: Truth) -> bool:
        a, b = truth.objects[self.a], truth.objects[self.b]
        below = a.position[2] - (b.position[2] - b.spec.rest) < b.spec.height + 0.5 * a.spec.rest
        return bool(
            below and _flat(a.position, b.position) < b.spec.width / 2 - INSIDE and left_alone(a, truth)
        )

    def left(self, truth: Truth) -> float:
        a, b = truth.objects[self.a], truth.objects[self.b]
        return math.hypot(_flat(a.position, b.position), max(a.position[2] - a.spec.rest, 0.0))

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        a, b = _position(observation, self.a), _position(observation, self.b)
        if b is None:
            return None
        if a is None:
            return None  # a wall hides what is low inside
        return _flat(a, b) < specs[self.b].width / 2

    def english(self, named: Named) -> str:
        return f"put {named(self.a)} into {named(self.b)}"

    def refusal(self, specs: Specs) -> str:
        a, b = specs[self.a], specs[self.b]
        if b.kind not in ("bowl", "box"):
            return f"{self.b} is a {b.kind}, and nothing goes in"
        if max(a.extent[0], a.extent[1]) > 2 * (b.width / 2 - INSIDE):
            return f"{self.a} is wider than {self.b}"
        return _must_move(specs, self.a)


@dataclass(frozen=True)
class At(Predicate):
    """`a` lies on the table with its middle at that of the zone `b`, let go and at rest."""

    a: str
    b: str
    kind: ClassVar[str] = "at"

    def holds(self, truth: Truth) -> bool:
        a, b = truth.objects[self.a], truth.objects[self.b]
        on_table = a.position[2] < 1.5 * a.spec.rest
        return bool(
            on_table and _flat(a.position, b.position) <= self._reach(b.spec) and left_alone(a, truth)
        )

    def left(self, truth: Truth) -> float:
        a, b = truth.objects[self.a], truth.objects[self.b]
        return math.hypot(_flat(a.position, b.position), max(a.position[2] - a.spec.rest, 0.0))

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        a, b = _position(observation, self.a), _position(observation, self.b)
        return None if a is None or b is None else _flat(a, b) <= self._reach(specs[self.b])

    def english(self, named: Named) -> str:
        return f"put {named(self.a)} on {named(self.b)}"

    def refusal(self, specs: Specs) -> str:
        b = specs[self.b]
        return f"{self.b} is a {b.kind}, not a zone" if b.solid else _must_move(specs, self.a)

    @staticmethod
    def _reach(zone: ObjectSpec) -> float:
        return min(AT, zone.measures[0])


@dataclass(frozen=True)
class Near(Predicate):
    """`a` lies on the table beside `b`, at the side named by `direction` ("" any), let go and at rest."""

    a: str
    b: str
    direction: str = ""
    kind: ClassVar[str] = "near"

    def __post_init__(self) -> None:
        if self.direction and self.direction not in DIRECTIONS:
            raise UserError(
                f"there is no direction '{printable(self.direction)}'{nearest(self.direction, DIRECTIONS)}; there are "
                f"{', '.join(DIRECTIONS)}, or none"
            )

    def holds(self, truth: Truth) -> bool:
        a, b = truth.objects[self.a], truth.objects[self.b]
        on_table = a.position[2] < 1.5 * a.spec.rest
        return bool(on_table and self._beside(a.position, b.position) and left_alone(a, truth))

    def left(self, truth: Truth) -> float:
        a, b = truth.objects[self.a].position, truth.objects[self.b].position
        return math.dist(a[:2].tolist(), self.place(a, b).tolist())

    def place(self, a: Array, b: Array) -> Array:
        """(2,) m: where `a`, which is at (3,), should go to be near `b`, which is at (3,)."""
        direction = np.array(DIRECTIONS.get(self.direction, (0.0, 0.0)))
        if not self.direction:
            way = a[:2] - b[:2]
            direction = way / max(float(np.linalg.norm(way)), 1e-6)
        return np.asarray(b[:2] + direction * sum(BESIDE) / 2)

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        a, b = _position(observation, self.a), _position(observation, self.b)
        return None if a is None or b is None else self._beside(a, b)

    def english(self, named: Named) -> str:
        return f"put {named(self.a)} {_SAID[self.direction]} {named(self.b)}"

    def refusal(self, specs: Specs) -> str:
        if self.a == self.b:
            return "nothing is beside itself"
        width = (max(specs[self.a].extent[:2]) + max(specs[self.b].extent[:2])) / 2
        if width > BESIDE[1]:
            return f"{self.a} and {self.b} are so wide that they touch where they would be near"
        return _must_move(specs, self.a)

    def _beside(self, a: Array, b: Array) -> bool:
        away = _flat(a, b)
        if not BESIDE[0] <= away <= BESIDE[1]:
            return False
        if not self.direction:
            return True
        x, y = DIRECTIONS[self.direction]
        return (x * (a[0] - b[0]) + y * (a[1] - b[1])) / away >= math.cos(SECTOR)


@dataclass(frozen=True)
class Raised(Predicate):
    """`a` is up in the hand, RISE above where it rests."""

    a: str
    kind: ClassVar[str] = "raised"

    def holds(self, truth: Truth) -> bool:
        a = truth.objects[self.a]
        reach = 2 * max(a.spec.extent)
        at_tool = math.dist(a.position.tolist(), truth.tool_position.tolist()) < reach
        return bool(at_tool and a.position[2] >= a.spec.rest + RISE)

    def left(self, truth: Truth) -> float:
        a = truth.objects[self.a]
        return max(a.spec.rest + RISE - float(a.position[2]), 0.0)

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        return None  # a camera that knows only the table cannot tell; the hand can, see the tasks

    def english(self, named: Named) -> str:
        return f"lift {named(self.a)}"

    def refusal(self, specs: Specs) -> str:
        return _must_move(specs, self.a)


@dataclass(frozen=True)
class Held(Predicate):
    """`a` is between both fingers."""

    a: str
    kind: ClassVar[str] = "held"

    def holds(self, truth: Truth) -> bool:
        return truth.objects[self.a].grasped

    def left(self, truth: Truth) -> float:
        return math.dist(truth.objects[self.a].position.tolist(), truth.tool_position.tolist())

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        return None

    def english(self, named: Named) -> str:
        return f"take {named(self.a)}"

    def refusal(self, specs: Specs) -> str:
        return _must_move(specs, self.a)


@dataclass(frozen=True)
class Upright(Predicate):
    """`a` stands as it was made."""

    a: str
    kind: ClassVar[str] = "upright"

    def holds(self, truth: Truth) -> bool:
        return self._tilt(truth) <= UPRIGHT

    def distance(self, truth: Truth) -> float:
        spec = truth.objects[self.a].spec
        return max(self._tilt(truth) - UPRIGHT, 0.0) * max(spec.extent) / 2

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        return None

    def english(self, named: Named) -> str:
        return f"stand {named(self.a)} upright"

    def refusal(self, specs: Specs) -> str:
        spec = specs[self.a]
        return "a ball stands whichever way it lies" if spec.kind == "ball" else _must_move(specs, self.a)

    def _tilt(self, truth: Truth) -> float:
        return math.acos(min(max(float(truth.objects[self.a].rotation[2, 2]), -1.0), 1.0))


@dataclass(frozen=True)
class Inserted(Predicate):
    """`a`, a peg, stands in the hole of the socket `b`; or `a`, a ring, lies around the pole `b`; let go, at rest."""

    a: str
    b: str
    kind: ClassVar[str] = "inserted"

    def holds(self, truth: Truth) -> bool:
        a, b = truth.objects[self.a], truth.objects[self.b]
        foot = b.position[2] - b.spec.rest
        deep = a.position[2] - foot < a.spec.rest + INSERTED * b.spec.height
        near = _flat(a.position, b.position) < self.room(a.spec, b.spec) + SLACK
        return bool(deep and near and left_alone(a, truth))

    def left(self, truth: Truth) -> float:
        a, b = truth.objects[self.a], truth.objects[self.b]
        return math.hypot(_flat(a.position, b.position), max(a.position[2] - a.spec.rest, 0.0))

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        a, b = _position(observation, self.a), _position(observation, self.b)
        if a is None or b is None:
            return None
        # Whether it has gone in or stands on the rim no camera tells that takes everything for lying on the table.
        return None if _flat(a, b) < specs[self.b].width / 2 else False

    def english(self, named: Named) -> str:
        return f"insert {named(self.a)} into {named(self.b)}"

    def refusal(self, specs: Specs) -> str:
        a, b = specs[self.a], specs[self.b]
        if why := _must_move(specs, self.a):
            return why
        if (a.kind == "ring") != (b.kind == "pole") or b.kind not in ("pole", "socket"):
            return "a peg goes into a socket, and a ring around a pole"
        if a.kind == "ball":
            return "a ball is no peg"
        if self.room(a, b) < LEAST_ROOM:
            return f"{self.a} needs {1000 * LEAST_ROOM:g} mm of room on every side, in or around {self.b}"
        if a.kind != "ring" and a.height < b.height + 0.01:
            return f"{self.a} is so short that nobody could hold it in {self.b}"
        return ""

    @staticmethod
    def room(a: ObjectSpec, b: ObjectSpec) -> float:
        """m that there is on every side between the peg and the hole, or the ring and the pole."""
        if a.kind == "ring":
            return a.measures[0] - WALL - b.measures[0]
        return (b.measures[1] - max(a.extent[:2])) / 2


@dataclass(frozen=True)
class And(Predicate):
    """All of them, which `all` holds in the order in which they are best brought about."""

    all: tuple[Predicate, ...]
    kind: ClassVar[str] = "and"

    def __post_init__(self) -> None:
        object.__setattr__(self, "all", tuple(self.all))
        if len(self.all) < 2:
            raise UserError("And takes two goals or more")

    def holds(self, truth: Truth) -> bool:
        return all(part.holds(truth) for part in self.all)

    def distance(self, truth: Truth) -> float:
        return sum(part.distance(truth) for part in self.all)

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        said = [part.estimate(observation, specs) for part in self.all]
        return False if False in said else None if None in said else True

    def english(self, named: Named) -> str:
        *first, last = [part.english(named) for part in self.all]
        return f"{', '.join(first)} and {last}"

    def refusal(self, specs: Specs) -> str:
        if any(isinstance(part, Pressed) for part in self.all[:-1]):
            return "a button springs back when the hand goes on; say Pressed last"
        return next((why for part in self.all if (why := part.refusal(specs))), "")

    def objects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.all for name in part.objects()))

    def parts(self) -> Iterator[Predicate]:
        for part in self.all:
            yield from part.parts()

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "all": [part.to_dict() for part in self.all]}


@dataclass(frozen=True)
class Not(Predicate):
    """The other one is not so."""

    one: Predicate
    kind: ClassVar[str] = "not"

    def holds(self, truth: Truth) -> bool:
        return not self.one.holds(truth)

    def distance(self, truth: Truth) -> float:
        return 0.0 if self.holds(truth) else AT

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        said = self.one.estimate(observation, specs)
        return None if said is None else not said

    def english(self, named: Named) -> str:
        return f"do not {self.one.english(named)}"

    def refusal(self, specs: Specs) -> str:
        return ""

    def objects(self) -> tuple[str, ...]:
        return self.one.objects()

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "one": self.one.to_dict()}


KINDS: Mapping[str, type[Predicate]] = {
    kind.kind: kind
    for kind in (On, In, At, Near, Raised, Held, Upright, Inserted, Open, Closed, Pressed, Turned, And, Not)
}
"""All kinds of predicates by name."""


def predicate(said: object, depth: int = 0) -> Predicate:
    """A predicate from JSON types, as `to_dict` gives them and task files hold them. Raises UserError."""
    if depth > 4:
        raise UserError("goals are nested more than four deep")
    if not isinstance(said, Mapping) or not isinstance(said.get("kind"), str):
        raise UserError(
            f"a goal is a table with a kind, one of {', '.join(KINDS)}; got {printable(str(said)[:80])}"
        )
    name = said["kind"]
    if name not in KINDS:
        raise UserError(
            f"there is no goal '{printable(name)}'{nearest(name, KINDS)}; there are {', '.join(KINDS)}"
        )
    kind = KINDS[name]
    given = {key: value for key, value in said.items() if key != "kind"}
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(given) - known):
        raise UserError(
            f"a goal '{name}' has no '{printable(unknown[0])}'; it has {', '.join(sorted(known))}"
        )
    if name == "and":
        parts = given.get("all")
        if not isinstance(parts, list | tuple):
            raise UserError("a goal 'and' needs all, a list of goals")
        return And(tuple(predicate(part, depth + 1) for part in parts))
    if name == "not":
        return Not(predicate(given.get("one"), depth + 1))
    number = given.pop("q", None)
    if number is not None:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(
                f"'q' of a goal '{name}' is a share of the way, 0 … 1; got {printable(str(number)[:40])}"
            )
    needed = sorted(known - {"direction", "q"} - set(given))
    if needed:
        raise UserError(f"a goal '{name}' needs {', '.join(needed)}")
    if wrong := [key for key, value in given.items() if not isinstance(value, str)]:
        raise UserError(
            f"'{wrong[0]}' of a goal '{name}' is a name, got {printable(str(given[wrong[0]])[:40])}"
        )
    return kind(**given, **({} if number is None else {"q": float(number)}))
