"""A network for many tasks on one table from states: which task it is changes every layer.

Hand, two objects and a goal are given as places; the network sees them relative to each other besides, squashed at
several scales, since what experts do hinges on millimetres near an object and on centimetres far from it. The task
scales and shifts the features of every layer (E. Perez and others, "FiLM: visual reasoning with a general conditioning
layer", 2018), so that tasks share what they have in common.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import KIND
from sim2real.errors import UserError

LENGTHS = (0.01, 0.03, 0.1)
"""m, at which distances are squashed."""
NEEDED = ("hand", "first.position", "second.position", "goal", "task")
PAIRS = (
    ("first.position", "hand"),
    ("second.position", "hand"),
    ("goal", "hand"),
    ("goal", "first.position"),
)


class StatesNetwork(PolicyNetwork):
    """Observation (B, D), at whose end is which task it is, to actions (B, H, n). See the module docstring."""

    unit = ""
    input_mean: Tensor
    input_scale: Tensor

    def __init__(
        self, features: Sequence[tuple[str, int]], joints: int, horizon: int, width: int = 384, depth: int = 3
    ) -> None:
        super().__init__()
        names = [name for name, _ in features]
        if missing := [name for name in NEEDED if name not in names]:
            raise UserError(f"networks of the kind 'states' observe {', '.join(missing)}, which is not there")
        if names[-1] != "task":
            raise UserError("networks of the kind 'states' take the task as the last feature")
        self.arguments: dict[str, Any] = {
            KIND: "states",
            "features": [[name, int(size)] for name, size in features],
            "joints": int(joints),
            "horizon": int(horizon),
            "width": int(width),
            "depth": int(depth),
        }
        self.joints, self.horizon = int(joints), int(horizon)
        self.slices: dict[str, slice] = {}
        start = 0
        for name, size in features:
            self.slices[name] = slice(start, start + size)
            start += size
        self.tasks = int(features[-1][1])
        self.state = start - self.tasks
        size = self.state + len(PAIRS) * (3 * (1 + len(LENGTHS)) + 1)
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_scale", torch.ones(size))
        self.register_buffer("output_mean", torch.zeros(horizon, joints))
        self.register_buffer("output_scale", torch.ones(horizon, joints))
        self.layers = nn.ModuleList(nn.Linear(size if i == 0 else width, width) for i in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.scales = nn.ModuleList(nn.Linear(self.tasks, 2 * width, bias=False) for _ in range(depth))
        self.head = nn.Linear(width if depth else size, horizon * joints)
        with torch.no_grad():
            for scale in self.scales:
                scale.weight.normal_(0.0, 0.1)  # type: ignore[union-attr, operator]

    def freeze_trunk(self) -> None:
        """Leave only the head to be trained."""
        for part in (self.layers, self.scales):
            part.requires_grad_(False)

    def typical_observations(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, D) random observations spread like the training data, each of one task."""
        mean, scale = (value[: self.state].cpu().numpy() for value in (self.input_mean, self.input_scale))
        state = mean + scale * rng.normal(size=(count, self.state))
        which = np.eye(self.tasks)[rng.integers(0, self.tasks, count)]
        return np.concatenate([state, which], axis=1).astype(np.float32)

    def encode(self, observation: Tensor) -> Tensor:
        """(B, D) to (B, E + tasks): normalized, the task's numbers last."""
        encoded = torch.clamp((self._raw(observation) - self.input_mean) / self.input_scale, -8.0, 8.0)
        return torch.cat([encoded, observation[:, self.slices["task"]]], dim=1)

    def _raw(self, observation: Tensor) -> Tensor:
        parts = [observation[:, : self.state]]
        for to, of in PAIRS:
            away = observation[:, self.slices[to]] - observation[:, self.slices[of]]
            parts += [away, torch.sqrt((away * away).sum(dim=1, keepdim=True) + 1e-8)]
            parts += [torch.tanh(away / length) for length in LENGTHS]
        return torch.cat(parts, dim=1)

    def decode(self, encoded: Tensor) -> Tensor:
        """(B, E + tasks) to normalized actions (B, H, n): what the loss compares."""
        x, task = encoded[:, : -self.tasks], encoded[:, -self.tasks :]
        for layer, norm, scale in zip(self.layers, self.norms, self.scales):
            gain, shift = scale(task).chunk(2, dim=1)
            x = torch.nn.functional.silu(norm(layer(x)) * (1.0 + gain) + shift)
        return torch.unflatten(self.head(x), 1, (self.horizon, self.joints))

    def reference(self, observation: Tensor) -> Tensor:
        """(1, 1, n): actions are relative to nothing."""
        return torch.zeros_like(self.output_mean[:1]).unsqueeze(0)

    @torch.no_grad()
    def fit_normalizers(self, observation: Tensor, chunk: Tensor) -> None:
        """Set the normalizers from training samples (N, D) and (N, H, n)."""
        raw = torch.cat([self._raw(part) for part in observation.split(65536)])
        self.input_mean.copy_(raw.mean(dim=0))
        self.input_scale.copy_(raw.std(dim=0, unbiased=False).clamp_min(5e-3))
        self.fit_chunks(observation, chunk)
