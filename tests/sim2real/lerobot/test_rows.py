"""Rows in any order, columns of any type, tables that list things twice."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.rows import to_numpy
from sim2real.robot import Robot

from .foreign_set import NAMES, file_of, foreign_set, rewrite, wave

ONE = {"dtype": "float32", "shape": [1], "names": None}


def test_rows_in_another_order_are_taken_in_that_of_their_frames(robot: Robot, tmp_path: Path) -> None:
    straight = LeRobotDataset.open(foreign_set(tmp_path / "a")).episode(1, robot)
    foreign_set(tmp_path / "b")
    mixed = np.random.default_rng(0).permutation(90)
    for order in (np.roll(np.arange(90), 45), np.arange(90)[::-1], mixed):
        rewrite(file_of(tmp_path / "b", 1), lambda table, order=order: table.take(pa.array(order)))  # type: ignore[misc]
        episode = LeRobotDataset.open(tmp_path / "b").episode(1, robot)
        np.testing.assert_array_equal(episode.state, straight.state)
        np.testing.assert_array_equal(episode.time, straight.time)
        assert "not stored in the order of frame_index" in episode.info["remarks"][0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: pa.concat_tables([t, t]), "180 rows .* for 90 frames .*frame 0 is there 2 times"),
        (lambda t: pa.concat_tables([t, t.slice(40, 1)]), "91 rows .* frame 40 is there 2 times"),
        (lambda t: t.slice(0, 60), "60 frames in .*, but its metadata says 90"),
        (lambda t: pa.concat_tables([t.slice(0, 40), t.slice(50)]), "says 90: after frame 39 comes 50"),
        (lambda t: t.slice(0, 0), "holds no frame of episode 1; it holds those of none"),
        (lambda t: t.drop_columns(["episode_index"]), "lacks the column episode_index"),
        (lambda t: t.drop_columns(["observation.state"]), "lacks the column observation.state"),
    ],
)
def test_what_contradicts_the_table_is_named(change, told: str, robot: Robot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    foreign_set(tmp_path / "set")
    rewrite(file_of(tmp_path / "set", 1), change)
    dataset = LeRobotDataset.open(tmp_path / "set")
    with pytest.raises(UserError, match=told):
        dataset.episode(1, robot)
    assert len(dataset.episode(0, robot)) == len(dataset.episode(2, robot)) == 90


def test_an_episode_without_frames(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set", [wave(), (np.zeros((0, 6)), np.zeros((0, 6)))])
    dataset = LeRobotDataset.open(tmp_path / "set")
    with pytest.raises(UserError, match="episode 1 of .* has no frames"):
        dataset.episode(1, robot)
    assert dataset.success(1) == (None, "")


def test_gaps_in_the_numbers_of_frames_are_missing_frames(robot: Robot, tmp_path: Path) -> None:
    def numbers(episode: int, length: int) -> dict[str, np.ndarray]:
        frames = np.arange(length) + 5 * (np.arange(length) >= 30)
        return {"frame_index": frames, "timestamp": frames / 30}

    foreign_set(tmp_path / "set", columns=numbers)
    episode = LeRobotDataset.open(tmp_path / "set").episode(0, robot)
    assert episode.time[30] - episode.time[29] == pytest.approx(6 / 30)
    assert "leaves out numbers" in episode.info["remarks"][0]


def test_columns_that_nobody_asks_for_may_be_anything(robot: Robot, tmp_path: Path) -> None:
    kinds = {
        "count": np.arange(90, dtype=np.uint16),
        "text": ["word"] * 90,
        "ragged": [[1.0] * (k % 3) for k in range(90)],
        "flag": [None, True] * 45,
        "nested": [{"a": 1, "b": [2]}] * 90,
        "nothing": pa.nulls(90),
        "day": pa.array(np.arange(90, dtype=np.int32), pa.date32()),
        "matrix": [[[1.0, 2.0], [3.0, 4.0]]] * 90,
        "word": pa.array(["a", "b"] * 45).dictionary_encode(),
    }
    features = {name: {"dtype": name, "shape": [], "names": None} for name in kinds} | {
        "odd": 7,
        "odder": None,
    }
    foreign_set(tmp_path / "set", features=features, columns=lambda e, n: kinds)
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert len(dataset.episode(0, robot)) == 90 and set(kinds) <= set(dataset.features)
    # What is promised and not there is missed when it is asked for.
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    info["features"]["current"] = ONE
    (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert len(dataset.episode(0, robot)) == 90
    with pytest.raises(UserError, match="lacks the columns current"):
        dataset.columns(0)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16(), 6),
        pa.list_(pa.decimal128(9, 4)),
    ],
)
def test_joints_in_lists_of_any_kind(kind: pa.DataType, robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set")
    whole = LeRobotDataset.open(tmp_path / "set").episode(0, robot).state
    for episode in range(3):

        def change(table: pa.Table) -> pa.Table:
            at = table.column_names.index("observation.state")
            rows = [[round(value, 3) for value in row] for row in table["observation.state"].to_pylist()]
            if pa.types.is_decimal(kind.value_type):
                from decimal import Decimal

                rows = [[Decimal(str(value)) for value in row] for row in rows]
            return table.set_column(at, "observation.state", pa.array(rows, kind))

        rewrite(file_of(tmp_path / "set", episode), change)
    read = LeRobotDataset.open(tmp_path / "set").episode(
        0, robot, LeRobotDataset.open(tmp_path / "set").converter(robot, units="degrees")
    )
    assert np.abs(read.state - whole).max() < 2e-3


def test_what_is_no_number_in_a_column_is_named() -> None:
    with pytest.raises(UserError, match="x holds lists of different lengths: 2 first, 1 in row 2"):
        to_numpy(pa.chunked_array([pa.array([[1, 2], [3, 4], [5]])]), "x")
    with pytest.raises(UserError, match="2 first, None in row 1"):
        to_numpy(pa.chunked_array([pa.array([[1, 2], None])]), "x")
    with pytest.raises(UserError, match="does not hold numbers but values of the type string"):
        to_numpy(pa.chunked_array([pa.array(["a"])]), "x")
    assert np.isnan(to_numpy(pa.chunked_array([pa.array([1, None])]), "x")[1])
    assert to_numpy(pa.chunked_array([], pa.float64()), "x").shape == (0,)
    assert to_numpy(pa.chunked_array([pa.array([[[1, 2]], [[3, 4]]])]), "x").shape == (2, 1, 2)


def test_names_and_numbers_must_be_as_many(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set", names=(*NAMES, "x.vel"))
    with pytest.raises(UserError, match="has 7 names in meta/info.json, but 6 numbers in the rows"):
        LeRobotDataset.open(tmp_path / "set").joints(0, "action", robot)


def test_names_of_other_shapes(robot: Robot, tmp_path: Path) -> None:
    places = dict(zip(reversed(NAMES), reversed(range(6))))
    for i, names in enumerate(({"motors": list(NAMES)}, [list(NAMES)], places)):
        feature = {"dtype": "float32", "shape": [6], "names": names}
        root = foreign_set(tmp_path / str(i), features={"action": feature, "observation.state": feature})
        assert list(LeRobotDataset.open(root).joint_order("action", robot)) == [0, 1, 2, 3, 4, 5]


def test_episodes_that_are_listed_twice_count_once(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set")
    table = tmp_path / "set/meta/episodes.jsonl"
    table.write_text(table.read_text() * 2)
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert [entry.index for entry in dataset.episodes] == [0, 1, 2]
    assert "lists more than once the episodes 0-2; each counts once" in dataset.remarks[0]
    table.write_text(
        table.read_text() + json.dumps({"episode_index": 1, "tasks": ["put"], "length": 60}) + "\n"
    )
    dataset = LeRobotDataset.open(tmp_path / "set")
    with pytest.raises(
        UserError, match="listed twice in .*, with length 90 and 60, and nothing says which is right"
    ):
        dataset.episode(1, robot)
    assert len(dataset.episode(2, robot)) == 90


def test_totals_and_what_the_table_leaves_out_are_told(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set", total_episodes=5, total_frames=999)
    table = tmp_path / "set/meta/episodes.jsonl"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[2], lines[0]]))
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert [entry.index for entry in dataset.episodes] == [0, 2] and len(dataset.load(robot)) == 2
    remarks = " | ".join([*dataset.remarks, *dataset.unlisted])
    assert "leaves out the episodes 1 between" in remarks
    assert (
        "says 5 episodes, the table of episodes 2" in remarks
        and "says 999 frames, the table of episodes 180" in remarks
    )
    assert "no episode of the table refers to" in remarks and "000001.parquet" in remarks


def test_a_file_with_more_episodes_than_are_listed(robot: Robot, tmp_path: Path) -> None:
    foreign_set(tmp_path / "set")
    more = pq.read_table(file_of(tmp_path / "set", 2))
    more = more.set_column(
        more.column_names.index("episode_index"), "episode_index", pa.array(np.full(90, 8))
    )
    rewrite(file_of(tmp_path / "set", 2), lambda table: pa.concat_tables([table, more]))
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert len(dataset.episode(2, robot)) == 90
    assert dataset.unlisted == ("data files hold the episodes 8, which the table does not list there",)


def test_a_set_with_what_systems_leave_lying_about(robot: Robot, tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set")
    for name in (
        "data/.DS_Store",
        "data/._episode_000000.parquet",
        ".cache/huggingface/x.parquet",
        "data/.gitkeep",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x00\x05\x16\x07")
    (root / "meta/tasks.jsonl").unlink()
    dataset = LeRobotDataset.open(root)
    assert len(dataset.load(robot)) == 3 and dataset.unlisted == ()
    assert dataset.tasks == ("put",) and "tasks are taken from the table of episodes" in dataset.remarks[0]


def test_paths_are_filled_in_and_nothing_else_is(robot: Robot, tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", chunks_size=0, video_path=None)
    (root / "data/chunk-000").mkdir()
    for episode in range(3):
        file_of(root, episode).rename(root / f"data/chunk-000/episode_{episode:06d}.parquet")
    info = json.loads((root / "meta/info.json").read_text())
    for path, told in (
        (None, None),
        ("data/{episode}.parquet", "lacks 'episode' for an episode"),
        ("{0.__class__}", "does not exist"),
    ):
        (root / "meta/info.json").write_text(json.dumps(info | {"data_path": path}))
        if told is None:
            assert len(LeRobotDataset.open(root).load(robot)) == 3
            continue
        with pytest.raises(UserError, match=told):
            LeRobotDataset.open(root).episode(0, robot)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fps": None}, "not a LeRobot info file"),
        ({"fps": "fast"}, "not a LeRobot info file"),
        ({"fps": True}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"features": None}, "not a LeRobot info file"),
        ({"codebase_version": "v4.0"}, "version v4.0"),
        ({"codebase_version": None}, "version None"),
    ],
)
def test_what_the_info_file_must_say(change: dict, told: str, tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | change))
    with pytest.raises(UserError, match=told):
        LeRobotDataset.open(root)
