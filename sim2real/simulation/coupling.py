"""Couples the servo model to Bullet: torque control with predicted armature.

Bullet knows no armature, and its joint motors are neither servos nor cheap. So each physics step predicts the
arm's next speed w⁺ with the servo model, which has the armature A and all friction, and sends Bullet the torque
that makes its own, lighter arm reach it:

    (M + A)(w⁺ − w)/dt = servo(w⁺) − h + τc        solved for w⁺ by `servo.solve_velocity_into`
    τ = h′ + M′(w⁺ − w)/dt − τc                     sent to Bullet

M, h are those of the arm as drawn (masses, payload, gravity, tilt). The arm that Bullet carries is a skeleton: its
links have next to no mass, but each a rotational inertia f about every axis (`skeleton_inertia`). That makes M′ and
h′ cheap, costs no call into Bullet for a drawn mass, lets centres of mass be drawn, and nothing can go stale:

    M′ij = Σ fk ai·aj      h′i = Σ fk ai·αk      over the links k that both joints move

a being the joints' axes and α the links' angular accelerations at q̈ = 0. τc is the torque that the last step left
unexplained, which is contact:

    τc ← τc + M′(w_measured − w⁺)/dt

The f are of the size of the armature: contacts must not excite links far above the frequencies that the time step
resolves. Where links slide they have a mass in Bullet as well, and M′, h′ are those of a tree of bodies. Joint stops
are bounds on w⁺, so Bullet needs no limit constraints.

Links that follow a joint (mimic) are free in Bullet and have a row of their own in M′, h′, τ and τc. Their speed is
predicted from the joint's, so that they are where they belong after FOLLOWED of the way there; what touches them acts
on the joint through their multiplier, as the mass matrix M has it for their inertia.

One buffer holds all numbers, because a compiled call costs about 0.1 µs per array that is handed to it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.model import servo
from sim2real.model.dynamics import WORK_COLUMNS, mass_and_bias_into
from sim2real.model.servo import (
    BACKLASH,
    COMMAND_COLUMNS,
    DRIVE_COLUMNS,
    DUTY,
    EXTRA_DELAY,
    GOAL,
    OFFSET,
    PLAY,
    RESISTANCE,
    SENSED,
    STATE_COLUMNS,
    TORQUE_CONSTANT,
    VOLTAGE,
    F,
    drive_into,
    nominal_command,
    play,
    reset_into,
    solve_velocity_into,
)
from sim2real.urdf import CHAIN_COLUMNS, INERTIAL_COLUMNS, PINION, ArmModel

Array = NDArray[np.float64]

SKELETON_SHARE = 0.5
"""Of the inertia that a joint really feels, armature included, that it feels in Bullet."""
SKELETON_MASS = 1e-6
"""kg of each link in Bullet."""
HISTORY = 64
"""Physics steps that readings are kept for: 0.21 s at 300 Hz."""
RETURN_SPEED = 1.0
"""A joint beyond its stop comes back at this speed at least, rad/s, instead of in a single step."""
FOLLOWED = 0.3
"""Share of its error that a following link makes good in a physics step."""
LIGHT = 0.25
"""kg: armature counts for the mass of a sliding link in Bullet up to this, or the mass that it moves. Geared motors
have hundreds of kg of it, which the arm would have to carry there."""


class Views(NamedTuple):
    """The arrays in the buffer of `n` joints and `L` links; SI units, joint order."""

    scalars: Array
    """(3,): dt in s, number of steps taken, resistance of the supply in Ω."""
    gravity: Array
    chain: Array
    inertials: Array
    """(L, 10) of the arm as drawn."""
    free: Array
    """(L, 20) the tree with all links free, as it is in Bullet."""
    carried: Array
    """(L, 10) inertial parameters of the links in Bullet; their ixx is f."""
    parameters: Array
    command: Array
    state: Array
    """(n, …) as `servo.py` has them."""
    position: Array
    velocity: Array
    """(L,) measured, true."""
    predicted: Array
    contact: Array
    torque: Array
    """(L,) w⁺, τc and τ of the module docstring."""
    angle: Array
    speed: Array
    wanted: Array
    load: Array
    """(n,) of the joints: position, velocity, w⁺ and τc."""
    rows: Array
    """(n,) the link of each joint."""
    lower: Array
    upper: Array
    """(n,) rad, the joints' stops."""
    low: Array
    high: Array
    bias: Array
    bias_carried: Array
    mass: Array
    mass_carried: Array
    drive: Array
    rotations: Array
    origins: Array
    work: Array
    history: Array
    """(HISTORY, 2 n): sensed angles and speeds of past steps, a ring."""
    external: Array
    """(n,) N·m on the joints from outside that Bullet knows nothing of."""
    supply: Array
    """(n,) V of the supply that nothing is drawn from."""
    sent: Array
    """(n,) rad, the last goal sent, whether or not it arrived."""


_HEADER = 8
_JOINT_ROWS, _LINK_ROWS = 13, 6


@njit(cache=True, nogil=True, error_model="numpy")
def _views(buffer: Array, n: int) -> Views:
    links = int(buffer[6])
    at = _HEADER
    vectors = buffer[at : at + _JOINT_ROWS * n].reshape(_JOINT_ROWS, n)
    at += _JOINT_ROWS * n
    of_links = buffer[at : at + _LINK_ROWS * links].reshape(_LINK_ROWS, links)
    at += _LINK_ROWS * links
    mass = buffer[at : at + n * n].reshape(n, n)
    at += n * n
    mass_carried = buffer[at : at + links * links].reshape(links, links)
    at += links * links
    chains = buffer[at : at + 2 * links * CHAIN_COLUMNS].reshape(2, links, CHAIN_COLUMNS)
    at += 2 * links * CHAIN_COLUMNS
    inertials = buffer[at : at + 2 * links * INERTIAL_COLUMNS].reshape(2, links, INERTIAL_COLUMNS)
    at += 2 * links * INERTIAL_COLUMNS
    parameters = buffer[at : at + n * F].reshape(n, F)
    at += n * F
    command = buffer[at : at + n * COMMAND_COLUMNS].reshape(n, COMMAND_COLUMNS)
    at += n * COMMAND_COLUMNS
    state = buffer[at : at + n * STATE_COLUMNS].reshape(n, STATE_COLUMNS)
    at += n * STATE_COLUMNS
    drive = buffer[at : at + n * DRIVE_COLUMNS].reshape(n, DRIVE_COLUMNS)
    at += n * DRIVE_COLUMNS
    rotations = buffer[at : at + links * 9].reshape(links, 3, 3)
    at += links * 9
    origins = buffer[at : at + links * 3].reshape(links, 3)
    at += links * 3
    work = buffer[at : at + links * WORK_COLUMNS].reshape(links, WORK_COLUMNS)
    at += links * WORK_COLUMNS
    history = buffer[at : at + HISTORY * 2 * n].reshape(HISTORY, 2 * n)
    return Views(
        buffer[0:3], buffer[3:6], chains[0], inertials[0], chains[1], inertials[1], parameters, command, state,
        of_links[0], of_links[1], of_links[2], of_links[3], of_links[4], vectors[0], vectors[1], vectors[2],
        vectors[3], vectors[4], vectors[5], vectors[6], vectors[7], vectors[8], vectors[9], of_links[5], mass,
        mass_carried, drive, rotations, origins, work, history, vectors[10], vectors[11], vectors[12],
    )  # fmt: skip


def _size(n: int, links: int) -> int:
    per_joint = _JOINT_ROWS + n + F + COMMAND_COLUMNS + STATE_COLUMNS + DRIVE_COLUMNS + 2 * HISTORY
    per_link = _LINK_ROWS + links + 2 * (CHAIN_COLUMNS + INERTIAL_COLUMNS) + 12 + WORK_COLUMNS
    return _HEADER + n * per_joint + links * per_link


@njit(cache=True, nogil=True, error_model="numpy")
def _skeleton_into(chain: Array, carried: Array, work: Array, mass: Array, bias: Array) -> None:
    """M′ and h′ of the module docstring where nothing slides; `work` as `mass_and_bias_into` leaves it: axes in columns
    0–2, angular accelerations in 12–14."""
    links = len(carried)
    for i in range(links):
        bias[i] = 0.0
        for j in range(links):
            mass[i, j] = 0.0
    for k in range(links):
        f = carried[k, 4]
        i = k
        while i >= 0:
            w = work[i]
            bias[i] += f * (w[0] * work[k, 12] + w[1] * work[k, 13] + w[2] * work[k, 14])
            j = k
            while j >= 0:
                u = work[j]
                mass[i, j] += f * (w[0] * u[0] + w[1] * u[1] + w[2] * u[2])
                j = int(chain[j, 0])
            i = int(chain[i, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def sag_into(supply: Array, resistance: float, speed: Array, state: Array, parameters: Array) -> None:
    """What is left of the supply's voltage under the current that all motors draw: fills `parameters`' VOLTAGE.

    Under PWM a motor at duty u draws u·i from the supply, i = (V u − kt w)/R. The drop is taken from the duties
    and speeds of the last step but solved for the current that flows under it, so that no resistance makes it
    oscillate. A supply takes nothing back: braking motors do not raise it.
    """
    drawn, slope = 0.0, 0.0
    for i in range(len(supply)):
        p, duty = parameters[i], state[i, DUTY]
        drawn += duty * (supply[i] * duty - p[TORQUE_CONSTANT] * speed[i]) / p[RESISTANCE]
        slope += duty * duty / p[RESISTANCE]
    drop = max(resistance * drawn / (1.0 + resistance * slope), 0.0)
    for i in range(len(supply)):
        parameters[i, VOLTAGE] = max(supply[i] - drop, 0.5 * supply[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _step(buffer: Array, n: int) -> None:
    """One physics step from the measured `position` and `velocity`: fills `torque`."""
    a = _views(buffer, n)
    dt = a.scalars[0]
    links = len(a.chain)
    position, velocity, contact, torque = a.position, a.velocity, a.contact, a.torque
    angle, speed, load = a.angle, a.speed, a.load
    # What the last step left unexplained; `mass_carried` is still the last step's.
    for i in range(links):
        for j in range(links):
            contact[i] += a.mass_carried[i, j] * (velocity[j] - a.predicted[j]) / dt
    for i in range(n):
        row = int(a.rows[i])
        angle[i], speed[i], load[i] = position[row], velocity[row], a.external[i]
    for k in range(links):
        load[int(a.chain[k, 17])] += a.chain[k, 18] * contact[k]
    mass_and_bias_into(
        a.chain, a.inertials, angle, speed, a.gravity, a.rotations, a.origins, a.work, a.mass, a.bias
    )
    if links > n or a.free[:, 1].any():
        _carried_into(buffer, n)
    else:
        _skeleton_into(a.free, a.carried, a.work, a.mass_carried, a.bias_carried)
    if a.scalars[2] > 0.0:
        sag_into(a.supply, a.scalars[2], speed, a.state, a.parameters)
    drive_into(a.parameters, a.command, a.state, angle, dt, a.drive)
    past = a.history[int(a.scalars[1]) % HISTORY]
    a.scalars[1] += 1.0
    for i in range(n):
        past[i], past[n + i] = a.state[i, SENSED], speed[i]
        back = RETURN_SPEED if a.chain[int(a.rows[i]), 1] == 0.0 else RETURN_SPEED * PINION
        a.low[i] = min((a.lower[i] - angle[i]) / dt, back)
        a.high[i] = max((a.upper[i] - angle[i]) / dt, -back)
    solve_velocity_into(
        a.mass, a.bias, load, speed, a.parameters, a.command, a.state, a.drive, dt, a.low, a.high, a.wanted
    )
    for k in range(links):
        j, share = int(a.chain[k, 17]), a.chain[k, 18]
        a.predicted[k] = share * a.wanted[j]
        if k != int(a.rows[j]):
            away = share * angle[j] + a.chain[k, 19] - position[k]
            a.predicted[k] += FOLLOWED * away / dt
    for i in range(links):
        torque[i] = a.bias_carried[i] - contact[i]
        for j in range(links):
            torque[i] += a.mass_carried[i, j] * (a.predicted[j] - velocity[j]) / dt


@njit(cache=True, nogil=True, error_model="numpy")
def _carried_into(buffer: Array, n: int) -> None:
    """M′ and h′ of any tree: that of the bodies which Bullet has."""
    a = _views(buffer, n)
    mass_and_bias_into(
        a.free, a.carried, a.position, a.velocity, a.gravity, a.rotations, a.origins, a.work, a.mass_carried,
        a.bias_carried,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _sense(buffer: Array, n: int, age: float) -> tuple[Array, Array]:
    """Sensed angles (n,) and speeds (n,) as they were `age` steps (fractional) ago."""
    a = _views(buffer, n)
    taken = a.scalars[1]
    age = min(max(age, 0.0), min(taken, HISTORY - 2.0))
    whole = int(age)
    fraction = age - whole
    sensed, speed = np.empty(n), np.empty(n)
    newer = a.history[int(taken - whole) % HISTORY]
    older = a.history[int(taken - whole - 1) % HISTORY]
    for i in range(n):
        if whole == 0:
            sensed[i] = (
                play(a.state[i, PLAY], a.position[int(a.rows[i])], a.parameters[i, BACKLASH])
                + a.parameters[i, OFFSET]
            )
            speed[i] = a.velocity[int(a.rows[i])]
        else:
            sensed[i], speed[i] = newer[i], newer[n + i]
        if fraction > 0.0:
            sensed[i] += fraction * (older[i] - sensed[i])
            speed[i] += fraction * (older[n + i] - speed[i])
    return sensed, speed


@njit(cache=True, nogil=True, error_model="numpy")
def _command(buffer: Array, n: int, goal: Array, delay: float) -> bool:
    a = _views(buffer, n)
    for i in range(n):
        if not math.isfinite(goal[i]):
            return False
    for i in range(n):
        a.sent[i] = goal[i]
        if delay == delay:
            a.command[i, GOAL], a.command[i, EXTRA_DELAY] = goal[i], delay
    return True


class ServoBank:
    """The servos of an arm as a host sees and sets them; arrays are (n,) views, written in place.

    Settings: `goal` rad (encoder angle); `enabled` 0 off, 1 position control, 2 damping; `duty_limit` 0–1;
    `kp`, `kd` relative to the nominal registers, `ki` the I register; `speed` rad/s and `acceleration` rad/s²
    of the profile, 0 for none; `extra_delay` s by which goals come later than usual; `external` N·m is what else
    turns the joints. Readings of the last step: `sensed` rad, `torque` N·m, `duty` −1…1, `current` A; `setpoint` rad
    and `setpoint_speed` rad/s of the profile. For code that drives the motors in other ways: the model's `parameters`
    (n, F), the arm's `mass` (n, n) kg·m² without armature, and its `bias` N·m.
    """

    def __init__(self, views: Views) -> None:
        command, state = self.command, self.state = views.command, views.state
        self.external, self.parameters = views.external, views.parameters
        self.mass, self.bias = views.mass, views.bias
        self.goal = command[:, servo.GOAL]
        self.enabled = command[:, servo.ENABLED]
        self.duty_limit = command[:, servo.TORQUE_LIMIT]
        self.kp = command[:, servo.KP_SCALE]
        self.ki = command[:, servo.KI_SCALE]
        self.kd = command[:, servo.KD_SCALE]
        self.speed = command[:, servo.GOAL_SPEED]
        self.acceleration = command[:, servo.GOAL_ACCELERATION]
        self.extra_delay = command[:, servo.EXTRA_DELAY]
        self.sensed = state[:, servo.SENSED]
        self.torque = state[:, servo.TORQUE]
        self.duty = state[:, servo.DUTY]
        self.current = state[:, servo.CURRENT]
        self.setpoint, self.setpoint_speed = state[:, servo.SETPOINT], state[:, servo.SETPOINT_SPEED]


class Coupling:
    """State and parameters of the servo-driven arm, and one compiled step of it."""

    def __init__(self, model: ArmModel, parameters: Array, dt: float, centres: Array | None = None) -> None:
        """`centres` (L, 3) m: centres of mass of Bullet's links in their frames, where any link slides."""
        self.n = model.n
        self.scale = model.scale
        """(n,) what counts like one rad, see `ArmModel.scale`."""
        self._buffer = np.zeros(_size(self.n, model.links))
        self._buffer[6] = model.links
        self.views: Views = _views(self._buffer, self.n)
        self.views.scalars[0] = dt
        self.views.chain[:], self.views.free[:] = model.chain, model.free_chain
        self.views.inertials[:] = model.inertials
        self.views.rows[:] = model.rows
        moment, mass = skeleton(model, parameters[:, servo.ARMATURE])
        self.views.carried[:, 0] = mass
        self.views.carried[:, 1:4] = 0.0 if centres is None else centres
        self.views.carried[:, 4:7] = moment[:, None]
        self._follow, self._rows = model.link_positions, np.array(model.rows)
        self.servo = ServoBank(self.views)
        # Compiled once here, not in the first step.
        self.reset(np.zeros(self.n))

    def reset(self, position: Array) -> None:
        """At rest at `position` (n,), rad, torque on, the goal where it is. Parameters must be set before."""
        v = self.views
        v.command[:] = nominal_command(self.n)
        reset_into(v.parameters, position, v.command, v.state)
        v.scalars[1] = 0.0
        v.position[:] = self._follow(position)
        v.sent[:] = self.servo.goal
        for array in (v.velocity, v.predicted, v.contact, v.external, v.torque, v.history, v.mass_carried):
            array[:] = 0.0

    @property
    def position(self) -> Array:
        """(n,) rad or m, measured."""
        return self.views.position[self._rows]  # type: ignore[no-any-return]

    @property
    def velocity(self) -> Array:
        """(n,) rad/s or m/s, measured."""
        return self.views.velocity[self._rows]  # type: ignore[no-any-return]

    def command(self, goal: Array, delay: float) -> bool:
        """Send `goal` (n,) rad to the servos, which it reaches `delay` s later than usual, or never (NaN).

        False, and nothing is sent, when it is not finite.
        """
        return _command(self._buffer, self.n, goal, delay)  # type: ignore[no-any-return]

    def step(self) -> list[float]:
        """Torques (n), N·m, to send to Bullet for the next step."""
        _step(self._buffer, self.n)
        torque: list[float] = self.views.torque.tolist()
        return torque

    def sense(self, age: float) -> tuple[Array, Array]:
        """What the encoders said `age` seconds ago: angles rad and speeds rad/s, (n,) each, without noise."""
        sensed, speed = _sense(self._buffer, self.n, age / self.views.scalars[0])
        return sensed, speed


def skeleton(model: ArmModel, armature: Array) -> tuple[Array, Array]:
    """(L,) rotational inertia kg·m² and (L,) mass kg of the links in Bullet.

    Each joint feels `SKELETON_SHARE` of what it really does. From the tips inwards: what a link's further links do not
    bring with them, it gets itself. Links that slide get it as mass. Links that follow a joint get what a joint of
    their own would feel, with the driving joint's armature.
    """
    from sim2real.model.dynamics import mass_and_bias_into, workspace

    count = model.links
    middle = model.link_positions((model.lower + model.upper) / 2)
    still, real = np.zeros(count), np.empty((count, count))
    mass_and_bias_into(
        model.free_chain, np.array(model.inertials), middle, still, np.zeros(3), *workspace(count), real,
        np.empty(count),
    )  # fmt: skip
    moved = np.diag(real)
    # In a follower's own unit: it moves by its multiplier where the motor moves by one.
    ratio = np.where(model.multiplier == 0.0, 1.0, model.multiplier)
    geared = armature[model.driver] / ratio**2
    moment, mass = np.zeros(count), np.full(count, SKELETON_MASS)
    for i in reversed(range(count)):
        below = model.descendants(i)
        if model.prismatic[i]:
            felt = SKELETON_SHARE * (moved[i] + min(geared[i], max(moved[i], LIGHT)))
            mass[i] = max(felt - mass[below].sum(), 0.05 * felt)
            continue
        felt = SKELETON_SHARE * (moved[i] + geared[i])
        moment[i] = max(felt - moment[below].sum(), 0.05 * felt)
    return moment, mass
