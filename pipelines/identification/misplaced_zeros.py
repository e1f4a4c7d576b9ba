"""Does the arm stand as its recording says? Gravity tells: joints sag the wrong way when they are counted wrongly.

A calibration turned around, or a zero that is a quarter turn off (some recordings count from the arm stretched out,
others from the middle of each range), gives smooth and plausible angles. But then the simulated arm hangs elsewhere,
and the recorded joints sag under a load that is not there. The recording is replayed with each joint as it is, turned
around, and a quarter turn off.

An arm of stiffer servos, or with more friction, sags otherwise than the nominal one, too, and is no wrong zero. So
where a change fits better, servos are fitted to both: a joint is named only if no stiffness, friction, offset and
payload explain the recording as it is, while they do with the joint counted otherwise.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.identify import ArmModelFit
from pipelines.identification.logs import ArmLog
from pipelines.identification.replay import replay_in_twin
from randomization.identification import fit
from sim2real.robot import Robot

Array = NDArray[np.float64]

FRAMES = 1500
"""Frames, about, that are replayed."""
CLEARLY = 0.8
"""Error relative to that of the recording as it is, from which on a change is named. On real recordings that are right
the best change has 0.95 or more; on the same with one joint wrong, the right one has 0.7 or less."""
SUSPECTS = 3
"""How many changes are looked at closely."""
FITTED_FRAMES = 900
ITERATIONS = 5
UNEXPLAINED = 0.45
"""Degrees that must be left as it is, when servos are fitted: real arms that are right have up to 0.4 (0.9 where they
grasp), with one joint wrong 0.7 to 1.8."""
FREE = ("kp", "coulomb", "load_external", "offset", "command_delay")
"""What is fitted of each joint's servo, with hardly anything believed of it beforehand."""
WIDE = 4.0
"""By how much priors are widened."""
CAP = 5.0
"""Degrees beyond which an error counts no more: contacts, and joints that a change makes impossible."""

Change = tuple[float, float]
"""Sign and shift (rad) of a joint."""
CHANGES: dict[str, Change] = {
    "turned around": (-1.0, 0.0),
    "a quarter turn further": (1.0, np.pi / 2),
    "a quarter turn back": (1.0, -np.pi / 2),
}


def misplaced(log: ArmLog, robot: Robot, nominal: Mapping[str, float] | None = None) -> str | None:
    """Which joint had better be counted otherwise, in words for the user; None when the recording looks right.

    `nominal` overrides nominal parameters (a twin).
    """
    if len(robot.arm) < 2:
        return None  # the first joint's load tells nothing of how it is counted
    part = _part(log, FRAMES)
    as_it_is = _error(part, robot, nominal)
    errors = {
        (int(j), what): _error(_changed(part, int(j), *change), robot, nominal)
        for j in robot.arm[1:]
        for what, change in CHANGES.items()
    }
    suspects = sorted((k for k, e in errors.items() if e <= CLEARLY * as_it_is), key=lambda k: errors[k])
    if not suspects:
        return None
    part = _part(log, FITTED_FRAMES)
    at_best = _fitted(part, robot, nominal)
    if at_best < UNEXPLAINED:
        return None
    fitted = {k: _fitted(_changed(part, k[0], *CHANGES[k[1]]), robot, nominal) for k in suspects[:SUSPECTS]}
    (joint, what), best = min(fitted.items(), key=lambda item: item[1])
    if not best <= CLEARLY * at_best:
        return None
    return (
        f"the joints sag as if {robot.joint_names[joint]} stood otherwise: {what}, the simulated arm is {best:.2f}° "
        f"from the recorded one instead of {at_best:.2f}°, whatever its servos; check the joint's calibration and zero"
    )


def _part(log: ArmLog, frames: int) -> ArmLog:
    """Some episodes, spread over the log, of about so many frames."""
    recording = log.recording
    wanted = max(1, round(frames * recording.episodes / len(recording.command)))
    chosen = np.unique(np.linspace(0, recording.episodes - 1, wanted).round().astype(int))
    return log.select([int(e) for e in chosen])


def _fitted(log: ArmLog, robot: Robot, nominal: Mapping[str, float] | None) -> float:
    """The error that is left when servos and payload are fitted."""
    whole = ArmModelFit.build(robot)
    free = [
        i
        for i, u in enumerate(whole.unknowns)
        if u.name.rsplit(".", 1)[-1] in FREE or u.name.startswith("payload")
    ]
    model = whole.of(free, nominal)
    unknowns = [replace(u, prior=WIDE * u.prior, group=None) for u in model.unknowns]
    found = fit(
        model.residuals(log), unknowns, log.recording.starts, iterations=ITERATIONS, rounds=1, noise_floor=0.03,
        most_inflation=10.0, posterior=False,
    )  # fmt: skip
    return _rms(found.residuals, robot)


def _changed(log: ArmLog, joint: int, sign: float, shift: float) -> ArmLog:
    recording = log.recording

    def change(values: Array) -> Array:
        values = values.copy()
        values[..., joint] = sign * values[..., joint] + shift
        return values

    ends = np.sort(np.stack([change(log.lower), change(log.upper)]), axis=0)
    moved = replace(recording, command=change(recording.command), state=change(recording.state))
    return replace(log, recording=moved, lower=ends[0], upper=ends[1])


def _error(log: ArmLog, robot: Robot, nominal: Mapping[str, float] | None) -> float:
    return _rms(np.rad2deg(replay_in_twin(log, robot, nominal) - log.outcome()), robot)


def _rms(error: Array, robot: Robot) -> float:
    """RMS in degrees over the joints that gravity loads, of errors (T, n)."""
    return float(np.sqrt(np.nanmean(np.minimum(error[:, robot.arm[1:]] ** 2, CAP**2))))
