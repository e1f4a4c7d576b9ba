"""From what single pictures show to what is believed of every object: one code on the arm and in simulation.

A detector (the camera's, or its imitation in simulation) says of each picture what it shows and how sure that is: a
`Percept` of `Sighting`s. `PerceptTracker` fuses them over time into the entries of an observation. Things that move
are followed by a Kalman filter over (x, y, yaw) with three models of what they do: they lie, they are pushed, or the
hand carries them. So a cube that was seen free a second ago is not turned by a picture that shows half of it.

Errors of pictures that follow each other are not independent (one finger hides the same edge in all of them), so a
picture's weight is that of the time it stands for, not of its number: `CORRELATION`.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.objects import ByName, ObjectSpec, checked
from sim2real.observation import MAX_SPREAD, Observation, object_entries, unseen

Array = NDArray[np.float64]

CORRELATION = 0.3
"""s over which the errors of pictures are alike: so long together they tell about as much as one of them."""
DRIFT = (0.001, math.radians(1.0))
"""How fast belief in a lying object fades: standard deviation of its place, m, and angle, rad, after one second."""
SURPRISE = 14.2
"""Squared Mahalanobis distance beyond which a sighting contradicts what is believed: χ² of three numbers at 99.7 %."""
JUMP = 0.04
"""An object that appears further than this from where it was, m, must be confirmed: it may be something else."""
CONFIRMATIONS = 3
"""How many percepts in a row, close to each other, make a jump believable."""
CLEAR = 0.75
"""An object that is seen by at least this fraction is followed at once when it moves by less than a jump."""
STILL = 15
"""A zone lies still: its place is the median of this many percepts."""


@dataclass(frozen=True)
class Sighting:
    """One object in one picture.

    `position` (3,) m is its origin in the base frame, on the table unless it is seen to be lifted; `yaw` in rad, up to
    its symmetry, 0 for round ones; `visible` the fraction of it that is seen, and `confidence` how well it fits, 0…1.
    `covariance` (3, 3) is that of the errors of x, y and yaw (m², m·rad, rad²): it covers all `alternatives`, which
    are the solutions, best first, where the picture allows several. `lifted`: how likely it is, 0…1, that the object
    is above the table, as `position` then says with the standard deviation `height_spread`, m.
    """

    position: Array
    yaw: float
    visible: float
    confidence: float
    covariance: Array
    alternatives: tuple["Sighting", ...] = ()
    lifted: float = 0.0
    height_spread: float = 0.0


@dataclass(frozen=True)
class Percept:
    """What one picture shows. `time` of capture, s. `objects`: those that were found, by name."""

    time: float
    objects: Mapping[str, Sighting] = field(default_factory=ByName)


class MovingTrack:
    """What is believed of an object that moves. Hidden, it keeps its place while its age and spread grow; what
    contradicts the belief must be confirmed."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._turn = 2 * math.pi / spec.symmetry if spec.symmetry else 0.0
        self._mean = np.zeros(3)
        self._covariance = np.zeros((3, 3))
        self._height = spec.rest
        self._seen = False
        self._time = -math.inf
        self._doubtful: list[Array] = []

    @property
    def seen(self) -> bool:
        """Whether the object was ever seen."""
        return self._seen

    @property
    def position(self) -> Array | None:
        """(3,) m; None before it was seen."""
        return np.array([self._mean[0], self._mean[1], self._height]) if self._seen else None

    def add(self, seen: Sighting, taken: float) -> None:
        """Take in a sighting in a picture of the time `taken`, s."""
        found, noise = _measured(seen), seen.covariance
        if not self._seen:
            self._adopt(seen, found, noise, taken)
            return
        passed = min(max(taken - self._time, 0.0), 10.0)
        _fade(self._covariance, passed * DRIFT[0] ** 2, passed * DRIFT[1] ** 2)
        surprise = _surprise(self._mean, self._covariance, found, noise, self._turn)
        for other in seen.alternatives:
            value = _measured(other)
            unlikely = _surprise(self._mean, self._covariance, value, other.covariance, self._turn)
            if unlikely < surprise:
                surprise, found, noise, seen = unlikely, value, other.covariance, other
        self._time = taken
        if surprise <= SURPRISE:
            self._doubtful.clear()
            weight = min(passed / CORRELATION, 1.0)
            _fuse(self._mean, self._covariance, found, noise / max(weight, 1e-3), self._turn)
            self._height = float(seen.position[2])
        elif self._believed(seen, found):
            self._adopt(seen, found, noise, taken)

    def entries(self, now: float) -> Observation:
        """The observation's entries as of `now`, s."""
        if not self._seen:
            return unseen(self.spec)
        age = max(now - self._time, 0.0)
        spread = _spread(self._covariance, age * DRIFT[0] ** 2, age * DRIFT[1] ** 2)
        x, y, yaw = self._mean
        return object_entries(self.spec, (x, y, self._height), yaw, age, spread)

    def _believed(self, seen: Sighting, found: Array) -> bool:
        """Whether a sighting that contradicts the belief is to be believed rather than it."""
        moved = math.hypot(found[0] - self._mean[0], found[1] - self._mean[1])
        if moved <= JUMP and seen.visible >= CLEAR:
            return True
        if self._doubtful and math.dist(found[:2], self._doubtful[-1]) > JUMP:
            self._doubtful.clear()
        self._doubtful.append(found[:2])
        return len(self._doubtful) >= CONFIRMATIONS

    def _adopt(self, seen: Sighting, found: Array, noise: Array, taken: float) -> None:
        self._mean[:], self._covariance[:] = found, noise
        self._height, self._time, self._seen = float(seen.position[2]), taken, True
        self._doubtful.clear()


class StillTrack:
    """What is believed of a zone: once found, it moves only when the median of its sightings does."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._places: deque[Array] = deque(maxlen=STILL)
        self._variances: deque[float] = deque(maxlen=STILL)

    @property
    def seen(self) -> bool:
        """Whether the object was seen often enough to rely on."""
        return len(self._places) >= 3

    @property
    def position(self) -> Array | None:
        """(3,) m; None before it was seen."""
        return np.median(np.stack(self._places), axis=0) if self._places else None

    def add(self, seen: Sighting, taken: float) -> None:
        """Take in a sighting in a picture of the time `taken`, s."""
        # Half a disc tells less than a whole one: it counts only as long as nothing better is known.
        if seen.visible >= 0.7 or not self.seen:
            self._places.append(seen.position)
            self._variances.append(0.5 * float(seen.covariance[0, 0] + seen.covariance[1, 1]))

    def entries(self, now: float) -> Observation:
        """The observation's entries as of `now`, s."""
        place = self.position
        if place is None:
            return unseen(self.spec)
        return object_entries(self.spec, place, 0.0, 0.0, (math.sqrt(float(np.median(self._variances))), 0.0))


class PerceptTracker:
    """What is believed of every object. One percept after the other through `add`, in order of time."""

    def __init__(self, objects: Sequence[ObjectSpec]) -> None:
        self.objects = checked(objects)
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new episode."""
        self.tracks: ByName[MovingTrack | StillTrack] = ByName(
            {spec.name: MovingTrack(spec) if spec.moves else StillTrack(spec) for spec in self.objects}
        )

    def add(self, percept: Percept) -> None:
        """Take in what one picture showed."""
        for name, seen in percept.objects.items():
            self.tracks[name].add(seen, percept.time)

    def entries(self, now: float) -> Observation:
        """The observation's entries about all objects as of `now`, s on the percepts' clock."""
        return {key: value for track in self.tracks.values() for key, value in track.entries(now).items()}


def _measured(seen: Sighting) -> Array:
    return np.array([seen.position[0], seen.position[1], seen.yaw])


def _spread(covariance: Array, place: float, angle: float) -> tuple[float, float]:
    """Standard deviations of position and yaw, with variances of the time since added."""
    p = 0.5 * (covariance[0, 0] + covariance[1, 1]) + place
    return min(math.sqrt(p), MAX_SPREAD[0]), min(math.sqrt(covariance[2, 2] + angle), MAX_SPREAD[1])


@njit(cache=True, nogil=True)
def _fade(covariance: Array, place: float, angle: float) -> None:
    """Add variances, m² and rad², of what may have happened since."""
    covariance[0, 0] += place
    covariance[1, 1] += place
    covariance[2, 2] += angle


@njit(cache=True, nogil=True)
def _innovation(mean: Array, found: Array, turn: float) -> Array:
    """found − mean, the angle by the shortest way; `turn` rad is the object's symmetry, 0: it has no angle."""
    difference = found - mean
    difference[2] = 0.0 if turn == 0.0 else difference[2] - turn * np.rint(difference[2] / turn)
    return difference


@njit(cache=True, nogil=True)
def _inverse(mean_covariance: Array, noise: Array) -> Array:
    total = mean_covariance + noise
    # A detector that claims to know exactly leaves a matrix that can be inverted.
    total[0, 0] += 1e-10
    total[1, 1] += 1e-10
    total[2, 2] += 1e-8
    inverse: Array = np.linalg.inv(total).astype(np.float64)
    return inverse


@njit(cache=True, nogil=True)
def _surprise(mean: Array, covariance: Array, found: Array, noise: Array, turn: float) -> float:
    """Squared Mahalanobis distance of what was found from what is believed."""
    difference = _innovation(mean, found, turn)
    return float(difference @ _inverse(covariance, noise) @ difference)


@njit(cache=True, nogil=True)
def _fuse(mean: Array, covariance: Array, found: Array, noise: Array, turn: float) -> None:
    """One step of a Kalman filter, in place."""
    gain = covariance @ _inverse(covariance, noise)
    mean += gain @ _innovation(mean, found, turn)
    # Joseph's form: stays symmetric and positive.
    rest = np.eye(3) - gain
    covariance[:] = rest @ covariance @ rest.T + gain @ noise @ gain.T
