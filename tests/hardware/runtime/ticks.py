"""Ticks for tests of what takes them, and the log of a loop."""

from typing import Any

import numpy as np

from hardware.runtime.control.health import Health
from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Action, State
from hardware.runtime.control.tick import Tick
from hardware.runtime.recording.ticklog import TickLog
from sim2real.robot import Robot

HOME = np.array(Robot.load("so101").home)


def a_tick(**fields: Any) -> Tick:
    """A tick in which everything that is not given is as good as nothing."""
    standard = {
        "time": 0.0, "before": State(), "state": State(), "action": Action.NOTHING, "health": Health(),
        "reading": None, "requested": HOME, "gated": HOME, "executed": HOME, "at_rest": True,
    }  # fmt: skip
    return Tick(**(standard | fields))


def log_of(loop: ControlLoop) -> TickLog:
    """The log among a loop's sinks."""
    (log,) = (sink for sink in loop.sinks if isinstance(sink, TickLog))
    return log
