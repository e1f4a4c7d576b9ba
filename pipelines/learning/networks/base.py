"""What every policy network is, whatever its kind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sim2real.robot import Robot


class PolicyNetwork(nn.Module):
    """Observation (B, D) float32 to chunk (B, H, n) of joint goals, rad.

    Everything that it needs when it runs travels in its state dict, normalizers included. It must be exportable by
    tracing: no control flow that depends on data. Chunks are learned normalized and relative to a reference that
    the observation gives.
    """

    arguments: dict[str, Any]
    """Constructor arguments as plain values, with the kind's name under `registry.KIND`; stored in the policy file."""
    joints: int
    horizon: int
    output_mean: Tensor
    output_scale: Tensor
    """(H, n) rad: mean and unit of normalized chunks."""

    @staticmethod
    def arguments_for(
        features: Sequence[tuple[str, int]], robot: Robot, horizon: int, **options: Any
    ) -> dict[str, Any]:
        """Constructor arguments of a network that observes `features` (name, size) and drives `robot`."""
        raise NotImplementedError

    def encode(self, observation: Tensor) -> Tensor:
        """(B, D) to inputs of `decode`, without trainable weights: training computes it once per sample."""
        raise NotImplementedError

    def decode(self, encoded: Tensor) -> Tensor:
        """Encoded inputs to normalized chunks (B, H, n): what the loss compares."""
        raise NotImplementedError

    def reference(self, observation: Tensor) -> Tensor:
        """(B or 1, 1, n) rad, what chunks are relative to."""
        raise NotImplementedError

    def fit_normalizers(self, observation: Tensor, chunk: Tensor) -> None:
        """Set the normalizers from training samples (N, D) and (N, H, n)."""
        raise NotImplementedError

    def set_robot(self, robot: Robot) -> None:
        """Fill in what the network knows of the arm, such as its geometry."""

    def freeze_trunk(self) -> None:
        """Leave only the last layers to be trained: fine-tuning on little data."""
        raise NotImplementedError

    def typical_observations(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, D) random observations spread like the training data, on which an exported file is compared."""
        raise NotImplementedError

    def normalize_chunk(self, observation: Tensor, chunk: Tensor) -> Tensor:
        """Chunks (B, H, n) in rad to what `decode` should give."""
        return (chunk - self.reference(observation) - self.output_mean) / self.output_scale

    def forward(self, observation: Tensor) -> Tensor:
        """(B, D) to (B, H, n) rad."""
        offsets = self.decode(self.encode(observation)) * self.output_scale + self.output_mean
        return self.reference(observation) + offsets
