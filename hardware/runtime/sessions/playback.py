"""Playing a recorded episode on an arm: slowly to its first pose, then its executed actions through the gate."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from hardware.runtime.control.supervisor import Request
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.roles import Judge
from hardware.runtime.sessions.session import Session
from hardware.runtime.sources.sources import PolicyAnswer
from sim2real.chunks import Chunk
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.observation import Observation

Array = NDArray[np.float64]

AFTER = 0.5
"""Seconds that the arm is given after the last action to come to where it was sent."""


@dataclass(frozen=True)
class Trajectory:
    """What an episode did, on an even grid of `period` s: goals and where the arm was then, (K, n) rad each."""

    period: float
    goals: Array
    states: Array

    @classmethod
    def of(cls, episode: Episode, command_rate: int, speed: float = 1.0) -> "Trajectory":
        """On the command clock (Hz), `speed` times as fast as recorded. True times of capture count, not the stated
        rate, and the goals are joined smoothly: straight lines would have corners that the gate must round.

        Raises UserError for an episode that is too short to be played or whose times do not rise.
        """
        if len(episode) < 2 or not (np.diff(episode.time) > 0).all():
            raise UserError(
                f"an episode of {len(episode)} frames whose times "
                f"{'do not rise' if len(episode) > 1 else 'say nothing'} cannot be played"
            )
        frame = float(episode.time[-1] - episode.time[0]) / (len(episode) - 1)
        # What was executed during a frame had been sent by the time of the next one.
        sent = np.append(episode.time[1:], episode.time[-1] + frame)
        grid = np.arange(sent[0], sent[-1], speed / command_rate)
        goals = PchipInterpolator(sent, episode.executed)(grid)
        states = np.stack([np.interp(grid, episode.time, column) for column in episode.state.T], axis=1)
        return cls(1.0 / command_rate, np.array(goals, dtype=np.float64), states)

    @property
    def duration(self) -> float:
        """s."""
        return self.period * len(self.goals)


class EpisodeSource:
    """A policy source that answers the first observation with the whole episode."""

    def __init__(self, motion: Trajectory) -> None:
        self.motion = motion
        self.alive, self.problem = True, ""
        self._started = True
        self._answer: PolicyAnswer | None = None

    def reset(self, seed: int) -> None:
        self._started, self._answer = False, None

    def send(self, time: float, observation: Observation) -> None:
        if not self._started:
            self._started = True
            self._answer = PolicyAnswer(Chunk(time, self.motion.period, self.motion.goals), time)

    def poll(self) -> PolicyAnswer | None:
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        self.alive = False


@dataclass(frozen=True)
class Tracking:
    """How well the arm did, per joint, in rad.

    `lag_rms` and `lag_max`: what was sent against where the arm was at that moment. `apart_rms`: where the arm was
    against where it was in the recording.
    """

    lag_rms: Array
    lag_max: Array
    apart_rms: Array


@dataclass
class Playback(Session):
    """Plays `motion` once."""

    motion: Trajectory | None = None
    log: TickLog | None = None
    """A log of the loop's, from which the tracking is worked out."""

    @cached_property
    def _motion(self) -> Trajectory:
        assert self.motion is not None
        return self.motion

    def _work(self) -> None:
        loop, motion = self.loop, self._motion
        self._do("going to the first pose")
        loop.perception.begin(self.plan.goals(0))
        loop.travel(motion.goals[0])
        loop.request = Request.RUN
        self._until(
            lambda: loop.arrived,
            30.0 / loop.gate.speed,
            "the arm to arrive at the episode's first pose (is it within this arm's range, and above its table?)",
        )
        self._halt()
        loop.start_policy(self.plan.seed)
        loop.request = Request.RUN
        self._live(0, None, lambda: False, motion.duration + AFTER)
        self._go_home()

    def _verdict(self, index: int, goal: Array | None) -> tuple[bool | None, Judge]:
        """Nothing is judged but the tracking."""
        return None, Judge.NOBODY

    def tracking(self) -> Tracking | None:
        """From the log; None when nothing was played."""
        assert self.log is not None
        columns, motion = self.log.columns(), self._motion
        playing = columns["episode"] == 0
        if not playing.any():
            return None
        names = self.loop.robot.joint_names
        position, sent = (
            np.stack([columns[f"{what}.{name}"][playing] for name in names], axis=1)
            for what in ("position", "executed")
        )
        time = columns["t"][playing] - columns["t"][playing][0]
        recorded = np.stack(
            [
                np.interp(time, motion.period * (1 + np.arange(len(motion.states))), s)
                for s in motion.states.T
            ],
            axis=1,
        )
        return Tracking(
            lag_rms=np.sqrt(np.mean((sent - position) ** 2, axis=0)),
            lag_max=np.abs(sent - position).max(axis=0),
            apart_rms=np.sqrt(np.mean((recorded - position) ** 2, axis=0)),
        )
