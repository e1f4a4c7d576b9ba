"""Early stopping: training ends when held-out episodes say so, and what was best on them is kept."""

from typing import Any

import lightning.pytorch as L
import torch

MARGIN = 0.002
"""Relative improvement below which an epoch counts as no better."""


class KeepBest(L.Callback):
    """Watches the held-out error after every epoch; after `patience` epochs without a better one the training ends.

    It does not end before the epoch `rounds_end`, in which the last data joins. `restore` puts back the best weights.
    """

    def __init__(self, patience: int, rounds_end: int = 0) -> None:
        self.patience, self.rounds_end = patience, rounds_end
        self.best = float("inf")
        self.best_epoch = -1
        """The epoch that was best, from 0; −1 before there was one."""
        self.stopped = False
        self._since = 0
        self._weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        value = trainer.callback_metrics.get("val_error_deg")
        if value is None:
            return
        if float(value) < self.best * (1 - MARGIN):
            self.best, self.best_epoch, self._since = float(value), trainer.current_epoch, 0
            self._weights = {name: v.detach().clone() for name, v in module.state_dict().items()}
            return
        self._since += 1
        if self._since >= self.patience and trainer.current_epoch > self.rounds_end:
            self.stopped = trainer.should_stop = True

    def restore(self, module: L.LightningModule) -> None:
        """Put back the best weights; nothing where no episode was held out."""
        if self._weights is not None:
            module.load_state_dict(self._weights)

    def told(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        if self._weights is None:
            return {"held_out": False}
        return {"held_out": True, "best_epoch": self.best_epoch, "stopped_early": self.stopped}
