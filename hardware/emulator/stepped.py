"""Emulated arms without pty and without real time: a `Port` whose clock stands still unless a caller waits.

Tests of drivers, arm and control loop run on it deterministically, bytes included. Several arms may share a clock.
"""

import numpy as np
from numpy.typing import NDArray

from hardware.arm.serial_arm import SerialArm
from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.plant import IdealPlant, Plant
from hardware.emulator.wire import EmulatedBus
from hardware.servos.family import family_of
from sim2real.calibration import Calibration
from sim2real.clock import SimulatedClock
from sim2real.errors import PortError
from sim2real.robot import Robot


class SteppedPort:
    """A port to an `EmulatedBus` in simulated time; waiting for a reply is what moves the clock."""

    def __init__(
        self, bus: EmulatedBus, clock: SimulatedClock | None = None, *, baud: int = 1_000_000
    ) -> None:
        self.name = "stepped"
        self.baud = baud
        self.bus = bus
        self.clock = clock or SimulatedClock()
        self.plugged = True  # a test pulls the plug by setting this to False
        self._input = bytearray()

    def now(self) -> float:
        return self.clock.now()

    def write(self, data: bytes) -> None:
        self._check()
        self.bus.receive(data, self.now(), self.baud)

    def read(self, size: int, deadline: float) -> bytes:
        self._check()
        while True:
            self._input += self.bus.due(self.now())
            if self._input:
                data = bytes(self._input[:size])
                del self._input[:size]
                return data
            due = self.bus.next_due
            if due is None or due > deadline:
                self.clock.sleep_until(deadline)
                return b""
            self.clock.sleep_until(due)

    def discard_input(self) -> int:
        self._check()
        self._input += self.bus.due(self.now())
        dropped = len(self._input)
        self._input.clear()
        return dropped

    def close(self) -> None:
        self.plugged = False

    def _check(self) -> None:
        if not self.plugged:
            raise PortError(f"{self.name} has gone away: check plug and power, then connect again")


class SteppedArm:
    """A whole emulated arm of any servo family, from its plant to the `SerialArm` that drives it.

    The parts are attributes: `plant` (an ideal one at the robot's rest pose unless given), `servos`, `line` (where
    faults are injected), `port`, `bus`, `arm`, `clock`, and the `calibration` that the servos store.
    """

    def __init__(
        self,
        robot: Robot | str,
        plant: Plant | None = None,
        *,
        clock: SimulatedClock | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.robot = Robot.load(robot)
        self.calibration = calibration or emulated_calibration(self.robot)
        self.plant = plant or IdealPlant(self.robot.n, self.robot.rest)
        self.servos = build_servos(self.robot, self.plant, self.calibration)
        self.line = EmulatedBus(self.servos, self.plant)
        self.clock = clock or SimulatedClock()
        self.port = SteppedPort(self.line, self.clock, baud=self.robot.baud)
        self.bus = family_of(self.robot).open_port(self.port, 0.0)
        self.arm = SerialArm(self.robot, self.bus, self.calibration, clock=self.clock)

    def ready(self) -> SerialArm:
        """The arm identified, configured, torque on."""
        self.arm.identify()
        self.arm.configure()
        self.arm.enable()
        return self.arm

    def run(self, seconds: float, goal: NDArray[np.float64] | None = None) -> None:
        """A control loop's traffic at the robot's command rate: a reading, and `goal` (n,) rad if there is one."""
        period = 1.0 / self.robot.command_rate
        for _ in range(round(seconds / period)):
            start = self.clock.now()
            self.arm.observe()
            if goal is not None:
                self.arm.command(goal)
            self.clock.sleep_until(start + period)
