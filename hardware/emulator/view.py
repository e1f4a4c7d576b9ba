"""What a camera delivers of a pose: the project's renderers behind one interface.

"raster" is the small rasterizer of `hardware/drawing`, fast enough for any live stream; "tiny" the renderer that the
simulation has, slower, with textures, distractors, blur and compression, but without printed sheets.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.objects import ByName, ObjectSpec
from sim2real.robot import Robot
from sim2real.truth import ObjectState

if TYPE_CHECKING:
    from hardware.drawing.picture import Picture
    from hardware.drawing.sheet import Sheet
    from sim2real.simulation.renderer import Renderer

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Pictures = Literal["raster", "tiny"]
PICTURES: tuple[Pictures, ...] = ("raster", "tiny")


class Viewer:
    """Draws what `camera` of the robot sees of poses as `WorldPlant.pose` gives them. `values` are the world's
    parameters; they and `given` say where cameras stand, as in `Cameras`."""

    def __init__(
        self,
        robot: Robot,
        camera: str,
        values: Mapping[str, float],
        objects: Sequence[ObjectSpec] = (),
        pictures: Pictures = "raster",
        given: Mapping[str, CameraModel] | None = None,
    ) -> None:
        from sim2real.simulation import renderer
        from sim2real.simulation.cameras import Cameras

        self.robot, self.camera, self._values = robot, camera, values
        self.objects = tuple(objects)
        self._cameras = Cameras(robot, given)
        self._cameras.reset(values, 0)
        self._picture: Picture | None = None
        self._renderer: Renderer | None = None
        if pictures == "tiny":
            self._renderer = renderer.Renderer(robot, self.objects, self._cameras)
            self.reset(0)
        else:
            from hardware.drawing import picture

            self._picture = picture.Picture(robot, self.stands, values, self.objects)

    @property
    def stands(self) -> CameraModel:
        """Where the camera really is."""
        return self._cameras.real(self.camera)

    def reset(self, seed: int) -> None:
        """Of a new episode: `seed` determines noise and textures where there are any."""
        self._cameras.reset(self._values, seed)
        if self._renderer is not None:
            self._renderer.reset(self._values, seed)

    def close(self) -> None:
        """Free what it draws with."""
        if self._renderer is not None:
            self._renderer.close()

    def draw(self, pose: Array, sheets: "Sequence[tuple[Sheet, Array]]" = ()) -> Image:
        """(height, width, 3) RGB; see `Picture.draw`."""
        if self._picture is not None:
            return self._picture.draw(pose, sheets)
        from hardware.drawing.picture import OBJECT
        from sim2real.simulation.studio import Snapshot

        assert self._renderer is not None
        n = self.robot.n
        states: ByName[ObjectState] = ByName()
        for spec, row in zip(self.objects, pose[n:].reshape(-1, OBJECT)):
            if np.isfinite(row[0]):
                turn, size = row[3:12].reshape(3, 3), float(row[12])
                states[spec.name] = ObjectState(spec.scaled(size), row[:3].copy(), turn, _quaternion(turn))
        return self._renderer.image(self.camera, Snapshot(pose[:n].copy(), states))


def _quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """(x, y, z, w) of a rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat().tolist()
    return x, y, z, w
