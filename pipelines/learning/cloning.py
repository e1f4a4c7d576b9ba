"""The LightningModule: loss, optimizer, schedule and logging; everything else is in the network."""

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from pipelines.learning.adapters import add_adapters
from pipelines.learning.data import Batch
from pipelines.learning.networks.registry import build_network

WARMUP = 0.02
"""Share of the training in which the learning rate rises."""


class ChunkCloning(L.LightningModule):
    """Behaviour cloning of action chunks.

    All arguments are plain values, so that a checkpoint loads without pickled classes: `network` holds the
    arguments of a `PolicyNetwork`, which knows its loss.
    """

    def __init__(
        self,
        network: dict[str, Any],
        total_steps: int,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = build_network(network)
        self.total_steps = total_steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.trained: tuple[str, int, float] | None = None
        """What `train_only` was told."""
        self._thawing: list[torch.nn.Parameter] = []
        self._thaw_at = 0.0
        self.progress: Callable[[int], float] = lambda step: step / max(1, self.total_steps)
        """Share of the training that is done after `step` steps; a time budget replaces it."""

    def train_only(self, what: str, *, rank: int = 8, thaw: float = 0.0) -> None:
        """Leave the "head" to be trained, low-rank "adapters" of all layers, or "all" of the network.

        With "all", everything but the head stays frozen until the share `thaw` of the training is done.
        """
        self.trained = (what, rank, thaw)
        if what == "adapters":
            add_adapters(self.network, rank)
            return
        whole = [value for value in self.network.parameters() if value.requires_grad]
        self.network.freeze_trunk()
        if what == "all":
            self._thawing = [value for value in whole if not value.requires_grad]
            self._thaw_at = thaw
            self._thaw(True)

    @property
    def thaws(self) -> bool:
        """Whether some weights take no part at first."""
        return bool(self._thawing)

    def on_train_epoch_start(self) -> None:
        if self._thawing:
            self._thaw(self.progress(self.global_step) >= self._thaw_at)

    def _thaw(self, trained: bool) -> None:
        for value in self._thawing:
            value.requires_grad_(trained)

    def forward(self, observation: Tensor, *pictures: Tensor) -> Tensor:
        found = self.network(observation, *pictures)
        chunk: Tensor = found[0] if isinstance(found, tuple) else found
        return chunk

    def errors(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, mean absolute error in the unit of actions, what else the network measures) of a batch."""
        loss, error, extra = self.network.losses(batch)
        return loss, (error * self.network.output_scale).mean(), extra

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss, radians, _ = self.errors(batch)
        size = len(batch[0])
        self.log(
            "train_loss", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=size, sync_dist=True
        )
        name, error = self._named(radians)
        self.log(
            f"train_{name}",
            error,
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        loss, radians, extra = self.errors(batch)
        size = len(batch[0])
        for name, value in extra.items():
            self.log(f"val_{name}", value, batch_size=size, sync_dist=True)
        self.log("val_loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        name, error = self._named(radians)
        self.log(f"val_{name}", error, batch_size=size, sync_dist=True)

    def _named(self, error: Tensor) -> tuple[str, Tensor]:
        """What an error of actions is called, and its value: in degrees where actions are angles."""
        return ("error_deg", torch.rad2deg(error)) if self.network.unit == "rad" else ("error", error)

    def configure_optimizers(self) -> Any:
        parameters = [value for value in self.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to zero."""
        done = min(self.progress(step), 1.0)
        if done < WARMUP:
            return max(done / WARMUP, 0.05)
        return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))
