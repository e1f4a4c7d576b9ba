"""Pretraining on a suite: one policy for many tasks, told the goal.

The way is the one of `pretrain.py`. Every round has episodes of all tasks; those at which the policy failed in the
round before get more of them.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.learning.collect import CollectEpisode, Disturbance
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import network_arguments
from pipelines.learning.pretrain import Course, PretrainSettings, trained_for
from pipelines.runs import provenance
from pipelines.sweeps.evaluate import evaluate_several
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.several import Several, numbered
from pipelines.sweeps.simulated import make_plan
from randomization.workers import Factory
from sim2real.camera_coverage import CAMERAS
from sim2real.errors import UserError, nearest
from sim2real.goal_view import ENTRY, PARTS, SIZE
from sim2real.observation import Feature, standard_features
from sim2real.parameters import Draw
from sim2real.policies.file import PolicyInfo
from sim2real.policies.load import policy_identity
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.suite.registry import load_suite

GOALS = "goals"
"""The kind of network that reads a goal's parts as tokens."""
BLOCK = 3
"""Episodes of a task in a row: opening a world takes about as long as one."""


@dataclass(frozen=True)
class SuiteSettings(PretrainSettings):
    """Everything that decides a policy that was pretrained on a suite, whose name is `task`.

    `tasks`: patterns of ids, "table/*_in_bowl" (all when empty); `split`: one of the suite's splits; `token` and
    `heads` of the network's attention; `balance`: the share of a round's episodes that goes where the policy failed in
    the one before, the rest goes to all tasks alike.
    """

    episodes: int = 2640
    rounds: int = 6
    epochs: int = 60
    batches: int = 300
    network: str = GOALS
    width: int = 384
    noise: float = 0.02
    """Less than for one task: more of it, and half of the demonstrations run out of time before their last part."""

    evaluate: int = 264
    tasks: tuple[str, ...] = ()
    split: str = "seen"
    token: int = 128
    heads: int = 4
    balance: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.balance < 1:
            raise UserError(f"the share of balance lies in 0..1 (not 1), got {self.balance}")
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if self.expert != "expert":
            raise UserError(
                "on a suite the experts that follow from its goals demonstrate; leave --expert out"
            )
        chosen = self.chosen()
        if self.episodes < 2 * self.rounds * len(chosen):
            raise UserError(
                f"{len(chosen)} tasks in {self.rounds} rounds need at least two episodes each in every round, "
                f"{2 * self.rounds * len(chosen)} in all; got {self.episodes}"
            )

    def chosen(self) -> list[str]:
        """The ids of the tasks that are learned. Raises UserError for patterns that none fits."""
        known = load_suite(self.task)
        splits = sorted({spec.split for spec in known.values()})
        if self.split not in splits:
            raise UserError(
                f"the suite '{self.task}' has no split '{self.split}'; it has {', '.join(splits)}"
            )
        fitting = [name for name, spec in known.items() if spec.split == self.split]
        if not self.tasks:
            return fitting
        found: list[str] = []
        for pattern in self.tasks:
            full = pattern if "/" in pattern else f"{self.task}/{pattern}"
            matched = fnmatch.filter(fitting, full)
            if not matched:
                raise UserError(
                    f"no task of '{self.task}', split '{self.split}', is called '{pattern}'{nearest(full, fitting)}; "
                    f"`sim2real tasks --suite {self.task}` lists them"
                )
            found += [name for name in matched if name not in found]
        return found

    def features(self, task: Task) -> tuple[Feature, ...]:
        """The arm, and the parts of the goal."""
        joints = task.features[0].size
        return (*standard_features(("joint_position", "joint_command"), joints), Feature(ENTRY, SIZE))

    def network_options(self, task: Task | None = None) -> dict[str, Any]:
        """`token` and `heads` are those of networks that have tokens."""
        own = {"token": self.token, "heads": self.heads} if self.network == GOALS else {}
        return {"width": self.width, "depth": self.depth} | own

    def course(self) -> "SuiteCourse":
        return SuiteCourse(self)

    def plan_of(self, task: str, policy: str = "expert", **differs: Any) -> SweepPlan:
        """The draws of one task."""
        seed = int(np.random.SeedSequence((self.seed, 0x7EAC4E5)).generate_state(1)[0])
        given = {"draws": 2, "seed": seed} | differs
        plan = make_plan(
            task=task,
            robot=self.robot,
            policy=policy,
            space=self.space,
            twin=self.twin,
            cameras=self.camera_models,
            **given,
        )
        return replace(plan, design="independent")


SUITE_ONLY = tuple(
    sorted({f.name for f in fields(SuiteSettings)} - {f.name for f in fields(PretrainSettings)})
)
"""Settings that policies of a single task do not have."""


class SuiteCourse(Course):
    """Many tasks at once."""

    settings: SuiteSettings

    def __init__(self, settings: SuiteSettings) -> None:
        self.settings = settings
        self.robot = Robot.load(settings.robot)
        self.plans = {name: settings.plan_of(name) for name in settings.chosen()}
        tasks = load_suite(settings.task)
        if long := [name for name in self.plans if len(tuple(tasks[name].goal.parts())) > PARTS]:
            raise UserError(
                f"a policy observes goals of up to {PARTS} parts, {long[0]} has more; leave it out"
            )
        self.features = (
            *standard_features(("joint_position", "joint_command"), self.robot.n), Feature(ENTRY, SIZE),
        )  # fmt: skip

    def arguments(self) -> dict[str, Any]:
        s = self.settings
        named = [(feature.name, feature.size) for feature in self.features]
        return network_arguments(s.network, named, self.robot, HORIZON, s.network_options())

    def identity(self) -> dict[str, Any]:
        known = load_suite(self.settings.task)
        return {
            "suite": {name: known[name].hash for name in self.plans},
            "space": _first(self.plans).space.to_dict(),
            **{
                k: v
                for k, v in _first(self.plans).identity(_first(self.plans).bind()).items()
                if k in _SHARED
            },
        }

    def info(self, network: PolicyNetwork) -> PolicyInfo:
        config, plan = self.described(), _first(self.plans)
        return PolicyInfo(
            task=self.settings.task,
            robot=self.robot.name,
            joints=self.robot.joint_names,
            features=self.features,
            horizon=network.horizon,
            policy_rate=self.robot.policy_rate,
            command_rate=self.robot.command_rate,
            provenance={
                **provenance(config),
                "expert": policy_identity(self.settings.expert),
                "tasks": list(self.plans),
                "space": plan.space.to_dict(),
                CAMERAS: trained_for(plan),
            },
        )

    def recipe(self, student_share: float, student: str | None) -> Factory:
        s = self.settings
        return Several(
            tuple(self.plans),
            tuple(
                CollectEpisode(
                    s.robot,
                    name,
                    Disturbance(noise=s.noise, student=student_share),
                    student=student,
                    expert=s.expert,
                    labels=s.labels,
                    nominal=plan.nominal,
                    features=self.features,
                    cameras=plan.camera_models,
                )
                for name, plan in self.plans.items()
            ),
        )

    def round_draws(self, group: int, rounds: Sequence[Mapping[str, Any]]) -> list[Draw]:
        counts = self.shares(self.settings.episodes // self.settings.rounds, rounds)
        draws = {}
        for name, plan in self.plans.items():
            seeded = replace(plan, draws=counts[name], seed=plan.seed + group)
            made, _ = seeded.make_draws(seeded.bind())
            # Indices are never used twice: episodes are told apart by them.
            draws[name] = [replace(draw, index=group * 100_000 + draw.index) for draw in made]
        return numbered(draws, block=BLOCK, order=self.turns(group))

    def turns(self, group: int) -> list[int]:
        """The place of each task in a round's turns: mixed, and begun elsewhere in every round, so that rounds that
        end early leave out no task every time."""
        mixed = np.random.default_rng((self.settings.seed, 0x70C5)).permutation(len(self.plans))
        begin = group * len(mixed) // self.settings.rounds
        return [int(place) for place in (mixed - begin) % len(mixed)]

    def shares(self, episodes: int, rounds: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Episodes of every task in a round, at least two: more where the policy failed in the last one."""
        counts = rounds[-1].get("per_task", {}) if len(rounds) > 1 else {}
        failed = {
            name: 1.0 - (won + 1.0) / (of + 2.0)
            for name in self.plans
            for won, of in [counts.get(name, (0, 0))]
        }
        total = sum(failed.values())
        balance = self.settings.balance
        alike = (1 - balance) * episodes / len(self.plans)
        return {
            name: max(2, round(alike + balance * episodes * share / total)) for name, share in failed.items()
        }

    def measure(self, policy: Path, workers: int) -> dict[str, Any]:
        """Success on unseen starts of all tasks, and by task."""
        s = self.settings
        each = max(1, s.evaluate // len(self.plans))
        plans = {name: s.plan_of(name, str(policy), draws=each, seed=10_000 + s.seed) for name in self.plans}
        return evaluate_several(plans, workers=workers, block=BLOCK)


_SHARED = ("robot", "robot_sha256", "versions", "policy", "sees", "nominal", "cameras")


def _first(plans: Mapping[str, SweepPlan]) -> SweepPlan:
    return next(iter(plans.values()))
