"""Observations: named arrays, and the flat vector a network takes.

Standard keys (SI units, base frame; n = number of joints):

| key | size | meaning |
|---|---|---|
| `joint_position` | n | sensed joint angles, rad |
| `joint_velocity` | n | sensed joint speeds, rad/s |
| `joint_command` | n | last goal that was really sent, rad |
| `goal` | 3 | where the tool (reach) or the cube (push) shall be, m |
| `object.<name>.position` | 3 | an object's origin (`sim2real/objects.py`), m |
| `object.<name>.yaw` | 2 | cos kψ, sin kψ of its rotation ψ about the vertical, k its symmetry; (1, 0) for round ones |
| `object.<name>.age` | 1 | seconds since it was last seen, at most `MAX_AGE`; 0 for a zone, which lies still |
| `object.<name>.spread` | 2 | standard deviation of its position, m, and of its yaw, rad; see `MAX_SPREAD` |
| `object.<name>.joint` | 1 | how far its joint has gone, as a share of its way, 0 … 1; only of what has a joint |

Objects come in the order in which the task names them.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real import old_names
from sim2real.errors import UserError
from sim2real.objects import ObjectSpec

Array = NDArray[np.float64]
Observation = dict[str, Array]

AXIS = (0.04, 0.0)
"""x, y of the axis about which the arm turns, m: the centre of the polar coordinates in which things are drawn."""

MIDDLE = (0.25, 0.0)
"""x, y of the middle of the workspace, m: where an object is said to be that was never seen."""

MAX_AGE = 2.0
"""An object's age saturates here, s: never seen looks like seen long ago."""

MAX_SPREAD = (0.1, 1.0)
"""Where an object's spread saturates: m (root mean square over x and y) and rad. Of one never seen it is this; of a
round one the angle's is 0; of one whose true state is handed over both are."""


@dataclass(frozen=True)
class Feature:
    """One named part of an observation vector and how many numbers it has."""

    name: str
    size: int


STANDARD = ("joint_position", "joint_velocity", "joint_command", "goal")
"""What every arm can tell a policy; what it sees of objects comes on top."""

_SIZES = {"goal": 3}
_OBJECT = {"position": 3, "yaw": 2, "age": 1, "spread": 2, "joint": 1}
_OBJECT_KEY = re.compile(rf"object\.([a-z][a-z0-9_]*)\.({'|'.join(_OBJECT)})")


@lru_cache(maxsize=256)
def object_keys(name: str) -> tuple[str, str, str, str]:
    """The entries of an observation about one object: position, yaw, age, spread."""
    return f"object.{name}.position", f"object.{name}.yaw", f"object.{name}.age", f"object.{name}.spread"


def joint_key(name: str) -> str:
    """The entry of an observation about an object's joint."""
    return f"object.{name}.joint"


def keys_of(spec: ObjectSpec) -> tuple[str, ...]:
    """All entries of an observation about one object."""
    keys = object_keys(spec.name)
    return keys if spec.joint is None else (*keys, joint_key(spec.name))


def is_spread(name: str) -> bool:
    """Whether an entry says how well something is known: what recordings of earlier versions do not have."""
    return name.startswith("object.") and name.endswith(".spread")


def observed_names(objects: Iterable[ObjectSpec]) -> tuple[str, ...]:
    """Everything that an arm can tell a policy when these objects lie on its table, in this order."""
    return (*STANDARD, *(key for spec in objects for key in keys_of(spec)))


def object_entries(
    spec: ObjectSpec,
    position: ArrayLike,
    yaw: float,
    age: float,
    spread: tuple[float, float] = (0.0, 0.0),
    joint: float = 0.0,
) -> Observation:
    """The entries about one object at `position` (3,) m, turned by `yaw` rad, last seen `age` s ago.

    `spread`: standard deviations of its position, m (root mean square over x and y), and of its yaw, rad. `joint`: how
    far its joint has gone, 0 … 1, if it has one.
    """
    where, turn, when, how_well = object_keys(spec.name)
    k = spec.symmetry
    moved = {} if spec.joint is None else {joint_key(spec.name): np.array([joint])}
    return moved | {
        where: np.array(position, dtype=np.float64),
        turn: np.array([math.cos(k * yaw), math.sin(k * yaw)]),
        when: np.array([min(max(age, 0.0), MAX_AGE)]),
        how_well: np.array([min(spread[0], MAX_SPREAD[0]), min(spread[1], MAX_SPREAD[1]) if k else 0.0]),
    }


def unseen(spec: ObjectSpec) -> Observation:
    """The entries about an object that was never seen: in the middle of the workspace, old, and anywhere."""
    return object_entries(spec, (*MIDDLE, spec.rest), 0.0, MAX_AGE, MAX_SPREAD)


def nothing_seen(objects: Iterable[ObjectSpec] = ()) -> Observation:
    """Goal and objects as an arm without a camera and without a goal has them."""
    entries: Observation = {"goal": np.zeros(3)}
    for spec in objects:
        entries |= unseen(spec)
    return entries


def standard_features(names: Sequence[str], n: int) -> tuple[Feature, ...]:
    """Features of the given names for a robot with `n` joints. Unknown ones: UserError."""
    return tuple(Feature(name, _size(name, n)) for name in names)


def _size(name: str, n: int) -> int:
    if name in ("joint_position", "joint_velocity", "joint_command"):
        return n
    if name in _SIZES:
        return _SIZES[name]
    if (found := _OBJECT_KEY.fullmatch(name)) is not None:
        return _OBJECT[found[2]]
    new = f"; it is called {old_names.FEATURES[name]} now" if name in old_names.FEATURES else ""
    raise UserError(
        f"unknown observation feature '{name}'{new}; the standard ones are {', '.join(STANDARD)} and, for every "
        f"object, {', '.join(object_keys('NAME'))}"
    )


def flatten(
    observation: Mapping[str, NDArray[np.float64]], features: Sequence[Feature]
) -> NDArray[np.float32]:
    """Concatenate the features in order: (sum of sizes,) float32.

    Raises UserError when a feature is missing or has another size.
    """
    parts = []
    for feature in features:
        if feature.name not in observation:
            raise UserError(
                f"the observation lacks '{feature.name}', which the policy needs; "
                f"it has {sorted(observation)}"
            )
        value = np.asarray(observation[feature.name], dtype=np.float32).reshape(-1)
        if value.size != feature.size:
            raise UserError(
                f"observation '{feature.name}' has {value.size} numbers, the policy expects {feature.size}"
            )
        parts.append(value)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
