"""The batched model of a whole arm: own dynamics and the servo model, compiled, without a physics engine.

`simulate` plays recorded commands open loop for many parameter sets at once. What is left out is contact:
joints stop at their limits, nothing else is touched.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit, prange
from sim2real.errors import UserError
from sim2real.model.dynamics import WORK_COLUMNS, mass_and_bias_into
from sim2real.model.servo import (
    BACKLASH,
    COMMAND_COLUMNS,
    DRIVE_COLUMNS,
    ENABLED,
    GOAL,
    KD_SCALE,
    KP_SCALE,
    OFFSET,
    SENSED,
    STATE_COLUMNS,
    TORQUE_LIMIT,
    drive_into,
    reset_into,
    solve_velocity_into,
)
from sim2real.urdf import ArmModel

Array = NDArray[np.float64]

MIN_RATE = 240.0
"""Hz, slowest integration."""


@dataclass(frozen=True, eq=False)
class ArmRecording:
    """Commands and states of several episodes, end to end, as an arm's encoders count them.

    `command` and `state` (T, n) rad: the command given at frame t and the state read just before it. `starts` (E + 1,):
    episode e is rows starts[e]..starts[e + 1] − 1. `fps` Hz. `ramp`: each command is the last of its frame, reached in
    a straight line from the one before (a faster command clock); otherwise it holds for the whole frame. Raises
    UserError for shapes that do not match.
    """

    command: Array
    state: Array
    starts: NDArray[np.int64]
    fps: float
    ramp: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", np.ascontiguousarray(self.command, dtype=np.float64))
        object.__setattr__(self, "state", np.ascontiguousarray(self.state, dtype=np.float64))
        object.__setattr__(self, "starts", np.ascontiguousarray(self.starts, dtype=np.int64))
        if self.command.shape != self.state.shape or self.command.ndim != 2:
            raise UserError(
                f"commands and states must both be (T, n), got {self.command.shape}, {self.state.shape}"
            )
        if len(self.starts) < 2 or self.starts[0] != 0 or self.starts[-1] != len(self.command):
            raise UserError(f"starts must run from 0 to {len(self.command)}, got {self.starts}")
        if (np.diff(self.starts) < 2).any():
            raise UserError("every episode needs at least two frames")
        if not self.fps > 0:
            raise UserError(f"fps must be positive, got {self.fps}")

    @property
    def episodes(self) -> int:
        return len(self.starts) - 1

    @property
    def initial(self) -> Array:
        """(E, n) rad, the first state of each episode."""
        return np.ascontiguousarray(self.state[self.starts[:-1]])

    def compared(self) -> NDArray[np.bool_]:
        """(T,) the rows t whose outcome state[t + 1] is recorded: all but each episode's last."""
        mask = np.ones(len(self.command), dtype=np.bool_)
        mask[self.starts[1:] - 1] = False
        return mask

    def outcome(self) -> Array:
        """(T, n) state[t + 1] for each row t; the last row of each episode repeats its state."""
        result = self.state.copy()
        result[:-1] = self.state[1:]
        result[self.starts[1:] - 1] = self.state[self.starts[1:] - 1]
        return result

    def select(self, episodes: "NDArray[np.intp] | list[int] | range") -> "ArmRecording":
        """The recording of some of the episodes."""
        rows = [np.arange(self.starts[e], self.starts[e + 1]) for e in episodes]
        index = np.concatenate(rows)
        starts = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
        return ArmRecording(self.command[index], self.state[index], starts, self.fps, self.ramp)


def substeps(fps: float, rate: float = MIN_RATE) -> int:
    """Integration steps per frame: the fewest that reach `rate` Hz."""
    return max(1, int(np.ceil(rate / fps - 1e-9)))


@njit(cache=True, nogil=True, error_model="numpy")
def _episode(
    chain: Array, inertials: Array, gravity: Array, parameters: Array, initial: Array, command: Array,
    lower: Array, upper: Array, limit: Array, count: int, dt: float, ramp: bool, out: Array,
) -> None:  # fmt: skip
    n, links = command.shape[1], chain.shape[0]
    rotations, origins, work = np.empty((links, 3, 3)), np.empty((links, 3)), np.empty((links, WORK_COLUMNS))
    mass, bias, external = np.empty((n, n)), np.empty(n), np.zeros(n)
    servo, state, drive = (
        np.zeros((n, COMMAND_COLUMNS)),
        np.empty((n, STATE_COLUMNS)),
        np.empty((n, DRIVE_COLUMNS)),
    )
    q, w, w_next, low, high = np.empty(n), np.zeros(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        servo[i, ENABLED] = servo[i, KP_SCALE] = servo[i, KD_SCALE] = 1.0
        servo[i, TORQUE_LIMIT] = limit[i]
        q[i] = initial[i] - parameters[i, OFFSET]
    reset_into(parameters, q, servo, state)
    for t in range(len(command)):
        for k in range(count):
            share = (k + 1.0) / count if ramp and t > 0 else 1.0
            for i in range(n):
                servo[i, GOAL] = command[t, i] + (1.0 - share) * (command[max(t - 1, 0), i] - command[t, i])
            mass_and_bias_into(chain, inertials, q, w, gravity, rotations, origins, work, mass, bias)
            drive_into(parameters, servo, state, q, dt, drive)
            for i in range(n):
                low[i] = (lower[i] - parameters[i, OFFSET] - q[i]) / dt
                high[i] = (upper[i] - parameters[i, OFFSET] - q[i]) / dt
            solve_velocity_into(
                mass, bias, external, w, parameters, servo, state, drive, dt, low, high, w_next
            )
            for i in range(n):
                w[i] = w_next[i]
                q[i] += dt * w[i]
        for i in range(n):
            half = 0.5 * parameters[i, BACKLASH]
            play = state[i, SENSED] - parameters[i, OFFSET]
            out[t, i] = min(max(play, q[i] - half), q[i] + half) + parameters[i, OFFSET]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _simulate(
    chain: Array, inertials: Array, gravity: Array, parameters: Array, initial: Array, command: Array, starts: Array,
    lower: Array, upper: Array, limit: Array, count: int, dt: float, ramp: bool,
) -> Array:  # fmt: skip
    sets, episodes = len(parameters), len(starts) - 1
    out = np.empty((sets, command.shape[0], command.shape[1]))
    for job in prange(sets * episodes):
        b, e = job // episodes, job % episodes
        first, last = starts[e], starts[e + 1]
        _episode(
            chain, inertials[b], gravity[b], parameters[b], initial[e], command[first:last], lower, upper,
            limit, count, dt, ramp, out[b, first:last],
        )  # fmt: skip
    return out


def simulate(
    model: ArmModel,
    recording: ArmRecording,
    parameters: Array,
    *,
    inertials: Array | None = None,
    gravity: Array | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    torque_limit: Array | None = None,
    rate: float = MIN_RATE,
) -> Array:
    """Play the recorded commands open loop: encoder angles after each frame, (B, T, n) rad.

    `parameters` (B, n, F) or (n, F) as in `servo.SERVO_FIELDS`; `inertials` (L, 10) or (B, L, 10) and `gravity` (3,)
    or (B, 3) m/s² as in `dynamics.mass_and_bias`. Each episode starts at rest at its first state. `lower`, `upper`
    (n,) rad stop the joints, in encoder angles; default the URDF's limits. `torque_limit` (n,) is the servos' register,
    0–1. Row t compares with state[t + 1].
    """
    parameters = np.ascontiguousarray(np.atleast_3d(parameters.T).T if parameters.ndim == 2 else parameters)
    sets = len(parameters)
    inertials = model.inertials if inertials is None else inertials
    gravity = np.array([0.0, 0.0, -9.81]) if gravity is None else gravity
    count = substeps(recording.fps, rate)
    return _simulate(  # type: ignore[no-any-return]
        model.chain,
        np.array(np.broadcast_to(inertials, (sets, *model.inertials.shape))),
        np.array(np.broadcast_to(gravity, (sets, 3))),
        parameters,
        recording.initial,
        recording.command,
        recording.starts,
        np.array(model.lower if lower is None else lower),
        np.array(model.upper if upper is None else upper),
        np.ones(model.n) if torque_limit is None else np.array(torque_limit),
        count,
        1.0 / (recording.fps * count),
        recording.ramp,
    )
