"""Names and types of a data set's features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STATE = "observation.state"
ACTION = "action"
ENVIRONMENT = "observation.environment_state"
SUCCESS = "next.success"
IMAGES = "observation.images."
EXECUTED = "action.executed"
"""What was really sent, where `action` is what was requested. Ours."""
TIME = "time"
"""True time of capture, s from the start of the episode; `timestamp` is frame / fps. Ours."""

MANDATORY = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""The columns every data set has beside its features."""


def capture_time(camera: str) -> str:
    """The column with the true times at which a camera's pictures were taken, s as in TIME; NaN: there was none."""
    return f"{TIME}.{camera}"


CALIBRATION_FILE = "calibration.json"
NOTES_FILE = "meta/sim2real.json"
"""What the format has no place for (units, robot, task); absent in other people's sets."""

VISUAL = ("video", "image")

_DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class FeatureSpec:
    """One feature: `dtype` as LeRobot writes it, `shape`, and the names of its components if it has any."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (*_DTYPES, *VISUAL, "string"):
            raise ValueError(f"unknown feature type {self.dtype!r}; known are {', '.join(_DTYPES)}, video")
        if not self.shape or any(size < 1 for size in self.shape):
            raise ValueError(f"a feature needs a shape of positive sizes, got {self.shape}")

    @classmethod
    def from_info(cls, raw: Mapping[str, Any]) -> "FeatureSpec":
        """From an entry of info.json. Names come as a list, as {group: list}, or not at all."""
        names = raw.get("names")
        if isinstance(names, Mapping):
            groups = list(names.values())
            names = groups[0] if len(groups) == 1 and isinstance(groups[0], list) else list(names)
        shape = tuple(int(size) for size in raw.get("shape") or (1,))
        return cls(str(raw["dtype"]), shape, None if names is None else tuple(map(str, names)))

    @property
    def visual(self) -> bool:
        return self.dtype in VISUAL

    @property
    def numpy(self) -> type[np.generic]:
        """The type of its values in memory. Raises KeyError for pictures and text."""
        return _DTYPES[self.dtype]


def joint_of(name: str) -> str:
    """A joint's own name: `shoulder_pan` of `shoulder_pan.pos`, `Shoulder Pan`, older sets' `main_shoulder_pan`."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return plain.removesuffix(".pos").removesuffix(".position").removeprefix("main_")


def arms_of(found: Sequence[str], expected: Sequence[str]) -> list[str]:
    """What stands before the names of each arm's joints ("left_", or nothing), for arms that have all `expected`."""
    first = expected[0]
    heads = [name.removesuffix(first) for name in found if name.endswith(first)]
    complete = [head for head in heads if all(found.count(head + name) == 1 for name in expected)]
    return [head for head in complete if not head or head.endswith("_")]


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """Which columns of a vector belong together: `goal.x`, `goal.y` → `goal`; keeps the order."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name.rsplit(".", 1)[0], []).append(i)
    return groups


_COMPONENTS = {"goal": "xyz", "cube": "xyz", "cube_yaw": ("cos", "sin")}


def component_names(key: str, size: int) -> list[str]:
    """How the numbers of an observation are called in a data set: `goal.x`, `cube_yaw.cos`, `cube_age`."""
    components: Sequence[str] = _COMPONENTS.get(key, "") or (
        [""] if size == 1 else [str(i) for i in range(size)]
    )
    if len(components) != size:
        raise ValueError(f"observation '{key}' needs {len(components)} numbers, got {size}")
    return [f"{key}.{component}" if component else key for component in components]
