"""Calibration files: how servo ticks, LeRobot's units and joint angles relate.

The file format is LeRobot's: `{joint: {id, drive_mode, homing_offset, range_min, range_max}}`, ticks after
the servo's own homing offset has been applied. Angles are those of the URDF, in radians:

- a joint's zero is the middle of its calibrated range; the gripper's 0 % is its lower URDF limit;
- one tick is 2π / 4096 rad; `drive_mode` 1 turns the direction round: here, or in the servo where that can do it
  itself (Dynamixel), so that its ticks are reversed already.

LeRobot stores either *normalised* values (arm joints −100…100 over the calibrated range, gripper 0…100; with
`drive_mode` 1 reversed; saturated at the range) or *degrees*, which are (tick − middle) · 360 / 4095 without
regard to `drive_mode`, while the gripper stays at 0…100.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.calibration_checks import FIELDS, RESOLUTION, REVERSING, find_problems
from sim2real.errors import UserError
from sim2real.joint_names import arm_called, arms_of, foreign, joint_of
from sim2real.robot import Robot

Array = NDArray[np.float64]
Units = Literal["normalised", "degrees"]

RADIANS_PER_TICK = 2 * math.pi / RESOLUTION


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration of one arm. Arrays are (n,) int64 in the order of the robot's joints.

    `gripper` is the index of the joint stored as 0…100, or None; `gripper_lower` its angle at 0 %, rad;
    `reversed_by_servo` says who carries out `drive_mode`.
    Made by `Calibration.load` or `Calibration.create`, which check the values against the robot.
    """

    names: tuple[str, ...]
    id: NDArray[np.int64]
    drive_mode: NDArray[np.int64]
    homing_offset: NDArray[np.int64]
    range_min: NDArray[np.int64]
    range_max: NDArray[np.int64]
    gripper: int | None
    gripper_lower: float
    reversed_by_servo: bool = False

    def __post_init__(self) -> None:
        for name in FIELDS:
            values = np.array(getattr(self, name), dtype=np.int64)
            if values.shape != (len(self.names),):
                raise ValueError(f"{name} must have shape ({len(self.names)},), got {values.shape}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @cached_property
    def sign(self) -> Array:
        """(n,) 1 or -1: whether the joint's angle grows with the ticks or falls."""
        return np.where((self.drive_mode == 1) & (not self.reversed_by_servo), -1.0, 1.0)

    @cached_property
    def _middle(self) -> Array:
        return (self.range_min + self.range_max) / 2

    @cached_property
    def _zero(self) -> Array:
        """The tick, not necessarily whole, at which the URDF's angle is 0."""
        zero = self._middle.copy()
        if self.gripper is not None:
            g, sign = self.gripper, self.sign[self.gripper]
            closed = self.range_min[g] if sign > 0 else self.range_max[g]
            zero[g] = closed - sign * self.gripper_lower / RADIANS_PER_TICK
        return zero

    def __repr__(self) -> str:
        ranges = ", ".join(
            f"{name} {low}..{high}{' reversed' if mode else ''}"
            for name, low, high, mode in zip(self.names, self.range_min, self.range_max, self.drive_mode)
        )
        return f"Calibration({ranges})"

    @property
    def lower(self) -> Array:
        """Lower ends of the calibrated ranges, (n,) rad."""
        return self.ticks_to_radians(np.where(self.sign > 0, self.range_min, self.range_max))

    @property
    def upper(self) -> Array:
        """Upper ends of the calibrated ranges, (n,) rad."""
        return self.ticks_to_radians(np.where(self.sign > 0, self.range_max, self.range_min))

    @property
    def limits(self) -> tuple[Array, Array]:
        """The calibrated ranges: (lower, upper), (n,) rad each."""
        return self.lower, self.upper

    # Conversions. All are vectorized: the last axis runs over the joints.

    def ticks_to_radians(self, ticks: ArrayLike) -> Array:
        """(..., n) ticks → (..., n) rad."""
        return self.sign * (np.asarray(ticks, dtype=np.float64) - self._zero) * RADIANS_PER_TICK

    def radians_to_ticks(self, position: ArrayLike, *, clip: bool = True) -> NDArray[np.int64]:
        """(..., n) rad → (..., n) whole ticks, by default limited to the calibrated range.

        Raises ValueError for values that are not finite: they have no tick.
        """
        ticks = self._radians_to_real_ticks(position)
        if not np.isfinite(ticks).all():
            raise ValueError(f"joint angles must be finite, got {np.asarray(position)}")
        whole = np.rint(ticks).astype(np.int64)
        return np.asarray(np.clip(whole, self.range_min, self.range_max)) if clip else whole

    def normalised_to_radians(self, values: ArrayLike) -> Array:
        """(..., n) normalised values (arm −100…100, gripper 0…100) → (..., n) rad."""
        return self.ticks_to_radians(self._fraction_to_ticks(self._to_fraction(values)))

    def radians_to_normalised(self, position: ArrayLike, *, saturate: bool = True) -> Array:
        """(..., n) rad → (..., n) normalised values, saturating at the range as LeRobot does."""
        fraction = self._ticks_to_fraction(self._radians_to_real_ticks(position))
        if saturate:
            fraction = np.clip(fraction, 0.0, 1.0)
        values = 200.0 * fraction - 100.0
        if self.gripper is not None:
            values[..., self.gripper] = 100.0 * fraction[..., self.gripper]
        return values

    def degrees_to_radians(self, values: ArrayLike) -> Array:
        """(..., n) of LeRobot's degrees (gripper 0…100) → (..., n) rad."""
        values = np.asarray(values, dtype=np.float64)
        ticks = self._middle + values * (RESOLUTION - 1) / 360.0
        return self._with_gripper(self.ticks_to_radians(ticks), self.normalised_to_radians(values))

    def radians_to_degrees(self, position: ArrayLike) -> Array:
        """(..., n) rad → (..., n) of LeRobot's degrees; the gripper as 0…100, not saturated."""
        ticks = self._radians_to_real_ticks(position)
        degrees = (ticks - self._middle) * 360.0 / (RESOLUTION - 1)
        return self._with_gripper(degrees, self.radians_to_normalised(position, saturate=False))

    def to_radians(self, values: ArrayLike, units: Units) -> Array:
        """(..., n) values in LeRobot's `units` → (..., n) rad."""
        if units == "normalised":
            return self.normalised_to_radians(values)
        return self.degrees_to_radians(values)

    def from_radians(self, position: ArrayLike, units: Units) -> Array:
        """(..., n) rad → (..., n) values in LeRobot's `units`."""
        if units == "normalised":
            return self.radians_to_normalised(position)
        return self.radians_to_degrees(position)

    def _radians_to_real_ticks(self, position: ArrayLike) -> Array:
        return np.asarray(position, dtype=np.float64) * self.sign / RADIANS_PER_TICK + self._zero

    def _to_fraction(self, values: ArrayLike) -> Array:
        values = np.asarray(values, dtype=np.float64)
        return self._with_gripper((values + 100.0) / 200.0, values / 100.0)

    def _fraction_to_ticks(self, fraction: Array) -> Array:
        fraction = np.where(self.sign > 0, fraction, 1.0 - fraction)
        return np.asarray(self.range_min + fraction * (self.range_max - self.range_min), dtype=np.float64)

    def _ticks_to_fraction(self, ticks: Array) -> Array:
        fraction = (ticks - self.range_min) / (self.range_max - self.range_min)
        return np.where(self.sign > 0, fraction, 1.0 - fraction)

    def _with_gripper(self, arm: Array, gripper: Array) -> Array:
        if self.gripper is not None:
            arm[..., self.gripper] = gripper[..., self.gripper]
        return arm

    # Files

    @classmethod
    def load(cls, path: str | Path, robot: Robot, arm: str | None = None) -> "Calibration":
        """Read a calibration file in LeRobot's format; `arm` is what it calls the arm, where it holds several.

        Of a file that holds more than an arm (the wheels of a base, a second arm), the arm's part.
        Raises UserError for a missing or unreadable file, another format, missing or unknown joints, duplicate or
        wrong servo IDs, values out of range, and wrapped encoders.
        """
        return cls.create(of_arm(read_table(path), robot, arm), robot, source=str(path))

    @classmethod
    def create(cls, table: Mapping[str, Any], robot: Robot, source: str = "calibration") -> "Calibration":
        """From a table as in the file: `{joint: {id, drive_mode, homing_offset, range_min, range_max}}`.

        `source` names the table in error messages. Raises UserError as `load` does.
        """
        names = robot.joint_names
        problems = find_problems(table, robot)
        if problems:
            more = f" (`sim2real check-calibration` lists {len(problems) - 1} more)" if problems[1:] else ""
            raise UserError(f"{source}: {problems[0]}{more}")
        columns = {
            field: np.array([int(table[name][field]) for name in names], dtype=np.int64) for field in FIELDS
        }
        gripper = robot.gripper
        lower = float(robot.lower[gripper]) if gripper is not None else 0.0
        reversing = robot.protocol in REVERSING
        return cls(names=names, gripper=gripper, gripper_lower=lower, reversed_by_servo=reversing, **columns)

    @classmethod
    def nominal(cls, robot: Robot) -> "Calibration":
        """For arms that have no file: the URDF's zero at tick 2048, ranges that span the URDF's limits."""
        half = np.maximum(np.abs(robot.lower), np.abs(robot.upper)) / RADIANS_PER_TICK
        low = np.maximum(RESOLUTION // 2 - np.floor(half), 0).astype(np.int64)
        high = np.minimum(RESOLUTION // 2 + np.floor(half), RESOLUTION - 1).astype(np.int64)
        if robot.gripper is not None:
            g = robot.gripper
            span = (robot.upper[g] - robot.lower[g]) / RADIANS_PER_TICK
            low[g] = RESOLUTION // 2 - round(span / 2)
            high[g] = low[g] + round(span)
        return cls(
            names=robot.joint_names,
            id=np.array([joint.servo_id for joint in robot.joints], dtype=np.int64),
            drive_mode=np.zeros(robot.n, dtype=np.int64),
            homing_offset=np.zeros(robot.n, dtype=np.int64),
            range_min=low,
            range_max=high,
            gripper=robot.gripper,
            gripper_lower=0.0 if robot.gripper is None else float(robot.lower[robot.gripper]),
            reversed_by_servo=robot.protocol in REVERSING,
        )

    def table(self) -> dict[str, dict[str, int]]:
        """The file's content as plain numbers."""
        return {
            name: {field: int(getattr(self, field)[i]) for field in FIELDS}
            for i, name in enumerate(self.names)
        }

    def save(self, path: str | Path) -> None:
        """Write the file in LeRobot's format."""
        Path(path).write_text(json.dumps(self.table(), indent=4) + "\n", encoding="utf-8")


def read_table(path: str | Path) -> Any:
    """The content of a calibration file, whatever it is. Raises UserError when it is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no calibration file at {path}; `sim2real calibrate` makes one (or give one in LeRobot's format: "
            f"joint: {{{', '.join(FIELDS)}}})"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"cannot read the calibration file {path}: {error}") from None


def of_arm(table: Any, robot: Robot, arm: str | None = None) -> Any:
    """The part of a calibration file's `table` that is of the robot's joints, under the robot's names for them.

    Names are recognised in any spelling (`arm_shoulder_pan`, `shoulderPan`), beside the wheels of a base and beside
    further arms, of which `arm` chooses one. A table that has no such part, or several, is returned as it is: who
    judges calibrations says what is wrong with it.
    """
    if not isinstance(table, Mapping):
        return table
    names = [str(name) for name in table]
    found, joints = [joint_of(name) for name in names], [joint_of(name) for name in robot.joint_names]
    arms = arms_of(found, joints)
    head = None if arm is None else arm_called(arms, arm)
    if head is None:
        head = "" if "" in arms else arms[0] if len(arms) == 1 else None
    if head is None or foreign(names, robot.joint_names):
        return table
    entries = list(table.values())
    return {name: entries[found.index(head + joint)] for name, joint in zip(robot.joint_names, joints)}
