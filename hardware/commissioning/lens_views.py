"""Choosing views of a board while a person moves it before the camera: still ones, each unlike those taken."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware.commissioning.board import Board
from hardware.commissioning.camera_lens import BoardView, coverage

Array = NDArray[np.float64]
Grey = NDArray[np.uint8]

STILL = 1.0
"""px rms by which the corners may move from one picture to the next: faster blurs, and rolling shutters bend."""
UNLIKE = 0.02
"""Share of the picture's width by which a view's corners must lie elsewhere (rms) than in every view taken."""


@dataclass
class LensViews:
    """`offer` pictures one after another; `views` are those taken."""

    board: Board
    width: int
    height: int
    count: int
    views: list[BoardView] = field(default_factory=list)
    _numbers: list[dict[int, Array]] = field(default_factory=list)
    _before: dict[int, Array] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        return len(self.views) >= self.count

    def offer(self, grey: Grey) -> str:
        """What became of a picture (height, width): "taken", or why it was not."""
        found = self.board.find(grey)
        if found is None:
            self._before = {}
            return "no board"
        seen = dict(zip(found[0].tolist(), found[1]))
        moved, self._before = _apart(seen, self._before), seen
        if not moved < STILL:
            return "moving"
        if any(_apart(seen, other) < UNLIKE * self.width for other in self._numbers):
            return "seen already"
        self.views.append(BoardView(self.board.corners[found[0]], found[1]))
        self._numbers.append(seen)
        return "taken"

    def hint(self) -> str:
        """Where the board should go next."""
        if not self.views:
            return "hold the board before the camera, so that most of it is seen"
        pixels = np.concatenate([view.pixels for view in self.views])
        sides = {
            "left": pixels[:, 0].min() / self.width, "right": 1 - pixels[:, 0].max() / self.width,
            "top": pixels[:, 1].min() / self.height, "bottom": 1 - pixels[:, 1].max() / self.height,
        }  # fmt: skip
        side = max(sides, key=lambda name: sides[name])
        if sides[side] > 0.12:
            return f"move it to the {side} edge of the picture"
        share = coverage(self.views, self.width, self.height)
        return (
            "lean it: left, right, up, down; nearer and farther"
            if share > 0.6
            else "move it into the corners"
        )


def _apart(first: dict[int, Array], second: dict[int, Array]) -> float:
    """px rms between corners that both have; infinite where those are few."""
    common = first.keys() & second.keys()
    if len(common) < 6:
        return np.inf
    return float(np.sqrt(np.mean([np.sum((first[i] - second[i]) ** 2) for i in common])))
