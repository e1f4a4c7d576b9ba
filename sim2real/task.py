"""What a task is.

A task is one small class: where things start, what shall be achieved, what its policies observe, and a scripted
expert. It knows neither the simulator nor the arm's driver. Positions are in the base frame, whose z = 0 is the
table; lengths in m, angles in rad.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.objects import ByName, ObjectSpec, Pose, checked, unknown
from sim2real.observation import AXIS, Feature, Observation
from sim2real.parameters import Parameter
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot

if TYPE_CHECKING:
    from sim2real.truth import Truth

Array = NDArray[np.float64]

CUBE = 0.025
"""Side of the cube that the tasks here are about, m."""

GRASPED = (0.018, 0.04)
"""Least and largest side of a cube that the tasks here grasp, m: lower the fingertips would rub on the table, and with
larger ones the gripper does not open far enough to have room for both fingers."""

HOLD = 0.5
"""A task has succeeded when its condition held this long without interruption, s."""

ROUNDING = 1e-9
"""s by which a time that is a sum of periods may be off."""

START_NOISE = 0.05
"""Each joint starts within this of its home angle, rad; see `ArmModel.scale` for joints that slide."""


class Hold:
    """For how long a condition has held without interruption, told by looks at it."""

    def __init__(self) -> None:
        self._since = math.inf
        self.seconds = 0.0
        """s from the first to the latest of the looks in a row at which it held."""
        self.succeeded = False
        """Whether the condition has ever held for `HOLD` s."""

    def look(self, time: float, satisfied: bool) -> bool:
        """Note whether the condition holds at `time`, s; returns whether it has held for `HOLD` by now."""
        self._since = min(self._since, time) if satisfied else math.inf
        self.seconds = time - self._since if satisfied else 0.0
        held = satisfied and self.seconds >= HOLD - ROUNDING
        self.succeeded = self.succeeded or held
        return held


@dataclass(frozen=True)
class Scene:
    """Where an episode's goal and objects are. `goal` (3,) m; `poses` by the objects' names.

    Objects of the task that have no pose are not there in this episode. Raises UserError for a goal that is no place.
    """

    goal: Array
    poses: Mapping[str, Pose] = field(default_factory=dict)

    def __post_init__(self) -> None:
        goal = np.array(self.goal, dtype=np.float64)
        if goal.shape != (3,) or not np.isfinite(goal).all():
            raise UserError(f"a scene's goal needs three finite coordinates, got {self.goal}")
        goal.setflags(write=False)
        object.__setattr__(self, "goal", goal)
        object.__setattr__(self, "poses", ByName(self.poses))


class Task:
    """Base class of tasks; see the module docstring. Instances hold no state of an episode."""

    name: str
    duration: float
    """s; an episode that has not succeeded by then has failed."""
    features: tuple[Feature, ...]
    """What policies of this task observe, in this order."""
    objects: tuple[ObjectSpec, ...] = ()
    """What lies on the table. Observations, parameters and truth name them, in this order."""
    goal_zone: str | None = None
    """The zone at which the goal is; None: the goal is not to be seen and has to be given."""
    goal_height: float = 0.0
    """Height of the goal over that zone, m."""
    sizes: tuple[tuple[str, float, float], ...] = ()
    """Name, least and largest first measure, m, of the objects that not every size will do for."""
    description: str = ""
    stages: tuple[str, ...] = ()
    """What `stage` may return, from nothing achieved to success."""

    def object(self, name: str) -> ObjectSpec:
        """One of `objects`. Raises UserError for another name."""
        for spec in self.objects:
            if spec.name == name:
                return spec
        raise UserError(
            f"task '{self.name}': {unknown(name, [spec.name for spec in self.objects], 'object')}"
        )

    def with_objects(self, objects: Sequence[ObjectSpec]) -> "Task":
        """This task with other objects of the names and kinds that it has: other sizes, colours, masses.

        Raises UserError when a name is unknown, the kind is another one, or the size is none of `sizes`.
        """
        new = {spec.name: spec for spec in checked(objects)}
        for name, spec in new.items():
            if spec.kind != self.object(name).kind:
                raise UserError(
                    f"in the task '{self.name}', '{name}' is a {self.object(name).kind} and cannot be a {spec.kind}"
                )
        for name, low, high in self.sizes:
            spec = new.get(name, self.object(name))
            if not low <= spec.measures[0] <= high:
                raise UserError(
                    f"in the task '{self.name}', '{name}' may measure {1000 * low:g} to {1000 * high:g} mm, which the "
                    f"gripper can handle; got {1000 * spec.measures[0]:g} mm"
                )
        task = copy(self)
        task.objects = tuple(new.get(spec.name, spec) for spec in self.objects)
        return task

    def __repr__(self) -> str:
        things = ", ".join(getattr(spec, "name", str(spec)) for spec in self.objects) or "no objects"
        return f"Task({self.name}: {things}; {self.duration:g} s)"

    def scene_parameters(self) -> tuple[Parameter, ...]:
        """The task's own parameters: where goals and objects may be."""
        return ()

    def parameters(self, robot: Robot) -> dict[str, Parameter]:
        """Everything that a draw may set about the start of an episode, by name (`task.…`)."""
        start = (
            Parameter(
                f"task.start.{name}",
                0.0,
                "rad" if scale == 1.0 else "m",
                -START_NOISE * scale,
                START_NOISE * scale,
                description=f"how far {name} starts from its home angle",
            )
            for name, scale in zip(robot.joint_names, robot.model.scale.tolist())
        )
        return {parameter.name: parameter for parameter in (*self.scene_parameters(), *start)}

    def start(self, values: Mapping[str, float], robot: Robot) -> Array:
        """(n,) rad, the joint angles at the start of an episode, within the joints' limits."""
        offset = np.array([values.get(f"task.start.{name}", 0.0) for name in robot.joint_names])
        return np.clip(robot.home + offset, robot.lower, robot.upper)

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        """The scene for these parameter values; parameters that are not given take their nominal value."""
        raise NotImplementedError

    def satisfied(self, truth: "Truth") -> bool:
        """Whether the condition holds at this instant, from the true state."""
        raise NotImplementedError

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        """Whether the condition holds by what an arm sees; None where that cannot be told."""
        return None

    def stage(self, truth: "Truth") -> str:
        """How far the episode has come, one of `stages`."""
        return self.stages[-1] if self.satisfied(truth) else self.stages[0]

    def reward(self, truth: "Truth") -> float:
        """For reinforcement learning: the larger the closer to the task's condition."""
        return float(self.satisfied(truth))

    def expert(self, robot: Robot) -> Policy:
        """A scripted policy: a function of the observation alone. Raises UserError for unsuitable robots."""
        raise UserError(f"the task '{self.name}' has no scripted expert; give a policy")

    def values(self, values: Mapping[str, float]) -> dict[str, float]:
        """The scene's parameters with nominal values filled in."""
        return {p.name: float(values.get(p.name, p.nominal)) for p in self.scene_parameters()}


def polar_parameters(
    what: str, radius: tuple[float, float], angle: float, nominal_angle: float = 0.0
) -> tuple[Parameter, Parameter]:
    """`task.<what>.radius` and `.angle`: a place on the table around the pan axis."""
    low, high = radius
    return (
        Parameter(
            f"task.{what}.radius",
            (low + high) / 2,
            "m",
            low,
            high,
            description=f"{what}: distance from the pan axis",
        ),
        Parameter(
            f"task.{what}.angle",
            nominal_angle,
            "rad",
            -angle,
            angle,
            description=f"{what}: direction seen from the pan axis",
        ),
    )


def polar(radius: float, angle: float) -> tuple[float, float]:
    """x, y in the base frame of a place in polar coordinates around the pan axis."""
    return AXIS[0] + radius * math.cos(angle), AXIS[1] + radius * math.sin(angle)


def yaw_parameter(what: str) -> Parameter:
    """`task.<what>.yaw`: a cube's rotation, which looks like another one a quarter turn on."""
    return Parameter(
        f"task.{what}.yaw",
        0.0,
        "rad",
        -math.pi / 4,
        math.pi / 4,
        description=f"{what}: rotation about the vertical",
    )


def apart(
    task: Task,
    what: str,
    values: Mapping[str, float],
    other: tuple[float, float],
    distance: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """x, y (m) of `what` as the values say; drawn anew until it is at least `distance` m from `other`, which stays."""
    place = polar(values[f"task.{what}.radius"], values[f"task.{what}.angle"])
    region = {p.name: (p.low, p.high) for p in task.scene_parameters()}
    while math.dist(other, place) < distance:
        radius, angle = (rng.uniform(*region[f"task.{what}.{key}"]) for key in ("radius", "angle"))
        place = polar(radius, angle)
    return place
