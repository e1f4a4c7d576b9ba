"""What recorded states say of the calibration they were recorded with: the span of every joint's range, in ticks.

Servos report whole ticks. Normalised to its calibrated range, a joint takes the values −100 + 200 k / N only (a gripper
100 k / N), with N = range_max − range_min and whole k; some dozen different readings determine N, because no other
number of ticks puts them all on whole ones. Zeros need no file either: a joint's is the middle of its range, a
gripper's closed position the lower end. So such states carry their calibration with them, up to the direction in
which a joint is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.calibration import RADIANS_PER_TICK, RESOLUTION, Calibration
from sim2real.calibration_checks import span_limit
from sim2real.robot import Robot

Array = NDArray[np.float64]

LEAST_SPAN = 0.5
"""Share of the URDF's span below which no calibrated range is looked for."""
LEAST_READINGS = 8
"""Different readings of a joint that are needed."""
MOST_READINGS = 400
_TOLERANCE = 0.005
"""Distance from whole ticks; 32-bit numbers are exact to 0.0002."""
_STRAY = 0.05
"""Share of readings that read errors may spoil."""
CLOSED_NOT_READ = 1e-6


@dataclass(frozen=True)
class Settled:
    """A calibration that agrees with the states, where it is from ("file", "data" or "nominal"), and remarks."""

    calibration: Calibration
    source: str
    remarks: tuple[str, ...] = ()


def spans(state: Array, robot: Robot) -> dict[str, int]:
    """Ticks of each joint's range by its name, from normalised states (T, n) as stored; only of joints that tell."""
    found = {}
    for j, name in enumerate(robot.joint_names):
        if j == robot.gripper:
            span = _span(state[:, j] / 100.0, robot, j)
        else:
            span = _span((state[:, j] + 100.0) / 200.0, robot, j)
        if span is not None:
            found[name] = span
    return found


def _span(share: Array, robot: Robot, joint: int) -> int | None:
    """The one number of ticks in reach of this joint of which readings (T,), shares of its range, are whole ones."""
    readings = np.unique(share[(share > CLOSED_NOT_READ) & (share < 1 - CLOSED_NOT_READ)])
    if len(readings) < LEAST_READINGS:
        return None
    readings = readings[np.linspace(0, len(readings) - 1, min(MOST_READINGS, len(readings))).astype(int)]
    turn = float(robot.upper[joint] - robot.lower[joint]) / RADIANS_PER_TICK
    candidates = np.arange(int(LEAST_SPAN * turn), int(min(span_limit(robot, joint), RESOLUTION - 1)) + 1)
    ticks = readings[:, None] * candidates
    off = np.quantile(np.abs(ticks - np.rint(ticks)), 1 - _STRAY, axis=0)
    fitting = candidates[off < _TOLERANCE]
    if not len(fitting) or (fitting % fitting[0]).any():
        return None
    return int(fitting[0])


def settle(
    calibration: Calibration | None, found: Mapping[str, int], units: str, robot: Robot
) -> Settled | None:
    """The calibration by which states in `units` were recorded: the file's, mended or replaced by the spans `found`.

    `found` is what `spans` returned; in degrees only the gripper's counts. None where nothing tells: normalised
    states without a file and without a grid.
    """
    names = robot.joint_names
    gripper = None if robot.gripper is None else names[robot.gripper]
    if units == "radians":
        found = {}
    elif units != "normalised":
        found = {name: span for name, span in found.items() if name == gripper}
    if calibration is None:
        arm = [name for name in found if name != gripper]
        if units == "normalised" and not arm:
            return None
        nominal = Calibration.nominal(robot)
        if not found:
            return Settled(nominal, "nominal")
        told = ", ".join(f"{name} {span}" for name, span in found.items())
        remarks = [
            f"there is no calibration file, but the states lie on grids of servo ticks, which tell the ranges: {told}"
        ]
        silent = [name for name in names if name not in found]
        if silent and units == "normalised":
            remarks.append(
                f"the readings of {', '.join(silent)} do not tell the range: the URDF's is assumed"
            )
        return Settled(
            _with_spans(nominal, found, robot), "data" if units == "normalised" else "nominal", tuple(remarks)
        )
    stated = dict(zip(names, (calibration.range_max - calibration.range_min).tolist()))
    wrong = {name: span for name, span in found.items() if stated[name] != span}
    if not wrong:
        return Settled(calibration, "file")
    told = ", ".join(f"{name} {span} ticks (the file: {stated[name]})" for name, span in wrong.items())
    remark = (
        "the calibration file is not the one that was used for recording: the states lie on the grids of other "
        f"ranges: {told}; those of the data are used"
    )
    return Settled(_with_spans(calibration, wrong, robot), "file", (remark,))


def _with_spans(calibration: Calibration, found: Mapping[str, int], robot: Robot) -> Calibration:
    """The calibration with other spans, around the middles of its ranges as far as the encoder reaches."""
    table = calibration.table()
    for name, span in found.items():
        entry = table[name]
        low = (entry["range_min"] + entry["range_max"] - span) // 2
        entry["range_min"] = max(0, min(low, RESOLUTION - 1 - span))
        entry["range_max"] = entry["range_min"] + span
    return Calibration.create(table, robot, "the calibration told by the data")
