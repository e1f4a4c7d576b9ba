"""Calibrating an arm by hand: where each joint's stops are, read while a person moves the limp arm.

Nothing is written until everything is known. Readings are followed across the encoder's zero, so it does not
matter how the servos happen to be mounted; the new homing offsets put the middle of every range at tick 2048.
Joints that can turn all the way round have no stops: their range is the whole turn, and the middle is where they
were when `mark_middle` was called.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.arm.identity import CALIBRATED, CHECK_TIMEOUT, identify, write_settings
from hardware.arm.serial_arm import SerialArm
from hardware.children import ENDING
from hardware.servos.bus import ServoBus
from hardware.servos.family import family_of
from sim2real.calibration import RADIANS_PER_TICK, Calibration
from sim2real.calibration_checks import RESOLUTION
from sim2real.errors import BusError, HardwareError, Sim2RealError, UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]
Ticks = NDArray[np.int64]

CENTRE = RESOLUTION // 2

FULL_TURN = 0.8
"""Joints whose URDF limits are further apart than this share of a turn count as turning all the way round."""

MOVED = 0.5
"""Share of the URDF's span that a joint must have been moved through at the least."""

SILENCE = 1.0
"""s without an answer after which a servo counts as gone."""


class Ranges:
    """Lowest and highest position of n joints so far, in ticks counted on across the encoder's zero.

    Of each three readings in a row the middle one counts, so that a single damaged one leaves no trace.
    """

    def __init__(self, n: int) -> None:
        self.present: Array = np.full(n, np.nan)
        self.low: Array = np.full(n, np.inf)
        self.high: Array = np.full(n, -np.inf)
        self._last: Array = np.full(n, np.nan)
        self._recent: Array = np.full((3, n), np.nan)

    def add(self, ticks: Ticks, valid: NDArray[np.bool_]) -> None:
        """One reading (n,) of positions as the servos report them; of the others nothing is known."""
        first = valid & np.isnan(self._last)
        self._last = np.where(first, ticks, self._last)
        start = np.where(first, ticks, self._recent[-1])
        step = (ticks - self._last + RESOLUTION / 2) % RESOLUTION - RESOLUTION / 2
        newest = np.where(valid, start + np.where(first, 0.0, step), self._recent[-1])
        self._last = np.where(valid, ticks, self._last)
        self._recent = np.vstack([self._recent[1:], newest])
        whole = ~np.isnan(self._recent[0])
        middle = np.sort(self._recent, axis=0)[1]
        self.present = np.where(whole, middle, self.present)
        self.low = np.where(whole, np.minimum(self.low, middle), self.low)
        self.high = np.where(whole, np.maximum(self.high, middle), self.high)

    @property
    def known(self) -> bool:
        """Whether every joint has been read."""
        return bool(np.isfinite(self.present).all())

    @property
    def span(self) -> Array:
        """(n,) ticks from the lowest to the highest position; 0 where nothing is known."""
        return np.where(np.isnan(self.present), 0.0, self.high - self.low)

    def restart(self) -> None:
        """Forget the ranges, keep following."""
        self.low, self.high = self.present.copy(), self.present.copy()


class HandCalibration:
    """The steps of a calibration: `begin` (the arm goes limp), `read` again and again, `mark_middle`, `result`."""

    def __init__(self, robot: Robot, bus: ServoBus) -> None:
        self.robot, self.bus = robot, bus
        self.family = family_of(robot)
        self.ids = [joint.servo_id for joint in robot.joints]
        self.ranges = Ranges(robot.n)
        self.wanted: Array = (robot.upper - robot.lower) / RADIANS_PER_TICK
        """(n,) ticks that each joint turns by the URDF."""
        self.whole_turn: NDArray[np.bool_] = self.wanted > FULL_TURN * RESOLUTION
        """(n,) which joints turn all the way round."""
        self._offset = np.zeros(robot.n, dtype=np.int64)
        self._drive_mode = np.zeros(robot.n, dtype=np.int64)
        self._middle: Array = np.full(robot.n, np.nan)
        self._heard = np.full(robot.n, -np.inf)

    def begin(self) -> None:
        """Check that these are the robot's servos, and switch their torque off, verified.

        Raises BusError for servos that do not answer, UserError for others than the robot's, HardwareError when
        a servo does not let go.
        """
        identities = identify(self.robot, self.bus)
        SerialArm(self.robot, self.bus).relax()
        if "drive_mode" in self.bus.table:
            # Servos that turn their direction round themselves must do so before they are read.
            write_settings(self.robot, self.bus, permanent=True)
            modes = [self.bus.read(id, "drive_mode", CHECK_TIMEOUT) & 1 for id in self.ids]
            self._drive_mode = np.array(modes, dtype=np.int64)
        for i, (id, one) in enumerate(zip(self.ids, identities, strict=True)):
            mode = self.bus.read(id, "operating_mode", CHECK_TIMEOUT)
            self._offset[i] = self.family.used_offset(mode, one.registers["homing_offset"])
        self._heard[:] = self.bus.now()

    def read(self) -> None:
        """One reading of all joints. Raises HardwareError when one has been silent for a second."""
        entry = self.bus.table["present_position"]
        reading = self.bus.sync_read(self.ids, entry.address, entry.size)
        ticks = np.array([entry.decode(row.tobytes()) for row in reading.data], dtype=np.int64)
        self.ranges.add(ticks, reading.valid)
        now = self.bus.now()
        self._heard = np.where(reading.valid, now, self._heard)
        silent = now - self._heard > SILENCE
        if silent.any():
            raise BusError(
                f"no answer from {', '.join(np.array(self.robot.joint_names)[silent])} for {SILENCE:g} s: check cables "
                "and power; nothing was written"
            )

    def mark_middle(self) -> None:
        """Take the present pose as the middle of joints that turn all the way round; ranges begin here."""
        if not self.ranges.known:
            raise BusError("not every joint has been read yet")
        self._middle = self.ranges.present.copy()
        self.ranges.restart()

    def lacking(self) -> list[str]:
        """Joints that have not been moved far enough, with how far they have been."""
        few = ~self.whole_turn & (self.ranges.span < MOVED * self.wanted)
        return [
            f"{self.robot.joint_names[i]} ({self.ranges.span[i]:.0f} of about {self.wanted[i]:.0f} ticks)"
            for i in np.flatnonzero(few)
        ]

    def result(self) -> Calibration:
        """The calibration. Raises UserError that names joints that were not moved far enough, or too far."""
        lacking = self.lacking()
        if lacking:
            raise UserError(
                f"not moved to both stops: {', '.join(lacking)}; nothing was written: move every joint through all of "
                "its range while it is read"
            )
        table = {}
        for i, joint in enumerate(self.robot.joints):
            low, high = round(self.ranges.low[i]), round(self.ranges.high[i])
            middle = round(self._middle[i]) if self.whole_turn[i] else (low + high) // 2
            wanted = int(self._offset[i]) + self.family.offset_sign * (CENTRE - middle)
            wanted = (wanted + CENTRE) % RESOLUTION - CENTRE
            # An offset that counts in position mode, if one will do: the register may not hold exactly what is wanted
            # then, and the range moves along. Otherwise the servo will run in the extended mode.
            limit = self.family.max_offset
            offset = min(max(wanted, -limit), limit)
            placed = self._placed(i, offset, low, middle, high)
            extended = self.family.extended_mode
            if extended is not None and self.family.mode_for(offset, *placed) == extended:
                offset = wanted
                placed = self._placed(i, offset, low, middle, high)
            if not 0 <= placed[0] < placed[1] < RESOLUTION:
                raise UserError(
                    f"the encoder of {joint.name} passes its zero within the joint's range ({placed[0]}..{placed[1]} "
                    f"ticks), and its servo can shift it by {limit} at most: mount the horn a quarter turn further and "
                    "calibrate again; nothing was written"
                )
            table[joint.name] = {
                "id": joint.servo_id,
                "drive_mode": int(self._drive_mode[i]),
                "homing_offset": offset,
                "range_min": placed[0],
                "range_max": placed[1],
            }
        return Calibration.create(table, self.robot, "what was recorded")

    def _placed(self, i: int, offset: int, low: int, middle: int, high: int) -> tuple[int, int]:
        """The range of joint `i`, read as `low`..`high`, once its servo has this homing offset."""
        moved = self.family.offset_sign * (offset - int(self._offset[i]))
        shift = moved + RESOLUTION * round((CENTRE - middle - moved) / RESOLUTION)
        return _whole_turn(middle + shift) if self.whole_turn[i] else (low + shift, high + shift)


def _whole_turn(middle: int) -> tuple[int, int]:
    """The widest range around `middle`; the whole turn when that is in the middle of the encoder."""
    if middle in (CENTRE - 1, CENTRE):
        return 0, RESOLUTION - 1
    half = min(middle, RESOLUTION - 1 - middle)
    return middle - half, middle + half


def store(robot: Robot, bus: ServoBus, calibration: Calibration) -> None:
    """Write a calibration into the servos, verified: all of it or nothing.

    Signals wait until it is done. When a servo does not take its values, those already written are taken back.
    Raises HardwareError that says so.
    """
    before: dict[int, dict[str, int]] = {
        joint.servo_id: {
            name: bus.read(joint.servo_id, name, CHECK_TIMEOUT)
            for name in (
                *CALIBRATED,
                *(["drive_mode", "operating_mode"] if "drive_mode" in bus.table else []),
            )
        }
        for joint in robot.joints
    }
    with _signals_wait():
        try:
            SerialArm(robot, bus).write_calibration(calibration)
        except Sim2RealError as error:
            lost = _restore(bus, before)
            kept = f"; could not restore {', '.join(map(str, lost))}: calibrate again" if lost else ""
            raise HardwareError(
                f"{error}; the servos keep what they stored before{kept}" if not lost else f"{error}{kept}"
            ) from None


def _restore(bus: ServoBus, before: Mapping[int, Mapping[str, int]]) -> list[int]:
    """Write back what servos stored; returns the IDs of those where that failed."""
    lost = []
    for id, values in before.items():
        try:
            for name, value in values.items():
                if bus.read(id, name, CHECK_TIMEOUT) != value:
                    bus.write_permanently(id, {name: value})
        except Sim2RealError:
            lost.append(id)
    return lost


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and its kind are kept until the end of the block."""
    kept: list[int] = []
    previous: dict[int, Any] = {}
    for number in ENDING:
        try:
            previous[number] = signal.signal(number, lambda got, frame: kept.append(got))
        except ValueError:
            break  # not the main thread: signals are not ours
    try:
        yield
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)
        for which in kept:
            signal.raise_signal(which)
