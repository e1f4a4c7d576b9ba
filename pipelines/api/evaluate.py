"""`evaluate`: how often a policy succeeds in simulation, on draws that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.api.words import rate_text
from pipelines.sweeps.evaluate import faults_text
from pipelines.sweeps.inputs import CamerasLike, PolicyLike, RobotLike, SpaceLike, TaskLike, TwinLike


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What an evaluation found. `result` is all of it as plain values."""

    result: Mapping[str, Any] = field(repr=False)
    task: str
    policy: str
    draws: int
    successes: int
    success_rate: float
    interval: tuple[float, float]
    """95 % Wilson interval of the success rate."""
    stages: Mapping[str, int]
    """How many episodes ended in each stage of the task."""
    mean_seconds: float | None
    """Of the episodes that succeeded."""
    failures: tuple[int, ...] = field(repr=False)
    """Indices of the draws that failed."""
    policy_faults: Mapping[str, int]
    """What the policy did instead of giving actions, and in how many episodes."""
    errors: Mapping[str, int]
    """Messages of episodes that could not be finished, and how many each."""

    def __repr__(self) -> str:
        rate = rate_text(self.successes, self.draws, self.interval)
        return f"Evaluation({self.task} by {self.policy}: {rate})"

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"{self.successes} of {self.draws} succeeded: {self.success_rate:.1%} [{low:.1%}, {high:.1%}]"
        ]
        lines += [f"  ended in {stage:12} {count}" for stage, count in self.stages.items()]
        lines += faults_text(self.policy_faults)
        lines += [f"  error in {count}: {message}" for message, count in list(self.errors.items())[:5]]
        if self.mean_seconds is not None:
            lines.append(f"  mean time to success {self.mean_seconds:.2f} s")
        return "\n".join(lines)


def evaluate(
    policy: PolicyLike,
    task: TaskLike | None = None,
    robot: RobotLike = "so101",
    *,
    draws: int = 200,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    cameras: CamerasLike | None = None,
    seed: int = 0,
    sees: Literal["sensors", "truth"] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Run a policy under `draws` draws and count. task: the policy's own by default; the rest as in `sweep`.

    The result does not depend on `workers`. Raises UserError for a policy, task or space that do not fit,
    Sim2RealError when all episodes end in an error.
    """
    from pipelines.sweeps.evaluate import evaluate as run
    from pipelines.sweeps.simulated import make_plan, workers_for

    plan = make_plan(
        task=task,
        robot=robot,
        policy=policy,
        draws=draws,
        seed=seed,
        space=space,
        twin=twin,
        cameras=cameras,
        privileged=None if sees is None else sees == "truth",
    )
    result = run(plan, workers=workers_for(plan, workers), progress=progress)
    result |= {"policy": plan.policy, "task": plan.task, "seed": seed}
    result["sees"] = "true state" if plan.sees_truth else "sensors"
    low, high = result["wilson_95"]
    return Evaluation(
        result=result,
        task=plan.task,
        policy=plan.policy,
        draws=result["draws"],
        successes=result["successes"],
        success_rate=result["success_rate"],
        interval=(low, high),
        stages=result["stages"],
        mean_seconds=result["mean_seconds"],
        failures=tuple(result["failures"]),
        policy_faults=result["policy_faults"],
        errors=result["error_messages"],
    )
