"""From what single pictures show to what is believed of every object: one code on the arm and in simulation.

A detector (the camera's, or its imitation in simulation) says of each picture what it shows and how sure that is: a
`Percept` of `Sighting`s. `PerceptTracker` fuses them over time into the entries of an observation; things that move
are followed by `moving_track`. Where the hand is helps: it pushes things, hides them, and carries them.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim2real.moving_track import MovingTrack
from sim2real.objects import ByName, ObjectSpec, checked
from sim2real.observation import Observation, object_entries, unseen
from sim2real.sighting import Hand as Hand
from sim2real.sighting import Percept as Percept
from sim2real.sighting import Sighting as Sighting

Array = NDArray[np.float64]

STILL = 15
"""A zone lies still: its place is the median of this many percepts."""


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

    def add(self, seen: Sighting, taken: float, hand: Hand | None = None) -> None:
        """Take in a sighting in a picture of the time `taken`, s."""
        # Half a disc tells less than a whole one: it counts only as long as nothing better is known.
        if seen.visible >= 0.7 or not self.seen:
            self._places.append(seen.position)
            self._variances.append(0.5 * float(seen.covariance[0, 0] + seen.covariance[1, 1]))

    def miss(self, taken: float) -> None:
        """A zone that is not seen is hidden."""

    def follow(self, now: float, hand: Hand) -> None:
        """A hand moves no zone."""

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

    @staticmethod
    def warm_up() -> None:
        """Load what is compiled, which takes up to seconds the first time: before anything waits for an answer."""
        track = MovingTrack(ObjectSpec("thing", "cube", 0.025, "red", 0.02))
        one = Sighting(np.array([0.2, 0.0, 0.0125]), 0.0, 1.0, 1.0, np.diag([1e-6, 1e-6, 1e-3]))
        hand = Hand(np.array([0.2, 0.0, 0.02]), np.eye(3), 0.0)
        for time in (0.0, 0.1):
            track.follow(time, hand)
            track.add(replace(one, alternatives=(one,)), time, hand)
        elsewhere = one.position + np.array([0.1, 0.1, 0.0])
        track.add(replace(one, position=elsewhere), 0.2, hand)

    def follow(self, now: float, hand: Hand) -> None:
        """Where the hand is at `now`, s: called as often as it is known, whether or not there are pictures."""
        for track in self.tracks.values():
            track.follow(now, hand)

    def add(self, percept: Percept, hand: Hand | None = None) -> None:
        """Take in what one picture showed; `hand` is where the hand was when it was taken, if that is known."""
        for name, track in self.tracks.items():
            if (seen := percept.objects.get(name)) is not None:
                track.add(seen, percept.time, hand)
            else:
                track.miss(percept.time)

    def entries(self, now: float) -> Observation:
        """The observation's entries about all objects as of `now`, s on the percepts' clock."""
        return {key: value for track in self.tracks.values() for key, value in track.entries(now).items()}
