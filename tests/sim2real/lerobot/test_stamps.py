"""Time stamps of all kinds become seconds, or are not used."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.stamps import in_seconds, out_of_order
from sim2real.robot import Robot

from .foreign_set import file_of, foreign_set, rewrite

FRAMES = np.arange(90)


@pytest.mark.parametrize("start", [0.0, 7.0, 1.7e9])
@pytest.mark.parametrize(
    ("unit", "size"), [("seconds", 1.0), ("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)]
)
def test_every_unit_becomes_seconds(unit: str, size: float, start: float) -> None:
    # Whole nanoseconds since 1970 do not fit into a float: such stamps are whole numbers.
    stamps = (
        ((start + FRAMES / 30) * size)
        if size < 1e9
        else (start * size + FRAMES * (size / 30)).astype(np.int64)
    )
    time, remark = in_seconds(np.asarray(stamps), 30.0)
    assert time is not None and time[0] == 0
    assert np.abs(time - FRAMES / 30).max() < 1e-5
    assert remark == ("" if unit == "seconds" else f"are {unit}")


def test_a_wrong_rate_is_no_other_unit() -> None:
    for true in (5.0, 15.0, 60.0, 200.0):
        time, remark = in_seconds(1000 * FRAMES / true, 30.0)
        assert time is not None and remark == "are milliseconds"
        assert np.median(np.diff(time)) == pytest.approx(1 / true)


@pytest.mark.parametrize(
    ("stamps", "why"),
    [
        (np.zeros(90), "do not rise"),
        (np.full(90, np.nan), "do not rise"),
        (FRAMES.astype(float), "count frames"),
        ((1.7e9 + FRAMES / 30).astype(np.float32), "do not rise"),
        ((3e5 + FRAMES / 30).astype(np.float32), "too coarse"),
        (FRAMES * 17.0 / 30, "in no unit"),
        (FRAMES[::-1] / 1e15, "do not rise"),
        (np.zeros((90, 2)), "are not a number for each frame"),
    ],
)
def test_stamps_that_tell_nothing_are_not_used(stamps: np.ndarray, why: str) -> None:
    time, remark = in_seconds(stamps, 30.0)
    assert time is None and why in remark


def test_one_frame_has_a_time() -> None:
    assert in_seconds(np.array([5.0]), 30.0)[0] == pytest.approx([0.0])


def test_another_order_is_told_from_a_clock_that_was_set_back() -> None:
    time = FRAMES / 30
    assert out_of_order(time) is None
    assert out_of_order(np.concatenate([time[45:], time[:45]])) == 45
    assert out_of_order(time[::-1]) == 1
    assert out_of_order(np.concatenate([time[:45], time[:45]])) is None
    assert out_of_order(np.zeros(90)) is None


@pytest.mark.parametrize("kind", ["ms", "us", "ns"])
def test_stamps_that_are_dates(kind: str, robot: Robot, tmp_path: Path) -> None:
    when = np.datetime64("2025-03-01T10:00:00", "us") + (FRAMES * 1e6 / 30).astype("timedelta64[us]")
    foreign_set(tmp_path / "set", stamps=lambda e, i: pa.array(when.astype(f"datetime64[{kind}]")))
    episode = LeRobotDataset.open(tmp_path / "set").episode(1, robot)
    assert np.abs(episode.time - FRAMES / 30).max() < 2e-3 and episode.info["remarks"] == ()


def test_an_episodes_times_and_what_is_said_of_them(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "ms", stamps=lambda e, i: i * 1000 / 30)
    episode = LeRobotDataset.open(tmp_path / "ms").episode(0, robot)
    assert episode.time[30] == pytest.approx(1.0) and episode.info["remarks"] == (
        "timestamp stamps are milliseconds",
    )
    foreign_set(tmp_path / "none", stamps=lambda e, i: np.zeros(len(i)))
    episode = LeRobotDataset.open(tmp_path / "none").episode(0, robot)
    assert episode.time[30] == pytest.approx(1.0) and episode.info["clock"] == ""
    assert "not used" in episode.info["remarks"][0]
    foreign_set(tmp_path / "text", stamps=lambda e, i: [str(k) for k in i])
    assert "cannot be read" in LeRobotDataset.open(tmp_path / "text").episode(0, robot).info["remarks"][0]


def test_two_orders_that_contradict_each_other_are_refused(robot: Robot, tmp_path: Path) -> None:
    """Rows were moved and numbered anew: frame_index rises, the stamps went with their rows."""
    foreign_set(tmp_path / "set", stamps=lambda e, i: np.roll(i, 40) / 30)
    with pytest.raises(
        UserError, match="timestamp goes back at frame 40, and would be even in another order"
    ):
        LeRobotDataset.open(tmp_path / "set").episode(0, robot)
    rewrite(file_of(tmp_path / "set", 1), lambda table: table.set_column(
        table.column_names.index("timestamp"), "timestamp", pa.array(FRAMES / 30)
    ))  # fmt: skip
    assert len(LeRobotDataset.open(tmp_path / "set").episode(1, robot)) == 90
