"""The camera's detector, imitated: what it says of an object, and how that is wrong, by how much of it is seen.

The real detector's errors come from what hides an object: fingers hide a coherent side, the fit moves towards the side
that is seen or turns into another solution, and does so again in the next picture. `detector_errors.json` holds, by
the fraction that is seen, how often it finds a cube, by how much it errs, how much of that is towards the visible side,
and what it says of its own uncertainty; `python benchmarks/imitation.py --fit` measured it on rendered
pictures, with cameras anywhere. Errors are drawn as quantiles of these distributions, and those quantiles wander
slowly (an Ornstein–Uhlenbeck process with the correlation time that was measured).
"""

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.tracking import Sighting

Array = NDArray[np.float64]

FREE = 0.999
"""An object of which more than this is seen is free: what is said of its errors is in pixels, and they are in
√(pixel · mm), with which they were found to grow; all others' are in sides of the object."""
MILLIMETRE = 0.001
LATENTS = 9
"""Numbers that wander: spread, size and direction (2) of the place's error, size of the yaw's, found, lifted, height,
sign of the yaw's."""
AT_HAND = 0.04
"""m between an object and the tool up to which the detector may take it for lifted."""


@dataclass(frozen=True)
class Errors:
    """What was measured. `edges` (B + 1) bound bins of the visible fraction, `levels` (Q) are those of all quantiles.

    By bin: `found`, how often; `visible`, what is said to be seen; `place` and `angle` (B, Q), sizes of the errors
    (√(pixel · mm) where free, sides of the object elsewhere; rad); `spread_place` and `spread_angle` (B, Q), standard
    deviations that are claimed (pixels, sides; rad); `knows_place` and `knows_angle`, how far those tell the errors
    (rank correlation, −1…1); `toward`, how much of the place's error points to the visible side, 0…1.
    By height, `heights` (H) m being the bins' lower ends: `lifted`, how often an object at the hand is said to be
    lifted; then `height_error` (mean, standard deviation) m and `height_spread` m, what is claimed.
    `correlation`: s over which errors are alike.
    """

    edges: tuple[float, ...]
    levels: tuple[float, ...]
    found: tuple[float, ...]
    visible: tuple[float, ...]
    spread_place: tuple[tuple[float, ...], ...]
    spread_angle: tuple[tuple[float, ...], ...]
    place: tuple[tuple[float, ...], ...]
    angle: tuple[tuple[float, ...], ...]
    knows_place: tuple[float, ...]
    knows_angle: tuple[float, ...]
    toward: tuple[float, ...]
    heights: tuple[float, ...]
    lifted: tuple[float, ...]
    height_error: tuple[float, float]
    height_spread: float
    correlation: float

    @classmethod
    def from_json(cls, text: str) -> "Errors":
        """From what `to_json` wrote."""
        table: dict[str, Any] = json.loads(text)["errors"]
        return cls(**{name: _tuples(value) for name, value in table.items()})

    def bin(self, visible: float) -> int:
        """Which bin a visible fraction falls into."""
        inner = self.edges[1:-1]
        return sum(visible >= edge for edge in inner)


@cache
def measured_errors() -> Errors:
    """The errors that ship with the package."""
    return Errors.from_json((resources.files("sim2real.simulation") / "detector_errors.json").read_text())


@dataclass(frozen=True)
class View:
    """One object as a picture has it: where it appears on the plane of its origin, `place` (3,) m, to one who goes by
    the camera's description; `yaw` rad; `visible` and `shift` (x, y) m as in `visibility.py`; `height` m over where it
    lies; whether the `at_hand` may hold it; `pixel`, m at its distance, and `side`, m, what it measures."""

    place: Array
    yaw: float
    visible: float
    shift: tuple[float, float]
    height: float
    at_hand: bool
    pixel: float
    side: float


class Imitation:
    """What the detector says of one object, picture by picture. `scale`: a factor on its errors."""

    def __init__(self, errors: Errors, rng: np.random.Generator, scale: float = 1.0) -> None:
        self._errors, self._rng, self._scale = errors, rng, scale
        self._state = rng.standard_normal(LATENTS)
        self._time = -math.inf

    def sight(self, view: View, time: float, camera: CameraModel | None) -> Sighting | None:
        """The sighting in a picture taken at `time`, s; None where the object is not found. `camera` as described."""
        latent = self._wander(time)
        table = self._errors
        if view.visible < table.edges[0]:
            return None
        k = table.bin(view.visible)
        if _share(latent[5]) >= table.found[k]:
            return None
        unit = view.pixel if view.visible > FREE else view.side
        level = _share(latent[0])
        spread = unit * _quantile(table.levels, table.spread_place[k], level)
        turn = _quantile(table.levels, table.spread_angle[k], level)
        likely = _share(_tied(latent[0], latent[1], table.knows_place[k]))
        if view.visible > FREE:
            unit = math.sqrt(view.pixel * MILLIMETRE)
        error = self._scale * unit * _quantile(table.levels, table.place[k], likely)
        away = math.hypot(*view.shift) or 1.0
        aside = math.hypot(latent[2], latent[3]) or 1.0
        toward = table.toward[k]
        x = toward * view.shift[0] / away + (1.0 - toward) * latent[2] / aside
        y = toward * view.shift[1] / away + (1.0 - toward) * latent[3] / aside
        error /= math.hypot(x, y) or 1.0
        likely = _share(_tied(latent[0], latent[4], table.knows_angle[k]))
        wrong = self._scale * _quantile(table.levels, table.angle[k], likely)
        found = Sighting(
            position=np.array([view.place[0] + error * x, view.place[1] + error * y, view.place[2]]),
            yaw=view.yaw + math.copysign(wrong, latent[8]),
            visible=table.visible[k],
            confidence=table.visible[k],
            covariance=np.diag([spread**2, spread**2, turn**2]),
        )
        if camera is not None and view.at_hand and _share(latent[6]) < self._chance(view.height):
            return self._raised(found, view.height, latent, camera)
        return found

    def _chance(self, height: float) -> float:
        """How often an object so high, m, is said to be lifted."""
        return self._errors.lifted[sum(height >= edge for edge in self._errors.heights[1:])]

    def _raised(self, found: Sighting, height: float, latent: list[float], camera: CameraModel) -> Sighting:
        """A sighting that says how high the object is: further up on its ray."""
        mean, deviation = self._errors.height_error
        believed = max(height + mean + self._scale * deviation * latent[7], 0.0)
        eye, table = camera.position, found.position
        ray = (table - eye) / (eye[2] - table[2])
        covariance = found.covariance.copy()
        covariance[:2, :2] += self._errors.height_spread**2 * np.outer(ray[:2], ray[:2])
        return replace(
            found,
            position=table - believed * ray,
            covariance=covariance,
            lifted=1.0,
            height_spread=self._errors.height_spread,
        )

    def _wander(self, time: float) -> list[float]:
        keep = math.exp(-max(time - self._time, 0.0) / self._errors.correlation)
        self._state = keep * self._state + math.sqrt(1.0 - keep * keep) * self._rng.standard_normal(LATENTS)
        self._time = time
        latent: list[float] = self._state.tolist()
        return latent


def _share(score: float) -> float:
    """How much of a standard normal distribution lies below `score`."""
    return 0.5 * (1.0 + math.erf(score / math.sqrt(2.0)))


def _tied(score: float, other: float, correlation: float) -> float:
    """A standard normal score that is correlated with `score`, from another one that is not."""
    return correlation * score + math.sqrt(1.0 - correlation * correlation) * other


def _quantile(levels: tuple[float, ...], values: tuple[float, ...], level: float) -> float:
    """The value at a level, 0…1, linear between those that are known."""
    if level >= levels[-1]:
        return values[-1]
    k = 1
    while levels[k] < level:
        k += 1
    share = max(level - levels[k - 1], 0.0) / (levels[k] - levels[k - 1])
    return values[k - 1] + share * (values[k] - values[k - 1])


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
