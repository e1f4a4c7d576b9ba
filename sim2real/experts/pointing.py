"""Closed-form inverse kinematics of arms that point: pan, three parallel pitch joints, roll.

Most hobby arms (SO-100, SO-101, Koch) have this structure. For them position, tilt (how far the fingers lean
outward from pointing straight down) and roll determine the joints uniquely, elbow up. The scripted experts need
that: a solution that is a smooth function of the target, without an iteration that may end on another branch.

Coordinates of the *arm plane*: ρ away from the pan axis, λ to its left, z up. A pitch angle B > 0 turns ρ
towards −z (nose down). With O the pan axis, P the shoulder, v1 and v2 the upper and lower arm, w(roll) the
vector from the wrist to the guided point, φ the pan:

    point = O + Rz(φ) [P + Ry(B1) v1 + Ry(B2) v2 + Ry(B3) w(roll)],    B_i = b_1 + … + b_i

w(roll) and the constant λ of the links fix the lateral offset of the point from the arm plane; the rest is a
triangle with the sides |v1|, |v2| and the distance from shoulder to wrist.

The constants sit in one array, `geometry` (GEOMETRY,), that the compiled functions take.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.model.kinematics import link_poses, tool_pose, tool_position
from sim2real.robot import Robot

Array = NDArray[np.float64]

(
    AXIS_X, AXIS_Y, PAN_ZERO, PAN_SIGN, PITCH_SIGN_1, PITCH_SIGN_2, PITCH_SIGN_3, SHOULDER_R, SHOULDER_Z, LATERAL,
    UPPER_LENGTH, UPPER_ANGLE, LOWER_LENGTH, LOWER_ANGLE, ROLL_R, ROLL_L, ROLL_Z, ROLL_AXIS_R, ROLL_AXIS_L, ROLL_AXIS_Z,
    POINT_R, POINT_L, POINT_Z, DOWN, HEADING_ZERO, HEADING_SIGN,
) = range(26)  # fmt: skip
GEOMETRY = 26

MARGIN = 0.015
"""rad that solutions keep from the joint limits."""


def pointing_geometry(robot: Robot, offset: tuple[float, float] = (0.0, 0.0)) -> Array:
    """The constants of a robot, (GEOMETRY,), for a point fixed to the tool frame.

    `offset` m: how far the guided point lies from the tool frame's origin along the direction in which the
    gripper opens, and along the approach direction. Raises UserError when the arm has another structure.
    """
    model = robot.model
    arm = [int(i) for i in robot.arm]
    rotations, origins = link_poses(model, np.zeros(robot.n))
    axes = np.einsum("nij,nj->ni", rotations, model.axes)[model.rows]
    origins = origins[model.rows]
    problem = structure_problem(robot)
    if problem:
        raise UserError(
            f"the scripted experts need a pan joint, three parallel pitch joints and a roll joint; "
            f"robot '{robot.name}': {problem}. Use a policy file or a policy of your own"
        )
    pan, shoulder, elbow, wrist, roll = arm
    tool = tool_position(model, np.zeros(robot.n))
    vertical = np.array([0.0, 0.0, 1.0])
    left = axes[shoulder].copy()
    outward = np.cross(left, vertical)
    axis_point = origins[pan]
    if (tool - axis_point) @ outward < 0:
        left, outward = -left, -outward
    frame = np.stack([outward, left, vertical])  # rows: base frame → (ρ, λ, z)
    points = (origins - np.array([axis_point[0], axis_point[1], 0.0])) @ frame.T
    shoulder_point, elbow_point, wrist_point, roll_point = (points[i] for i in (shoulder, elbow, wrist, roll))
    roll_axis = frame @ axes[roll]
    tool_point = frame @ (tool - np.array([axis_point[0], axis_point[1], 0.0]))
    approach = roll_axis * math.copysign(1.0, roll_axis @ (tool_point - wrist_point))
    opening = frame @ opening_direction(robot)
    opening -= (opening @ approach) * approach
    opening /= np.linalg.norm(opening)
    point = tool_point - roll_point + offset[0] * opening + offset[1] * approach
    down = math.atan2(approach[2], approach[0]) + math.pi / 2
    heading = _pitched(down, opening)
    upper, lower = elbow_point - shoulder_point, wrist_point - elbow_point
    geometry = np.empty(GEOMETRY)
    geometry[[AXIS_X, AXIS_Y]] = axis_point[:2]
    geometry[PAN_ZERO] = math.atan2(outward[1], outward[0])
    geometry[PAN_SIGN] = math.copysign(1.0, axes[pan][2])
    geometry[[PITCH_SIGN_1, PITCH_SIGN_2, PITCH_SIGN_3]] = [
        math.copysign(1.0, float(axes[i] @ left)) for i in (shoulder, elbow, wrist)
    ]
    geometry[[SHOULDER_R, SHOULDER_Z]] = shoulder_point[[0, 2]]
    geometry[LATERAL] = wrist_point[1]
    geometry[[UPPER_LENGTH, UPPER_ANGLE]] = math.hypot(upper[0], upper[2]), math.atan2(upper[2], upper[0])
    geometry[[LOWER_LENGTH, LOWER_ANGLE]] = math.hypot(lower[0], lower[2]), math.atan2(lower[2], lower[0])
    geometry[[ROLL_R, ROLL_L, ROLL_Z]] = roll_point - wrist_point
    geometry[[ROLL_AXIS_R, ROLL_AXIS_L, ROLL_AXIS_Z]] = roll_axis
    geometry[[POINT_R, POINT_L, POINT_Z]] = point
    geometry[DOWN] = down
    geometry[HEADING_ZERO] = math.atan2(heading[1], heading[0])
    geometry[HEADING_SIGN] = math.copysign(1.0, _pitched(down, roll_axis)[2])
    return geometry


def opening_direction(robot: Robot) -> Array:
    """(3,) unit vector, base frame, all joints at zero: how a point of the jaw at the tool moves when it opens."""
    rotations, origins = link_poses(robot.model, np.zeros(robot.n))
    tool, tool_rotation = tool_pose(robot.model, np.zeros(robot.n))
    if robot.gripper is None:
        direction = tool_rotation[:, 0]
    else:
        jaw = int(robot.model.rows[robot.gripper])
        axis = rotations[jaw] @ robot.model.axes[jaw]
        direction = axis if robot.model.prismatic[jaw] else np.cross(axis, tool - origins[jaw])
    return np.asarray(direction / np.linalg.norm(direction))


def structure_problem(robot: Robot) -> str:
    """Why the closed form does not hold for this arm; "" where it does."""
    rotations, _ = link_poses(robot.model, np.zeros(robot.n))
    axes = np.einsum("nij,nj->ni", rotations, robot.model.axes)[robot.model.rows]
    arm = [int(i) for i in robot.arm]
    if len(arm) != 5 or robot.model.sliding[arm].any():
        return f"it has {len(arm)} arm joints" if len(arm) != 5 else "a joint of its arm slides"
    names = [robot.joint_names[i] for i in arm]
    pan, shoulder, elbow, wrist, roll = (axes[i] for i in arm)
    if abs(pan[2]) < 0.999:
        return f"the axis of '{names[0]}' is not vertical"
    for name, axis in zip(names[1:4], (shoulder, elbow, wrist)):
        if abs(axis @ shoulder) < 0.999 or abs(axis[2]) > 0.01:
            return f"the axis of '{name}' is not horizontal and parallel to that of '{names[1]}'"
    return "" if abs(roll @ shoulder) < 0.01 else f"'{names[4]}' does not turn about the forearm"


def _pitched(angle: float, vector: Array) -> Array:
    """Ry(angle) of a vector in (ρ, λ, z)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([vector[0] * c + vector[2] * s, vector[1], -vector[0] * s + vector[2] * c])


@njit(cache=True, nogil=True, error_model="numpy")
def wrapped(angle: float) -> float:
    """An angle, rad, brought into [−π, π) by whole turns."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


@njit(cache=True, nogil=True, error_model="numpy")
def _wrist_to_point(g: Array, roll: float) -> tuple[float, float, float]:
    """w(roll): from the wrist to the guided point in (ρ, λ, z) at pitch zero (Rodrigues about the roll axis)."""
    x, y, z = g[ROLL_AXIS_R], g[ROLL_AXIS_L], g[ROLL_AXIS_Z]
    a, b, c = g[POINT_R], g[POINT_L], g[POINT_Z]
    co, si = math.cos(roll), math.sin(roll)
    along = (x * a + y * b + z * c) * (1 - co)
    return (
        g[ROLL_R] + a * co + (y * c - z * b) * si + x * along,
        g[ROLL_L] + b * co + (z * a - x * c) * si + y * along,
        g[ROLL_Z] + c * co + (x * b - y * a) * si + z * along,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def forward(g: Array, q: Array) -> tuple[float, float, float, float, float]:
    """x, y, z (m) of the guided point, tilt and heading (rad) for joints q (≥ 5,): pan … roll first.

    The heading is the direction, seen from above, in which the gripper opens (exact when the tilt is zero).
    """
    pan = g[PAN_SIGN] * q[0]
    b1 = g[PITCH_SIGN_1] * q[1]
    b2 = b1 + g[PITCH_SIGN_2] * q[2]
    b3 = b2 + g[PITCH_SIGN_3] * q[3]
    wr, wl, wz = _wrist_to_point(g, q[4])
    c, s = math.cos(b3), math.sin(b3)
    r = g[SHOULDER_R] + g[UPPER_LENGTH] * math.cos(g[UPPER_ANGLE] - b1)
    r += g[LOWER_LENGTH] * math.cos(g[LOWER_ANGLE] - b2) + wr * c + wz * s
    z = g[SHOULDER_Z] + g[UPPER_LENGTH] * math.sin(g[UPPER_ANGLE] - b1)
    z += g[LOWER_LENGTH] * math.sin(g[LOWER_ANGLE] - b2) - wr * s + wz * c
    lateral = g[LATERAL] + wl
    angle = pan + g[PAN_ZERO]
    x = g[AXIS_X] + r * math.cos(angle) - lateral * math.sin(angle)
    y = g[AXIS_Y] + r * math.sin(angle) + lateral * math.cos(angle)
    heading = wrapped(angle + g[HEADING_ZERO] + g[HEADING_SIGN] * q[4])
    return x, y, z, g[DOWN] - b3, heading


@njit(cache=True, nogil=True, error_model="numpy")
def pan_angle(g: Array, x: float, y: float, roll: float) -> float:
    """Direction (rad, from the base's x axis) of the arm plane that brings the guided point over (x, y)."""
    lateral = g[LATERAL] + _wrist_to_point(g, roll)[1]
    dx, dy = x - g[AXIS_X], y - g[AXIS_Y]
    along = math.sqrt(max(dx * dx + dy * dy - lateral * lateral, 1e-8))
    return math.atan2(dy, dx) - math.atan2(lateral, along)


@njit(cache=True, nogil=True, error_model="numpy")
def roll_for_heading(g: Array, x: float, y: float, heading: float, period: float, near: float) -> float:
    """The roll (rad) that makes the gripper open along `heading` above (x, y).

    Headings `period` apart are as good (π/2 for a cube, 2π in general); the roll nearest to `near` is taken.
    """
    roll = near
    turns = 0.0
    # The guided point lies off the roll axis, so the pan depends a little on the roll: a contraction by ~0.05.
    for i in range(4):
        wanted = g[HEADING_SIGN] * (heading - pan_angle(g, x, y, roll) - g[HEADING_ZERO])
        if i == 0:
            turns = math.floor((wanted - near) / period + 0.5)
        roll = wanted - period * turns
    return roll


@njit(cache=True, nogil=True, error_model="numpy")
def least_tilt(g: Array, x: float, y: float, z: float, roll: float, stretch: float) -> float:
    """The smallest outward tilt (rad, ≥ 0) with which the wrist is within `stretch` (m) of the shoulder.

    Zero where the arm can point straight down. The wrist lies on a circle around the point; where that circle
    meets the one of radius `stretch` around the shoulder follows from the law of cosines.
    """
    wr, wl, wz = _wrist_to_point(g, roll)
    lateral = g[LATERAL] + wl
    dx, dy = x - g[AXIS_X], y - g[AXIS_Y]
    r = math.sqrt(max(dx * dx + dy * dy - lateral * lateral, 1e-8))
    pr, pz = r - g[SHOULDER_R], z - g[SHOULDER_Z]
    distance = math.hypot(pr, pz)
    length = math.hypot(wr, wz)
    # Direction point → wrist when pointing straight down, as an angle in the (ρ, z) plane.
    straight = math.atan2(wz, wr) - g[DOWN] + math.pi
    cosine = (distance * distance + length * length - stretch * stretch) / (2 * distance * length)
    # Angle of that direction which just reaches: measured from point → shoulder, wrist above the line.
    reach = math.acos(min(1.0, max(-1.0, cosine)))
    limit = math.atan2(-pz, -pr) - reach
    return max(0.0, wrapped(straight - limit) * -1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def inverse(
    g: Array, x: float, y: float, z: float, tilt: float, roll: float, lower: Array, upper: Array, out: Array
) -> float:
    """Joints (≥ 5,) that bring the guided point to (x, y, z) with this tilt and roll: fills out[:5].

    Returns how far the target is out of reach, m: 0 when it is met (before the joint limits are applied).
    """
    wr, wl, wz = _wrist_to_point(g, roll)
    lateral = g[LATERAL] + wl
    dx, dy = x - g[AXIS_X], y - g[AXIS_Y]
    r = math.sqrt(max(dx * dx + dy * dy - lateral * lateral, 1e-8))
    pan = math.atan2(dy, dx) - math.atan2(lateral, r)
    b3 = g[DOWN] - tilt
    c, s = math.cos(b3), math.sin(b3)
    # From the shoulder to the wrist.
    dr = r - g[SHOULDER_R] - (wr * c + wz * s)
    dz = z - g[SHOULDER_Z] - (-wr * s + wz * c)
    upper_length, lower_length = g[UPPER_LENGTH], g[LOWER_LENGTH]
    distance = math.hypot(dr, dz)
    longest, shortest = 0.9999 * (upper_length + lower_length), 1.0001 * abs(upper_length - lower_length)
    within = min(max(distance, shortest), longest)
    direction = math.atan2(dz, dr)
    cosine = (upper_length**2 + within**2 - lower_length**2) / (2 * upper_length * within)
    shoulder = direction + math.acos(min(1.0, max(-1.0, cosine)))  # elbow up
    elbow_r, elbow_z = upper_length * math.cos(shoulder), upper_length * math.sin(shoulder)
    forearm = math.atan2(within * math.sin(direction) - elbow_z, within * math.cos(direction) - elbow_r)
    b1 = wrapped(g[UPPER_ANGLE] - shoulder)
    b2 = b1 + wrapped(g[LOWER_ANGLE] - forearm - b1)
    out[0] = g[PAN_SIGN] * wrapped(pan - g[PAN_ZERO])
    out[1] = g[PITCH_SIGN_1] * b1
    out[2] = g[PITCH_SIGN_2] * (b2 - b1)
    out[3] = g[PITCH_SIGN_3] * wrapped(b3 - b2)
    out[4] = roll
    for j in range(5):
        out[j] = min(max(out[j], lower[j] + MARGIN), upper[j] - MARGIN)
    return abs(distance - within)
