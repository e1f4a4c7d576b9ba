"""Suites: named lists of tasks that a policy is tried on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipelines.metaworld import suite as metaworld
from pipelines.sweeps.inputs import PolicyLike, policy_name
from sim2real.errors import UserError, nearest
from sim2real.policies.load import kind_of
from sim2real.tasks.registry import TASKS
from sim2real.tasks.suite import registry


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite: what `load_task` finds it by, what kind of task it is, and whether it was for training."""

    id: str
    family: str
    split: str = "seen"


def _single() -> list[SuiteTask]:
    return [SuiteTask(name, name) for name in sorted(TASKS)]


def _metaworld(suite: str) -> list[SuiteTask]:
    return [SuiteTask(name, name.removesuffix("-v3")) for name in metaworld.task_names(suite)]


def _table() -> list[SuiteTask]:
    return [SuiteTask(spec.id, spec.family, spec.split) for spec in registry.load_suite("table").values()]


SUITES: dict[str, Callable[[], Sequence[SuiteTask]]] = {
    "tasks": _single,
    "table": _table,
    **{suite: partial(_metaworld, suite) for suite in metaworld.SIZES},
}
"""Makers of suites by name; `tasks` are those that have a class of their own."""


def own_suite(policy: PolicyLike) -> str | None:
    """The suite that a policy file says it is for; None where it is for a single task, or says nothing."""
    from sim2real.policies.file import load_policy_file

    spec = policy_name(policy)
    if spec is None or kind_of(spec) != "file":
        return None
    task = load_policy_file(spec).info.task
    return task if task in SUITES else None


def load_suite(name: str, split: str | None = None) -> list[SuiteTask]:
    """The tasks of a suite, all or those of one split. Raises UserError that names the nearest."""
    if name not in SUITES:
        raise UserError(
            f"there is no suite '{name}'{nearest(name, SUITES)}; there {'are' if len(SUITES) > 1 else 'is'} "
            f"{', '.join(sorted(SUITES))}; single tasks are given with --task"
        )
    tasks = list(SUITES[name]())
    if split is None:
        return tasks
    splits = sorted({task.split for task in tasks})
    if split not in splits:
        raise UserError(
            f"the suite '{name}' has no split '{split}'{nearest(split, splits)}; it has {', '.join(splits)}"
        )
    return [task for task in tasks if task.split == split]
