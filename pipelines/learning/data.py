"""The DataModule that serves demonstrations in batches.

It does not know where they come from; `collect.py` makes them in simulation, `finetune.py` from recordings.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.networks.base import PolicyNetwork

Batch = tuple[Tensor, ...]
"""Inputs of a network first, normalized chunk offsets (B, H, n) last (`PolicyNetwork.tensors`)."""


class PairDataset(Dataset[Batch]):
    """Whole batches by index array."""

    def __init__(self, demonstrations: Demonstrations, network: PolicyNetwork) -> None:
        self.tensors = network.tensors(demonstrations)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: Tensor) -> Batch:
        return tuple(tensor[rows] for tensor in self.tensors)


def error_degrees(network: PolicyNetwork, demonstrations: Demonstrations) -> float | None:
    """Mean absolute error of the network's chunks, degrees; None without demonstrations."""
    if not len(demonstrations):
        return None
    pairs = PairDataset(demonstrations, network)
    training = network.training
    network.eval()
    with torch.no_grad():
        # In parts: pictures as numbers fill the memory.
        errors = [
            (network.losses(pairs[rows])[1] * network.output_scale).flatten(1).mean(dim=1)
            for rows in torch.arange(len(pairs)).split(512 if network.pictures else 65536)
        ]
    network.train(training)
    return float(torch.rad2deg(torch.cat(errors).mean()))


class RandomBatches(Sampler[Tensor]):
    """A fixed number of random batches per epoch, drawn from several groups of rows with fixed shares.

    Which rows come in an epoch follows from (seed, epoch) alone, so that a resumed run continues as if nothing
    had happened. `expired` may end an epoch early, though not before its first batch.
    """

    def __init__(
        self,
        groups: Sequence[Tensor],
        shares: Sequence[float],
        batch_size: int,
        batches: int,
        seed: int,
        expired: Callable[[], bool] | None = None,
        *,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """`part` (rank, of how many): of every batch this process has an equal share, the others the rest."""
        self.part = part
        if not groups or any(len(group) == 0 for group in groups):
            raise ValueError("every group of rows needs at least one row")
        self.groups, self.seed, self.batches, self.epoch = groups, seed, batches, 0
        counts = np.floor(np.cumsum(np.array(shares) / np.sum(shares)) * batch_size + 0.5).astype(int)
        self.counts = np.diff(counts, prepend=0)
        self.expired = expired or (lambda: False)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for index in range(self.batches):
            if index > 0 and self.expired():
                return
            parts = [
                group[torch.randint(len(group), (int(count),), generator=generator)]
                for group, count in zip(self.groups, self.counts)
            ]
            rank, of = self.part
            yield torch.cat(parts)[rank::of]


class GroupSchedule:
    """When groups of demonstrations join the training: a new one every `epochs_per_group` epochs."""

    def __init__(self, groups: int = 1, epochs_per_group: int = 1) -> None:
        self.groups, self.epochs_per_group = groups, epochs_per_group

    def wanted(self, epoch: int, have: int) -> int:
        """How many groups `epoch` should train on, when there are `have`."""
        return min(epoch // self.epochs_per_group + 1, self.groups)

    def expired(self, have: int) -> bool:
        """Whether an epoch on `have` groups should end early."""
        return False


class GroupTable(GroupSchedule):
    """How many groups every epoch wants, as a list says."""

    def __init__(self, wanted: Sequence[int], groups: int) -> None:
        super().__init__(groups)
        self.table = list(wanted)

    def wanted(self, epoch: int, have: int) -> int:
        return self.table[min(epoch, len(self.table) - 1)]


class ChunkDataModule(L.LightningDataModule):
    """Serves groups of demonstrations; a group may be added between epochs (`source`).

    `source(group)` is asked for group 0, 1, … as the `pace` wants them (the Trainer must have
    `reload_dataloaders_every_n_epochs=1`); it may take long, for it may collect them with the network as it is
    then. `shares(count)` weighs the groups in a batch. The normalizers are fitted on the training episodes of
    the first group, unless `keep_normalizers`. Episodes are held out of the first `validated` groups (None: of all).
    """

    def __init__(
        self,
        network: PolicyNetwork,
        source: Callable[[int], Demonstrations],
        *,
        pace: GroupSchedule | None = None,
        shares: Callable[[int], Sequence[float]] | None = None,
        batch_size: int = 1024,
        batches_per_epoch: int = 100,
        held_out: float = 0.1,
        seed: int = 0,
        keep_normalizers: bool = False,
        validated: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.source = network, source
        self.pace = pace or GroupSchedule()
        self.shares = shares or (lambda count: [1.0] * count)
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch
        self.held_out, self.seed = held_out, seed
        self.keep_normalizers, self.validated = keep_normalizers, validated
        self.training: list[Demonstrations] = []
        self.validation: list[Demonstrations] = []
        self._datasets: list[PairDataset] = []
        self._held_out_sets: list[PairDataset] = []
        self._loaders: dict[tuple[str, int], DataLoader[Batch]] = {}

    def setup(self, stage: str) -> None:
        """Load the groups that the coming epoch needs; those already there are kept."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        self.ensure(self.pace.wanted(epoch, len(self.training)))

    def ensure(self, count: int) -> None:
        """Have at least `count` groups."""
        while len(self.training) < count:
            group = len(self.training)
            wanted = self.validated is None or group < self.validated
            held_out = self.held_out if wanted else 0.0
            training, validation = self.source(group).split(held_out, self.seed + group)
            if group == 0 and not self.keep_normalizers:
                self.network.fit_to(training)
            self.training.append(training)
            self.validation.append(validation)
            self._datasets.append(PairDataset(training, self.network))
            if len(validation):
                self._held_out_sets.append(PairDataset(validation, self.network))

    def train_dataloader(self) -> DataLoader[Batch]:
        self.setup("fit")
        return self._loader("train", self._datasets)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Held-out episodes of all groups so far, whole and in order."""
        return [self._loader("val", self._held_out_sets)] if self._held_out_sets else []

    def _loader(self, kind: str, datasets: "Sequence[PairDataset]") -> DataLoader[Batch]:
        # Asked for in every epoch; built anew when a group was added.
        count = len(self._datasets)
        if (kind, count) not in self._loaders:
            self._loaders = {key: value for key, value in self._loaders.items() if key[1] == count}
            joined = JoinedPairs(datasets)
            sampler: Any = (
                self._batches(count)
                if kind == "train"
                else list(torch.arange(len(joined)).split(256 if self.network.pictures else 8192))
            )
            self._loaders[kind, count] = DataLoader(joined, sampler=sampler, batch_size=None)
        return self._loaders[kind, count]

    def _batches(self, count: int) -> RandomBatches:
        sizes = np.cumsum([0, *(len(data) for data in self._datasets)])
        rows = [torch.arange(start, stop) for start, stop in pairwise(sizes)]
        return RandomBatches(
            rows,
            self.shares(count),
            self.batch_size,
            self.batches_per_epoch,
            self.seed,
            lambda: self.pace.expired(count),
            part=(0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size),
        )


class JoinedPairs(Dataset[Batch]):
    """Several data sets as one, for index arrays. They are not copied: pictures are large."""

    def __init__(self, datasets: Sequence[PairDataset]) -> None:
        self.datasets = list(datasets)
        self.starts = np.cumsum([0, *(len(data) for data in datasets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: Tensor) -> Batch:
        if len(self.datasets) == 1:
            return self.datasets[0][rows]
        shapes = self.datasets[0].tensors
        batch = tuple(torch.empty((len(rows), *like.shape[1:]), dtype=like.dtype) for like in shapes)
        for data, start, stop in zip(self.datasets, self.starts, self.starts[1:]):
            at = torch.nonzero((rows >= int(start)) & (rows < int(stop)))[:, 0]
            for whole, part in zip(batch, data[rows[at] - int(start)]):
                whole[at] = part
        return batch
