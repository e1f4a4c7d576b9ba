"""`deploy` and `record`: policies on an arm."""

import gc
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.api.words import rate_text
from pipelines.sweeps.inputs import PolicyLike, RobotLike, TaskLike, policy_name, robot_name, task_name
from sim2real.errors import UserError

if TYPE_CHECKING:
    from sim2real.lerobot.reader import LeRobotDataset


@dataclass(frozen=True, repr=False)
class Deployment:
    """How a policy did on an arm. `result` is all of it as plain values, `status` the command's exit status."""

    out: Path | None
    """The run directory; None where nothing was written."""
    result: Mapping[str, Any] = field(repr=False)
    status: int
    task: str
    policy: str
    episodes: int
    successes: int
    success_rate: float | None
    """Share of successes among the episodes that were judged (by a command, the task, a person)."""
    interval: tuple[float, float]
    """95 % Wilson interval of the success rate."""
    faults: tuple[str, ...]
    final_state: str
    stopped: str
    """Why it ended early, if it did."""

    @property
    def ok(self) -> bool:
        """Whether it went to its end without a fault."""
        return self.status == 0

    def __repr__(self) -> str:
        faults = f", faults: {'; '.join(self.faults)}" if self.faults else ""
        rate = rate_text(self.successes, self.episodes - self.result["unknown"], self.interval)
        ended = f", {self.stopped}" if self.stopped else ""
        where = self.out or "nothing written"
        return f"{type(self).__name__}({self.task} by {self.policy}: {rate}{faults}{ended}; {where})"

    def __str__(self) -> str:
        from pipelines.deployment.result import summary

        return summary(self.result)


@dataclass(frozen=True, repr=False)
class Recording(Deployment):
    """A deployment that was recorded."""

    recorded: tuple[int, ...] = ()
    """Numbers of the episodes that were saved."""

    @property
    def dataset(self) -> "LeRobotDataset":
        """The data set as it is by now, with what was recorded into it before."""
        from sim2real.lerobot.reader import LeRobotDataset

        if self.out is None:
            raise UserError("nothing was recorded")
        return LeRobotDataset.open(self.out)


def deploy(
    policy: PolicyLike,
    *,
    port: str,
    out: str | Path,
    task: TaskLike | None = None,
    robot: RobotLike = "so101",
    calibration: str | Path | None = None,
    cameras: str | Path | None = None,
    camera: Mapping[str, str | int] | None = None,
    goal: Sequence[float] | None = None,
    episodes: int | None = None,
    seconds: float | None = None,
    before_episode: str | None = None,
    success: str | None = None,
    seed: int = 0,
    speed: float = 1.0,
    estop: Sequence[str] = (),
    operator_timeout: float | None = None,
    on_fault: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    view: str | None = None,
    collect: Literal["corrections"] | None = None,
    leader: str | None = None,
    leader_calibration: str | Path | None = None,
    leader_robot: RobotLike | None = None,
) -> Deployment:
    """Run a policy on the arm at `port`; "emulated" starts an emulated one. docs/safety.md says what guards it.

    task: the policy's own by default. calibration: default what the servos store. cameras: TOML, a table per camera;
    camera: sources by name. goal: (x, y, z) m, base frame. before_episode, success, on_fault: shell commands. On a
    terminal it asks before the first motion unless `yes`. collect="corrections": recorded into `out`, and a person may
    take over with the arm at the port `leader`, or with keys.

    Returns, whatever happened, with the arm limp or held as `final_state` says; faults are in `faults`. Raises
    UserError for mistakes found before anything moves, Sim2RealError for what could not be started.
    """
    spec = policy_name(policy)
    if spec is None:
        raise UserError(
            f"deploy runs the policy in a process of its own and takes a file, a name or 'my_module:MyPolicy', got "
            f"{policy!r}; export_policy writes a file"
        )
    result, status = _run(
        "deploy", port, out, robot, policy=spec, task=None if task is None else task_name(task),
        calibration=calibration, cameras=cameras, camera=camera, goal=goal, episodes=episodes, seconds=seconds,
        before_episode=before_episode, success=success, seed=seed, speed=speed, estop=tuple(estop),
        operator_timeout=operator_timeout, on_fault=on_fault, dry_run=dry_run, yes=yes, view=view,
        collect=collect, record=collect is not None, leader=leader, leader_calibration=leader_calibration,
        leader_robot=None if leader_robot is None else robot_name(leader_robot),
    )  # fmt: skip
    return Deployment(**_outcome(result, status))


def record(
    task: TaskLike,
    robot: RobotLike = "so101",
    *,
    port: str,
    out: str | Path,
    policy: PolicyLike | None = None,
    leader: str | None = None,
    leader_calibration: str | Path | None = None,
    leader_robot: RobotLike | None = None,
    hand: bool = False,
    keyboard: bool = False,
    reset_time: float | None = None,
    calibration: str | Path | None = None,
    cameras: str | Path | None = None,
    camera: Mapping[str, str | int] | None = None,
    goal: Sequence[float] | None = None,
    episodes: int | None = None,
    seconds: float | None = None,
    before_episode: str | None = None,
    success: str | None = None,
    seed: int = 0,
    speed: float = 1.0,
    estop: Sequence[str] = (),
    operator_timeout: float | None = None,
    on_fault: str | None = None,
    yes: bool = False,
    view: str | None = None,
) -> Recording:
    """Record episodes on the arm at `port` as a LeRobot data set in `out`, or add to the one that is there.

    Who acts is `policy` (default: the task's expert), a `leader` arm's port, a `hand` on the limp arm or the
    `keyboard`; where a person acts, `task` is any name or instruction. The rest as in `deploy`, errors included.
    """
    spec = None if policy is None else policy_name(policy)
    if policy is not None and spec is None:
        raise UserError(f"record takes a policy's file or name, or 'my_module:MyPolicy', got {policy!r}")
    result, status = _run(
        "record", port, out, robot, record=True, policy=spec, task=task_name(task), leader=leader,
        leader_calibration=leader_calibration,
        leader_robot=None if leader_robot is None else robot_name(leader_robot), hand=hand, keyboard=keyboard,
        reset_time=reset_time, calibration=calibration, cameras=cameras, camera=camera, goal=goal, episodes=episodes,
        seconds=seconds, before_episode=before_episode, success=success, seed=seed, speed=speed, estop=tuple(estop),
        operator_timeout=operator_timeout, on_fault=on_fault, yes=yes, view=view,
    )  # fmt: skip
    return Recording(**_outcome(result, status), recorded=tuple(result.get("recorded", ())))


def _run(
    command: str,
    port: str,
    out: str | Path,
    robot: RobotLike,
    *,
    camera: Mapping[str, str | int] | None,
    goal: Sequence[float] | None,
    **more: Any,
) -> tuple[dict[str, Any], int]:
    """What the command of this name does, its report included."""
    from pipelines.deployment.request import Options
    from pipelines.deployment.run import run
    from pipelines.reports.report import try_report

    if threading.current_thread() is not threading.main_thread():
        raise UserError(
            f"{command} takes over signals, so that Ctrl-C lowers the arm: call it from the main thread"
        )
    values: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in more.items()
    }
    options = Options(
        command=command,
        port=port,
        out=str(out),
        robot=robot_name(robot),
        camera=tuple(f"{name}={source}" for name, source in (camera or {}).items()),
        goal=None if goal is None else ",".join(str(float(value)) for value in goal),
        **values,
    )
    try:
        result, status = run(options)
    except SystemExit:
        # A signal came before anything could move; a notebook shall not end with it.
        raise KeyboardInterrupt from None
    finally:
        gc.unfreeze()  # the loop ran without pauses for what was there before; others go on
    try_report(result["out"])
    return result, status


def _outcome(result: Mapping[str, Any], status: int) -> dict[str, Any]:
    low, high = result["wilson_95"]
    return {
        "out": None if result["out"] is None else Path(result["out"]),
        "result": result,
        "status": status,
        "task": result["task"],
        "policy": result["policy"],
        "episodes": result["episodes"],
        "successes": result["successes"],
        "success_rate": result["success_rate"],
        "interval": (low, high),
        "faults": tuple(result["faults"]),
        "final_state": result["final_state"],
        "stopped": result["stopped"],
    }
