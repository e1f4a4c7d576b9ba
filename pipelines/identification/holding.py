"""Frames in which a gripper holds something: it stands short of its command, and what stops it is not in the model.

Fitted as if nothing were there, they make a gripper's friction ten times too large and leave it no delay; without them
it is found within 0.1–0.5°.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.logs import ArmLog
from sim2real.robot import Robot

SHORT = np.deg2rad(3.0)
"""How far a gripper that holds something is open beyond its command, at least."""
STILL = 0.15
"""rad/s below which the gripper stands."""
RESTING = 0.6
"""rad/s below which its command does: behind quicker ones it merely trails."""
LEAST_FREE = 30
"""Frames with a free gripper that are needed."""
LEAST_HELD = 0.25
"""s in which an episode must hold something to tell at which angle."""
AROUND = 0.33
"""s before and after in which it touches and lets go."""


def holds(command: NDArray[np.float64], state: NDArray[np.float64], fps: float) -> NDArray[np.bool_]:
    """(T,) the frames of an episode in which the gripper stands, open beyond its command; (T,) rad at `fps` Hz each."""
    if len(state) < 2:
        return np.zeros(len(state), dtype=np.bool_)
    stands = np.abs(np.gradient(state)) * fps < STILL
    rests = np.abs(np.gradient(command)) * fps < RESTING
    return np.asarray((state - command > SHORT) & stands & rests)


def held(log: ArmLog, robot: Robot) -> NDArray[np.bool_]:
    """(T,) the frames in which the gripper holds something, or is about to, or lets go; none without a gripper."""
    recording = log.recording
    found = np.zeros(len(recording.state), dtype=np.bool_)
    if robot.gripper is None:
        return found
    grow = np.ones(2 * round(AROUND * recording.fps) + 1)
    for first, last in pairwise(recording.starts.tolist()):
        command, state = (v[first:last, robot.gripper] for v in (recording.command, recording.state))
        frames = holds(command, state, recording.fps)
        found[first:last] = np.convolve(frames, grow)[len(grow) // 2 :][: last - first] > 0
    return found


def held_angles(log: ArmLog, robot: Robot) -> NDArray[np.float64]:
    """(k,) rad: at which angle the gripper stood while it held something, the median of each episode in which it did
    for a quarter of a second or more."""
    found: list[float] = []
    recording = log.recording
    if robot.gripper is None:
        return np.array(found)
    for first, last in pairwise(recording.starts.tolist()):
        command, state = (v[first:last, robot.gripper] for v in (recording.command, recording.state))
        frames = holds(command, state, recording.fps)
        if frames.sum() >= LEAST_HELD * recording.fps:
            found.append(float(np.median(state[frames])))
    return np.array(found)


def without_held(log: ArmLog, robot: Robot) -> ArmLog:
    """The log in which the gripper's states are not believed while it holds something, with a remark on that."""
    frames = held(log, robot)
    if not frames.any():
        return log
    if (~frames).sum() < LEAST_FREE:
        remark = "the gripper holds something nearly all the time: what is found of its servo means nothing"
        return replace(log, remarks=(*log.remarks, remark))
    valid = log.valid.copy()
    valid[frames, robot.gripper] = False
    remark = (
        f"the gripper holds something in {frames.mean():.0%} of the frames; its servo is not fitted to these, nor "
        "judged by them"
    )
    return replace(log, valid=valid, remarks=(*log.remarks, remark))
