"""How much of an object's colour each pixel has, relative to its brightness.

So shade and exposure matter little. Red and green, the colours of the cube and the mark of the tasks here, have
scores of their own that tell them from the hues of arms and tables (orange, wood, blue-green); all others are told
by the direction of their chroma.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.colours import chroma, coloured
from sim2real.objects import COLOURS, ObjectSpec, Rgb

Score = Callable[[NDArray[np.int16]], NDArray[np.float32]]


@dataclass(frozen=True)
class Colour:
    """`score` says how much of the colour each pixel of a BGR picture has; from `threshold` on it is of it."""

    score: Score
    threshold: float


def colour_of(spec: ObjectSpec) -> Colour:
    """How to find an object's colour. Raises UserError for grey ones."""
    coloured([spec])
    if spec.rgb == COLOURS["red"]:
        return Colour(_redness, 0.28)
    if spec.rgb == COLOURS["green"]:
        return Colour(_greenness, 0.2)
    return Colour(_towards(spec.rgb), 0.2)


def _length(vector: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(vector))


def _towards(rgb: Rgb) -> Score:
    """Chroma along that of `rgb`, less what is across it, relative to brightness."""
    own = chroma(rgb)
    full = np.float32(_length(own) / max(rgb))
    to_red, to_green, to_blue = (own / _length(own)).astype(np.float32)

    def score(image: NDArray[np.int16]) -> NDArray[np.float32]:
        b, g, r = (image[..., k].astype(np.float32) for k in range(3))
        towards = to_red * r + to_green * g + to_blue * b
        grey = (r + g + b) / 3
        across = np.sqrt(np.maximum(r * r + g * g + b * b - 3 * grey * grey - towards * towards, 0.0))
        return (towards - 1.5 * across) / ((np.maximum(np.maximum(r, g), b) + 20.0) * full)

    return score


def _redness(image: NDArray[np.int16]) -> NDArray[np.float32]:
    """How red each pixel is, about 0 for greys, below for orange and pink, up to 1; image is BGR."""
    b, g, r = image[..., 0], image[..., 1], image[..., 2]
    return ((r - np.maximum(g, b) - 1.5 * np.abs(g - b).astype(np.float32)) / (r + 20)).astype(np.float32)


def _greenness(image: NDArray[np.int16]) -> NDArray[np.float32]:
    """How green each pixel is, about 0 for greys, below for yellow and turquoise, up to 1; image is BGR."""
    b, g, r = image[..., 0], image[..., 1], image[..., 2]
    return ((g - np.maximum(r, b) - 0.4 * np.abs(r - b).astype(np.float32)) / (g + 20)).astype(np.float32)
