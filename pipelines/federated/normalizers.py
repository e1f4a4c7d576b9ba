"""One normalizer from many clients: they send means and spreads of their data, never the data.

The pooled mean and variance follow from those of the parts exactly (T. Chan and others, "Algorithms for computing the
sample variance", 1983).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.learning.networks.base import PolicyNetwork

Statistics = Mapping[str, NDArray[np.float32]]
"""The network's buffers `*_mean` and `*_scale`, by name."""


def statistics(network: PolicyNetwork) -> dict[str, NDArray[np.float32]]:
    """Those of a network, as its `fit_to` has left them."""
    return {
        name: value.cpu().numpy().astype(np.float32)
        for name, value in network.named_buffers()
        if name.endswith(("_mean", "_scale"))
    }


def pooled(parts: Sequence[Statistics], counts: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Of all data together, from those of parts with so many examples each.

    A scale that several means share, one for all rows of a chunk, is of all rows together, means of rows included.
    """
    share = np.asarray(counts, dtype=float) / np.sum(counts)
    found: dict[str, NDArray[np.float32]] = {}
    for name in parts[0]:
        if name.endswith("_mean"):
            found[name] = np.tensordot(share, np.stack([part[name] for part in parts]), 1).astype(np.float32)
    for name in parts[0]:
        if name.endswith("_scale"):
            of = name.removesuffix("_scale") + "_mean"
            means = np.stack([part[of].astype(float) for part in parts])
            scales = np.stack([part[name].astype(float) for part in parts])
            if means.ndim == 3:
                means = np.broadcast_to(means.mean(axis=1, keepdims=True), means.shape)
            middle = np.tensordot(share, means, 1)
            variance = np.tensordot(share, scales**2 + (means - middle) ** 2, 1)
            found[name] = np.sqrt(variance).astype(np.float32)
    return found


@torch.no_grad()
def set_statistics(network: PolicyNetwork, values: Statistics) -> None:
    """Take them for the network's own."""
    buffers = dict(network.named_buffers())
    for name, value in values.items():
        buffers[name].copy_(torch.from_numpy(np.array(value, np.float32)))
