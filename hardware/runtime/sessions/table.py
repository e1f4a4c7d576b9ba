"""What an operator sees of a running session, as the rows of a table."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Status(NamedTuple):
    """One moment of a session. Angles in rad, times in s."""

    robot: str
    state: str
    """Of the supervisor."""
    fault: str
    joints: tuple[str, ...]
    position: Array
    goal: Array
    """(n,) rad: the last goal that was sent."""
    temperature: Array
    rate: float
    """Hz, of the control loop over the last moments."""
    overruns: int
    clipped: int
    rejected: int
    activity: str
    """What the session is doing: "episode 3", "waiting"."""
    elapsed: float
    """s since the activity began."""
    kept: int
    planned: int | None
    """Episodes that are done, and wanted (None: until the operator stops)."""
    recording: bool
    recorded: int
    """Frames of the episode under way."""
    lost: int
    problem: str
    """Why nothing is recorded any more."""
    keys: str
    """Which keys do what."""


def table(status: Status, width: int) -> list[str]:
    """The rows, none longer than `width` characters."""
    s = status
    of = "" if s.planned is None else f" of {s.planned}"
    rows = [
        f"{s.robot}  {s.state}{': ' + s.fault if s.fault else ''}   {s.activity} {s.elapsed:.1f} s   {s.kept}{of} done",
        f"{s.rate:5.1f} Hz, {s.overruns} periods skipped   gate: {s.clipped} clipped, {s.rejected} rejected",
    ]
    if s.recording:
        lost = f", {s.lost} LOST" if s.lost else ""
        rows.append(f"recorded {s.recorded} frames{lost}" if not s.problem else f"NOT RECORDING: {s.problem}")
    rows.append(f"{'joint':16}{'is':>9}{'goal':>9}{'apart':>8}{'heat':>8}")
    for name, is_at, goal, heat in zip(s.joints, s.position, s.goal, s.temperature):
        warmth = f"{heat:6.0f}°C" if np.isfinite(heat) else ""
        rows.append(
            f"{name:16}{np.degrees(is_at):8.1f}°{np.degrees(goal):8.1f}°{np.degrees(goal - is_at):7.1f}°{warmth}"
        )
    if s.keys:
        rows.append(s.keys)
    return [row[: max(width - 1, 20)] for row in rows]
