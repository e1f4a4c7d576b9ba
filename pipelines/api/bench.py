"""`bench_policy` and `quantize_policy`: whether a policy is fast enough for its arm, and with 8-bit weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sweeps.inputs import PolicyLike, RobotLike, TaskLike, policy_name, robot_name, task_name
from sim2real.errors import UserError
from sim2real.files import require_own_file, write_bytes


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
        _robot(robot),
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


@dataclass(frozen=True, repr=False)
class Quantization:
    """A policy with 8-bit weights beside the one it was made from. `result` is all of it as plain values."""

    result: Mapping[str, Any] = field(repr=False)
    pays: bool
    """Whether it is clearly faster and does what the other does."""
    objections: tuple[str, ...]
    """Why it does not pay."""
    path: Path | None
    """The file that was written, if one was."""
    largest_degrees: float
    """How far an action is from the other's, at most."""
    rms_degrees: float

    def __repr__(self) -> str:
        verdict = "pays" if self.pays else "does not pay: " + "; ".join(self.objections)
        return f"Quantization({self.result['policy']}: {verdict}; {self.path or 'nothing written'})"

    def __str__(self) -> str:
        from pipelines.learning.eight_bits import lines_of

        if self.pays:
            verdict = f"8 bits pay; written to {self.path}"
        else:
            then = (
                f"written to {self.path} all the same"
                if self.path
                else "nothing was written (--anyway writes it)"
            )
            verdict = f"8 bits do not pay: {'; '.join(self.objections)}; {then}"
        return "\n".join([*lines_of(dict(self.result)), verdict])


def quantize_policy(
    policy: PolicyLike,
    out: str | Path,
    robot: RobotLike | None = None,
    *,
    data: str | Path | None = None,
    anyway: bool = False,
    seed: int = 0,
    seconds: float = 2.0,
) -> Quantization:
    """Write `out`, the policy file with 8-bit weights, where they pay: where an answer takes a fifth less time at
    least and the actions stay what they were (1° at most, 0.1° root mean square); `anyway`: also where not.

    Both are compared on the observations of a LeRobot data set (`data`) or else of simulated episodes, which follow
    from `seed`, and timed in turns for `seconds` s. Raises UserError for anything but a policy file with weights of
    full precision, and where `out` is something else than a policy file.
    """
    from pipelines.deployment.policy_bench import open_policy
    from pipelines.learning.eight_bits import compare_eight_bits
    from sim2real.policies.file import FilePolicy
    from sim2real.policies.load import kind_of

    spec = policy_name(policy)
    if spec is None or kind_of(spec) != "file":
        raise UserError(f"only a policy file's network can have 8-bit weights; '{spec or policy!r}' is none")
    file, task, arm = open_policy(spec, None, _robot(robot))
    assert isinstance(file, FilePolicy)
    out = Path(out)
    require_own_file(out, b'"provenance"')
    if out.exists() and out.samefile(spec):
        raise UserError(f"{out} is the policy itself, which stays as it is; name another file")
    found = compare_eight_bits(
        file, task, arm, data=None if data is None else str(data), seed=seed, seconds=seconds
    )
    written = found.pays or anyway
    if written:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, found.content)
    result = {"policy": spec, "out": str(out) if written else None, **found.result()}
    return Quantization(
        result=result,
        pays=found.pays,
        objections=tuple(found.objections),
        path=out if written else None,
        largest_degrees=result["difference_deg"]["max"],
        rms_degrees=result["difference_deg"]["rms"],
    )


def _robot(robot: RobotLike | None) -> str | None:
    return None if robot is None else robot_name(robot)
