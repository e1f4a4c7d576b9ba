"""A way round where the straight one is barred: RRT-Connect in joint angles, a little at a time.

Two trees grow towards each other, from where the arm is and from where it shall go, by `REACH` at a time towards poses
drawn at random (Kuffner and LaValle, "RRT-Connect", ICRA 2000). A step costs a few looks at the clearance of poses,
so that a control loop can afford one per tick while the arm holds still. What is found is only a proposal: it is gone
through the gate, like everything else.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim2real.gate.gate import Gate

Array = NDArray[np.float64]

STEPS: Final = 500
"""After so many steps the search is given up: 5 s at 100 Hz. Most need less than a hundred."""

REACH: Final = 0.4
"""rad of any joint by which a tree grows in a step."""

ROOM: Final = 0.002
"""m that a way keeps from whatever is in its way, so that the gate need not slow it down."""

_SAME: Final = 1e-9


class _Tree:
    """Poses (n,) rad, each with the place of the one that it was reached from."""

    def __init__(self, root: Array) -> None:
        self.poses = root[None]
        self.parents = [-1]

    def nearest(self, pose: Array) -> int:
        return int(np.abs(self.poses - pose).max(axis=1).argmin())

    def add(self, pose: Array, parent: int) -> None:
        self.poses = np.vstack([self.poses, pose])
        self.parents.append(parent)

    def path(self, last: int) -> list[Array]:
        """From the root to the pose at that place."""
        found = []
        while last >= 0:
            found.append(self.poses[last])
            last = self.parents[last]
        return found[::-1]


class Detour:
    """A search for a way from `start` to `end`, (n,) rad each, that `gate` will let the arm go."""

    def __init__(self, gate: Gate, start: Array, end: Array, *, room: float = ROOM, seed: int = 0) -> None:
        """`room` m is what the way keeps from table, workspace's end and between links, or as much as `end` does. Only
        its first piece may be as near as `start` is."""
        low, high = gate.limits
        self.gate = gate
        self._low, self._high = np.minimum(low, start), np.maximum(high, start)
        measures = (gate.clearance, gate.self_clearance)
        self._keep = tuple(min(room, clear(end)) - _SAME for clear in measures)
        self._first = tuple(min(keep, clear(start) - _SAME) for keep, clear in zip(self._keep, measures))
        self._rng = np.random.default_rng(seed)
        self._trees = [_Tree(np.array(start)), _Tree(np.array(end))]
        self._turn = 0  # which tree grows next
        self._meet: Array | None = None  # what the other one has just reached
        self._steps = 0
        self.done = False
        self.way: list[Array] = []
        """The poses to go to one after the other, `end` last; empty while there is none."""

    def step(self) -> None:
        """Grow one of the trees once."""
        if self.done:
            return
        self._steps += 1
        self.done = self._steps >= STEPS
        tree = self._trees[self._turn]
        aim = self._rng.uniform(self._low, self._high) if self._meet is None else self._meet
        nearest = tree.nearest(aim)
        before = tree.poses[nearest]
        share = min(1.0, REACH / max(float(np.abs(aim - before).max()), _SAME))
        reach = before + share * (aim - before)
        clear = self._clear(before, reach, first=self._turn == 0 and nearest == 0)
        if clear > 0.0:
            tree.add(before + clear * (reach - before), nearest)
        if clear < 1.0:
            self._turn, self._meet = 1 - self._turn, None
        elif self._meet is None:
            self._turn, self._meet = 1 - self._turn, reach
        elif share == 1.0:
            self._finish(reach)

    def _clear(self, a: Array, b: Array, *, first: bool) -> float:
        """How far the arm can go from `a` to `b`; the `first` piece of the way must lead to where there is room."""
        if not first:
            return self.gate.clear_share(a, b, *self._keep)
        share = self.gate.clear_share(a, b, *self._first)
        end = a + share * (b - a)
        return share if self.gate.clear_share(end, end, *self._keep) == 1.0 else 0.0

    def _finish(self, meeting: Array) -> None:
        there, back = (tree.path(tree.nearest(meeting)) for tree in self._trees)
        self.way = self._straightened([*there, *back[::-1]])[1:]
        self.done = True

    def _straightened(self, way: list[Array]) -> list[Array]:
        """Without the poses that can be left out: from each one as far along the way as can be seen."""
        out, at = [way[0]], 0
        while at < len(way) - 1:
            seen = (
                k
                for k in range(len(way) - 1, at, -1)
                if k == at + 1 or self._clear(way[at], way[k], first=at == 0) == 1.0
            )
            at = next(seen)
            out.append(way[at])
        return out
