"""Pretraining on Meta-World: one policy for its 10 or 50 tasks, from at most 50 demonstrations of each.

The way is the one of `pretrain.py`, without its rounds: Meta-World's own experts show every task at each of its 50
goals, half of the times with noise on what they do, and the network learns what they would have done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import KIND
from pipelines.learning.pretrain import Course, PretrainSettings
from pipelines.metaworld.episodes import Demonstration, MetaworldTrial
from pipelines.metaworld.suite import ACTIONS, GOALS, RATE, ROBOT, features, is_metaworld, task_names, version
from pipelines.runs import provenance
from pipelines.sweeps.evaluate import summary
from pipelines.sweeps.several import Several, numbered
from randomization.progress import progress_bar
from randomization.workers import Factory, Outcome, run_draws
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.policies.file import PolicyInfo

BLOCK = 25
"""Demonstrations of a task in a row: setting one up takes as long as ten."""


@dataclass(frozen=True)
class MetaworldSettings(PretrainSettings):
    """Everything that decides a policy for a suite of Meta-World, whose name is `task`.

    `episodes` demonstrations in all, 50 of each task unless said otherwise, and never more; `noise` of executed
    actions, which lie in −1…1.
    """

    episodes: int = 0
    rounds: int = 1
    epochs: int = 60
    batches: int = 300
    network: str = "states"
    width: int = 256
    noise: float = 0.5
    held_out: float = 0.02
    evaluate: int = 100

    def __post_init__(self) -> None:
        if not is_metaworld(self.task):
            raise UserError(f"'{self.task}' is no suite of Meta-World")
        for name in ("robot", "expert", "space", "twin", "cameras", "labels"):
            if getattr(self, name) != getattr(PretrainSettings, name):
                raise UserError(f"Meta-World has a world, an arm and experts of its own; leave --{name} out")
        if self.rounds != 1:
            raise UserError("Meta-World's experts demonstrate in one round; leave --rounds out")
        tasks = len(task_names(self.task))
        if not self.episodes:
            object.__setattr__(self, "episodes", GOALS * tasks)
        if not 0 < self.episodes <= GOALS * tasks or self.episodes % tasks:
            raise UserError(
                f"{tasks} tasks have 1 to {GOALS} demonstrations each, {tasks} to {GOALS * tasks} in all, as many of "
                f"every one; got {self.episodes}"
            )
        super().__post_init__()

    def course(self) -> "MetaworldCourse":
        return MetaworldCourse(self)


class MetaworldCourse(Course):
    """The tasks of a suite of Meta-World."""

    settings: MetaworldSettings

    def __init__(self, settings: MetaworldSettings) -> None:
        self.settings = settings
        self.tasks = task_names(settings.task)
        self.features = features(settings.task)

    def arguments(self) -> dict[str, Any]:
        s = self.settings
        if s.network != "states":
            raise UserError(f"policies for Meta-World are networks of the kind 'states', got '{s.network}'")
        return {
            KIND: s.network,
            "features": [[feature.name, feature.size] for feature in self.features],
            "joints": len(ACTIONS),
            "horizon": 1,
            "width": s.width,
            "depth": s.depth,
        }

    def identity(self) -> dict[str, Any]:
        return {"suite": self.settings.task, "metaworld": version()}

    def equip(self, network: PolicyNetwork) -> None:
        """Nothing of an arm goes into the network."""

    def info(self, network: PolicyNetwork) -> PolicyInfo:
        config = self.described()
        return PolicyInfo(
            task=self.settings.task,
            robot=ROBOT,
            joints=ACTIONS,
            features=self.features,
            horizon=network.horizon,
            policy_rate=RATE,
            command_rate=RATE,
            provenance={
                **provenance(config),
                "metaworld": version(),
                "tasks": list(self.tasks),
                "demonstrations_per_task": self.settings.episodes // len(self.tasks),
            },
        )

    def recipe(self, student_share: float, student: str | None) -> Factory:
        s = self.settings
        return Several(self.tasks, tuple(Demonstration(s.task, name, "seen", s.noise) for name in self.tasks))

    def round_draws(self, group: int, rounds: Sequence[Mapping[str, Any]]) -> list[Draw]:
        """Every task at each of its goals."""
        seeds = np.random.SeedSequence((self.settings.seed, 0x3E7A)).generate_state(self.settings.episodes)
        each = self.settings.episodes // len(self.tasks)
        draws = {
            name: [Draw(k, int(seeds[k * len(self.tasks) + at]), {"goal": float(k)}) for k in range(each)]
            for at, name in enumerate(self.tasks)
        }
        return numbered(draws, block=BLOCK)

    def measure(self, policy: Path, workers: int) -> dict[str, Any]:
        """Success on about `evaluate` trials, the first goals of every task."""
        each = min(GOALS, max(1, self.settings.evaluate // len(self.tasks)))
        factory = Several(
            self.tasks,
            tuple(MetaworldTrial(self.settings.task, name, "seen", str(policy)) for name in self.tasks),
        )
        draws = numbered({name: [Draw(k, k, {"goal": float(k)}) for k in range(each)] for name in self.tasks})
        engine = run_draws(factory, draws, workers)
        outcomes: list[Outcome] = []
        with progress_bar(len(draws), "evaluate", "episode") as bar:
            for outcome in engine:
                outcomes.append(outcome)
                bar.update()
        found = summary(sorted(outcomes, key=lambda outcome: outcome.draw.index))
        return found | {"on": "trials at goals that were demonstrated"}
