"""Emulated servos on a stepped clock, shared by the tests of bus and arm."""

from collections.abc import Callable

import numpy as np
import pytest

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.feetech_servos import FeetechServo
from hardware.emulator.plant import IdealPlant, Plant
from hardware.emulator.stepped import SteppedPort
from hardware.emulator.wire import EmulatedBus
from hardware.feetech.bus import FeetechBus
from hardware.serial_arm import SerialArm
from sim2real.clock import SimulatedClock
from sim2real.robot import Robot


class Rig:
    """Six servos behind an ideal plant, and a driver's bus on them."""

    def __init__(self, n: int = 6) -> None:
        self.plant = IdealPlant(n, np.linspace(-0.5, 0.5, n))
        self.servos = [FeetechServo(i + 1, self.plant, i, values={"return_delay_time": 0}) for i in range(n)]
        self.line = EmulatedBus(self.servos, self.plant)
        self.port = SteppedPort(self.line)
        self.bus = FeetechBus(self.port)
        self.ids = tuple(range(1, n + 1))

    def positions(self) -> list[int]:
        """What a sync read of the present positions returns; -1 where a servo did not answer."""
        reading = self.bus.sync_read(self.ids, 56, 6)
        entry = self.bus.table["present_position"]
        return [entry.decode(row[:2].tobytes()) if ok else -1 for row, ok in zip(reading.data, reading.valid)]

    def truth(self) -> list[int]:
        """The positions the servos would report now."""
        return [servo._present() for servo in self.servos]


@pytest.fixture
def make_rig() -> Callable[[], Rig]:
    return Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


class ArmRig:
    """The emulated SO-101 on a stepped clock, with an ideal plant unless another is given."""

    def __init__(self, plant: Plant | None = None) -> None:
        self.robot = Robot.load("so101")
        self.calibration = emulated_calibration(self.robot)
        self.plant = plant or IdealPlant(self.robot.n, self.robot.rest)
        self.servos = build_servos(self.robot, self.plant, self.calibration)
        self.line = EmulatedBus(self.servos, self.plant)
        self.clock = SimulatedClock()
        self.port = SteppedPort(self.line, self.clock)
        self.bus = FeetechBus(self.port)
        self.arm = SerialArm(self.robot, self.bus, self.calibration, clock=self.clock)

    def ready(self) -> SerialArm:
        """Identified, configured, torque on."""
        self.arm.identify()
        self.arm.configure()
        self.arm.enable()
        return self.arm

    def run(self, seconds: float, goal: np.ndarray | None = None) -> None:
        """The control loop's traffic at 100 Hz."""
        for _ in range(round(seconds * 100)):
            start = self.clock.now()
            self.arm.observe()
            if goal is not None:
                self.arm.command(goal)
            self.clock.sleep_until(start + 0.01)


@pytest.fixture
def arm_rig() -> ArmRig:
    return ArmRig()
