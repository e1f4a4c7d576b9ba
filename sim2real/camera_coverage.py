"""For which cameras a policy was trained, and whether another one is like them.

A policy file says it in its provenance under `CAMERAS`: {"described": the tables of a cameras file}, or {"placed":
ranges of `Placement`'s numbers}. Files that say nothing are older, or not from simulation.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim2real.camera import CameraModel
from sim2real.camera_placement import WORKSPACE, Placement, looking
from sim2real.errors import UserError

CAMERAS = "cameras"

TURNED = math.radians(12)
"""rad between two views of the workspace from which on a camera stands elsewhere."""
NEARER = 1.25
"""Ratio of two cameras' distances from which on one is elsewhere."""
SLACK = 0.05
"""Share of a range by which a number may be outside of it."""

_ANGLES = {"azimuth": "side", "elevation": "height", "fov": "field of view"}


def difference(provenance: Mapping[str, Any], camera: CameraModel) -> str | None:
    """How `camera` differs from those that a policy with this `provenance` was trained for, in words.

    None when it does not differ by much, or the provenance does not say.
    """
    said = provenance.get(CAMERAS)
    if not isinstance(said, Mapping):
        return None
    try:
        if "described" in said:
            return _from_described(said["described"], camera)
        return _from_placed(said["placed"], camera)
    except (KeyError, TypeError, ValueError, UserError):
        return None  # another version's way to say it


def _from_described(tables: Mapping[str, Any], camera: CameraModel) -> str | None:
    name = looking(tables)
    if name is None:
        return None
    trained = CameraModel.from_table(tables[name], name)
    middle = WORKSPACE.mean(axis=0)
    there, here = trained.position - middle, camera.position - middle
    far, near = float(np.linalg.norm(there)), float(np.linalg.norm(here))
    turn = math.acos(min(1.0, max(-1.0, float(there @ here) / (far * near))))
    parts = []
    if turn > TURNED:
        parts.append(f"looks at the workspace from {math.degrees(turn):.0f}° beside it")
    if not 1 / NEARER < near / far < NEARER:
        parts.append(f"is {near:.2f} m away instead of {far:.2f} m")
    if not parts:
        return None
    return f"the policy was trained for another camera: '{camera.name}' {' and '.join(parts)}"


def _from_placed(ranges: Mapping[str, Any], camera: CameraModel) -> str | None:
    place = Placement.of(camera)
    if place is None:
        return None
    for name, what in _ANGLES.items():
        low, high = (float(value) for value in ranges[name])
        slack, value = SLACK * (high - low), getattr(place, name)
        if not low - slack <= value <= high + slack:
            seen, *trained = (f"{math.degrees(angle):.0f}°" for angle in (value, low, high))
            return f"camera '{camera.name}' has a {what} of {seen}, the policy was trained for {' … '.join(trained)}"
    low, high = (float(value) for value in ranges["distance"])
    # In training, cameras stand further back where they would not see the whole workspace.
    if not low / NEARER <= place.distance <= high * NEARER:
        return (
            f"camera '{camera.name}' is {place.distance:.2f} m from what it looks at, the policy was trained for "
            f"{low:.2f} … {high:.2f} m"
        )
    return None
