"""Stack: set a cube down on top of another."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim2real.objects import ObjectSpec, Pose
from sim2real.observation import Feature, Observation, object_keys, standard_features
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.task import CUBE, GRASPED, Scene, Task, apart, polar, polar_parameters, yaw_parameter
from sim2real.truth import left_alone

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.truth import Truth

BASE = 0.03
"""Side of the lower cube, m."""

APART = 0.10
"""The cubes start at least this far from each other, m: the open hand has room around one."""

LEVEL = 0.006
"""m by which the upper cube may be higher or lower than one that lies flat on the lower."""


class Stack(Task):
    """The cube at rest on top of the other one, and the hand away from it."""

    name = "stack"
    duration = 15.0
    description = "grasp a cube and set it down on top of another of 30 mm"
    objects = (ObjectSpec("cube", "cube", CUBE, "red", 0.02), ObjectSpec("base", "cube", BASE, "blue", 0.03))
    sizes = (("cube", *GRASPED), ("base", 0.02, 0.05))
    stages = ("approach", "at_cube", "raised", "over_base", "stacked")

    def __init__(self, joints: int = 6) -> None:
        self.features: tuple[Feature, ...] = standard_features(
            ("joint_position", "joint_command", *object_keys("cube"), *object_keys("base")), joints
        )

    def scene_parameters(self) -> tuple[Parameter, ...]:
        cube = polar_parameters("cube", (0.17, 0.27), 0.7, nominal_angle=-0.3)
        base = polar_parameters("base", (0.17, 0.27), 0.7, nominal_angle=0.3)
        return (*cube, yaw_parameter("cube"), *base, yaw_parameter("base"))

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        v = self.values(values)
        cube = polar(v["task.cube.radius"], v["task.cube.angle"])
        base = apart(self, "base", v, cube, APART, rng)
        poses = {"cube": Pose(*cube, v["task.cube.yaw"]), "base": Pose(*base, v["task.base.yaw"])}
        return Scene(np.array([*base, self.object("base").height + self.object("cube").rest]), poses)

    def satisfied(self, truth: "Truth") -> bool:
        cube, base = truth.objects["cube"], truth.objects["base"]
        height = cube.spec.rest + base.spec.rest
        level = abs(cube.position[2] - base.position[2] - height) < LEVEL
        above = _distance(cube.position, base.position) <= base.spec.rest
        return bool(level and above and left_alone(cube, truth))

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        if observation["object.cube.age"][0] > 1.0:
            return None  # hidden for too long to vouch for
        from sim2real.experts.base import hand_is_away, seen_on_top

        cube, base = observation["object.cube.position"], observation["object.base.position"]
        on_top = seen_on_top(cube, base, self.object("cube"), self.object("base"))
        return on_top and hand_is_away(observation, robot, cube, self.object("cube").measures[0])

    def stage(self, truth: "Truth") -> str:
        if self.satisfied(truth):
            return "stacked"
        cube, tool = truth.objects["cube"].position, truth.tool_position
        if cube[2] > self.object("cube").rest + 0.01:
            over = _distance(cube, truth.objects["base"].position) <= self.object("base").rest
            return "over_base" if over else "raised"
        return "approach" if math.hypot(cube[0] - tool[0], cube[1] - tool[1]) > 2 * CUBE else "at_cube"

    def reward(self, truth: "Truth") -> float:
        """Metres from the tool to the cube and from the cube to its place on the other, negative; without the former
        once it is over that place, and 1 when it is stacked."""
        cube, base = truth.objects["cube"].position, truth.objects["base"].position
        left = math.dist(cube.tolist(), (base[0], base[1], truth.goal[2]))
        to_cube = math.dist(truth.tool_position.tolist(), cube.tolist()) if left > LEVEL + 0.01 else 0.0
        return float(self.satisfied(truth)) - to_cube - left

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.base import StackExpert

        return StackExpert(robot, side=self.object("cube").measures[0], under=self.object("base").height)


def _distance(cube: np.ndarray, base: np.ndarray) -> float:
    return math.hypot(cube[0] - base[0], cube[1] - base[1])


TASK = Stack
