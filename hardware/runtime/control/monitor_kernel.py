"""The compiled part of the arm's monitors (`monitors.py`): one pass over the joints per tick."""

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

STALL, TRACK, HEAT, VOLTAGE, CURRENT, LOAD, JUMP, GRIPPER = range(8)
"""Monitors, in the order of the rows of `level`."""

LIMITS: Final = (
    "warm", "cool", "hot", "sag_warn", "sag_fault", "high_voltage", "continuous_current", "peak_current",
    "thermal_time", "stall_load", "stall_time", "track_warn", "track_fault", "top_speed", "gripper_error",
)  # fmt: skip
"""Thresholds, in the order of the rows of `limits`."""
(_WARM, _COOL, _HOT, _SAG_WARN, _SAG_FAULT, _HIGH, _CONTINUOUS, _PEAK, _THERMAL, _STALL_LOAD, _STALL_TIME,
 _TRACK_WARN, _TRACK_FAULT, _TOP, _GRIPPER_ERROR) = range(len(LIMITS))  # fmt: skip

MARGIN: Final = 0.15
"""rad that two readings may differ besides what the servo can turn in between: noise, backlash, late frames."""

NO_MOTION: Final = 0.05
"""rad/s below which a joint does not move."""

STALE: Final = 0.1
"""s: readings older than this say nothing."""

# Rows of the memory: voltage when torque came on, i²t in A², last position and when, and how long conditions last.
REFERENCE, HEATING, LAST, LAST_AT = range(4)
_T_HOT, _T_LOW, _T_LOWEST, _T_CURRENT, _T_PEAK, _T_STALLING, _T_STALL, _T_TRACK, _T_LOST, _T_GRIPPER = range(
    4, 14
)
ROWS = 14


@njit(cache=True, nogil=True)
def _lasts(memory: Array, row: int, i: int, holds: bool, dt: float, needed: float) -> bool:
    """Whether a condition has lasted for `needed` s; it passes twice as fast as it came."""
    memory[row, i] = min(memory[row, i] + dt, needed + 0.5) if holds else max(memory[row, i] - 2 * dt, 0.0)
    return bool(memory[row, i] >= needed - 1e-9)


@njit(cache=True, nogil=True)
def judge(
    time: float, dt: float, on: bool, driven: bool, gripper: int, read: Array, goal: Array,
    limits: Array, memory: Array, level: NDArray[np.int8],
) -> int:  # fmt: skip
    """One tick. `read` (7, n): position, velocity, load, voltage, temperature, current, age. Writes `level`
    (monitors, n): 0 all right, 1 warning, 2 fault. Returns the masks of warnings and (shifted by 8) faults."""
    mask = 0
    for i in range(goal.shape[0]):
        position, velocity, load = read[0, i], read[1, i], abs(read[2, i])
        voltage, temperature, current = read[3, i], read[4, i], abs(read[5, i])
        fresh = read[6, i] < STALE
        for k in range(level.shape[0]):
            # Heat has levels that outlast their cause.
            if k != HEAT and k != LOAD:
                level[k, i] = 0

        if temperature >= limits[_WARM, i]:
            level[HEAT, i] = max(level[HEAT, i], 1)
        elif temperature <= limits[_COOL, i] or math.isnan(temperature):
            level[HEAT, i] = 0
        if _lasts(memory, _T_HOT, i, temperature >= limits[_HOT, i], dt, 0.3):
            level[HEAT, i] = 2
        elif level[HEAT, i] == 2:
            level[HEAT, i] = 1

        if not on:
            memory[REFERENCE, i] = math.nan
        elif math.isnan(memory[REFERENCE, i]):
            memory[REFERENCE, i] = voltage
        reference, high = memory[REFERENCE, i], limits[_HIGH, i]
        low = voltage < limits[_SAG_WARN, i] * reference or voltage > high
        lowest = voltage < limits[_SAG_FAULT, i] * reference or voltage > 1.1 * high
        if _lasts(memory, _T_LOW, i, low, dt, 0.3):
            level[VOLTAGE, i] = 1
        if _lasts(memory, _T_LOWEST, i, lowest, dt, 0.3):
            level[VOLTAGE, i] = 2

        if i != gripper:
            if _lasts(memory, _T_CURRENT, i, current >= 0.8 * limits[_PEAK, i], dt, 0.5):
                level[CURRENT, i] = 1
            if _lasts(memory, _T_PEAK, i, current >= limits[_PEAK, i], dt, 1.0):
                level[CURRENT, i] = 2
        if not math.isnan(current):
            memory[HEATING, i] += (current * current - memory[HEATING, i]) * min(
                dt / limits[_THERMAL, i], 1.0
            )
        share = memory[HEATING, i] / (limits[_CONTINUOUS, i] * limits[_CONTINUOUS, i])
        if share >= 0.8:
            level[LOAD, i] = 2 if share >= 1.3 else 1
        elif share < 0.7:
            level[LOAD, i] = 0

        if fresh:
            since = time - read[6, i] - memory[LAST_AT, i]
            if since > 0:
                step = abs(position - memory[LAST, i])
                if step > limits[_TOP, i] * since + MARGIN:
                    level[JUMP, i] = 2
                memory[LAST, i], memory[LAST_AT, i] = position, time - read[6, i]
        error = goal[i] - position
        still = driven and fresh and abs(velocity) < NO_MOTION
        if i != gripper:
            against = still and load >= limits[_STALL_LOAD, i]
            patience = limits[_STALL_TIME, i]
            if _lasts(memory, _T_STALLING, i, against, dt, 0.4 * patience):
                level[STALL, i] = 1
            if _lasts(memory, _T_STALL, i, against, dt, patience):
                level[STALL, i] = 2
            off = abs(error) if driven and fresh else 0.0
            if _lasts(memory, _T_TRACK, i, off >= limits[_TRACK_WARN, i], dt, 0.5):
                level[TRACK, i] = 1
            if _lasts(memory, _T_LOST, i, off >= limits[_TRACK_FAULT, i], dt, 0.7):
                level[TRACK, i] = 2
        else:
            far = limits[_GRIPPER_ERROR, i]
            # Closing on something needs load: without any the motor does not even try.
            stuck = still and (error > far or (error < -far and load < 0.05))
            if _lasts(memory, _T_STALLING, i, stuck, dt, 0.7):
                level[GRIPPER, i] = 1
            if _lasts(memory, _T_GRIPPER, i, stuck, dt, 1.5):
                level[GRIPPER, i] = 2
        for k in range(level.shape[0]):
            if level[k, i] == 2:
                mask |= 256 << k
            elif level[k, i] == 1:
                mask |= 1 << k
    return mask
