"""Episodes recorded on a reality, as `sim2real record` would record them: for identification and fine-tuning."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.tick import Tick
from pipelines.transfers.reality import Reality, parameters_of
from pipelines.transfers.rig import Rig, start_of
from sim2real.episode import Episode
from sim2real.files import write_json
from sim2real.lerobot.recording import write_episodes
from sim2real.observation import Observation
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

Array = NDArray[np.float64]

FIRST: Final = 1_000_000
"""Index of the first recorded episode: none that is judged begins like one that is learned from."""
JOINTS: Final = ("joint_position", "joint_velocity", "joint_command")


class Frames:
    """A sink of the loop that keeps of an episode what a recorder keeps: each frame's observation, and the goals that
    were sent until the next."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, Observation]] = []
        self._goals: list[tuple[Array, Array]] = []
        self._last: tuple[Array, Array] | None = None

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""
        if tick.episode < 0:
            return
        if tick.observation is not None:
            if self._rows and self._last is not None:
                self._goals.append(self._last)
            assert tick.reading is not None
            self._rows.append(
                (tick.reading.time, {name: np.array(v) for name, v in tick.observation.items()})
            )
        if self._rows:
            self._last = np.array(tick.requested), np.array(tick.executed)

    def episode(self, robot: Robot, task: str, success: bool) -> Episode | None:
        """All whole frames; None where there are none."""
        count = len(self._goals)
        if count == 0:
            return None
        rows = self._rows[:count]
        first = rows[0][0]
        names = [name for name in rows[0][1] if name not in JOINTS]
        return Episode(
            time=np.array([time - first for time, _ in rows]),
            state=np.array([row["joint_position"] for _, row in rows]),
            action=np.array([goal for goal, _ in self._goals]),
            executed=np.array([goal for _, goal in self._goals]),
            fps=float(robot.policy_rate),
            robot=robot.name,
            task=task,
            features={name: np.array([row[name] for _, row in rows]) for name in names},
            success=success,
        )


def record_on(
    reality: Reality, task_name: str, robot_name: str, policy: str, episodes: int, out: Path, *, seed: int = 0
) -> dict[str, Any]:
    """Record `episodes` of `policy` on the reality as the data set `out`, whole or not at all.

    Returns how it went. The robot's cameras are the reality's.
    """
    summary = out.parent / f"{out.name}.json"
    robot = Robot.load(robot_name)
    task = load_task(task_name, robot.n)
    rig = Rig(robot, task, reality, values=reality.values(parameters_of(robot, task)))
    opened = load_policy(policy, task, robot)
    kept: list[Episode] = []
    trials = []
    try:
        for index in range(FIRST, FIRST + episodes):
            frames = Frames()
            trial = rig.run(opened, start_of(task, robot, index, seed), sinks=(frames,))
            trials.append(trial)
            episode = frames.episode(robot, task.name, trial.success)
            if episode is not None:
                kept.append(episode)
    finally:
        rig.close()
    _write(out, robot, rig, kept)
    result = {"episodes": len(kept), "successes": sum(t.success for t in trials), "policy": policy}
    write_json(summary, result)
    return result


def _write(out: Path, robot: Robot, rig: Rig, episodes: Sequence[Episode]) -> None:
    part = out.with_name(f".{out.name}.{token_hex(4)}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_episodes(part, robot, rig.calibration, episodes)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
