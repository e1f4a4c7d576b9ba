"""A small rasterizer for live pictures of the scene: triangles, a depth buffer, one light with shadows on the table.

It draws a whole arm at 640 × 480 in a few milliseconds on one core, fast enough for a live stream, which the
physics engine's own software renderer is not. Being another renderer than the one that policies see in
simulation is welcome: a real camera is another one, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.urdf_file import rotation_from_rpy

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

Colour = tuple[float, float, float]

NEAR = 0.02  # m


@dataclass(frozen=True)
class TriangleMesh:
    """Triangles (k, 3, 3) m with outward normals by the right-hand rule, and one colour (3,) 0..1."""

    triangles: Array
    colour: Colour


def box(size: Colour, colour: Colour) -> TriangleMesh:
    """A box around the origin."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return TriangleMesh(_quads(corners, quads), colour)


def cylinder(radius: float, length: float, colour: Colour, sides: int = 20) -> TriangleMesh:
    """A cylinder along z around the origin."""
    angles = np.arange(sides) * 2 * math.pi / sides
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    low = np.column_stack([ring, np.full(sides, -length / 2)])
    high = np.column_stack([ring, np.full(sides, length / 2)])
    triangles = []
    for i in range(sides):
        j = (i + 1) % sides
        triangles += [(low[i], low[j], high[j]), (low[i], high[j], high[i])]
        triangles += [((0, 0, length / 2), high[i], high[j]), ((0, 0, -length / 2), low[j], low[i])]
    return TriangleMesh(np.array(triangles, dtype=np.float64), colour)


def sphere(radius: float, colour: Colour, rings: int = 8, sides: int = 14) -> TriangleMesh:
    """A sphere around the origin."""
    theta = np.linspace(0, math.pi, rings + 1)
    phi = np.arange(sides + 1) * 2 * math.pi / sides
    grid = radius * np.stack(
        [
            np.outer(np.sin(theta), np.cos(phi)),
            np.outer(np.sin(theta), np.sin(phi)),
            np.outer(np.cos(theta), np.ones(sides + 1)),
        ],
        axis=-1,
    )
    triangles = []
    for r in range(rings):
        for s in range(sides):
            a, b, c, d = grid[r, s], grid[r + 1, s], grid[r + 1, s + 1], grid[r, s + 1]
            triangles += [(a, b, c), (a, c, d)]
    return TriangleMesh(np.array(triangles), colour)


def disc(radius: float, colour: Colour, sides: int = 40) -> TriangleMesh:
    """A disc in the plane z = 0, facing up."""
    angles = np.arange(sides + 1) * 2 * math.pi / sides
    ring = np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(sides + 1)])
    return TriangleMesh(np.array([(np.zeros(3), ring[i], ring[i + 1]) for i in range(sides)]), colour)


def rectangle(x: tuple[float, float], y: tuple[float, float], colour: Colour, cells: int = 1) -> TriangleMesh:
    """A horizontal rectangle in the plane z = 0, facing up, in cells × cells pieces."""
    xs, ys = np.linspace(*x, cells + 1), np.linspace(*y, cells + 1)
    triangles = []
    for i in range(cells):
        for j in range(cells):
            a, b = (xs[i], ys[j], 0.0), (xs[i + 1], ys[j], 0.0)
            c, d = (xs[i + 1], ys[j + 1], 0.0), (xs[i], ys[j + 1], 0.0)
            triangles += [(a, b, c), (a, c, d)]
    return TriangleMesh(np.array(triangles), colour)


def _quads(corners: Array, quads: tuple[tuple[int, ...], ...]) -> Array:
    return np.array([corners[list(t)] for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def urdf_meshes(path: str | Path, joints: Sequence[str]) -> dict[str | None, list[TriangleMesh]]:
    """The visual shapes of a URDF by the joint of `joints` that moves them (None: the base), in its link's frame.

    Boxes, cylinders and spheres; other shapes are left out. Raises UserError when the file cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"cannot read the URDF {path}: {error}") from None
    named = {m.get("name"): _rgb(m) for m in root.iter("material") if m.find("color") is not None}
    above = {
        joint.find("child").get("link"): joint  # type: ignore[union-attr]
        for joint in root.findall("joint")
    }
    result: dict[str | None, list[TriangleMesh]] = {}
    for link in root.findall("link"):
        rotation, origin, name = np.eye(3), np.zeros(3), link.get("name")
        # Climb over joints that do not move, to the link that carries this one.
        while name in above and above[name].get("name") not in joints:
            turn, shift = _frame(above[name])
            rotation, origin = turn @ rotation, turn @ origin + shift
            name = above[name].find("parent").get("link")  # type: ignore[union-attr]
        carrier = above[name].get("name") if name in above else None
        for visual in link.findall("visual"):
            shape = _shape(visual.find("geometry"), _colour(visual.find("material"), named))
            if shape is not None:
                turn, shift = _frame(visual)
                placed = (shape.triangles @ turn.T + shift) @ rotation.T + origin
                result.setdefault(carrier, []).append(TriangleMesh(placed, shape.colour))
    return result


def _frame(element: ElementTree.Element) -> tuple[Array, Array]:
    """Rotation (3, 3) and origin (3,) of an element's <origin>."""
    origin = element.find("origin")
    xyz = _numbers(None if origin is None else origin.get("xyz"))
    rpy = _numbers(None if origin is None else origin.get("rpy"))
    return rotation_from_rpy(*rpy), xyz


def _colour(material: ElementTree.Element | None, named: dict[str | None, Colour]) -> Colour:
    if material is None:
        return (0.7, 0.7, 0.7)
    if material.find("color") is not None:
        return _rgb(material)
    return named.get(material.get("name"), (0.7, 0.7, 0.7))


def _shape(geometry: ElementTree.Element | None, colour: Colour) -> TriangleMesh | None:
    shape = None if geometry is None else next(iter(geometry), None)
    if shape is None:
        return None
    if shape.tag == "box":
        return box(tuple(_numbers(shape.get("size"))), colour)
    if shape.tag == "cylinder":
        return cylinder(float(shape.get("radius", 0)), float(shape.get("length", 0)), colour)
    if shape.tag == "sphere":
        return sphere(float(shape.get("radius", 0)), colour)
    return None


def _rgb(material: ElementTree.Element) -> Colour:
    color = material.find("color")
    red, green, blue = [
        float(v) for v in (color.get("rgba", "0.7 0.7 0.7 1") if color is not None else "1 1 1").split()
    ][:3]
    return red, green, blue


def _numbers(text: str | None) -> Array:
    return np.array([float(value) for value in (text or "0 0 0").split()])


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(
    corners: Array, first: int, shadow: bool, depth: NDArray[np.float32], owner: NDArray[np.int32], flat: int
) -> None:
    """Draw triangles `corners` (k, 3, 3), given as x, y in pixels and 1/z.

    Where nearer than `depth` (1/z: larger is nearer), `owner` becomes `first` + k. With `shadow` nothing is
    drawn: pixels whose owner is one of the `flat` first triangles turn negative.
    """
    height, width = depth.shape
    for k in range(corners.shape[0]):
        x0, y0, w0 = corners[k, 0, 0], corners[k, 0, 1], corners[k, 0, 2]
        x1, y1, w1 = corners[k, 1, 0], corners[k, 1, 1], corners[k, 1, 2]
        x2, y2, w2 = corners[k, 2, 0], corners[k, 2, 1], corners[k, 2, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        # 1/z is linear in the image.
        slope_x = ((w1 - w0) * (y2 - y0) - (w2 - w0) * (y1 - y0)) / area
        slope_y = ((w2 - w0) * (x1 - x0) - (w1 - w0) * (x2 - x0)) / area
        top = max(math.ceil(min(y0, y1, y2)), 0)
        bottom = min(math.floor(max(y0, y1, y2)), height - 1)
        for y in range(top, bottom + 1):
            # Where the row enters and leaves the triangle: the extremes of its crossings with the edges.
            low, high = np.inf, -np.inf
            for e in range(3):
                if e == 0:
                    ax, ay, bx, by = x0, y0, x1, y1
                elif e == 1:
                    ax, ay, bx, by = x1, y1, x2, y2
                else:
                    ax, ay, bx, by = x2, y2, x0, y0
                if min(ay, by) <= y <= max(ay, by) and ay != by:
                    x = ax + (bx - ax) * (y - ay) / (by - ay)
                    low, high = min(low, x), max(high, x)
            left, right = max(math.ceil(low), 0) if low < width else width, -1
            if high >= 0.0:
                right = int(min(math.floor(high), width - 1.0))
            if shadow:
                for x in range(left, right + 1):
                    if 0 < owner[y, x] <= flat:
                        owner[y, x] = -owner[y, x]
                continue
            w = np.float32(w0 + slope_x * (left - x0) + slope_y * (y - y0))
            step = np.float32(slope_x)
            for x in range(left, right + 1):
                if w > depth[y, x]:
                    depth[y, x] = w
                    owner[y, x] = first + k
                w += step


@njit(cache=True, nogil=True, error_model="numpy")
def _paint(
    owner: NDArray[np.int32], lit: Array, dark: Array, noise: NDArray[np.int8], dy: int, dx: int, out: Image
) -> None:
    """Colours (k, 3) 0..255 of the owners, in the light or (negative) in the shade, plus shifted noise."""
    height, width = owner.shape
    for y in range(height):
        for x in range(width):
            who = owner[y, x]
            for c in range(3):
                value = lit[who, c] if who >= 0 else dark[-who, c]
                value += noise[y + dy, x + dx, c] + 0.5
                out[y, x, c] = np.uint8(min(max(value, 0.0), 255.0))


@dataclass(frozen=True)
class Light:
    """A distant light from `direction` (3,) (towards the light); shares of ambient and directed light."""

    direction: Array
    ambient: float
    diffuse: float


class Raster:
    """Draws placed triangles through a pinhole camera, image axes as in OpenCV.

    `noise` is the standard deviation of the pixels' noise, 0..255 (0: none).
    """

    SHIFT = 64
    """Noise is one frame of it, larger by this, and shifted at random: a fresh one would cost more than the picture."""

    def __init__(self, width: int, height: int, noise: float = 0.0) -> None:
        self._depth = np.zeros((height, width), dtype=np.float32)
        self._owner = np.zeros((height, width), dtype=np.int32)
        self._rng = np.random.default_rng(7)
        shape = (height + self.SHIFT, width + self.SHIFT, 3)
        self._noise = np.clip(self._rng.normal(0, noise, shape), -127, 127).astype(np.int8)

    @property
    def depth(self) -> NDArray[np.float32]:
        """(height, width) 1/z in 1/m of what was drawn last; 0 for the background."""
        return self._depth

    def noise(self, height: int, width: int) -> NDArray[np.int8]:
        """(height, width, 3) of the pixels' noise, at most as large as the picture."""
        dy, dx = self._rng.integers(0, self.SHIFT, 2)
        return self._noise[dy : dy + height, dx : dx + width]

    def draw(
        self,
        table: tuple[Array, Array],
        solids: tuple[Array, Array],
        base_to_camera: Array,
        intrinsics: tuple[float, float, float, float],
        light: Light,
        background: Colour,
        gains: Array,
    ) -> Image:
        """(height, width, 3) RGB. `table` and `solids`: triangles (k, 3, 3) m, base frame, and colours (k, 3).

        Solids throw shadows onto what is flat on the table. `intrinsics` fx, fy, cx, cy; `gains` (3,) per colour.
        """
        self._depth[:] = 0.0
        self._owner[:] = 0
        triangles, colours = solids
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = normals / np.where(length > 0, length, 1.0)
        towards_light = normals @ light.direction
        shade = light.ambient + light.diffuse * np.clip(towards_light, 0.0, None)
        # Faces that look away from the camera cannot be seen.
        eye = -base_to_camera[:3, :3].T @ base_to_camera[:3, 3]
        facing = np.einsum("ij,ij->i", normals, eye - triangles[:, 0]) > 0
        self._layer(table[0], 1, base_to_camera, intrinsics)
        flat = len(table[0])
        if light.direction[2] > 0.05:
            fall = triangles[..., 2:3] / light.direction[2]
            cast = (triangles - fall * light.direction)[towards_light > 0]
            self._layer(cast, 1, base_to_camera, intrinsics, shadow=flat)
        self._layer(triangles[facing], 1 + flat, base_to_camera, intrinsics)
        level = light.ambient + light.diffuse * max(light.direction[2], 0.0)
        lit = (
            255 * gains * np.concatenate([[background], table[1] * level, (colours * shade[:, None])[facing]])
        )
        dark = 255 * gains * np.concatenate([[background], table[1] * light.ambient])
        height, width = self._depth.shape
        out = np.empty((height, width, 3), dtype=np.uint8)
        dy, dx = self._rng.integers(0, self.SHIFT, 2)
        _paint(self._owner, lit, dark, self._noise, dy, dx, out)
        return out

    def _layer(
        self,
        triangles: Array,
        first: int,
        pose: Array,
        intrinsics: tuple[float, float, float, float],
        shadow: int = 0,
    ) -> None:
        fx, fy, cx, cy = intrinsics
        local = triangles @ pose[:3, :3].T + pose[:3, 3]
        z = local[..., 2]
        # What reaches behind the camera shrinks to nothing: in this scene only far cells of the table do.
        behind = np.any(z <= NEAR, axis=1)
        z = np.where(behind[:, None], 1.0, z)
        corners = np.stack([fx * local[..., 0] / z + cx, fy * local[..., 1] / z + cy, 1.0 / z], axis=-1)
        corners[behind] = 0.0
        _fill(np.ascontiguousarray(corners), first, shadow > 0, self._depth, self._owner, shadow)
