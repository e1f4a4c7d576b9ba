"""Lift: grasp a cube and raise it."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim2real.objects import ObjectSpec, Pose
from sim2real.observation import Feature, Observation, object_keys, standard_features
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.task import CUBE, GRASPED, Scene, Task, polar, polar_parameters, yaw_parameter

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.truth import Truth

RISE = 0.05
"""How far the cube's centre must rise above where it rests on the table, m."""


class Lift(Task):
    """The cube 5 cm above the table, between the fingers."""

    name = "lift"
    duration = 8.0
    description = "grasp a cube and raise it by 5 cm"
    objects = (ObjectSpec("cube", "cube", CUBE, "red", 0.02),)
    sizes = (("cube", *GRASPED),)
    stages = ("approach", "above", "at_cube", "raised", "lifted")

    def __init__(self, joints: int = 6) -> None:
        self.features: tuple[Feature, ...] = standard_features(
            ("joint_position", "joint_command", *object_keys("cube")), joints
        )

    def scene_parameters(self) -> tuple[Parameter, ...]:
        return (*polar_parameters("cube", (0.17, 0.27), 0.7), yaw_parameter("cube"))

    @property
    def _rest(self) -> float:
        """Height of the cube's centre where it rests on the table, m."""
        return self.object("cube").rest

    @property
    def _side(self) -> float:
        return self.object("cube").measures[0]

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        v = self.values(values)
        x, y = polar(v["task.cube.radius"], v["task.cube.angle"])
        goal = np.array([x, y, self._rest + RISE])
        return Scene(goal, {"cube": Pose(x, y, v["task.cube.yaw"])})

    def satisfied(self, truth: "Truth") -> bool:
        # Near the tool as well: a cube thrown into the air is not lifted.
        at_tool = (
            math.dist(truth.objects["cube"].position.tolist(), truth.tool_position.tolist()) < 2 * self._side
        )
        return bool(at_tool and truth.objects["cube"].position[2] >= self._rest + RISE)

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        if robot.gripper is None:
            return None
        from sim2real.experts.base import holds_something
        from sim2real.model.kinematics import tool_position

        tool = tool_position(robot.model, observation["joint_position"])
        # The tool frame is at the fingertips: where the cube's centre is, or up to a finger's width above it.
        # Asked first, though it costs more: what it compiles must not wait until something is up in the air.
        return bool(holds_something(observation, robot, self._side) and tool[2] >= self._rest + RISE)

    def stage(self, truth: "Truth") -> str:
        if self.satisfied(truth):
            return "lifted"
        cube, tool = truth.objects["cube"].position, truth.tool_position
        if cube[2] > self._rest + 0.01:
            return "raised"
        if math.hypot(cube[0] - tool[0], cube[1] - tool[1]) > 2 * self._side:
            return "approach"
        return "at_cube" if tool[2] < 1.5 * self._side else "above"

    def reward(self, truth: "Truth") -> float:
        """Metres from the tool to the cube, negative, ten times the cube's rise, and 1 when lifted."""
        to_cube = math.dist(truth.tool_position.tolist(), truth.objects["cube"].position.tolist())
        rise = min(max(float(truth.objects["cube"].position[2]) - self._rest, 0.0), RISE)
        return float(self.satisfied(truth)) + 10.0 * rise - to_cube

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.base import LiftExpert

        return LiftExpert(robot, side=self._side)


TASK = Lift
