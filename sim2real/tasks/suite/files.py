"""Tasks of one's own as TOML: nothing in such a file is code.

[[task]]
id = "tidy"
goal = {kind = "in", a = "cube", b = "bowl"}
language = ["put the red cube into the bowl"]
horizon = 14.0

    [[task.object]]
    name = "cube"
    kind = "cube"
    size = 0.025
    colour = "red"
    mass = 0.02

    [[task.object]]
    name = "bowl"
    kind = "bowl"
    size = [0.05, 0.03]
    colour = "blue"
    mass = 0.1

    [task.start.cube]                # where it may lie; the default is all that the arm reaches
    radius = [0.18, 0.24]            # m from the pan axis
    angle = [-0.5, 0.5]              # rad
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim2real.errors import UserError, nearest
from sim2real.objects import ObjectSpec
from sim2real.predicates import predicate
from sim2real.tasks.suite.spec import TELLS, Region, SpecTask, TaskSpec
from sim2real.text import printable

SUFFIX = ".toml"
_KEYS = ("id", "family", "goal", "constraints", "language", "horizon", "start", "object", "version")
_OBJECT = ("name", "kind", "size", "colour", "mass")


def is_task_file(name: str) -> bool:
    """Whether a task's name is of one in a file: "tasks.toml" or "tasks.toml#tidy"."""
    return name.partition(TELLS)[0].partition("#")[0].endswith(SUFFIX)


def file_task(name: str, joints: int = 6) -> SpecTask:
    """A task by file and id, told something else where an instruction follows; the id may be left out where the file
    has one. Raises UserError that says why not."""
    name, _, instruction = name.partition(TELLS)
    path, _, chosen = name.partition("#")
    task = SpecTask(_chosen(path, chosen), joints)
    return task.told(instruction) if instruction else task


def _chosen(path: str, chosen: str) -> TaskSpec:
    tasks = load_task_file(Path(path))
    if not chosen and len(tasks) == 1:
        return next(iter(tasks.values()))
    if chosen not in tasks:
        said = f"has no task '{printable(chosen)}'{nearest(chosen, tasks)}" if chosen else "has several tasks"
        raise UserError(f"{path} {said}; name one of {', '.join(tasks)}, as {path}#{next(iter(tasks))}")
    return tasks[chosen]


def load_task_file(path: Path) -> Mapping[str, TaskSpec]:
    """The tasks in a file by id. Raises UserError for what no task is made of, naming file, task and key."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from None
    entries = content.get("task")
    if not isinstance(entries, list) or not entries or set(content) != {"task"}:
        raise UserError(f"{path} holds no list of [[task]] tables, or more than that; see docs/suites.md")
    found: dict[str, TaskSpec] = {}
    for number, entry in enumerate(entries, 1):
        spec = _task(entry, f"{path}, task {number}")
        if spec.id in found:
            raise UserError(f"{path} has two tasks called '{printable(spec.id)}'")
        found[spec.id] = spec
    return found


def _task(entry: Any, where: str) -> TaskSpec:
    _known(entry, _KEYS, where)
    for key in ("id", "goal", "language", "object"):
        if key not in entry:
            raise UserError(f"{where}: '{key}' is missing")
    where = f"{where} ('{printable(str(entry['id']))}')"
    language = entry["language"]
    language = [language] if isinstance(language, str) else language
    if not isinstance(entry["id"], str) or not isinstance(entry["object"], list):
        raise UserError(f"{where}: id is a name, and objects are [[task.object]] tables")
    if not isinstance(language, list) or not all(isinstance(text, str) for text in language):
        raise UserError(f"{where}: language is a sentence, or a list of them")
    try:
        return TaskSpec(
            id=entry["id"],
            family=str(entry.get("family", "own")),
            scene=tuple(_object(thing) for thing in entry["object"]),
            goal=predicate(entry["goal"]),
            language=tuple(language),
            horizon=_number(entry.get("horizon", 14.0), "horizon"),
            constraints=tuple(predicate(said) for said in entry.get("constraints", ())),
            start={name: _region(region) for name, region in entry.get("start", {}).items()},
            version=int(_number(entry.get("version", 1), "version")),
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _object(thing: Any) -> ObjectSpec:
    _known(thing, _OBJECT, "an object")
    for key in ("name", "kind", "size"):
        if key not in thing:
            raise UserError(f"an object's '{key}' is missing")
    size, colour = thing["size"], thing.get("colour", "red")
    return ObjectSpec(
        thing["name"],
        thing["kind"],
        tuple(size) if isinstance(size, list) else size,
        tuple(colour) if isinstance(colour, list) else colour,
        _number(thing.get("mass", 0.0 if thing["kind"] == "zone" else 0.02), "mass"),
    )


def _region(entry: Any) -> Region:
    _known(entry, ("radius", "angle", "yaw", "joint"), "a start")
    limits: dict[str, tuple[float, float]] = {}
    for key, value in entry.items():
        if not isinstance(value, list) or len(value) != 2:
            raise UserError(f"'{key}' of a start is two numbers, the least and the largest; got {value}")
        low, high = (_number(v, key) for v in value)
        if not low <= high:
            raise UserError(f"'{key}' of a start is the least and the largest, got {low:g} and {high:g}")
        limits[key] = (low, high)
    return Region(**limits)


def _known(entry: Any, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(entry, Mapping):
        raise UserError(f"{what} is a table with {', '.join(keys)}; got {printable(str(entry)[:60])}")
    for key in entry:
        if key not in keys:
            raise UserError(f"{what} has no '{printable(key)}'{nearest(key, keys)}; it has {', '.join(keys)}")


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"'{key}' is a number, got {printable(str(value)[:40])}")
    return float(value)
