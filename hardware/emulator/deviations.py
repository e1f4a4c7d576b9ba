"""The emulated arm's own parameters: deliberately not those that policies are trained around.

`DEVIATIONS` says how each quantity differs from its nominal value: "scale" multiplies, "add" adds, "set" replaces.
Where several numbers are given, joint i of the arm takes number i (in a circle). They are fixed, so that figures
measured on the emulated arm can be compared; `--twin FILE` replaces them.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

from sim2real.parameters import Parameter

Change = tuple[Literal["set", "scale", "add"], tuple[float, ...]]

DEVIATIONS: Mapping[str, Change] = {
    # The servos: softer or stiffer by up to 20 %, drier or looser, slower to react.
    "servo.voltage": ("scale", (0.97,)),
    "servo.*.kp": ("scale", (0.90, 0.85, 0.82, 1.15, 1.20, 0.95)),
    "servo.*.kd": ("add", (0.004,)),
    "servo.*.coulomb": ("scale", (1.4, 1.7, 1.5, 0.7, 1.2, 1.6)),
    "servo.*.viscous": ("scale", (1.3, 0.8, 1.2, 1.4, 0.7, 1.1)),
    "servo.*.armature": ("scale", (1.08, 0.94, 1.05, 0.92, 1.0, 1.1)),
    "servo.*.command_delay": ("add", (0.012, 0.008, 0.015, 0.010, 0.006, 0.014)),
    "servo.*.backlash": ("add", (0.006, 0.009, 0.008, 0.010, 0.007, 0.012)),
    # Encoders that were not quite in the middle when the arm was calibrated: up to 1°.
    "servo.*.offset": ("add", (0.008, -0.014, 0.012, -0.009, 0.017, 0.010)),
    # What was built: cables and screws weigh something, the table is not quite level.
    "link.*.mass": ("scale", (1.06, 1.04, 1.07, 1.03, 1.05, 1.0)),
    "world.tilt_x": ("add", (0.006,)),
    "world.tilt_y": ("add", (-0.004,)),
    "object.*.mass": ("scale", (1.25,)),
    "object.*.friction": ("scale", (0.8,)),
    "gripper.friction": ("scale", (0.85,)),
    # The camera does not stand exactly where its file says.
    "camera.x": ("add", (0.002,)),
    "camera.y": ("add", (-0.0015,)),
    "camera.z": ("add", (0.002,)),
    "camera.pitch": ("add", (0.002,)),
    "camera.yaw": ("add", (-0.0015,)),
    "camera.exposure": ("add", (-0.15,)),
    "camera.white_balance": ("add", (0.04,)),
    "camera.noise": ("add", (0.01,)),
    "light.azimuth": ("add", (0.3,)),
}


def default_twin(parameters: Mapping[str, Parameter]) -> dict[str, float]:
    """`DEVIATIONS` applied to the nominal values of `parameters`: absolute values by name."""
    return changed(DEVIATIONS, parameters)


def changed(changes: Mapping[str, Change], parameters: Mapping[str, Parameter]) -> dict[str, float]:
    """The changes applied to the nominal values of `parameters`: absolute values by name. A later entry holds."""
    values: dict[str, float] = {}
    for pattern, (mode, amounts) in changes.items():
        names = [name for name in parameters if fnmatchcase(name, pattern)]
        for i, name in enumerate(names):
            nominal, amount = parameters[name].nominal, amounts[i % len(amounts)]
            values[name] = (
                nominal * amount if mode == "scale" else nominal + amount if mode == "add" else amount
            )
    return values
