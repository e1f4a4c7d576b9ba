"""Objects that a caller hands over, as the names and values that runs are described by."""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.sweeps.given import Given
from randomization.space import Space
from sim2real.camera import CameraModel, load_cameras
from sim2real.camera_placement import check_sight, looking
from sim2real.changed_objects import name_of
from sim2real.errors import UserError
from sim2real.parameters import load_twin
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import TASKS, load_task
from sim2real.tasks.suite.registry import is_suite_task

RobotLike = Robot | str | Path
TaskLike = Task | str
PolicyLike = Policy | str | Path
SpaceLike = Space | str | Path | Mapping[str, Any]
CamerasLike = str | Path | Mapping[str, CameraModel]
TwinLike = str | Path | Mapping[str, float]


def robot_name(robot: RobotLike) -> str:
    """The name or file that `Robot.load` finds this robot by. Raises UserError for one that was made otherwise."""
    if not isinstance(robot, Robot):
        return str(robot)
    if not robot.source:
        raise UserError(
            f"the robot '{robot.name}' was not loaded from a file, and other processes could not find it; "
            "write its description as TOML and give Robot.load(path)"
        )
    return robot.source


def task_name(task: TaskLike) -> str:
    """What `load_task` finds this task by. Raises UserError for one that other processes cannot find."""
    if isinstance(task, str):
        return task
    kind = type(task)
    where = f"{kind.__module__}:{kind.__qualname__}"
    if _built_in(task):
        return name_of(task.name, load_task(task.name).objects, task.objects)
    if kind.__module__ == "__main__" or "." in kind.__qualname__ or not _found(kind):
        raise UserError(
            f"the task '{task.name}' is defined where other processes cannot find it ({where}); put its class into a "
            "module of its own, my_module.py, and give 'my_module:MyTask'"
        )
    return where


def policy_name(policy: PolicyLike) -> str | None:
    """What `load_policy` finds this policy by; None for an object that has no such name."""
    from sim2real.policies.file import FilePolicy
    from sim2real.policies.remote import RemotePolicy

    if isinstance(policy, str | Path):
        return str(policy)
    return policy.where if isinstance(policy, FilePolicy | RemotePolicy) else None


def given(task: TaskLike, policy: PolicyLike) -> tuple[str, str, Given]:
    """How a plan names task and policy, and those of them that are objects.

    Raises UserError for what is neither.
    """
    spec = policy_name(policy)
    if spec is None:
        lacking = [name for name in ("horizon", "reset", "act") if not hasattr(policy, name)]
        if lacking:
            raise UserError(
                f"a policy is a name, a file or an object with horizon, reset and act; {policy!r} lacks "
                f"{', '.join(lacking)}"
            )
    objects = Given(
        task=None if isinstance(task, str) or _built_in(task) else task,
        policy=None if spec is not None else policy,  # type: ignore[arg-type]  # the others have a name
    )
    label = task_name(task) if isinstance(task, str) or _built_in(task) else label_of(task)
    return label, spec if spec is not None else label_of(policy), objects


def space_of(space: SpaceLike | None) -> Space | None:
    """A space from an object, a file or the content of one."""
    if space is None or isinstance(space, Space):
        return space
    return Space.from_dict(space) if isinstance(space, Mapping) else Space.load(space)


def nominal_of(twin: TwinLike | None) -> dict[str, float]:
    """Nominal values by name, from a file or as they are."""
    if twin is None:
        return {}
    return {k: float(v) for k, v in twin.items()} if isinstance(twin, Mapping) else load_twin(twin)


def cameras_of(cameras: CamerasLike | None) -> dict[str, dict[str, Any]] | None:
    """The tables of a cameras file without where pictures come from, which decides nothing in simulation.

    Raises UserError for a file that is none, and where the camera that looks for objects cannot see any.
    """
    if cameras is None:
        return None
    where = "cameras" if isinstance(cameras, Mapping) else str(cameras)
    found = cameras if isinstance(cameras, Mapping) else load_cameras(cameras)
    name = looking(found)
    if name is None:
        raise UserError("cameras: there is none; leave it out for cameras anywhere around the table")
    check_sight(found[name], where)
    return {name: replace(camera, source=None).table() for name, camera in found.items()}


def label_of(thing: object) -> str:
    """How a run is to name an object."""
    return f"<{type(thing).__module__}.{type(thing).__qualname__}>"


def _built_in(task: Task) -> bool:
    """Whether a task is what its name gives, up to the measures of its objects: of a class that ships with the package,
    and left as it was made."""
    kind = type(task)
    if not (task.name in TASKS or is_suite_task(task.name)) or type(load_task(task.name)) is not kind:
        return False
    plain = load_task(task.name)
    if [(spec.name, spec.kind) for spec in task.objects] != [
        (spec.name, spec.kind) for spec in plain.objects
    ]:
        return False
    # Features depend on the number of joints, and are what their names say; objects have a name of their own.
    named = ("features", "objects")
    mine, made = ({k: v for k, v in vars(x).items() if k not in named} for x in (task, plain))
    return pickle.dumps(sorted(mine.items())) == pickle.dumps(sorted(made.items()))


def _found(kind: type) -> bool:
    """Whether a class is what its module has under its name."""
    return getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind
