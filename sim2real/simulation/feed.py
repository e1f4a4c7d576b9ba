"""The cameras that a policy sees through, in the simulated world: at their own rate, and as late as pictures are.

What was there at the moment of each picture is kept; drawn is only what somebody looks at.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim2real.pictures import PictureInput
from sim2real.simulation.renderer import Renderer
from sim2real.simulation.studio import Snapshot

Image = NDArray[np.uint8]


class CameraFeed:
    """Pictures as a policy gets them: `detector.rate` a second, `detector.latency` s after they were taken."""

    def __init__(
        self,
        values: Mapping[str, float],
        renderer: Renderer,
        rng: np.random.Generator,
        now: float,
        view: Snapshot,
    ) -> None:
        self._renderer = renderer
        self._period, self._latency = 1.0 / values["detector.rate"], values["detector.latency"]
        # The camera was running before, and saw what there is to see now.
        age = self._latency + self._period * float(rng.random())
        self._taken: deque[tuple[float, int, Snapshot]] = deque([(now - age, 0, view)])
        self._count = 0
        self.next_frame = now - age + self._period
        while self.next_frame <= now:
            self.capture(self.next_frame, view)
        self._drawn: dict[PictureInput, tuple[int, Image, dict[str, int]]] = {}

    def capture(self, time: float, view: Snapshot) -> None:
        """A picture is taken at `time`, s since the reset."""
        self.next_frame += self._period
        self._count += 1
        self._taken.append((time, self._count, view))

    def look(
        self, wanted: Sequence[PictureInput], now: float
    ) -> dict[PictureInput, tuple[Image, dict[str, int]]]:
        """The newest pictures (H, W, 3) RGB that have arrived by `now`, and how many pixels show each object."""
        while len(self._taken) > 1 and self._taken[1][0] + self._latency <= now + 1e-9:
            self._taken.popleft()
        time, number, view = self._taken[0]
        for picture in wanted:
            if picture not in self._drawn or self._drawn[picture][0] != number:
                drawn = self._renderer.picture(picture, view, max(time, 0.0), number)
                self._drawn[picture] = (number, *drawn)
        return {picture: self._drawn[picture][1:] for picture in wanted}
