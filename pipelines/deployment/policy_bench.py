"""How fast a policy is on this machine, and whether that is fast enough for its arm."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from hardware.runtime.sources.inference import example_observation, told_features
from pipelines.deployment.busy import busy, others
from pipelines.deployment.policy_pace import remedy
from sim2real.errors import Sim2RealError, UserError
from sim2real.observation import Observation
from sim2real.policies.latency import Coverage, Timing, time_policy
from sim2real.policies.load import kind_of, load_policy
from sim2real.policies.protocol import Policy, checked_chunk
from sim2real.policies.seeing import example_pictures, wanted_by
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task, name_from_outside, trained_with


def open_policy(
    spec: str, task: str | None, robot: str | None, threads: int = 1
) -> tuple[Policy, Task, Robot]:
    """A policy by name with what it is for: files say it themselves. `threads` are those of a file's network.

    Raises UserError, also for `threads` where there is no such network.
    """
    if threads < 1:
        raise UserError(f"--threads must be at least 1, got {threads}")
    if kind_of(spec) == "file":
        from sim2real.policies.file import load_policy_file

        file = load_policy_file(spec, threads)
        arm = Robot.load(robot or file.info.robot)
        name = task or name_from_outside(file.info.task, f"the policy {spec}")
        purpose = load_task(trained_with(name, spec), arm.n)
        file.check(arm, purpose)
        return file, purpose, arm
    if threads != 1:
        raise UserError(f"--threads is for policy files, whose network this program runs; '{spec}' is none")
    arm = Robot.load(robot or "so101")
    if task is None and kind_of(spec) == "server":
        from sim2real.policies.remote import offered

        offer = offered(spec, arm)
        task = None if offer.task is None else name_from_outside(offer.task, f"the policy at {spec}")
    if task is None:
        raise UserError(
            f"the policy '{spec}' does not say what it is for: add --task (policy files know their task)"
        )
    purpose = load_task(task, arm.n)
    return load_policy(spec, purpose, arm), purpose, arm


def measure(policy: Policy, task: Task, robot: Robot, *, load: int | None, seconds: float) -> dict[str, Any]:
    """How long the policy takes, alone and beside `load` busy processes (None: one for each other core).

    It is asked as on an arm, with pauses, for `seconds` s each. Raises UserError where it gives no actions.
    """
    if not 0 < seconds < float("inf"):
        raise UserError(f"--seconds must be positive, got {seconds:g}")
    if load is not None and load < 0:
        raise UserError(f"--load must be 0 or more processes, got {load}")
    count = others() if load is None else load
    observation = example_observation(robot, told_features(task, robot))
    observation |= example_pictures(wanted_by(policy))
    covered = Coverage(policy.horizon, robot.policy_rate)
    try:
        policy.reset(0)
        checked_chunk(policy.act(observation), policy, robot)
        idle = _timed(policy, observation, robot, seconds, 0)
        loaded = _timed(policy, observation, robot, seconds, count) if count else idle
    except Sim2RealError:
        raise
    except Exception as error:
        raise UserError(f"the policy failed: {type(error).__name__}: {error}") from error
    return result_of(covered, idle, loaded, count)


def _timed(policy: Policy, observation: Observation, robot: Robot, seconds: float, load: int) -> Timing:
    # An arm's observation comes after a while in which other processes had the core and its caches.
    period = 1.0 / robot.command_rate
    with busy(load) if load else nullcontext():
        return time_policy(policy, observation, seconds, pause=lambda: time.sleep(period))


def result_of(covered: Coverage, idle: Timing, loaded: Timing, load: int) -> dict[str, Any]:
    """The JSON of the command, policy and robot not yet named. The verdict goes by the slowest hundredth at load."""
    decides = loaded.p99
    return {
        "horizon": covered.horizon,
        "policy_rate": covered.rate,
        "allowed_ms": {"rate": 1000 * covered.period, "chunk": 1000 * covered.longest},
        "idle": _milliseconds(idle),
        "load": {"processes": load, **_milliseconds(loaded)},
        "keeps_rate": covered.keeps_rate(decides),
        "deployable": covered.covers(decides),
        "margin": covered.longest / decides,
        "remedy": "" if covered.covers(decides) else remedy(covered, decides),
    }


def _milliseconds(timing: Timing) -> dict[str, float]:
    table = asdict(timing)
    return {"calls": table.pop("calls")} | {
        f"{'max' if name == 'longest' else name}_ms": round(1000 * value, 4) for name, value in table.items()
    }


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """The result for people."""
    allowed, idle, load = result["allowed_ms"], result["idle"], result["load"]
    if not result["deployable"]:
        verdict = f"too slow for this arm: what to do: {result['remedy']}"
    elif result["keeps_rate"]:
        verdict = f"keeps its rate, with {result['margin']:.3g} times the time it needs"
    else:
        verdict = f"slower than its rate, but its chunks cover it, with {result['margin']:.3g} times the time it needs"
    return [
        f"policy    {result['policy']} ({result['task']}, {result['robot']}), {result['threads']} thread"
        + ("s" if result["threads"] > 1 else ""),
        f"allowed   {allowed['rate']:.1f} ms at {result['policy_rate']:g} Hz; chunks of {result['horizon']} actions "
        f"cover {allowed['chunk']:.1f} ms",
        f"alone     {_figures(idle)}",
        f"at load   {_figures(load)}  ({load['processes']} busy processes beside it)",
        verdict,
    ]


def _figures(timing: Mapping[str, float]) -> str:
    return (
        f"p50 {timing['p50_ms']:8.3f} ms   p99 {timing['p99_ms']:8.3f} ms   max {timing['max_ms']:8.3f} ms   "
        f"({timing['calls']} answers)"
    )
