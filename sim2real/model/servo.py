"""The servo: one model for the world, the emulator, the batched twin and the single-servo bench.

A position servo is a voltage-driven motor behind a gearbox, with a controller in its firmware. Per joint, at the
output shaft (angle q, speed w, motor torque τm; everything reflected through the gearbox):

    goal        g(t) = command(t − command_delay − extra_delay)                                           (1)
    profile     the set-point s follows g with at most `speed` and `acceleration` (trapezoid); 0: at once  (2)
    sensed      p = play(q, backlash) + offset: the encoder sees hysteresis of full width `backlash`       (3)
    controller  e = deadzone(s − p, dead_band),  u = kp e + ki ∫e dt + kd (feedforward ṡ − w)              (4)
                u limited to ± duty_limit (the servo's torque limit; the integral does not wind up)
    motor       τm = kt/R · (V u − kt w)                                                                   (5)
    friction    |τf| ≤ coulomb + |load_motor τm − load_external τe|                                        (6)
                       + exp(−|w/ws|^α) (stribeck + |load_motor_stribeck τm − load_external_stribeck τe| + quad)
                τf opposes w, plus viscous·w; quad = quadratic_motor τe² where the motor drives the load,
                quadratic_external τm² where the load drives the motor
    stops       τs = −stop_stiffness · (how far q + offset is beyond stop_lower…stop_upper)                 (7)
                     + stop_share · (τs of the joint before, its share left out)
    motion      (M(q) + diag(armature)) ẇ = τm − τf − viscous w − h(q, w) + τs + τ_ext                     (8)

(5) is the brushed motor under slow-decay PWM, the one in M. Duclusaud, G. Passault et al., "Extended Friction
Models for the Physics Simulation of Servo Actuators", ICRA 2025, arXiv 2410.08650, whose friction family is (6): M1
coulomb + viscous; M2 adds stribeck; M3 load_motor = load_external; M4 both; M5 directional (motor and external
side differ); M6 quadratic. τe is the load at the shaft, −h + τs + τ_ext. `enabled`: 0 off (no motor at all: friction
and armature remain), 1 position control, 2 damping (u = 0, the motor's back-EMF brakes).

(7) is what a folded arm leans on: links, cables and prints that yield by degrees before anything hard is reached, and
that press on the next joint as well (not a conservative force: it is a linearized contact whose place on the next link
does not enter). By default the stops lie out of reach.

The nominal values lie in the middle of what replays of real SO-101 arms ask for (`docs/twin.md`); speed limit and
gain agree with single servos on a bench, where the duty after a step of the goal rises in a straight line.

Time stepping. `drive_into` runs (1)–(4) and (7) for one step and leaves the duty as a function of the speed at the
*end* of the step, u(w⁺) = u0 − u1 w⁺. `solve_velocity_into` solves (4)–(8) implicitly for w⁺: Gauss–Seidel over joints,
each joint exactly (its equation is monotonic: friction a soft threshold, u a clipped line). Stiffness, back-EMF and
friction being implicit, the step is stable at 240 Hz with links a hundred times lighter than the armature.
Friction's *level* (6) is taken from the speed and torques at the beginning of the step.

How to call it. All arrays float64, C-contiguous; n joints; nothing allocates, everything releases the GIL:

    parameters = nominal_parameters(robot)                     # (n, F), columns as SERVO_FIELDS; yours to change
    command = nominal_command(n)                               # (n, COMMAND_COLUMNS): what the registers set
    state = np.zeros((n, STATE_COLUMNS)); drive = np.zeros((n, DRIVE_COLUMNS))
    reset_into(parameters, q, command, state)                  # at rest at q (n,), goal = where it is
    each step of dt s:
        command[:, GOAL] = ...                                 # encoder angle wanted, rad
        mass_and_bias_into(...)                                # M (n, n), h (n,) from dynamics.py
        drive_into(parameters, command, state, q, dt, drive)
        solve_velocity_into(M, h, external, w, parameters, command, state, drive, dt, low, high, w_next)
        # then q += dt * w_next, w = w_next, or tau = h + M (w_next - w)/dt - external sent to a physics engine

`external` (n,) N·m is any other torque on the joints; `low`, `high` (n,) rad/s bound w⁺ (joint stops: (limit − q)/dt;
±inf where the engine has its own). Results: `w_next` (n,), and in `state` the columns SENSED (encoder angle p),
TORQUE (τm), DUTY (u) and CURRENT (A). Delays are exact to a fraction of a step (linear interpolation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError, nearest
from sim2real.urdf import PINION

if TYPE_CHECKING:
    from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ServoField:
    """One parameter of a servo: unit, nominal value, default range (absolute), and what it is."""

    name: str
    unit: str
    nominal: float
    low: float
    high: float
    log: bool
    description: str
    minimum: float = 0.0
    """Physical lower bound, for identification and checks."""
    maximum: float = float("inf")


_F = ServoField
SERVO_FIELDS: tuple[ServoField, ...] = (
    _F("voltage", "V", 12.0, 10.8, 13.2, False, "supply voltage", 1.0, 60.0),
    _F(
        "torque_constant",
        "N·m/A",
        2.42,
        2.2,
        2.7,
        False,
        "torque per current = voltage per speed",
        0.01,
        50.0,
    ),
    _F("resistance", "Ω", 4.8, 4.3, 5.3, False, "winding and driver", 0.05, 100.0),
    _F("kp", "1/rad", 3.1, 2.4, 4.2, True, "duty per error at the nominal P register", 0.0, 100.0),
    _F("ki", "1/(rad·s)", 0.0, 0.0, 0.0, False, "duty per integrated error at I register 1", 0.0, 100.0),
    _F("kd", "s/rad", 0.0, 0.0, 0.03, False, "duty per speed at the nominal D register", 0.0, 5.0),
    _F("feedforward", "1", 0.0, 0.0, 0.0, False, "share of the set-point's speed in the D term", 0.0, 2.0),
    _F(
        "duty_limit",
        "1",
        1.0,
        0.8,
        1.0,
        False,
        "largest duty (the torque limit register scales it)",
        0.0,
        1.0,
    ),
    _F("dead_band", "rad", 0.0015, 0.0, 0.003, False, "error that the controller ignores", 0.0, 0.1),
    _F(
        "speed", "rad/s", 4.0, 3.0, 5.0, False, "firmware's speed limit of the set-point, 0: none", 0.0, 100.0
    ),
    _F(
        "acceleration",
        "rad/s²",
        0.0,
        0.0,
        0.0,
        False,
        "firmware's acceleration of the set-point, 0: none",
        0.0,
        1e4,
    ),
    _F("command_delay", "s", 0.028, 0.005, 0.07, False, "from writing a goal to its taking effect", 0.0, 0.4),
    _F("armature", "kg·m²", 0.025, 0.015, 0.036, True, "rotor and gears, at the output", 1e-4, 1.0),
    _F("coulomb", "N·m", 0.08, 0.03, 0.25, True, "dry friction", 0.0, 5.0),
    _F("viscous", "N·m·s/rad", 0.06, 0.02, 0.18, True, "friction proportional to speed", 0.0, 10.0),
    _F("stribeck", "N·m", 0.02, 0.0, 0.08, False, "additional dry friction near standstill", 0.0, 5.0),
    _F("stribeck_velocity", "rad/s", 0.2, 0.2, 0.2, False, "speed at which it has faded", 0.001, 10.0),
    _F("stribeck_exponent", "1", 1.0, 1.0, 1.0, False, "shape of the fading", 0.3, 10.0),
    _F("load_motor", "1", 0.15, 0.0, 0.35, False, "dry friction per motor torque", 0.0, 0.5),
    _F("load_external", "1", 0.15, 0.0, 0.3, False, "dry friction per load torque", 0.0, 0.5),
    _F("load_motor_stribeck", "1", 0.0, 0.0, 0.0, False, "the same, near standstill only", 0.0, 1.0),
    _F("load_external_stribeck", "1", 0.0, 0.0, 0.0, False, "the same, near standstill only", 0.0, 1.0),
    _F("quadratic_motor", "1/(N·m)", 0.0, 0.0, 0.0, False, "per squared load, motor driving", 0.0, 0.5),
    _F(
        "quadratic_external",
        "1/(N·m)",
        0.0,
        0.0,
        0.0,
        False,
        "per squared motor torque, load driving",
        0.0,
        0.5,
    ),
    _F(
        "backlash",
        "rad",
        0.0,
        0.0,
        0.026,
        False,
        "full width of the hysteresis of the sensed angle",
        0.0,
        0.2,
    ),
    _F("offset", "rad", 0.0, -0.035, 0.035, False, "sensed angle minus true angle", -0.5, 0.5),
    _F(
        "stop_lower",
        "rad",
        -10.0,
        -10.0,
        -10.0,
        False,
        "sensed angle below which a yielding stop pushes back",
        -10.0,
        10.0,
    ),
    _F(
        "stop_upper",
        "rad",
        10.0,
        10.0,
        10.0,
        False,
        "sensed angle above which a yielding stop pushes back",
        -10.0,
        10.0,
    ),
    _F("stop_stiffness", "N·m/rad", 15.0, 15.0, 15.0, True, "stiffness of these stops", 0.0, 1e4),
    _F(
        "stop_share",
        "1",
        0.0,
        0.0,
        0.0,
        False,
        "torque from the stop of the joint before, per torque there",
        -2.0,
        2.0,
    ),
)

F = len(SERVO_FIELDS)
(
    VOLTAGE, TORQUE_CONSTANT, RESISTANCE, KP, KI, KD, FEEDFORWARD, DUTY_LIMIT, DEAD_BAND, SPEED, ACCELERATION,
    COMMAND_DELAY, ARMATURE, COULOMB, VISCOUS, STRIBECK, STRIBECK_VELOCITY, STRIBECK_EXPONENT, LOAD_MOTOR,
    LOAD_EXTERNAL, LOAD_MOTOR_STRIBECK, LOAD_EXTERNAL_STRIBECK, QUADRATIC_MOTOR, QUADRATIC_EXTERNAL, BACKLASH, OFFSET,
    STOP_LOWER, STOP_UPPER, STOP_STIFFNESS, STOP_SHARE,
) = range(F)  # fmt: skip
FIELD_INDEX: Mapping[str, int] = {field.name: i for i, field in enumerate(SERVO_FIELDS)}
"""Column of a parameter array by the field's name."""

# Columns of a command array (n, COMMAND_COLUMNS): what a host can set on each servo while it runs.
GOAL = 0  # rad, encoder angle
ENABLED = 1  # 0 off, 1 position control, 2 damping
TORQUE_LIMIT = 2  # 0–1, share of duty_limit
KP_SCALE = 3  # P register relative to the nominal one
KI_SCALE = 4  # I register (0 is nominal)
KD_SCALE = 5  # D register relative to the nominal one
GOAL_SPEED = 6  # rad/s, 0: no limit of its own
GOAL_ACCELERATION = 7  # rad/s², 0: no limit of its own
EXTRA_DELAY = 8  # s, added to command_delay (jitter; may be negative)
COMMAND_COLUMNS = 9

# Columns of a state array (n, STATE_COLUMNS).
SENSED = 0  # rad, encoder angle: hysteresis and offset included
TORQUE = 1  # N·m, motor torque of the last step
DUTY = 2  # −1…1, duty of the last step
CURRENT = 3  # A
SETPOINT = 4  # rad
SETPOINT_SPEED = 5  # rad/s
INTEGRAL = 6  # duty
PLAY = 7  # rad, sensed angle without offset
HEAD = 8  # place of the newest goal in the delay line
DELAY_LINE = 9
DELAY_LENGTH = 128
"""Steps that the delay line holds: 0.42 s at 300 Hz."""
STATE_COLUMNS = DELAY_LINE + DELAY_LENGTH

# Columns of the scratch array between drive_into and solve_velocity_into: u(w⁺) = u0 − u1 w⁺, limited to ± limit, and
# the stops' torque τs − yield w⁺.
DRIVE_U0, DRIVE_U1, DRIVE_LIMIT, DRIVE_STOP, DRIVE_YIELD = 0, 1, 2, 3, 4
DRIVE_COLUMNS = 5

SWEEPS = 30
"""Most Gauss–Seidel sweeps; typically 4 to 8 reach TOLERANCE."""
TOLERANCE = 1e-7
"""rad/s, largest change in the last sweep."""


_SLIDING_UNITS = {
    "rad": ("m", 1), "rad/s": ("m/s", 1), "rad/s²": ("m/s²", 1), "1/rad": ("1/m", -1), "1/(rad·s)": ("1/(m·s)", -1),
    "s/rad": ("s/m", -1), "N·m": ("N", -1), "N·m/A": ("N/A", -1), "1/(N·m)": ("1/N", 1), "kg·m²": ("kg", -2),
    "N·m·s/rad": ("N·s/m", -2), "N·m/rad": ("N/m", -2), "V": ("V", 0), "Ω": ("Ω", 0), "s": ("s", 0), "1": ("1", 0),
}  # fmt: skip
"""Unit for a joint that slides, and the power of PINION that takes a servo's value there."""


def _slid(field: ServoField) -> ServoField:
    """The field for a servo that moves a rack by a pinion of radius PINION."""
    unit, power = _SLIDING_UNITS[field.unit]
    # The yielding stops lie out of reach by default, of rails too.
    r = 1.0 if field.name in ("stop_lower", "stop_upper") else PINION**power
    values = (r * x for x in (field.nominal, field.low, field.high, field.minimum, field.maximum))
    nominal, low, high, minimum, maximum = values
    return ServoField(
        field.name, unit, nominal, low, high, field.log, field.description.replace("angle", "position"), minimum,
        maximum,
    )  # fmt: skip


SLIDING_FIELDS: tuple[ServoField, ...] = tuple(_slid(field) for field in SERVO_FIELDS)
"""SERVO_FIELDS of joints that slide: in m and N."""


def nominal_parameters(robot: "Robot") -> Array:
    """(n, F) nominal servo parameters: SERVO_FIELDS' values, changed by the `[servo]` table of the robot's TOML.

    An entry of the table is a number for all joints, or a table of numbers by joint. A number by joint is in the
    joint's own unit; one for all is that of joints that turn, and goes through PINION for those that slide. Raises
    UserError for a field or joint that does not exist or a value outside the field's physical bounds.
    """
    where = f"robot '{robot.name}', [servo]"
    return parameters_from(robot.servo, robot.joint_names, where, robot.model.sliding.tolist())


def parameters_from(
    table: Mapping[str, object], joint_names: Sequence[str], where: str, sliding: Sequence[bool] | None = None
) -> Array:
    """(n, F) parameters from a table as in `nominal_parameters`; `where` names the source in errors.

    `sliding` (n) says which joints slide; default: none.
    """
    names = list(joint_names)
    own = [SLIDING_FIELDS if slides else SERVO_FIELDS for slides in sliding or [False] * len(names)]
    parameters = np.array([[field.nominal for field in fields] for fields in own])
    for name, value in table.items():
        column = servo_field(name, where)
        if isinstance(value, Mapping):
            for joint, number in value.items():
                j = names.index(joint_named(joint, names, f"{where}, field '{name}'"))
                parameters[j, column] = checked(name, number, where, own[j])
        else:
            number = checked(name, value, where)
            field = SERVO_FIELDS[column]
            for j, fields in enumerate(own):
                factor = 1.0 if fields is SERVO_FIELDS else _slid(replace(field, nominal=1.0)).nominal
                parameters[j, column] = factor * number
    return parameters


def servo_field(name: str, where: str) -> int:
    """Column of the field `name`. Raises UserError that says which there are."""
    if name not in FIELD_INDEX:
        raise UserError(
            f"{where}: there is no servo field '{name}'; known are {', '.join(FIELD_INDEX)}"
            + nearest(name, FIELD_INDEX)
        )
    return FIELD_INDEX[name]


def joint_named(name: str, known: Sequence[str], where: str) -> str:
    """`name`, if it is one of the joints. Raises UserError that says which there are."""
    if name not in known:
        raise UserError(
            f"{where}: there is no joint '{name}'; known are {', '.join(known)}{nearest(name, known)}"
        )
    return name


def checked(name: str, value: object, where: str, fields: Sequence[ServoField] = SERVO_FIELDS) -> float:
    """`value` as a float if it is within the physical bounds of the field `name`, else UserError."""
    field = fields[FIELD_INDEX[name]]
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not field.minimum <= value <= field.maximum
    ):
        raise UserError(
            f"{where}: servo field '{name}' must be a number from {field.minimum:g} to {field.maximum:g} "
            f"{field.unit}, "
            f"got {value!r}"
        )
    return float(value)


def nominal_command(n: int) -> Array:
    """(n, COMMAND_COLUMNS): enabled, full torque, nominal P and D, no I, no profile of its own, goal 0."""
    command = np.zeros((n, COMMAND_COLUMNS))
    command[:, [ENABLED, TORQUE_LIMIT, KP_SCALE, KD_SCALE]] = 1.0
    return command


@njit(cache=True, nogil=True, error_model="numpy")
def reset_into(parameters: Array, position: Array, command: Array, state: Array) -> None:
    """At rest at the true joint angles `position` (n,); every goal so far, and `command`'s, is the sensed angle."""
    for i in range(len(position)):
        sensed = position[i] + parameters[i, OFFSET]
        state[i, :] = 0.0
        state[i, SENSED] = sensed
        state[i, PLAY] = position[i]
        state[i, SETPOINT] = sensed
        state[i, DELAY_LINE:] = sensed
        command[i, GOAL] = sensed


@njit(cache=True, nogil=True, error_model="numpy")
def delayed(line: Array, head: int, steps: float) -> tuple[float, float, float]:
    """What was pushed `steps` (fractional) ago into the ring `line`, whose newest value is at `head`.

    Returns (newer, older, fraction): of a step that ends now, `older` holds for the first `fraction`, then `newer`.
    """
    length = len(line)
    steps = min(max(steps, 0.0), length - 2.0)
    whole = int(steps)
    return float(line[(head - whole) % length]), float(line[(head - whole - 1) % length]), steps - whole


@njit(cache=True, nogil=True, error_model="numpy")
def play(previous: float, q: float, width: float) -> float:
    """Hysteresis of full `width`: the output stays until the input pushes it."""
    half = 0.5 * width
    return min(max(previous, q - half), q + half)


@njit(cache=True, nogil=True, error_model="numpy")
def profile(
    setpoint: float, speed: float, goal: float, limit: float, acceleration: float, dt: float
) -> tuple[float, float]:
    """One step of a trapezoidal profile towards `goal`: the new set-point and its speed. Limits of 0 are none."""
    distance = goal - setpoint
    wanted = abs(distance) / dt
    if acceleration > 0.0:
        # Fastest speed that can still stop at the goal in whole steps of dt.
        step = acceleration * dt
        wanted = min(wanted, (np.sqrt(0.25 * step * step + 2.0 * acceleration * abs(distance)) - 0.5 * step))
    if limit > 0.0:
        wanted = min(wanted, limit)
    wanted = wanted if distance >= 0.0 else -wanted
    if acceleration > 0.0:
        wanted = min(max(wanted, speed - acceleration * dt), speed + acceleration * dt)
    return setpoint + wanted * dt, wanted


@njit(cache=True, nogil=True, error_model="numpy")
def yielding(p: Array, angle: float) -> float:
    """Torque (7), N·m, of a joint's own yielding stops at the sensed `angle`, rad; `p` (F,)."""
    return float(-p[STOP_STIFFNESS] * (max(angle - p[STOP_UPPER], 0.0) + min(angle - p[STOP_LOWER], 0.0)))


@njit(cache=True, nogil=True, error_model="numpy")
def drive_into(parameters: Array, command: Array, state: Array, q: Array, dt: float, drive: Array) -> None:
    """Equations (1)–(4) and (7) for one step of `dt` s at joint angles `q` (n,): fills `drive` (n, DRIVE_COLUMNS)."""
    before_it = 0.0
    for i in range(len(q)):
        p, c, s = parameters[i], command[i], state[i]
        stop = yielding(p, q[i] + p[OFFSET])
        drive[i, DRIVE_STOP] = stop + p[STOP_SHARE] * before_it
        drive[i, DRIVE_YIELD] = p[STOP_STIFFNESS] * dt if stop != 0.0 else 0.0
        before_it = stop
        head = (int(s[HEAD]) + 1) % DELAY_LENGTH
        s[HEAD] = head
        s[DELAY_LINE + head] = c[GOAL]
        goal, before, late = delayed(s[DELAY_LINE:], head, (p[COMMAND_DELAY] + c[EXTRA_DELAY]) / dt)
        s[PLAY] = play(s[PLAY], q[i], p[BACKLASH])
        s[SENSED] = s[PLAY] + p[OFFSET]
        if c[ENABLED] != 1.0:
            # A servo that is switched on again starts from where it is.
            s[SETPOINT], s[SETPOINT_SPEED], s[INTEGRAL] = s[SENSED], 0.0, 0.0
            drive[i, DRIVE_U0] = drive[i, DRIVE_U1] = drive[i, DRIVE_LIMIT] = 0.0
            continue
        limit = c[GOAL_SPEED]
        if p[SPEED] > 0.0 and (limit <= 0.0 or limit > p[SPEED]):
            limit = p[SPEED]
        acceleration = c[GOAL_ACCELERATION]
        if p[ACCELERATION] > 0.0 and (acceleration <= 0.0 or acceleration > p[ACCELERATION]):
            acceleration = p[ACCELERATION]
        if limit <= 0.0 and acceleration <= 0.0:
            goal += late * (before - goal)
            late = 0.0
        elif before != goal and late > 0.0:
            # The profile walks towards each goal for its part of the step. Towards their mean it would walk as fast
            # as towards the newer one, and the delay would count in whole steps only.
            s[SETPOINT], s[SETPOINT_SPEED] = profile(
                s[SETPOINT], s[SETPOINT_SPEED], before, limit, acceleration, late * dt
            )
        else:
            late = 0.0
        s[SETPOINT], s[SETPOINT_SPEED] = profile(
            s[SETPOINT], s[SETPOINT_SPEED], goal, limit, acceleration, (1.0 - late) * dt
        )
        error = s[SETPOINT] - s[SENSED]
        gain = p[KP] * c[KP_SCALE]
        if abs(error) <= p[DEAD_BAND]:
            error = 0.0
            stiffness = 0.0
        else:
            error -= p[DEAD_BAND] if error > 0.0 else -p[DEAD_BAND]
            stiffness = gain * dt
        duty_limit = p[DUTY_LIMIT] * c[TORQUE_LIMIT]
        if p[KI] > 0.0 and c[KI_SCALE] > 0.0:
            s[INTEGRAL] += p[KI] * c[KI_SCALE] * error * dt
            s[INTEGRAL] = min(max(s[INTEGRAL], -duty_limit), duty_limit)
        damping = p[KD] * c[KD_SCALE]
        drive[i, DRIVE_U0] = gain * error + s[INTEGRAL] + damping * p[FEEDFORWARD] * s[SETPOINT_SPEED]
        # Stiffness is implicit: the error at the end of the step counts.
        drive[i, DRIVE_U1] = stiffness + damping
        drive[i, DRIVE_LIMIT] = duty_limit


@njit(cache=True, nogil=True, error_model="numpy")
def friction_level(p: Array, speed: float, motor: float, load: float) -> float:
    """Largest dry friction (6), N·m, at `speed` rad/s with `motor` and `load` torques N·m; `p` (F,)."""
    level = p[COULOMB] + abs(p[LOAD_MOTOR] * motor - p[LOAD_EXTERNAL] * load)
    near = p[STRIBECK] + abs(p[LOAD_MOTOR_STRIBECK] * motor - p[LOAD_EXTERNAL_STRIBECK] * load)
    if motor * load < 0.0:
        if abs(motor) > abs(load):
            near += p[QUADRATIC_MOTOR] * load * load
        else:
            near += p[QUADRATIC_EXTERNAL] * motor * motor
    if near > 0.0:
        ratio = abs(speed) / p[STRIBECK_VELOCITY]
        if p[STRIBECK_EXPONENT] != 1.0:
            ratio = ratio ** p[STRIBECK_EXPONENT]
        level += near * np.exp(-ratio)
    return float(level)


@njit(cache=True, nogil=True, error_model="numpy")
def solve_velocity_into(
    mass: Array, bias: Array, external: Array, speed: Array, parameters: Array, command: Array, state: Array,
    drive: Array, dt: float, low: Array, high: Array, out: Array,
) -> None:  # fmt: skip
    """Equations (4)–(8): fill `out` (n,) with the speeds at the end of the step, rad/s.

    mass (n, n), bias (n,), external (n,), speed (n,) at the beginning of the step; `low`, `high` (n,) bound the
    result. `state` receives TORQUE, DUTY and CURRENT.
    """
    n = len(speed)
    for i in range(n):
        # Scratch: friction level in CURRENT until the end of this function.
        load = external[i] - bias[i] + drive[i, DRIVE_STOP]
        state[i, CURRENT] = friction_level(parameters[i], speed[i], state[i, TORQUE], load)
        out[i] = speed[i]
    for _ in range(SWEEPS):
        change = 0.0
        for i in range(n):
            p = parameters[i]
            inertia = (mass[i, i] + p[ARMATURE]) / dt
            force = inertia * speed[i] - bias[i] + external[i] + drive[i, DRIVE_STOP]
            for j in range(n):
                if j != i:
                    force -= mass[i, j] * (out[j] - speed[j]) / dt
            slope = inertia + p[VISCOUS] + drive[i, DRIVE_YIELD]
            if command[i, ENABLED] != 0.0:
                slope += p[TORQUE_CONSTANT] * p[TORQUE_CONSTANT] / p[RESISTANCE]
            per_duty = p[TORQUE_CONSTANT] * p[VOLTAGE] / p[RESISTANCE]
            w = _scalar_speed(
                slope, force, state[i, CURRENT], per_duty,
                drive[i, DRIVE_U0], drive[i, DRIVE_U1], drive[i, DRIVE_LIMIT],
            )  # fmt: skip
            w = min(max(w, low[i]), high[i])
            change = max(change, abs(w - out[i]))
            out[i] = w
        if change < TOLERANCE:
            break
    for i in range(n):
        p = parameters[i]
        limit = drive[i, DRIVE_LIMIT]
        duty = min(max(drive[i, DRIVE_U0] - drive[i, DRIVE_U1] * out[i], -limit), limit)
        current = 0.0
        if command[i, ENABLED] != 0.0:
            current = (p[VOLTAGE] * duty - p[TORQUE_CONSTANT] * out[i]) / p[RESISTANCE]
        state[i, DUTY], state[i, CURRENT], state[i, TORQUE] = duty, current, p[TORQUE_CONSTANT] * current


@njit(cache=True, nogil=True, error_model="numpy")
def _scalar_speed(
    slope: float, force: float, dry: float, per_duty: float, u0: float, u1: float, limit: float
) -> float:
    """The w with slope·w + dry·sgn(w) = force + per_duty·clip(u0 − u1 w, ±limit); slope > 0, u1 ≥ 0."""
    at_rest = force + per_duty * min(max(u0, -limit), limit)
    if abs(at_rest) <= dry:
        return 0.0
    free = force - dry if at_rest > 0.0 else force + dry
    w = (free + per_duty * u0) / (slope + per_duty * u1)
    u = u0 - u1 * w
    if u > limit:
        w = (free + per_duty * limit) / slope
    elif u < -limit:
        w = (free - per_duty * limit) / slope
    return w
