"""How much of an object a camera sees past everything else, and which side of it is hidden: found by casting rays."""

import itertools

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.compiled import njit
from sim2real.simulation.bullet import bullet
from sim2real.simulation.scene import SceneBodies
from sim2real.truth import ObjectState

Array = NDArray[np.float64]

INWARD = 0.42
"""Rays are cast at points of the box around an object that are so many of its edges away from the middle."""


def _grid() -> Array:
    """(27, 3): middle and corners of a unit cube first, then the middles of its faces and edges."""
    points = sorted(
        itertools.product((0, -1, 1), repeat=3), key=lambda p: (sum(map(abs, p)) not in (0, 3), p)
    )
    return INWARD * np.array(points, dtype=np.float64)


GRID = _grid()
FIRST = 9
"""So many of the grid's points are looked at first; the others only where one of these is hidden."""
EVERYTHING = 1.0, (0.0, 0.0)


class Visibility:
    """Looks at objects of one scene through one camera."""

    def __init__(self, bodies: SceneBodies, camera: CameraModel) -> None:
        self._bodies = bodies
        self._base_to_camera = np.ascontiguousarray(camera.base_to_camera)
        # Without distortion, which matters at the very edge only.
        self._lens = np.array([camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height])
        self._eye = np.array(camera.position)
        self._eyes = [camera.position.tolist()] * len(GRID)

    def look(self, state: ObjectState) -> tuple[float, tuple[float, float]]:
        """The fraction of the object that is seen, and by how much the middle of what is seen lies beside the middle
        of the object, (x, y) m, as it appears on the plane of its origin."""
        points, inside = _cast(
            state.position,
            state.rotation,
            np.array(state.spec.extent),
            self._base_to_camera,
            self._lens,
            GRID,
        )
        targets = points.tolist()
        self._block(state, targets[:FIRST], inside[:FIRST])
        if inside[:FIRST].all():
            return EVERYTHING
        self._block(state, targets[FIRST:], inside[FIRST:])
        share, x, y = _middle(points, inside, self._eye, float(state.position[2]))
        return share, (x, y)

    def _block(self, state: ObjectState, points: list[list[float]], clear: NDArray[np.bool_]) -> None:
        """Note in `clear` which of the points something else is before."""
        hits = bullet.rayTestBatch(self._eyes[: len(points)], points, physicsClientId=self._bodies.client)
        own, owner = state.spec.name, self._bodies.owner
        for k, hit in enumerate(hits):
            # A ray that meets nothing passed beside a round thing: nothing is in the way.
            if hit[0] != -1 and owner(hit[0]) != own:
                clear[k] = False


@njit(cache=True, nogil=True)
def _cast(
    position: Array, rotation: Array, extent: Array, base_to_camera: Array, lens: Array, grid: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """(27, 3) the grid's points on an object, m, and which of them (27,) are within the picture."""
    points, inside = np.empty((27, 3)), np.empty(27, np.bool_)
    local = np.empty(3)
    for k in range(27):
        for i in range(3):
            points[k, i] = position[i]
            for j in range(3):
                points[k, i] += rotation[i, j] * extent[j] * grid[k, j]
        for i in range(3):
            local[i] = base_to_camera[i, 3]
            for j in range(3):
                local[i] += base_to_camera[i, j] * points[k, j]
        inside[k] = False
        if local[2] > 0.0:
            x, y = local[0] * lens[0] / local[2] + lens[2], local[1] * lens[1] / local[2] + lens[3]
            inside[k] = 0.0 <= x < lens[4] and 0.0 <= y < lens[5]
    return points, inside


@njit(cache=True, nogil=True)
def _middle(points: Array, clear: NDArray[np.bool_], eye: Array, height: float) -> tuple[float, float, float]:
    """The share of the points that is clear, and where their middle is beside that of all, on the plane at `height`."""
    total, seen = np.zeros(2), np.zeros(2)
    count = 0
    for k in range(len(points)):
        along = (height - eye[2]) / (points[k, 2] - eye[2])
        for i in range(2):
            value = along * (points[k, i] - eye[i])
            total[i] += value
            if clear[k]:
                seen[i] += value
        count += clear[k]
    if count == 0:
        return 0.0, 0.0, 0.0
    n = len(points)
    return count / n, seen[0] / count - total[0] / n, seen[1] / count - total[1] / n
