"""Push: slide a cube along the table onto a mark."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim2real.objects import ObjectSpec, Pose
from sim2real.observation import Feature, Observation, object_keys, standard_features
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.task import CUBE, Scene, Task, apart, polar, polar_parameters, yaw_parameter

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.truth import Truth

TOLERANCE = 0.025
"""m between the cube's centre and the mark's, along the table."""

APART = 0.07
"""The cube starts at least this far from the mark, m."""


class Push(Task):
    """The cube within 2.5 cm of the mark."""

    name = "push"
    duration = 10.0
    description = "push a cube to within 2.5 cm of a mark on the table"
    objects = (ObjectSpec("cube", "cube", CUBE, "red", 0.02), ObjectSpec("mark", "zone", 0.03, "green"))
    goal_zone = "mark"
    goal_height = CUBE / 2
    sizes = (("cube", 0.018, 0.06),)
    stages = ("untouched", "closer", "at_mark")

    def __init__(self, joints: int = 6) -> None:
        self.features: tuple[Feature, ...] = standard_features(
            ("joint_position", "joint_command", "goal", *object_keys("cube")), joints
        )

    def scene_parameters(self) -> tuple[Parameter, ...]:
        cube = polar_parameters("cube", (0.17, 0.27), 0.7, nominal_angle=-0.3)
        mark = polar_parameters("mark", (0.17, 0.27), 0.7, nominal_angle=0.3)
        return (*cube, yaw_parameter("cube"), *mark)

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        v = self.values(values)
        cube = polar(v["task.cube.radius"], v["task.cube.angle"])
        mark = apart(self, "mark", v, cube, APART, rng)
        poses = {"cube": Pose(*cube, v["task.cube.yaw"]), "mark": Pose(*mark)}
        return Scene(np.array([*mark, self.goal_height]), poses)

    def satisfied(self, truth: "Truth") -> bool:
        rest = self.object("cube").rest
        on_table = abs(truth.objects["cube"].position[2] - rest) < rest
        return bool(on_table and _distance(truth.objects["cube"].position, truth.goal) <= TOLERANCE)

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        if observation["object.cube.age"][0] > 1.0:
            return None  # hidden for too long to vouch for
        return _distance(observation["object.cube.position"], observation["goal"]) <= TOLERANCE

    def stage(self, truth: "Truth") -> str:
        if self.satisfied(truth):
            return "at_mark"
        # No episode starts closer to the mark than APART.
        return (
            "closer" if _distance(truth.objects["cube"].position, truth.goal) < APART - 0.01 else "untouched"
        )

    def reward(self, truth: "Truth") -> float:
        """Metres from the tool to the cube and from the cube to the mark, negative, and 1 at the mark."""
        to_cube = math.dist(truth.tool_position.tolist(), truth.objects["cube"].position.tolist())
        return float(self.satisfied(truth)) - to_cube - _distance(truth.objects["cube"].position, truth.goal)

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.base import PushExpert

        return PushExpert(robot, side=self.object("cube").measures[0])


def _distance(cube: np.ndarray, goal: np.ndarray) -> float:
    return math.hypot(cube[0] - goal[0], cube[1] - goal[1])


TASK = Push
