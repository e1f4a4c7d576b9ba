"""A policy of your own: nod the wrist, whatever the task.

    python examples/05_own_policy.py [DRAWS]
    sim2real evaluate --task reach --policy examples.05_own_policy:Nod --draws 5

A policy has a `horizon`, forgets everything in `reset`, and turns an observation into a chunk of joint goals:
row i of (horizon, joints), in rad, is due (i + 1) policy periods after the observation.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.observation import Observation
from sim2real.robot import Robot
from sim2real.task import Task


class Nod:
    """Swings the fourth joint by 0.2 rad about home, once in two seconds."""

    def __init__(self, task: Task, robot: Robot) -> None:
        self.horizon = 10
        self._robot = robot
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._step = 0

    def act(self, observation: Observation) -> NDArray[np.float64]:
        chunk = np.tile(self._robot.home, (self.horizon, 1))
        times = (self._step + 1 + np.arange(self.horizon)) / self._robot.policy_rate
        chunk[:, 3] += 0.2 * np.sin(math.pi * times)
        self._step += 1
        return chunk


if __name__ == "__main__":
    import sys

    from pipelines import evaluate
    from sim2real import load_task

    robot, task = Robot.load("so101"), load_task("reach")
    print(evaluate(Nod(task, robot), task, robot, draws=int(sys.argv[1]) if len(sys.argv) > 1 else 50))
