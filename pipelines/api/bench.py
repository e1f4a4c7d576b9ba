"""`bench_policy`: whether a policy is fast enough for its arm, on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.sweeps.inputs import PolicyLike, RobotLike, TaskLike, policy_name, robot_name, task_name
from sim2real.errors import UserError


@dataclass(frozen=True, repr=False)
class PolicyBench:
    """How fast a policy is. `result` is all of it as plain values, the JSON of the command; times are in ms."""

    result: Mapping[str, Any] = field(repr=False)
    deployable: bool
    """Whether its chunks last until the next one comes, also when the other cores are busy."""
    keeps_rate: bool
    """Whether it answers within a period of its rate."""
    margin: float
    """The longest latency allowed over that of the slowest hundredth of its answers at load."""
    p50: float
    p99: float
    """Alone."""
    p99_at_load: float

    def __repr__(self) -> str:
        verdict = "deployable" if self.deployable else "too slow"
        return f"PolicyBench({self.result['policy']}: p99 {self.p99:.3g} ms, {self.p99_at_load:.3g} at load; {verdict})"

    def __str__(self) -> str:
        from pipelines.deployment.policy_bench import lines_of

        return "\n".join(lines_of(self.result))


def bench_policy(
    policy: PolicyLike,
    task: TaskLike | None = None,
    robot: RobotLike | None = None,
    *,
    threads: int = 1,
    load: int | None = None,
    seconds: float = 5.0,
) -> PolicyBench:
    """Time a policy's answers on this machine, `seconds` s alone and as long beside `load` busy processes (default:
    one for each other core).

    task and robot: the policy's own by default (so101 where it does not say). threads: of a policy file's network; an
    arm runs it on one. Raises UserError for a policy that does not fit or gives no actions.
    """
    from pipelines.deployment.policy_bench import measure, open_policy

    spec = policy_name(policy)
    if spec is None:
        raise UserError(
            f"bench_policy takes a policy's file or name, or 'my_module:MyPolicy', got {policy!r}"
        )
    opened, purpose, arm = open_policy(
        spec,
        None if task is None else task_name(task),
        None if robot is None else robot_name(robot),
        threads,
    )
    result: dict[str, Any] = {"policy": spec, "task": purpose.name, "robot": arm.name, "threads": threads}
    result |= measure(opened, purpose, arm, load=load, seconds=seconds)
    return PolicyBench(
        result=result,
        deployable=result["deployable"],
        keeps_rate=result["keeps_rate"],
        margin=result["margin"],
        p50=result["idle"]["p50_ms"],
        p99=result["idle"]["p99_ms"],
        p99_at_load=result["load"]["p99_ms"],
    )
