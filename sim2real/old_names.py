"""Names that files of earlier versions use, and what they are called now.

Then, a scene had at most one cube and one mark, and nothing else had a name. Spaces, twins, draws, policies and
recordings with the old names are read through these tables; nothing is written with them.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

PARAMETERS: Mapping[str, str] = {
    "object.mass": "object.cube.mass",
    "object.size": "object.cube.size",
    "object.friction": "object.cube.friction",
    "object.restitution": "object.cube.restitution",
}
"""Parameters of the world. `task.cube.…`, `task.mark.…`, `colour.cube` and `colour.mark` are still called so."""

FEATURES: Mapping[str, str] = {
    "cube": "object.cube.position",
    "cube_yaw": "object.cube.yaw",
    "cube_age": "object.cube.age",
}
"""Entries of an observation. `goal` and the joints' are still called so."""

ABSENT = frozenset({*PARAMETERS, "colour.cube", "colour.mark"})
"""Parameters that once existed in every world, also in one without such an object, where they did nothing."""


def feature(name: str) -> str:
    """What this entry of an observation is called now."""
    return FEATURES.get(name, name)


def current(values: Mapping[str, T], known: Collection[str]) -> dict[str, T]:
    """`values` by the names that a world with the parameters `known` has for them.

    What an earlier version declared in every world and this one has no object for is left out: it did nothing
    there. All other names are left as they are, known or not.
    """
    result: dict[str, T] = {}
    for name, value in values.items():
        if name in known:
            result[name] = value
        elif (new := PARAMETERS.get(name)) is not None and new in known:
            result.setdefault(new, value)
        elif name not in ABSENT:
            result[name] = value
    return result


def renamed(tree: Any) -> Any:
    """Plain values with every parameter's old name in them, as a key or as text, replaced by the one of now."""
    if isinstance(tree, dict):
        return {PARAMETERS.get(key, key): renamed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [renamed(value) for value in tree]
    return PARAMETERS.get(tree, tree) if isinstance(tree, str) else tree
