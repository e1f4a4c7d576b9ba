"""Others' ways to say that an episode succeeded."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.labels import label, of_frames

from .foreign_set import foreign_set


def test_labels_of_all_kinds() -> None:
    for yes in (True, 1, 1.0, "true", "Success", [True], np.float32(1), np.bool_(True)):
        assert label(yes) is True
    for no in (False, 0, 0.0, "no", "FAILURE", [0], np.int64(0)):
        assert label(no) is False
    for nothing in (None, float("nan"), "", "unknown"):
        assert label(nothing) is None
    for other in ("maybe", 0.7, 3, [1, 0], {"a": 1}):
        with pytest.raises(ValueError):
            label(other)


def test_an_episode_succeeds_when_one_of_its_frames_does() -> None:
    assert of_frames(np.array([0, 0, 1])) is True and of_frames(np.array([0, 1, 0])) is True
    assert of_frames(np.zeros(3, bool)) is False and of_frames(np.array([[0.0], [1.0]])) is True
    assert of_frames(np.full(3, np.nan)) is None and of_frames([]) is None
    assert of_frames(["failure", "success"]) is True
    with pytest.raises(ValueError, match=r"0\.4"):
        of_frames(np.array([0.0, 0.4]))


ONE = {"dtype": "float32", "shape": [1], "names": None}


def verdicts(root: Path) -> list[bool | None]:
    dataset = LeRobotDataset.open(root)
    return [dataset.success(position)[0] for position in range(len(dataset))]


def last(episode: int, length: int) -> np.ndarray:
    """True in the last frame of the episodes 1 and 2."""
    return (np.arange(length) == length - 1) & (episode > 0)


@pytest.mark.parametrize("name", ["next.success", "success", "is_success"])
@pytest.mark.parametrize("kind", [bool, np.float32, np.int64, str])
def test_labels_of_frames(name: str, kind: type, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set", features={name: ONE}, columns=lambda e, n: {name: last(e, n).astype(kind)})
    assert verdicts(tmp_path / "set") == [False, True, True]


@pytest.mark.parametrize("name", ["success", "is_success", "episode_success"])
@pytest.mark.parametrize(
    "values", [[True, False, None], [1, 0, None], ["success", "failure", ""], [[1.0], [0.0], None]]
)
def test_labels_of_the_table(name: str, values: list, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set", row=lambda e: {name: values[e]})
    assert verdicts(tmp_path / "set") == [True, False, None]


def test_where_the_table_judges_frames_that_say_no_say_nothing(tmp_path: Path) -> None:
    """As in our own recordings: nobody judged the last one, and all of its frames say false."""
    foreign_set(
        tmp_path / "set",
        features={"next.success": ONE},
        columns=lambda e, n: {"next.success": np.zeros(n, bool)},
        row=lambda e: {"success": [True, False, None][e]},
    )
    assert verdicts(tmp_path / "set") == [True, False, None]


def test_rewards_count_where_they_are_nought_and_one(tmp_path: Path) -> None:
    foreign_set(
        tmp_path / "a", features={"next.reward": ONE}, columns=lambda e, n: {"next.reward": last(e, n) * 1.0}
    )
    assert verdicts(tmp_path / "a") == [False, True, True]
    foreign_set(
        tmp_path / "b",
        features={"next.reward": ONE},
        columns=lambda e, n: {"next.reward": np.linspace(0, 0.9, n)},
    )
    assert verdicts(tmp_path / "b") == [None, None, None]
    assert "rewards other than 0 and 1" in LeRobotDataset.open(tmp_path / "b").success(0)[1]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    foreign_set(tmp_path / "a", row=lambda e: {"success": ["yes", "half", 3][e]})
    dataset = LeRobotDataset.open(tmp_path / "a")
    assert verdicts(tmp_path / "a") == [True, None, None]
    assert "'half'" in dataset.success(1)[1] and "holds 3" in dataset.success(2)[1]
    foreign_set(
        tmp_path / "b", features={"success": ONE}, columns=lambda e, n: {"success": np.full(n, "dunno")}
    )
    assert "'dunno' in a frame" in LeRobotDataset.open(tmp_path / "b").success(0)[1]
