"""From a command's arguments to simulated episodes: what sweeps, training and evaluation ask for alike."""

import argparse
import os
from collections.abc import Sequence

from pipelines.sweeps.given import Given
from pipelines.sweeps.inputs import (
    CamerasLike,
    PolicyLike,
    RobotLike,
    SpaceLike,
    TaskLike,
    TwinLike,
    cameras_of,
    given,
    label_of,
    nominal_of,
    policy_name,
    robot_name,
    space_of,
)
from pipelines.sweeps.plan import SweepPlan, check_policy, policy_sees
from randomization.space import Space
from sim2real.errors import UserError
from sim2real.policies.load import kind_of
from sim2real.policies.seeing import wanted_by
from sim2real.task import Task
from sim2real.tasks.registry import name_from_outside, trained_with, with_flags


def make_plan(
    *,
    task: TaskLike | None,
    robot: RobotLike = "so101",
    policy: PolicyLike = "expert",
    draws: int,
    seed: int = 0,
    space: SpaceLike | None = None,
    twin: TwinLike | None = None,
    privileged: bool | None = None,
    rendered: bool | None = None,
    cameras: CamerasLike | None = None,
    objects: Sequence[str] = (),
) -> SweepPlan:
    """A plan whose every part has been checked before anything long begins. `task` None: the policy's own.

    `objects`: other objects than the task or the policy has, as `--object` says them.
    `rendered`: whether pictures are looked at, so that what changes them varies by default (None: the policy's sight).

    Raises UserError for an unknown task or robot, a policy made for others, a missing or impossible space, twin or
    cameras file, too few draws.
    """
    if draws < 1:
        raise UserError(f"at least one draw is needed, got {draws}")
    where = robot_name(robot)
    label, spec, given_objects = given(task_for(task, policy, where, objects), policy)
    plan = SweepPlan(
        task=label,
        robot=where,
        policy=spec,
        draws=draws,
        seed=seed,
        space=space_of(space) or Space(),
        nominal=nominal_of(twin),
        privileged=privileged,
        given=given_objects,
        rendered=_sees(spec, given_objects) if rendered is None else rendered,
        cameras=cameras_of(cameras),
    )
    check_policy(plan)
    plan.bind()
    return plan


def _sees(spec: str, objects: Given) -> bool:
    if objects.policy is not None:
        return bool(wanted_by(objects.policy))
    return policy_sees(spec)


def plan_from(args: argparse.Namespace, *, draws: int) -> SweepPlan:
    """`make_plan` from the flags that sweep, ranges and evaluate share."""
    return make_plan(
        task=args.task,
        robot=args.robot,
        policy=args.policy,
        draws=draws,
        seed=args.seed,
        space=args.space,
        twin=args.twin,
        privileged=None if args.sees is None else args.sees == "truth",
        cameras=args.cameras,
        objects=args.object,
    )


def task_for(
    task: TaskLike | None, policy: PolicyLike, robot: str = "so101", objects: Sequence[str] = ()
) -> TaskLike:
    """The task that is meant: `task`, or the policy's own, with the objects that a policy file was trained with and
    those that `objects` say (as `--object` does). Raises UserError for what cannot be."""
    if isinstance(task, Task):
        if objects:
            raise UserError("give a task with the objects that you want: task.with_objects([…])")
        return task
    spec = policy_name(policy)
    name = own_task(policy, robot) if task is None else task
    if spec is not None and kind_of(spec) == "file":
        name = trained_with(name, spec)
    return with_flags(name, objects)


def own_task(policy: PolicyLike, robot: str) -> str:
    """The task that a policy says it is for. Raises UserError for one that says nothing."""
    spec = policy_name(policy)
    kind = None if spec is None else kind_of(spec)
    if spec is not None and kind == "file":
        from sim2real.policies.file import load_policy_file

        return name_from_outside(load_policy_file(spec).info.task, f"the policy {spec}")
    if spec is not None and kind == "server":
        from sim2real.policies.remote import offered
        from sim2real.robot import Robot

        task = offered(spec, Robot.load(robot)).task
        if task is not None:
            return name_from_outside(task, f"the policy at {spec}")
    raise UserError(
        f"--task is missing, and the policy '{spec or label_of(policy)}' does not say what it is for (policy files do, "
        "and servers that want to); `sim2real tasks` lists what there is"
    )


def workers_for(plan: SweepPlan, asked: int | None) -> int:
    """`worker_count`, but this process alone for a policy server, which serves one at a time."""
    if plan.given.policy is not None or kind_of(plan.policy) != "server":
        return worker_count(asked)
    if asked is not None and asked > 1:
        raise UserError(f"a policy server serves one at a time, got --workers {asked}: leave --workers out")
    return 0


def worker_count(asked: int | None) -> int:
    """Processes to use: as asked, or one per core this process may run on. Raises UserError for negative numbers."""
    if asked is None:
        return len(os.sched_getaffinity(0))
    if asked < 0:
        raise UserError(f"--workers must be 0 or more, got {asked}")
    return asked
