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
AROUND = 0.33
"""s before and after in which it touches and lets go."""


def held(log: ArmLog, robot: Robot) -> NDArray[np.bool_]:
    """(T,) the frames in which the gripper holds something, or is about to, or lets go; none without a gripper."""
    recording = log.recording
    found = np.zeros(len(recording.state), dtype=np.bool_)
    if robot.gripper is None:
        return found
    grow = np.ones(2 * round(AROUND * recording.fps) + 1)
    for first, last in pairwise(recording.starts.tolist()):
        command, state = (v[first:last, robot.gripper] for v in (recording.command, recording.state))
        stands = np.abs(np.gradient(state)) * recording.fps < STILL
        rests = np.abs(np.gradient(command)) * recording.fps < RESTING
        holds = (state - command > SHORT) & stands & rests
        found[first:last] = np.convolve(holds, grow)[len(grow) // 2 :][: last - first] > 0
    return found


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
