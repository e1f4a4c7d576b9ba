"""How late a policy may answer, and how late it does.

A chunk that answers an observation covers `horizon` periods from then on, and it has to last until the next one comes.
A policy that answers within a period is asked in every period: a chunk of two actions is enough. A slower one is asked
again once it has answered, about a scene that is at most a period old: what it says comes up to `period + latency`
after the observation and has to last for `latency` more, so

    horizon · period ≥ period + 2 · latency
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim2real.observation import Observation
from sim2real.policies.protocol import Policy

FEWEST = 3
"""Answers by which a policy is timed at least, however slow it is."""


@dataclass(frozen=True)
class Coverage:
    """What a policy's chunks cover: `horizon` actions at `rate` Hz."""

    horizon: int
    rate: float

    @property
    def period(self) -> float:
        """s between two actions: within it the policy keeps its rate."""
        return 1.0 / self.rate

    @property
    def longest(self) -> float:
        """s: the longest latency at which the arm never runs out of actions."""
        return self.period * max(1.0, (self.horizon - 1) / 2)

    def keeps_rate(self, latency: float) -> bool:
        """Whether there is a new chunk for every action."""
        return latency <= self.period

    def covers(self, latency: float) -> bool:
        """Whether a chunk lasts until the next one comes."""
        return latency <= self.longest

    def horizon_for(self, latency: float) -> int:
        """The shortest chunk that covers a latency in s."""
        return 2 if self.keeps_rate(latency) else int(np.ceil(1 + 2 * latency * self.rate - 1e-9))


@dataclass(frozen=True)
class Timing:
    """How long a policy took to answer, in s, by `calls` answers."""

    calls: int
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float

    @classmethod
    def of(cls, times: Sequence[float]) -> "Timing":
        """From times in s, at least one."""
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        return cls(len(times), float(np.mean(times)), float(p50), float(p95), float(p99), float(max(times)))


def time_policy(
    policy: Policy,
    observation: Observation,
    seconds: float,
    *,
    most: int = 1_000_000,
    pause: Callable[[], None] | None = None,
) -> Timing:
    """Ask a policy for `seconds` s or `most` answers, whichever is less, but `FEWEST` times at least.

    Its memory, if it has one, is that of an episode under way: reset it before the next one. `pause` is called between
    answers. Raises what the policy raises.
    """
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or (len(times) < most and time.perf_counter() < end):
        begin = time.perf_counter()
        policy.act(observation)
        times.append(time.perf_counter() - begin)
        if pause is not None:
            pause()
    return Timing.of(times)
