"""What a data set can be used for, by its report, and what it lacks for it."""

from collections.abc import Sequence
from typing import Any

from sim2real.lerobot import LeRobotDataset, schema
from sim2real.observation import Feature, is_spread

FROM_JOINTS = ("joint_position", "joint_velocity", "joint_command")
"""Observations that follow from the recorded joints."""


def uses_of(
    dataset: LeRobotDataset,
    report: dict[str, Any],
    tasks: tuple[str, ...],
    n: int,
    *,
    replay: str | None = None,
    identify: str | None = None,
) -> dict[str, Any]:
    """For each use whether it is possible, and what is missing; `replay`, `identify`: why these would refuse it."""
    missing = []
    if schema.ACTION not in dataset.features:
        missing.append("action: the commands were not recorded")
    if report["units"]["found"] is None:
        missing.append(f"units: {report['units']['why']}")
    if report["not_following"]:
        missing.append(f"commands that belong to the states: {report['not_following']}")
    if replay:
        missing.append(f"frames: {replay}")
    uses: dict[str, Any] = {"replay": _verdict(list(missing))}
    still = [name for name, joint in report["joints"].items() if not joint["moves"]]
    if still and len(still) == len(report["joints"]):
        missing.append("motion: no joint moves")
    elif identify and not report["not_following"]:
        missing.append(f"information about the servos: {identify}")
    elif report["hand_guided"]:
        missing.append("commands: the arm was guided by hand, no servo was at work")
    note = f"{', '.join(still)} hardly move: nothing can be learned about them" if still else ""
    uses["identify"] = _verdict(list(missing), note)
    uses["finetune"] = {task: _finetune(dataset, report, task, n) for task in tasks}
    return uses


def _verdict(missing: list[str], note: str = "") -> dict[str, Any]:
    return {"possible": not missing, "missing": missing, "note": note}


def is_of_another_task(dataset: LeRobotDataset, task: str) -> bool:
    """Whether the episodes are those of shipped tasks, but not of this one. Free words decide nothing."""
    from sim2real.tasks.registry import task_names

    return bool(set(dataset.tasks) & set(task_names())) and task not in dataset.tasks


def lacking(dataset: LeRobotDataset, features: Sequence[Feature]) -> list[Feature]:
    """The features that a policy observes and the data set does not hold, or holds in another size.

    How well an object is known was not recorded by earlier versions: without it a recording is taken at its word.
    """
    spec = dataset.features.get(schema.ENVIRONMENT)
    names = () if spec is None or spec.names is None else spec.names
    there = {name: len(columns) for name, columns in schema.grouped(names).items()}
    needed = [
        f for f in features if f.name not in FROM_JOINTS and not (is_spread(f.name) and f.name not in there)
    ]
    return [f for f in needed if there.get(f.name) != f.size]


def _finetune(dataset: LeRobotDataset, report: dict[str, Any], task: str, n: int) -> dict[str, Any]:
    """Whether a policy of `task` can learn from it: everything that the policy observes must be there."""
    from sim2real.tasks.registry import load_task

    missing = [feature.name for feature in lacking(dataset, load_task(task, joints=n).features)]
    problems = [f"{', '.join(missing)} in {schema.ENVIRONMENT}"] if missing else []
    if schema.ACTION not in dataset.features:
        problems.append("action")
    if is_of_another_task(dataset, task):
        problems.append(f"episodes of {task}: these are of {', '.join(dataset.tasks)}")
    if report["units"]["found"] is None:
        problems.append("units, or a calibration")
    if report["not_following"]:
        problems.append("actions that belong to the states (see replay)")
    success, count = report["success"], report["episodes"]
    note = ""
    if success["failures"] and not success["successes"]:
        problems.append("an episode that is marked as a success (--all-episodes takes the others)")
    elif success["unknown"]:
        unused = " and they are not used (but with --all-episodes)" if success["successes"] else ""
        note = f"nobody judged {success['unknown']} of {count} episodes{unused}"
    return _verdict(problems, note)
