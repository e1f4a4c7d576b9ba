"""Suites by name, and their tasks by id."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from sim2real.errors import UserError, nearest
from sim2real.tasks.suite.spec import TELLS, SpecTask, TaskSpec
from sim2real.text import printable

SUITES = ("table",)
"""The suites that ship with the package, each a module of this folder with `tasks()`."""


@cache
def load_suite(name: str) -> Mapping[str, TaskSpec]:
    """The tasks of a suite by id. Raises UserError that names the nearest."""
    if name not in SUITES:
        raise UserError(
            f"there is no suite '{printable(name)}'{nearest(name, SUITES)}; there is {', '.join(SUITES)}"
        )
    found: dict[str, TaskSpec] = {}
    said: dict[str, str] = {}
    for spec in import_module(f"sim2real.tasks.suite.{name}").tasks():
        if spec.id in found:
            raise ValueError(f"the suite '{name}' has two tasks '{spec.id}'")
        for sentence in spec.language:
            if (other := said.setdefault(sentence, spec.id)) != spec.id:
                raise ValueError(f"'{sentence}' says both {other} and {spec.id}")
        found[spec.id] = spec
    return found


def of_suite(name: str) -> bool:
    """Whether a name says that it is of a suite's task: "table/…"."""
    suite, _, rest = name.partition("/")
    return bool(rest) and suite in SUITES


def is_suite_task(name: str) -> bool:
    """Whether a name is one of a suite's tasks, with an instruction or without."""
    return of_suite(name) and name.partition(TELLS)[0] in load_suite(name.partition("/")[0])


def suite_task(name: str, joints: int = 6) -> SpecTask:
    """A suite's task by its id, told something else where an instruction follows. Raises UserError that names the
    nearest, or for an instruction that is not understood."""
    tasks = load_suite(name.partition("/")[0])
    name, _, instruction = name.partition(TELLS)
    if name not in tasks:
        raise UserError(
            f"there is no task '{printable(name)}'{nearest(name, tasks)}; `sim2real tasks --suite "
            f"{name.partition('/')[0]}` lists them"
        )
    task = SpecTask(tasks[name], joints)
    return task.told(instruction) if instruction else task
