"""Which of a network's weights are shared, and how they lie in one vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.learning.adapters import add_adapters
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network

Weights = NDArray[np.float32]

RANK = 4
"""Of personal adapters."""

ADAPTER = ".parametrizations.weight.0."
"""What the names of adapters' weights have and no others."""


@dataclass(frozen=True)
class Part:
    """Some parameters of a network by name, in order, as one vector of `size` float32 numbers."""

    names: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, network: torch.nn.Module, names: Sequence[str]) -> "Part":
        parameters = dict(network.named_parameters())
        return cls(tuple(names), sum(parameters[name].numel() for name in names))

    def read(self, network: torch.nn.Module) -> Weights:
        """(size,) a copy of them."""
        if not self.names:
            return np.zeros(0, np.float32)
        parameters = dict(network.named_parameters())
        flat = [parameters[name].detach().reshape(-1) for name in self.names]
        return torch.cat(flat).cpu().numpy().astype(np.float32)

    @torch.no_grad()
    def write(self, network: torch.nn.Module, values: Weights) -> None:
        """Set them. Raises ValueError for another number of values."""
        if values.shape != (self.size,):
            raise ValueError(f"{self.size} weights, got an array of shape {values.shape}")
        parameters, at = dict(network.named_parameters()), 0
        for name in self.names:
            count = parameters[name].numel()
            parameters[name].copy_(torch.from_numpy(values[at : at + count]).view_as(parameters[name]))
            at += count


def personalize(network: PolicyNetwork, personal: str) -> tuple[Part, Part]:
    """(shared, personal) weights of a network, which gets adapters where those are what is personal."""
    own: set[str] = set()
    if personal == "head":
        # What is left to be trained where the trunk is frozen, of a copy.
        copy = build_network(network.arguments)
        copy.freeze_trunk()
        own = {name for name, value in copy.named_parameters() if value.requires_grad}
    elif personal == "adapters":
        add_adapters(network, RANK)
        network.requires_grad_(True)
        own = {name for name, _ in network.named_parameters() if ADAPTER in name}
    names = [name for name, _ in network.named_parameters()]
    return (
        Part.of(network, [name for name in names if name not in own]),
        Part.of(network, [name for name in names if name in own]),
    )
