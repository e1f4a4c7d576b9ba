"""How the scripted experts move: one compiled step of the command towards a joint target, and of the arm after it.

The arm hangs below its command by what gravity bends its position controllers, and lags behind it. Of the two
the command's lead c − q shows only the sum. The step

    ċ = k [target + f + γ clip(c − q − f) − c]      limited in speed, all joints by the same factor

adds the sag f that the nominal stiffness predicts, and the part γ of what is left. At rest the arm then misses
the target by (1 − γ) of the unpredicted sag. With a delay T from command to sensed angle the linear loop is
s + k(1 − γ) + kγ e^(−sT): stable for T < acos(−(1 − γ)/γ) / (k √(2γ − 1)), 0.55 s with the values here.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.experts.pointing import LOWER_LENGTH, UPPER_LENGTH, least_tilt
from sim2real.model.dynamics import GRAVITY, mass_and_bias_into, workspace
from sim2real.model.servo import KP, RESISTANCE, TORQUE_CONSTANT, VOLTAGE, nominal_parameters
from sim2real.robot import Robot

Array = NDArray[np.float64]

GAIN = 2.5
"""k, 1/s."""
SAG_SHARE = 0.85
"""γ."""
SAG_LIMIT = 0.10
"""rad, the most that is taken for unpredicted sag."""
SPEED_SHARE = 0.6
"""Part of the gate's speed limits that the experts use."""
START_SPEED, SPEED_PER_LEAD = 0.35, 8.0
"""rad/s, and rad/s per rad of lead: the command starts gently and gains speed as the arm comes after it."""
LAG = 0.12
"""s, how the arm is predicted to follow its command within a chunk (first order)."""
STRETCH_MARGIN = 0.006
"""m that the wrist stays nearer to the shoulder than the straight arm."""


class MotionModel:
    """What the compiled functions need of a robot, as arrays.

    `lower`, `upper` (n,) rad limits with a margin; `speed` (n,) rad/s; `stiffness` (n,) N·m/rad of the nominal
    servos: V kp kt / R. `period` s between actions, `lead` s by which what is sent trails what was asked for.
    """

    def __init__(self, robot: Robot) -> None:
        servo = nominal_parameters(robot)
        margin = (robot.gate.position_margin + 0.005) * robot.model.scale
        self.lower = np.array(robot.lower) + margin
        self.upper = np.array(robot.upper) - margin
        self.speed = SPEED_SHARE * robot.limits("velocity")
        self.stiffness = servo[:, VOLTAGE] * servo[:, KP] * servo[:, TORQUE_CONSTANT] / servo[:, RESISTANCE]
        self.chain, self.inertials = robot.model.chain, robot.model.inertials
        self.period = 1.0 / robot.policy_rate
        self.lead = gate_delay(robot)
        self.scratch = (*workspace(robot.model.links), np.zeros((robot.n, robot.n)), np.zeros(robot.n))
        self.gravity = np.array([0.0, 0.0, -GRAVITY])
        self.rest = np.zeros(robot.n)


def gate_delay(robot: Robot) -> float:
    """How long after a request the gate sends it, s: half its smoothing window, and half a tick on average.

    A command seen in an observation is that old; a trajectory that is to go on smoothly starts that far ahead.
    """
    tick = 1.0 / robot.command_rate
    window = np.ceil(2 * robot.limits("acceleration") / (robot.limits("jerk") * tick) - 1e-9).max()
    return float((window - 1) / 2 + 0.5) * tick


@njit(cache=True, nogil=True, error_model="numpy")
def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@njit(cache=True, nogil=True, error_model="numpy")
def ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth in between (low > high: the other way round)."""
    t = clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, nogil=True, error_model="numpy")
def tilt_at(geometry: Array, x: float, y: float, z: float, roll: float) -> float:
    """The tilt (rad, ≥ 0) at a place: straight down where the arm can, smoothly more where it cannot.

    High up the wrist cannot bend far enough to point down, far out the arm is too short.
    """
    high = 6.2 * 0.01 * math.log1p(math.exp((z - 0.055) / 0.01))
    stretch = geometry[UPPER_LENGTH] + geometry[LOWER_LENGTH] - STRETCH_MARGIN
    far = least_tilt(geometry, x, y, z, roll, stretch)
    # A smooth maximum; exactly zero tilt is not needed, a smooth law is.
    return far + 0.03 * math.log1p(math.exp((high - far) / 0.03))


@njit(cache=True, nogil=True, error_model="numpy")
def sag_into(
    chain: Array, inertials: Array, gravity: Array, rest: Array, stiffness: Array, q: Array,
    rotations: Array, origins: Array, work: Array, mass: Array, bias: Array, sag: Array,
) -> None:  # fmt: skip
    """Fill `sag` (n,) rad: how far the nominal arm at `q` hangs below its command."""
    mass_and_bias_into(chain, inertials, q, rest, gravity, rotations, origins, work, mass, bias)
    for j in range(len(sag)):
        sag[j] = bias[j] / stiffness[j]


@njit(cache=True, nogil=True, error_model="numpy")
def step_into(
    target: Array, command: Array, position: Array, sag: Array, lower: Array, upper: Array, speed: Array,
    gripper: int, period: float,
) -> None:  # fmt: skip
    """Move `command` (n,) one period towards `target` (n,), in place."""
    n = len(command)
    lead = 0.0
    for j in range(n):
        if j != gripper:
            lead = max(lead, abs(command[j] - position[j] - sag[j]))
    gentle = START_SPEED + SPEED_PER_LEAD * lead
    most = 1.0
    for j in range(n):
        if j != gripper:
            aim = (
                target[j]
                + sag[j]
                + SAG_SHARE * clip(command[j] - position[j] - sag[j], -SAG_LIMIT, SAG_LIMIT)
            )
            rate = GAIN * abs(aim - command[j])
            limit = min(speed[j], gentle)
            if rate * most > limit:
                most = limit / rate
    for j in range(n):
        if j == gripper:
            move = clip(target[j] - command[j], -speed[j] * period, speed[j] * period)
        else:
            aim = (
                target[j]
                + sag[j]
                + SAG_SHARE * clip(command[j] - position[j] - sag[j], -SAG_LIMIT, SAG_LIMIT)
            )
            move = GAIN * (aim - command[j]) * most * period
        command[j] = clip(command[j] + move, lower[j], upper[j])


@njit(cache=True, nogil=True, error_model="numpy")
def follow_into(position: Array, command: Array, lead: Array, period: float) -> None:
    """Predict the arm one period on, in place: first order towards the command less its resting lead (n,)."""
    share = 1.0 - math.exp(-period / LAG)
    for j in range(len(position)):
        position[j] += share * (command[j] - lead[j] - position[j])
