"""Spellings of joints, arms among others, and arms that are not ours."""

import json
from pathlib import Path

import pytest

from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.joint_names import arm_called, foreign, joint_of
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.joints import columns_of
from sim2real.lerobot.robots import is_unknown, named, robot_of
from sim2real.robot import Robot

from .foreign_set import NAMES, foreign_set, wave

JOINTS = tuple(name.removesuffix(".pos") for name in NAMES)
BASE = ("x.vel", "y.vel", "theta.vel")


@pytest.mark.parametrize(
    "spelt",
    [
        "shoulder_pan", "shoulder_pan.pos", "shoulder_pan_pos", "shoulder_pan.position", "shoulder_pan_joint.pos",
        "Shoulder Pan", "SHOULDER_PAN", "shoulderPan", "ShoulderPan.Pos", "shoulder-pan", "shoulder/pan",
        " shoulder_pan ",
    ],
)  # fmt: skip
def test_spellings_of_one_joint(spelt: str) -> None:
    assert joint_of(spelt) == "shoulder_pan"


def test_another_measurement_is_not_the_joint() -> None:
    assert joint_of("shoulder_pan.vel") == "shoulder_pan_vel"
    both = [f"{joint}.{what}" for joint in JOINTS for what in ("vel", "pos")]
    assert columns_of(both, JOINTS, None, "x", "so101") == [1, 3, 5, 7, 9, 11]
    assert foreign(both, JOINTS) == []


@pytest.mark.parametrize("head", ["main_", "arm_", "follower.", "left_arm_", "robot0/", "observation.state."])
def test_one_arm_whatever_stands_before_its_joints(head: str) -> None:
    names = [*(f"{head}{joint}.pos" for joint in JOINTS), *BASE]
    assert columns_of(names, JOINTS, None, "x", "so101") == [0, 1, 2, 3, 4, 5]
    assert foreign(names, JOINTS) == []


def test_arms_are_chosen_by_their_words() -> None:
    names = [f"{arm}_arm_{joint}" for arm in ("left", "right") for joint in JOINTS]
    assert columns_of(names, JOINTS, "right", "x", "so101")[0] == 6
    assert columns_of(names, JOINTS, "Left", "x", "so101")[0] == 0
    assert arm_called(["left_arm_", "right_arm_"], "arm") is None  # either
    with pytest.raises(UserError, match="of 2 arms; choose one with --arm left_arm or right_arm"):
        columns_of(names, JOINTS, None, "x", "so101")
    with pytest.raises(UserError, match=r"shoulder_pan.* more than once"):
        columns_of([*NAMES, "shoulder_pan"], JOINTS, None, "x", "so101")


@pytest.mark.parametrize("place", [0, 4, 6])
@pytest.mark.parametrize("other", ["wrist_yaw.pos", "forearm_roll", "joint_7"])
def test_a_seventh_joint_is_another_arms(place: int, other: str) -> None:
    assert foreign([*NAMES[:place], other, *NAMES[place:]], JOINTS) == [other]


def test_what_stands_between_our_joints_is_another_arms() -> None:
    assert foreign([*NAMES[:2], "lift", *NAMES[2:]], JOINTS) == ["lift"]
    assert foreign([*NAMES, "lift", *BASE], JOINTS) == []  # a base that lifts and drives


@pytest.mark.parametrize(
    ("stated", "ours"),
    [
        ("so101_follower", "so101"), ("so100", "so100"), ("SO-101", "so101"), ("so_101_follower", "so101"),
        ("bi_so100_follower", "so100"), ("so_follower", "so101"), ("bi_so_follower", "so101"), ("lekiwi", "so101"),
        ("lekiwi_client", "so101"), ("so100_follower_end_effector", "so100"), ("koch_bimanual", "koch"),
        ("koch_follower", "koch"), ("aloha", None), ("seeed_b601_dm_follower", None), ("my_so101_with_a_wrist", None),
        ("trossen", None), ("", None),
    ],
)  # fmt: skip
def test_robots_by_their_names(stated: str, ours: str | None) -> None:
    assert named(stated) == ours


def test_an_unknown_arm_is_not_taken_for_ours(tmp_path: Path) -> None:
    unknown = foreign_set(tmp_path / "unknown", robot_type="trossen_wxai")
    with pytest.raises(
        UserError, match="the robot 'trossen_wxai', which is not known; known are koch.*--robot"
    ):
        robot_of(LeRobotDataset.open(unknown))
    names = (*NAMES[:4], "wrist_yaw.pos", *NAMES[4:])
    wide = [tuple(values[:, [0, 1, 2, 3, 3, 4, 5]] for values in wave())]
    seven = foreign_set(tmp_path / "seven", wide, names=names)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has wrist_yaw\.pos beside the joints of so101.*another arm's"):
        robot_of(LeRobotDataset.open(seven))
    # Who says which robot it is gets it.
    assert list(LeRobotDataset.open(seven).joint_order("action", Robot.load("so101"))) == [0, 1, 2, 3, 5, 6]
    assert is_unknown(LeRobotDataset.open(unknown)) and not is_unknown(LeRobotDataset.open(seven))
    silent = foreign_set(tmp_path / "silent", robot_type=None)
    robot, remark = robot_of(LeRobotDataset.open(silent))
    assert robot.name == "so101" and "does not say of which robot" in remark and "--robot" in remark
    known = foreign_set(tmp_path / "known", robot_type="koch_follower")
    assert robot_of(LeRobotDataset.open(known))[0].name == "koch"


def test_calibrations_are_matched_as_data_are(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    table = calibration.table()
    wheels = {
        f"base_{side}_wheel": table["gripper"] | {"id": 7 + i}
        for i, side in enumerate(("left", "back", "right"))
    }
    names = tuple(f"arm_{joint}.pos" for joint in JOINTS)
    root = foreign_set(tmp_path / "set", names=names, robot_type="lekiwi")
    kinds = {
        "spelt": {name.replace("_", " ").title(): entry for name, entry in table.items()},
        "wheels": {f"arm_{name}": entry for name, entry in table.items()} | wheels,
        "main": {f"main_{name}": entry for name, entry in table.items()},
    }
    dataset = LeRobotDataset.open(root)
    for kind, content in kinds.items():
        (tmp_path / f"{kind}.json").write_text(json.dumps(content))
        read = dataset.calibration(robot, tmp_path / f"{kind}.json")
        assert read is not None and read.table() == table, kind
    both = {f"{arm}_{name}": entry for arm in ("left", "right") for name, entry in table.items()}
    (tmp_path / "both.json").write_text(json.dumps(both))
    chosen = LeRobotDataset.open(root, "right").calibration(robot, tmp_path / "both.json")
    assert chosen is not None and chosen.table() == table
    (tmp_path / "pointer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="calibration file .*pointer.json: it is a Git LFS pointer"):
        dataset.calibration(robot, tmp_path / "pointer.json")
    (tmp_path / "other.json").write_text(json.dumps(table | {"wrist_yaw": table["gripper"] | {"id": 8}}))
    with pytest.raises(UserError, match="joints that so101 does not have: wrist_yaw"):
        dataset.calibration(robot, tmp_path / "other.json")
