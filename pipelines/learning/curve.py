"""What more recorded episodes would bring: success after 0, 5, 10, … of them, fine-tuned and learned from scratch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.learning.adapters import merged
from pipelines.learning.data import PairDataset, error_degrees
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy
from pipelines.learning.finetune_settings import FinetuneSettings
from pipelines.learning.mixing import briefly_trained
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot

SCRATCH_RATE = 2e-3
"""Learning rate of a network that begins with random weights."""


def learning_curve(
    network: PolicyNetwork,
    info: PolicyInfo,
    robot: Robot,
    recorded: Demonstrations,
    mixed: Sequence[tuple[Demonstrations, float]],
    mix: float,
    settings: FinetuneSettings,
    out: Path,
    measure: Callable[[str], dict[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each count of recorded episodes, as far as there are so many besides those held out.

    "episodes", "tuned" and "scratch", each with "held_out_deg" and "success" (what `measure` says of a policy file).
    Without episodes "tuned" is the policy as it came, and "scratch" None. `mixed` are simulated pairs with their share
    of what is not recorded; `mix` is the recorded share. All at a third of the training's steps.
    """
    held_in, held_out = recorded.split(settings.held_out, settings.seed)
    there = np.unique(held_in.episodes)
    simulated = [PairDataset(pairs, network) for pairs, _ in mixed]
    steps = settings.epochs * settings.batches // 3
    out.mkdir(exist_ok=True)

    def told(learned: PolicyNetwork, name: str) -> dict[str, Any]:
        path = out / f"{name}.onnx"
        export_policy(learned, info, path)
        return {"held_out_deg": error_degrees(learned, held_out), "success": measure(str(path))}

    rows: list[dict[str, Any]] = []
    for count in sorted({min(count, len(there)) for count in settings.curve}):
        if count == 0:
            rows.append({"episodes": 0, "tuned": told(network, "tuned-0"), "scratch": None})
            continue
        some = PairDataset(held_in.select(np.isin(held_in.episodes, there[:count])), network)
        copy = build_network(network.arguments)
        copy.load_state_dict(network.state_dict())
        shares = [mix if simulated else 1.0, *((1 - mix) * share for _, share in mixed)]
        tuned = merged(briefly_trained(copy, [some, *simulated], shares, settings, settings.train, steps))
        fresh = build_network(network.arguments)
        # What it is given keeps its meaning: geometry and normalizers.
        fresh.load_state_dict(dict(network.named_buffers()), strict=False)
        scratch = briefly_trained(fresh, [some], [1.0], settings, "all", steps, SCRATCH_RATE)
        rows.append(
            {
                "episodes": count,
                "tuned": told(tuned, f"tuned-{count}"),
                "scratch": told(scratch, f"scratch-{count}"),
            }
        )
    return rows


def curve_text(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = ["recorded episodes: success on this arm fine-tuned, from scratch"]
    for row in rows:
        tuned, scratch = (
            "–" if row[key] is None else f"{row[key]['success']['success_rate']:.0%}"
            for key in ("tuned", "scratch")
        )
        lines.append(f"  {row['episodes']:3}: {tuned:>5} {scratch:>5}")
    return lines
