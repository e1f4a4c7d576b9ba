"""A client that learns: its data, what it keeps for itself, and what its messages have left out so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.federated.codecs import CODECS, Sender, Weights
from pipelines.federated.settings import Learning
from pipelines.federated.strategies import STRATEGIES
from pipelines.federated.training import rates, train
from pipelines.federated.weights import Part
from pipelines.learning.data import PairDataset
from pipelines.learning.networks.base import PolicyNetwork

LOCAL = 0x10CA1


class Learner:
    """One client's part of a federated training. `network` may be shared with other learners: everything of this one
    is put into it before it is used."""

    def __init__(
        self,
        learning: Learning,
        number: int,
        network: PolicyNetwork,
        pairs: PairDataset,
        shared: Part,
        personal: Part,
    ) -> None:
        self.learning, self.number, self.network, self.pairs = learning, number, network, pairs
        self.shared, self.personal = shared, personal
        self.examples = len(pairs)
        self.own: Weights = personal.read(network)
        self.sender = Sender(CODECS[learning.codec])

    def load(self, weights: Weights) -> None:
        """Put the shared weights and this client's own into the network."""
        self.shared.write(self.network, weights)
        self.personal.write(self.network, self.own)

    def learn(self, weights: Weights, version: int, turn: int) -> tuple[Weights, float]:
        """Train for one round from shared weights of a version; the new ones, and the mean loss."""
        s = self.learning
        self.load(weights)
        first = min(version, s.rounds - 1) * s.steps
        loss = train(
            self.network,
            self.pairs,
            rates(s)[first : first + s.steps],
            batch_size=s.batch_size,
            rng=np.random.default_rng((LOCAL, s.seed, self.number, turn)),
            proximal=STRATEGIES[s.strategy].proximal,
            shared=self.shared,
        )
        self.own = self.personal.read(self.network)
        return self.shared.read(self.network), loss

    def message(self, weights: Weights, version: int, turn: int) -> tuple[bytes, float]:
        """Train, and make the message for the server."""
        new, loss = self.learn(weights, version, turn)
        return self.sender.encode(new, weights), loss

    def settle(self) -> None:
        """The server has taken the last message."""
        self.sender.settle()

    def state(self) -> dict[str, Any]:
        """Arrays that a checkpoint needs, by name."""
        found: dict[str, Any] = {"own": self.own}
        for name, value in (("left", self.sender.left), ("pending", self.sender.pending)):
            if value is not None:
                found[name] = value
        return found

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.own = arrays["own"]
        self.sender.left, self.sender.pending = arrays.get("left"), arrays.get("pending")
