"""A task as data: a scene, where its things may lie, a goal, and how it is said.

`TaskSpec` is frozen and hashed by content; where an episode starts is a pure function of that hash and the episode's
number. `SpecTask` is the task that everything else takes: worlds, sweeps, training, arms.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sim2real.errors import UserError
from sim2real.goal_view import GoalView
from sim2real.identity import content_hash
from sim2real.objects import ObjectSpec, Pose, checked
from sim2real.observation import AXIS, Feature, Observation, keys_of, standard_features
from sim2real.parameters import Draw, Parameter
from sim2real.predicates import Predicate, Raised
from sim2real.robot import Robot
from sim2real.task import Scene, Task, polar, polar_parameters, yaw_parameter
from sim2real.tasks.suite.language import said, understand

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.truth import Truth

SPLITS = ("seen", "L1", "L2", "L3")
"""For training; with objects of other sizes and kinds; other combinations of goals and objects; another family."""

REACH, PAN = (0.08, 0.36), 1.8
"""m from the pan axis and rad from straight ahead where arms for a table get."""
FREE = 0.10
"""m between the middles of things where an episode begins: the open hand has room around each."""
BESIDE_WIDE = 0.05
"""m that anything keeps from the wall of what is wider than a hand."""
ATTEMPTS, TRIES = 100, 40
TELLS = "?"
"""Between a task's name and an instruction: "table/cube_in_bowl?put the red cube behind the blue bowl"."""
LONG = 14.0
"""s that a part of a goal may take which somebody asks for."""
LIFTED = 0.01
"""m over where it rests: an object so high is in the hand."""


@dataclass(frozen=True)
class Region:
    """Where a thing may lie when an episode begins: polar, around the pan axis (m, rad). Of what has a joint also how
    far x of its frame is turned from outward (rad), and where its joint is (share of its way, 0 … 1)."""

    radius: tuple[float, float] = (0.17, 0.27)
    angle: tuple[float, float] = (-0.9, 0.9)
    yaw: tuple[float, float] = (-math.pi / 4, math.pi / 4)
    joint: tuple[float, float] = (0.0, 0.0)

    def refusal(self) -> str:
        """Why nothing can start there; "" where it can."""
        if not REACH[0] <= self.radius[0] <= self.radius[1] <= REACH[1]:
            return f"is out of reach: {REACH[0]:g} … {REACH[1]:g} m from the pan axis can be, got {_range(self.radius)}"
        if not -PAN <= self.angle[0] <= self.angle[1] <= PAN:
            return f"is out of reach: {-PAN:g} … {PAN:g} rad from straight ahead can be, got {_range(self.angle)}"
        if not 0.0 <= self.joint[0] <= self.joint[1] <= 1.0:
            return f"has a joint at 0 … 1 of its way, got {_range(self.joint)}"
        return ""


@dataclass(frozen=True)
class TaskSpec:
    """One task. `language`: how it is said, the first is the standard one; `horizon`: s until it has failed.

    `goal` must come to hold for half a second while all `constraints` hold. Raises UserError for a goal that cannot be,
    objects that are not in the scene, or a scene with no room for them.
    """

    id: str
    family: str
    scene: tuple[ObjectSpec, ...]
    goal: Predicate
    language: tuple[str, ...]
    horizon: float
    split: str = "seen"
    constraints: tuple[Predicate, ...] = ()
    start: Mapping[str, Region] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "scene", checked(self.scene))
        specs = {spec.name: spec for spec in self.scene}
        for wanted in (self.goal, *self.constraints):
            wanted.check(specs)
        if self.split not in SPLITS:
            raise UserError(f"task '{self.id}': the split is one of {', '.join(SPLITS)}, got '{self.split}'")
        if not self.language or not all(text.strip() for text in self.language):
            raise UserError(f"task '{self.id}' needs at least one sentence that says it")
        if not (math.isfinite(self.horizon) and 1.0 <= self.horizon <= 300.0):
            raise UserError(f"task '{self.id}': the horizon is 1 … 300 s, got {self.horizon:g}")
        if unknown := sorted(set(self.start) - set(specs)):
            raise UserError(f"task '{self.id}' says where '{unknown[0]}' starts, which is not in its scene")
        for name, region in self.start.items():
            if why := region.refusal():
                raise UserError(f"task '{self.id}': where '{name}' starts {why}")

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides its episodes, as JSON types."""
        return {
            "id": self.id,
            "scene": [spec.to_json() for spec in self.scene],
            "goal": self.goal.to_dict(),
            "constraints": [wanted.to_dict() for wanted in self.constraints],
            "start": {
                name: {
                    key: list(value)
                    for key, value in vars(region).items()
                    # Tasks without joints are what they always were.
                    if key in ("radius", "angle") or value != vars(Region())[key]
                }
                for name, region in self.start.items()
            },
            "horizon": self.horizon,
            "version": self.version,
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that decides its episodes."""
        return content_hash(self.to_dict())

    def draw(self, episode: int, robot: Robot) -> Draw:
        """The start of episode number `episode`, at nominal parameters of everything else."""
        rng = np.random.default_rng([episode, *bytes.fromhex(self.hash[:32])])
        values = {
            name: float(rng.uniform(p.low, p.high))
            for name, p in SpecTask(self, robot.n).parameters(robot).items()
        }
        return Draw(episode, int(rng.integers(2**31)), values)


class SpecTask(Task):
    """The task that a `TaskSpec` declares."""

    goal_zone = None

    def __init__(self, spec: TaskSpec, joints: int = 6) -> None:
        self.spec = spec
        self.name, self.duration, self.objects = spec.id, spec.horizon, spec.scene
        self.description = spec.language[0]
        self.parts = tuple(spec.goal.parts())
        self.stages = (
            "approach",
            "at_object",
            "raised",
            *(f"goal_{k}" for k in range(1, len(self.parts) + 1)),
        )
        keys = [key for thing in spec.scene for key in keys_of(thing)]
        self.features: tuple[Feature, ...] = standard_features(
            ("joint_position", "joint_command", *keys), joints
        )

    def told(self, instruction: str) -> "SpecTask":
        """This scene with the goal that a sentence asks for. Raises UserError for one that it does not understand."""
        goal, constraints = understand(instruction, self.objects)
        spec = replace(
            self.spec,
            id=f"{self.spec.id}{TELLS}{instruction}",
            goal=goal,
            constraints=constraints,
            language=(goal.english(lambda name: said(self.object(name))),),
            horizon=max(self.spec.horizon, LONG * len(tuple(goal.parts()))),
        )
        return SpecTask(spec, self.features[0].size)

    @property
    def view(self) -> GoalView:
        """What the goal means for the hand. Raises UserError where no skill brings it about."""
        return GoalView(self.objects, self.spec.goal, self.spec.constraints)

    def scene_parameters(self) -> tuple[Parameter, ...]:
        found: list[Parameter] = []
        for k, thing in enumerate(self.objects):
            region = self.spec.start.get(thing.name, Region())
            low, high = region.angle
            radius, angle = polar_parameters(thing.name, region.radius, (high - low) / 2)
            middle = (low + high) / 2
            share = (k + 0.5) / len(self.objects) - 0.5
            nominal = middle + share * (high - low)
            found += [
                radius,
                Parameter(angle.name, nominal, "rad", low, high, description=angle.description),
            ]
            if thing.joint is not None:
                found += _of_joint(thing.name, region)
            elif thing.symmetry:
                found.append(yaw_parameter(thing.name))
        return tuple(found)

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        v = self.values(values)
        limits = {p.name: (p.low, p.high) for p in self.scene_parameters()}
        for attempt in range(ATTEMPTS):
            placed = self._placed(v, limits, rng, anew=attempt > 0)
            if placed is not None:
                break
        else:
            raise UserError(
                f"task '{self.name}': its {len(self.objects)} things have no room beside each other; give them "
                "wider regions, or fewer of them"
            )
        poses = {name: self._pose(name, place, v) for name, place in placed.items()}
        first = self.parts[0].objects()
        target = first[-1]
        return Scene(np.array([*placed[target], self.object(target).rest]), poses)

    def _pose(self, name: str, place: tuple[float, float], values: Mapping[str, float]) -> Pose:
        yaw = values.get(f"task.{name}.yaw", 0.0)
        if self.object(name).joint is None:
            return Pose(*place, yaw)
        outward = math.atan2(place[1] - AXIS[1], place[0] - AXIS[0])
        return Pose(*place, outward + yaw, joint=values[f"task.{name}.joint"])

    def _placed(
        self,
        values: Mapping[str, float],
        limits: Mapping[str, tuple[float, float]],
        rng: np.random.Generator,
        anew: bool,
    ) -> dict[str, tuple[float, float]] | None:
        """x, y of every thing, as the values say unless one is in the way of an earlier one; None where that fails."""
        placed: dict[str, tuple[float, float]] = {}
        for thing in self.objects:
            keys = [f"task.{thing.name}.{what}" for what in ("radius", "angle")]
            place = polar(*(values[key] for key in keys))
            for turn in range(TRIES):
                if anew or turn:
                    place = polar(*(float(rng.uniform(*limits[key])) for key in keys))
                if all(math.dist(place, other) >= self._room(thing, name) for name, other in placed.items()):
                    placed[thing.name] = place
                    break
            else:
                return None
        return placed

    def _room(self, thing: ObjectSpec, other: str) -> float:
        wide = sum(max(spec.extent[:2]) / 2 for spec in (thing, self.object(other)))
        return max(FREE, wide + BESIDE_WIDE)

    def satisfied(self, truth: "Truth") -> bool:
        return self.spec.goal.holds(truth) and all(wanted.holds(truth) for wanted in self.spec.constraints)

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        from sim2real.experts.base import hand_is_away

        holds = self.spec.goal.estimate(observation, {spec.name: spec for spec in self.objects})
        if not holds or isinstance(self.spec.goal, Raised):
            return holds
        last = observation[f"object.{self.parts[-1].objects()[0]}.position"]
        return hand_is_away(observation, robot, last)

    def stage(self, truth: "Truth") -> str:
        done = sum(part.holds(truth) for part in self.parts)
        if done:
            return f"goal_{done}"
        names = {part.objects()[0] for part in self.parts}
        things = [truth.objects[name] for name in sorted(names)]
        if any(thing.position[2] > thing.spec.rest + LIFTED for thing in things):
            return "raised"
        near = min(
            math.dist(thing.position[:2].tolist(), truth.tool_position[:2].tolist()) for thing in things
        )
        return "at_object" if near < 0.05 else "approach"

    def reward(self, truth: "Truth") -> float:
        """The goal's distance, negative, a part of the tool's from what is to be moved next, and 1 when it holds."""
        if self.satisfied(truth):
            return 1.0
        left = next((part for part in self.parts if not part.holds(truth)), self.parts[-1])
        thing = truth.objects[left.objects()[0]].position
        return -self.spec.goal.distance(truth) - 0.2 * math.dist(thing.tolist(), truth.tool_position.tolist())

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.skills import SkillExpert

        return SkillExpert(robot, self.objects, self.spec.goal, self.spec.constraints)


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} … {limits[1]:g}"


def _of_joint(name: str, region: Region) -> tuple[Parameter, Parameter]:
    """`task.<name>.yaw` and `.joint`: how a mechanism stands, and where its joint is."""
    return tuple(  # type: ignore[return-value]
        Parameter(f"task.{name}.{what}", (low + high) / 2, unit, low, high, description=f"{name}: {about}")
        for what, (low, high), unit, about in (
            ("yaw", region.yaw, "rad", "how far it is turned from outward"),
            ("joint", region.joint, "", "how far its joint has gone, a share of its way"),
        )
    )
