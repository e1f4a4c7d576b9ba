"""Mass matrix and bias forces of an arm, compiled.

    M(q) q̈ + h(q, q̇) = τ        h: Coriolis, centrifugal and gravity terms

M comes from the composite-rigid-body algorithm, h from recursive Newton–Euler (R. Featherstone, "Rigid Body
Dynamics Algorithms", Springer 2008, chapters 5 and 6), both written in base-frame coordinates at the base's
origin: there, wrenches and inertias of a subtree add up without transformations. The inertial parameters are an
argument, so a payload or a randomized link needs no new model; so is gravity, so a tilted base is a tilted
vector. Armature (rotor inertia) is the servo's and not in M.
"""

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit, prange
from sim2real.errors import UserError
from sim2real.model.kinematics import link_poses_into, writable
from sim2real.urdf import ArmModel

Array = NDArray[np.float64]

GRAVITY = 9.81
"""m/s², the nominal value."""

WORK_COLUMNS = 46
"""Columns of the scratch array of `mass_and_bias_into`: one row per link."""

INVERSE_COLUMNS = 24
"""Columns of the scratch array of `inverse_dynamics_into`: one row per link."""


def workspace(links: int) -> tuple[Array, Array, Array]:
    """Scratch for `mass_and_bias_into`: rotations (L, 3, 3), origins (L, 3), work (L, WORK_COLUMNS)."""
    return np.zeros((links, 3, 3)), np.zeros((links, 3)), np.zeros((links, WORK_COLUMNS))


@njit(cache=True, nogil=True, error_model="numpy")
def mass_and_bias_into(
    chain: Array, inertials: Array, q: Array, qd: Array, gravity: Array,
    rotations: Array, origins: Array, work: Array, mass: Array, bias: Array,
) -> None:  # fmt: skip
    """Fill `mass` (n, n) kg·m² and `bias` (n,) N·m for one state; the rest is scratch from `workspace`.

    `chain` (L, 20) and `inertials` (L, 10) as in `ArmModel`; `gravity` (3,) m/s² in the base frame, pointing down.
    Afterwards `rotations` and `origins` hold the links' poses. Links that follow a joint count for that joint: with
    link velocities G q̇, M = Gᵀ M_L G and h = Gᵀ h_L of the tree with L free links (G is constant).
    """
    n, links = q.shape[0], chain.shape[0]
    link_poses_into(chain, q, rotations, origins)
    for i in range(links):
        _outward(chain, i, qd, gravity, rotations[i], origins[i], work)
        _spatial_inertia(inertials[i], rotations[i], origins[i], work[i])
        _wrench(work[i])
    for i in range(n):
        bias[i] = 0.0
        for j in range(n):
            mass[i, j] = 0.0
    for i in range(links - 1, -1, -1):
        _inward(chain, i, work, mass, bias)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _outward(chain: Array, i: int, qd: Array, gravity: Array, r: Array, origin: Array, work: Array) -> None:
    """Axis (columns 0–5 of `work`), velocity (6–11) and acceleration for q̈ = 0 (12–17) of link i, after its parent's.

    Spatial vectors at the base origin, the angular part first; `r` (3, 3) and `origin` (3,) m are the link's pose.
    """
    w = work[i]
    parent = int(chain[i, 0])
    x = r[0, 0] * chain[i, 14] + r[0, 1] * chain[i, 15] + r[0, 2] * chain[i, 16]
    y = r[1, 0] * chain[i, 14] + r[1, 1] * chain[i, 15] + r[1, 2] * chain[i, 16]
    z = r[2, 0] * chain[i, 14] + r[2, 1] * chain[i, 15] + r[2, 2] * chain[i, 16]
    p0, p1, p2 = origin[0], origin[1], origin[2]
    # A line through the origin where the joint turns, a direction where it slides.
    if chain[i, 1] != 0.0:
        w[0], w[1], w[2], w[3], w[4], w[5] = 0.0, 0.0, 0.0, x, y, z
    else:
        w[0], w[1], w[2] = x, y, z
        w[3], w[4], w[5] = p1 * z - p2 * y, p2 * x - p0 * z, p0 * y - p1 * x
    # The base accelerates against gravity.
    d = chain[i, 18] * qd[int(chain[i, 17])]
    if parent < 0:
        for k in range(6):
            w[6 + k] = w[k] * d
            w[12 + k] = 0.0
        w[15], w[16], w[17] = -gravity[0], -gravity[1], -gravity[2]
    else:
        u = work[parent]
        for k in range(6):
            w[6 + k] = u[6 + k] + w[k] * d
            w[12 + k] = u[12 + k]
        # v × S q̇ (spatial cross product); v of the parent does, as S × S = 0.
        a0, a1, a2, b0, b1, b2 = u[6], u[7], u[8], u[9], u[10], u[11]
        w[12] += (a1 * w[2] - a2 * w[1]) * d
        w[13] += (a2 * w[0] - a0 * w[2]) * d
        w[14] += (a0 * w[1] - a1 * w[0]) * d
        w[15] += (a1 * w[5] - a2 * w[4] + b1 * w[2] - b2 * w[1]) * d
        w[16] += (a2 * w[3] - a0 * w[5] + b2 * w[0] - b0 * w[2]) * d
        w[17] += (a0 * w[4] - a1 * w[3] + b0 * w[1] - b1 * w[0]) * d


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _spatial_inertia(inertial: Array, r: Array, origin: Array, w: Array) -> None:
    """Inertia of a link at the base origin from its own `inertial` (10,), into columns 18–27 of its row `w`.

    Mass 18, first moment 19–21, second moment 22–27 (xx, yy, zz, xy, xz, yz).
    """
    p0, p1, p2 = origin[0], origin[1], origin[2]
    m = inertial[0]
    cx, cy, cz = inertial[1], inertial[2], inertial[3]
    c0 = p0 + r[0, 0] * cx + r[0, 1] * cy + r[0, 2] * cz
    c1 = p1 + r[1, 0] * cx + r[1, 1] * cy + r[1, 2] * cz
    c2 = p2 + r[2, 0] * cx + r[2, 1] * cy + r[2, 2] * cz
    ixx, iyy, izz = inertial[4], inertial[5], inertial[6]
    ixy, ixz, iyz = inertial[7], inertial[8], inertial[9]
    # R I Rᵀ
    t00 = r[0, 0] * ixx + r[0, 1] * ixy + r[0, 2] * ixz
    t01 = r[0, 0] * ixy + r[0, 1] * iyy + r[0, 2] * iyz
    t02 = r[0, 0] * ixz + r[0, 1] * iyz + r[0, 2] * izz
    t10 = r[1, 0] * ixx + r[1, 1] * ixy + r[1, 2] * ixz
    t11 = r[1, 0] * ixy + r[1, 1] * iyy + r[1, 2] * iyz
    t12 = r[1, 0] * ixz + r[1, 1] * iyz + r[1, 2] * izz
    t20 = r[2, 0] * ixx + r[2, 1] * ixy + r[2, 2] * ixz
    t21 = r[2, 0] * ixy + r[2, 1] * iyy + r[2, 2] * iyz
    t22 = r[2, 0] * ixz + r[2, 1] * iyz + r[2, 2] * izz
    w[18], w[19], w[20], w[21] = m, m * c0, m * c1, m * c2
    w[22] = t00 * r[0, 0] + t01 * r[0, 1] + t02 * r[0, 2] + m * (c1 * c1 + c2 * c2)
    w[23] = t10 * r[1, 0] + t11 * r[1, 1] + t12 * r[1, 2] + m * (c0 * c0 + c2 * c2)
    w[24] = t20 * r[2, 0] + t21 * r[2, 1] + t22 * r[2, 2] + m * (c0 * c0 + c1 * c1)
    w[25] = t00 * r[1, 0] + t01 * r[1, 1] + t02 * r[1, 2] - m * c0 * c1
    w[26] = t00 * r[2, 0] + t01 * r[2, 1] + t02 * r[2, 2] - m * c0 * c2
    w[27] = t10 * r[2, 0] + t11 * r[2, 1] + t12 * r[2, 2] - m * c1 * c2


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _wrench(w: Array) -> None:
    """Wrench I a + v ×* I v that moves a link as its row `w` says, into columns 28–33; its momentum is 34–39."""
    _momentum(w, 12, w, 28)
    _momentum(w, 6, w, 34)
    v0, v1, v2, u0, u1, u2 = w[6], w[7], w[8], w[9], w[10], w[11]
    l0, l1, l2, f0, f1, f2 = w[34], w[35], w[36], w[37], w[38], w[39]
    w[28] += v1 * l2 - v2 * l1 + u1 * f2 - u2 * f1
    w[29] += v2 * l0 - v0 * l2 + u2 * f0 - u0 * f2
    w[30] += v0 * l1 - v1 * l0 + u0 * f1 - u1 * f0
    w[31] += v1 * f2 - v2 * f1
    w[32] += v2 * f0 - v0 * f2
    w[33] += v0 * f1 - v1 * f0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _inward(chain: Array, i: int, work: Array, mass: Array, bias: Array) -> None:
    """Add link i, whose row holds its subtree, to its parent's row, to `bias`, and to `mass` for all joints before."""
    w = work[i]
    parent = int(chain[i, 0])
    if parent >= 0:
        u = work[parent]
        for k in range(18, 34):
            u[k] += w[k]
    a, share = int(chain[i, 17]), chain[i, 18]
    bias[a] += share * (
        w[0] * w[28] + w[1] * w[29] + w[2] * w[30] + w[3] * w[31] + w[4] * w[32] + w[5] * w[33]
    )
    # Force on the subtree when only link i accelerates; projected on the axes that carry it.
    _momentum(w, 0, w, 40)
    j = i
    while j >= 0:
        s = work[j]
        value = (
            s[0] * w[40] + s[1] * w[41] + s[2] * w[42] + s[3] * w[43] + s[4] * w[44] + s[5] * w[45]
        )  # fmt: skip
        value *= share * chain[j, 18]
        b = int(chain[j, 17])
        mass[a, b] += value
        if j != i:
            mass[b, a] += value
        j = int(chain[j, 0])


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _momentum(w: Array, motion: int, out: Array, at: int) -> None:
    """out[at:at+6] = inertia w[18:28] times the spatial motion w[motion:motion+6] (angular first)."""
    a0, a1, a2 = w[motion], w[motion + 1], w[motion + 2]
    v0, v1, v2 = w[motion + 3], w[motion + 4], w[motion + 5]
    m, h0, h1, h2 = w[18], w[19], w[20], w[21]
    out[at] = w[22] * a0 + w[25] * a1 + w[26] * a2 + h1 * v2 - h2 * v1
    out[at + 1] = w[25] * a0 + w[23] * a1 + w[27] * a2 + h2 * v0 - h0 * v2
    out[at + 2] = w[26] * a0 + w[27] * a1 + w[24] * a2 + h0 * v1 - h1 * v0
    out[at + 3] = m * v0 - h1 * a2 + h2 * a1
    out[at + 4] = m * v1 - h2 * a0 + h0 * a2
    out[at + 5] = m * v2 - h0 * a1 + h1 * a0


@njit(cache=True, nogil=True, error_model="numpy")
def inverse_dynamics_into(
    chain: Array, inertials: Array, qd: Array, qdd: Array, gravity: float,
    rotations: Array, origins: Array, work: Array, torque: Array,
) -> None:  # fmt: skip
    """Fill `torque` (n,) N·m, M q̈ + h, for the links' poses `rotations` (L, 3, 3) and `origins` (L, 3).

    Newton–Euler with forces about the links' own origins. `gravity` m/s² points down; `work` (L, INVERSE_COLUMNS).
    """
    links = chain.shape[0]
    for i in range(links):
        w = work[i]
        r, o = rotations[i], origins[i]
        parent = int(chain[i, 0])
        x = r[0, 0] * chain[i, 14] + r[0, 1] * chain[i, 15] + r[0, 2] * chain[i, 16]
        y = r[1, 0] * chain[i, 14] + r[1, 1] * chain[i, 15] + r[1, 2] * chain[i, 16]
        z = r[2, 0] * chain[i, 14] + r[2, 1] * chain[i, 15] + r[2, 2] * chain[i, 16]
        # Angular velocity 0–2 and acceleration 3–5, acceleration of the origin 6–8, joint axis 9–11.
        w[9], w[10], w[11] = x, y, z
        j, share = int(chain[i, 17]), chain[i, 18]
        d, dd = share * qd[j], share * qdd[j]
        if parent < 0:
            for k in range(8):
                w[k] = 0.0
            w[8] = gravity
            a0, a1, a2 = 0.0, 0.0, 0.0
        else:
            u, p = work[parent], origins[parent]
            for k in range(6):
                w[k] = u[k]
            d0, d1, d2 = o[0] - p[0], o[1] - p[1], o[2] - p[2]
            # ω × d, and with it α × d + ω × (ω × d).
            c0, c1, c2 = u[1] * d2 - u[2] * d1, u[2] * d0 - u[0] * d2, u[0] * d1 - u[1] * d0
            w[6] = u[6] + u[4] * d2 - u[5] * d1 + u[1] * c2 - u[2] * c1
            w[7] = u[7] + u[5] * d0 - u[3] * d2 + u[2] * c0 - u[0] * c2
            w[8] = u[8] + u[3] * d1 - u[4] * d0 + u[0] * c1 - u[1] * c0
            a0, a1, a2 = u[0], u[1], u[2]
        if chain[i, 1] != 0.0:
            w[6] += x * dd + 2.0 * d * (a1 * z - a2 * y)
            w[7] += y * dd + 2.0 * d * (a2 * x - a0 * z)
            w[8] += z * dd + 2.0 * d * (a0 * y - a1 * x)
        else:
            w[3] += x * dd + d * (a1 * z - a2 * y)
            w[4] += y * dd + d * (a2 * x - a0 * z)
            w[5] += z * dd + d * (a0 * y - a1 * x)
            w[0] += x * d
            w[1] += y * d
            w[2] += z * d
        # Force 12–14 on the link and moment 15–17 about its origin.
        m = inertials[i, 0]
        c0 = r[0, 0] * inertials[i, 1] + r[0, 1] * inertials[i, 2] + r[0, 2] * inertials[i, 3]
        c1 = r[1, 0] * inertials[i, 1] + r[1, 1] * inertials[i, 2] + r[1, 2] * inertials[i, 3]
        c2 = r[2, 0] * inertials[i, 1] + r[2, 1] * inertials[i, 2] + r[2, 2] * inertials[i, 3]
        v0, v1, v2, b0, b1, b2 = w[0], w[1], w[2], w[3], w[4], w[5]
        s0, s1, s2 = v1 * c2 - v2 * c1, v2 * c0 - v0 * c2, v0 * c1 - v1 * c0
        f0 = m * (w[6] + b1 * c2 - b2 * c1 + v1 * s2 - v2 * s1)
        f1 = m * (w[7] + b2 * c0 - b0 * c2 + v2 * s0 - v0 * s2)
        f2 = m * (w[8] + b0 * c1 - b1 * c0 + v0 * s1 - v1 * s0)
        _turned(r, inertials[i], v0, v1, v2, w, 18)
        _turned(r, inertials[i], b0, b1, b2, w, 21)
        w[12], w[13], w[14] = f0, f1, f2
        w[15] = w[21] + v1 * w[20] - v2 * w[19] + c1 * f2 - c2 * f1
        w[16] = w[22] + v2 * w[18] - v0 * w[20] + c2 * f0 - c0 * f2
        w[17] = w[23] + v0 * w[19] - v1 * w[18] + c0 * f1 - c1 * f0
    torque[:] = 0.0
    for i in range(links - 1, -1, -1):
        w = work[i]
        at = 12 if chain[i, 1] != 0.0 else 15
        torque[int(chain[i, 17])] += chain[i, 18] * (w[9] * w[at] + w[10] * w[at + 1] + w[11] * w[at + 2])
        parent = int(chain[i, 0])
        if parent >= 0:
            u, o, p = work[parent], origins[i], origins[parent]
            d0, d1, d2 = o[0] - p[0], o[1] - p[1], o[2] - p[2]
            for k in range(12, 18):
                u[k] += w[k]
            u[15] += d1 * w[14] - d2 * w[13]
            u[16] += d2 * w[12] - d0 * w[14]
            u[17] += d0 * w[13] - d1 * w[12]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _turned(r: Array, inertial: Array, x: float, y: float, z: float, out: Array, at: int) -> None:
    """out[at:at+3] = R I Rᵀ times the vector, I the inertia about the centre of mass."""
    a = r[0, 0] * x + r[1, 0] * y + r[2, 0] * z
    b = r[0, 1] * x + r[1, 1] * y + r[2, 1] * z
    c = r[0, 2] * x + r[1, 2] * y + r[2, 2] * z
    s = inertial[4] * a + inertial[7] * b + inertial[8] * c
    t = inertial[7] * a + inertial[5] * b + inertial[9] * c
    u = inertial[8] * a + inertial[9] * b + inertial[6] * c
    for k in range(3):
        out[at + k] = r[k, 0] * s + r[k, 1] * t + r[k, 2] * u


@njit(cache=True, nogil=True, error_model="numpy")
def _single(chain: Array, inertials: Array, q: Array, qd: Array, gravity: Array) -> tuple[Array, Array]:
    n, links = q.shape[0], chain.shape[0]
    mass, bias = np.empty((n, n)), np.empty(n)
    mass_and_bias_into(
        chain, inertials, q, qd, gravity,
        np.empty((links, 3, 3)), np.empty((links, 3)), np.empty((links, WORK_COLUMNS)), mass, bias,
    )  # fmt: skip
    return mass, bias


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _batch(chain: Array, inertials: Array, q: Array, qd: Array, gravity: Array) -> tuple[Array, Array]:
    count, n = q.shape
    links = chain.shape[0]
    mass, bias = np.empty((count, n, n)), np.empty((count, n))
    shared = len(inertials) == 1
    for k in prange(count):
        mass_and_bias_into(
            chain, inertials[0] if shared else inertials[k], q[k], qd[k], gravity,
            np.empty((links, 3, 3)), np.empty((links, 3)), np.empty((links, WORK_COLUMNS)), mass[k], bias[k],
        )  # fmt: skip
    return mass, bias


def gravity_vector(gravity: float = GRAVITY, tilt_x: float = 0.0, tilt_y: float = 0.0) -> Array:
    """(3,) m/s² in the frame of a base tilted by `tilt_x`, then `tilt_y` rad about its own x and y axes."""
    # The base's axes in the world are Rx(tilt_x) Ry(tilt_y); gravity in the base is its transpose times −g z.
    cx, sx, cy, sy = np.cos(tilt_x), np.sin(tilt_x), np.cos(tilt_y), np.sin(tilt_y)
    return -gravity * np.array([-cx * sy, sx, cx * cy])


def mass_and_bias(
    model: ArmModel, q: Array, qd: Array, *, inertials: Array | None = None, gravity: Array | None = None
) -> tuple[Array, Array]:
    """Mass matrix (n, n) kg·m² and bias h (n,) N·m at `q`, `qd` (n,); or batches of B: (B, n, n) and (B, n).

    `inertials`: (L, 10), or (B, L, 10) for a set of its own per state; default the model's. `gravity` (3,) m/s²
    in the base frame, default (0, 0, −9.81).
    """
    inertials = model.inertials if inertials is None else np.ascontiguousarray(inertials, dtype=np.float64)
    gravity = gravity_vector() if gravity is None else np.asarray(gravity, dtype=np.float64)
    q, qd = writable(q), writable(qd)
    if q.shape != qd.shape or q.shape[-1] != model.n or q.ndim > 2:
        raise UserError(f"q and qd must be ({model.n},) or (B, {model.n}), got {q.shape} and {qd.shape}")
    if q.ndim == 1:
        return _single(model.chain, inertials, q, qd, gravity)  # type: ignore[no-any-return]
    if inertials.ndim == 2:
        inertials = inertials[None]
    if inertials.shape[0] not in (1, len(q)):
        raise UserError(
            f"mass_and_bias takes 1 or {len(q)} sets of inertial parameters, got {inertials.shape[0]}"
        )
    return _batch(model.chain, inertials, q, qd, gravity)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, error_model="numpy")
def add_point_mass(inertials: Array, link: int, mass: float, position: Array) -> None:
    """Add a point `mass` kg at `position` (3,) m in the frame of `link` to `inertials` (L, 10), in place."""
    old = inertials[link, 0]
    total = old + mass
    if total <= 0.0:
        return
    reduced = old * mass / total
    d0, d1, d2 = (
        position[0] - inertials[link, 1],
        position[1] - inertials[link, 2],
        position[2] - inertials[link, 3],
    )
    inertials[link, 0] = total
    inertials[link, 1] += d0 * mass / total
    inertials[link, 2] += d1 * mass / total
    inertials[link, 3] += d2 * mass / total
    inertials[link, 4] += reduced * (d1 * d1 + d2 * d2)
    inertials[link, 5] += reduced * (d0 * d0 + d2 * d2)
    inertials[link, 6] += reduced * (d0 * d0 + d1 * d1)
    inertials[link, 7] -= reduced * d0 * d1
    inertials[link, 8] -= reduced * d0 * d2
    inertials[link, 9] -= reduced * d1 * d2
