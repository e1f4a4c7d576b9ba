"""What a camera's process and its users share: the picture and the numbers in shared memory, and how to read them.

Asking never waits, whatever the camera does. What writes them is `worker.py`, what starts it `process.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.objects import ByName
from sim2real.tracking import Percept, Sighting

Image = NDArray[np.uint8]

STATES = ("connecting", "streaming", "stalled", "frozen", "black", "lost")
CONNECTING, STREAMING, STALLED, FROZEN, BLACK, LOST = range(len(STATES))

OPEN_TIMEOUT = 5.0
"""s that opening a stream may take."""

SLOTS = 3
TEXT = 256
# Positions in the block of numbers.
SEQUENCE, STATE, HEALTHY, PICTURES, PERCEPTS, RATE, BEAT, GRABBED, READY, RESTARTS, PERCEPT = range(11)
SOLUTION = 14
"""Numbers of one solution: x, y, z (NaN: none), yaw, visible, confidence, the covariance's six, lifted and the height's
standard deviation."""
SIGHTING = 4 * SOLUTION
"""Numbers of one object in a percept: what is reported, and up to three alternatives."""
_UPPER = np.triu_indices(3)


@dataclass(frozen=True)
class CameraStatus:
    """How a camera is. `state` is one of STATES; `rate` in pictures/s; `time` of the newest good picture, s."""

    state: str
    time: float
    pictures: int
    rate: float
    problem: str
    restarts: int = 0
    """How often its process had to be started again."""


class CameraReader:
    """The receiving end, for any process: hand it over when the process is started. Nothing here ever waits.

    Times are seconds of CLOCK_MONOTONIC (`time.monotonic`), which all processes share.
    """

    def __init__(
        self, camera: CameraModel, objects: tuple[str, ...], numbers: Any, text: Any, slots: Any
    ) -> None:
        self.camera, self.objects = camera, objects
        self._shared = (numbers, text, slots)
        self._attach()

    def _attach(self) -> None:
        numbers, text, slots = self._shared
        self._numbers: NDArray[np.float64] = np.frombuffer(numbers, dtype=np.float64)
        self._text: NDArray[np.uint8] = np.frombuffer(text, dtype=np.uint8)
        shape = (SLOTS, self.camera.height, self.camera.width, 3)
        size = 8 * SLOTS
        self._times: NDArray[np.float64] = np.frombuffer(slots, dtype=np.float64, count=SLOTS)
        self._images: Image = np.frombuffer(slots, dtype=np.uint8, offset=size).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"camera": self.camera, "objects": self.objects, "_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def latest(self) -> tuple[float, Image] | None:
        """(time of capture, (H, W, 3) uint8 RGB copy) of the newest good picture; None before the first."""
        for _ in range(5):
            count = int(self._numbers[PICTURES])
            if count == 0:
                return None
            slot = count % SLOTS
            taken, image = float(self._times[slot]), self._images[slot].copy()
            # The slot is written again only two pictures later.
            if int(self._numbers[PICTURES]) - count < SLOTS - 1:
                return taken, image
        return None

    def percept(self) -> tuple[int, Percept] | None:
        """The newest percept with its number, counting from 1; None before the first."""
        values = self._snapshot()
        count = int(values[PERCEPTS])
        if count == 0:
            return None
        return count, _unpack(values[PERCEPT:], self.objects)

    def status(self) -> CameraStatus:
        """How the camera is."""
        values = self._snapshot()
        problem = bytes(self._text).split(b"\0")[0].decode("utf-8", "replace")
        return CameraStatus(
            STATES[int(values[STATE])],
            float(values[HEALTHY]),
            int(values[PICTURES]),
            float(values[RATE]),
            problem,
            int(values[RESTARTS]),
        )

    def age(self, now: float) -> float:
        """Seconds since the newest good picture was taken; infinite before the first."""
        healthy = float(self._numbers[HEALTHY])
        return now - healthy if np.isfinite(healthy) else float("inf")

    def _snapshot(self) -> NDArray[np.float64]:
        """All numbers as they belong together."""
        copy = self._numbers.copy()
        for _ in range(100):
            if copy[SEQUENCE] % 2 == 0 and self._numbers[SEQUENCE] == copy[SEQUENCE]:
                break
            copy = self._numbers.copy()
        return copy


def numbers_for(objects: Sequence[str]) -> int:
    """Length of the block of numbers for a camera that looks for these objects."""
    return PERCEPT + 1 + SIGHTING * len(objects)


def pack(percept: Percept, objects: Sequence[str]) -> NDArray[np.float64]:
    """A percept as the numbers from PERCEPT on; `objects` are the names of those that are looked for."""
    numbers = np.full(1 + SIGHTING * len(objects), np.nan)
    numbers[0] = percept.time
    rows = numbers[1:].reshape(len(objects), -1, SOLUTION)
    for name, solutions in zip(objects, rows):
        if (seen := percept.objects.get(name)) is not None:
            for row, one in zip(solutions, (seen, *seen.alternatives)):
                row[:6] = (*one.position, one.yaw, one.visible, one.confidence)
                row[6:12] = one.covariance[_UPPER]
                row[12:] = one.lifted, one.height_spread
    return numbers


def _unpack(values: NDArray[np.float64], objects: Sequence[str]) -> Percept:
    found: ByName[Sighting] = ByName()
    for name, rows in zip(objects, values[1:].reshape(len(objects), -1, SOLUTION)):
        solutions = [_solution(row) for row in rows if np.isfinite(row[0])]
        if solutions:
            found[name] = replace(solutions[0], alternatives=tuple(solutions[1:]))
    return Percept(float(values[0]), found)


def _solution(row: NDArray[np.float64]) -> Sighting:
    upper = np.zeros((3, 3))
    upper[_UPPER] = row[6:12]
    covariance = upper + upper.T - np.diag(upper.diagonal())
    yaw, visible, confidence = map(float, row[3:6])
    return Sighting(
        row[:3].copy(),
        yaw,
        visible,
        confidence,
        covariance,
        lifted=float(row[12]),
        height_spread=float(row[13]),
    )
