"""A reality in real time: the emulated arm as a program, with its port and its HTTP camera, driven by `deploy`.

The processes, the port and the clock are those of a deployment. Physics that the machine is too slow for is skipped
by the emulator, which says by how much; such an episode does not count.
"""

import json
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hardware.emulator.launch import EmulatorHandle, start_emulator
from pipelines.deployment.request import Options
from pipelines.deployment.run import run
from pipelines.transfers.reality import CAMERA, Reality, parameters_of
from pipelines.transfers.rig import Trial, start_of
from sim2real.errors import Sim2RealError
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task

INTERRUPTED = 128
"""Exit statuses from here on are those of signals."""


def run_live(
    task_name: str, robot_name: str, reality: Reality, policy: str, seed: int, indices: Sequence[int]
) -> Iterator[Trial]:
    """The episodes `indices`, in order, in as few sessions as they allow. Raises KeyboardInterrupt when a person stops
    one, Sim2RealError where none begins."""
    robot = Robot.load(robot_name)
    task = load_task(task_name, robot.n)
    waiting = list(indices)
    while waiting:
        # A goal that cannot be seen is given for a whole session.
        most = 1 if task.goal_zone is None and not task.objects else len(waiting)
        count = next((k for k in range(1, most) if waiting[k] != waiting[0] + k), most)
        done = _session(robot_name, robot, task, task_name, reality, policy, seed, waiting[0], count)
        yield from done
        waiting = waiting[len(done) :]


def _session(
    name: str,
    robot: Robot,
    task: Task,
    task_name: str,
    reality: Reality,
    policy: str,
    seed: int,
    first: int,
    count: int,
) -> list[Trial]:
    """At most `count` episodes from number `first` on: fewer when a fault has ended the session."""
    cameras = {} if reality.camera is None else {CAMERA: reality.camera.table()}
    values = reality.values(parameters_of(robot, task))
    goal = (
        start_of(task, robot, first, seed).scene.goal if task.goal_zone is None and not task.objects else None
    )
    with (
        start_emulator(
            name, task=task_name, twin=values, seed=seed, engine=reality.engine, cameras=cameras, episode=first,
            camera=bool(task.objects), pictures=reality.pictures,
        ) as arm,
        tempfile.TemporaryDirectory() as folder,
    ):  # fmt: skip
        options = Options(
            command="deploy", port=arm.port, out=folder, policy=policy, task=task_name, robot=name,
            calibration=arm.calibration, cameras=arm.cameras_file if task.objects else None, episodes=count,
            before_episode=arm.before_episode, success=arm.success_command, seed=first, yes=True,
            goal=None if goal is None else ",".join(map(repr, goal.tolist())),
        )  # fmt: skip
        result, status = run(options)
        if status >= INTERRUPTED:
            raise KeyboardInterrupt
        past = {row["episode"]: row for row in _state(arm)["episodes"]}
        rows = _rows(Path(folder))
    if not rows:
        raise Sim2RealError(
            f"'{reality.name}' in real time: no episode was run ({'; '.join(result['faults']) or result['stopped']})"
        )
    faults = list(result["faults"])
    trials = []
    for k, row in enumerate(rows):
        about = past.get(first + k, {})
        last = k == len(rows) - 1
        trials.append(
            Trial(
                index=first + k, success=bool(row["success"]), stage=str(about.get("stage", "")),
                seconds=round(float(row["seconds"]), 4), fault=faults[0] if last and faults else row["note"],
                clipped=int(row["clipped"]), rejected=int(row["rejected"]), behind=float(about.get("behind", 0.0)),
            )
        )  # fmt: skip
    return trials


def _rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = folder / "episodes.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []


def _state(arm: EmulatorHandle) -> dict[str, Any]:
    with urllib.request.urlopen(f"{arm.control_url}/state", timeout=10) as answer:
        state: dict[str, Any] = json.loads(answer.read())
    return state
