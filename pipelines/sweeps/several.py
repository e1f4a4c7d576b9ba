"""Rollouts on several tasks in one run: draw i is of task i modulo their number."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from randomization.workers import Factory, Rollout
from sim2real.parameters import Draw

MOST_WORLDS = 4
"""How many tasks' worlds a worker keeps open."""


@dataclass(frozen=True)
class Several:
    """A picklable recipe of rollouts on several tasks, a factory each; rows also say which `task` it was."""

    names: tuple[str, ...]
    factories: tuple[Factory, ...]

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        opened: OrderedDict[int, Rollout] = OrderedDict()

        def run(draw: Draw) -> dict[str, Any]:
            position = draw.index % len(self.factories)
            if position not in opened:
                if len(opened) >= MOST_WORLDS:
                    opened.popitem(last=False)
                opened[position] = self.factories[position]()
            return {"task": self.names[position], **opened[position](draw)}

        return run


def numbered(
    draws: Mapping[str, Sequence[Draw]], *, block: int | None = None, order: Sequence[int] | None = None
) -> list[Draw]:
    """The draws of every task with indices that say whose they are: trial t of the k-th of K tasks has t·K + k.

    Task by task, or `block` draws of each in turn, so that a run that ends early has seen all tasks. `order`: the
    place of each task in a turn (as they come).
    """
    places = range(len(draws)) if order is None else order
    found = [
        ((0 if block is None else at // block), places[k], replace(draw, index=draw.index * len(draws) + k))
        for k, rows in enumerate(draws.values())
        for at, draw in enumerate(rows)
    ]
    return [draw for _, _, draw in sorted(found, key=lambda entry: (entry[0], entry[1], entry[2].index))]
