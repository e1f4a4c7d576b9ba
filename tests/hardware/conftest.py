"""Emulated servos on a stepped clock, shared by the tests of bus and arm."""

from collections.abc import Callable

import numpy as np
import pytest

from hardware.emulator.feetech.servo import FeetechServo
from hardware.emulator.plant import IdealPlant, Plant
from hardware.emulator.stepped import SteppedArm, SteppedPort
from hardware.emulator.wire import EmulatedBus
from hardware.servos.feetech.bus import FeetechBus


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


class ArmRig(SteppedArm):
    """The emulated SO-101 on a stepped clock, with an ideal plant unless another is given."""

    bus: FeetechBus

    def __init__(self, plant: Plant | None = None) -> None:
        super().__init__("so101", plant)


@pytest.fixture
def arm_rig() -> ArmRig:
    return ArmRig()
