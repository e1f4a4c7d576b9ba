"""Monitors: what readings say about the state of the arm, from tick to tick, with hysteresis.

Each monitor says of each joint: all right, a warning (the arm goes on, more slowly), or a fault (latches, see
`supervisor.MONITORS`). A condition must last to count, and a warning stays until the value has come back some way:

| monitor | warns at | fault at |
|---|---|---|
| `overheated` | 5 K below the model's limit, until 10 K below | 5 K above it, 0.3 s |
| `voltage` | 15 % less than when torque came on, or more than the model's range, 0.3 s | 25 %; 10 % more |
| `overcurrent` | 0.8 of the model's peak current, 0.5 s | the peak current, 1 s |
| `overloaded` | i²t at 0.8 of what the model stands for ever, until 0.7 | 1.3 |
| `stalled` | 0.8 of full duty without motion, 0.4 s | 1 s |
| `off_track` | 0.3 rad from the goal, 0.5 s | 0.5 rad, 0.7 s |
| `encoder_jumped` | | a step that the servo cannot have made |
| `gripper_stuck` | does not open, or closes without load and without motion, 0.7 s | 1.5 s |

Quantities that a servo does not report count as all right. A gripper that squeezes is neither stalled nor off its
track. `[monitors]` in a robot's file replaces thresholds, by the names of `Thresholds`: one number, or a table by
joint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.health import NOTHING
from hardware.runtime.control.monitor_kernel import (
    FAULT_SHIFT,
    HEATING,
    LAST_AT,
    LIMITS,
    REFERENCE,
    ROWS,
    STALE,
    judge,
)
from hardware.runtime.control.supervisor import MONITORS
from hardware.runtime.fault_codes import FaultCode
from hardware.servos.family import joint_models
from sim2real.arm import ArmState
from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]

NAMES: Final = tuple(MONITORS)
"""In the order of `hardware.runtime.control.monitor_kernel`."""


CURRENTS: Final = {
    "STS3215": (1.0, 2.3),
    "XL330-M288": (0.6, 1.4),
    "XL330-M077": (0.6, 1.4),
    "XL430-W250": (0.6, 1.3),
}
"""A by servo model: what it stands for ever, and what it should never draw for long (below its stall current)."""


@dataclass(frozen=True)
class Thresholds:
    """By joint, (n,) each. Temperatures °C, voltages V (`sag_*`: share of the first reading), currents A, loads
    as share of full duty, angles rad, times s."""

    warm: Array
    cool: Array
    hot: Array
    sag_warn: Array
    sag_fault: Array
    high_voltage: Array
    continuous_current: Array
    peak_current: Array
    thermal_time: Array
    stall_load: Array
    stall_time: Array
    track_warn: Array
    track_fault: Array
    top_speed: Array
    gripper_error: Array

    def __post_init__(self) -> None:
        for one in fields(self):
            if not (np.asarray(getattr(self, one.name)) > 0).all():
                raise UserError(f"monitor threshold {one.name} must be positive for every joint")

    @classmethod
    def of(cls, robot: Robot) -> "Thresholds":
        """Thresholds of the robot's servos, with what its file replaces. Raises UserError for unknown names."""
        models = joint_models(robot)
        heat = np.array([model.max_temperature for model in models])
        high = np.array([model.voltage[1] for model in models])
        currents = np.array([CURRENTS.get(model.name, (math.inf, math.inf)) for model in models])
        standard: dict[str, Any] = {
            "warm": heat - 5, "cool": heat - 10, "hot": heat + 5,
            "sag_warn": 0.85, "sag_fault": 0.75, "high_voltage": high,
            "continuous_current": currents[:, 0], "peak_current": currents[:, 1], "thermal_time": 30.0,
            "stall_load": 0.8, "stall_time": 1.0, "track_warn": 0.3, "track_fault": 0.5,
            "top_speed": np.array([model.max_speed for model in models]), "gripper_error": 0.2,
        }  # fmt: skip
        unknown = set(robot.monitors) - set(standard)
        if unknown:
            raise UserError(
                f"{robot.name}: [monitors] has no {', '.join(sorted(unknown))}; there are {', '.join(standard)}"
            )
        return cls(
            **{
                name: _by_joint(robot, np.broadcast_to(value, robot.n), robot.monitors.get(name), name)
                for name, value in standard.items()
            }
        )


def _by_joint(robot: Robot, standard: Array, given: Any, name: str) -> Array:
    values = np.array(standard, dtype=np.float64)
    if isinstance(given, Mapping):
        for joint, value in given.items():
            if joint not in robot.joint_names:
                raise UserError(
                    f"{robot.name}: [monitors] {name} names the joint '{joint}', which is not there"
                )
            values[robot.joint_names.index(joint)] = value
    elif given is not None:
        values[:] = given
    return values


class Verdict(NamedTuple):
    """Names of the monitors that warn, and of those that see a fault."""

    warned: frozenset[FaultCode] = NOTHING
    faulty: frozenset[FaultCode] = NOTHING


class Monitors:
    """All monitors of one arm. `step` once per tick; pure in what it is given."""

    def __init__(self, robot: Robot, thresholds: Thresholds | None = None) -> None:
        self.robot = robot
        self.thresholds = thresholds or Thresholds.of(robot)
        n = robot.n
        self._limits = np.stack([getattr(self.thresholds, name) for name in LIMITS])
        self._gripper = -1 if robot.gripper is None else robot.gripper
        self._read = np.empty((7, n))
        self._before: float | None = None
        self.levels = np.zeros((len(NAMES), n), dtype=np.int8)
        """(monitors, n): 0 all right, 1 warning, 2 fault, in the order of NAMES."""
        self._memory = np.zeros((ROWS, n))
        self._clear()
        self.mask = 0
        """The last tick's warnings (bits 0–7) and faults (bits 8–15), in the order of NAMES."""
        self._known: dict[int, Verdict] = {0: Verdict()}
        # Compiled now, not in the first tick.
        judge(
            0.0, 0.0, False, False, self._gripper, np.zeros((7, n)), np.zeros(n), self._limits,
            self._memory.copy(), self.levels.copy(),
        )  # fmt: skip

    def _clear(self) -> None:
        self._memory[REFERENCE] = np.nan
        self._memory[LAST_AT] = -np.inf

    @property
    def heating(self) -> Array:
        """(n,) A², the mean square of each current over the thermal time."""
        return self._memory[HEATING].copy()

    def step(self, time: float, reading: ArmState, goal: Array, *, on: bool, driven: bool) -> Verdict:
        """One tick at `time`, s. `on`: torque is on; `driven`: the arm is supposed to follow `goal` (n,), rad."""
        dt = 0.0 if self._before is None else min(max(time - self._before, 0.0), STALE)
        self._before = time
        read = self._read
        read[0], read[1], read[2] = reading.position, reading.velocity, reading.load
        read[3], read[4], read[5] = reading.voltage, reading.temperature, reading.current
        read[6] = reading.age
        read[6] += time - reading.time
        mask = judge(time, dt, on, driven, self._gripper, read, goal, self._limits, self._memory, self.levels)
        self.mask = mask
        verdict = self._known.get(mask)
        if verdict is None:
            names = [
                frozenset(n for k, n in enumerate(NAMES) if mask >> shift >> k & 1)
                for shift in (0, FAULT_SHIFT)
            ]
            verdict = self._known[mask] = Verdict(*names)
        return verdict

    def joints(self, name: FaultCode) -> str:
        """The joints for which a monitor warns or worse, for people."""
        bad = self.levels[NAMES.index(name)] > 0
        return ", ".join(np.array(self.robot.joint_names)[bad])
