"""Reach: bring the tool to a place in space."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sim2real.observation import Feature, Observation, standard_features
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.task import Scene, Task, polar, polar_parameters

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.truth import Truth

TOLERANCE = 0.02
"""m between tool and goal."""
DESK = 0.4
"""m, `tool_span` of the arms that the goals' places are written for; those of others are scaled."""


class Reach(Task):
    """The tool frame within 2 cm of a goal."""

    name = "reach"
    duration = 4.0
    description = "bring the tool within 2 cm of a goal in space"
    stages = ("far", "near", "inside")

    def __init__(self, joints: int = 6) -> None:
        self.features: tuple[Feature, ...] = standard_features(
            ("joint_position", "joint_command", "goal"), joints
        )

    def scene_parameters(self) -> tuple[Parameter, ...]:
        height = Parameter(
            "task.goal.height", 0.12, "m", 0.05, 0.22, description="goal: height above the table"
        )
        return (*polar_parameters("goal", (0.16, 0.30), 0.9), height)

    def parameters(self, robot: Robot) -> dict[str, Parameter]:
        parameters, factor = super().parameters(robot), size(robot)
        for p in self.scene_parameters():
            if p.unit == "m" and factor != 1.0:
                parameters[p.name] = replace(
                    p, nominal=factor * p.nominal, low=factor * p.low, high=factor * p.high
                )
        return parameters

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        v = self.values(values)
        x, y = polar(v["task.goal.radius"], v["task.goal.angle"])
        return Scene(goal=np.array([x, y, v["task.goal.height"]]))

    def satisfied(self, truth: "Truth") -> bool:
        return math.dist(truth.tool_position.tolist(), truth.goal.tolist()) <= TOLERANCE

    def estimate(self, observation: Observation, robot: Robot) -> bool | None:
        from sim2real.model.kinematics import tool_position

        tool = tool_position(robot.model, observation["joint_position"])
        return bool(np.linalg.norm(tool - observation["goal"]) <= TOLERANCE)

    def stage(self, truth: "Truth") -> str:
        distance = math.dist(truth.tool_position.tolist(), truth.goal.tolist())
        return "inside" if distance <= TOLERANCE else "near" if distance <= 2.5 * TOLERANCE else "far"

    def reward(self, truth: "Truth") -> float:
        """Metres to the goal, negative, and 1 inside."""
        return float(self.satisfied(truth)) - math.dist(truth.tool_position.tolist(), truth.goal.tolist())

    def expert(self, robot: Robot) -> "Policy":
        from sim2real.experts.base import ReachExpert
        from sim2real.experts.pointing import structure_problem
        from sim2real.experts.reaching import IterativeReachExpert

        # The closed form's angles are those of arms that stand on a desk.
        if size(robot) == 1.0 and not structure_problem(robot):
            return ReachExpert(robot)
        return IterativeReachExpert(robot)


def size(robot: Robot) -> float:
    """How many times as large as a desk arm this one is, for the places of its goals; 1 for all of about its size."""
    from sim2real.model.kinematics import tool_span

    ratio = tool_span(robot.model) / DESK
    return 1.0 if 0.7 <= ratio <= 1.5 else ratio


TASK = Reach
