"""What a parameter's value cannot be: outside of these limits it has no meaning, or the model does not hold it."""

import fnmatch
import math
from dataclasses import replace

from sim2real.parameters import Parameter

ANY = math.inf

LIMITS: dict[str, tuple[float, float]] = {
    "servo.voltage": (0.1, 10.0),
    "servo.sag": (0.0, ANY),
    "servo.temperature": (-100.0, 200.0),
    "servo.friction": (0.0, ANY),
    "link.*.mass": (1e-6, ANY),
    "link.*.inertia": (1e-3, ANY),
    "payload.mass": (0.0, ANY),
    "world.gravity": (0.0, 100.0),
    "world.table_friction": (0.0, ANY),
    "object.*.mass": (1e-3, ANY),
    "object.*.friction": (0.0, ANY),
    "object.*.restitution": (0.0, 1.0),
    "object.*.joint_*": (0.0, ANY),
    "gripper.friction": (0.0, ANY),
    # Delay lines and what is kept of past readings have a length.
    "gripper.lag": (0.0, 0.25),
    "command.delay": (0.0, 0.2),
    "command.jitter": (0.0, 0.1),
    "sensor.delay": (0.0, 0.15),
    "sensor.jitter": (0.0, 0.05),
    "policy.latency": (0.0, ANY),
    "policy.jitter": (0.0, ANY),
    "control.jitter": (0.0, 1.0),
    "*.dropout": (0.0, 1.0),
    "*.burst": (1.0, ANY),
    "*noise": (0.0, ANY),
    "push.*": (0.0, ANY),
    "detector.rate": (0.5, 1000.0),
    "detector.latency": (0.0, ANY),
    "detector.errors": (0.0, ANY),
    # Errors of calibration; where a camera stands is said otherwise.
    "camera.[xyz]": (-0.02, 0.02),
    "camera.pitch": (-0.04, 0.04),
    "camera.yaw": (-0.04, 0.04),
    "camera.roll": (-0.04, 0.04),
    "camera.focal": (0.1, 10.0),
    "camera.elevation": (0.05, math.pi / 2),
    "camera.distance": (0.05, 10.0),
    "camera.fov": (0.1, 2.6),
    "camera.resolution": (48.0, 4320.0),
    "camera.drift*": (0.0, ANY),
    "camera.blur": (0.0, ANY),
    "camera.compression": (0.0, 1.0),
    "light.elevation": (0.01, math.pi / 2),
    "light.ambient": (0.0, ANY),
    "light.diffuse": (0.0, ANY),
    "light.warmth": (-1.0, 1.0),
    "camera.white_balance": (-1.0, 1.0),
    "colour.*_warmth": (-1.0, 1.0),
    "colour.*": (0.0, ANY),
    "texture.size": (1e-3, ANY),
    "texture.kind": (0.0, 3.0),
    "texture.*": (0.0, 1.0),
    "distractors.count": (0.0, 4.999),
    "distractors.layout": (0.0, 1.0),
}
"""By name or wildcard; the first that matches holds."""


def limited(parameter: Parameter) -> Parameter:
    """The parameter with its limits, if it has any."""
    for pattern, (minimum, maximum) in LIMITS.items():
        if fnmatch.fnmatchcase(parameter.name, pattern):
            return replace(parameter, minimum=minimum, maximum=maximum)
    return parameter
