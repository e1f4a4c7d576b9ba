"""What disturbs an episode step by step: commands that come late or never, and pushes on the arm.

All of it follows from the draw's seed, and nothing random is drawn when the parameters switch it off.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sim2real.simulation.scene import SceneBodies

MAX_EPISODE = 60.0
"""Pushes are planned this far ahead, s."""


class BurstLosses:
    """Messages that get lost in bursts: on average the fraction `rate` of them, `burst` in a row.

    A two-state chain (E. N. Gilbert, "Capacity of a burst-noise channel", 1960): a lost message is followed by
    another one with probability 1 − 1/burst.
    """

    def __init__(self, rate: float, burst: float, rng: np.random.Generator) -> None:
        self._rng = rng
        self._end = 1.0 / max(burst, 1.0)
        self._begin = min(1.0, rate / (1.0 - rate) * self._end) if rate < 1.0 else 1.0
        self._lossless = rate <= 0.0
        self._lost = False

    def next(self) -> bool:
        """Whether the next message is lost."""
        if not self._lossless:
            self._lost = self._rng.random() < (1.0 - self._end if self._lost else self._begin)
        return self._lost


class CommandLine:
    """The way of each command to the servos: a delay that varies, and losses in bursts."""

    def __init__(self, values: Mapping[str, float], rng: np.random.Generator) -> None:
        self._rng = rng
        self._delay, self._jitter = values["command.delay"], values["command.jitter"]
        self._losses = BurstLosses(values["command.dropout"], values["command.burst"], rng)

    def send(self) -> float:
        """The delay of the next command, s; NaN when it is lost."""
        if self._losses.next():
            return math.nan
        if self._jitter > 0.0:
            return self._delay + self._jitter * float(self._rng.random())
        return self._delay


@dataclass(frozen=True)
class _Push:
    begin: float
    end: float
    joint: int
    force: tuple[float, float, float]


class Pushes:
    """Random pushes on the arm's links: a Poisson process of constant forces in random directions."""

    def __init__(self, values: Mapping[str, float], links: list[int], rng: np.random.Generator) -> None:
        self._pushes: list[_Push] = []
        size, rate = values["push.force"], values["push.rate"]
        if size <= 0.0 or rate <= 0.0:
            return
        time = float(rng.exponential(1 / rate))
        while time < MAX_EPISODE:
            direction = rng.standard_normal(3)
            force = size * direction / math.sqrt(float(direction @ direction))
            link = links[int(rng.integers(len(links)))]
            self._pushes.append(
                _Push(time, time + values["push.duration"], link, (force[0], force[1], force[2]))
            )
            time += float(rng.exponential(1 / rate))

    def __bool__(self) -> bool:
        return bool(self._pushes)

    def apply(self, bodies: SceneBodies, time: float) -> None:
        """Push for the physics step that begins at `time`."""
        while self._pushes and self._pushes[0].end <= time:
            del self._pushes[0]
        for push in self._pushes:
            if push.begin > time:
                break
            bodies.kick(push.joint, push.force)
