"""The gate: every command passes it, in training and on the arm.

One call of `step` is one tick of the command clock. Checks, in this order:

1. *finite*: a request that is not finite is rejected whole;
2. *discontinuity*: so is one that jumps by more than `discontinuity` from the last accepted request, unless
   the requests have been consistent at the new place for `CONFIRM` ticks;
3. *position*: clipped into the joint limits less a margin;
4. *workspace*, *self_collision*: moved along the shortest way to where every guarded point is above the table, the
   tool within its reach and box (`clearance.py`) and the links apart (`collision.py`);
5. *velocity*, *stopping distance* before a joint's end, *acceleration*: see `braking.py`;
6. *the stopping path*: if this tick and braking all joints after it would not keep clear of table, workspace's end
   and the arm itself, or would need more than a joint's *torque* (`stopping.py`), the command gives way: first
   sliding along the boundary, then more slowly, then braking outright;
7. *jerk*: the mean of the last N ticks goes out.

Rejecting means braking and holding, never stopping dead.

**Why the limits hold.** Braking is always possible within position, velocity and acceleration limits whatever was
picked before (`braking.py`), and a tick is only taken where braking after it keeps all else. So before every tick
there is one that may be taken, and no limit is ever crossed. The mean over N ticks of a trajectory keeps its
position, velocity and acceleration limits, and its jerk is (a[k] - a[k - N]) / (N dt) <= 2 A / (N dt), so
N = ceil(2 A / (J dt)) keeps the jerk limit J. Limits are those of the finite differences of what is sent. From the
poses and torques that were checked the mean differs to second order only, A (N dt)² / 24 at most (docs/gate.md).

A request that respects the limits comes out unchanged, (N - 1) / 2 ticks later.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.gate.braking import (
    ACCELERATION,
    AGREED,
    DT,
    FLOORS,
    FOLLOWING,
    INDEX,
    PATH,
    STOPPING,
    VELOCITY,
    Track,
    follow,
    follow_straight,
    slower,
    track,
    track_size,
)
from sim2real.gate.clearance import clearances, outside, push_out
from sim2real.gate.collision import forget, keep_apart, known_gap
from sim2real.gate.geometry import TABLE, Geometry, guarded_geometry, views
from sim2real.gate.stopping import COLLISION, TORQUE, WORKSPACE, barred, spare_torque
from sim2real.model.kinematics import link_poses_into
from sim2real.robot import Robot

Array = NDArray[np.float64]

NOT_FINITE: Final = 1
DISCONTINUITY: Final = 2
POSITION: Final = 4
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
    COLLISION: "self_collision",
    TORQUE: "torque",
}
REJECTED: Final = NOT_FINITE | DISCONTINUITY
"""The request was thrown away; the arm brakes or holds."""
CLIPPED: Final = POSITION | VELOCITY | ACCELERATION | STOPPING | WORKSPACE | COLLISION | TORQUE
"""The request was followed as far as the limits allow. (`JERK` alone only smooths it.)"""

CONFIRM: Final = 10
"""Ticks for which requests must agree at a new place before a discontinuity is believed."""

SLIDE: Final = 0.05
"""rad; how far ahead the way along the boundary of the workspace is looked for."""

LOOK: Final = 0.05
"""rad of any joint between the poses that `clear_share` looks at."""

HALVINGS: Final = 6
"""How often a velocity that is barred is mixed with that of braking before the gate brakes outright."""

START: Final = 0.5
"""Share of its torque by which a joint that cannot hold its start may need still more, to get moving. From half of it
to spare on the limit holds."""

_TARGET: Final = 1
"""Memory for the gap between links of the goals; 0 is that of the poses on the way."""


@njit(cache=True, nogil=True, error_model="numpy")
def _judge(request: Array, t: Track) -> int:
    """Whether the request is believed: 0, NOT_FINITE or DISCONTINUITY."""
    s = t.scalars
    for i in range(request.shape[0]):
        if not math.isfinite(request[i]):
            s[AGREED] = 0.0
            return NOT_FINITE
    agrees = True
    near = True
    for i in range(request.shape[0]):
        agrees = agrees and abs(request[i] - t.pending[i]) <= t.jump[i]
        near = near and abs(request[i] - t.accepted[i]) <= t.jump[i]
        t.pending[i] = request[i]
    s[AGREED] = s[AGREED] + 1.0 if agrees else 1.0
    return 0 if near or s[AGREED] >= CONFIRM else DISCONTINUITY


@njit(cache=True, nogil=True, error_model="numpy")
def _aim(request: Array, t: Track, guarded: bool, g: Geometry) -> int:
    """The goal inside joint limits and workspace, and clear of the arm itself: written to `target`."""
    flags = 0
    for i in range(request.shape[0]):
        goal = min(max(request[i], t.lower[i]), t.upper[i])
        if goal != request[i]:
            flags |= POSITION
        t.target[i] = goal
    if guarded:
        link_poses_into(g.chain, t.target, g.rotations, g.origins)
        room, gap = outside(g)[0], known_gap(t.target, g, 0.0, _TARGET)
        if room < 0.0:
            flags |= WORKSPACE
        if gap < 0.0:
            flags |= COLLISION
        if room < 0.0 or gap < 0.0:
            push_out(t.target, t.lower, t.upper, g)
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _steer(t: Track, guarded: bool, g: Geometry) -> int:
    """Velocities for this tick towards `target`: written to `tried`."""
    flags = follow(t)
    if not guarded:
        return flags
    for attempt in range(HALVINGS + 2):
        why = barred(t, g)
        if why == 0:
            _come_in(t.scalars)
            return flags
        flags |= why
        if attempt == 0 and why != TORQUE:
            # The straight way is barred: follow the boundary towards the goal.
            longest = np.max(np.abs(t.target - t.p))
            share = min(1.0, SLIDE / longest) if longest > 0 else 0.0
            for i in range(len(t.p)):
                t.target[i] = t.p[i] + share * (t.target[i] - t.p[i])
            push_out(t.target, t.lower, t.upper, g)
            if not follow_straight(t):
                t.feed[:] = 0.0
                follow(t)
            continue
        # Both ends of this mix keep the joint limits, so the mix does.
        for i in range(len(t.p)):
            t.tried[i] = 0.5 * (t.tried[i] + t.brake[i])
    t.tried[:] = t.brake
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _come_in(s: Array) -> None:
    """An arm that started where it must not be may only come out; what it may need too much, only until it is out."""
    for k in range(2):
        if s[FLOORS + k] < 0.0 and s[PATH + k] < np.inf:
            s[FLOORS + k] = min(0.0, max(s[FLOORS + k], s[PATH + k]))
    if START / 2 <= s[PATH + 2] < np.inf:
        s[FLOORS + 2] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _tick(request: Array, buffer: Array, guarded: bool, geometry: Array) -> int:
    n = request.shape[0]
    t, g = track(buffer, n), views(geometry)
    s = t.scalars
    dt = s[DT]
    for i in range(n):
        t.brake[i] = slower(t.v[i], t.acceleration[i] * dt)

    flags = _judge(request, t)
    if flags:
        s[FOLLOWING] = 0.0
        t.tried[:] = t.brake
    else:
        flags = _aim(request, t, guarded, g)
        for i in range(n):
            feed = (t.target[i] - t.goal[i]) / dt if s[FOLLOWING] != 0.0 else 0.0
            t.feed[i] = min(max(feed, -t.velocity[i]), t.velocity[i])
            t.goal[i] = t.target[i]
            t.accepted[i] = request[i]
        s[FOLLOWING] = 1.0
        flags |= _steer(t, guarded, g)

    row = int(s[INDEX])
    window = t.history.shape[0]
    for i in range(n):
        acceleration = (t.tried[i] - t.v[i]) / dt
        if abs(acceleration - t.a[i]) > t.jerk[i] * dt * (1 + 1e-9):
            flags |= JERK
        t.a[i] = acceleration
        t.v[i] = t.tried[i]
        t.p[i] += t.v[i] * dt
        # An arm that started outside its limits may only come in.
        t.lower[i] = min(t.low[i], max(t.lower[i], t.p[i]))
        t.upper[i] = max(t.high[i], min(t.upper[i], t.p[i]))
        t.history[row, i] = t.p[i]
        total = 0.0
        for k in range(window):
            total += t.history[k, i]
        t.out[i] = total / window
    s[INDEX] = float((row + 1) % window)
    return flags


@njit(cache=True, nogil=True, error_model="numpy")
def _begin(t: Track, guarded: bool, g: Geometry) -> None:
    """Set the floors for an arm at rest at `p`."""
    s = t.scalars
    s[FLOORS] = s[FLOORS + 1] = s[FLOORS + 2] = 0.0
    forget(g)
    if guarded:
        room, gap = clearances(t.p, g, 0.0)
        s[FLOORS], s[FLOORS + 1] = min(room, 0.0), min(gap, 0.0)
        spare = spare_torque(t.v, t.a, g)
        s[FLOORS + 2] = spare - START if spare < 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _clear_share(start: Array, end: Array, room: float, gap: float, g: Geometry) -> float:
    looks = max(math.ceil(np.max(np.abs(end - start)) / LOOK), 1)
    for k in range(looks + 1):
        found = clearances(start + (end - start) * (k / looks), g, gap)
        if found[0] < room or found[1] < gap:
            return max(k - 1, 0) / looks
    return 1.0


class Gate:
    """Turns requested joint goals into safe ones; see the module docstring.

    robot: limits, rates and the guarded geometry. speed: factor in (0, 1] on velocity, acceleration and
    jerk limits. lower, upper: (n,) rad, further limits such as a calibrated range. guard: whether to keep
    clear of the table, within reach, apart and within torques; switching it off is for tests of the rest.

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
        margin = robot.gate.position_margin * robot.model.scale
        low = robot.lower if lower is None else np.maximum(robot.lower, lower)
        high = robot.upper if upper is None else np.minimum(robot.upper, upper)
        middle = (low + high) / 2
        if (low > high).any():
            joint = robot.joint_names[int(np.argmax(low > high))]
            raise UserError(f"the limits leave joint {joint} no room: the lower one exceeds the upper one")
        dt = 1.0 / robot.command_rate
        window = int(np.ceil(2 * robot.limits("acceleration") / (robot.limits("jerk") * dt) - 1e-9).max())
        self._buffer = np.zeros(track_size(robot.n, max(window, 1)))
        self._track: Track = track(self._buffer, robot.n)
        t = self._track
        t.scalars[DT], t.jump[:] = dt, robot.gate.discontinuity * robot.model.scale
        for row, what in ((t.velocity, "velocity"), (t.acceleration, "acceleration"), (t.jerk, "jerk")):
            row[:] = speed * robot.limits(what)
        self._velocity, self._acceleration, self._jerk = (
            t.velocity.copy(),
            t.acceleration.copy(),
            t.jerk.copy(),
        )
        self._velocity_share = 1.0
        t.low[:], t.high[:] = np.minimum(low + margin, middle), np.maximum(high - margin, middle)
        self._nothing = np.full(robot.n, np.nan)
        self._guard = guard
        self._geometry = guarded_geometry(robot)
        keep_apart(self._geometry, robot)
        # Ticks by what was done in them; adding up by intervention can wait until it is asked for.
        self._ticks: list[int] = []
        self.reset(np.clip(robot.home, t.low, t.high))

    def reset(self, position: ArrayLike) -> None:
        """Start at rest at `position` (n,), rad, and set all counts to zero.

        A position outside the limits is taken as it is; from there the gate only lets the arm come in.
        Raises UserError when it is not finite.
        """
        start = np.array(position, dtype=np.float64)
        if start.shape != (self.robot.n,) or not np.isfinite(start).all():
            raise UserError(f"the gate starts from {self.robot.n} finite joint angles, got {position!r}")
        t = self._track
        t.scalars[[INDEX, AGREED, FOLLOWING]] = 0.0
        for row in (t.v, t.a):
            row[:] = 0.0
        for row in (t.out, t.p, t.accepted, t.pending, t.goal, t.history):
            row[:] = start
        t.lower[:], t.upper[:] = np.minimum(t.low, start), np.maximum(t.high, start)
        _begin(t, self._guard, views(self._geometry))
        self._ticks = [0] * (1 << len(NAMES))

    def step(self, request: Array) -> int:
        """One tick towards `request` (n,), rad. Returns a bit mask of interventions; 0 means untouched.

        The goal to send is then `position`. Raises ValueError for another shape.
        """
        if request.shape != (self.robot.n,):
            raise ValueError(f"the gate takes {self.robot.n} joint goals, got shape {request.shape}")
        flags: int = _tick(request, self._buffer, self._guard, self._geometry)
        self._ticks[flags] += 1
        return flags

    def limit_velocity(self, share: float) -> None:
        """Let the goal move no faster than `share`, in (0, 1], of its velocity limits, from now on.

        Call it once per tick: a lower limit is approached as fast as the arm can brake, a higher one counts at
        once. Acceleration and stopping distances stay as they are.
        """
        if share == self._velocity_share:
            return
        t = self._track
        wanted = share * self._velocity
        # Never less than the speed that braking leaves in this tick: some velocity is always allowed.
        least = np.abs(t.v) - t.acceleration * t.scalars[DT]
        t.velocity[:] = np.maximum(wanted, least)
        if (wanted >= least).all():
            self._velocity_share = share

    def brake(self, *, hard: bool = False) -> None:
        """One tick of braking, or of staying where the goal is: what a deliberate stop does. Not counted.

        `hard` brakes with the robot's full acceleration limit, whatever the gate's speed: on a shorter way than
        the one that was looked at for obstacles and torques.
        """
        t = self._track
        if hard:
            # The smoothing window is the same at every speed, so hard braking keeps the robot's jerk limit.
            t.acceleration[:] = self._acceleration / self.speed
            t.jerk[:] = self._jerk / self.speed
        _tick(self._nothing, self._buffer, self._guard, self._geometry)
        if hard:
            t.acceleration[:], t.jerk[:] = self._acceleration, self._jerk
        # Whatever is asked for next is compared with where the arm has been brought.
        t.accepted[:] = t.p
        t.pending[:] = t.p

    @property
    def position(self) -> Array:
        """(n,) rad, the goal to send (a copy)."""
        return self._track.out.copy()

    @property
    def counts(self) -> dict[str, int]:
        """Ticks since `reset`, in all ("ticks") and by intervention."""
        ticks = np.array(self._ticks)
        masks = np.arange(len(ticks))
        counts = {name: int(ticks[masks & (1 << k) > 0].sum()) for k, name in enumerate(NAMES.values())}
        return {"ticks": int(ticks.sum()), **counts}

    @property
    def delay(self) -> float:
        """Seconds by which an untouched request comes out later."""
        return (len(self._track.history) - 1) / 2 * float(self._track.scalars[DT])

    @property
    def at_rest(self) -> bool:
        """Whether the goal has stopped moving (less than 0.1 mrad/s and 10 µrad within the window)."""
        t = self._track
        return bool(np.abs(t.v).max() < 1e-4 and np.abs(t.history - t.p).max() < 1e-5)

    @property
    def limits(self) -> tuple[Array, Array]:
        """(lower, upper), (n,) rad each: where goals stay, the margin taken off."""
        return self._track.low.copy(), self._track.high.copy()

    def clearance(self, position: Array) -> float:
        """Metres between the nearest guarded point and the boundary of the workspace; negative outside."""
        return float(clearances(_copied(position), views(self._geometry), 0.0)[0])

    def self_clearance(self, position: Array) -> float:
        """Metres between the nearest links beyond what they keep; negative where they are too near."""
        return float(clearances(_copied(position), views(self._geometry), np.inf)[1])

    def clear_share(self, start: Array, end: Array, room: float = 0.0, gap: float = 0.0) -> float:
        """How far an arm that goes straight from `start` to `end`, (n,) rad, keeps `room` m from table and workspace's
        end and `gap` m between its links: 0 not at all, 1 all the way. A look ahead every `LOOK` rad, and no promise:
        on the way every tick is judged on its own."""
        return float(_clear_share(_copied(start), _copied(end), room, gap, views(self._geometry)))

    def raised(self, position: Array, height: float) -> Array:
        """(n,) rad: `position` moved the shortest way to where it is clear with `height` m more above the table."""
        goal, geometry = _copied(position), self._geometry.copy()
        views(geometry).settings[TABLE] += height
        push_out(goal, np.array(self.robot.lower), np.array(self.robot.upper), views(geometry))
        return goal


def _copied(position: ArrayLike) -> Array:
    return np.array(position, dtype=np.float64)
