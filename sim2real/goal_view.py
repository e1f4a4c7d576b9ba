"""What a goal means for the hand: what it moves, where that is, and where it shall be.

Experts act on it, and it is what a policy for many tasks observes (`GoalView.entries`): one row a part of the goal, in
the goal's order, whatever the objects are called and however many there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.joint_goals import JointPredicate
from sim2real.objects import ObjectSpec
from sim2real.observation import AXIS, Observation, joint_key, object_keys
from sim2real.predicates import (
    At,
    Closed,
    Held,
    In,
    Inserted,
    Near,
    Not,
    On,
    Open,
    Predicate,
    Raised,
    Turned,
)

Array = NDArray[np.float64]

APART = 0.042
"""m between things that share a bowl or box."""
CLEAR = 0.004
"""m over the rim of a bowl or box at which something is let go into it."""

ARRIVED = 0.05
"""Share of a joint's way within which it is left alone, inside of what a goal asks for."""
AHEAD = 0.02
"""m at least that the place is ahead of a handle that has not arrived."""

PARTS = 3
"""How many parts a goal may have for a policy that observes it."""
ENTRY = "goal_parts"
"""The entry of an observation with all rows, one after the other; rows that are not needed are zero."""
WAYS = (
    "raised", "held", "at", "on", "in", "near", "pushed", "inserted", "open", "closed", "pressed", "turned",
)  # fmt: skip
"""How an object is wanted: the kinds of predicates that there are skills for, and At along the table."""
ROUND = ("cylinder", "ball", "bowl", "zone", "ring", "pole")
COLUMNS: tuple[tuple[str, int], ...] = (
    ("place", 3),
    ("position", 3),
    ("yaw", 2),
    ("age", 1),
    ("spread", 2),
    ("other", 3),
    ("other_age", 1),
    ("size", 4),
    ("under", 1),
    ("way", len(WAYS)),
    ("joint", 2),
    ("round", 2),
    ("wanted", 1),
)
"""What a row says, and in how many numbers: where the object shall be, where it is (m, base frame), its yaw as the hand
takes it, how old and how certain that is; where what it is put on or beside is, and how old that is; width and height
of both, m; how high it is put down; how it is wanted; how far its joint has gone and shall go, shares of its way (0 for
what has no joint); which of them are round; 1 (0 in rows that are not needed). Of what moves on a joint `position` is
where its handle is, and `place` is in the direction in which that is to be pushed, as far away as it has to go."""
ROW = sum(size for _, size in COLUMNS)
SIZE = PARTS * ROW


@dataclass(frozen=True)
class Wanted:
    """One part of a goal as the hand sees it: the object `name` at `position` (3,) m shall be at `place` (3,) m, on
    something `under` m high, with `yaw` (2,) cos 4ψ, sin 4ψ of how the hand takes it; of a handle cos ψ, sin ψ of its
    direction halfway."""

    name: str
    position: Array
    place: Array
    under: float
    yaw: Array


class GoalView:
    """A goal over known objects. Raises UserError for parts that no skill brings about."""

    def __init__(
        self, objects: Sequence[ObjectSpec], goal: Predicate, constraints: Sequence[Predicate] = ()
    ) -> None:
        self.specs = {spec.name: spec for spec in objects}
        self.parts = tuple(goal.parts())
        self.pushed = frozenset(
            said.one.a for said in constraints if isinstance(said, Not) and isinstance(said.one, Raised)
        )
        for part in self.parts:
            if not isinstance(part, On | In | At | Near | Raised | Held | Inserted | JointPredicate):
                raise UserError(f"there is no skill that brings about {part}; give a policy")

    def of(self, part: Predicate, observation: Observation) -> Wanted:
        """What one part means by this observation. Raises KeyError when that lacks an object."""
        name = part.objects()[0]
        if isinstance(part, JointPredicate):
            return self._handle(part, observation)
        position = observation[f"object.{name}.position"]
        place, under = self._place(part, observation)
        return Wanted(name, position, place, under, self._yaw(self.specs[name], observation, position))

    def entries(self, observation: Observation) -> Observation:
        """The entry `ENTRY` (SIZE,). Raises UserError for a goal of more than PARTS parts or a missing object."""
        if len(self.parts) > PARTS:
            raise UserError(
                f"a policy observes goals of {PARTS} parts at most, this one has {len(self.parts)}"
            )
        rows = np.zeros((PARTS, ROW))
        try:
            for row, part in zip(rows, self.parts):
                row[:] = self._row(part, observation)
        except KeyError as error:
            raise UserError(
                f"the goal needs {error} in the observation; it has {sorted(observation)}"
            ) from None
        return {ENTRY: rows.reshape(-1)}

    def _row(self, part: Predicate, observation: Observation) -> Array:
        wanted = self.of(part, observation)
        names = part.objects()
        spec, other = self.specs[names[0]], self.specs[names[-1]]
        _, _, age, spread = object_keys(names[0])
        where, _, since, _ = object_keys(names[-1])
        way = "pushed" if names[0] in self.pushed else part.kind
        joint = [0.0, 0.0]
        if isinstance(part, JointPredicate):
            joint = [float(observation[joint_key(names[0])][0]), part.aim]
        return np.concatenate(
            [
                wanted.place, wanted.position, wanted.yaw, observation[age], observation.get(spread, np.zeros(2)),
                observation[where], observation[since],
                [spec.width, spec.height, other.width, other.height, wanted.under],
                [float(way == known) for known in WAYS],
                joint,
                [float(spec.kind in ROUND), float(other.kind in ROUND), 1.0],
            ]
        )  # fmt: skip

    def _place(self, part: Predicate, observation: Observation) -> tuple[Array, float]:
        """Where the object shall be (3,) m, and the height of what it is put upon."""
        a = observation[f"object.{part.objects()[0]}.position"]
        if isinstance(part, Raised | Held):
            return a, 0.0
        b = observation[f"object.{part.objects()[1]}.position"]
        other = self.specs[part.objects()[1]]
        foot = max(float(b[2]) - other.rest, 0.0)
        if isinstance(part, Near):
            return np.array([*part.place(a, b), 0.0]), 0.0
        if isinstance(part, On):
            return b, foot + other.height
        if isinstance(part, In):
            return b + self._slot(part, observation), foot + other.height + CLEAR
        if isinstance(part, Inserted):
            return b, foot + other.height + CLEAR
        return b, 0.0

    def arrived(self, part: JointPredicate, observation: Observation) -> bool:
        """Whether a joint is where the hand may leave it alone: well within what the part asks for."""
        share = float(observation[joint_key(part.a)][0])
        if isinstance(part, Open):
            return share >= min(part.q + ARRIVED, 0.97)
        if isinstance(part, Turned):
            return abs(share - part.q) <= 2 * ARRIVED
        return share <= ARRIVED if isinstance(part, Closed) else part.within(share)

    def _handle(self, part: JointPredicate, observation: Observation) -> Wanted:
        """The handle of what moves on a joint, and the place straight ahead of it as far away as it has to go."""
        spec = self.specs[part.a]
        joint = spec.joint
        assert joint is not None
        cos, sin = observation[f"object.{part.a}.yaw"]
        turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        share = float(observation[joint_key(part.a)][0])
        base = observation[f"object.{part.a}.position"]
        position = base + turn @ joint.handle_at(share * joint.travel)
        way, per_unit = joint.direction_at(share * joint.travel)
        left = (part.aim - share) * joint.travel * per_unit
        if not joint.pressed:
            # A crank tips: the hand pushes along the table.
            way = np.array([way[0], way[1], 0.0]) / math.hypot(way[0], way[1])
            # Whoever has not arrived goes on, against the stop if need be.
            left = 0.0 if self.arrived(part, observation) else math.copysign(max(abs(left), AHEAD), left)
        halfway, _ = joint.direction_at(0.5 * (share + part.aim) * joint.travel)
        across = turn @ (halfway if abs(halfway[2]) < 0.9 else np.array([1.0, 0.0, 0.0]))
        yaw = across[:2] / np.linalg.norm(across[:2])
        return Wanted(part.a, position, position + turn @ way * left, joint.under, yaw)

    def _slot(self, part: In, observation: Observation) -> Array:
        """(3,) m from the middle of a bowl or box: where in it this object goes, if it has to hold several."""
        sharing = [other for other in self.parts if isinstance(other, In) and other.b == part.b]
        k = self.specs[part.b].symmetry
        cos, sin = observation[f"object.{part.b}.yaw"]
        turn = math.atan2(sin, cos) / k if k else 0.0
        away = (sharing.index(part) - (len(sharing) - 1) / 2) * APART
        return np.array([-math.sin(turn) * away, math.cos(turn) * away, 0.0])

    @staticmethod
    def _yaw(spec: ObjectSpec, observation: Observation, place: Array) -> Array:
        if spec.symmetry == 4:
            return observation[f"object.{spec.name}.yaw"]
        # Round things are taken as is most comfortable: straight away from the pan axis.
        turn = 4 * math.atan2(place[1] - AXIS[1], place[0] - AXIS[0])
        return np.array([math.cos(turn), math.sin(turn)])


def goal_view(task: Any) -> GoalView:
    """What the goal of a task means for the hand. Raises UserError for a task whose goal is not data."""
    view = getattr(task, "view", None)
    if not isinstance(view, GoalView):
        raise UserError(
            f"the goal of '{task.name}' is not data, as that of table/cube_in_bowl; `sim2real tasks --suite table` "
            "lists tasks whose goals are"
        )
    return view
