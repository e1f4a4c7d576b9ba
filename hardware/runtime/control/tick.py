"""One cycle of the control loop as a record, and where such records go."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.health import Health
from hardware.runtime.control.supervisor import Action, State
from sim2real.arm import ArmState
from sim2real.observation import Observation

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tick:
    """What the loop knew, decided and did in one cycle. Angles in rad, times in s, joint vectors (n,).

    Arrays belong to the record: nobody changes them afterwards.
    """

    time: float
    """When the cycle began, s on the loop's clock."""
    before: State
    """The supervisor's state when the cycle began."""
    state: State
    """The supervisor's state from this cycle on."""
    action: Action
    health: Health
    """What the supervisor was told."""
    reading: ArmState | None
    """The last reading of the arm; None before the first."""
    requested: Array
    """(n,) rad: the goal that was asked for."""
    gated: Array
    """What the gate made of it."""
    executed: Array
    """The goal that was last sent, as the servos took it."""
    at_rest: bool
    """Whether the gate's goal stands still."""
    flags: int = 0
    """What the gate did: bits of `sim2real.gate.gate.NAMES`."""
    fault_report: str = ""
    """The fault that was latched in this cycle, in words; empty when none was."""
    observation: Observation | None = None
    """What the policy observed, where a frame of the policy's rate began with this cycle."""
    episode: int = -1
    """Number of the episode under way; -1 between episodes."""
    period_error: float = 0.0
    """s by which the cycle began too late (too early: negative) after the one before."""
    work: float = 0.0
    """s that the cycle took, waiting for the servos included."""
    monitors: int = 0
    """Warnings of the monitors in their order, a bit each, and above them (from bit `FAULT_SHIFT` on) their faults."""
    heating: Array | None = None
    """A², the mean square of each joint's current over its thermal time."""
    clipped: int = 0
    rejected: int = 0
    """How many of the policy's commands the gate has changed, and refused, so far."""


@runtime_checkable
class TickSink(Protocol):
    """Something that takes every tick: a log, a recorder, a viewer."""

    def tick(self, tick: Tick) -> None:
        """Called when everything of the cycle is done. Must not wait, nor change anything of it."""
