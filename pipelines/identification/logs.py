"""Real logs of arms as what simulation replays: a data set's commands and states in radians, at an even rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.episodes import Readings, open_readings, selection
from pipelines.identification.following import follow, not_followed
from pipelines.identification.recording_checks import (
    doubts,
    frame_numbers,
    glitches,
    hand_guided,
    leading,
    moving_frames,
    opposed,
)
from sim2real.episode import Episode
from sim2real.errors import UserError, listed
from sim2real.lerobot import schema
from sim2real.model.batched import ArmRecording
from sim2real.robot import Robot

Array = NDArray[np.float64]

LEAST_FRAMES = 10
"""Shorter episodes tell nothing."""
MOST_BRIDGED = 3
"""Missing frames in a row over which commands are interpolated; where more are missing, an episode is cut."""


@dataclass(frozen=True, eq=False)
class ArmLog:
    """A data set's episodes, ready to be replayed.

    `lower`, `upper` (n,) rad: the calibrated range. `valid` (T, n): which states are believed (glitches are not).
    `units` and `reason` say how stored values were read, `remarks` what else the user should know.
    """

    recording: ArmRecording
    lower: Array
    upper: Array
    valid: NDArray[np.bool_]
    units: str
    reason: str
    episodes: tuple[int, ...]
    remarks: tuple[str, ...]

    def outcome(self) -> Array:
        """(T, n) recorded state[t + 1] for row t in rad; NaN where there is none, or none that is believed."""
        state = np.where(self.valid, self.recording.state, np.nan)
        outcome = np.full_like(state, np.nan)
        outcome[:-1] = state[1:]
        outcome[~self.recording.compared()] = np.nan
        return outcome

    def select(self, episodes: Sequence[int]) -> "ArmLog":
        """The log of some of its episodes, by position."""
        starts = self.recording.starts
        rows = np.concatenate([np.arange(starts[e], starts[e + 1]) for e in episodes])
        return ArmLog(
            self.recording.select(list(episodes)), self.lower, self.upper, self.valid[rows], self.units, self.reason,
            tuple(self.episodes[e] for e in episodes), self.remarks,
        )  # fmt: skip

    def head(self, frames: int) -> "ArmLog":
        """The first frames of a log of one episode."""
        recording, count = self.recording, min(frames, len(self.valid))
        first = replace(
            recording,
            command=recording.command[:count],
            state=recording.state[:count],
            starts=np.array([0, count]),
        )
        return replace(self, recording=first, valid=self.valid[:count])


def load_arm_log(
    data: str | Path, robot: Robot, *, calibration: str | Path | None = None, units: str = "auto",
    episodes: str | None = None, arm: str | None = None, fps: float | None = None,
    names: Mapping[str, str] | None = None,
) -> ArmLog:  # fmt: skip
    """Read a LeRobot data set; `arm` chooses one of several, `fps` overrules the stated rate and the time stamps.

    Episodes that were recorded at another rate than most are left out. Raises UserError for whatever is missing or
    unclear in it, naming what to do.
    """
    readings = open_readings(
        data, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps, names=names
    )
    return arm_log(readings, (*readings.remarks, *readings.lost()))


def load_arm_logs(
    data: str | Path, robot: Robot, *, calibration: str | Path | None = None, units: str = "auto",
    episodes: str | None = None, arm: str | None = None, fps: float | None = None,
    names: Mapping[str, str] | None = None,
) -> list[ArmLog]:  # fmt: skip
    """Read a LeRobot data set as `load_arm_log` does, all of it: a log for each rate, that of most episodes first."""
    readings = open_readings(
        data, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps, names=names
    )
    first = _log_at(readings, readings.rate, (*readings.remarks, *readings.lost()))
    rates = sorted({episode.fps for episode in readings.episodes.values()} - {readings.rate})
    return [first, *(_log_at(readings, rate, ()) for rate in rates)]


def arm_log(readings: Readings, remarks: Sequence[str] = ()) -> ArmLog:
    """The log of what was read of a data set; `remarks` are what is known of it already.

    Episodes that were recorded at another rate than most are left out. Raises UserError when none is long enough.
    """
    log = _log_at(readings, readings.rate, remarks)
    others = [position for position, episode in readings.episodes.items() if episode.fps != readings.rate]
    if not others:
        return log
    rest = selection(others)
    remark = f"only the episodes at {readings.rate:g} Hz are used; choose the others with --episodes {rest}"
    return replace(log, remarks=(*log.remarks, remark))


def _log_at(readings: Readings, rate: float, remarks: Sequence[str]) -> ArmLog:
    """The log of the episodes that were recorded at `rate`, Hz."""
    dataset, convert = readings.dataset, readings.convert
    remarks = list(remarks)
    loaded = [episode for episode in readings.episodes.values() if episode.fps == rate]
    parts = [part for episode in loaded for part in _parts(episode, rate, readings.stamped)]
    lost = sum(int((~part.valid).all(axis=1).sum()) for part in parts)
    if lost:
        remarks.append(f"by the timestamps {lost} frames are missing: commands are interpolated there")
    if len(parts) > len(loaded):
        remarks.append(
            f"there are longer gaps in the timestamps: episodes are cut into {len(parts)} pieces there"
        )
    short = [part.episode for part in parts if len(part.state) < LEAST_FRAMES]
    parts = [part for part in parts if len(part.state) >= LEAST_FRAMES]
    if not parts:
        raise UserError(
            f"{dataset.root} has no episode of at least {LEAST_FRAMES} frames among those asked for"
        )
    if short:
        remarks.append(f"what is shorter than {LEAST_FRAMES} frames is left out, in episodes {listed(short)}")
    wrong = sum(int((part.glitches & part.valid).sum()) for part in parts)
    if wrong:
        remarks.append(f"{wrong} single-sample read errors are ignored")
    if readings.unwrapped:
        remarks.append("encoders jump by a whole turn and back: the turns are taken out")
    starts = np.concatenate([[0], np.cumsum([len(part.state) for part in parts])])
    valid = np.concatenate([part.valid & ~part.glitches for part in parts])
    state = _mended(np.concatenate([part.state for part in parts]), valid, starts)
    lower, upper = convert.calibration.limits
    recording = ArmRecording(
        np.concatenate([part.command for part in parts]),
        state,
        starts,
        rate,
        schema.EXECUTED in dataset.features,
    )
    if readings.stamped:
        remarks += doubts(*recording_parts(recording), rate)
    remarks += not_followed(follow(*recording_parts(recording), rate), convert.robot)
    return ArmLog(
        recording=recording,
        # A calibration that is nominal can be narrower than where the arm has been.
        lower=np.minimum(lower, state.min(axis=0)),
        upper=np.maximum(upper, state.max(axis=0)),
        valid=valid,
        units=convert.found.units,
        reason=convert.found.reason,
        episodes=tuple(part.episode for part in parts),
        remarks=tuple(remarks),
    )


def recording_parts(recording: ArmRecording) -> tuple[list[Array], list[Array]]:
    """Commands and states by episode, (T, n) rad each."""
    bounds = recording.starts[1:-1]
    return np.split(recording.command, bounds), np.split(recording.state, bounds)


@dataclass(frozen=True, eq=False)
class _Part:
    """An episode's frames on an even grid of time, or what is between two gaps in it."""

    episode: int
    command: Array
    state: Array
    valid: NDArray[np.bool_]
    """(T, n) False where a frame is missing."""
    glitches: NDArray[np.bool_]


def _parts(episode: Episode, rate: float, stamped: bool) -> list[_Part]:
    """The episode at an even `rate`: single missing frames filled in, cut where more are missing."""
    command, state = episode.executed, episode.state
    numbers = frame_numbers(episode.time, rate) if stamped else np.arange(len(state))
    cuts = np.flatnonzero(np.diff(numbers) > MOST_BRIDGED + 1) + 1
    parts = []
    for rows in np.split(np.arange(len(state)), cuts):
        there = numbers[rows] - numbers[rows[0]]
        grid = np.arange(there[-1] + 1)
        filled_command, filled_state = (
            np.stack([np.interp(grid, there, values[rows, j]) for j in range(values.shape[1])], axis=1)
            for values in (command, state)
        )
        valid = np.repeat(np.isin(grid, there)[:, None], state.shape[1], axis=1)
        wrong = glitches(filled_state, rate)
        parts.append(_Part(episode.info["episode"], filled_command, filled_state, valid, wrong))
    return parts


def informative(log: ArmLog, robot: Robot, source: str) -> ArmLog:
    """The log without hand-guided episodes: their actions are the measured states and say nothing of servos.

    Raises UserError when nothing is left, or nothing moves, or a joint turns against its commands.
    """
    recording = log.recording
    command, state = recording_parts(recording)
    if moving_frames(state) < 10:
        raise UserError(f"in {source} the arm does not move, so nothing can be identified; record it moving")
    repeats = [hand_guided([c], [s]) for c, s in zip(command, state)]
    of_servos = [e for e, how in enumerate(repeats) if how is None and moving_frames([state[e]])]
    whole = hand_guided(command, state)
    if whole or not of_servos:
        whole = whole or next(how for how in repeats if how)
        raise UserError(
            f"{source} was guided by hand: action[t] equals {whole} in nearly all frames that move, so the "
            "recording carries no information about the servos; use a data set recorded by teleoperation or "
            "by a policy"
        )
    lead = leading(command, state)
    if lead is not None:
        raise UserError(
            f"in {source} the commands come {lead:.1f} frames after the motion that they should have caused (guided by "
            "hand, or action and state stored in different rows), so the recording carries no information about the "
            "servos; use a data set recorded by teleoperation or by a policy"
        )
    against = [name for name, wrong in zip(robot.joint_names, opposed(command, state)) if wrong]
    if against:
        raise UserError(
            f"in {source} {', '.join(against)} turns against its commands: actions and states are counted in opposite "
            "directions; convert one of them, or record again with one calibration for both"
        )
    guided = [e for e, how in enumerate(repeats) if how]
    if not guided:
        return log
    chosen = log.select([e for e in range(recording.episodes) if e not in guided])
    remark = f"episodes {listed([log.episodes[e] for e in guided])} were guided by hand and are left out"
    return replace(chosen, remarks=(*log.remarks, remark))


def _mended(state: Array, valid: NDArray[np.bool_], starts: NDArray[np.int64]) -> Array:
    """The states with believed neighbours in place of what is not: simulations start from them."""
    state = state.copy()
    for row, joint in zip(*np.nonzero(~valid)):
        state[row, joint] = state[row + 1 if row in starts else row - 1, joint]
    return state
