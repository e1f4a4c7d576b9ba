"""What a camera sees of the scene: software rendering with the drawn pose, optics, light and colours.

PyBullet's TinyRenderer draws the arm and the objects without a graphics card; the table behind them and the
shadows on it come from `backdrop.py`. It knows no distortion, exposure, noise or compression: those are applied to
its picture, in the order in which they arise in a camera. Colours are factors per body, taken from the
segmentation mask, so that nothing in the scene has to be changed for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.carried import in_base
from sim2real.objects import ObjectSpec
from sim2real.pictures import PictureInput
from sim2real.robot import Robot
from sim2real.simulation.backdrop import LIGHT_PIXELS, Backdrop, light_direction
from sim2real.simulation.bullet import bullet
from sim2real.simulation.cameras import Cameras
from sim2real.simulation.photographs import Photograph, chosen
from sim2real.simulation.studio import Snapshot, Studio

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

NEAR, FAR = 0.02, 5.0
"""Clipping distances, m."""
SPECULAR = 0.05
SMALL_LIGHT = 96
"""Pixels of the light's picture where a policy's small picture is drawn."""


def view_matrix(camera: CameraModel) -> list[float]:
    """OpenGL's view matrix, column by column: camera axes right, up, backward."""
    return list((np.diag([1.0, -1.0, -1.0, 1.0]) @ camera.base_to_camera).T.ravel())


def projection_matrix(camera: CameraModel) -> list[float]:
    """OpenGL's projection matrix of the pinhole part of the camera, column by column."""
    w, h = camera.width, camera.height
    matrix = np.zeros((4, 4))
    # TinyRenderer samples each pixel at its upper left corner (seen in its pictures: they lie half a pixel right
    # and up of where OpenGL's convention would have them), so the optical axis is moved the other way.
    matrix[0, 0], matrix[0, 2] = 2 * camera.fx / w, 1 - 2 * camera.cx / w
    matrix[1, 1], matrix[1, 2] = 2 * camera.fy / h, 2 * (camera.cy + 1.0) / h - 1
    matrix[2, 2], matrix[2, 3] = -(FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
    matrix[3, 2] = -1.0
    return list(matrix.T.ravel())


class Renderer:
    """Draws one robot and what is on its table. `reset` once per episode, then `image` as often as wanted.

    What it draws with is made for the first picture: most worlds are never looked at.
    """

    def __init__(
        self,
        robot: Robot,
        objects: Sequence[ObjectSpec],
        cameras: Cameras,
        photographs: Sequence[Photograph] = (),
    ) -> None:
        self._robot, self._objects, self._cameras = robot, tuple(objects), cameras
        self._photographs = tuple(photographs)
        self._studio: Studio | None = None
        self._values: Mapping[str, float] = {}
        self._seed = 0
        self._rng = np.random.default_rng(0)
        self._backdrops: dict[tuple[str, int, int], Backdrop] = {}
        self._maps: dict[tuple[str, int, int], tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        self._moment = 0
        self._drawn_at: dict[str, int] = {}
        """For which place of a drifting camera the backdrop of a policy's picture is."""

    def reset(self, values: Mapping[str, float], seed: int) -> None:
        """Take the parameters of an episode; `seed` determines noise and textures."""
        self._values = values
        self._rng = np.random.default_rng((seed, 0xCA))
        self._seed = seed
        self._maps.clear()
        self._backdrops.clear()
        self._moment = 0
        self._drawn_at.clear()

    def close(self) -> None:
        """Free what it draws with."""
        if self._studio is not None:
            self._studio.close()
            self._studio = None

    def image(
        self,
        name: str,
        view: Snapshot,
        width: int | None = None,
        height: int | None = None,
        time: float = 0.0,
    ) -> Image:
        """(height, width, 3) RGB of `view`, `time` s into the episode.

        Another size than the camera's must have its proportions.
        """
        camera = self._cameras.real(name, time)
        if self._cameras.moments(time) != self._moment:
            self._moment = self._cameras.moments(time)
            self._backdrops.clear()
        if width is not None or height is not None:
            camera = camera.resized(width or camera.width, height or camera.height)
        if self._studio is None:
            self._studio = Studio(self._robot, self._objects)
        studio = self._studio
        studio.arrange(view, self._values)
        if camera.link is not None:
            camera = in_base(camera, self._robot, view.position)
            self._backdrops.clear()
        picture, _ = self._compose(studio, camera, name)
        return self._optics(picture, camera, name, self._rng)

    def picture(
        self, wanted: PictureInput, view: Snapshot, time: float = 0.0, number: int = 0
    ) -> tuple[Image, dict[str, int]]:
        """What a policy sees, (H, W, 3) RGB, of `view`, `time` s into the episode, and how many of its pixels show each
        object. `number` is the picture's number in the episode: noise follows from it and the episode's seed.

        Who cuts out the view from above goes by the camera's description, up to the detector's constant error,
        `detector.bias_x` and `_y`.
        """
        believed = self._cameras.described(wanted.camera)
        wanted.check(believed)
        camera = self._cameras.real(wanted.camera, time)
        if self._studio is None:
            self._studio = Studio(self._robot, self._objects)
        studio = self._studio
        studio.arrange(view, self._values)
        key = f"{wanted.view} of {wanted.camera}"
        moment = self._cameras.moments(time)
        if camera.link is not None:
            camera = believed = in_base(camera, self._robot, view.position)
        elif wanted.view == "table":
            pose = believed.camera_to_base.copy()
            pose[:2, 3] += self._values["detector.bias_x"], self._values["detector.bias_y"]
            believed = replace(believed, camera_to_base=pose)
        if self._drawn_at.get(key) != moment or camera.link is not None:
            self._drawn_at[key] = moment
            self._backdrops.pop((key, wanted.width, wanted.height), None)
        virtual = wanted.camera_for(camera, believed)
        picture, mask = self._compose(studio, virtual, key, SMALL_LIGHT)
        rng = np.random.default_rng((self._seed, 0xCA, number))
        image = self._optics(picture, virtual, key, rng)
        counts = np.bincount(mask.ravel() + 1, minlength=1)
        pixels = {
            spec.name: int(
                sum(counts[body + 1] for body in studio.bodies(spec.name) if body + 1 < len(counts))
            )
            for spec in self._objects
        }
        return image, pixels

    def _compose(
        self, studio: Studio, camera: CameraModel, key: str, light: int = LIGHT_PIXELS
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The ideal picture (H, W, 3), 0..255, and which body (H, W) is at each pixel, -1 for the table and beyond."""
        backdrop = self._backdrop(camera, key, light)
        picture = backdrop.picture(self._shadow(studio, backdrop)) * self._exposure()
        rgb, mask = self._draw(studio, camera, shadow=self._values["light.shadow"] >= 0.5)
        drawn = np.flatnonzero(mask >= 0)
        flat = picture.reshape(-1, 3)
        flat[drawn] = rgb.reshape(-1, 3)[drawn] * self._gains(studio)[mask.ravel()[drawn]]
        return picture, mask

    def _backdrop(self, camera: CameraModel, name: str, light: int) -> Backdrop:
        key = (name, camera.width, camera.height)
        if key not in self._backdrops:
            self._backdrops[key] = Backdrop(
                camera, self._values, self._seed, light, chosen(self._photographs, self._seed)
            )
        return self._backdrops[key]

    def _shadow(self, studio: Studio, backdrop: Backdrop) -> NDArray[np.bool_] | None:
        """What the light sees of arm and objects, as a mask in its own picture; None without shadows."""
        if self._values["light.shadow"] < 0.5:
            return None
        _, mask = self._draw(studio, backdrop.light, shadow=False)
        return (mask >= 0) & ~np.isin(mask, studio.painted)

    def _draw(self, studio: Studio, camera: CameraModel, shadow: bool) -> tuple[Image, NDArray[np.int32]]:
        """(H, W, 3) colours and (H, W) body numbers, -1 where there is none."""
        v = self._values
        warmth = v["light.warmth"]
        width, height, rgba, _, mask = bullet.getCameraImage(
            camera.width,
            camera.height,
            view_matrix(camera),
            projection_matrix(camera),
            lightDirection=light_direction(v).tolist(),
            lightColor=(1 + warmth, 1.0, 1 - warmth),
            lightDistance=2.0,
            shadow=int(shadow),
            lightAmbientCoeff=v["light.ambient"],
            lightDiffuseCoeff=v["light.diffuse"],
            lightSpecularCoeff=SPECULAR,
            renderer=bullet.ER_TINY_RENDERER,
            physicsClientId=studio.client,
        )
        colours = np.asarray(rgba, dtype=np.uint8).reshape(height, width, 4)[..., :3]
        return colours, np.asarray(mask, dtype=np.int32).reshape(height, width)

    def _exposure(self) -> NDArray[np.float32]:
        """(3,) factor of exposure and white balance."""
        balance = self._values["camera.white_balance"]
        gain = 2.0 ** self._values["camera.exposure"]
        return np.array([gain * (1 + balance), gain, gain * (1 - balance)], dtype=np.float32)

    def _gains(self, studio: Studio) -> NDArray[np.float32]:
        """(bodies, 3) factor on the drawn colour of each body."""
        v = self._values
        gains = np.ones((bullet.getNumBodies(physicsClientId=studio.client), 3), dtype=np.float32)
        gains[studio.arm] = v["colour.arm"]
        # Parameters are absolute: what the bodies were made with is divided out.
        for spec in self._objects:
            gains[studio.bodies(spec.name)] = v[f"colour.{spec.name}"] / max(spec.rgb)
        return gains * self._exposure()

    def _optics(
        self, picture: NDArray[np.float32], camera: CameraModel, name: str, rng: np.random.Generator
    ) -> Image:
        v = self._values
        if camera.distortion.any():
            picture = picture[self._distortion_map(camera, name)]
        sigma = v["camera.blur"] * camera.width / 640
        if sigma > 0.05:
            picture = _blurred(picture, sigma)
        if v["camera.noise"] > 0:
            noise = rng.standard_normal(picture.shape, dtype=np.float32)
            picture = picture + np.float32(255 * v["camera.noise"]) * noise
        if v["camera.compression"] > 0:
            picture = _compressed(picture, v["camera.compression"])
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def _distortion_map(self, camera: CameraModel, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For every pixel of the distorted picture, the row and column of the ideal one (nearest)."""
        key = (name, camera.width, camera.height)
        if key not in self._maps:
            columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
            rays = camera.pixel_rays(np.stack([columns, rows], axis=-1)) @ camera.rotation
            x = np.rint(rays[..., 0] / rays[..., 2] * camera.fx + camera.cx)
            y = np.rint(rays[..., 1] / rays[..., 2] * camera.fy + camera.cy)
            self._maps[key] = (
                np.clip(y, 0, camera.height - 1).astype(np.intp),
                np.clip(x, 0, camera.width - 1).astype(np.intp),
            )
        return self._maps[key]


def _blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter1d

    once = gaussian_filter1d(picture, sigma, axis=0, mode="nearest")
    return np.asarray(gaussian_filter1d(once, sigma, axis=1, mode="nearest"))


# The luminance quantization table of JPEG (ITU T.81, annex K.1).
_QUANTIZATION = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float32,
)


def _compressed(picture: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """JPEG's artefacts: every 8 x 8 block rounded in the frequency domain, each colour by itself."""
    k = np.arange(8)
    basis = (
        np.cos(np.pi * (2 * k[None, :] + 1) * k[:, None] / 16) * np.where(k == 0, 0.125, 0.25)[:, None] ** 0.5
    )
    basis = basis.astype(np.float32)
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, 3).transpose(0, 2, 4, 1, 3)
    steps = np.maximum(_QUANTIZATION * np.float32(2 * strength), 1e-3)
    spectrum = np.rint(basis @ blocks @ basis.T / steps) * steps
    restored = (basis.T @ spectrum @ basis).transpose(0, 3, 1, 4, 2).reshape(padded.shape)
    return np.asarray(restored[:height, :width], dtype=np.float32)
