"""The compiled part of the arm's monitors (`monitors.py`): one pass over the joints per tick."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit

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

WARNING: Final = 1
FAULT: Final = 2
"""Levels; 0: all right."""

FAULT_SHIFT: Final = 8
"""Faults are so many bits above the warnings in the mask of a tick."""

# How long a condition must last, s, and at what share of its threshold a warning comes.
HOT_TIME: Final = 0.3
"""Above the limit: a damaged reading is over sooner."""
SAG_TIME: Final = 0.3
"""Too low or too high a voltage: longer than the dip when a motor starts."""
OVERVOLTAGE: Final = 1.1
"""Share of the model's highest voltage that is a fault."""
CURRENT_SHARE: Final = 0.8
"""Of the peak current, at which it warns."""
CURRENT_TIMES: Final = (0.5, 1.0)
"""(warning, fault): a motor may accelerate for as long with what it has."""
LOAD_WARNING: Final = 0.8
LOAD_FAULT: Final = 1.3
LOAD_CLEAR: Final = 0.7
"""i²t as share of what the motor stands for ever: warning, fault, and below which the warning ends."""
STALL_SHARE: Final = 0.4
"""Of the time after which a stall is a fault, at which it warns."""
TRACK_TIMES: Final = (0.5, 0.7)
"""(warning, fault) for a joint that is off its track: longer than it lags behind in any motion that it can make."""
GRIPPER_TIMES: Final = (0.7, 1.5)
"""(warning, fault) for a gripper that does not move: it needs half a second for its whole range."""
GRIPPER_EFFORT: Final = 0.05
"""Share of full duty below which a gripper that shall close does not even try."""

FORGET: Final = 2.0
"""How much faster a condition passes than it came."""
MEMORY: Final = 0.5
"""s beyond what is needed for which a condition is remembered at most."""
_EXACT: Final = 1e-9

# Rows of the memory: voltage when torque came on, i²t in A², last position and when, and how long conditions last.
REFERENCE, HEATING, LAST, LAST_AT = range(4)
_T_HOT, _T_LOW, _T_LOWEST, _T_CURRENT, _T_PEAK, _T_STALLING, _T_STALL, _T_TRACK, _T_LOST, _T_GRIPPER = range(
    4, 14
)
ROWS = 14


@njit(cache=True, nogil=True)
def _lasts(memory: Array, row: int, i: int, holds: bool, dt: float, needed: float) -> bool:
    """Whether a condition has lasted for `needed` s."""
    before = memory[row, i]
    memory[row, i] = min(before + dt, needed + MEMORY) if holds else max(before - FORGET * dt, 0.0)
    return bool(memory[row, i] >= needed - _EXACT)


@njit(cache=True, nogil=True)
def judge(
    time: float, dt: float, on: bool, driven: bool, gripper: int, read: Array, goal: Array,
    limits: Array, memory: Array, level: NDArray[np.int8],
) -> int:  # fmt: skip
    """One tick. `read` (7, n): position, velocity, load, voltage, temperature, current, age. Writes `level`
    (monitors, n). Returns the masks of warnings and (shifted by FAULT_SHIFT) faults."""
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
            level[HEAT, i] = max(level[HEAT, i], WARNING)
        elif temperature <= limits[_COOL, i] or math.isnan(temperature):
            level[HEAT, i] = 0
        if _lasts(memory, _T_HOT, i, temperature >= limits[_HOT, i], dt, HOT_TIME):
            level[HEAT, i] = FAULT
        elif level[HEAT, i] == FAULT:
            level[HEAT, i] = WARNING

        if not on:
            memory[REFERENCE, i] = math.nan
        elif math.isnan(memory[REFERENCE, i]):
            memory[REFERENCE, i] = voltage
        reference, high = memory[REFERENCE, i], limits[_HIGH, i]
        low = voltage < limits[_SAG_WARN, i] * reference or voltage > high
        lowest = voltage < limits[_SAG_FAULT, i] * reference or voltage > OVERVOLTAGE * high
        if _lasts(memory, _T_LOW, i, low, dt, SAG_TIME):
            level[VOLTAGE, i] = WARNING
        if _lasts(memory, _T_LOWEST, i, lowest, dt, SAG_TIME):
            level[VOLTAGE, i] = FAULT

        if i != gripper:
            if _lasts(
                memory, _T_CURRENT, i, current >= CURRENT_SHARE * limits[_PEAK, i], dt, CURRENT_TIMES[0]
            ):
                level[CURRENT, i] = WARNING
            if _lasts(memory, _T_PEAK, i, current >= limits[_PEAK, i], dt, CURRENT_TIMES[1]):
                level[CURRENT, i] = FAULT
        if not math.isnan(current):
            memory[HEATING, i] += (current * current - memory[HEATING, i]) * min(
                dt / limits[_THERMAL, i], 1.0
            )
        share = memory[HEATING, i] / (limits[_CONTINUOUS, i] * limits[_CONTINUOUS, i])
        if share >= LOAD_WARNING:
            level[LOAD, i] = FAULT if share >= LOAD_FAULT else WARNING
        elif share < LOAD_CLEAR:
            level[LOAD, i] = 0

        if fresh:
            since = time - read[6, i] - memory[LAST_AT, i]
            if since > 0:
                step = abs(position - memory[LAST, i])
                if step > limits[_TOP, i] * since + MARGIN:
                    level[JUMP, i] = FAULT
                memory[LAST, i], memory[LAST_AT, i] = position, time - read[6, i]
        error = goal[i] - position
        still = driven and fresh and abs(velocity) < NO_MOTION
        if i != gripper:
            against = still and load >= limits[_STALL_LOAD, i]
            patience = limits[_STALL_TIME, i]
            if _lasts(memory, _T_STALLING, i, against, dt, STALL_SHARE * patience):
                level[STALL, i] = WARNING
            if _lasts(memory, _T_STALL, i, against, dt, patience):
                level[STALL, i] = FAULT
            off = abs(error) if driven and fresh else 0.0
            if _lasts(memory, _T_TRACK, i, off >= limits[_TRACK_WARN, i], dt, TRACK_TIMES[0]):
                level[TRACK, i] = WARNING
            if _lasts(memory, _T_LOST, i, off >= limits[_TRACK_FAULT, i], dt, TRACK_TIMES[1]):
                level[TRACK, i] = FAULT
        else:
            far = limits[_GRIPPER_ERROR, i]
            # Closing on something needs load: without any the motor does not even try.
            stuck = still and (error > far or (error < -far and load < GRIPPER_EFFORT))
            if _lasts(memory, _T_STALLING, i, stuck, dt, GRIPPER_TIMES[0]):
                level[GRIPPER, i] = WARNING
            if _lasts(memory, _T_GRIPPER, i, stuck, dt, GRIPPER_TIMES[1]):
                level[GRIPPER, i] = FAULT
        for k in range(level.shape[0]):
            if level[k, i] == FAULT:
                mask |= 1 << k + FAULT_SHIFT
            elif level[k, i] == WARNING:
                mask |= 1 << k
    return mask
