"""A camera that slowly moves while an episode runs: a tripod that sinks, a clamp that gives.

It moves at a constant rate, in a direction and about an axis that follow from the draw's seed. A calibration made
before the episode says where it stood at the beginning, and takes it to stand there still.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sim2real.camera import CameraModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """`velocity` (3,) m/s in the base frame, `turning` (3,) rad/s about the camera's own axes."""

    velocity: Array
    turning: Array

    @classmethod
    def drawn(cls, values: Mapping[str, float], seed: int) -> "Drift":
        """From `camera.drift` and `camera.drift_turn`; nothing random is drawn that depends on their size."""
        directions = np.random.default_rng((seed, 0xDF)).standard_normal((2, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return cls(values["camera.drift"] * directions[0], values["camera.drift_turn"] * directions[1])

    def __bool__(self) -> bool:
        return bool(self.velocity.any() or self.turning.any())

    def after(self, camera: CameraModel, time: float) -> CameraModel:
        """Where `camera` stands `time` s after the beginning."""
        pose = camera.camera_to_base.copy()
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(self.turning * time).as_matrix()
        pose[:3, 3] += self.velocity * time
        return replace(camera, camera_to_base=pose)
