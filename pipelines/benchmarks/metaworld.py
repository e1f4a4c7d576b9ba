"""Trials in Meta-World: every task at its 50 goals, as Meta-World judges."""

from dataclasses import dataclass
from typing import Any

from pipelines.benchmarks.protocol import Entry
from pipelines.metaworld.episodes import BUILT_IN, MetaworldTrial, check_policy
from pipelines.metaworld.suite import GOALS, SEEDS, task_names, version
from randomization.workers import Factory
from sim2real.errors import UserError, nearest
from sim2real.parameters import Draw
from sim2real.policies.load import policy_identity


@dataclass(frozen=True)
class MetaworldTrials:
    """How a policy is tried on one task of Meta-World. Satisfies `protocol.Trials`."""

    suite: str
    task: str
    split: str
    policy: str
    seed: int

    def identity(self) -> dict[str, Any]:
        built_in = self.policy in BUILT_IN
        return {
            "suite": self.suite,
            "task": self.task,
            "split": self.split,
            "seed": self.seed,
            "versions": {"metaworld": version()},
            "policy": {"name": self.policy} if built_in else policy_identity(self.policy),
        }

    def draws(self, count: int) -> list[Draw]:
        """A trial at each of the first goals: there are no others, and a second one would be the first again."""
        return [Draw(k, self.seed * GOALS + k, {"goal": float(k)}) for k in range(count)]

    def recipe(self) -> Factory:
        return MetaworldTrial(self.suite, self.task, self.split, self.policy)


def metaworld_entries(suite: str, split: str, policy: str, trials: int, seed: int) -> list[Entry]:
    """The tasks of a suite of Meta-World. Raises UserError for what does not fit, and where it is not installed."""
    if split not in SEEDS:
        raise UserError(
            f"the suite '{suite}' has no split '{split}'{nearest(split, SEEDS)}; it has {', '.join(SEEDS)}"
        )
    if trials > GOALS:
        raise UserError(
            f"Meta-World has {GOALS} goals of each task, and its episodes differ by them alone: at most {GOALS} "
            f"trials, got {trials}; --split new has {GOALS} others"
        )
    names = task_names(suite)
    check_policy(policy, suite)
    return [
        Entry(name, name.removesuffix("-v3"), split, MetaworldTrials(suite, name, split, policy, seed))
        for name in names
    ]
