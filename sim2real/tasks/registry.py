"""Tasks by name.

A further task is one file in this folder: its name is the task's, and its `TASK` the class. Users' own are
"my.module:MyTask"; "table/lift_cube" is one of the suite `table`,
"my.toml#tidy" one of a file (`suite/`).
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from sim2real.changed_objects import changed, name_of, parse, split
from sim2real.errors import UserError, nearest
from sim2real.loading import instantiate
from sim2real.objects import ObjectSpec
from sim2real.task import Task
from sim2real.tasks.suite.files import file_task, is_task_file
from sim2real.tasks.suite.registry import is_suite_task, of_suite, suite_task
from sim2real.text import printable

TASKS = tuple(
    sorted(
        file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in ("__init__", "registry")
    )
)
"""The tasks that ship with the package. A module is imported when its task is asked for."""

NEEDS = ("name", "duration", "features", "objects", "setup", "satisfied", "parameters", "stage")
"""Attributes that a user's task must have."""


def task_names() -> list[str]:
    """The tasks that ship with the package."""
    return list(TASKS)


def load_task(spec: str | Task, joints: int = 6) -> Task:
    """A task by its name, or a user's own as "module:Class"; `joints` is the robot's number of joints.

    Either may name other objects than the task has by itself: "lift[cube.size=0.03]" (`changed_objects.py`).

    A user's class is made without arguments; its module is imported, so `spec` must come from the user and never
    from a file, a server or a recording (see `name_from_outside`). Raises UserError that says what there is.
    """
    if isinstance(spec, Task):
        return spec
    spec, said = split(spec)
    if said:
        return changed(load_task(spec, joints), said)
    if spec in TASKS or of_suite(spec):
        return built_in_task(spec, joints)
    if is_task_file(spec):
        return file_task(spec, joints)
    if ":" not in spec:
        raise UserError(_unknown(spec, task_names()) + "; write your own as my.module:MyTask")
    task: Task = instantiate(spec, "task", NEEDS)
    return task


def with_flags(spec: str, flags: Iterable[str]) -> str:
    """The name of the task `spec` with the objects that `--object` says. Raises UserError for what cannot be."""
    said = parse(flags)
    if not said:
        return spec
    name, before = split(spec)
    plain = load_task(name)
    return name_of(name, plain.objects, changed(changed(plain, before), said).objects)


def trained_with(name: str, path: str) -> str:
    """The task `name` with the objects that the policy in the file at `path` was trained with.

    As it is where the policy is for another task, or `name` says other objects itself. Raises UserError for a file that
    is none or contradicts itself."""
    from sim2real.policies.file import load_policy_file

    info = load_policy_file(path).info
    if info.task != name or not info.objects:
        return name
    plain = load_task(name)
    try:
        objects = [ObjectSpec(**{**spec, "size": tuple(spec["size"])}) for spec in info.objects]
    except (TypeError, KeyError):
        raise UserError(
            f"the policy {path} does not say properly which objects it was trained with"
        ) from None
    return name_of(name, plain.objects, plain.with_objects(objects).objects)


def name_from_outside(name: str, where: str) -> str:
    """`name` when it is a task that ships with the package; for names in files, from servers and from recordings.

    A "module:Class" among them would be imported and run, though its author is not the one who types the command.
    Raises UserError that says so; `where` is what named it ("the policy runs/p.onnx").
    """
    if name in TASKS or is_suite_task(name):
        return name
    theirs = printable(name)
    if ":" in name:
        raise UserError(
            f"{where} is for {theirs}, which is code of its author's; give --task {theirs} if you trust it"
        )
    raise UserError(
        f"{where} is for the task '{theirs}', which does not ship with sim2real ({', '.join(TASKS)} do); give "
        "--task my.module:MyTask, a task of your own by this name"
    )


def built_in_task(name: str, joints: int = 6) -> Task:
    """A task that ships with the package: nothing else is ever imported. Raises UserError for any other name."""
    if of_suite(name):
        return suite_task(name, joints)
    if name not in TASKS:
        raise UserError(_unknown(name, task_names()))
    task: Task = import_module(f"sim2real.tasks.{name}").TASK(joints)
    return task


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return f"there is no task called '{printable(name)}'{nearest(name, names) or ';'} known are {', '.join(names)}"
