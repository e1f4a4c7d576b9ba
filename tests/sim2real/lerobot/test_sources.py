"""Cameras of a data set that is continued: the same, others, swapped."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot import EpisodeRecorder, LeRobotDataset
from sim2real.lerobot.sources import NOTE, compare_sources
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
BEFORE = {"front": "/dev/v4l/by-id/a", "side": "/dev/v4l/by-id/b"}


def test_the_same_cameras_are_no_matter() -> None:
    assert compare_sources(Path("d"), BEFORE, BEFORE) == []
    assert compare_sources(Path("d"), None, BEFORE) == []
    assert compare_sources(Path("d"), BEFORE, BEFORE | {"wrist": "/dev/v4l/by-id/c"}) == []


def test_another_camera_is_told_and_a_swapped_one_refused() -> None:
    (told,) = compare_sources(Path("d"), BEFORE, BEFORE | {"side": "/dev/v4l/by-id/c"})
    assert (
        told == "camera 'side' was /dev/v4l/by-id/b in the episodes of d so far, now it is /dev/v4l/by-id/c"
    )
    for now in (
        {"front": BEFORE["side"], "side": BEFORE["front"]}, {"front": BEFORE["side"]},
        {"front": "/dev/v4l/by-id/c", "side": BEFORE["front"]},
    ):  # fmt: skip
        with pytest.raises(UserError, match="the cameras are swapped"):
            compare_sources(Path("d"), BEFORE, now)


def test_a_recorder_notes_the_cameras_and_refuses_swapped_ones(tmp_path: Path) -> None:
    calibration = Calibration.nominal(ROBOT)

    def record(sources: dict[str, str]) -> None:
        with EpisodeRecorder(tmp_path / "set", ROBOT, calibration, notes={NOTE: sources}) as recorder:
            for time in (0.0, 0.1):
                recorder.add(time=time, state=ROBOT.home, action=ROBOT.home, executed=np.array(ROBOT.home))
            recorder.save("t", True)

    record(BEFORE)
    assert LeRobotDataset.open(tmp_path / "set").notes[NOTE] == BEFORE
    record(BEFORE)
    with pytest.raises(UserError, match="swapped"):
        record({"front": BEFORE["side"], "side": BEFORE["front"]})
    assert len(LeRobotDataset.open(tmp_path / "set")) == 2
