"""Place: set a cube down on a mark."""

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

TOLERANCE = 0.025
"""m between the cube's centre and the mark's, along the table."""

APART = 0.08
"""The cube starts at least this far from the mark, m."""


class Place(Task):
    """The cube within 2.5 cm of the mark, at rest on the table, and the hand away from it."""

    name = "place"
    duration = 15.0
    description = "grasp a cube and set it down within 2.5 cm of a mark on the table"
    objects = (ObjectSpec("cube", "cube", CUBE, "red", 0.02), ObjectSpec("mark", "zone", 0.03, "green"))
    goal_zone = "mark"
    goal_height = CUBE / 2
    sizes = (("cube", *GRASPED),)
    stages = ("approach", "at_cube", "raised", "over_mark", "placed")

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
        cube, rest = truth.objects["cube"], self.object("cube").rest
        on_table = abs(cube.position[2] - rest) < 0.5 * rest
        at_mark = _distance(cube.position, truth.goal) <= TOLERANCE
        return bool(on_table and at_mark and left_alone(cube, truth))

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        if observation["object.cube.age"][0] > 1.0:
            return None  # hidden for too long to vouch for
        from sim2real.experts.base import hand_is_away

        cube = observation["object.cube.position"]
        away = hand_is_away(observation, robot, cube, self.object("cube").measures[0])
        return away and _distance(cube, observation["goal"]) <= TOLERANCE

    def stage(self, truth: "Truth") -> str:
        if self.satisfied(truth):
            return "placed"
        cube, tool = truth.objects["cube"].position, truth.tool_position
        if _distance(cube, truth.goal) <= TOLERANCE:
            return "over_mark"
        if cube[2] > self.object("cube").rest + 0.01:
            return "raised"
        return "approach" if math.hypot(cube[0] - tool[0], cube[1] - tool[1]) > 2 * CUBE else "at_cube"

    def reward(self, truth: "Truth") -> float:
        """Metres from the tool to the cube and from the cube to the mark, negative; without the former once the cube
        is at the mark, and 1 when it is placed."""
        cube = truth.objects["cube"].position
        left = _distance(cube, truth.goal)
        to_cube = math.dist(truth.tool_position.tolist(), cube.tolist()) if left > TOLERANCE else 0.0
        return float(self.satisfied(truth)) - to_cube - left

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.base import PlaceExpert

        return PlaceExpert(robot, side=self.object("cube").measures[0])


def _distance(cube: np.ndarray, goal: np.ndarray) -> float:
    return math.hypot(cube[0] - goal[0], cube[1] - goal[1])


TASK = Place
