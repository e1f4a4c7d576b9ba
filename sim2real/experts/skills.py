"""Experts that follow from a goal: which law, on which object, towards which place, read from the state anew each time.

There is no expert per task. The parts of a goal are brought about in their order: the first that is not so yet decides
what the hand does next. Nothing is remembered, so a part that is undone again is done again.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.experts import laws
from sim2real.experts.base import LEAST_GRASP, PlaceExpert, PressExpert, PushExpert, hand_for
from sim2real.experts.grasping import CLOSED, GRASP, HELD, OPEN, UNDER
from sim2real.goal_view import GoalView
from sim2real.joint_goals import JointPredicate
from sim2real.model.kinematics import tool_position
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation
from sim2real.policies.protocol import HORIZON
from sim2real.predicates import (
    INSERTED,
    SLACK,
    Held,
    In,
    Inserted,
    Near,
    On,
    Predicate,
    Raised,
)
from sim2real.robot import Robot

Array = NDArray[np.float64]

NEARBY = 0.07
"""m between the tool and an object that the hand has just let go."""
GRASP_SHARE = 0.4
"""Height of the grasp as a share of an object's: what is taken higher up tips over."""
HIGHEST = 0.8
"""Most of an object's height at which it is taken."""
GRASPABLE = (0.016, 0.036)
"""m, least and largest width that the hand goes down around."""


class SkillExpert:
    """A policy that brings a goal about. Raises UserError for goals and objects that no skill is for."""

    def __init__(
        self,
        robot: Robot,
        objects: Sequence[ObjectSpec],
        goal: Predicate,
        constraints: Sequence[Predicate] = (),
        horizon: int = HORIZON,
    ) -> None:
        self.robot, self.horizon = robot, horizon
        self.view = GoalView(objects, goal, constraints)
        self._specs, self._parts = self.view.specs, self.view.parts
        taken = [part.objects()[0] for part in self._parts if not isinstance(part, JointPredicate)]
        self._hands = {name: self._hand(name) for name in taken}
        self._joints = {
            part.a: self._pusher(part.a, horizon) for part in self._parts if isinstance(part, JointPredicate)
        }
        sides = {self._specs[name].width for name in self._hands}
        self._movers = {
            side: (PlaceExpert(robot, horizon, side=side), PushExpert(robot, horizon, side=side))
            for side in sides
        }

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> Array:
        """(horizon, n) rad. Raises UserError when the observation lacks an object of the scene."""
        try:
            part = self._next(observation)
            return self._towards(part, observation)
        except KeyError as error:
            raise UserError(
                f"the expert needs {error} in the observation; it has {sorted(observation)}"
            ) from None

    def _pusher(self, name: str, horizon: int) -> PushExpert:
        joint = self._specs[name].joint
        assert joint is not None
        law = PressExpert if joint.pressed else PushExpert
        return law(self.robot, horizon, side=joint.width, under=joint.under)

    def _hand(self, name: str) -> Array:
        spec = self._specs[name]
        side = spec.width
        low, high = GRASPABLE
        if not spec.moves or spec.kind in ("bowl", "box", "pole", "socket") or not low <= side <= high:
            raise UserError(
                f"the hand cannot take {name} ({spec.kind}, {1000 * side:.0f} mm): it takes solid things of "
                f"{1000 * low:.0f} to {1000 * high:.0f} mm"
            )
        if spec.symmetry == 2:
            raise UserError(f"the hand takes blocks that are as long as wide, {name} is not")
        hand = hand_for(self.robot, side)
        # Nor above what is flat.
        hand[GRASP] = max(min(hand[GRASP], HIGHEST * spec.height), LEAST_GRASP, GRASP_SHARE * spec.height)
        return hand

    # What is to be done next

    def _next(self, observation: Observation) -> Predicate:
        """The part of the goal that the hand is at, or the first that is not so."""
        n = self.robot.gripper
        assert n is not None
        told, angle = float(observation["joint_command"][n]), float(observation["joint_position"][n])
        tool = tool_position(self.robot.model, observation["joint_position"])
        left = next((part for part in self._parts if not self.reached(part, observation)), self._parts[-1])
        things = [part for part in self._parts if not isinstance(part, JointPredicate)]
        if not things:
            return left
        nearest = min(things, key=lambda part: self._away(part, tool, observation))
        hand = self._hands[nearest.objects()[0]]
        if nearest.objects()[0] in self.view.pushed:
            return left  # whoever pushes has nothing in hand, and goes up before going elsewhere
        near = self._away(nearest, tool, observation) < NEARBY
        if near and told < hand[CLOSED] + 0.1 and angle > hand[HELD]:
            return nearest  # it is in the hand
        if near and self.reached(nearest, observation) and (told < hand[OPEN] - 0.05 or tool[2] < 0.06):
            return nearest  # it is being let go
        return left

    @staticmethod
    def _away(part: Predicate, tool: Array, observation: Observation) -> float:
        return float(np.linalg.norm(observation[f"object.{part.objects()[0]}.position"] - tool))

    def reached(self, part: Predicate, observation: Observation) -> bool:
        """Whether a part is so by what is seen, whatever the hand does."""
        if isinstance(part, Raised | Held):
            return False
        if isinstance(part, JointPredicate):
            return self.view.arrived(part, observation)
        a = observation[f"object.{part.objects()[0]}.position"]
        b = observation[f"object.{part.objects()[1]}.position"]
        spec, other = self._specs[part.objects()[0]], self._specs[part.objects()[1]]
        off = math.hypot(a[0] - b[0], a[1] - b[1])
        if isinstance(part, On):
            return off < other.width / 2 and a[2] > b[2] - other.rest + other.height + 0.5 * spec.rest
        if isinstance(part, Inserted):
            return off < part.room(spec, other) + SLACK and a[2] < spec.rest + INSERTED * other.height
        if isinstance(part, In):
            return off < other.width / 2 and a[2] < spec.rest + other.height
        if isinstance(part, Near):
            return bool(part.estimate(observation, self._specs))
        return off < 0.85 * min(0.025, other.measures[0])

    # How

    def _towards(self, part: Predicate, observation: Observation) -> Array:
        wanted = self.view.of(part, observation)
        name = wanted.name
        seen = {
            "goal": wanted.place,
            "object.cube.position": wanted.position,
            "object.cube.yaw": wanted.yaw,
            "object.cube.age": observation[f"object.{name}.age"],
            "joint_position": observation["joint_position"],
            "joint_command": observation["joint_command"],
        }
        if (spread := observation.get(f"object.{name}.spread")) is not None:
            seen["object.cube.spread"] = spread
        if isinstance(part, JointPredicate):
            return self._joints[name].act(seen)
        put, push = self._movers[self._specs[name].width]
        # What must not be raised is pushed.
        if name in self.view.pushed:
            return push.act(seen)
        hand = self._hands[name].copy()
        hand[UNDER] = wanted.under
        # Asked whatever the law, so that nothing is left to be compiled once the arm moves.
        going = put.lets_go(hand, seen)
        law = self._law(part, observation)
        if going and not isinstance(part, Raised | Held):
            law = laws.SET_DOWN
        return put.follow(law, hand, seen)

    def _law(self, part: Predicate, observation: Observation) -> int:
        if isinstance(part, Raised | Held):
            return laws.LIFT
        n = self.robot.gripper
        hand = self._hands[part.objects()[0]]
        shut = float(observation["joint_command"][n]) < hand[CLOSED] + 0.1
        held = shut and float(observation["joint_position"][n]) > hand[HELD] - 0.02
        # As long as it is to be fetched, where it shall go does not matter.
        return laws.SET_DOWN if held or self.reached(part, observation) else laws.LIFT
