"""A task with other objects than it has by itself, by what a person types and as one name.

    --object cube:size=0.03,colour=blue            what is typed, once for each object
    lift[cube.size=0.03,cube.colour=blue]          the name of the task with that object

The name is what runs, sweeps and processes hand on, so that it decides a run's identity as any task's name does. A size
of several measures is written with an x (0.06x0.03x0.02), a colour by its name or as red/green/blue in 0..1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sim2real.colours import coloured, distinguishable
from sim2real.errors import UserError
from sim2real.objects import ObjectSpec, unknown
from sim2real.task import Task
from sim2real.text import printable

KEYS = ("kind", "size", "colour", "mass")
"""What may be said of an object."""


def split(spec: str) -> tuple[str, dict[str, dict[str, str]]]:
    """The name of a task, and what is said of its objects: "lift[cube.size=0.03]" → "lift", {"cube": {"size": "0.03"}}.

    Raises UserError for what is no such name.
    """
    if not spec.endswith("]"):
        return spec, {}
    name, _, inside = spec[:-1].partition("[")
    said: dict[str, dict[str, str]] = {}
    for part in inside.split(","):
        where, equals, value = part.partition("=")
        thing, dot, key = where.partition(".")
        if not (name and equals and dot):
            raise UserError(
                f"'{printable(spec)}' is not the name of a task with other objects, such as "
                "lift[cube.size=0.03,cube.colour=blue]"
            )
        said.setdefault(thing, {})[key] = value
    return name, said


def parse(flags: Iterable[str]) -> dict[str, dict[str, str]]:
    """What `--object` says, by the objects' names. Raises UserError for anything else than NAME:KEY=VALUE,…."""
    said: dict[str, dict[str, str]] = {}
    for flag in flags:
        name, colon, rest = flag.partition(":")
        pairs = [part.partition("=") for part in rest.split(",")]
        if not (name and colon and all(key and equals and value for key, equals, value in pairs)):
            raise UserError(
                f"--object takes NAME:KEY=VALUE,… with the keys {', '.join(KEYS)}, such as "
                f"cube:size=0.03,colour=blue; got '{printable(flag)}'"
            )
        if name in said:
            raise UserError(f"--object says twice what '{name}' is; say all of it at once")
        keys = [key for key, _, _ in pairs]
        if len(set(keys)) < len(keys):
            raise UserError(f"--object {printable(flag)} says one thing twice")
        said[name] = {key: value for key, _, value in pairs}
    return said


def changed(task: Task, said: dict[str, dict[str, str]]) -> Task:
    """The task with its objects changed as is said. An object whose size alone is given keeps its density.

    Raises UserError for objects, keys and values that cannot be, and for colours that a camera cannot tell.
    """
    if not said:
        return task
    new = task.with_objects([_changed(task.object(name), values) for name, values in said.items()])
    coloured(new.objects)
    distinguishable(new.objects)
    return new


def name_of(name: str, before: Sequence[ObjectSpec], after: Sequence[ObjectSpec]) -> str:
    """The name of the task `name`, which has the objects `before`, with the objects `after`."""
    parts = []
    for old, new in zip(before, after, strict=True):
        if new.size != old.size:
            parts.append(f"{new.name}.size={'x'.join(f'{value:g}' for value in new.measures)}")
        if new.colour != old.colour:
            text = new.colour if isinstance(new.colour, str) else "/".join(f"{value:g}" for value in new.rgb)
            parts.append(f"{new.name}.colour={text}")
        if new.mass != old.mass:
            parts.append(f"{new.name}.mass={new.mass:g}")
    return f"{name}[{','.join(parts)}]" if parts else name


def _changed(spec: ObjectSpec, values: dict[str, str]) -> ObjectSpec:
    where = f"the object '{spec.name}'"
    for key in values:
        if key not in KEYS:
            raise UserError(f"{where}: {unknown(key, KEYS, 'key')}")
    if (kind := values.get("kind", spec.kind)) != spec.kind:
        raise UserError(f"{where} is a {spec.kind} in this task and cannot be a {printable(kind)}")
    change: dict[str, Any] = {}
    if "size" in values:
        change["size"] = tuple(_number(part, f"{where}: size") for part in values["size"].split("x"))
    if "colour" in values:
        colour = values["colour"]
        rgb = (
            tuple(_number(part, f"{where}: colour") for part in colour.split("/"))
            if "/" in colour
            else colour
        )
        change["colour"] = rgb
    if "mass" in values:
        change["mass"] = _number(values["mass"], f"{where}: mass")
    new = replace(spec, **change)
    if "mass" not in change and new.size != spec.size and spec.moves:
        ratio = _volume(new) / _volume(spec)
        new = replace(new, mass=float(f"{spec.mass * ratio:.3g}"))
    return new


def _volume(spec: ObjectSpec) -> float:
    return sum(shape.volume for shape in spec.shapes)


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{what} must be a number, in SI units (m, kg), got '{printable(text)}'") from None
