"""Fit the simulated arm to a recording of a real one.

What is fitted, with which prior, is declared in JOINT_FIELDS and below; how, is in `randomization/identification.py`;
what is written, in `results.py`. Angles in degrees here, because residuals are what users read.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.holding import without_held
from pipelines.identification.logs import ArmLog, informative
from pipelines.identification.replay import arm_parameters, physics_rate, replay_in_twin
from pipelines.identification.stretches import informative_part
from randomization.identification import Fit, Unknown, fit
from sim2real.model import batched, servo
from sim2real.model.dynamics import add_point_mass
from sim2real.robot import Robot

Array = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A servo field that is fitted: prior (in the fitting coordinate), bounds, finite difference.

    `mean` None: the robot's nominal value. Priors are wide on purpose: arms differ, and the torque scale of a
    position servo shows only through what it lifts.
    """

    field: str
    prior: float
    low: float
    high: float
    scale: Literal["log", "linear"]
    step: float
    mean: float | None = None
    spread: float | None = None
    """Standard deviation between the joints of one arm, which have servos of one kind; None: they are unrelated."""


JOINT_FIELDS = (
    Fitted("kp", 0.3, 0.5, 40.0, "log", 0.03, spread=0.1),
    Fitted("viscous", 1.0, 1e-3, 3.0, "log", 0.05, spread=0.4),
    Fitted("armature", 0.4, 0.003, 0.15, "log", 0.05, spread=0.2),
    Fitted("coulomb", 1.0, 1e-3, 1.5, "log", 0.05, spread=0.5),
    Fitted("stribeck", 1.0, 1e-4, 1.0, "log", 0.1, 0.02, 0.6),
    # Tight: motor and load side together decide whether a joint locks itself, which one episode seldom tells.
    Fitted("load_motor", 0.06, 0.0, 0.5, "linear", 0.01, spread=0.03),
    Fitted("load_external", 0.06, 0.0, 0.5, "linear", 0.01, spread=0.03),
    Fitted("command_delay", 0.05, 0.0, 0.2, "linear", 0.002, spread=0.006),
    # A zero is the middle of a range that was moved through by hand. With a wider prior, lift and elbow drift apart by
    # 5–10° and held-out errors stay.
    Fitted("offset", 0.03, -0.1, 0.1, "linear", 0.004),
    Fitted("backlash", 1.5, 1e-4, 0.05, "log", 0.1, 0.006, 0.8),
)
GRIPPER_FIELDS = ("kp", "viscous", "armature", "coulomb", "command_delay")
"""The gripper's load is unknown when it holds something: its friction and delay are all that its motion tells."""
SHARED_FIELDS = (
    Fitted("speed", 0.5, 1.0, 30.0, "log", 0.03, 4.0),
    Fitted("acceleration", 0.7, 5.0, 2000.0, "log", 0.03, 40.0),
    Fitted("resistance", 0.4, 1.5, 20.0, "log", 0.03),
)
"""What the servos of one arm have in common. The firmware's profile: arms are set up with register value 254, which
means 39 rad/s². The resistance is the scale of all torques: servos of one name are sold for 7.4 V and for 12 V, and
without it the links would have to be two or three times as heavy on the former."""
STOP_STIFFNESS = Fitted("stop_stiffness", 0.7, 2.0, 100.0, "log", 0.1)
STOP_SHARE = Fitted("stop_share", 0.5, -1.0, 1.0, "linear", 0.05, 0.0)
STOP_BEFORE, STOP_PRIOR, STOP_STEP = 0.05, 0.08, 0.004
"""rad: how far before the end of a joint's calibrated range a yielding stop is expected, how far off that may be, and
the finite difference."""
NEAR = 0.15
"""rad: a recording that comes so near to the end of a joint's range may tell of a stop there."""
NEAR_FRAMES = 10
LINK_MASS = Fitted("mass", 0.35, 0.3, 3.0, "log", 0.05)
"""Relative to the URDF: cables, cameras and prints differ."""
PAYLOAD = Fitted("payload", 0.15, 0.0, 0.3, "linear", 0.005, 0.01)

PILOT_FRAMES = 1200
"""Frames, about, on which the starting point is found."""
FIT_FRAMES = 2400
"""Frames, about, that are fitted: the most informative ones."""
NOISE_FLOOR = 0.03
"""degrees: a tick is 0.088, uniformly quantized 0.025."""
MOST_INFLATION = 10.0
"""Most that autocorrelation may weaken the data against the prior in the estimate itself; the posterior has all."""
WIDTH = 1.3
"""By how much the posterior is widened. On simulated arms whose parameters are known, 90 % intervals of Laplace's
approximation held 82 %, 50 % intervals 44 %; `docs/benchmarks.md` says what they hold now."""


@dataclass(frozen=True, eq=False)
class ArmModelFit:
    """The unknowns of an arm and how they enter the simulation."""

    robot: Robot
    unknowns: tuple[Unknown, ...]
    base: Array
    _targets: tuple[tuple[str, Any, int], ...] = field(repr=False)
    _inertials: Array | None = field(default=None, repr=False)
    """(n, 10) inertial parameters of the links, where they are not the robot's own."""

    @classmethod
    def build(cls, robot: Robot, log: ArmLog | None = None) -> "ArmModelFit":
        """The unknowns of this robot; those of its stops only where the log comes near the ends of joints' ranges."""
        unknowns: list[Unknown] = []
        targets: list[tuple[str, Any, int]] = []
        base = servo.nominal_parameters(robot)
        for j, joint in enumerate(robot.joint_names):
            for what in JOINT_FIELDS:
                if j == robot.gripper and what.field not in GRIPPER_FIELDS:
                    continue
                column = servo.FIELD_INDEX[what.field]
                mean = what.mean if what.mean is not None else float(base[j, column])
                unknowns.append(_unknown(f"servo.{joint}.{what.field}", what, mean, j, j != robot.gripper))
                targets.append(("servo", [j], column))
        for what in SHARED_FIELDS:
            column = servo.FIELD_INDEX[what.field]
            mean = what.mean if what.mean is not None else float(base[:, column].mean())
            unknowns.append(_unknown(f"servo.*.{what.field}", what, mean))
            targets.append(("servo", list(range(robot.n)), column))
        for unknown, joints in _stops(robot, base, log):
            unknowns.append(unknown)
            targets.append(("servo", joints, servo.FIELD_INDEX[unknown.name.rsplit(".", 1)[-1]]))
        carried = int(robot.model.tool[0])
        for i in _loading_links(robot):
            if i == carried:
                continue
            mass = float(robot.model.mass[i])
            name = f"link.{robot.model.link_names[i]}.mass"
            scaled = replace(LINK_MASS, low=LINK_MASS.low * mass, high=LINK_MASS.high * mass)
            unknowns.append(_unknown(name, scaled, mass))
            targets.append(("mass", i, 0))
        unknowns.append(_unknown("payload.mass", PAYLOAD, float(PAYLOAD.mean or 0.0)))
        targets.append(("payload", carried, 0))
        return cls(robot, tuple(unknowns), base, tuple(targets))

    def of(self, chosen: Sequence[int], nominal: Mapping[str, float] | None = None) -> "ArmModelFit":
        """The model with some of its unknowns alone, by position; the others are as in the twin `nominal`."""
        known = nominal or {}
        payload = {"payload.mass"} & {self.unknowns[i].name for i in chosen}
        base, inertials, _ = arm_parameters(self.robot, {k: v for k, v in known.items() if k not in payload})
        unknowns = [
            replace(u, start=float(np.clip(known[u.name], u.low, u.high))) if u.name in known else u
            for u in (self.unknowns[i] for i in chosen)
        ]
        targets = tuple(self._targets[i] for i in chosen)
        return replace(self, unknowns=tuple(unknowns), base=base, _targets=targets, _inertials=inertials)

    def inputs(self, values: Array) -> tuple[Array, Array]:
        """(B, k) values → servo parameters (B, n, F) and inertials (B, n, 10)."""
        count = len(values)
        parameters = np.repeat(self.base[None], count, axis=0)
        own = self.robot.model.inertials if self._inertials is None else self._inertials
        inertials = np.repeat(own[None], count, axis=0)
        tool = np.array(self.robot.model.tool[10:13])
        for column, (kind, at, place) in enumerate(self._targets):
            if kind == "servo":
                parameters[:, at, place] = values[:, column, None]
            elif kind == "mass":
                inertials[:, at, 0] = values[:, column]
        for column, (kind, at, _) in enumerate(self._targets):
            if kind == "payload":
                for b in range(count):
                    add_point_mass(inertials[b], at, values[b, column], tool)
        return parameters, inertials

    def simulate(self, log: ArmLog, values: Array) -> Array:
        """(B, k) values → encoder angles (B, T, n) rad."""
        parameters, inertials = self.inputs(values)
        return batched.simulate(
            self.robot.model, log.recording, parameters, inertials=inertials, lower=log.lower, upper=log.upper,
            torque_limit=self.robot.torque_limit, rate=physics_rate(log.recording.fps, self.robot),
        )  # fmt: skip

    def residuals(self, log: ArmLog) -> Callable[[Array], Array]:
        """values (B, k) → simulated minus recorded, (B, T, n) degrees, NaN where nothing is recorded."""
        outcome = log.outcome()

        def function(values: Array) -> Array:
            return np.rad2deg(self.simulate(log, values) - outcome)

        return function

    def table(self, values: Array) -> dict[str, float]:
        """World parameters by name; shared ones are spelt out for every joint."""
        table: dict[str, float] = {}
        for unknown, value in zip(self.unknowns, values):
            for name in self.expanded(unknown.name):
                table[name] = float(value)
        return table

    def expanded(self, name: str) -> list[str]:
        """The world's parameters that an unknown stands for."""
        if not name.startswith("servo.*."):
            return [name]
        return [name.replace("*", joint) for joint in self.robot.joint_names]


def _unknown(
    name: str, what: Fitted, mean: float, channel: int | None = None, alike: bool = False
) -> Unknown:
    start = min(max(mean, what.low), what.high)
    if what.scale == "linear":
        # Not on a bound, where a derivative is one-sided.
        start = min(max(start, what.low + what.step), what.high - what.step)
    group = what.field if alike and what.spread is not None else None
    return Unknown(
        name, start, what.low, what.high, what.prior, what.scale, what.step, channel=channel, group=group,
        spread=what.spread,
    )  # fmt: skip


def _stops(robot: Robot, base: Array, log: ArmLog | None) -> list[tuple[Unknown, list[int]]]:
    """Unknowns of the yielding stops that the log comes near, each with the joints it is for."""
    found: list[tuple[Unknown, list[int]]] = []
    if log is None:
        return found
    state, arm = log.recording.state, [int(j) for j in robot.arm]
    pushed = []
    for j in arm:
        for which, end, inwards in (("stop_lower", log.lower[j], 1.0), ("stop_upper", log.upper[j], -1.0)):
            if (inwards * (state[:, j] - end) < NEAR).sum() < NEAR_FRAMES:
                continue
            low, high = sorted((end + 0.3 * inwards, end - 0.1 * inwards))
            name = f"servo.{robot.joint_names[j]}.{which}"
            start = float(end + STOP_BEFORE * inwards)
            found.append((Unknown(name, start, low, high, STOP_PRIOR, step=STOP_STEP, channel=j), [j]))
            if j + 1 in arm and j not in pushed:
                pushed.append(j)
    for j in pushed:
        name = f"servo.{robot.joint_names[j + 1]}.stop_share"
        found.append((_unknown(name, STOP_SHARE, 0.0, j + 1), [j + 1]))
    if found:
        mean = float(base[:, servo.STOP_STIFFNESS].mean())
        found.append((_unknown("servo.*.stop_stiffness", STOP_STIFFNESS, mean), list(range(robot.n))))
    return found


def _loading_links(robot: Robot) -> list[int]:
    """Links of the arm whose weight its joints feel: not the first, which turns about an upright axis."""
    return [int(robot.model.rows[i]) for i in robot.arm if i > 0]


@dataclass(frozen=True, eq=False)
class Identified:
    """What identification found."""

    model: ArmModelFit
    log: ArmLog
    fit: Fit
    """`fit.residuals` are those of the frames that were fitted, `fitted` in number."""
    nominal: Array
    """(T, n) degrees, simulated minus recorded, of the nominal arm."""
    residuals: Array
    """(T, n) degrees of the fitted arm, on all frames of the log."""
    seconds: float

    @property
    def before(self) -> Array:
        """(n,) degrees RMS of the nominal arm."""
        return np.asarray(np.sqrt(np.nanmean(self.nominal**2, axis=0)))

    @property
    def after(self) -> Array:
        """(n,) degrees RMS of the fitted arm."""
        return np.asarray(np.sqrt(np.nanmean(self.residuals**2, axis=0)))

    @property
    def fitted(self) -> int:
        """How many frames were fitted."""
        return int(np.isfinite(self.fit.residuals).any(axis=1).sum())

    def band(
        self, log: ArmLog, draws: int = 24, level: float = 0.9, seed: int = 0
    ) -> tuple[Array, Array, Array]:
        """Median, lower and upper end (T, n) rad of the predictive band of `level`.

        Parameter draws from the posterior, plus the residuals that the fit left: what the model cannot do is part
        of what it predicts. Where all frames were fitted, they are scaled to data that the fit has not seen, see
        `optimism`.
        """
        rng = np.random.default_rng(seed)
        simulated = self.model.simulate(log, self.fit.draws(draws, rng))
        middle = self.model.simulate(log, self.fit.values[None])[0]
        spread = simulated.std(axis=0)
        left = np.nanquantile(np.abs(np.deg2rad(self.residuals)), level, axis=0)
        if len(self.fit.residuals) == len(self.residuals):
            left = left * self.optimism()
        half = np.sqrt(left**2 + (1.645 * spread) ** 2)
        return middle, middle - half, middle + half

    def optimism(self) -> Array:
        """(n,) how much larger residuals are on data that the fit has not seen, to first order.

        √((N + p) / (N − p)) with N independent samples and p parameters that the data determine (H. Akaike, "Fitting
        autoregressive models for prediction", 1969: the final prediction error); at most 2.
        """
        learned = 1.0 - np.minimum(self.fit.prior_share, 1.0) ** 2
        channel = [unknown.channel for unknown in self.fit.unknowns]
        common = sum(k for k, c in zip(learned, channel) if c is None) / self.model.robot.n
        own = [sum(k for k, c in zip(learned, channel) if c == j) for j in range(self.model.robot.n)]
        p = np.array(own) + common
        samples = np.isfinite(self.fit.residuals).sum(axis=0) / self.fit.inflation
        return np.sqrt(np.minimum((samples + p) / np.maximum(samples - p, 1e-9), 4.0))


def identify_arm(
    log: ArmLog, robot: Robot, source: str, say: Say | None = None, *, frames: int = FIT_FRAMES
) -> Identified:
    """Fit the arm to the log, to about `frames` frames of it. Raises UserError for data without information, naming the
    reason."""
    began = time.perf_counter()
    tell = say or (lambda _: None)
    log = without_held(informative(log, robot, source), robot)
    model = ArmModelFit.build(robot, log)
    nominal = np.rad2deg(replay_in_twin(log, robot) - log.outcome())
    used = informative_part(log, robot, frames, nominal)
    pilot = informative_part(used, robot, min(PILOT_FRAMES, frames // 2))
    unknowns: Sequence[Unknown] = model.unknowns
    for what, part, iterations, rounds in (("pilot fit", pilot, 8, 1), ("fit", used, 6, 2)):
        found = fit(
            model.residuals(part), unknowns, part.recording.starts, iterations=iterations, rounds=rounds,
            noise_floor=NOISE_FLOOR, most_inflation=MOST_INFLATION, posterior=part is used,
        )  # fmt: skip
        error = float(np.sqrt(np.nanmean(found.residuals**2, axis=0))[robot.arm].mean())
        tell(f"{what} on {len(part.recording.command)} frames: {error:.3f}° mean over the arm")
        unknowns = _from(unknowns, found)
    found = replace(found, covariance=WIDTH**2 * found.covariance)
    residuals = found.residuals if used is log else model.residuals(log)(found.values[None])[0]
    return Identified(model, log, found, nominal, residuals, time.perf_counter() - began)


def _from(unknowns: Sequence[Unknown], found: Fit) -> list[Unknown]:
    """The unknowns with another fit's values to start from; what was believed beforehand stays."""
    return [
        replace(unknown, start=float(value), mean=unknown.start if unknown.mean is None else unknown.mean)
        for unknown, value in zip(unknowns, found.values)
    ]
