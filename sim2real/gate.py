"""The gate: every command passes it, in training and on the arm.

One call of `step` is one tick of the command clock. Checks, in this order:

1. *finite*: a request that is not finite is rejected whole;
2. *discontinuity*: so is one that jumps by more than `discontinuity` from the last accepted request, unless
   the requests have been consistent at the new place for `CONFIRM` ticks;
3. *position*: clipped into the joint limits less a margin;
4. *workspace*: moved along the shortest way to where every guarded point is above the table and the tool
   within reach (`sim2real/clearance.py`);
5. *velocity*, *acceleration* and *stopping distance*: see below;
6. *the stopping path*: if the pose in which the arm would come to rest, braking all joints from where this
   command takes it, is not clear of the table, the command gives way: first sliding along the boundary, then
   more slowly, then braking outright;
7. *jerk*: the mean of the last N ticks goes out.

Rejecting means braking and holding, never stopping dead.

**Why the limits hold.** Let dt be the tick, A, V a joint's limits and f(D) the largest speed from which
braking by A·dt a tick stops within the distance D (exact for the tick, see `stopping_speed`). Each tick picks
a velocity from the interval [max(-V, v - A dt, -f(p - lower)), min(V, v + A dt, f(upper - p))]. Whatever is
picked, the interval of the next tick is not empty, because f(D - v dt) >= v - A dt for v <= f(D): braking is
always possible, and no limit is ever crossed. The mean over N ticks of a trajectory keeps its position,
velocity and acceleration limits, and its jerk is (a[k] - a[k - N]) / (N dt) <= 2 A / (N dt), so
N = ceil(2 A / (J dt)) keeps the jerk limit J. Limits are those of the finite differences of what is sent.

A request that respects the limits comes out unchanged, (N - 1) / 2 ticks later.
"""

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from sim2real.clearance import Geometry, clearance, guarded_geometry, push_out
from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]

NOT_FINITE: Final = 1
DISCONTINUITY: Final = 2
POSITION: Final = 4
VELOCITY: Final = 8
ACCELERATION: Final = 16
STOPPING: Final = 32
WORKSPACE: Final = 64
JERK: Final = 128

NAMES: Final = {
    NOT_FINITE: "not_finite",
    DISCONTINUITY: "discontinuity",
    POSITION: "position",
    VELOCITY: "velocity",
    ACCELERATION: "acceleration",
    STOPPING: "stopping",
    WORKSPACE: "workspace",
    JERK: "jerk",
}
REJECTED: Final = NOT_FINITE | DISCONTINUITY
"""The request was thrown away; the arm brakes or holds."""
CLIPPED: Final = POSITION | VELOCITY | ACCELERATION | STOPPING | WORKSPACE
"""The request was followed as far as the limits allow. (`JERK` alone only smooths it.)"""

CONFIRM: Final = 10
"""Ticks for which requests must agree at a new place before a discontinuity is believed."""

SLIDE: Final = 0.05
"""rad; how far ahead the way along the boundary of the workspace is looked for."""

# Rows of the state array: what went out, the unsmoothed trajectory (position, velocity, acceleration), the
# last accepted and the last finite request, the last goal, the limits in force, and scratch.
_OUT, _P, _V, _A, _ACCEPTED, _PENDING, _GOAL, _LOWER, _UPPER = range(9)
_TARGET, _FEED, _TRY, _BRAKE, _POSE, _ROWS = range(9, 15)
# Rows of the limits array.
_VMAX, _AMAX, _JMAX, _LO, _HI = range(5)
# Entries of the counters: index into the history, ticks at a new place, whether the last tick was accepted.
_INDEX, _AGREED, _FOLLOWING = range(3)
# Entries of the scalars: tick, discontinuity, clearance that must not be undercut (<= 0 while coming in).
_DT, _JUMP, _FLOOR = range(3)


@njit(cache=True, nogil=True, error_model="numpy")
def stopping_speed(distance: float, step: float) -> float:
    """Largest speed, in units of A·dt, to stop within `distance`; `step` = A·dt² is the unit of distance.

    Moving x now and then x - 1, x - 2, … covers x·(n + 1) - n·(n + 1)/2 with n = floor(x); solved for x.
    """
    d = distance / step
    if d <= 0.0:
        return 0.0
    n = math.floor((math.sqrt(1.0 + 8.0 * d) - 1.0) / 2.0)
    return (d + n * (n + 1) / 2.0) / (n + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def stopping_distance(speed: float, unit: float, dt: float) -> float:
    """Signed way to rest from `speed` when braking by `unit` = A·dt a tick, beginning with the next tick."""
    x = abs(speed) / unit
    n = math.floor(x)
    way = (x * n - n * (n + 1) / 2.0) * unit * dt
    return way if speed > 0 else -way


@njit(cache=True, nogil=True, error_model="numpy")
def _follow(target: Array, feed: Array, state: Array, limits: Array, dt: float, out: Array) -> int:
    """Velocities that bring the joints to `target`, which moves at `feed`, within the limits; writes `out`."""
    flags = 0
    for i in range(target.shape[0]):
        unit = limits[_AMAX, i] * dt
        step = unit * dt
        p = state[_P, i]
        v = state[_V, i]
        # The distance to go before the target's own motion of this tick, which `feed` covers.
        error = target[i] - feed[i] * dt - p
        speed = stopping_speed(abs(error), step) * unit
        wanted = feed[i] + (speed if error > 0 else -speed)
        if abs(wanted) > limits[_VMAX, i]:
            wanted = math.copysign(limits[_VMAX, i], wanted)
            flags |= VELOCITY
        top = stopping_speed(state[_UPPER, i] - p, step) * unit
        bottom = -stopping_speed(p - state[_LOWER, i], step) * unit
        if wanted > top:
            wanted = top
            flags |= STOPPING
        elif wanted < bottom:
            wanted = bottom
            flags |= STOPPING
        if abs(wanted - v) > unit * (1 + 1e-9):
            wanted = v + math.copysign(unit, wanted - v)
            flags |= ACCELERATION
        out[i] = wanted
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _follow_straight(target: Array, state: Array, limits: Array, dt: float, out: Array) -> bool:
    """Velocities straight towards `target`, all joints in proportion; writes `out`, False if there are none.

    Joints that each go as fast as they can leave the straight line, and with it the way that was checked.
    """
    low, high = 0.0, math.inf
    for i in range(target.shape[0]):
        unit = limits[_AMAX, i] * dt
        v = state[_V, i]
        way = target[i] - state[_P, i]
        if abs(way) < 1e-9:
            if abs(v) > unit:
                return False
            continue
        stop = stopping_speed(abs(way), unit * dt) * unit
        a, b = (v - unit) / way, (v + unit) / way
        low = max(low, min(a, b))
        high = min(high, max(a, b), stop / abs(way), limits[_VMAX, i] / abs(way))
    if low > high or high == math.inf:
        return False
    for i in range(target.shape[0]):
        way = target[i] - state[_P, i]
        out[i] = high * way if abs(way) >= 1e-9 else 0.0
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _stop_is_clear(
    velocity: Array, state: Array, limits: Array, dt: float, floor: float, geometry: Geometry, pose: Array
) -> bool:
    """Whether braking from the next state stays clear of the boundary: looked at thrice along the way."""
    for part in (1.0, 0.67, 0.33):
        for i in range(velocity.shape[0]):
            way = stopping_distance(velocity[i], limits[_AMAX, i] * dt, dt)
            pose[i] = state[_P, i] + velocity[i] * dt + part * way
        if clearance(pose, geometry) < floor:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _judge(request: Array, state: Array, counters: NDArray[np.int64], jump: float) -> int:
    """Whether the request is believed: 0, NOT_FINITE or DISCONTINUITY."""
    for i in range(request.shape[0]):
        if not math.isfinite(request[i]):
            counters[_AGREED] = 0
            return NOT_FINITE
    agrees = True
    near = True
    for i in range(request.shape[0]):
        agrees = agrees and abs(request[i] - state[_PENDING, i]) <= jump
        near = near and abs(request[i] - state[_ACCEPTED, i]) <= jump
        state[_PENDING, i] = request[i]
    counters[_AGREED] = counters[_AGREED] + 1 if agrees else 1
    return 0 if near or counters[_AGREED] >= CONFIRM else DISCONTINUITY


@njit(cache=True, nogil=True, error_model="numpy")
def _aim(request: Array, state: Array, limits: Array, dt: float, guarded: bool, geometry: Geometry) -> int:
    """The goal inside joint limits and workspace: written to the state's _TARGET row."""
    flags = 0
    target = state[_TARGET]
    for i in range(request.shape[0]):
        goal = min(max(request[i], state[_LOWER, i]), state[_UPPER, i])
        if goal != request[i]:
            flags |= POSITION
        target[i] = goal
    if guarded and clearance(target, geometry) < 0.0:
        push_out(target, state[_LOWER], state[_UPPER], geometry)
        flags |= WORKSPACE
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _steer(state: Array, limits: Array, scalars: Array, guarded: bool, geometry: Geometry) -> int:
    """Velocities for this tick towards the _TARGET row: written to the state's _TRY row."""
    dt = scalars[_DT]
    tried, brake, pose = state[_TRY], state[_BRAKE], state[_POSE]
    flags = _follow(state[_TARGET], state[_FEED], state, limits, dt, tried)
    if not guarded or _stop_is_clear(tried, state, limits, dt, scalars[_FLOOR], geometry, pose):
        return flags
    flags |= WORKSPACE
    # The straight way is barred: follow the boundary towards the goal.
    longest = np.max(np.abs(state[_TARGET] - state[_P]))
    share = min(1.0, SLIDE / longest) if longest > 0 else 0.0
    state[_TARGET] = state[_P] + share * (state[_TARGET] - state[_P])
    push_out(state[_TARGET], state[_LOWER], state[_UPPER], geometry)
    if not _follow_straight(state[_TARGET], state, limits, dt, tried):
        state[_FEED] = 0.0
        _follow(state[_TARGET], state[_FEED], state, limits, dt, tried)
    for _ in range(4):
        if _stop_is_clear(tried, state, limits, dt, scalars[_FLOOR], geometry, pose):
            return flags
        # Both ends of this mix keep the joint limits, so the mix does.
        for i in range(tried.shape[0]):
            tried[i] = 0.5 * (tried[i] + brake[i])
    tried[:] = brake
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _tick(
    request: Array,
    state: Array,
    history: Array,
    counters: NDArray[np.int64],
    limits: Array,
    scalars: Array,
    guarded: bool,
    geometry: Geometry,
) -> int:
    n = request.shape[0]
    dt = scalars[_DT]
    for i in range(n):
        v = state[_V, i]
        unit = limits[_AMAX, i] * dt
        state[_BRAKE, i] = max(v - unit, 0.0) if v > 0 else min(v + unit, 0.0)

    flags = _judge(request, state, counters, scalars[_JUMP])
    if flags:
        counters[_FOLLOWING] = 0
        state[_TRY] = state[_BRAKE]
    else:
        flags = _aim(request, state, limits, dt, guarded, geometry)
        for i in range(n):
            feed = (state[_TARGET, i] - state[_GOAL, i]) / dt if counters[_FOLLOWING] else 0.0
            state[_FEED, i] = min(max(feed, -limits[_VMAX, i]), limits[_VMAX, i])
            state[_GOAL, i] = state[_TARGET, i]
            state[_ACCEPTED, i] = request[i]
        counters[_FOLLOWING] = 1
        flags |= _steer(state, limits, scalars, guarded, geometry)

    row = counters[_INDEX]
    for i in range(n):
        acceleration = (state[_TRY, i] - state[_V, i]) / dt
        if abs(acceleration - state[_A, i]) > limits[_JMAX, i] * dt * (1 + 1e-9):
            flags |= JERK
        state[_A, i] = acceleration
        state[_V, i] = state[_TRY, i]
        state[_P, i] += state[_V, i] * dt
        # An arm that started outside its limits may only come in.
        state[_LOWER, i] = min(limits[_LO, i], max(state[_LOWER, i], state[_P, i]))
        state[_UPPER, i] = max(limits[_HI, i], min(state[_UPPER, i], state[_P, i]))
        history[row, i] = state[_P, i]
        total = 0.0
        for k in range(history.shape[0]):
            total += history[k, i]
        state[_OUT, i] = total / history.shape[0]
    counters[_INDEX] = (row + 1) % history.shape[0]
    if guarded and scalars[_FLOOR] < 0.0:
        scalars[_FLOOR] = min(0.0, max(scalars[_FLOOR], clearance(state[_P], geometry)))
    return flags


class Gate:
    """Turns requested joint goals into safe ones; see the module docstring.

    robot: limits, rates and the guarded geometry. speed: factor in (0, 1] on velocity, acceleration and
    jerk limits. lower, upper: (n,) rad, further limits such as a calibrated range. guard: whether to keep
    clear of the table and within reach; switching it off is for tests of the rest.

    Raises UserError for a speed outside (0, 1].
    """

    def __init__(
        self,
        robot: Robot,
        speed: float = 1.0,
        *,
        lower: Array | None = None,
        upper: Array | None = None,
        guard: bool = True,
    ) -> None:
        if not 0 < speed <= 1:
            raise UserError(f"the speed scales the gate's limits and must be in (0, 1], got {speed}")
        self.robot = robot
        self.speed = speed
        margin = robot.gate.position_margin
        low = robot.lower if lower is None else np.maximum(robot.lower, lower)
        high = robot.upper if upper is None else np.minimum(robot.upper, upper)
        middle = (low + high) / 2
        scaled = [speed * robot.limits(what) for what in ("velocity", "acceleration", "jerk")]
        self._limits = np.array(
            [*scaled, np.minimum(low + margin, middle), np.maximum(high - margin, middle)], dtype=np.float64
        )
        self._velocity = self._limits[_VMAX].copy()
        self._velocity_share = 1.0
        # The smoothing window is the same at every speed, so hard braking keeps the robot's jerk limit.
        self._unscaled = self._limits.copy()
        self._unscaled[:_LO] /= speed
        if (low > high).any():
            joint = robot.joint_names[int(np.argmax(low > high))]
            raise UserError(f"the limits leave joint {joint} no room: the lower one exceeds the upper one")
        dt = 1.0 / robot.command_rate
        window = int(np.ceil(2 * self._limits[_AMAX] / (self._limits[_JMAX] * dt) - 1e-9).max())
        self._scalars = np.array([dt, robot.gate.discontinuity, 0.0])
        self._state = np.zeros((_ROWS, robot.n))
        self._history = np.zeros((max(window, 1), robot.n))
        self._counters = np.zeros(3, dtype=np.int64)
        self._nothing = np.full(robot.n, np.nan)
        self._guard = guard
        self.geometry: Geometry = guarded_geometry(robot)
        # Ticks by what was done in them; adding up by intervention can wait until somebody asks.
        self._ticks = np.zeros(1 << len(NAMES), dtype=np.int64)
        self.reset(np.clip(robot.home, self._limits[_LO], self._limits[_HI]))

    def reset(self, position: ArrayLike) -> None:
        """Start at rest at `position` (n,), rad, and set all counts to zero.

        A position outside the limits is taken as it is; from there the gate only lets the arm come in.
        Raises UserError when it is not finite.
        """
        start = np.array(position, dtype=np.float64)
        if start.shape != (self.robot.n,) or not np.isfinite(start).all():
            raise UserError(f"the gate starts from {self.robot.n} finite joint angles, got {position!r}")
        self._state[:] = 0.0
        for row in (_OUT, _P, _ACCEPTED, _PENDING, _GOAL):
            self._state[row] = start
        self._state[_LOWER] = np.minimum(self._limits[_LO], start)
        self._state[_UPPER] = np.maximum(self._limits[_HI], start)
        self._history[:] = start
        self._counters[:] = 0
        self._scalars[_FLOOR] = min(0.0, clearance(start, self.geometry)) if self._guard else 0.0
        self._ticks[:] = 0

    def step(self, request: Array) -> int:
        """One tick towards `request` (n,), rad. Returns a bit mask of interventions; 0 means untouched.

        The goal to send is then `position`. Raises ValueError for another shape.
        """
        if request.shape != (self.robot.n,):
            raise ValueError(f"the gate takes {self.robot.n} joint goals, got shape {request.shape}")
        flags: int = _tick(
            request,
            self._state,
            self._history,
            self._counters,
            self._limits,
            self._scalars,
            self._guard,
            self.geometry,
        )
        self._ticks[flags] += 1
        return flags

    def limit_velocity(self, share: float) -> None:
        """Let the goal move no faster than `share`, in (0, 1], of its velocity limits, from now on.

        Call it once per tick: a lower limit is approached as fast as the arm can brake, a higher one counts at
        once. Acceleration and stopping distances stay as they are.
        """
        if share == self._velocity_share:
            return
        wanted = share * self._velocity
        # Never less than the speed that braking leaves in this tick: some velocity is always allowed.
        least = np.abs(self._state[_V]) - self._limits[_AMAX] * self._scalars[_DT]
        self._limits[_VMAX] = np.maximum(wanted, least)
        if (wanted >= least).all():
            self._velocity_share = share

    def brake(self, *, hard: bool = False) -> None:
        """One tick of braking, or of staying where the goal is: what a deliberate stop does. Not counted.

        `hard` brakes with the robot's full acceleration limit, whatever the gate's speed.
        """
        _tick(
            self._nothing,
            self._state,
            self._history,
            self._counters,
            self._unscaled if hard else self._limits,
            self._scalars,
            self._guard,
            self.geometry,
        )
        # Whatever is asked for next is compared with where the arm has been brought.
        self._state[_ACCEPTED] = self._state[_P]
        self._state[_PENDING] = self._state[_P]

    @property
    def position(self) -> Array:
        """(n,) rad, the goal to send (a copy)."""
        return self._state[_OUT].copy()

    @property
    def counts(self) -> dict[str, int]:
        """Ticks since `reset`, in all ("ticks") and by intervention."""
        masks = np.arange(len(self._ticks))
        counts = {name: int(self._ticks[masks & (1 << k) > 0].sum()) for k, name in enumerate(NAMES.values())}
        return {"ticks": int(self._ticks.sum()), **counts}

    @property
    def delay(self) -> float:
        """Seconds by which an untouched request comes out later."""
        return (len(self._history) - 1) / 2 * float(self._scalars[_DT])

    @property
    def at_rest(self) -> bool:
        """Whether the goal has stopped moving (less than 0.1 mrad/s and 10 µrad within the window)."""
        return bool(
            np.abs(self._state[_V]).max() < 1e-4 and np.abs(self._history - self._state[_P]).max() < 1e-5
        )

    def clearance(self, position: Array) -> float:
        """Metres between the nearest guarded point and the boundary of the workspace; negative outside."""
        return float(clearance(np.ascontiguousarray(position, dtype=np.float64), self.geometry))
