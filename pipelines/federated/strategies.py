"""How updates of several clients become one step of the shared weights.

An update is what a client's training changed, with how many examples it learned from and how many versions old the
weights were that it began with. Late ones weigh 1/√(1 + staleness) (J. Nguyen and others, "Federated learning with
buffered asynchronous aggregation", 2022).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]

TRIMMED = 0.25
"""Share of the clients that `trimmed` leaves out at either end of every weight."""

MU = 0.1
"""How strongly `fedprox` holds a client's training near the weights that it began with."""


@dataclass(frozen=True)
class Update:
    """`change` (P,) finite; `examples` ≥ 1; `staleness` ≥ 0 versions."""

    client: int
    change: Weights
    examples: int
    staleness: int = 0

    @property
    def weight(self) -> float:
        """How much it counts in a mean."""
        return self.examples / float(np.sqrt(1.0 + self.staleness))


@dataclass(frozen=True)
class Strategy:
    """`aggregate(updates)` → (P,) the step of the shared weights; at least one update.

    `proximal`: weight of the squared distance from where a client began, in its loss. `buffered`: clients do not wait
    for rounds; one ends when a quorum of updates has come, whatever they began with.
    """

    name: str
    about: str
    aggregate: Callable[[Sequence[Update]], Weights]
    proximal: float = 0.0
    buffered: bool = False


def mean(updates: Sequence[Update]) -> Weights:
    """Weighted by examples and staleness (H. McMahan and others, "Communication-efficient learning of deep networks
    from decentralized data", 2017)."""
    weights = np.array([update.weight for update in updates])
    changes = np.stack([update.change for update in updates])
    return np.asarray(np.average(changes, axis=0, weights=weights), dtype=np.float32)


def trimmed_mean(updates: Sequence[Update]) -> Weights:
    """Of every weight without the largest and the smallest values (D. Yin and others, "Byzantine-robust distributed
    learning", 2018); of one or two updates the mean. How many examples a client claims does not count: it may lie."""
    changes = np.sort(np.stack([update.change for update in updates]), axis=0)
    cut = min(int(np.ceil(TRIMMED * len(changes))), (len(changes) - 1) // 2)
    return np.asarray(changes[cut : len(changes) - cut].mean(axis=0), dtype=np.float32)


STRATEGIES: Final[dict[str, Strategy]] = {
    strategy.name: strategy
    for strategy in (
        Strategy("fedavg", "mean, weighted by examples", mean),
        Strategy("fedprox", "mean, of clients that are held near where they began", mean, proximal=MU),
        Strategy("fedbuff", "mean of whatever came first: nobody waits for a round", mean, buffered=True),
        Strategy("trimmed", "of every weight the mean without the extremes: stands liars", trimmed_mean),
    )
}
