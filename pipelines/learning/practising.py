"""The part of a pretraining in which a policy practises: an algorithm, what it is given, and what is noted of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.learning.algorithm import PPO, Algorithm, Practice, known_to_critics
from pipelines.learning.experience import PractiseEpisode
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.trainer import History
from pipelines.sweeps.plan import SweepPlan
from sim2real.loading import instantiate
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot
from sim2real.task import Task

ACTOR = "actor.onnx"
"""In a run's checkpoints: the network as it practises."""


def practise(
    name: str,
    network: PolicyNetwork,
    info: PolicyInfo,
    plan: SweepPlan,
    robot: Robot,
    task: Task,
    out: Path,
    *,
    cloned: bool,
    episodes: int,
    seed: int,
    workers: int,
    history: History,
    keep: Callable[[], object],
    expired: Callable[[], bool],
) -> bool:
    """Let the algorithm `name` train the network in the plan's worlds, from where an earlier run of it in `out` was;
    False where Ctrl-C ended it. Raises UserError for an algorithm that cannot be."""
    algorithm = load_algorithm(name)
    space = plan.bind()
    recipe = PractiseEpisode(
        plan.robot,
        plan.task,
        str(out / "checkpoints" / ACTOR),
        info.features,
        known_to_critics(task.features, robot, space),
        nominal=plan.nominal,
        cameras=plan.camera_models,
        history=info.history,
    )

    def note(row: dict[str, Any]) -> None:
        # A run that goes on repeats what came after its last checkpoint.
        before = [r for r in history.extra.get("practice", []) if _before(r, row)]
        history.write(practice=[*before, row])
        print(_line(row, episodes), file=sys.stderr, flush=True)

    practice = Practice(
        network,
        info,
        robot,
        recipe,
        space,
        out,
        cloned=cloned,
        seed=seed,
        total=episodes,
        workers=workers,
        keep=keep,
        expired=expired,
        note=note,
    )
    try:
        algorithm.train(practice)
    except KeyboardInterrupt:
        return False
    finally:
        practice.close()
    return True


def _before(row: dict[str, Any], new: dict[str, Any]) -> bool:
    return bool(
        row["episodes"] < new["episodes"] or (row["episodes"] == new["episodes"] and row.keys() != new.keys())
    )


def _line(row: dict[str, Any], total: int) -> str:
    parts = [f"practice {row['episodes']}/{total}"]
    for key, label in (("success_rate", "success"), ("measured_success_rate", "without exploration")):
        if key in row:
            parts.append(f"{label} {row[key]:.0%}")
    for key, label in (("reward", "reward"), ("measured_reward", "sum of rewards"), ("sigma", "exploration")):
        if key in row:
            parts.append(f"{label} {row[key]:.3g}")
    return "  ".join(parts)


def load_algorithm(name: str) -> Algorithm:
    """What practises: "ppo", or a class of the user's own as "module:Class".

    Raises UserError when it cannot be made.
    """
    if name == PPO:
        from pipelines.learning.ppo import ProximalPolicy

        return ProximalPolicy()
    algorithm: Algorithm = instantiate(name, "algorithm", ("train",))
    return algorithm
