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

from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]
Units = Literal["normalised", "degrees"]

RESOLUTION = 4096
"""Ticks per turn of the servos' encoders."""

RADIANS_PER_TICK = 2 * math.pi / RESOLUTION

SPAN_MARGIN = 1.35
"""How much wider than the URDF's limits a calibrated range may be.

Real arms go beyond the nominal limits: their spans are up to 1.24 times the URDF's. A wrapped encoder gives
4094 or 4095 ticks, at least 1.5 times what any joint but a wrist roll can turn.
"""

_FIELDS = ("id", "drive_mode", "homing_offset", "range_min", "range_max")

_REVERSING = ("dynamixel",)
"""Protocols whose servos turn their direction round themselves."""


def _max_offset(robot: Robot) -> int:
    """Ticks: half a turn, or what the register holds where it counts whole turns."""
    return 1_044_479 if robot.protocol in _REVERSING else RESOLUTION // 2


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
        for name in _FIELDS:
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
    def load(cls, path: str | Path, robot: Robot) -> "Calibration":
        """Read a calibration file in LeRobot's format.

        Raises UserError for a missing or unreadable file, another format, missing or unknown joints,
        duplicate or wrong servo IDs, values out of range, and wrapped encoders.
        """
        path = Path(path)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"no calibration file at {path}; give one in LeRobot's format "
                f"(joint: {{{', '.join(_FIELDS)}}}) with --calibration"
            ) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"cannot read the calibration file {path}: {error}") from None
        return cls.create(raw, robot, source=str(path))

    @classmethod
    def create(cls, table: Mapping[str, Any], robot: Robot, source: str = "calibration") -> "Calibration":
        """From a table as in the file: `{joint: {id, drive_mode, homing_offset, range_min, range_max}}`.

        `source` names the table in error messages. Raises UserError as `load` does.
        """
        names = robot.joint_names
        _check_joints(table, names, robot.name, source)
        columns = {
            field: np.array([_integer(table[name], field, name, source) for name in names], dtype=np.int64)
            for field in _FIELDS
        }
        for i, joint in enumerate(robot.joints):
            turn = float(robot.upper[i] - robot.lower[i])
            entry = {field: int(columns[field][i]) for field in _FIELDS}
            _check_values(entry, joint.name, turn, _max_offset(robot), source)
        _check_ids(columns["id"], robot, source)
        gripper = robot.gripper
        lower = float(robot.lower[gripper]) if gripper is not None else 0.0
        reversing = robot.protocol in _REVERSING
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
            reversed_by_servo=robot.protocol in _REVERSING,
        )

    def table(self) -> dict[str, dict[str, int]]:
        """The file's content as plain numbers."""
        return {
            name: {field: int(getattr(self, field)[i]) for field in _FIELDS}
            for i, name in enumerate(self.names)
        }

    def save(self, path: str | Path) -> None:
        """Write the file in LeRobot's format."""
        Path(path).write_text(json.dumps(self.table(), indent=4) + "\n", encoding="utf-8")


def _check_joints(table: Any, names: tuple[str, ...], robot: str, source: str) -> None:
    if not isinstance(table, Mapping):
        raise UserError(f"{source} is not a calibration: expected a JSON object with a joint per key")
    if "servos_offsets" in table:
        raise UserError(
            f"{source} is a phosphobot calibration: it holds each servo's zero but not the range it can move "
            "in, so neither percentages nor limits follow from it; record the ranges in LeRobot's format"
        )
    if "motor_names" in table:
        raise UserError(
            f"{source} is in LeRobot's old format (a list per field), which has no ranges; "
            "calibrate again with a current LeRobot, which writes an object per joint"
        )
    missing = [name for name in names if name not in table]
    if missing:
        raise UserError(
            f"{source} lacks the joint{'s' if len(missing) > 1 else ''} {', '.join(missing)} of {robot}; "
            f"it has {', '.join(map(str, table)) or 'none'}; is it the calibration of another robot?"
        )
    unknown = [str(name) for name in table if name not in names]
    if unknown:
        raise UserError(
            f"{source} has joints that {robot} does not have: {', '.join(unknown)}; "
            f"{robot} has {', '.join(names)}; is it the calibration of another robot?"
        )


def _integer(entry: Any, field: str, joint: str, source: str) -> int:
    if not isinstance(entry, Mapping):
        raise UserError(f"{source}: joint {joint} must be an object with {', '.join(_FIELDS)}, got {entry!r}")
    if field not in entry:
        raise UserError(f"{source}: joint {joint} lacks {field}; it needs {', '.join(_FIELDS)}")
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise UserError(f"{source}: {field} of joint {joint} must be a whole number, got {value!r}")
    return int(value)


def _check_values(entry: dict[str, int], joint: str, turn: float, offset: int, source: str) -> None:
    def refuse(what: str, allowed: str, todo: str) -> UserError:
        return UserError(f"{source}: joint {joint} has {what}; allowed is {allowed}; {todo}")

    if entry["drive_mode"] not in (0, 1):
        raise refuse(f"drive_mode {entry['drive_mode']}", "0 (as is) or 1 (reversed)", "correct the file")
    if abs(entry["homing_offset"]) > offset:
        raise refuse(
            f"homing_offset {entry['homing_offset']}",
            f"-{offset}..{offset} ticks",
            "calibrate this joint again",
        )
    low, high = entry["range_min"], entry["range_max"]
    for name, value in (("range_min", low), ("range_max", high)):
        if not 0 <= value < RESOLUTION:
            raise refuse(f"{name} {value}", f"0..{RESOLUTION - 1} ticks", "calibrate this joint again")
    if low >= high:
        raise refuse(
            f"range_min {low} and range_max {high}", "range_min < range_max", "calibrate this joint again"
        )
    span = turn / RADIANS_PER_TICK
    if high - low > SPAN_MARGIN * span:
        raise refuse(
            f"a range of {high - low} ticks ({low}..{high}), but it turns only about {span:.0f} "
            "(its encoder wrapped round, or it was read across the zero, while the range was recorded)",
            f"at most {SPAN_MARGIN * span:.0f}",
            "put the joint in the middle of its range, set the homing offset there and calibrate it again",
        )


def _check_ids(ids: NDArray[np.int64], robot: Robot, source: str) -> None:
    seen: dict[int, str] = {}
    for joint, value in zip(robot.joints, ids.tolist()):
        if value in seen:
            raise UserError(
                f"{source}: joints {seen[value]} and {joint.name} both have the servo id {value}; "
                "every servo on the bus needs an id of its own; correct the file"
            )
        seen[value] = joint.name
        if value != joint.servo_id:
            raise UserError(
                f"{source}: joint {joint.name} has the servo id {value}, but {robot.name} expects "
                f"{joint.servo_id}; correct the file, or the servo_id in the robot's TOML"
            )
