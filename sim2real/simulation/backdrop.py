"""The table as a camera sees it, with the shadows that fall on it.

The table fills most of every picture, and a software renderer pays per pixel. But all of it lies in one plane
under one light: what a pixel shows of it follows from where its ray meets the plane, and needs to be computed
once per episode. Only shadows change. They are taken from a small picture that the light itself would see: a
point of the table is dark where the arm or an object stands before it there.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.simulation.photographs import Photograph
from sim2real.simulation.scene import TABLE_CENTRE, TABLE_HALF

Array = NDArray[np.float64]

LIGHT_DISTANCE = 3.0
LIGHT_TARGET = (0.2, 0.0, 0.05)
LIGHT_PIXELS = 256
LIGHT_REACH = 0.5
"""The light's picture covers this much around its target, m."""
SHADOW = 0.4
"""Share of the direct light that is left in a shadow, as in TinyRenderer."""
PHOTOGRAPHED = 166.0
"""Brightness of a drawn table, of 255, at which a photograph is as bright as it was taken: the middle of the range."""
BACKGROUND_BLOTCH = 40.0
"""Size of what is behind the table, pixels at 640 pixels' width."""


def light_direction(values: Mapping[str, float]) -> Array:
    """(3,) unit vector from the table towards the light."""
    flat = math.cos(values["light.elevation"])
    azimuth = values["light.azimuth"]
    return np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(values["light.elevation"])])


class Backdrop:
    """Table and background for one camera in one episode. `light_pixels`: how fine shadows are; `photograph`: of a
    table in the place of a drawn one."""

    def __init__(
        self,
        camera: CameraModel,
        values: Mapping[str, float],
        seed: int,
        light_pixels: int = LIGHT_PIXELS,
        photograph: Photograph | None = None,
    ) -> None:
        direction = light_direction(values)
        target = np.array(LIGHT_TARGET)
        self.light = CameraModel.looking_at(
            target + LIGHT_DISTANCE * direction,
            target,
            width=light_pixels,
            height=light_pixels,
            fov=2 * math.atan(LIGHT_REACH / LIGHT_DISTANCE),
            name="light",
        )
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        # As the renderer does: distortion is applied to the finished picture.
        ideal = np.stack(
            [(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(columns.shape)], -1
        )
        points = camera.meet_plane(ideal @ camera.rotation.T, values["world.table_height"])
        with np.errstate(invalid="ignore"):
            on_table = (np.abs(points[..., 0] - TABLE_CENTRE[0]) < TABLE_HALF[0]) & (
                np.abs(points[..., 1] - TABLE_CENTRE[1]) < TABLE_HALF[1]
            )
        warmth, light = values["colour.table_warmth"], values["light.warmth"]
        colour = 255 * values["colour.table"] * np.array([1 + warmth, 1.0, 1 - warmth])
        direct = values["light.diffuse"] * direction[2] * np.array([1 + light, 1.0, 1 - light])
        lit = colour * (values["light.ambient"] + direct)
        shaded = colour * (values["light.ambient"] + SHADOW * direct)
        self._dark = (shaded / lit).astype(np.float32)
        self._lit = _behind(camera, values, seed)
        self._lit[on_table] = lit
        places = points[on_table]
        if values["texture.table"] > 0:
            pattern = _pattern(places[:, :2] / values["texture.size"], int(values["texture.kind"]), seed)
            self._lit[on_table] *= 1 + np.float32(values["texture.table"]) * pattern[:, None]
        if photograph is not None:
            # It was lit when it was taken; the light of the episode makes it brighter or darker as a whole.
            self._lit[on_table] = photograph.table(places, seed) * np.float32(colour.mean() / PHOTOGRAPHED)
            rays = (ideal @ camera.rotation.T)[~on_table]
            behind = photograph.beyond(camera, rays / np.linalg.norm(rays, axis=-1, keepdims=True))
            if behind is not None:
                self._lit[~on_table] = behind
        # Where each pixel of the table is in the light's picture.
        pixels = np.rint(self.light.project(places))
        seen = self.light.contains(pixels)
        self._pixels = np.flatnonzero(on_table)[seen]
        column, row = pixels[seen].astype(np.int64).T
        self._in_light = row * light_pixels + column

    def picture(self, shadow: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """(H, W, 3) colours 0..255, not yet limited; `shadow` is the mask in the light's picture."""
        picture = self._lit.copy()
        if shadow is not None:
            dark = self._pixels[shadow.ravel()[self._in_light]]
            picture.reshape(-1, 3)[dark] *= self._dark
        return picture


def _behind(camera: CameraModel, values: Mapping[str, float], seed: int) -> NDArray[np.float32]:
    """(H, W, 3) what is seen where there is no table: a wall far away, blotched by whatever is in the room."""
    warmth = values["colour.background_warmth"]
    colour = 255 * values["colour.background"] * np.array([1 + warmth, 1.0, 1 - warmth])
    picture = np.full((camera.height, camera.width, 3), colour, np.float32)
    if values["texture.background"] > 0:
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        size = BACKGROUND_BLOTCH * camera.width / 640
        places: Array = np.stack([columns.ravel() / size, rows.ravel() / size], axis=1)
        blotches = _grain(places, seed + 1).reshape(camera.height, camera.width, 1)
        picture *= 1 + np.float32(values["texture.background"]) * blotches
    return picture


def _pattern(places: Array, kind: int, seed: int) -> NDArray[np.float32]:
    """A pattern in -1..1 at `places` (K, 2), in units of its size: 0 grain, 1 wood, 2 checks."""
    if kind <= 0:
        return _grain(places, seed)
    if kind == 1:
        # Rings seen lengthwise: stripes along x that wander.
        wander = _grain(places * (0.1, 0.5), seed)
        return np.asarray(np.sin(2 * math.pi * (places[:, 1] + wander)), dtype=np.float32)
    tiles = np.floor(places).sum(axis=1) % 2
    return np.asarray(2 * tiles - 1, dtype=np.float32)


def _grain(places: Array, seed: int) -> NDArray[np.float32]:
    """Smooth noise in -1..1 at `places` (K, 2), in units of its size; the same for the same seed."""
    size = 128
    values = np.random.default_rng((seed, 0x7E)).uniform(-1, 1, (size, size)).astype(np.float32)
    corner = np.floor(places).astype(np.int64)
    x, y = (places - corner).astype(np.float32).T
    i, j = corner.T % size
    k, m = (i + 1) % size, (j + 1) % size
    top = values[i, j] * (1 - y) + values[i, m] * y
    bottom = values[k, j] * (1 - y) + values[k, m] * y
    return np.asarray(top * (1 - x) + bottom * x, dtype=np.float32)
