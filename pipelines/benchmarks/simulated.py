"""Trials in this project's own simulation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.benchmarks.diagnosis import Trace, diagnose
from pipelines.sweeps.plan import SweepPlan, TaskRollout, row_of
from randomization.space import BoundSpace
from randomization.workers import Factory
from sim2real.identity import content_hash
from sim2real.parameters import Draw

if TYPE_CHECKING:
    from sim2real.policies.protocol import Policy
    from sim2real.simulation.world import World


@dataclass(frozen=True)
class Trial:
    """A picklable recipe of a trial: a rollout whose row also says why it failed."""

    recipe: TaskRollout

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        return self.trials(*self.recipe.open())

    def trials(self, world: "World", policy: "Policy") -> Callable[[Draw], dict[str, Any]]:
        """The function that runs one draw with this policy in this world."""
        from sim2real.simulation.rollout import rollout

        assert world.task is not None
        task, robot = world.task, world.robot

        def run(draw: Draw) -> dict[str, Any]:
            trace = Trace(task, tuple(int(j) for j in robot.arm))
            episode = rollout(
                world, policy, draw, privileged=self.recipe.privileged,
                on_step=lambda step, observation, chunk: trace.add(world.truth(), observation, robot.gripper),
            )  # fmt: skip
            row = row_of(episode)
            return row | {"cause": "" if row["success"] else diagnose(trace, episode.info)}

        return run


@dataclass(frozen=True)
class SimulatedTrials:
    """How the policy of a plan is tried on its task. Satisfies `protocol.Trials`."""

    plan: SweepPlan

    @property
    def policy(self) -> str:
        return self.plan.policy

    def identity(self) -> dict[str, Any]:
        return self.plan.identity(self._bound)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of `identity`, for trials that are derived from these."""
        return content_hash(self.identity())

    @cached_property
    def _bound(self) -> BoundSpace:
        return self.plan.bind()

    def draws(self, count: int) -> list[Draw]:
        # Independent draws: that is what intervals and tests take trials for.
        plan = replace(self.plan, draws=count, design="independent")
        return plan.make_draws(self._bound)[0]

    def recipe(self) -> Factory:
        return Trial(self.plan.factory)
