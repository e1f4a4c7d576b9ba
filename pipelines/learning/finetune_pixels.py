"""Fine-tuning of a policy that sees on recordings with pictures, and what its pretraining was worth.

Some recorded episodes are held out. On 1, 3, 10 and all of the others the policy is trained further, and beside it one
of the same network that begins from nothing, with as many steps on the same pictures: the error of both on the episodes
that neither has seen says what pictures of a simulation are worth on those of a real camera. What was trained on all
becomes the policy.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network
from pipelines.learning.recorded_pictures import Mapped, load_seen, of_episodes
from pipelines.runs import claim, described, provenance
from sim2real.errors import UserError
from sim2real.files import file_hash, read_json, write_json
from sim2real.identity import dataset_hash
from sim2real.policies.file import FilePolicy
from sim2real.robot import Robot

AMOUNTS = (1, 3, 10)
"""Numbers of episodes that are tried besides all."""
SHIFT = 3
"""Pixels by which a picture may be shifted while it is learned from, each way: cameras move."""
BRIGHTNESS = 0.2
"""Share by which it may be brighter or darker."""


@dataclass(frozen=True)
class PixelTuning:
    """Everything that decides a policy that was fine-tuned on pictures.

    `mapping` FEATURE=CAMERA, `units`, `episodes`, `arm`, `fps`, `every_episode`, `lead` say how the data set is read
    (`load_seen`). `train`: "all" of the network, or "head" only. `steps` of training with `batch_size` pairs each.
    `compare`: also train on fewer episodes and from nothing.
    """

    policy: str
    data: str
    robot: str = "so101"
    mapping: tuple[str, ...] = ()
    calibration: str | None = None
    units: str = "auto"
    episodes: str | None = None
    arm: str | None = None
    fps: float | None = None
    every_episode: bool = False
    lead: float = 0.0
    train: str = "all"
    seed: int = 0
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 5e-4
    held_out: float = 0.25
    compare: bool = True

    def __post_init__(self) -> None:
        if self.train not in ("head", "all"):
            raise UserError(f"what to train of a policy that sees is 'head' or 'all', got '{self.train}'")
        if min(self.steps, self.batch_size) < 1 or not self.learning_rate > 0 or not 0 <= self.held_out < 1:
            raise UserError(
                "steps and batch size must be at least 1, the learning rate above 0, the held-out share in 0..1"
            )


STATES_ONLY = (
    "simulated", "space", "twin", "cameras", "object", "task", "labels", "failures", "mix", "rehearsal", "thaw",
    "patience", "epochs", "batches", "evaluate",
)  # fmt: skip
"""What only the fine-tuning of policies of states has."""


def settings_of(given: Mapping[str, Any]) -> PixelTuning:
    """Settings from what was said, by name; what was not (None) keeps its default.

    Raises UserError for what policies that see do not have.
    """
    # None of them is what is done anyway.
    said = [name for name in STATES_ONLY if given.get(name)]
    if said:
        raise UserError(
            f"{', '.join('--' + name for name in said)}: a policy that sees is adapted to the recording alone "
            "(--steps says how long)"
        )
    names = PixelTuning.__dataclass_fields__
    return PixelTuning(
        **{name: value for name, value in given.items() if name in names and value is not None}
    )


def sees(policy: str) -> bool:
    """Whether a policy file looks at pictures. Raises UserError when it cannot be read."""
    from sim2real.policies.file import load_policy_file

    return bool(load_policy_file(policy).pictures)


def finetune_pixels(settings: PixelTuning, out: Path) -> dict[str, Any]:
    """Adapt the policy and write `out/policy.onnx`; returns what `metrics.json` holds.

    "held_out_deg": mean absolute error of the chunks on held-out recorded episodes, degrees: "before" and "after", and
    for comparison "still" (an arm that stays where it was sent). "learning_curve": a row per number of episodes with
    the errors of the policy that was pretrained and of one from nothing. In an `out` that holds this very run the
    result is read. Raises UserError for a policy or data that do not fit.
    """
    torch.set_num_threads(1)
    robot = Robot.load(settings.robot)
    network, parent = load_network(settings.policy)
    parent.check(robot)
    mapped = load_seen(
        settings.data,
        parent.info,
        robot,
        mapping=settings.mapping,
        calibration=settings.calibration,
        units=settings.units,
        episodes=settings.episodes,
        arm=settings.arm,
        fps=settings.fps,
        every_episode=settings.every_episode,
        lead=settings.lead,
    )
    config = _config(settings, parent)
    if claim(out, config) is not None and (out / "policy.onnx").exists():
        return dict(read_json(out / "metrics.json"))
    for line in mapped.lines:
        _say(line)
    training, held_out = _split(mapped, settings)
    unseen = of_episodes(mapped.demonstrations, held_out) if held_out else None
    result: dict[str, Any] = {
        "recorded": {**mapped.summary, "mapping": list(mapped.lines), "held_out_episodes": len(held_out)},
        "held_out_deg": {"before": error_degrees(network, unseen), "still": _still(network, unseen)},
        "learning_curve": [],
        "interrupted": False,
    }
    tuned = network
    for count in _amounts(len(training), settings.compare):
        data = of_episodes(mapped.demonstrations, training[:count])
        row: dict[str, Any] = {"episodes": count, "pairs": len(data)}
        tuned = _copy(network)
        train(tuned, data, settings)
        row["pretrained_deg"] = error_degrees(tuned, unseen)
        if settings.compare:
            fresh = _fresh(network, robot, data, settings.seed)
            train(fresh, data, replace(settings, train="all"))
            row["scratch_deg"] = error_degrees(fresh, unseen)
        result["learning_curve"].append(row)
        _say(_told(row))
    result["held_out_deg"]["after"] = error_degrees(tuned, unseen)
    about = {
        **provenance(config, parent),
        "recorded": result["recorded"],
    }
    result["export_difference"] = export_policy(
        tuned, replace(parent.info, provenance=about), out / "policy.onnx"
    )
    write_json(out / "metrics.json", {"curve": [], **result})
    return result


def train(network: PolicyNetwork, data: Demonstrations, settings: PixelTuning) -> None:
    """Train on the pairs for the settings' steps; the network ends in evaluation mode."""
    if settings.train == "head":
        network.freeze_trunk()
    network.reduce_precision()
    tensors = network.tensors(data)
    wanted = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(wanted, settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    )
    network.train()
    for batch in _batches(tensors, settings):
        loss, _, _ = network.losses(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


def _batches(tensors: Sequence[Tensor], settings: PixelTuning) -> Iterator[list[Tensor]]:
    """Random batches, their pictures shifted and of other brightness."""
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        rows = torch.randint(len(tensors[0]), (settings.batch_size,), generator=generator)
        shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
        light = 1 + BRIGHTNESS * (2 * torch.rand(len(rows), 1, 1, 1, generator=generator) - 1)
        yield [_changed(t[rows], shift, light) if t.dtype == torch.uint8 else t[rows] for t in tensors]


def _changed(pictures: Tensor, shift: list[int], light: Tensor) -> Tensor:
    moved = torch.roll(pictures, shift, dims=(1, 2))
    return (moved.float() * light).clamp(0, 255).to(torch.uint8)


def error_degrees(network: PolicyNetwork, data: Demonstrations | None) -> float | None:
    """Mean absolute error of the network's chunks, degrees; None without demonstrations."""
    if data is None or not len(data):
        return None
    network.eval()
    tensors = network.tensors(data)
    with torch.no_grad():
        errors = [
            (network.losses([t[rows] for t in tensors])[1] * network.output_scale).flatten(1).mean(dim=1)
            for rows in torch.arange(len(data)).split(256)
        ]
    return float(torch.rad2deg(torch.cat(errors).mean()))


def _still(network: PolicyNetwork, data: Demonstrations | None) -> float | None:
    """The error of an arm that stays where it was last sent."""
    if data is None or not len(data):
        return None
    with torch.no_grad():
        here = network.reference(torch.from_numpy(data.observations)).numpy()
    return float(np.degrees(np.abs(data.chunks - here).mean()))


def _split(mapped: Mapped, settings: PixelTuning) -> tuple[list[int], list[int]]:
    """Episodes to train on, in the order in which they join, and those held out: at least one of two or more."""
    order = np.random.default_rng(settings.seed).permutation(mapped.numbers).tolist()
    count = round(settings.held_out * len(order))
    if settings.held_out > 0 and len(order) > 1:
        count = min(max(count, 1), len(order) - 1)
    return order[count:], order[:count]


def _amounts(available: int, compare: bool) -> list[int]:
    return [*(n for n in AMOUNTS if n < available and compare), available]


def _copy(network: PolicyNetwork) -> PolicyNetwork:
    made = build_network(network.arguments)
    made.load_state_dict(network.state_dict())
    return made


def _fresh(network: PolicyNetwork, robot: Robot, data: Demonstrations, seed: int) -> PolicyNetwork:
    """The same network as it is before it has learned anything, its normalizers fitted to the data."""
    torch.manual_seed(seed)
    made = build_network(network.arguments)
    made.set_robot(robot)
    made.fit_to(data)
    return made


def _config(settings: PixelTuning, parent: FilePolicy) -> dict[str, Any]:
    """What the run directory says of the run; its identity goes by the contents of all files."""
    named = ("seed", "policy", "data", "calibration")
    identity = {
        "seed": settings.seed,
        "parent": parent.sha256,
        "data": dataset_hash(settings.data),
        "calibration": None if settings.calibration is None else file_hash(settings.calibration),
        "settings": {name: value for name, value in asdict(settings).items() if name not in named},
    }
    return described("finetune", seed=settings.seed, settings=asdict(settings), identity=identity)


def _told(row: dict[str, Any]) -> str:
    plural = "s" if row["episodes"] > 1 else ""
    if row["pretrained_deg"] is None:
        return f"trained on {row['episodes']} episode{plural}; a single one leaves nothing to hold out"
    text = f"{row['episodes']} episode{plural}: {row['pretrained_deg']:.2f}° on held-out ones"
    return text + (f", from scratch {row['scratch_deg']:.2f}°" if "scratch_deg" in row else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
