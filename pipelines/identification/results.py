"""What an identification leaves on disk: `twin.toml`, the ranges to train under, and what the report draws."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from pipelines.identification.identify import Identified
from pipelines.identification.standouts import bad_episodes, by_episode, mean_without, told_joints
from pipelines.runs import described
from randomization.identification import Fit
from sim2real.files import write_text
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.simulation.parameters import world_parameters

Array = NDArray[np.float64]

OVERLAY = "overlay.npz"
_MOST_FRAMES = 900
"""Of an episode that is drawn: half a minute at 30 Hz."""

WIDEN = 1.5
"""How much wider than the posterior's 90 % interval a range is: the model is wrong in ways the posterior ignores."""
LEAST_RELATIVE = 0.1
"""Least half-width of a range on a log scale (a factor of 1 ± this)."""
LEAST_ABSOLUTE: Mapping[str, float] = {
    "command_delay": 0.005,
    "duty_limit": 0.02,
    "load_motor_stribeck": 0.02,
    "load_external_stribeck": 0.02,
    "quadratic_external": 0.02,
    "offset": 0.01,
    "stop_lower": 0.02,
    "stop_upper": 0.02,
    "stop_share": 0.1,
    "load_motor": 0.03,
    "load_external": 0.03,
    "payload.mass": 0.01,
}
"""Least half-width on a linear scale, in the unit of the quantity."""


def training_ranges(
    found: Fit, defaults: Mapping[str, Parameter] = MappingProxyType({})
) -> dict[str, tuple[float, float, str]]:
    """(low, high, distribution) by unknown: the posterior, widened, within the bounds, never collapsed.

    What the data could not tell must not vary more than it does by default: a side of a range that reaches
    beyond that parameter's default range goes back to it, as far as the value found allows.
    """
    low, high = found.interval(0.9, WIDEN)
    ranges = {}
    for i, unknown in enumerate(found.unknowns):
        value = float(found.values[i])
        if unknown.scale == "log":
            least_low, least_high = value / (1 + LEAST_RELATIVE), value * (1 + LEAST_RELATIVE)
            distribution = "loguniform"
        else:
            key = unknown.name if unknown.name in LEAST_ABSOLUTE else unknown.name.rsplit(".", 1)[-1]
            least_low, least_high = value - LEAST_ABSOLUTE[key], value + LEAST_ABSOLUTE[key]
            distribution = "uniform"
        a, b = min(low[i], least_low), max(high[i], least_high)
        default = defaults.get(unknown.name)
        if default is not None and default.randomized:
            a, b = max(a, min(default.low, least_low)), min(b, max(default.high, least_high))
        if unknown.low >= 0:
            a = max(a, unknown.low)
        ranges[unknown.name] = (float(a), float(b), distribution)
    return ranges


def undetermined(found: Fit) -> list[str]:
    """Names of unknowns about which the data said little: posterior at least 0.8 of the prior."""
    return [unknown.name for unknown, share in zip(found.unknowns, found.prior_share) if share > 0.8]


def advice(names: Sequence[str]) -> list[str]:
    """Which motion would determine what this recording could not, one sentence per kind of quantity."""
    motions = {
        "armature": "quick starts and stops (steps of 10–20° a few times a second)",
        "kp": "poses held against gravity: the arm stretched out, and small steps there",
        "coulomb": "slow moves (5–10°/s) that change direction",
        "stribeck": "very slow moves (1–3°/s) that change direction",
        "viscous": "long moves at 60–120°/s",
        "load_motor": "slow moves up and down with the arm stretched out",
        "load_external": "slow moves up and down with the arm stretched out",
        "command_delay": "sudden reversals",
        "offset": "poses on both sides of upright",
        "backlash": "slow moves that change direction where gravity pulls either way",
        "resistance": "poses held against gravity with the arm stretched out (it is the scale of all torques)",
        "stop_lower": "slow folding to the ends of the range, and back",
        "stop_upper": "slow folding to the ends of the range, and back",
        "stop_stiffness": "slow folding to the ends of the range, and back",
        "mass": "holding the arm stretched out, and folded",
        "speed": "moves of more than 60° as fast as the arm goes",
        "acceleration": "moves of more than 30° as fast as the arm goes",
    }
    lines = []
    for quantity, motion in motions.items():
        of = sorted(
            {name.split(".")[1].replace("*", "all joints") for name in names if name.endswith(f".{quantity}")}
        )
        if of:
            lines.append(f"{quantity} of {', '.join(of)}: record {motion}")
    return lines


def excite_command(unclear: Sequence[str], robot: Robot, folder: Path) -> str:
    """The command that records what would determine these unknowns; all joints where one is of no joint alone."""
    owners = {name.split(".")[1] for name in unclear if name.startswith("servo.")}
    joints = [name for name in robot.joint_names if name in owners]
    some = len(joints) < robot.n and all(name.split(".")[1] in joints for name in unclear)
    words = ["sim2real excite --port PORT", f"--twin {folder / 'twin.toml'}"]
    if robot.name != "so101":
        words.append(f"--robot {robot.name}")
    if some:
        words.append(f"--joints {','.join(joints)}")
    return " ".join([*words, f"--out {folder / 'excited'}"])


def at_bounds(found: Fit) -> list[str]:
    """What is found at a bound of what is physical, and what that means, a line for each kind of quantity."""
    kinds: dict[tuple[str, bool, float], list[str]] = {}
    for unknown, z, at in zip(found.unknowns, found.z, found.at_bound):
        if at:
            owner, _, field = unknown.name.rpartition(".")
            lower = bool(z - unknown.encode(unknown.low) < unknown.encode(unknown.high) - z)
            bound = unknown.low if lower else unknown.high
            kinds.setdefault((field, lower, bound), []).append(owner.rpartition(".")[2])
    return [
        f"{field} of {', '.join(owners)} is at its bound, {bound:g}"
        f"{_MEANING.get((field, lower), ': the model lacks something there, or the recording tells too little')}"
        for (field, lower, bound), owners in kinds.items()
    ]


_MEANING = {
    ("command_delay", True): ": it answers at once, as far as frames tell",
    ("backlash", True): ": no play shows",
    ("coulomb", True): ": no friction shows",
    ("stribeck", True): ": no friction at standstill shows",
    ("mass", True): ": nothing is carried, or the link is lighter than can be",
    ("offset", True): ": its zero is off, or weight is elsewhere than in the model; check the calibration",
    ("offset", False): ": its zero is off, or weight is elsewhere than in the model; check the calibration",
}
"""What a field means at a bound (True: the lower one)."""


def write_results(
    found: Identified,
    out: str | Path,
    source: str,
    more: Mapping[str, tuple[float, float, str]] | None = None,
) -> dict[str, Any]:
    """Write twin.toml, space.toml and identify.json into `out`; returns what identify.json holds.

    `more`: (low, high, distribution) by parameter of what was found otherwise, for space.toml.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarized(found, source, folder)
    table = {
        "robot": summary["robot"],
        "source": {key: summary[key] for key in ("data", "episodes", "frames", "units", "fps", "mean_deg")},
        "parameters": found.model.table(found.fit.values),
        "uncertainty": uncertainty(found),
    }
    write_text(folder / "twin.toml", tomli_w.dumps(table))
    write_space(folder / "space.toml", {**ranges_of(found), **(more or {})})
    write_text(folder / "identify.json", json.dumps(summary, indent=2) + "\n")
    settings = {"robot": summary["robot"], "data": source}
    write_text(folder / "config.json", json.dumps(described("identify", settings=settings), indent=2) + "\n")
    save_overlay(found, folder)
    return summary


def summarized(found: Identified, source: str, folder: Path | None = None) -> dict[str, Any]:
    """What an identification says, as plain values; `folder` is where its twin.toml is, if it is anywhere."""
    robot, result = found.model.robot, found.fit
    names = robot.joint_names
    unclear = undetermined(result)
    return {
        "robot": robot.name,
        "data": source,
        "episodes": list(found.log.episodes),
        "frames": int(np.isfinite(found.residuals).any(axis=1).sum()),
        "fitted_frames": found.fitted,
        "units": found.log.units,
        "fps": found.log.recording.fps,
        "seconds": round(found.seconds, 1),
        "simulations": result.evaluations,
        "before_deg": {names[i]: float(found.before[i]) for i in range(robot.n)},
        "after_deg": {names[i]: float(found.after[i]) for i in range(robot.n)},
        "mean_before_deg": float(found.before[robot.arm].mean()),
        "mean_deg": float(found.after[robot.arm].mean()),
        "mean_without_deg": mean_without(found.after, robot),
        "standouts": told_joints(found.after, robot)
        + bad_episodes(by_episode(found.residuals, found.log.recording.starts), found.log.episodes, robot),
        "undetermined": unclear,
        "at_bound": [n for n, at in zip(result.names, result.at_bound) if at],
        "bounds": at_bounds(result),
        "advice": advice(unclear),
        "remarks": list(found.log.remarks),
        "excite": excite_command(unclear, robot, folder) if unclear and folder is not None else None,
    }


def uncertainty(found: Identified) -> dict[str, float]:
    """Standard deviations by world parameter."""
    return {
        name: float(value)
        for unknown, value in zip(found.fit.unknowns, _value_deviation(found.fit))
        for name in found.model.expanded(unknown.name)
    }


def ranges_of(found: Identified) -> dict[str, tuple[float, float, str]]:
    """`training_ranges` of an arm."""
    return training_ranges(found.fit, world_parameters(found.model.robot))


def _value_deviation(found: Fit) -> Array:
    """(k,) standard deviations of the values themselves (to first order)."""
    slope = np.array([v if u.scale == "log" else 1.0 for u, v in zip(found.unknowns, found.values)])
    return found.deviation * slope


def space_table(ranges: Mapping[str, tuple[float, float, str]]) -> dict[str, Any]:
    """The space of (low, high, distribution) by parameter, as TOML holds it; what has a wildcard is shared by its
    matches."""
    entries: dict[str, dict[str, Any]] = {}
    for name, (low, high, kind) in ranges.items():
        entries[name] = {"distribution": kind, "low": low, "high": high}
        if "*" in name:
            entries[name]["shared"] = True
    return {"base": "default", "parameters": entries}


def write_space(path: Path, ranges: Mapping[str, tuple[float, float, str]]) -> None:
    """Write a space file of (low, high, distribution) by parameter."""
    write_text(path, tomli_w.dumps(space_table(ranges)))


def save_overlay(found: Identified, folder: Path) -> None:
    """Keep what the figures need: residuals before and after, and two episodes with the predictive band.

    `overlay.npz`, angles in degrees: `joints`; `before`, `after` (T, n) simulated minus recorded; and for the
    typical and the worst episode e = 0, 1: `time_e` (t,), `command_e`, `recorded_e`, `nominal_e`, `low_e`,
    `high_e`, `fitted_e` (t, n), `episode` (2,) their numbers.
    """
    log, robot = found.log, found.model.robot
    before, after = found.nominal, found.residuals
    starts = log.recording.starts
    errors = np.array([np.sqrt(np.nanmean(after[a:b][:, robot.arm] ** 2)) for a, b in pairwise(starts)])
    order = np.argsort(errors)
    chosen = [int(order[len(order) // 2]), int(order[-1])] if len(order) > 1 else [0]
    arrays: dict[str, Any] = {
        "joints": np.array(robot.joint_names),
        "before": before.astype(np.float32),
        "after": after.astype(np.float32),
        "episode": np.array([log.episodes[e] for e in chosen]),
        "error": errors[chosen],
    }
    for k, e in enumerate(chosen):
        one = log.select([e]).head(_MOST_FRAMES + 1)
        fitted, low, high = found.band(one)
        rows = slice(0, len(fitted) - 1)
        nominal = one.outcome() + np.deg2rad(before[starts[e] : starts[e] + len(fitted)])
        arrays[f"time_{k}"] = (np.arange(len(fitted)) / log.recording.fps)[rows]
        for name, values in (
            ("command", one.recording.command), ("recorded", one.outcome()), ("fitted", fitted),
            ("nominal", nominal), ("low", low), ("high", high),
        ):  # fmt: skip
            arrays[f"{name}_{k}"] = np.rad2deg(values[rows]).astype(np.float32)
    temporary = folder / f".{OVERLAY}.part"
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(folder / OVERLAY)
