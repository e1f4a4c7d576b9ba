"""Success of several policies on the episodes of all clients: the same ones, so that they can be compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.benchmarks.statistics import mean_rate
from pipelines.federated.clients import REGIONS, Client, Work, trials
from pipelines.federated.settings import Federation
from randomization.progress import progress_bar
from randomization.workers import run_draws
from sim2real.parameters import Draw


@dataclass(frozen=True)
class Job:
    """One episode: the policy's file, and the draw."""

    policy: str
    draw: Draw


@dataclass(frozen=True)
class Jobs:
    """A picklable recipe that runs job `index` for a draw of that index: one world, many policies."""

    robot: str
    task: str
    jobs: tuple[Job, ...]

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        from sim2real.policies.load import load_policy
        from sim2real.robot import Robot
        from sim2real.simulation.rollout import rollout
        from sim2real.simulation.world import World
        from sim2real.tasks.registry import load_task

        robot = Robot.load(self.robot)
        task = load_task(self.task, robot.n)
        world = World(robot, task)
        opened: dict[str, Any] = {}

        def run(numbered: Draw) -> dict[str, Any]:
            job = self.jobs[numbered.index]
            if job.policy not in opened:
                opened[job.policy] = load_policy(job.policy, task, robot)
            return {"success": bool(rollout(world, opened[job.policy], job.draw).success)}

        return run


def measure(
    federation: Federation,
    clients: Sequence[Client],
    work: Work,
    policies: Mapping[str, Sequence[Path]],
    *,
    workers: int,
) -> dict[str, dict[str, Any]]:
    """Of each way to learn, by name, with the policy that each client has by it: `success_rate`, `interval_95`
    (bootstrap stratified by client), `successes` of each client, and `own_share`, the rate where each client's
    regions count as often as it works in them."""
    draws = [trials(client, work, federation) for client in clients]
    jobs = [
        Job(str(files[k]), draw) for files in policies.values() for k, own in enumerate(draws) for draw in own
    ]
    numbered = [Draw(index) for index in range(len(jobs))]
    recipe = Jobs(federation.robot, federation.task, tuple(jobs))
    engine = run_draws(recipe, numbered, workers)
    success = np.zeros(len(jobs), bool)
    errors: list[str] = []
    with progress_bar(len(jobs), "evaluate", "episode") as bar:
        for outcome in engine:
            success[outcome.draw.index] = not outcome.error and outcome.row["success"]
            errors += [outcome.error] if outcome.error else []
            bar.update()
    found = {}
    each = success.reshape(len(policies), len(clients), federation.evaluate)
    for name, won in zip(policies, each):
        counts, of = won.sum(axis=1), np.full(len(clients), federation.evaluate)
        mean = mean_rate(counts, of, seed=federation.seed)
        found[name] = {
            "success_rate": mean.value,
            "interval_95": [mean.low, mean.high],
            "method": mean.method,
            "episodes": int(of.sum()),
            "successes": counts.tolist(),
            "own_share": _own_share(won, clients),
        }
    if errors:
        found[next(iter(found))]["errors"] = sorted(set(errors))[:5]
    return found


def _own_share(won: Any, clients: Sequence[Client]) -> float | None:
    """None where there are not episodes in every region."""
    if won.shape[1] < REGIONS:
        return None
    region = np.arange(won.shape[1]) % REGIONS
    rates = np.stack([won[:, region == k].mean(axis=1) for k in range(REGIONS)], axis=1)
    return float(np.mean([rates[k] @ np.array(client.shares) for k, client in enumerate(clients)]))
