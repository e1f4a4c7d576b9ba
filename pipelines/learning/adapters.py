"""Low-rank residuals on a network's layers: what fine-tuning trains when it must not move the rest.

Every weight W of two or more dimensions becomes W + B·A with A (rank, inputs) and B (outputs, rank), B zero at first:
the network is what it was until it has learned. `merged` adds the product up, so that an exported policy has the layers
of its parent and is as fast (E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021).
"""

from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class LowRank(nn.Module):
    """Adds a product of rank `rank` to a weight; at most the weight's own rank."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        self.down = nn.Parameter(torch.randn(rank, inputs, dtype=weight.dtype) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank, dtype=weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def add_adapters(network: nn.Module, rank: int) -> int:
    """Freeze the network and put adapters on all its layers; returns how many numbers are left to be trained."""
    network.requires_grad_(False)
    for layer in [module for module in network.modules() if isinstance(module, LAYERS)]:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


def merged(network: PolicyNetwork) -> PolicyNetwork:
    """The network with its adapters added into the weights, a new one; without any, a plain copy."""
    plain = build_network(network.arguments)
    with torch.no_grad():
        plain.load_state_dict({name: attrgetter(name)(network).detach() for name in plain.state_dict()})
    return plain
