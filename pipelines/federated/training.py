"""What a client does in one round: some steps of gradient descent on its own data."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from pipelines.federated.settings import Learning
from pipelines.federated.weights import Part
from pipelines.learning.cloning import WARMUP
from pipelines.learning.data import PairDataset
from pipelines.learning.networks.base import PolicyNetwork

DECAY = 1e-4
CLIP = 1.0


def rates(learning: Learning) -> list[float]:
    """Learning rates of all steps of all rounds: a short rise, then a cosine down to nearly nothing."""
    total = learning.rounds * learning.steps
    found = []
    for step in range(total):
        done = (step + 1) / (total + 1)
        rise = min(1.0, done / WARMUP)
        found.append(learning.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done)))
    return found


def train(
    network: PolicyNetwork,
    pairs: PairDataset,
    rates: Sequence[float],
    *,
    batch_size: int,
    rng: np.random.Generator,
    proximal: float = 0.0,
    shared: Part | None = None,
) -> float:
    """Train in place, a step for each learning rate; returns the mean loss of the steps.

    `proximal` · ½ ‖w − w₀‖² is added to the loss, over the `shared` weights (T. Li and others, "Federated optimization
    in heterogeneous networks", 2020).
    """
    # One thread: the same sums in the same order whatever the number of cores.
    torch.set_num_threads(1)
    network.train()
    values = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(values, lr=rates[0] if rates else 0.0, weight_decay=DECAY)
    anchors: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    if proximal and shared is not None:
        named = dict(network.named_parameters())
        anchors = [(named[name], named[name].detach().clone()) for name in shared.names]
    losses = []
    for rate in rates:
        rows = torch.from_numpy(rng.integers(0, len(pairs), batch_size))
        loss, _, _ = network.losses(pairs[rows])
        losses.append(float(loss.detach()))
        for value, began in anchors:
            loss = loss + 0.5 * proximal * (value - began).square().sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(values, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return float(np.mean(losses)) if losses else math.nan
