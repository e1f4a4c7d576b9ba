"""Serial drivers, perception, the deployment runtime and the emulator."""

from typing import TYPE_CHECKING

from sim2real.lazy import exports

if TYPE_CHECKING:
    from hardware.arm.serial_arm import SerialArm
    from hardware.emulator.launch import EmulatorHandle, start_emulator
    from hardware.runtime.control.loop import ControlLoop
    from hardware.servos.family import FAMILIES, ServoFamily

__all__ = [
    "FAMILIES",
    "ControlLoop",
    "EmulatorHandle",
    "SerialArm",
    "ServoFamily",
    "start_emulator",
]

_WHERE = {
    "ControlLoop": "hardware.runtime.control.loop",
    "EmulatorHandle": "hardware.emulator.launch",
    "FAMILIES": "hardware.servos.family",
    "SerialArm": "hardware.arm.serial_arm",
    "ServoFamily": "hardware.servos.family",
    "start_emulator": "hardware.emulator.launch",
}
"""The module of each public name, which is imported when the name is used."""

__getattr__, __dir__ = exports(__name__, _WHERE)
