"""The way back: from wherever the goal rests to the home pose, or down to the rest pose, through a gate.

The straight way works from nearly everywhere. Where it is barred (a folded arm, or one at the end of its workspace),
the arm stands still, looks for a way round (`detour.py`) and goes home on it, and from there to rest; where none is
found it first goes up as far as it can, then home. `benchmarks/descent.py` counts how often which is needed.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.safety.detour import ROOM, Detour
from hardware.runtime.safety.line import Line
from sim2real.gate.gate import Gate
from sim2real.robot import Robot

Array = NDArray[np.float64]

SPEED = 0.2
"""Share of the gate's limits at which an arm is lowered."""

RAISE = 0.2
"""m of clearance to look for when the way down is barred."""

NEAR = 0.05
"""rad within which a pose counts as reached (a calibrated range may end a little before it)."""

_SETTLE = 25
"""Ticks before standing still means anything: a gate may hold back the first requests as a jump."""

_ATTEMPTS = 4
"""How often the way may be barred."""

_CREEPING, _PACE = 2.0, 0.2
"""s, and share of the gate's velocity: an arm that has not come nearer by what it turns with it in so long counts as
barred. Half of what is left of its velocity while a monitor warns."""

_LOOK = 10
"""Ticks between two looks at that."""

_LEGS = 4.0
"""Full turns of the slowest joint that a way takes at most: the longest descent of some hundred, barred three times,
took 3.3 of them."""


def longest(robot: Robot, speed: float) -> float:
    """s that a way takes at most at this share of the gate's limits."""
    return _LEGS * float(np.max((robot.upper - robot.lower) / robot.limits("velocity"))) / speed


def longest_descent(robot: Robot, speed: float = 1.0) -> float:
    """s that a descent takes at most where `speed` is the share of the gate's limits chosen for the whole run."""
    return longest(robot, min(speed, SPEED))


class WayBack:
    """Drives `gate`, which must be at rest, to the robot's home pose or, `down`, to its rest pose; one `step` per tick
    until `done`."""

    def __init__(self, robot: Robot, gate: Gate, *, down: bool) -> None:
        self.robot, self.gate = robot, gate
        home, rest = np.array(robot.home), np.array(robot.rest)
        self._onward = [rest] if down else []
        """What follows after home."""
        self._home, self._end = home, rest if down else home
        self._stride = _CREEPING * _PACE * gate.speed * float(robot.limits("velocity").min())
        self.begin()

    def begin(self) -> None:
        """Start over from where the gate is."""
        self.turns = 0
        """How often the way was barred and another one was tried."""
        self._detour: Detour | None = None
        self.done = False
        self.arrived = False
        """Whether it ended where it leads to (else: barred wherever it turned)."""
        self._go([self._end])

    def _go(self, way: list[Array], *, up: bool = False, straight: bool = False) -> None:
        """Through these poses, (n,) rad, from now on; `up`: how far up the first one leads does not matter;
        `straight`: all joints on their way to one arrive at once."""
        self._way, self._up = way, up
        self._line = Line(self.robot, self.gate, way[0]) if straight else None
        self._ticks, self._last = 0, _SETTLE
        self._left, self._nearer_at = math.inf, 0
        self.request = way[0]
        if self._line is not None:
            self._last = max(self._line.ticks, _SETTLE)

    def step(self) -> int:
        """One tick; returns the gate's mask."""
        self._ticks += 1
        if self._line is not None:
            self.request = self._line.at(self._ticks)
        flags = self.gate.step(self.request)
        creeps = self._ticks % _LOOK == 0 and self._creeps()
        if self.done or (not creeps and (self._ticks < self._last or not self.gate.at_rest)):
            return flags
        if self._detour is not None:
            self._look(self._detour)
        elif self._up or (not creeps and np.abs(self.gate.position - self._way[0]).max() < NEAR):
            if len(self._way) > 1:
                self._go(self._way[1:], straight=self._line is not None)
            else:
                self.done = self.arrived = True
        elif self.turns < _ATTEMPTS:
            self.turns += 1
            self._turn()
        else:
            self.done = True
        return flags

    def _creeps(self) -> bool:
        """Whether the arm has come hardly any nearer for a while: the gate slides along what is in its way."""
        left = float(np.abs(self.gate.position - self._way[0]).max())
        if left < self._left - self._stride or self._detour is not None:
            self._left, self._nearer_at = left, self._ticks
        return self._ticks - self._nearer_at >= _CREEPING * self.robot.command_rate

    @property
    def searching(self) -> bool:
        """Whether the arm stands still while a way round is looked for."""
        return self._detour is not None

    def _turn(self) -> None:
        """The way is barred: another way home, or up and home, in turns. From home rest can be reached."""
        here = self.gate.position
        if self.turns % 2:
            self._go([here])
            # With room to spare at first.
            room = ROOM if self.turns == 1 else 0.0
            self._detour = Detour(self.gate, here, self._home, room=room, seed=self.turns)
        else:
            self._go([self.gate.raised(here, RAISE), self._home, *self._onward], up=True)

    def _look(self, detour: Detour) -> None:
        """Standing still, look for a way round."""
        detour.step()
        if detour.done:
            self._detour = None
            self._go([*detour.way, *self._onward] or [self._end], straight=True)
