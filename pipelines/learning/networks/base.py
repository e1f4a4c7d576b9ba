"""What every policy network is, whatever its kind."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sim2real.pictures import PictureInput
from sim2real.robot import Robot

if TYPE_CHECKING:
    from pipelines.learning.demonstrations import Demonstrations


class PolicyNetwork(nn.Module):
    """Observation (B, D) float32 to chunk (B, H, n) of joint goals, rad.

    Kinds that see take pictures (B, H, W, 3) uint8 besides, and may say more than the chunk (`outputs`).

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
    unit: str = "rad"
    """Of what chunks are made of; empty where they have none."""
    pictures: tuple[PictureInput, ...] = ()
    """What it sees, in the order of its arguments."""
    history: int = 1
    """How many observations in a row it is given as one, newest first."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it returns: the chunk first."""
        return ("chunk",)

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

    @torch.no_grad()
    def fit_chunks(self, observation: Tensor, chunk: Tensor) -> None:
        """Set the chunks' normalizers from training samples (N, D) and (N, H, n)."""
        offsets = chunk - self.reference(observation)
        self.output_mean.copy_(offsets.mean(dim=0))
        # One scale per joint over all rows: every row of the chunk then counts by the size of its error in rad.
        spread = offsets.flatten(0, 1).std(dim=0, unbiased=False).clamp_min(1e-3)
        self.output_scale.copy_(spread.expand(self.horizon, self.joints))

    def fit_to(self, demonstrations: "Demonstrations") -> None:
        """Set the normalizers from training samples."""
        like = self.output_mean
        self.fit_normalizers(
            torch.from_numpy(demonstrations.observations).to(like),
            torch.from_numpy(demonstrations.chunks).to(like),
        )

    def tensors(self, demonstrations: "Demonstrations") -> tuple[Tensor, ...]:
        """Samples as batches are cut out of them: the inputs first, normalized chunks last. On the CPU.

        Encoder and normalizers have no trainable weights, so their work is done once, here, and not in every epoch.
        """
        inputs, targets = [], []
        like = self.output_mean
        with torch.no_grad():
            for start in range(0, len(demonstrations), 65536):
                observations = torch.from_numpy(demonstrations.observations[start : start + 65536]).to(like)
                chunks = torch.from_numpy(demonstrations.chunks[start : start + 65536]).to(like)
                inputs.append(self.encode(observations).cpu().float())
                targets.append(self.normalize_chunk(observations, chunks).cpu().float())
        return torch.cat(inputs), torch.cat(targets)

    def losses(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Of a batch of `tensors`: the loss, the absolute errors of the normalized chunks (B, H, n), and what else is
        worth a curve, by name.

        The loss is the mean absolute error: with a deterministic expert the rare samples near a change of phase should
        not outweigh all others, as they do in a squared error.
        """
        inputs, targets = batch
        error = (self.decode(inputs) - targets).abs()
        return error.mean(), error.detach(), {}

    def typical_pictures(self, count: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
        """Random pictures for `typical_observations`, (count, H, W, 3) of each that it sees."""
        return []

    def reduce_precision(self) -> None:
        """Train faster with fewer digits, where this machine's processor can and the network stands it."""

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

    def forward(self, observation: Tensor, *pictures: Tensor) -> Any:
        """(B, D) to (B, H, n) rad; a tuple where it has more `outputs`."""
        offsets = self.decode(self.encode(observation)) * self.output_scale + self.output_mean
        return self.reference(observation) + offsets
