"""Loading robots: the one that ships, a user's own, and every mistake a user can make."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.robot import Robot, robot_names
from sim2real.tasks.registry import load_task

SO101 = Path(Robot.load("so101").urdf).with_suffix(".toml").read_text()


def write(folder: Path, text: str) -> Path:
    path = folder / "arm.toml"
    path.write_text(text)
    (folder / "so101.urdf").write_text(Robot.load("so101").urdf.read_text())
    return path


def test_the_so101_is_consistent() -> None:
    robot = Robot.load("so101")
    assert robot.n == 6
    assert robot.joint_names[-1] == "gripper"
    assert robot.gripper == 5
    assert list(robot.arm) == [0, 1, 2, 3, 4]
    assert [joint.servo_id for joint in robot.joints] == [1, 2, 3, 4, 5, 6]
    for pose in (robot.home, robot.rest):
        assert (pose > robot.lower).all() and (pose < robot.upper).all()
    # facts of the URDF
    np.testing.assert_allclose(robot.lower, [-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.174533])
    np.testing.assert_allclose(robot.upper, [1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533])


def test_a_users_own_file_loads_the_same_way(tmp_path: Path) -> None:
    robot = Robot.load(write(tmp_path, SO101.replace('name = "so101"', 'name = "mine"', 1)))
    assert robot.name == "mine"
    assert robot.urdf.parent == tmp_path


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert "so101" in robot_names()
    with pytest.raises(UserError, match="no robot called 'so999'; known are .*so101"):
        Robot.load("so999")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("physics = 300", "physics = 250", "multiple of the policy rate, got 250 and 30"),
        ("servo_id = 2", "servo_id = 1", "servo IDs must differ"),
        ('gripper = "gripper"', 'gripper = "claw"', "gripper 'claw' is not one of the joints"),
        ("velocity = 2.5", "velocity = -2.5", "shoulder_pan: velocity must be positive"),
        (
            "acceleration = 20.0",
            "acceleration = 0.01",
            "shoulder_pan would take 250 s to stop from its top speed",
        ),
        ("jerk = 800.0", "jerk = 0.001", "shoulder_pan would take 4e.04 s to stop"),
        ("velocity = 2.5", "velocity = 1e9", "shoulder_pan would take 5e.07 s to stop"),
        ("policy = 30", "policy = 0", r"\[rates\] policy must be a whole number from 1 on, got 0"),
        ("baud = 1_000_000", "baud = 0", "baud must be a whole number from 1 on, got 0"),
        ('urdf = "so101.urdf"', 'urdf = "none.urdf"', "none.urdf does not exist"),
        ('tool_link = "tool"', "", "lacks 'tool_link'"),
        ("home = [0.0,", "home = [nan,", "pose 'home' needs 6 finite angles"),
        ("[rates]", "[rates", "not valid TOML"),
        ("servo_id = 2", "servo_id = 2\ncolour = 3", "colour"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SO101
    with pytest.raises(UserError, match=message):
        Robot.load(write(tmp_path, SO101.replace(old, new, 1)))


def test_poses_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Robot.load("so101").home[0] = 1.0


def test_what_a_notebook_shows_fits_a_line() -> None:
    robot, task = Robot.load("so101"), load_task("lift")
    frames = np.zeros((30, robot.n))
    episode = Episode(np.arange(30) / 30, frames, frames, frames, 30.0, "so101", "lift", success=True)
    assert repr(robot).startswith("Robot(so101: shoulder_pan, ") and len(repr(robot)) < 120
    assert repr(task) == "Task(lift: cube; 8 s)"
    assert repr(episode) == "Episode(lift on so101: 30 frames at 30 Hz, succeeded)"
