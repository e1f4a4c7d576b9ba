"""Forward kinematics, Jacobian and inverse kinematics of an arm, compiled.

All poses are in the base frame (the URDF's root link); n joints move L links, see `ArmModel`. `link_poses`,
`tool_pose` and `tool_jacobian` take an `ArmModel` and one joint vector. Compiled callers use the functions with a
trailing `_into`, which allocate nothing. `inverse` is a damped least-squares solver (Levenberg–Marquardt with joints
held at their limits).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.urdf import ArmModel

Array = NDArray[np.float64]


@njit(cache=True, nogil=True, error_model="numpy")
def link_poses_into(chain: Array, q: Array, rotations: Array, origins: Array) -> None:
    """Fill `rotations` (L, 3, 3) and `origins` (L, 3) with the links' poses in the base frame; `q` (n,)."""
    for i in range(chain.shape[0]):
        position = chain[i, 18] * q[int(chain[i, 17])] + chain[i, 19]
        parent = int(chain[i, 0])
        x, y, z = chain[i, 14], chain[i, 15], chain[i, 16]
        # The joint frame in the base frame, before the joint moves.
        if parent < 0:
            f00, f01, f02 = chain[i, 2], chain[i, 3], chain[i, 4]
            f10, f11, f12 = chain[i, 5], chain[i, 6], chain[i, 7]
            f20, f21, f22 = chain[i, 8], chain[i, 9], chain[i, 10]
            p0, p1, p2 = chain[i, 11], chain[i, 12], chain[i, 13]
        else:
            r = rotations[parent]
            f00 = r[0, 0] * chain[i, 2] + r[0, 1] * chain[i, 5] + r[0, 2] * chain[i, 8]
            f01 = r[0, 0] * chain[i, 3] + r[0, 1] * chain[i, 6] + r[0, 2] * chain[i, 9]
            f02 = r[0, 0] * chain[i, 4] + r[0, 1] * chain[i, 7] + r[0, 2] * chain[i, 10]
            f10 = r[1, 0] * chain[i, 2] + r[1, 1] * chain[i, 5] + r[1, 2] * chain[i, 8]
            f11 = r[1, 0] * chain[i, 3] + r[1, 1] * chain[i, 6] + r[1, 2] * chain[i, 9]
            f12 = r[1, 0] * chain[i, 4] + r[1, 1] * chain[i, 7] + r[1, 2] * chain[i, 10]
            f20 = r[2, 0] * chain[i, 2] + r[2, 1] * chain[i, 5] + r[2, 2] * chain[i, 8]
            f21 = r[2, 0] * chain[i, 3] + r[2, 1] * chain[i, 6] + r[2, 2] * chain[i, 9]
            f22 = r[2, 0] * chain[i, 4] + r[2, 1] * chain[i, 7] + r[2, 2] * chain[i, 10]
            p = origins[parent]
            p0 = p[0] + r[0, 0] * chain[i, 11] + r[0, 1] * chain[i, 12] + r[0, 2] * chain[i, 13]
            p1 = p[1] + r[1, 0] * chain[i, 11] + r[1, 1] * chain[i, 12] + r[1, 2] * chain[i, 13]
            p2 = p[2] + r[2, 0] * chain[i, 11] + r[2, 1] * chain[i, 12] + r[2, 2] * chain[i, 13]
        o = rotations[i]
        if chain[i, 1] != 0.0:
            o[0, 0], o[0, 1], o[0, 2] = f00, f01, f02
            o[1, 0], o[1, 1], o[1, 2] = f10, f11, f12
            o[2, 0], o[2, 1], o[2, 2] = f20, f21, f22
            p0 += position * (f00 * x + f01 * y + f02 * z)
            p1 += position * (f10 * x + f11 * y + f12 * z)
            p2 += position * (f20 * x + f21 * y + f22 * z)
        else:
            # Rodrigues' formula about the joint's axis.
            c, s = math.cos(position), math.sin(position)
            v = 1.0 - c
            a00, a01, a02 = c + x * x * v, x * y * v - z * s, x * z * v + y * s
            a10, a11, a12 = y * x * v + z * s, c + y * y * v, y * z * v - x * s
            a20, a21, a22 = z * x * v - y * s, z * y * v + x * s, c + z * z * v
            o[0, 0] = f00 * a00 + f01 * a10 + f02 * a20
            o[0, 1] = f00 * a01 + f01 * a11 + f02 * a21
            o[0, 2] = f00 * a02 + f01 * a12 + f02 * a22
            o[1, 0] = f10 * a00 + f11 * a10 + f12 * a20
            o[1, 1] = f10 * a01 + f11 * a11 + f12 * a21
            o[1, 2] = f10 * a02 + f11 * a12 + f12 * a22
            o[2, 0] = f20 * a00 + f21 * a10 + f22 * a20
            o[2, 1] = f20 * a01 + f21 * a11 + f22 * a21
            o[2, 2] = f20 * a02 + f21 * a12 + f22 * a22
        origins[i, 0], origins[i, 1], origins[i, 2] = p0, p1, p2


@njit(cache=True, nogil=True, error_model="numpy")
def tool_pose_into(tool: Array, rotations: Array, origins: Array, rotation: Array, position: Array) -> None:
    """Fill the tool's `rotation` (3, 3) and `position` (3,) from the poses of the links."""
    link = int(tool[0])
    for row in range(3):
        position[row] = origins[link, row]
        for k in range(3):
            position[row] += rotations[link, row, k] * tool[10 + k]
        for column in range(3):
            rotation[row, column] = 0.0
            for k in range(3):
                rotation[row, column] += rotations[link, row, k] * tool[1 + 3 * k + column]


@njit(cache=True, nogil=True, error_model="numpy")
def tool_jacobian_into(
    chain: Array, tool: Array, rotations: Array, origins: Array, position: Array, jacobian: Array
) -> None:
    """Fill `jacobian` (6, n): the tool's linear (rows 0–2) and angular (rows 3–5) velocity per joint velocity."""
    jacobian[:] = 0.0
    i = int(tool[0])
    while i >= 0:
        r = rotations[i]
        x = r[0, 0] * chain[i, 14] + r[0, 1] * chain[i, 15] + r[0, 2] * chain[i, 16]
        y = r[1, 0] * chain[i, 14] + r[1, 1] * chain[i, 15] + r[1, 2] * chain[i, 16]
        z = r[2, 0] * chain[i, 14] + r[2, 1] * chain[i, 15] + r[2, 2] * chain[i, 16]
        j = int(chain[i, 17])
        x, y, z = chain[i, 18] * x, chain[i, 18] * y, chain[i, 18] * z
        if chain[i, 1] != 0.0:
            jacobian[0, j] += x
            jacobian[1, j] += y
            jacobian[2, j] += z
        else:
            d0, d1, d2 = position[0] - origins[i, 0], position[1] - origins[i, 1], position[2] - origins[i, 2]
            jacobian[0, j] += y * d2 - z * d1
            jacobian[1, j] += z * d0 - x * d2
            jacobian[2, j] += x * d1 - y * d0
            jacobian[3, j] += x
            jacobian[4, j] += y
            jacobian[5, j] += z
        i = int(chain[i, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def _tool_pose(chain: Array, tool: Array, q: Array) -> tuple[Array, Array]:
    links = chain.shape[0]
    rotations, origins = np.empty((links, 3, 3)), np.empty((links, 3))
    link_poses_into(chain, q, rotations, origins)
    rotation, position = np.empty((3, 3)), np.empty(3)
    tool_pose_into(tool, rotations, origins, rotation, position)
    return position, rotation


@njit(cache=True, nogil=True, error_model="numpy")
def _tool_jacobian(chain: Array, tool: Array, q: Array) -> Array:
    links = chain.shape[0]
    rotations, origins = np.empty((links, 3, 3)), np.empty((links, 3))
    link_poses_into(chain, q, rotations, origins)
    rotation, position = np.empty((3, 3)), np.empty(3)
    tool_pose_into(tool, rotations, origins, rotation, position)
    jacobian = np.empty((6, q.shape[0]))
    tool_jacobian_into(chain, tool, rotations, origins, position, jacobian)
    return jacobian


def writable(q: Array) -> Array:
    """`q` as a contiguous array that is not read-only: a read-only one would be compiled for a second time."""
    q = np.ascontiguousarray(q, dtype=np.float64)
    return q if q.flags.writeable else q.copy()


def tool_pose(model: ArmModel, q: Array) -> tuple[Array, Array]:
    """Position (3,) m and rotation (3, 3) of the tool frame in the base frame; `q` (n,) rad."""
    return _tool_pose(model.chain, model.tool, writable(q))  # type: ignore[no-any-return]


def tool_position(model: ArmModel, q: Array) -> Array:
    """Position (3,) m of the tool frame in the base frame; `q` (n,) rad."""
    return _tool_pose(model.chain, model.tool, writable(q))[0]  # type: ignore[no-any-return]


def link_poses(model: ArmModel, q: Array) -> tuple[Array, Array]:
    """Rotations (L, 3, 3) and origins (L, 3) m of the links in the base frame; `q` (n,) rad."""
    rotations, origins = np.empty((model.links, 3, 3)), np.empty((model.links, 3))
    link_poses_into(model.chain, writable(q), rotations, origins)
    return rotations, origins


def tool_jacobian(model: ArmModel, q: Array) -> Array:
    """Geometric Jacobian (6, n) of the tool origin: linear velocity in rows 0–2, angular in rows 3–5."""
    return _tool_jacobian(model.chain, model.tool, writable(q))  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, error_model="numpy")
def _tool_positions(chain: Array, tool: Array, q: Array) -> Array:
    positions = np.empty((len(q), 3))
    for k in range(len(q)):
        positions[k] = _tool_pose(chain, tool, q[k])[0]
    return positions


@lru_cache(maxsize=32)
def tool_span(model: ArmModel) -> float:
    """How far, m, the tool gets from the base's z axis above the table: of random poses all but one in a hundred stay
    within. It says how large an arm is, whatever its joints are."""
    rng = np.random.default_rng(0)
    q = rng.uniform(model.lower, model.upper, (4000, model.n))
    places = _tool_positions(model.chain, model.tool, q)
    above = places[places[:, 2] >= 0.0]
    if not len(above):
        above = places
    return float(np.quantile(np.hypot(above[:, 0], above[:, 1]), 0.99))


@dataclass(frozen=True, eq=False)
class InverseResult:
    """A joint vector and how well it does."""

    q: Array
    """(n,) rad, within the limits."""
    position_error: float
    """m between the tool and the position asked for."""
    angle_error: float
    """rad: the larger of the errors of approach direction and roll, 0 when neither was asked for."""
    iterations: int


ANGLE_WEIGHT = 0.05
"""m per rad: how much an error in direction counts against one in position."""
POLISH_WEIGHT = 0.002
"""m per rad in the last iterations, where position must win against a direction that cannot be had."""


@njit(cache=True, nogil=True, error_model="numpy")
def _residual(
    tool_rotation: Array, tool_position: Array, position: Array, approach: Array, heading: Array,
    axis: int, heading_axis: int, weights: Array, out: Array,
) -> float:  # fmt: skip
    total = 0.0
    for k in range(3):
        out[k] = tool_position[k] - position[k]
        out[3 + k] = weights[0] * (tool_rotation[k, axis] - approach[k])
        out[6 + k] = weights[1] * (tool_rotation[k, heading_axis] - heading[k])
    for k in range(9):
        total += out[k] * out[k]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(
    chain: Array, tool: Array, start: Array, lower: Array, upper: Array, free: Array, position: Array,
    approach: Array, heading: Array, axis: int, heading_axis: int, use_approach: bool, use_heading: bool,
    iterations: int, polish: int,
) -> tuple[Array, int]:  # fmt: skip
    n, links = start.shape[0], chain.shape[0]
    rotations, origins = np.empty((links, 3, 3)), np.empty((links, 3))
    rotation, at = np.empty((3, 3)), np.empty(3)
    jacobian, full = np.empty((6, n)), np.zeros((9, n))
    residual, trial = np.empty(9), np.empty(9)
    weights = np.zeros(2)
    q = np.minimum(np.maximum(start, lower), upper)
    damping = 1e-4
    count = 0
    for step in range(iterations + polish):
        weight = ANGLE_WEIGHT if step < iterations else POLISH_WEIGHT
        weights[0] = weight if use_approach else 0.0
        weights[1] = weight if use_heading else 0.0
        count += 1
        link_poses_into(chain, q, rotations, origins)
        tool_pose_into(tool, rotations, origins, rotation, at)
        cost = _residual(rotation, at, position, approach, heading, axis, heading_axis, weights, residual)
        tool_jacobian_into(chain, tool, rotations, origins, at, jacobian)
        for j in range(n):
            w0, w1, w2 = jacobian[3, j], jacobian[4, j], jacobian[5, j]
            for k in range(3):
                full[k, j] = jacobian[k, j]
            for block in range(2):
                c = axis if block == 0 else heading_axis
                z0, z1, z2 = rotation[0, c], rotation[1, c], rotation[2, c]
                full[3 + 3 * block, j] = weights[block] * (w1 * z2 - w2 * z1)
                full[4 + 3 * block, j] = weights[block] * (w2 * z0 - w0 * z2)
                full[5 + 3 * block, j] = weights[block] * (w0 * z1 - w1 * z0)
        gradient = full.T @ residual
        for j in range(n):
            held = (q[j] <= lower[j] and gradient[j] > 0.0) or (q[j] >= upper[j] and gradient[j] < 0.0)
            if held or not free[j]:
                full[:, j] = 0.0
                gradient[j] = 0.0
        normal = full.T @ full
        improved = False
        for _ in range(6):
            damped = normal.copy()
            for j in range(n):
                damped[j, j] += damping * (normal[j, j] + 1e-3) + 1e-9
            candidate = np.minimum(np.maximum(q - np.linalg.solve(damped, gradient), lower), upper)
            link_poses_into(chain, candidate, rotations, origins)
            tool_pose_into(tool, rotations, origins, rotation, at)
            new_cost = _residual(
                rotation, at, position, approach, heading, axis, heading_axis, weights, trial
            )
            if new_cost < cost:
                improved = True
                break
            damping = min(damping * 10.0, 1e6)
        if improved:
            change = np.abs(candidate - q).max()
            q = candidate
            damping = max(damping * 0.1, 1e-9)
        if not improved or change < 1e-7:
            if step >= iterations:
                break
            # Converged with the full weight: go on to polishing.
            if not (use_approach or use_heading):
                break
            if step < iterations - 1:
                iterations = step + 1
            damping = 1e-4
    return q, count


def reference_heading(approach: Array, roll: float) -> Array:
    """(3,) direction at angle `roll` rad about `approach`, measured from the base's x axis.

    Angle zero is the base's x axis projected on the plane across `approach` (its z axis where they coincide).
    """
    start = np.array([1.0, 0.0, 0.0]) if abs(approach[0]) < 0.99 else np.array([0.0, 0.0, 1.0])
    first = start - (start @ approach) * approach
    first /= np.linalg.norm(first)
    heading: Array = math.cos(roll) * first + math.sin(roll) * np.cross(approach, first)
    return heading


def inverse(
    model: ArmModel,
    position: Array,
    *,
    start: Array,
    approach: Array | None = None,
    roll: float | None = None,
    axis: int = 2,
    heading_axis: int = 0,
    lower: Array | None = None,
    upper: Array | None = None,
    free: NDArray[np.bool_] | None = None,
    iterations: int = 60,
    polish: int = 10,
) -> InverseResult:
    """Joint vector that brings the tool to `position` (3,) m in the base frame, from the guess `start` (n,) rad.

    `approach` (3,) is the direction (any length) the tool's axis number `axis` (0–2: x, y, z) should have; `roll`
    rad the direction of its axis `heading_axis` about it (see `reference_heading`; needs `approach`). What cannot
    be had is approximated, position first. Joints stay within `lower`..`upper` (default: the URDF's), those not
    `free` (n,) keep the value of `start`. Local: the nearest solution to `start` is found, as a rule.

    Raises UserError when `roll` comes without `approach`, or a direction is zero.
    """
    use_approach, use_roll = approach is not None, roll is not None
    if use_roll and not use_approach:
        raise UserError("inverse kinematics: a roll angle needs an approach direction to turn about")
    if approach is None:
        direction = np.array([0.0, 0.0, -1.0])
    else:
        length = float(np.linalg.norm(approach))
        if not length > 0:
            raise UserError(f"inverse kinematics: the approach direction must not be zero, got {approach}")
        direction = np.asarray(approach, dtype=np.float64) / length
    heading = reference_heading(direction, roll if roll is not None else 0.0)
    q, count = _inverse(
        model.chain, model.tool, writable(start),
        writable(model.lower if lower is None else lower), writable(model.upper if upper is None else upper),
        np.ones(model.n, dtype=np.bool_) if free is None else free, writable(position),
        direction, heading, axis, heading_axis, use_approach, use_roll, iterations, polish,
    )  # fmt: skip
    at, rotation = tool_pose(model, q)
    angle = 0.0
    if use_approach:
        angle = _angle(rotation[:, axis], direction)
    if use_roll:
        angle = max(angle, _angle(rotation[:, heading_axis], heading))
    return InverseResult(q, float(np.linalg.norm(at - position)), angle, count)


def _angle(a: Array, b: Array) -> float:
    return math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))
