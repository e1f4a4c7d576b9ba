"""One network for many tasks: the arm and the parts of the goal in, a chunk of joint goals out.

Every part of the goal (`sim2real/goal_view.py`) is a token: what `mlp.ObservationEncoder` makes of arm, object and
place, with what is wanted of it. The same perceptron reads each token; attention lets them see each other, so that a
part that is done gives way to the next; what is left is read by a perceptron as in `mlp`. The order of objects in a
scene does not matter, since tokens name none; rows that a goal does not need are masked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.mlp import ObservationEncoder, chain_of
from pipelines.learning.networks.registry import KIND
from sim2real.errors import UserError
from sim2real.goal_view import COLUMNS, ENTRY, PARTS, ROW
from sim2real.robot import Robot

_AT: dict[str, slice] = {}
_start = 0
for _name, _size in COLUMNS:
    _AT[_name] = slice(_start, _start + _size)
    _start += _size

SEEN_AS = (
    ("goal", "place"),
    ("object.cube.position", "position"),
    ("object.cube.yaw", "yaw"),
    ("object.cube.age", "age"),
    ("object.other.position", "other"),
)
"""What the columns of a row are called for `ObservationEncoder`, which makes places relative to the tool."""


class GoalNetwork(PolicyNetwork):
    """Observation (B, D) to chunk (B, H, n) of joint goals, rad. See the module docstring.

    `features`: joint_position, joint_command and the goal's rows. `token` and `heads` of the attention, `width` and
    `depth` of the perceptron behind it.
    """

    input_mean: Tensor
    input_scale: Tensor
    observation_mean: Tensor
    observation_scale: Tensor

    def __init__(
        self,
        features: Sequence[tuple[str, int]],
        joints: int,
        horizon: int,
        width: int = 256,
        depth: int = 3,
        token: int = 128,
        heads: int = 4,
        chain: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if [name for name, _ in features] != ["joint_position", "joint_command", ENTRY]:
            raise UserError(
                f"networks of the kind 'goals' observe joint_position, joint_command and {ENTRY}, "
                f"got {', '.join(name for name, _ in features)}"
            )
        if token % heads:
            raise UserError(f"the width of a token must be a multiple of the heads, got {token} and {heads}")
        self.arguments: dict[str, Any] = {
            KIND: "goals",
            "features": [[name, int(size)] for name, size in features],
            "joints": int(joints),
            "horizon": int(horizon),
            "width": int(width),
            "depth": int(depth),
            "token": int(token),
            "heads": int(heads),
            "chain": [int(joint) for joint in chain],
        }
        self.joints, self.horizon, self.heads = int(joints), int(horizon), int(heads)
        self.reduced = False
        sizes = dict(COLUMNS)
        seen = [(name, sizes[column]) for name, column in SEEN_AS]
        self.encoder = ObservationEncoder(
            [("joint_position", joints), ("joint_command", joints), *seen], chain
        )
        size = self.encoder.size + ROW
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_scale", torch.ones(size))
        self.register_buffer("observation_mean", torch.zeros(2 * joints + PARTS * ROW))
        self.register_buffer("observation_scale", torch.ones(2 * joints + PARTS * ROW))
        self.register_buffer("output_mean", torch.zeros(horizon, joints))
        self.register_buffer("output_scale", torch.ones(horizon, joints))
        self.read = nn.Sequential(
            nn.Linear(size, token), nn.LayerNorm(token), nn.SiLU(), nn.Linear(token, token)
        )
        self.place = nn.Parameter(torch.zeros(PARTS, token))
        self.attend = nn.Linear(token, 3 * token)
        self.mix = nn.Sequential(nn.LayerNorm(token), nn.Linear(token, token), nn.SiLU())
        self.weigh = nn.Linear(token, 1)
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(token if i == 0 else width, width), nn.LayerNorm(width), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(width if depth else token, horizon * joints)

    @staticmethod
    def arguments_for(
        features: Sequence[tuple[str, int]],
        robot: Robot,
        horizon: int,
        *,
        width: int = 256,
        depth: int = 3,
        token: int = 128,
        heads: int = 4,
        **options: Any,
    ) -> dict[str, Any]:
        """Constructor arguments for a robot."""
        if options:
            raise UserError(
                f"networks of the kind 'goals' have width, depth, token and heads, no {', '.join(options)}"
            )
        return {
            "features": [[name, int(size)] for name, size in features],
            "joints": robot.n,
            "horizon": horizon,
            "width": width,
            "depth": depth,
            "token": token,
            "heads": heads,
            "chain": list(chain_of(robot).joints),
        }

    def set_robot(self, robot: Robot) -> None:
        """Fill in the arm's geometry."""
        self.encoder.set_chain(chain_of(robot))

    def freeze_trunk(self) -> None:
        """Leave only the head to be trained."""
        for part in (self.read, self.attend, self.mix, self.weigh, self.trunk):
            part.requires_grad_(False)
        self.place.requires_grad_(False)

    def typical_observations(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, D) random observations spread like the training data."""
        mean, scale = self.observation_mean.cpu().numpy(), self.observation_scale.cpu().numpy()
        found = mean + scale * rng.normal(size=(count, len(mean)))
        wanted = found[:, 2 * self.joints :].reshape(count, PARTS, ROW)[:, :, _AT["wanted"]]
        # Whether a row is there is yes or no, and the first always is.
        wanted[:] = wanted > 0.5
        wanted[:, 0] = 1.0
        return np.asarray(found, dtype=np.float32)

    def encode(self, observation: Tensor) -> Tensor:
        """Observation (B, D) to normalized tokens (B, PARTS, E + 1), the last number whether the part is wanted."""
        raw = self._raw(observation)
        encoded = torch.clamp((raw - self.input_mean) / self.input_scale, -8.0, 8.0)
        return torch.cat([encoded, raw[..., -1:]], dim=-1)

    def _raw(self, observation: Tensor) -> Tensor:
        """(B, D) to (B, PARTS, E): of every part what the encoder makes of arm, object and place, and its row."""
        arm = observation[:, : 2 * self.joints]
        tokens = []
        for part in range(PARTS):
            start = 2 * self.joints + part * ROW
            row = observation[:, start : start + ROW]
            seen = torch.cat([arm, *(row[:, _AT[column]] for _, column in SEEN_AS)], dim=1)
            tokens.append(torch.cat([self.encoder(seen), row], dim=1))
        return torch.stack(tokens, dim=1)

    def reduce_precision(self) -> None:
        """Compute all but the head in bfloat16 while it learns, where this processor is made for it: twice as fast."""
        self.reduced = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[assignment]

    def decode(self, encoded: Tensor) -> Tensor:
        """Tokens (B, PARTS, E + 1) to normalized chunk offsets (B, H, n): what the loss compares."""
        reduced = self.reduced and self.training and encoded.device.type == "cpu"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced):
            features = self._features(encoded)
        return torch.unflatten(self.head(features.to(encoded.dtype)), 1, (self.horizon, self.joints))

    def _features(self, encoded: Tensor) -> Tensor:
        """Tokens to what the head reads (B, width)."""
        wanted = encoded[..., -1:]
        token = self.read(encoded[..., :-1]) + self.place
        # How much each token heeds each other one; those that are not wanted are heeded by none.
        query, key, value = self._split(self.attend(token))
        score = query @ key.transpose(-1, -2) / (query.shape[-1] ** 0.5)
        score = score + (wanted.squeeze(-1) - 1.0)[:, None, None, :] * 1e4
        seen = (torch.softmax(score, dim=-1) @ value).transpose(1, 2).flatten(2)
        token = token + self.mix(token + seen)
        share = torch.softmax(self.weigh(token) + (wanted - 1.0) * 1e4, dim=1)
        features: Tensor = self.trunk((share * token).sum(dim=1))
        return features

    def _split(self, attended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, PARTS, 3·token) to query, key and value (B, heads, PARTS, token / heads)."""
        query, key, value = (
            torch.unflatten(part, -1, (self.heads, -1)).transpose(1, 2) for part in attended.chunk(3, dim=-1)
        )
        return query, key, value

    def reference(self, observation: Tensor) -> Tensor:
        """(B, 1, n) rad, what chunks are relative to: the last command."""
        return observation[:, self.joints : 2 * self.joints].unsqueeze(1)

    @torch.no_grad()
    def fit_normalizers(self, observation: Tensor, chunk: Tensor) -> None:
        """Set the normalizers from training samples (N, D) and (N, H, n); rows that are not wanted do not count."""
        total = torch.zeros(len(self.input_mean), dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        for part in observation.split(16384):
            raw = self._raw(part).double()
            rows = raw[raw[..., -1] > 0.5]
            total, squares, count = total + rows.sum(dim=0), squares + (rows**2).sum(dim=0), count + len(rows)
        mean = total / max(count, 1)
        self.input_mean.copy_(mean)
        self.input_scale.copy_((squares / max(count, 1) - mean**2).clamp_min(0.0).sqrt().clamp_min(5e-3))
        # Whether a part is wanted stays as it is.
        self.input_mean[-1], self.input_scale[-1] = 0.0, 1.0
        self.observation_mean.copy_(observation.mean(dim=0))
        self.observation_scale.copy_(observation.std(dim=0, unbiased=False))
        self.fit_chunks(observation, chunk)
