"""Which motion would tell most about an arm, given what is known of it already.

Candidates of three kinds start and end at rest at home, in free air and within the gate's limits:

- waves: a sum of a few sines per joint, slow or quick (friction against speed, delay, inertia);
- poses: out to a pose, a small step of each joint there, and back (gain, masses, offsets, friction under load);
- ramps: out to a pose, slow moves there and back again (dry friction, backlash), and back.

Each is simulated with the batched twin under the current belief and with every unknown changed a little; that gives
the information G = Σ JᵀJ/σ² it would add. The trajectory is chained from them greedily: always the candidate that
gains most log det(P⁻¹ + ΣG) per second (D-optimal design; V. Fedorov, "Theory of Optimal Experiments", 1972).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.identify import ArmModelFit
from pipelines.identification.logs import ArmLog
from randomization.identification import Unknown, decode, prior_covariance
from sim2real.errors import UserError
from sim2real.gate.gate import Gate
from sim2real.model.batched import ArmRecording
from sim2real.robot import Robot

Array = NDArray[np.float64]

CANDIDATES = 24
"""How many motions are compared."""
ALOFT = 0.03
"""m that every part stays over the table, beyond what the gate keeps."""
APART = 0.01
"""m between parts of the arm, beyond what the gate keeps."""
MARGIN = 0.15
"""rad kept from the joints' limits."""
USE = 0.7
"""Share of the gate's limits that is used, so that the gate has little but corners to round."""
RESIDUAL = 0.3
"""degrees: what the model leaves unexplained where no identification says so."""
CORRELATED = 10.0
"""Frames over which residuals of the model are one and the same error."""
REPEATS = 2
"""How often one candidate may be used."""


@dataclass(frozen=True, eq=False)
class CandidateMotion:
    """A candidate: `goals` (T, n) rad at the policy rate, from home to home."""

    kind: str
    goals: Array


@dataclass(frozen=True, eq=False)
class Excitation:
    """The chosen trajectory: `goals` (T, n) rad at the policy rate, the motions it is made of, and what it should
    tell: standard deviations in fitting coordinates by unknown, as believed `before` and expected `after`."""

    goals: Array
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    before: Array
    after: Array


def belief(
    model: ArmModelFit, twin: Mapping[str, float], uncertainty: Mapping[str, float]
) -> tuple[Array, Array]:
    """Values (k,) and covariance (k, k) in fitting coordinates: the twin's where it has them, else the prior's."""
    values, covariance = [], prior_covariance(model.unknowns)
    for i, unknown in enumerate(model.unknowns):
        name = model.expanded(unknown.name)[0]
        value = float(np.clip(twin.get(name, unknown.start), unknown.low, unknown.high))
        values.append(value)
        if name in uncertainty:
            slope = value if unknown.scale == "log" else 1.0
            deviation = min(max(uncertainty[name] / slope, 1e-6), unknown.prior)
            covariance[i, :] = covariance[:, i] = 0.0
            covariance[i, i] = deviation**2
    return np.array(values), covariance


def design(
    model: ArmModelFit,
    values: Array,
    covariance: Array,
    *,
    joints: Sequence[int],
    seconds: float,
    residual: float = RESIDUAL,
    speed: float = 1.0,
    seed: int = 0,
) -> Excitation:
    """The trajectory of at most `seconds` that moves `joints` and tells most. `residual` degrees, see RESIDUAL.

    Raises UserError when no candidate fits into the time.
    """
    robot = model.robot
    motions = candidates(robot, joints, np.random.default_rng(seed), speed)
    frames = int(seconds * robot.policy_rate)
    lengths = np.array([len(m.goals) for m in motions])
    if lengths.min() > frames:
        need = lengths.min() / robot.policy_rate
        raise UserError(
            f"{seconds:g} s is too short for any motion; give at least --seconds {np.ceil(need):.0f}"
        )
    information = information_of(model, values, [m.goals for m in motions], residual)
    believed = np.linalg.inv(covariance)
    chosen: list[int] = []
    left = frames
    while True:
        base = np.linalg.slogdet(believed)[1]
        gains = np.array([np.linalg.slogdet(believed + g)[1] - base for g in information]) / lengths
        gains[lengths > left] = -np.inf
        gains[[chosen.count(i) >= REPEATS for i in range(len(motions))]] = -np.inf
        best = int(np.argmax(gains))
        if not np.isfinite(gains[best]):
            break
        chosen.append(best)
        believed = believed + information[best]
        left -= int(lengths[best])
    return Excitation(
        np.concatenate([motions[i].goals for i in chosen]),
        tuple(motions[i].kind for i in chosen),
        tuple(u.name for u in model.unknowns),
        np.sqrt(np.diag(covariance)),
        np.sqrt(np.diag(np.linalg.inv(believed))),
    )


def information_of(
    model: ArmModelFit, values: Array, motions: Sequence[Array], residual: float = RESIDUAL
) -> list[Array]:
    """(k, k) information about the unknowns, in fitting coordinates, that each motion would give."""
    robot, unknowns = model.robot, model.unknowns
    starts = np.concatenate([[0], np.cumsum([len(m) for m in motions])])
    command = np.concatenate(motions)
    recording = ArmRecording(
        command, np.tile(robot.home, (len(command), 1)), starts, robot.policy_rate, ramp=True
    )
    log = ArmLog(
        recording, robot.lower, robot.upper, np.ones(command.shape, dtype=np.bool_), "radians", "designed",
        tuple(range(len(motions))), (),
    )  # fmt: skip
    z = np.array([u.encode(v) for u, v in zip(unknowns, values)])
    points = np.repeat(z[None], len(z) + 1, axis=0)
    step = np.array([_step(u, at) for u, at in zip(unknowns, z)])
    points[np.arange(len(z)) + 1, np.arange(len(z))] += step
    shown = np.concatenate(
        [model.simulate(log, decode(unknowns, points[a : a + 16])) for a in range(0, len(points), 16)]
    )
    slopes = np.rad2deg(shown[1:] - shown[0]) / step[:, None, None]
    found = []
    for first, last in pairwise(starts):
        rows = slopes[:, first:last].reshape(len(z), -1)
        found.append(rows @ rows.T / (residual**2 * CORRELATED))
    return found


def _step(unknown: Unknown, z: float) -> float:
    """Finite difference, away from the upper bound."""
    return -unknown.step if z + unknown.step > unknown.encode(unknown.high) else unknown.step


# Candidates


def candidates(
    robot: Robot, joints: Sequence[int], rng: np.random.Generator, speed: float = 1.0
) -> list[CandidateMotion]:
    """Motions of `joints` (the others stay at home), see the module's docstring."""
    makers: tuple[tuple[str, Callable[..., Array]], ...] = (
        ("slow waves", partial(_waves, band=(0.1, 0.5))),
        ("quick waves", partial(_waves, band=(0.5, 2.0))),
        ("poses", _poses),
        ("ramps", _ramps),
    )
    safe, joints = _Air(robot), list(joints)
    found: list[CandidateMotion] = []
    for kind, make in makers:
        made = tries = 0
        while made < CANDIDATES // len(makers) and tries < 20 * CANDIDATES:
            tries += 1
            goals = make(robot, joints, rng, speed)
            if safe(goals):
                found.append(CandidateMotion(kind, goals))
                made += 1
    if not found:
        raise UserError(
            f"no motion of {robot.name} around its home pose stays clear of the table; check its home pose"
        )
    return found


class _Air:
    """Whether a trajectory keeps clear of the table, the arm itself and the joints' limits."""

    def __init__(self, robot: Robot) -> None:
        self._robot, self._gate = robot, Gate(robot)

    def __call__(self, goals: Array) -> bool:
        robot = self._robot
        lower, upper = (
            np.minimum(robot.lower + MARGIN, robot.home),
            np.maximum(robot.upper - MARGIN, robot.home),
        )
        if (goals < lower).any() or (goals > upper).any():
            return False
        gate = self._gate
        return all(gate.clearance(q) > ALOFT and gate.self_clearance(q) > APART for q in goals[::3])


def _limits(robot: Robot, speed: float) -> tuple[Array, Array, Array]:
    return tuple(USE * speed * robot.limits(name) for name in ("velocity", "acceleration", "jerk"))  # type: ignore[return-value]


def _move(robot: Robot, start: Array, end: Array, speed: float, least: float = 0.0) -> Array:
    """Minimum-jerk move (T, n), excluding `start`, that uses USE of the gate's limits, or takes `least` s."""
    distance = np.abs(end - start)
    v, a, j = _limits(robot, speed)
    need = np.maximum(1.875 * distance / v, np.sqrt(5.774 * distance / a))
    time = max(float(np.maximum(need, np.cbrt(60 * distance / j)).max()), least, 1 / robot.policy_rate)
    s = np.arange(1, int(np.ceil(time * robot.policy_rate)) + 1) / np.ceil(time * robot.policy_rate)
    shape = s**3 * (10 - 15 * s + 6 * s**2)
    return np.asarray(start + shape[:, None] * (end - start))


def _hold(pose: Array, robot: Robot, seconds: float) -> Array:
    return np.tile(pose, (round(seconds * robot.policy_rate), 1))


def _pose(robot: Robot, joints: Sequence[int], rng: np.random.Generator) -> Array:
    """Home, with `joints` anywhere up to 60 % of the way to their limits."""
    pose = robot.home.copy()
    for j in joints:
        to = robot.upper[j] if rng.random() < 0.5 else robot.lower[j]
        pose[j] += rng.uniform(0.0, 0.6) * (to - pose[j])
    return pose


def _waves(
    robot: Robot, joints: Sequence[int], rng: np.random.Generator, speed: float, band: tuple[float, float]
) -> Array:
    time = np.arange(round(4.0 * robot.policy_rate)) / robot.policy_rate
    fade = np.clip(np.minimum(time, time[-1] - time) / 0.8, 0.0, 1.0)
    fade = fade**2 * (3 - 2 * fade)
    v, a, _ = _limits(robot, speed)
    # About a place with room on both sides: home may be at an end of a joint's range.
    centre = _pose(robot, joints, rng)
    centre[joints] = np.clip(centre, robot.lower + 2 * MARGIN, robot.upper - 2 * MARGIN)[joints]
    room = np.minimum(centre - robot.lower, robot.upper - centre) - MARGIN
    goals = np.tile(centre, (len(time), 1))
    for j in joints:
        hertz = np.exp(rng.uniform(np.log(band[0]), np.log(band[1]), 3))
        wave = np.sin(2 * np.pi * hertz[:, None] * time + rng.uniform(0, 2 * np.pi, (3, 1))) / np.sqrt(
            hertz[:, None]
        )
        shape = fade * wave.sum(axis=0)
        rate = np.gradient(shape, time)
        size = min(v[j] / np.abs(rate).max(), a[j] / np.abs(np.gradient(rate, time)).max())
        goals[:, j] += rng.uniform(0.4, 1.0) * min(size, min(room[j], 0.6) / np.abs(shape).max()) * shape
    there, back = _move(robot, robot.home, centre, speed), _move(robot, centre, robot.home, speed)
    return np.concatenate([there, goals, back])


def _poses(robot: Robot, joints: Sequence[int], rng: np.random.Generator, speed: float) -> Array:
    pose = _pose(robot, joints, rng)
    parts = [_move(robot, robot.home, pose, speed), _hold(pose, robot, 0.4)]
    for j in rng.permutation(joints):
        aside = pose.copy()
        aside[j] += rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 0.15)
        parts += [
            _move(robot, pose, aside, speed),
            _hold(aside, robot, 0.15),
            _move(robot, aside, pose, speed),
        ]
    return np.concatenate([*parts, _hold(pose, robot, 0.2), _move(robot, pose, robot.home, speed)])


def _ramps(robot: Robot, joints: Sequence[int], rng: np.random.Generator, speed: float) -> Array:
    pose = _pose(robot, joints, rng)
    parts = [_move(robot, robot.home, pose, speed)]
    ends = pose.copy()
    for j in joints:
        ends[j] += rng.choice([-1.0, 1.0]) * rng.uniform(0.08, 0.16)
    ramp = np.linspace(0.0, 1.0, round(1.2 * robot.policy_rate))[1:, None]
    there, back = pose + ramp * (ends - pose), ends + ramp * (pose - ends)
    return np.concatenate([*parts, there, back, there, back, _move(robot, pose, robot.home, speed)])
