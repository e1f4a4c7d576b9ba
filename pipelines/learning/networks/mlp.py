"""The policy network: observation in, chunk of joint goals out.

A plain `nn.Module` in three parts, all of which travel in its state dict:

1. `ObservationEncoder`: fixed smooth functions of the observation, without trainable weights. From the joint
   angles it computes where the tool is (the arm's own kinematics as buffers) and expresses every target (goal,
   objects) relative to it, at several scales. A small network then has to learn what to do, not trigonometry.
2. normalizers, as buffers: statistics of the training episodes.
3. a multilayer perceptron: `trunk` (shared features) and `head` (the chunk), so that fine-tuning can freeze the
   one and train the other.

The chunk is predicted relative to `joint_command`, the last goal sent, or where it observes what is committed until its
answer comes, to the last goal of that: what an expert changes is small and has
a natural scale, while absolute angles would have to be reproduced to a hundredth of a degree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.context import CONTEXT, DrawEncoder
from pipelines.learning.networks.registry import KIND
from sim2real.errors import UserError
from sim2real.policies.committed import COMMITTED, ROWS
from sim2real.robot import Robot

if TYPE_CHECKING:
    from pipelines.learning.demonstrations import Demonstrations

LENGTHS = (0.01, 0.04)
"""Scales, m, at which distances are squashed: near a target millimetres decide, far from it centimetres."""

AUXILIARY = 0.1
"""Weight of what a history says of the draw, in the loss."""

LAG = 0.06
"""Scale, rad, at which `joint_command - joint_position` is squashed (a jaw that is stopped by an object)."""


@dataclass(frozen=True)
class Chain:
    """The joints from the base to the tool frame.

    `joints` are indices into the joint vector, base first. `origins` (K + 1, 4, 4): the fixed transform from
    joint k's parent link to its own frame, and last the one from the last joint's frame to the tool.
    `axes` (K, 3): unit rotation axes in the joints' frames.
    """

    joints: tuple[int, ...]
    origins: NDArray[np.float64]
    axes: NDArray[np.float64]

    def __post_init__(self) -> None:
        k = len(self.joints)
        if self.origins.shape != (k + 1, 4, 4) or self.axes.shape != (k, 3):
            raise ValueError(
                f"a chain of {k} joints needs origins ({k + 1}, 4, 4) and axes ({k}, 3), "
                f"got {self.origins.shape} and {self.axes.shape}"
            )


class ObservationEncoder(nn.Module):
    """Fixed functions of the observation vector; `size` is how many numbers come out.

    `features`: (name, size) pairs in the order of the vector; `chain_joints`: which joints lie between the base
    and the tool (empty: no kinematics). Features it does not know are passed through as they are.
    """

    rotation: Tensor
    translation: Tensor

    def __init__(self, features: Sequence[tuple[str, int]], chain_joints: Sequence[int]) -> None:
        super().__init__()
        self.slices: dict[str, slice] = {}
        start = 0
        for name, size in features:
            self.slices[name] = slice(start, start + size)
            start += size
        self.input_size = start
        self.chain_joints = list(chain_joints)
        self.targets = [name for name, size in features if is_place(name, size)]
        objects = [name for name in self.targets if name != "goal"]
        self.pushed = objects if "goal" in self.targets else []
        self.yaws = [name for name, size in features if name.startswith("object.") and name.endswith(".yaw")]
        k = len(self.chain_joints)
        # Rotation about axis a by angle q after the fixed rotation F: F + sin q · F[a]× + (1 − cos q) · F[a]×²
        # (Rodrigues' formula); the three matrices are constants.
        self.register_buffer("rotation", torch.zeros(k + 1, 3, 3, 3))
        self.register_buffer("translation", torch.zeros(k + 1, 3))
        self.rotation[:, 0] = torch.eye(3)
        with torch.no_grad():
            self.size = self.forward(torch.zeros(1, self.input_size)).shape[1]

    def set_chain(self, chain: Chain) -> None:
        """Fill in the arm's geometry."""
        if list(chain.joints) != self.chain_joints:
            raise ValueError(f"the network was built for the chain {self.chain_joints}, got {chain.joints}")
        for k, origin in enumerate(chain.origins):
            fixed = origin[:3, :3]
            x, y, z = chain.axes[k] if k < len(chain.axes) else np.zeros(3)
            cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
            matrices = np.stack([fixed, fixed @ cross, fixed @ cross @ cross])
            self.rotation[k] = torch.as_tensor(matrices, dtype=torch.float32)
            self.translation[k] = torch.as_tensor(origin[:3, 3], dtype=torch.float32)

    def tool_frame(self, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of joint angles (..., n), rad: tool position (..., 3), tool rotation (..., 3, 3), and the rotation of
        the first joint's link, the one that turns towards a target."""
        angles = joints[..., self.chain_joints]
        sine, cosine = torch.sin(angles)[..., None, None], (1 - torch.cos(angles))[..., None, None]
        position, turned = self.translation[0], self.rotation[-1, 0]
        first = turned
        for k in range(len(self.chain_joints)):
            local = (
                self.rotation[k, 0]
                + sine[..., k, :, :] * self.rotation[k, 1]
                + cosine[..., k, :, :] * self.rotation[k, 2]
            )
            if k == 0:
                turned = first = local
            else:
                position = position + turned @ self.translation[k]
                turned = turned @ local
        return position + turned @ self.translation[-1], turned @ self.rotation[-1, 0], first

    def forward(self, observation: Tensor) -> Tensor:
        """(B, D) observation vectors to (B, size) inputs of the network."""
        parts = [observation]

        def value(name: str) -> Tensor:
            return observation[:, self.slices[name]]

        if "joint_position" in self.slices and "joint_command" in self.slices:
            lag = value("joint_command") - value("joint_position")
            parts += [lag, torch.tanh(lag / LAG)]
        to_goal = {name: value("goal") - value(name) for name in self.pushed}
        for away in to_goal.values():
            parts += [away, _distance(away), *_squashed(away)]
        if "joint_position" not in self.slices or not self.chain_joints:
            return torch.cat(parts, dim=1)

        # Where the tool is, and where it has been sent; or where what is committed will have sent it.
        angles = value("joint_position")
        sent = value("joint_command") if "joint_command" in self.slices else angles
        if COMMITTED in self.slices:
            parts.append(value(COMMITTED) - sent.repeat(1, ROWS))
            sent = value(COMMITTED)[:, -sent.shape[1] :]
        positions, rotations, firsts = self.tool_frame(torch.stack([angles, sent]))
        tool, commanded = positions[0], positions[1]
        tool_rotation, commanded_rotation = rotations[0], rotations[1]
        base, base_rotation = self.translation[0], firsts[0]
        parts += [torch.sin(angles), torch.cos(angles), tool, tool_rotation.flatten(1)]
        parts += [commanded - tool, (commanded_rotation - tool_rotation).flatten(1)]
        for name in self.targets:
            away = value(name) - tool
            local = _into(tool_rotation, away)
            ahead = _into(commanded_rotation, value(name) - commanded)
            parts += [_into(base_rotation, value(name) - base), away, local, _distance(away), ahead]
            parts += [*_squashed(local), *_squashed(ahead)]
        for name, away in to_goal.items():
            direction = away / _distance(away)
            behind = _into(tool_rotation, direction)
            along = ((tool - value(name)) * direction).sum(dim=1, keepdim=True)
            across = (tool - value(name)) - along * direction
            parts += [direction, behind, along, across, *_squashed(along), *_squashed(across)]
            parts += [_into(base_rotation, direction)]
        for name in self.yaws:
            parts += [_relative_yaw(value(name), tool_rotation[:, :, 0])]
        return torch.cat(parts, dim=1)


class ChunkMLP(PolicyNetwork):
    """Observation (B, D) to chunk (B, H, n) of joint goals, rad. See the module docstring.

    All constructor arguments are plain values and are stored in the policy file: `features` pairs of name and
    size, `joints` n, `horizon` H, `width` and `depth` of the perceptron, `chain` joint indices. With a `history` of K
    observations are (B, K·D), newest first: what changed over them says what the world is like (`context.py`), of
    which `drawn` parameters are known in training.
    """

    input_mean: Tensor
    input_scale: Tensor
    change_scale: Tensor

    def __init__(
        self,
        features: Sequence[tuple[str, int]],
        joints: int,
        horizon: int,
        width: int = 256,
        depth: int = 3,
        chain: Sequence[int] = (),
        history: int = 1,
        drawn: int = 0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            KIND: "mlp",
            "features": [[name, int(size)] for name, size in features],
            "joints": int(joints),
            "horizon": int(horizon),
            "width": int(width),
            "depth": int(depth),
            "chain": [int(joint) for joint in chain],
        }
        if history > 1:
            self.arguments |= {"history": int(history), "drawn": int(drawn)}
        self.joints, self.horizon, self.history = int(joints), int(horizon), int(history)
        self.encoder = ObservationEncoder([(name, int(size)) for name, size in features], chain)
        self.relative = "joint_command" in self.encoder.slices
        size = self.encoder.size
        self.register_buffer("input_mean", torch.zeros(size))
        self.register_buffer("input_scale", torch.ones(size))
        self.register_buffer("output_mean", torch.zeros(horizon, joints))
        self.register_buffer("output_scale", torch.ones(horizon, joints))
        self.context = None
        self.encoded = size
        if history > 1:
            changes = (history - 1) * self.encoder.input_size
            self.register_buffer("change_scale", torch.ones(changes))
            self.context = DrawEncoder(changes, drawn)
            size += CONTEXT
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(size if i == 0 else width, width), nn.LayerNorm(width), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(width if depth else size, horizon * joints)

    @staticmethod
    def arguments_for(
        features: Sequence[tuple[str, int]],
        robot: Robot,
        horizon: int,
        *,
        width: int = 256,
        depth: int = 3,
        **options: Any,
    ) -> dict[str, Any]:
        """Constructor arguments for a robot."""
        more: dict[str, Any] = {key: options.pop(key) for key in ("history", "drawn") if key in options}
        if options:
            raise UserError(
                f"networks of the kind 'mlp' have width, depth and history, no {', '.join(options)}"
            )
        return {
            **more,
            "features": [[name, int(size)] for name, size in features],
            "joints": robot.n,
            "horizon": horizon,
            "width": width,
            "depth": depth,
            "chain": list(chain_of(robot).joints),
        }

    def set_robot(self, robot: Robot) -> None:
        """Fill in the arm's geometry."""
        self.encoder.set_chain(chain_of(robot))

    def freeze_trunk(self) -> None:
        """Leave only the head to be trained."""
        self.trunk.requires_grad_(False)
        if self.context is not None:
            self.context.requires_grad_(False)

    def typical_observations(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, K·D) random observations spread like the training data."""
        # The encoder passes the observation through as its first numbers, so their statistics are known.
        size = self.encoder.input_size
        mean, scale = (value[:size].cpu().numpy() for value in (self.input_mean, self.input_scale))
        newest = mean + scale * rng.normal(size=(count, size))
        if self.context is None:
            return np.asarray(newest, dtype=np.float32)
        changed = self.change_scale.cpu().numpy() * rng.normal(size=(count, len(self.change_scale)))
        return np.concatenate([newest, np.tile(newest, self.history - 1) + changed], axis=1, dtype=np.float32)

    def encode(self, observation: Tensor) -> Tensor:
        """Observation (B, K·D) to normalized inputs (B, E). Depends on no trainable weight: training computes it
        once per sample. Clipped, so that a value far outside the training data cannot drive the network."""
        newest = observation[:, : self.encoder.input_size]
        encoded = (self.encoder(newest) - self.input_mean) / self.input_scale
        if self.context is not None:
            encoded = torch.cat([encoded, self._changes(observation) / self.change_scale], dim=1)
        return torch.clamp(encoded, -8.0, 8.0)

    def _changes(self, observation: Tensor) -> Tensor:
        """(B, (K − 1)·D): the earlier observations relative to the newest."""
        size = self.encoder.input_size
        return observation[:, size:] - observation[:, :size].repeat(1, self.history - 1)

    def decode(self, encoded: Tensor) -> Tensor:
        """Normalized inputs (B, E) to normalized chunk offsets (B, H, n): what the loss compares."""
        if self.context is not None:
            context = self.context(encoded[:, self.encoded :])
            encoded = torch.cat([encoded[:, : self.encoded], context], dim=1)
        return torch.unflatten(self.head(self.trunk(encoded)), 1, (self.horizon, self.joints))

    def tensors(self, demonstrations: "Demonstrations") -> tuple[Tensor, ...]:
        """See `PolicyNetwork.tensors`; in between, with a history, the draws' parameters (NaN where not known)."""
        inputs, targets = super().tensors(demonstrations)
        if self.context is None:
            return inputs, targets
        count = int(self.arguments["drawn"])
        known = demonstrations.truths
        drawn = torch.full((len(inputs), count), torch.nan) if known is None else torch.from_numpy(known)
        return inputs, drawn, targets

    def losses(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `PolicyNetwork.losses`. With a history, what it says of the draw counts besides."""
        if self.context is None:
            return super().losses(batch)
        inputs, drawn, targets = batch
        loss, error, extra = super().losses((inputs, targets))
        known = torch.isfinite(drawn)
        if bool(known.any()):
            said = self.context.drawn(self.context(inputs[:, self.encoded :]))
            off = torch.where(known, said - drawn.nan_to_num(0.0), torch.zeros_like(said))
            squared = (off**2).sum() / known.sum()
            loss = loss + AUXILIARY * squared
            # 1/3 is what the middle of every range is off.
            extra = {**extra, "drawn_explained": 1 - 3 * squared.detach()}
        return loss, error, extra

    def reference(self, observation: Tensor) -> Tensor:
        """(B or 1, 1, n) rad, what chunks are relative to."""
        if not self.relative:
            return torch.zeros_like(self.output_mean[:1]).unsqueeze(0)
        if COMMITTED in self.encoder.slices:
            return observation[:, self.encoder.slices[COMMITTED]][:, -self.joints :].unsqueeze(1)
        return observation[:, self.encoder.slices["joint_command"]].unsqueeze(1)

    @torch.no_grad()
    def fit_normalizers(self, observation: Tensor, chunk: Tensor) -> None:
        """Set the normalizers from training samples (N, D) and (N, H, n).

        Scales have a floor: a feature that never varied in training must not be blown up when it does later.
        """
        newest = observation[:, : self.encoder.input_size]
        encoded = torch.cat([self.encoder(part) for part in newest.split(65536)])
        self.input_mean.copy_(encoded.mean(dim=0))
        self.input_scale.copy_(encoded.std(dim=0, unbiased=False).clamp_min(5e-3))
        if self.context is not None:
            self.change_scale.copy_(self._changes(observation).std(dim=0, unbiased=False).clamp_min(2e-3))
        self.fit_chunks(observation, chunk)


def is_place(name: str, size: int) -> bool:
    """Whether a feature is a point in the base frame, m: the goal, or where an object is."""
    return size == 3 and (name == "goal" or (name.startswith("object.") and name.endswith(".position")))


def chain_of(robot: Robot) -> Chain:
    """The chain from a robot's base to its tool frame; empty when a link in it slides, or follows a joint."""
    model = robot.model
    links: list[int] = []
    link = int(model.tool[0])
    while link >= 0:
        links.insert(0, link)
        link = int(model.parents[link])
    if model.prismatic[links].any() or not np.isin(links, model.rows).all():
        links = []
    origins = np.tile(np.eye(4), (len(links) + 1, 1, 1))
    for k, link in enumerate(links):
        origins[k, :3, :3], origins[k, :3, 3] = model.rotations[link], model.origins[link]
    if links:
        origins[-1, :3, :3], origins[-1, :3, 3] = model.tool[1:10].reshape(3, 3), model.tool[10:13]
    joints = tuple(int(model.driver[link]) for link in links)
    return Chain(joints, origins, np.asarray(model.axes[links]))


def _into(rotation: Tensor, vector: Tensor) -> Tensor:
    """Vectors (B, 3) of the base frame expressed in frames with rotation (B, 3, 3)."""
    return (rotation * vector.unsqueeze(2)).sum(dim=1)


def _distance(vector: Tensor) -> Tensor:
    """(B, 1) Euclidean length, smooth at zero."""
    return torch.sqrt((vector * vector).sum(dim=1, keepdim=True) + 1e-8)


def _squashed(vector: Tensor) -> list[Tensor]:
    return [torch.tanh(vector / length) for length in LENGTHS]


def _relative_yaw(yaw: Tensor, axis: Tensor) -> Tensor:
    """(B, 2): cosine and sine of four times the angle between a cube's faces and a tool axis, seen from above.

    The axis' horizontal part (c, s) is squared twice as a complex number, which multiplies its angle by four
    without an arctangent's jump; its length shrinks when the tool is tilted.
    """
    c, s = axis[:, 0:1], axis[:, 1:2]
    for _ in range(2):
        c, s = c * c - s * s, 2 * c * s
    yaw_c, yaw_s = yaw[:, 0:1], yaw[:, 1:2]
    return torch.cat([yaw_c * c + yaw_s * s, yaw_s * c - yaw_c * s], dim=1)
