"""Names and types of a data set's features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim2real import old_names

STATE = "observation.state"
ACTION = "action"
ENVIRONMENT = "observation.environment_state"
SUCCESS = "next.success"
IMAGES = "observation.images."
EXECUTED = "action.executed"
"""What was really sent, where `action` is what was requested. Ours."""
INTERVENTION = "intervention"
"""Who acted in a frame, where a person may take over from a policy: 0 the policy, 1 the person, 2 nobody. Ours."""
TIME = "time"
"""True time of capture, s from the start of the episode; `timestamp` is frame / fps. Ours."""

STAMP = "timestamp"
"""Seconds from the start of the episode: frame / fps, or when it was recorded; in others' sets also of other kinds."""
MANDATORY = (STAMP, "frame_index", "episode_index", "index", "task_index")
"""The columns every data set has beside its features."""


def capture_time(camera: str) -> str:
    """The column with the true times at which a camera's pictures were taken, s as in TIME; NaN: there was none."""
    return f"{TIME}.{camera}"


CALIBRATION_FILE = "calibration.json"
NOTES_FILE = "meta/sim2real.json"
"""What the format has no place for (units, robot, task); absent in other people's sets."""

VISUAL = ("video", "image")

_DTYPES = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
}
OTHER = "other"
"""The type of a feature that is neither numbers, pictures nor text, or says nothing of itself that can be read."""


@dataclass(frozen=True)
class FeatureSpec:
    """One feature: `dtype` as LeRobot writes it, `shape`, and the names of its components if it has any."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (*_DTYPES, *VISUAL, "string", OTHER):
            raise ValueError(f"unknown feature type {self.dtype!r}; known are {', '.join(_DTYPES)}, video")
        if not self.shape or any(size < 1 for size in self.shape):
            raise ValueError(f"a feature needs a shape of positive sizes, got {self.shape}")

    @classmethod
    def from_info(cls, raw: Any) -> "FeatureSpec":
        """From an entry of info.json. Names come as a list, as {group: list}, as {name: place}, or not at all.

        Whatever it says is taken: a feature that nobody asks for must not make a data set unreadable.
        """
        if not isinstance(raw, Mapping):
            return cls(OTHER, (1,))
        dtype = str(raw.get("dtype"))
        shape = raw.get("shape")
        sizes = tuple(shape) if isinstance(shape, list | tuple) else ()
        whole = bool(sizes) and all(type(size) is int and size > 0 for size in sizes)
        known = dtype in (*_DTYPES, *VISUAL, "string")
        return cls(dtype if known else OTHER, sizes if whole else (1,), _names(raw.get("names")))

    @property
    def visual(self) -> bool:
        return self.dtype in VISUAL

    @property
    def numeric(self) -> bool:
        return self.dtype in _DTYPES

    @property
    def numpy(self) -> type[np.generic]:
        """The type of its values in memory. Raises KeyError for pictures and text."""
        return _DTYPES[self.dtype]


def _names(names: Any) -> tuple[str, ...] | None:
    if isinstance(names, Mapping):
        groups = list(names.values())
        if len(groups) == 1 and isinstance(groups[0], list | tuple):
            names = groups[0]
        elif sorted(map(str, groups)) == sorted(map(str, range(len(groups)))):
            names = sorted(names, key=lambda name: int(names[name]))
        else:
            names = list(names)
    if isinstance(names, list | tuple) and len(names) == 1 and isinstance(names[0], list | tuple):
        names = names[0]
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """Which columns of a vector belong together: `goal.x`, `goal.y` → `goal`; keeps the order.

    An object's age, `object.cube.age`, is one number and no component. Names of earlier versions become those of now.
    """
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        whole = name.startswith("object.") and name.endswith(".age")
        groups.setdefault(old_names.feature(name if whole else name.rsplit(".", 1)[0]), []).append(i)
    return groups


def _components(key: str, size: int) -> Sequence[str]:
    if key == "goal" or key.endswith(".position"):
        return "xyz"
    if key.endswith(".yaw"):
        return ("cos", "sin")
    if key.endswith(".spread"):
        return ("position", "yaw")
    return [""] if size == 1 else [str(i) for i in range(size)]


def component_names(key: str, size: int) -> list[str]:
    """How the numbers of an observation are called in a data set: `goal.x`, `object.cube.yaw.cos`."""
    components = _components(key, size)
    if len(components) != size:
        raise ValueError(f"observation '{key}' needs {len(components)} numbers, got {size}")
    return [f"{key}.{component}" if component else key for component in components]
