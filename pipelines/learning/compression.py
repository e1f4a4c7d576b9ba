"""Gradients that are sent between processes with fewer digits.

Lightning takes a hook for that and drops it without a word where processors train; these strategies register it
everywhere. What each costs is measured by `benchmarks/ranks.py`.
"""

from typing import Any, Final

from lightning.pytorch.strategies import DDPStrategy

HOOKS: Final = {
    "ddp_fp16": "gradients as 16-bit floats: half the bytes",
    "ddp_powersgd": "low-rank gradients: a few percent of the bytes, and a loss that falls more slowly",
}
RANK = 2
"""Of what PowerSGD sends of a matrix."""
BEGINNING = 10
"""Steps in which PowerSGD sends gradients whole."""


class CompressedDDP(DDPStrategy):
    """DDP with one of `HOOKS`."""

    def __init__(self, hook: str, **arguments: Any) -> None:
        if hook == "ddp_powersgd":
            # Several buckets are reduced in an order that processors do not keep alike.
            arguments["bucket_cap_mb"] = 1000
        super().__init__(**arguments)
        self.hook = hook

    def _register_ddp_hooks(self) -> None:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

        model: Any = self.model
        if self.hook == "ddp_fp16":
            model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        else:
            state = powerSGD_hook.PowerSGDState(
                None, matrix_approximation_rank=RANK, start_powerSGD_iter=BEGINNING
            )
            model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
