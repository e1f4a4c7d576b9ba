"""The network of policies that see: pictures, joints and a short history in, chunk of joint goals out.

Four parts, all of which travel in its state dict:

1. `Eye`, one for each picture: a few convolutions, and out of their map a place for every object (the mean under a
   softmax), what is there, and some free places that training finds useful.
2. `ObjectHead`, one for each object: from what the eyes found, and from how the arm stands, where the object is, how
   it is turned and whether it can be seen. Trained on the truth of the simulation; it is also what a report shows.
3. the `ObservationEncoder` of the perceptron for states (`mlp.py`), over the joints and what the object heads say.
4. a multilayer perceptron over that, over the history, and over what the eyes found besides.

In the view from above a pixel is a place on the table, so the place that an eye finds is one in metres, and the
network need not learn where its camera stands.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.mlp import ObservationEncoder, chain_of
from pipelines.learning.networks.registry import KIND
from sim2real.errors import UserError
from sim2real.pictures import PictureInput
from sim2real.robot import Robot

if TYPE_CHECKING:
    from pipelines.learning.demonstrations import Demonstrations

TRUTHS = 6
"""Numbers that are known of an object in simulation: position (3), yaw as in observations (2), visible (1)."""

FREE = 8
"""Places that an eye may look at besides the objects."""
SHIFT = 0.05
"""Unit of the corrections to where an eye saw an object, m."""
UNIT = 0.02
"""Unit of the error of an object's position in the loss, m."""
AUXILIARY = 0.5
"""Weight of the object heads in the loss."""
HISTORY = 4
"""Observations in a row that a policy is given, unless said otherwise."""


class Eye(nn.Module):
    """One picture (B, H, W, 3) uint8 to a map of features, and from there to places in it."""

    grid: Tensor

    def __init__(self, wanted: PictureInput, objects: int, channels: int) -> None:
        super().__init__()
        first = max(8, channels // 2)
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.places = nn.Conv2d(channels, objects + FREE, 1)
        self.objects, self.channels = objects, channels
        self.reduced = False
        """Whether the convolutions are computed in bfloat16 while it learns: twice as fast on processors that can."""
        self.size = 2 * FREE + channels
        height, width = -(-wanted.height // 4), -(-wanted.width // 4)
        if wanted.area is None:
            high, low = (1.0, 1.0), (-1.0, -1.0)
        else:
            high, low = (wanted.area[1], wanted.area[3]), (wanted.area[0], wanted.area[2])
        rows = (torch.arange(height) + 0.5) / height
        columns = (torch.arange(width) + 0.5) / width
        x, y = high[0] - rows * (high[0] - low[0]), high[1] - columns * (high[1] - low[1])
        self.register_buffer("grid", torch.stack(torch.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every object its place (B, O, 2) and what is there (B, O, channels); of the whole picture (B, size)."""
        image = picture.permute(0, 3, 1, 2).to(self.grid.dtype) / 255.0
        # How bright and how warm the light is says nothing.
        image = image - image.mean(dim=(2, 3), keepdim=True)
        image = image / torch.sqrt((image * image).mean(dim=(1, 2, 3), keepdim=True) + 1e-3)
        image = image.contiguous(memory_format=torch.channels_last)
        if self.reduced and self.training:
            # Not the places: three digits of them would be centimetres.
            with torch.autocast(image.device.type, torch.bfloat16):
                features = self.convolutions(image).float()
        else:
            features = self.convolutions(image)
        weights = torch.softmax(self.places(features).flatten(2), dim=2)
        flat = features.flatten(2)
        places = weights @ self.grid
        there = weights[:, : self.objects] @ flat.transpose(1, 2)
        whole = torch.cat([places[:, self.objects :].flatten(1), flat.mean(dim=2)], dim=1)
        return places[:, : self.objects], there, whole


class ObjectHead(nn.Module):
    """What the eyes found of one object, and how the arm stands, to (B, 6): position, yaw, logit of visible."""

    def __init__(self, size: int, anchored: bool, rest: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.out = nn.Linear(128, 3 + 3 + 2 + 1 + 1)
        self.anchored, self.rest = anchored, rest

    def forward(self, inputs: Tensor, place: Tensor, tool: Tensor, rotation: Tensor) -> Tensor:
        """`place` (B, 2) m on the table; `tool` (B, 3) and `rotation` (B, 3, 3) of the tool frame."""
        out = self.out(self.layers(inputs))
        held = tool + SHIFT * (rotation @ out[:, 3:6, None])[:, :, 0]
        if self.anchored:
            # Lying where it was seen, or between the fingers: the one or the other, or in between.
            lying = torch.cat([place, torch.full_like(place[:, :1], self.rest)], dim=1) + SHIFT * out[:, :3]
            share = torch.sigmoid(out[:, 9:10])
            position = share * held + (1 - share) * lying
        else:
            position = held + SHIFT * out[:, :3]
        return torch.cat([position, out[:, 6:8], out[:, 8:9]], dim=1)


class PixelCNN(PolicyNetwork):
    """Observations (B, K·D), newest first, and pictures (B, H, W, 3) uint8 to chunk (B, H, n) rad.

    All constructor arguments are plain values and are stored in the policy file: `features` pairs of name and size of
    one observation, `joints` n, `horizon` H, `pictures` as `PictureInput.table` gives them, `objects` tables with the
    name and the resting height (m) of each, `goal_zone` the object over which the goal is, at `goal_height` m,
    `history` K, `width` and `depth` of the perceptron, `channels` of the eyes, `chain` joint indices.
    """

    input_mean: Tensor
    input_scale: Tensor
    vector_mean: Tensor
    vector_scale: Tensor

    def __init__(
        self,
        features: Sequence[tuple[str, int]],
        joints: int,
        horizon: int,
        pictures: Sequence[Mapping[str, Any]],
        objects: Sequence[Mapping[str, Any]] = (),
        goal_zone: str | None = None,
        goal_height: float = 0.0,
        history: int = HISTORY,
        width: int = 256,
        depth: int = 3,
        channels: int = 32,
        chain: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.arguments = {
            KIND: "cnn",
            "features": [[name, int(size)] for name, size in features],
            "joints": int(joints),
            "horizon": int(horizon),
            "pictures": [dict(picture) for picture in pictures],
            "objects": [dict(spec) for spec in objects],
            "goal_zone": goal_zone,
            "goal_height": float(goal_height),
            "history": int(history),
            "width": int(width),
            "depth": int(depth),
            "channels": int(channels),
            "chain": [int(joint) for joint in chain],
        }
        self.joints, self.horizon, self.history = int(joints), int(horizon), int(history)
        self.pictures = tuple(PictureInput.from_table(picture) for picture in pictures)
        self.names = tuple(str(spec["name"]) for spec in objects)
        self.size = sum(int(size) for _, size in features)
        told = [(str(name), int(size)) for name, size in features]
        # What the object heads say, as observations name it.
        told += [("goal", 3)] if goal_zone is not None else []
        for name in self.names:
            told += [(f"object.{name}.position", 3), (f"object.{name}.yaw", 2)]
        self.goal_zone, self.goal_height = goal_zone, float(goal_height)
        self.encoder = ObservationEncoder(told, chain)
        self.slices = self.encoder.slices
        self.relative = "joint_command" in self.slices
        self.eyes = nn.ModuleList(Eye(picture, len(self.names), channels) for picture in self.pictures)
        anchors = [i for i, picture in enumerate(self.pictures) if picture.view == "table"]
        self.anchor = anchors[0] if anchors else 0
        size = len(self.pictures) * (2 + channels) + self.history * self.size + 12
        self.heads = nn.ModuleList(
            ObjectHead(size, bool(anchors), float(spec.get("rest", 0.0))) for spec in objects
        )
        vector, encoded = self.history * self.size, self.encoder.size
        self.register_buffer("vector_mean", torch.zeros(vector))
        self.register_buffer("vector_scale", torch.ones(vector))
        self.register_buffer("input_mean", torch.zeros(encoded))
        self.register_buffer("input_scale", torch.ones(encoded))
        self.register_buffer("output_mean", torch.zeros(horizon, joints))
        self.register_buffer("output_scale", torch.ones(horizon, joints))
        seen = sum(eye.size for eye in self.eyes) + len(self.names)  # type: ignore[misc]
        size = encoded + vector + seen
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(size if i == 0 else width, width), nn.LayerNorm(width), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(width if depth else size, horizon * joints)
        self.eyes.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def reduce_precision(self) -> None:
        """Compute convolutions in bfloat16 while it learns, where this processor is made for it."""
        for eye in self.eyes:
            eye.reduced = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[assignment]

    @staticmethod
    def arguments_for(
        features: Sequence[tuple[str, int]], robot: Robot, horizon: int, **options: Any
    ) -> dict[str, Any]:
        """Constructor arguments for a robot."""
        known = {
            "pictures", "objects", "goal_zone", "goal_height", "history", "width", "depth", "channels",
        }  # fmt: skip
        if unknown := sorted(set(options) - known):
            raise UserError(
                f"networks of the kind 'cnn' have {', '.join(sorted(known))}, no {', '.join(unknown)}"
            )
        if not options.get("pictures"):
            raise UserError(
                "networks of the kind 'cnn' see pictures: train with --observe pixels (observe='pixels')"
            )
        return {
            "features": [[name, int(size)] for name, size in features],
            "joints": robot.n,
            "horizon": horizon,
            **options,
            "chain": list(chain_of(robot).joints),
        }

    def set_robot(self, robot: Robot) -> None:
        """Fill in the arm's geometry."""
        self.encoder.set_chain(chain_of(robot))

    def freeze_trunk(self) -> None:
        """Leave only the head to be trained."""
        for part in (self.eyes, self.heads, self.trunk):
            part.requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("chunk", *(f"object.{name}" for name in self.names))

    def typical_observations(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, K·D) random observations spread like the training data."""
        mean, scale = self.vector_mean.cpu().numpy(), self.vector_scale.cpu().numpy()
        return np.asarray(mean + scale * rng.normal(size=(count, len(mean))), dtype=np.float32)

    def typical_pictures(self, count: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
        """Pictures of patches of colour, (count, H, W, 3) each."""
        found = []
        for picture in self.pictures:
            coarse = rng.integers(0, 256, (count, -(-picture.height // 8), -(-picture.width // 8), 3))
            fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : picture.height, : picture.width]
            found.append(np.ascontiguousarray(fine, dtype=np.uint8))
        return found

    # What it computes

    def look(self, observation: Tensor, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, O, 6) what the object heads say (the last number a logit), and (B, S) what the eyes saw besides."""
        places, there, whole = zip(*(eye(picture) for eye, picture in zip(self.eyes, pictures)))
        joints = observation[:, self.slices["joint_position"]]
        tool, rotation, _ = self._tool(joints)
        arm = [self._normalized(observation), tool, rotation.flatten(1)]
        found = [
            head(
                torch.cat([*(p[:, i] for p in places), *(t[:, i] for t in there), *arm], dim=1),
                places[self.anchor][:, i],
                tool,
                rotation,
            )
            for i, head in enumerate(self.heads)
        ]
        objects = torch.stack(found, dim=1) if found else observation.new_zeros(len(observation), 0, TRUTHS)
        return objects, torch.cat(whole, dim=1)

    def decide(self, observation: Tensor, objects: Tensor, whole: Tensor) -> Tensor:
        """Normalized chunk offsets (B, H, n), of objects (B, O, 6) whose last number is a probability."""
        parts = [observation[:, : self.size]]
        if self.goal_zone is not None:
            zone = objects[:, self.names.index(self.goal_zone)]
            parts.append(torch.cat([zone[:, :2], torch.full_like(zone[:, :1], self.goal_height)], dim=1))
        for i in range(len(self.names)):
            parts.append(objects[:, i, :5])
        encoded = (self.encoder(torch.cat(parts, dim=1)) - self.input_mean) / self.input_scale
        inputs = [torch.clamp(encoded, -8.0, 8.0), self._normalized(observation), whole]
        if self.names:
            inputs.append(objects[:, :, 5])
        return torch.unflatten(
            self.head(self.trunk(torch.cat(inputs, dim=1))), 1, (self.horizon, self.joints)
        )

    def forward(self, observation: Tensor, *pictures: Tensor) -> tuple[Tensor, ...]:
        """Chunk (B, H, n) rad, and of every object (B, 6) position, yaw and the probability that it can be seen."""
        objects, whole = self.look(observation, pictures)
        objects = _with_probability(objects)
        offsets = self.decide(observation, objects, whole) * self.output_scale + self.output_mean
        return (self.reference(observation) + offsets, *(objects[:, i] for i in range(len(self.names))))

    def reference(self, observation: Tensor) -> Tensor:
        """(B or 1, 1, n) rad, what chunks are relative to."""
        if not self.relative:
            return torch.zeros_like(self.output_mean[:1]).unsqueeze(0)
        return observation[:, self.slices["joint_command"]].unsqueeze(1)

    def _tool(self, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.encoder.chain_joints:
            eye = torch.eye(3, dtype=joints.dtype, device=joints.device).expand(len(joints), 3, 3)
            return joints.new_zeros(len(joints), 3), eye, eye
        return self.encoder.tool_frame(joints)

    def _normalized(self, observation: Tensor) -> Tensor:
        return torch.clamp((observation - self.vector_mean) / self.vector_scale, -8.0, 8.0)

    # How it learns

    def tensors(self, demonstrations: "Demonstrations") -> tuple[Tensor, ...]:
        """Observations, pictures, truths (N, O, 6; NaN where nothing is known), normalized chunk offsets."""
        observations = torch.from_numpy(demonstrations.observations)
        chunks = torch.from_numpy(demonstrations.chunks)
        pictures = [torch.from_numpy(demonstrations.pictures[p.entry]) for p in self.pictures]
        shape = (len(demonstrations), len(self.names), TRUTHS)
        truths = (
            torch.full(shape, torch.nan)
            if demonstrations.truths is None
            else torch.from_numpy(demonstrations.truths).reshape(shape)
        )
        with torch.no_grad():
            like = self.output_mean
            targets = self.normalize_chunk(observations.to(like), chunks.to(like)).cpu().float()
        return (observations, *pictures, truths, targets)

    def losses(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `PolicyNetwork.losses`. The perceptron learns on what the heads say and, where the truth is known, on
        that too: so it can do its task long before the eyes see well."""
        observation, *pictures, truths, targets = batch
        objects, whole = self.look(observation, pictures)
        known = torch.isfinite(truths).all(dim=2)
        seen = _with_probability(objects)
        error = (self.decide(observation, seen.detach(), whole) - targets).abs()
        loss = error.mean()
        extra: dict[str, Tensor] = {}
        if self.names and bool(known.any()):
            truth = torch.where(known[:, :, None], truths, seen.detach())
            if self.training:
                shown = truth.clone()
                shown[:, :, :3] += 0.003 * torch.randn_like(shown[:, :, :3])
                loss = loss + (self.decide(observation, shown, whole.detach()) - targets).abs().mean()
            away, turned = (
                (objects[:, :, :3] - truth[:, :, :3]).abs(),
                (objects[:, :, 3:5] - truth[:, :, 3:5]).abs(),
            )
            visible = nn.functional.binary_cross_entropy_with_logits(
                objects[:, :, 5], truth[:, :, 5].clamp(0, 1), reduction="none"
            )
            # What cannot be seen can only be guessed.
            weight = known * (0.2 + 0.8 * truth[:, :, 5])
            each = away.mean(dim=2) / UNIT + 0.5 * turned.mean(dim=2)
            loss = loss + AUXILIARY * ((weight * each).sum() + 0.3 * (known * visible).sum()) / known.sum()
            clear = known & (truth[:, :, 5] > 0.5)
            if bool(clear.any()):
                extra["seen_mm"] = 1000 * (away.detach()[:, :, :2].norm(dim=2) * clear).sum() / clear.sum()
        return loss, error.detach(), extra

    @torch.no_grad()
    def fit_to(self, demonstrations: "Demonstrations") -> None:
        """Set the normalizers. Scales have a floor, as in `ChunkMLP`."""
        observation = torch.from_numpy(demonstrations.observations).to(self.output_mean)
        chunk = torch.from_numpy(demonstrations.chunks).to(self.output_mean)
        self.vector_mean.copy_(observation.mean(dim=0))
        self.vector_scale.copy_(observation.std(dim=0, unbiased=False).clamp_min(5e-3))
        parts = [observation[:, : self.size]]
        if demonstrations.truths is not None:
            truths = torch.from_numpy(demonstrations.truths).to(observation).nan_to_num(0.0)
            truths = truths.reshape(len(truths), len(self.names), TRUTHS)
        else:
            truths = observation.new_zeros(len(observation), len(self.names), TRUTHS)
        if self.goal_zone is not None:
            zone = truths[:, self.names.index(self.goal_zone)]
            parts.append(torch.cat([zone[:, :2], torch.full_like(zone[:, :1], self.goal_height)], dim=1))
        parts += [truths[:, i, :5] for i in range(len(self.names))]
        joined = torch.cat(parts, dim=1)
        encoded = torch.cat([self.encoder(part) for part in joined.split(65536)])
        self.input_mean.copy_(encoded.mean(dim=0))
        self.input_scale.copy_(encoded.std(dim=0, unbiased=False).clamp_min(5e-3))
        self.fit_chunks(observation, chunk)


def _with_probability(objects: Tensor) -> Tensor:
    """What the object heads say, with a probability in the place of its logit."""
    return torch.cat([objects[:, :, :5], torch.sigmoid(objects[:, :, 5:])], dim=2)
