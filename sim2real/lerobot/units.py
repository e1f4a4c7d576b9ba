"""In which units a data set stores joint angles, told from the values themselves.

Servos report whole ticks, so recorded states lie on a grid: 360/4095 apart in degrees, 200/(range_max −
range_min) apart when normalised. On one of the two grids the states of a real arm fit to rounding, on the
other they do not. Where there is no grid (simulated or filtered states), the values' extent tells: normalised
ones never leave −100…100 and saturate there.
"""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from sim2real.calibration import RESOLUTION, Calibration, Units
from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]

_ON_GRID = 0.03
"""Largest median distance from whole ticks that counts as on the grid; any values have 0.25."""


@dataclass(frozen=True)
class UnitsFound:
    """The units, and why, in words for the user."""

    units: Units
    reason: str

    def __post_init__(self) -> None:
        if self.units not in ("normalised", "degrees"):
            raise UserError(f"units are 'normalised' or 'degrees', got {self.units!r}")


def find_units(
    state: Array,
    action: Array,
    robot: Robot,
    calibration: Calibration | None,
    requested: str,
    source: str,
) -> UnitsFound:
    """Decide from recorded states and actions (T, n), as stored, in the order of the robot's joints.

    Raises UserError when `requested` is unknown, contradicts the values, or is "auto" and nothing can tell.
    """
    if requested not in ("auto", "normalised", "degrees"):
        raise UserError(f"--units must be auto, normalised or degrees, got '{requested}'")
    arm = state[:, robot.arm]
    both = np.abs(np.concatenate([arm, action[:, robot.arm]]))
    extent = float(both.max(initial=0.0))
    outside = extent > 100.5
    if requested != "auto":
        if requested == "normalised" and outside:
            raise UserError(
                f"--units normalised cannot be right for {source}: its values reach {extent:.1f}, normalised "
                "ones stay within -100..100; use --units degrees"
            )
        return UnitsFound(cast(Literal["normalised", "degrees"], requested), "you said so")
    if outside:
        return UnitsFound("degrees", f"values reach {extent:.1f}, normalised ones stay within -100..100")
    # Doubled: the middle of a range, from which degrees count, may fall between two ticks.
    off_degrees = _off_grid(2.0 * arm * (RESOLUTION - 1) / 360.0)
    if calibration is not None:
        off_normalised = _off_grid(_normalised_ticks(arm, robot, calibration))
        if off_normalised < _ON_GRID < off_degrees:
            return UnitsFound("normalised", "states are whole ticks of the calibrated ranges in per cent")
        if off_degrees < _ON_GRID < off_normalised:
            return UnitsFound("degrees", "states are whole ticks in degrees")
        reach = np.abs(np.rad2deg(np.stack(calibration.limits))).max(axis=0)[robot.arm]
        beyond = (both > reach + 5.0).any(axis=0)
        if beyond.any():
            joint = robot.joint_names[int(robot.arm[int(np.argmax(beyond))])]
            return UnitsFound("normalised", f"as degrees, {joint} would leave its calibrated range")
    elif off_degrees < _ON_GRID:
        return UnitsFound("degrees", "states are whole ticks in degrees")
    if (both == 100.0).sum() > 1:
        return UnitsFound("normalised", "values saturate at exactly 100")
    raise UserError(
        f"nothing in {source} tells whether its joints are in degrees or in per cent of their range: values "
        f"stay within {extent:.1f} and lie on no grid of servo ticks; say it with --units degrees or "
        "--units normalised"
    )


def _normalised_ticks(arm: Array, robot: Robot, calibration: Calibration) -> Array:
    low, high = calibration.range_min[robot.arm], calibration.range_max[robot.arm]
    ticks = low + (arm + 100.0) / 200.0 * (high - low)
    return np.where(np.abs(arm) >= 100.0, low, ticks)  # saturated: on every grid


def _off_grid(ticks: Array) -> float:
    """Typical distance of `ticks` (T, k) from whole numbers, 0 … 0.25: medians over frames and joints."""
    if len(ticks) < 10:
        return 0.25
    return float(np.median(np.median(np.abs(ticks - np.rint(ticks)), axis=0)))
