"""How much of every batch should be recorded? A few shares are tried at a small budget, held-out episodes decide."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from pipelines.learning.adapters import add_adapters
from pipelines.learning.data import JoinedPairs, PairDataset, RandomBatches, error_degrees
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.finetune_settings import FinetuneSettings, Train
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network

RATIOS = (0.25, 0.5, 0.75)
"""Shares that are tried."""
STEPS = 150
"""Steps of each trial, at most; a sixth of the training where that is less."""
CLEARLY = 0.03
"""A larger share must make the held-out error smaller by this, relatively: simulated episodes hold what ten recorded
ones do not show."""


def chosen_mix(
    network: PolicyNetwork,
    groups: Sequence[Demonstrations],
    others: Sequence[float],
    held_out: Demonstrations,
    settings: FinetuneSettings,
) -> dict[str, Any]:
    """The best of `RATIOS` by the error on `held_out` recorded episodes.

    `groups`: the recorded pairs first, then what is mixed in with the shares `others` of the rest. Returns "chosen",
    "by" and "tried", rows with "mix" and "held_out_deg".
    """
    datasets = [PairDataset(group, network) for group in groups]
    steps = max(1, min(STEPS, settings.epochs * settings.batches // 6))
    errors: dict[float, float] = {}
    for mix in RATIOS:
        copy = build_network(network.arguments)
        copy.load_state_dict(network.state_dict())
        trained = briefly_trained(
            copy, datasets, [mix, *((1 - mix) * share for share in others)], settings, settings.train, steps
        )
        errors[mix] = error_degrees(trained, held_out) or 0.0
    best = RATIOS[0]
    for mix in RATIOS[1:]:
        if errors[mix] < errors[best] * (1 - CLEARLY):
            best = mix
    tried = [{"mix": mix, "held_out_deg": error} for mix, error in errors.items()]
    return {"chosen": best, "by": "held-out recorded episodes", "tried": tried}


def briefly_trained(
    network: PolicyNetwork,
    datasets: Sequence[PairDataset],
    shares: Sequence[float],
    settings: FinetuneSettings,
    train: Train,
    steps: int,
    rate: float | None = None,
) -> PolicyNetwork:
    """The network itself, after so many steps with these shares of the data sets."""
    torch.manual_seed(settings.seed)
    if train == "adapters":
        add_adapters(network, settings.rank)
    elif train == "head":
        network.freeze_trunk()
    joined = JoinedPairs(datasets)
    rows = [torch.arange(a, b) for a, b in pairwise(joined.starts.tolist())]
    batches = RandomBatches(rows, shares, settings.batch_size, steps, settings.seed)
    trained = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate or settings.rate, weight_decay=1e-4)
    for batch in batches:
        optimizer.zero_grad()
        network.losses(joined[batch])[0].backward()
        optimizer.step()
    return network
