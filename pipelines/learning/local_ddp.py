"""Processes of one machine that train together, and that nobody else can reach."""

import os
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from pipelines.learning.ranks import MEETING


class LocalDDP(DDPStrategy):
    """DDP. Where rank 0 has started the other processes itself they find each other by a file: the port that torch
    would open for that listens to the whole network."""

    def setup_distributed(self) -> None:
        path = os.environ.get(MEETING)
        if path is not None and not torch.distributed.is_initialized():
            self.set_world_ranks()
            environment: Any = self.cluster_environment
            torch.distributed.init_process_group(
                self._get_process_group_backend(),
                init_method=f"file://{path}",
                rank=environment.global_rank(),
                world_size=environment.world_size(),
                timeout=self._timeout,
            )
        super().setup_distributed()
