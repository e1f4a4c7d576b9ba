"""The single-servo bench: the servo model swinging a pendulum, for many parameter sets and runs at once.

The servo turns an arm with a mass at its end; 0 is hanging straight down. With a rod of mass m_r and length l,

    M = m l² + m_r l² / 3,      h(q) = g (m l + m_r l / 2) sin q
"""

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit, prange
from sim2real.model.dynamics import GRAVITY
from sim2real.model.servo import (
    BACKLASH,
    COMMAND_COLUMNS,
    DRIVE_COLUMNS,
    ENABLED,
    GOAL,
    KD_SCALE,
    KP_SCALE,
    OFFSET,
    PLAY,
    STATE_COLUMNS,
    TORQUE_LIMIT,
    VOLTAGE,
    drive_into,
    reset_into,
    solve_velocity_into,
)

Array = NDArray[np.float64]

SUBSTEPS = 4
"""Integration steps per sample: 400 Hz at the usual 100 Hz."""


def rod_mass(length: float) -> float:
    """kg, the pendulum's own arm: 36 g at 0.10 m and 50 g at 0.15 m, a straight line between and beyond."""
    return 0.008 + 0.28 * length


def load(mass: float, length: float) -> tuple[float, float]:
    """Inertia M, kg·m², and weight moment h / sin q, N·m, of `mass` kg at `length` m with its arm."""
    rod = rod_mass(length)
    return mass * length**2 + rod * length**2 / 3.0, GRAVITY * (mass * length + rod * length / 2.0)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _simulate(
    parameters: Array, gains: Array, voltages: Array, loads: Array, time: Array, goal: Array, enabled: Array,
    initial: Array, starts: NDArray[np.int64], substeps: int,
) -> Array:  # fmt: skip
    sets, runs = len(parameters), len(starts) - 1
    out = np.empty((sets, len(time)))
    for job in prange(sets * runs):
        b, r = job // runs, job % runs
        p = parameters[b : b + 1].copy()
        p[0, VOLTAGE] = voltages[r]
        servo, state, drive = (
            np.zeros((1, COMMAND_COLUMNS)),
            np.empty((1, STATE_COLUMNS)),
            np.empty((1, DRIVE_COLUMNS)),
        )
        servo[0, ENABLED] = servo[0, TORQUE_LIMIT] = servo[0, KD_SCALE] = 1.0
        servo[0, KP_SCALE] = gains[r]
        q, w, w_next = np.empty(1), np.zeros(1), np.empty(1)
        low, high, external = np.full(1, -np.inf), np.full(1, np.inf), np.zeros(1)
        mass, bias = np.empty((1, 1)), np.empty(1)
        mass[0, 0] = loads[r, 0]
        q[0] = initial[r] - p[0, OFFSET]
        reset_into(p, q, servo, state)
        for t in range(starts[r], starts[r + 1]):
            half = 0.5 * p[0, BACKLASH]
            out[b, t] = min(max(state[0, PLAY], q[0] - half), q[0] + half) + p[0, OFFSET]
            if t + 1 == starts[r + 1]:
                break
            servo[0, GOAL], servo[0, ENABLED] = goal[t], enabled[t]
            dt = (time[t + 1] - time[t]) / substeps
            for _ in range(substeps):
                bias[0] = loads[r, 1] * np.sin(q[0])
                drive_into(p, servo, state, q, dt, drive)
                solve_velocity_into(mass, bias, external, w, p, servo, state, drive, dt, low, high, w_next)
                w[0] = w_next[0]
                q[0] += dt * w[0]
    return out


def simulate(
    parameters: Array, gains: Array, voltages: Array, loads: Array, time: Array, goal: Array, enabled: Array,
    initial: Array, starts: NDArray[np.int64], substeps: int = SUBSTEPS,
) -> Array:  # fmt: skip
    """Open loop from rest: encoder angles (B, T) rad at the sample times.

    `parameters` (B, F) as in `servo.SERVO_FIELDS`. Per run (R,): `gains` relative to the nominal P register,
    `voltages` V, `loads` (R, 2) from `load`, `initial` rad. Per sample, runs end to end (T,): `time` s, `goal` rad and
    `enabled` 0/1/2, which hold until the next sample. `starts` (R + 1,): run r is samples starts[r]..starts[r + 1] − 1.
    """
    return _simulate(  # type: ignore[no-any-return]
        np.ascontiguousarray(parameters),
        gains,
        voltages,
        loads,
        time,
        goal,
        enabled,
        initial,
        starts,
        substeps,
    )
