"""Other people's names, mapped to ours one by one."""

import json
from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.lerobot.mapping import parse_names
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.robot import Robot
from tests.sim2real.lerobot.foreign_set import NAMES, foreign_set, wave

ROBOT = Robot.load("so101")
ODD = ("base", "shoulder_lift.pos", "elbow", *NAMES[3:])


def test_joints_features_objects_and_cameras_have_the_names_that_one_says(tmp_path: Path) -> None:
    cube = np.linspace(0, 1, 90)[:, None] * np.ones(3)
    foreign_set(
        tmp_path / "set",
        names=ODD,
        columns=lambda episode, length: {"cube_xyz": list(cube.astype(np.float32))},
        features={
            "cube_xyz": {"dtype": "float32", "shape": [3], "names": ["cx", "cy", "cz"]},
            "observation.images.phone": {"dtype": "image", "shape": [8, 8, 3], "names": None},
        },
    )
    plain = LeRobotDataset.open(tmp_path / "set")
    with pytest.raises(UserError, match="has the joints base"):
        plain.joints(0, "observation.state", ROBOT)
    names = parse_names(
        [
            "base=shoulder_pan",
            "elbow=elbow_flex",
            "cube_xyz=observation.environment_state",
            *(f"c{axis}=object.cube.position.{axis}" for axis in "xyz"),
            "phone=front",
        ]
    )
    data = LeRobotDataset.open(tmp_path / "set", names=names)
    np.testing.assert_allclose(data.joints(0, "observation.state", ROBOT), wave()[1], atol=1e-4)
    episode = data.episode(0, ROBOT, data.converter(ROBOT, units="degrees"))
    np.testing.assert_allclose(episode.features["object.cube.position"], cube, atol=1e-6)
    assert data.cameras == ("front",)
    assert "mapped: base is read as shoulder_pan" in data.remarks


def test_names_that_are_not_there_or_taken_are_refused(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", names=ODD)
    with pytest.raises(UserError, match="has no 'elbw'; did you mean 'elbow'"):
        LeRobotDataset.open(root, names={"elbw": "elbow_flex"})
    with pytest.raises(UserError, match="has gripper.pos itself"):
        LeRobotDataset.open(root, names={"base": "gripper.pos"})
    with pytest.raises(UserError, match="has action itself"):
        LeRobotDataset.open(root, names={"observation.state": "action"})
    assert json.loads((root / "meta/info.json").read_text())["features"]["action"]["names"] == list(ODD)


@pytest.mark.parametrize("pairs", [["a"], ["=b"], ["a="], ["a=b=c"], ["a=b", "a=c"], ["a=c", "b=c"]])
def test_a_mapping_is_theirs_equals_ours(pairs: list[str]) -> None:
    with pytest.raises(UserError, match="mapping"):
        parse_names(pairs)
