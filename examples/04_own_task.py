"""A task of your own: reach for goals high above the table.

    python examples/04_own_task.py [DRAWS]
    sim2real tasks --task examples.04_own_task:ReachHigh
    sim2real evaluate --task examples.04_own_task:ReachHigh --policy expert --draws 20

A task subclasses `Task` (or another task, as here) and says where things start, what shall be achieved and what
its policies observe. Everything else (sweeps, training, recording, deployment) works with it as with any other.
"""

from sim2real.parameters import Parameter
from sim2real.task import polar_parameters
from sim2real.tasks.reach import Reach


class ReachHigh(Reach):
    """The tool within 2 cm of a goal between 16 and 24 cm above the table."""

    name = "reach_high"
    duration = 5.0
    description = "reach for goals high above the table"

    def scene_parameters(self) -> tuple[Parameter, ...]:
        height = Parameter(
            "task.goal.height", 0.20, "m", 0.16, 0.24, description="goal: height above the table"
        )
        return (*polar_parameters("goal", (0.18, 0.26), 0.6), height)


if __name__ == "__main__":
    import sys

    from pipelines import evaluate

    print(evaluate("expert", ReachHigh(), draws=int(sys.argv[1]) if len(sys.argv) > 1 else 50))
