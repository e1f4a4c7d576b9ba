"""What a person does with a board before a camera whose lens is to be calibrated, as poses for a sheet."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sim2real.camera import CameraModel

Array = NDArray[np.float64]


def waved(camera: CameraModel, size: tuple[float, float], count: int, seed: int = 0) -> list[Array]:
    """(4, 4) poses in the camera's frame of a board of `size` (width, height) m: in all parts of the picture, leaning
    every way, all of it seen."""
    rng = np.random.default_rng(seed)
    half = np.array(size) / 2
    corners = np.array([[x, y, 0.0] for x in (-half[0], half[0]) for y in (-half[1], half[1])])
    poses: list[Array] = []
    while len(poses) < count:
        pose = np.eye(4)
        # Readable, upright, then leaning.
        lean = Rotation.from_rotvec([*rng.uniform(-0.7, 0.7, 2), rng.uniform(-0.4, 0.4)])
        pose[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ lean.as_matrix()
        depth = rng.uniform(0.9, 1.9) * size[0] * camera.fx / camera.width
        place = rng.uniform(-0.2, 1.2, 2) * (camera.width, camera.height)
        pose[:3, 3] = depth * np.array([*(place - (camera.cx, camera.cy)) / (camera.fx, camera.fy), 1.0])
        points = corners @ pose[:3, :3].T + pose[:3, 3]
        if (points[:, 2] < 0.1).any():
            continue
        pixels = camera.project_local(points)
        inside = (pixels > 3) & (pixels < (camera.width - 4, camera.height - 4))
        if inside.all():
            poses.append(pose)
    return poses
