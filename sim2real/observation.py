"""Observations: named arrays, and the flat vector a network takes.

Standard keys (SI units, base frame; n = number of joints):

| key | size | meaning |
|---|---|---|
| `joint_position` | n | sensed joint angles, rad |
| `joint_velocity` | n | sensed joint speeds, rad/s |
| `joint_command` | n | last goal that was really sent, rad |
| `goal` | 3 | where the tool (reach) or the cube (push) shall be, m |
| `cube` | 3 | the cube's centre, m |
| `cube_yaw` | 2 | cos 4ψ, sin 4ψ of its rotation about the vertical (a cube looks the same every 90°) |
| `cube_age` | 1 | seconds since the cube was last seen, at most `MAX_AGE` |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Observation = dict[str, NDArray[np.float64]]

MAX_AGE = 2.0
"""`cube_age` saturates here, s: never seen looks like seen long ago."""


@dataclass(frozen=True)
class Feature:
    """One named part of an observation vector and how many numbers it has."""

    name: str
    size: int


STANDARD = ("joint_position", "joint_velocity", "joint_command", "goal", "cube", "cube_yaw", "cube_age")
"""What every arm can tell a policy."""


def nothing_seen() -> Observation:
    """The standard entries about the scene, as an arm without a camera and without a goal has them."""
    return {
        "goal": np.zeros(3),
        "cube": np.zeros(3),
        "cube_yaw": np.array([1.0, 0.0]),
        "cube_age": np.array([MAX_AGE]),
    }


def standard_features(names: Sequence[str], n: int) -> tuple[Feature, ...]:
    """Features of the given standard names for a robot with `n` joints. Unknown ones: UserError."""
    sizes = {
        "joint_position": n,
        "joint_velocity": n,
        "joint_command": n,
        "goal": 3,
        "cube": 3,
        "cube_yaw": 2,
        "cube_age": 1,
    }
    unknown = [name for name in names if name not in sizes]
    if unknown:
        raise UserError(f"unknown observation features {unknown}; the standard ones are {sorted(sizes)}")
    return tuple(Feature(name, sizes[name]) for name in names)


def flatten(
    observation: Mapping[str, NDArray[np.float64]], features: Sequence[Feature]
) -> NDArray[np.float32]:
    """Concatenate the features in order: (sum of sizes,) float32.

    Raises UserError when a feature is missing or has another size.
    """
    parts = []
    for feature in features:
        if feature.name not in observation:
            raise UserError(
                f"the observation lacks '{feature.name}', which the policy needs; "
                f"it has {sorted(observation)}"
            )
        value = np.asarray(observation[feature.name], dtype=np.float32).reshape(-1)
        if value.size != feature.size:
            raise UserError(
                f"observation '{feature.name}' has {value.size} numbers, the policy expects {feature.size}"
            )
        parts.append(value)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
