"""From a command's arguments to simulated episodes: what sweeps, training and evaluation ask for alike."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pipelines.sweep import SweepPlan, open_policy
from randomization.space import Space
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.base import load_task


def make_plan(
    *,
    task: str,
    robot: str = "so101",
    policy: str = "expert",
    draws: int,
    seed: int = 0,
    space: str | None = None,
    twin: str | None = None,
    privileged: bool | None = None,
) -> SweepPlan:
    """A plan whose every part has been checked before anything long begins.

    Raises UserError for an unknown task or robot, a policy made for others, a missing or impossible space or
    twin, too few draws.
    """
    if draws < 1:
        raise UserError(f"at least one draw is needed, got {draws}")
    loaded, loaded_task = Robot.load(robot), load_task(task)
    open_policy(policy, loaded_task, loaded)
    plan = SweepPlan(
        task=task,
        robot=robot,
        policy=policy,
        draws=draws,
        seed=seed,
        space=Space() if space is None else Space.load(space),
        nominal={} if twin is None else load_nominal(twin),
        privileged=privileged,
    )
    plan.bind()
    return plan


def load_nominal(twin: str | Path) -> Mapping[str, float]:
    """The parameters in a twin file. Raises UserError when it is none."""
    path = Path(twin)
    try:
        table = tomllib.loads(path.read_text())["parameters"]
        return {str(name): float(value) for name, value in table.items()}
    except FileNotFoundError:
        raise UserError(f"the twin file {path} does not exist; `sim2real identify` writes one") from None
    except (KeyError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a twin file: {error}") from None


def worker_count(asked: int | None) -> int:
    """Processes to use: as asked, or one per core this process may run on. Raises UserError for negative numbers."""
    if asked is None:
        return len(os.sched_getaffinity(0))
    if asked < 0:
        raise UserError(f"--workers must be 0 or more, got {asked}")
    return asked
