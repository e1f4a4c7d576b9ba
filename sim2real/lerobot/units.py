"""In which units a data set stores joint angles, told from the values themselves.

Servos report whole ticks, so recorded states lie on a grid: 360/4095 apart in degrees, 200/(range_max −
range_min) apart when normalised. On one of the two grids the states of a real arm fit to rounding, on the
other they do not; normalised ones tell even the ranges (`grid.py`). Where there is no grid (simulated or filtered
states), the values' extent tells: normalised ones never leave −100…100 and saturate there, radians stay within a turn.

Before LeRobot counted joints from the middle of their range (its pull request 777, May 2025), the SO-100's and SO-101's
zero was the arm stretched out horizontally, and the shoulder's lift counted the other way: "old-degrees".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from sim2real.calibration import RESOLUTION, Calibration
from sim2real.errors import UserError
from sim2real.lerobot.grid import spans
from sim2real.robot import Robot

Array = NDArray[np.float64]

StoredUnits = Literal["normalised", "degrees", "radians", "old-degrees"]
"""Arm joints −100…100 of their range; degrees from its middle; the URDF's angles; degrees as LeRobot had them once."""
UNITS: tuple[StoredUnits, ...] = get_args(StoredUnits)
CHOICES = ("auto", *UNITS)
"""What a user may say."""

OLD_ZEROS = {"shoulder_lift": (-1.0, 90.0), "elbow_flex": (1.0, 90.0)}
"""Old degrees d mean sign · (d − zero) today (huggingface.co/docs/lerobot/backwardcomp)."""
OLD_ROBOTS = ("so100", "so101")

_ON_GRID = 0.03
"""Largest median distance from whole ticks that counts as on the grid; any values have 0.25."""
_STRAY = 0.05
"""Share of frames that read errors may spoil."""
_WIDEST = 3.3
"""rad: none of these joints goes further from its zero. As degrees or per cent an arm would hardly have moved."""
_LEAST_MOTION = 0.1
"""rad: what moves less, as radians, may as well be an arm at rest in degrees."""
_TURNS = 400.0
"""Degrees that no joint reaches."""
_REACH_MARGIN = 10.0
"""Degrees that real arms may be beyond the limits."""


@dataclass(frozen=True)
class UnitsFound:
    """The units, and why, in words for the user.

    `spans` are the ranges in ticks that the states tell by the grid they lie on, were they normalised.
    """

    units: StoredUnits
    reason: str
    spans: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.units not in UNITS:
            raise UserError(f"units are {', '.join(UNITS)}, got {self.units!r}")


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
    if requested not in CHOICES:
        raise UserError(f"--units must be one of {', '.join(CHOICES)}, got '{requested}'")
    told = spans(state, robot)
    found = _decide(state, action, robot, calibration, requested, source, told)
    return replace(found, spans=MappingProxyType(told))


def _decide(
    state: Array,
    action: Array,
    robot: Robot,
    calibration: Calibration | None,
    requested: str,
    source: str,
    told: Mapping[str, int],
) -> UnitsFound:
    arm = state[:, robot.arm]
    both = np.abs(np.concatenate([arm, action[:, robot.arm]]))
    # Without the few frames that read errors may have spoilt.
    extent = float(np.quantile(both.max(axis=1), 1.0 - _STRAY)) if len(both) else 0.0
    _refuse_absurd(extent, requested, source)
    if requested != "auto":
        return UnitsFound(cast(StoredUnits, requested), "you said so")
    # Doubled: the middle of a range, from which degrees count, may fall between two ticks.
    off_degrees = _off_grid(2.0 * arm * (RESOLUTION - 1) / 360.0)
    off_normalised = 0.25 if calibration is None else _off_grid(_normalised_ticks(arm, robot, calibration))
    if off_normalised < _ON_GRID < off_degrees and extent <= 100.5:
        return UnitsFound("normalised", "states are whole ticks of the calibrated ranges in per cent")
    on_grids = sum(robot.joint_names[j] in told for j in robot.arm)
    if off_degrees > _ON_GRID and on_grids >= max(1, len(robot.arm) // 2) and _within(arm):
        return UnitsFound("normalised", "states are whole ticks of ranges in per cent")
    peak = float(both.max(initial=0.0))
    if peak > 100.5:
        return _dated(
            arm, robot, calibration, f"values reach {peak:.1f}, normalised ones stay within -100..100"
        )
    if off_degrees < _ON_GRID and (calibration is None or off_normalised > _ON_GRID):
        return _dated(arm, robot, calibration, "states are whole ticks in degrees")
    if (
        float(np.abs(state).max(initial=0.0)) < _WIDEST
        and np.ptp(arm, axis=0).max(initial=0.0) > _LEAST_MOTION
    ):
        return UnitsFound("radians", f"values stay within {extent:.2f}: an arm that moves does so in radians")
    if calibration is not None:
        reach = np.abs(np.rad2deg(np.stack(calibration.limits))).max(axis=0)[robot.arm]
        beyond = (both > reach + 5.0).mean(axis=0) > _STRAY
        if beyond.any():
            joint = robot.joint_names[int(robot.arm[int(np.argmax(beyond))])]
            return UnitsFound("normalised", f"as degrees, {joint} would leave its calibrated range")
    if (both == 100.0).sum() > 1:
        return UnitsFound("normalised", "values saturate at exactly 100")
    raise UserError(
        f"nothing in {source} tells in which units its joints are: values stay within {extent:.1f} and lie on no "
        f"grid of servo ticks; say it with --units {' or '.join(UNITS)}"
    )


def modern(values: Array, robot: Robot) -> Array:
    """Old degrees (..., n) as today's."""
    values = np.array(values, dtype=np.float64)
    for j, name in enumerate(robot.joint_names):
        sign, zero = OLD_ZEROS.get(name, (1.0, 0.0))
        values[..., j] = sign * (values[..., j] - zero)
    return values


def _refuse_absurd(extent: float, requested: str, source: str) -> None:
    if extent > _TURNS:
        raise UserError(
            f"the joints of {source} reach {extent:.0f}, and none turns so many degrees; raw servo ticks cannot be "
            "read: record with a calibration, as LeRobot and `sim2real record` do"
        )
    if requested == "normalised" and extent > 100.5:
        raise UserError(
            f"--units normalised cannot be right for {source}: its values reach {extent:.1f}, normalised "
            "ones stay within -100..100; use --units degrees"
        )
    if requested == "radians" and extent > 2 * _WIDEST:
        raise UserError(
            f"--units radians cannot be right for {source}: its values reach {extent:.1f}, more than a turn; "
            "use --units degrees or --units normalised"
        )


def _dated(arm: Array, robot: Robot, calibration: Calibration | None, reason: str) -> UnitsFound:
    """Degrees of today or of old: those by which the arm (T, k) stays where it can go."""
    if robot.name not in OLD_ROBOTS:
        return UnitsFound("degrees", reason)
    lower, upper = (robot.lower, robot.upper) if calibration is None else calibration.limits
    low, high = (np.rad2deg(limit)[robot.arm] for limit in (lower, upper))

    def outside(values: Array) -> float:
        gone = (values < low - _REACH_MARGIN) | (values > high + _REACH_MARGIN)
        return float(gone.any(axis=1).mean())

    whole = np.zeros((len(arm), robot.n))
    whole[:, robot.arm] = arm
    if outside(arm) > _STRAY and outside(modern(whole, robot)[:, robot.arm]) < outside(arm) / 5:
        joints = " and ".join(name for name in robot.joint_names if name in OLD_ZEROS)
        return UnitsFound(
            "old-degrees", f"{joints} fit their ranges only by LeRobot's zeros of before May 2025"
        )
    return UnitsFound("degrees", reason)


def _within(arm: Array) -> bool:
    """Whether states (T, k) stay where normalised ones can be."""
    return float(np.abs(arm).max(initial=0.0)) <= 100.0


def _normalised_ticks(arm: Array, robot: Robot, calibration: Calibration) -> Array:
    low, high = calibration.range_min[robot.arm], calibration.range_max[robot.arm]
    ticks = low + (arm + 100.0) / 200.0 * (high - low)
    return np.where(np.abs(arm) >= 100.0, low, ticks)  # saturated: on every grid


def _off_grid(ticks: Array) -> float:
    """Typical distance of `ticks` (T, k) from whole numbers, 0 … 0.25: medians over frames and joints."""
    if len(ticks) < 10:
        return 0.25
    return float(np.median(np.median(np.abs(ticks - np.rint(ticks)), axis=0)))
