"""Joints and episodes that rule a mean are named; each episode is replayed at its own rate."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import cli
from pipelines.identification.following import follow, not_followed
from pipelines.identification.logs import load_arm_logs
from pipelines.identification.standouts import bad_episodes, bad_joints, by_episode, mean_without, told_joints
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.lerobot import LeRobotDataset, write_episodes
from sim2real.robot import Robot

ROBOT = Robot.load("so101")


def test_the_joint_that_rules_the_mean_is_named() -> None:
    rms = np.array([0.3, 0.5, 0.4, 27.0, 0.2, 5.0])
    assert bad_joints(rms, ROBOT) == [3] and mean_without(rms, ROBOT) == pytest.approx(0.35)
    assert told_joints(rms, ROBOT) == ["wrist_flex (27.0°) rules the mean; without it: 0.350°"]
    for fine in ([0.3, 0.5, 0.4, 1.8, 0.2, 9.0], [8.0, 9.0, 12.0, 10.0, 7.0, 0.0]):
        assert not bad_joints(np.array(fine), ROBOT) and mean_without(np.array(fine), ROBOT) is None


def test_the_episodes_in_which_a_joint_is_blocked_are_listed() -> None:
    error = np.full((2000, 6), 0.4)
    starts = np.arange(0, 2001, 100)
    error[300:400, 2] = error[1700:1800, 2] = 15.0
    error[0] = np.nan
    lines = bad_episodes(by_episode(error, starts), range(10, 30), ROBOT)
    assert lines == ["elbow_flex is 15.0–15.0° off in episodes 13, 27, usually 0.4°"]


def test_a_joint_without_torque_is_named() -> None:
    t = np.arange(300)[:, None] / 30
    command = ROBOT.home + 0.4 * np.sin(t * np.arange(1, 7) / 2)
    state = np.concatenate([command[:1].repeat(4, axis=0), command[:-4]])
    assert not_followed(follow([command], [state], 30.0), ROBOT) == []
    for dead in (np.full(300, 0.1), 0.1 + 0.01 * np.sin(9 * t[:, 0])):
        state[:, 3] = dead
        (line,) = not_followed(follow([command], [state], 30.0), ROBOT)
        assert line.startswith("wrist_flex (it goes 0.0")


def recorded(seed: int, rate: float, frames: int) -> Episode:
    """Waves that the arm follows 0.12 s late, with true time stamps."""
    time = np.arange(frames) / rate

    def at(moment: np.ndarray) -> np.ndarray:
        return np.asarray(ROBOT.home + 0.3 * np.sin(2.0 * moment[:, None] + seed + np.arange(ROBOT.n)))

    return Episode(
        time=time, state=at(time - 0.12), action=at(time), executed=at(time), fps=15.0, robot="so101", task="t"
    )  # fmt: skip


def test_each_episode_is_replayed_at_its_own_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [recorded(0, 15, 100), recorded(1, 15, 100), recorded(2, 30, 160)]
    dataset = write_episodes(tmp_path, ROBOT, Calibration.nominal(ROBOT), parts)
    assert isinstance(dataset, LeRobotDataset)
    logs = load_arm_logs(tmp_path, ROBOT)
    assert [(log.recording.fps, log.episodes) for log in logs] == [(15.0, (0, 1)), (30.0, (2,))]
    assert cli.main(["replay", "--data", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["rates"] == {"0": 15.0, "1": 15.0, "2": 30.0}
    assert result["episodes"] == 3 and result["frames"] == 357
    assert "episodes 2 were recorded at 30 Hz" in captured.err
