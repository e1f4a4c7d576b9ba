"""Does the arm stand as its recording says? Gravity tells: joints sag the wrong way when they are counted wrongly.

A calibration turned around, or a zero that is a quarter turn off (some recordings count from the arm stretched out,
others from the middle of each range), gives smooth and plausible angles. But then the simulated arm hangs elsewhere,
and the recorded joints sag under a load that is not there. The recording is replayed with each joint as it is, turned
around, and a quarter turn off; where a change fits distinctly better, it is named.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.logs import ArmLog
from pipelines.identification.replay import replay_in_twin
from sim2real.robot import Robot

Array = NDArray[np.float64]

FRAMES = 1500
"""About so many frames are replayed."""
CLEARLY = 0.8
"""Error relative to that of the recording as it is, from which on a change is named. On real recordings that are right
the best change has 0.95 or more; on the same with one joint wrong, the right one has 0.7 or less."""
CAP = 5.0
"""Degrees beyond which an error counts no more: contacts, and joints that a change makes impossible."""

Change = tuple[float, float]
"""Sign and shift (rad) of a joint."""
CHANGES: dict[str, Change] = {
    "turned around": (-1.0, 0.0),
    "a quarter turn further": (1.0, np.pi / 2),
    "a quarter turn back": (1.0, -np.pi / 2),
}


def misplaced(log: ArmLog, robot: Robot) -> str | None:
    """Which joint had better be counted otherwise, in words for the user; None when the recording looks right."""
    if len(robot.arm) < 2:
        return None  # the first joint's load tells nothing of how it is counted
    recording = log.recording
    wanted = max(1, round(FRAMES * recording.episodes / len(recording.command)))
    chosen = np.unique(np.linspace(0, recording.episodes - 1, wanted).round().astype(int))
    part = log.select([int(e) for e in chosen])
    as_it_is = _error(part, robot)
    errors = {
        (joint, what): _error(_changed(part, int(j), *change), robot)
        for j, joint in ((j, robot.joint_names[j]) for j in robot.arm[1:])
        for what, change in CHANGES.items()
    }
    (joint, what), best = min(errors.items(), key=lambda item: item[1])
    if not best <= CLEARLY * as_it_is:
        return None
    return (
        f"the joints sag as if {joint} stood otherwise: {what}, the simulated arm is {best:.2f}° from the recorded "
        f"one instead of {as_it_is:.2f}°; check the joint's calibration and zero"
    )


def _changed(log: ArmLog, joint: int, sign: float, shift: float) -> ArmLog:
    recording = log.recording

    def change(values: Array) -> Array:
        values = values.copy()
        values[..., joint] = sign * values[..., joint] + shift
        return values

    ends = np.sort(np.stack([change(log.lower), change(log.upper)]), axis=0)
    moved = replace(recording, command=change(recording.command), state=change(recording.state))
    return replace(log, recording=moved, lower=ends[0], upper=ends[1])


def _error(log: ArmLog, robot: Robot) -> float:
    """RMS in degrees over the joints that gravity loads."""
    error = np.rad2deg(replay_in_twin(log, robot) - log.outcome())[:, robot.arm[1:]]
    return float(np.sqrt(np.nanmean(np.minimum(error**2, CAP**2))))
