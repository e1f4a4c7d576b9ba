import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim2real.calibration import Calibration
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import EpisodeRecorder, FeatureSpec, LeRobotDataset, LeRobotWriter, write_episodes
from sim2real.lerobot import writer as writer_module
from sim2real.lerobot.stats import column_stats, pooled
from sim2real.lerobot.video import VideoEncoder, plain_video
from sim2real.robot import Robot

from .conftest import make_episode


def check_consistent(root: Path) -> LeRobotDataset:
    """What any reader relies on: totals, offsets, row groups and files agree."""
    dataset = LeRobotDataset.open(root)
    info = json.loads((root / "meta/info.json").read_text())
    lengths = [entry.length for entry in dataset.episodes]
    assert info["total_episodes"] == len(dataset) and info["total_frames"] == sum(lengths)
    assert info["splits"] == {"train": f"0:{len(dataset)}"}
    assert info["total_tasks"] == len(dataset.tasks)
    assert [entry.index for entry in dataset.episodes] == list(range(len(dataset)))
    files = sorted((root / "data").glob("*/*.parquet"))
    rows = pa.concat_tables([pq.read_table(path) for path in files])
    assert rows["index"].to_pylist() == list(range(sum(lengths)))
    groups = [
        file.metadata.row_group(i).num_rows
        for file in map(pq.ParquetFile, files)
        for i in range(file.num_row_groups)
    ]
    assert groups == lengths
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    ends = np.cumsum(lengths)
    assert table["dataset_to_index"].to_pylist() == ends.tolist()
    assert table["dataset_from_index"].to_pylist() == (ends - lengths).tolist()
    assert not list(root.rglob("*.part"))
    return dataset


def test_round_trip(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    episodes = [
        make_episode(robot, 30 + 5 * i, seed=i, success=success, task=task)
        for i, (success, task) in enumerate([(True, "reach"), (False, "lift"), (None, "reach")])
    ]
    dataset = write_episodes(tmp_path / "set", robot, calibration, episodes)
    check_consistent(tmp_path / "set")
    assert dataset.tasks == ("reach", "lift")
    for original, read in zip(episodes, dataset.load(robot)):
        # Single precision of degrees.
        np.testing.assert_allclose(read.state, original.state, atol=1e-6)
        np.testing.assert_allclose(read.action, original.action, atol=1e-6)
        np.testing.assert_allclose(read.executed, original.executed, atol=1e-6)
        np.testing.assert_allclose(read.time, original.time, atol=1e-12)
        assert list(read.features) == ["goal", "object.cube.age"]
        np.testing.assert_allclose(read.features["goal"], original.features["goal"], atol=1e-7)
        assert (read.success, read.task, read.fps) == (original.success, original.task, original.fps)


def test_layout_is_lerobots(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    write_episodes(tmp_path, robot, calibration, [make_episode(robot, seed=i) for i in range(2)])
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["video_path"] is None and info["fps"] == 30
    state = info["features"]["observation.state"]
    assert state["dtype"] == "float32" and state["shape"] == [6] and state["names"][0] == "shoulder_pan.pos"
    assert info["features"]["observation.environment_state"]["names"] == [
        "goal.x",
        "goal.y",
        "goal.z",
        "object.cube.age",
    ]
    data = pq.read_schema(tmp_path / "data/chunk-000/file-000.parquet")
    assert data.field("action").type == pa.list_(pa.float32(), 6)
    assert data.field("timestamp").type == pa.float32() and data.field("index").type == pa.int64()
    assert data.field("next.success").type == pa.bool_()
    success = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")["next.success"].to_pylist()
    assert [i for i, value in enumerate(success) if value] == [29, 59]
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    described = json.loads(tasks.schema.metadata[b"pandas"])
    assert described["index_columns"] == ["__index_level_0__"]
    assert tasks.to_pydict() == {"task_index": [0], "__index_level_0__": ["reach"]}
    episodes = pq.read_schema(tmp_path / "meta/episodes/chunk-000/file-000.parquet")
    assert episodes.field("tasks").type == pa.list_(pa.string())
    for key in ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"):
        assert f"stats/observation.state/{key}" in episodes.names
    # Statistics are of what is stored.
    rows = np.stack(pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")["action"].to_numpy())
    stats = json.loads((tmp_path / "meta/stats.json").read_text())["action"]
    np.testing.assert_allclose(stats["q10"], np.quantile(rows.astype(float), 0.1, axis=0))
    np.testing.assert_allclose(stats["std"], rows.astype(float).std(axis=0))
    assert stats["count"] == [60]


def test_matches_the_types_of_a_real_set(
    robot: Robot, calibration: Calibration, tmp_path: Path, real_data: Path
) -> None:
    write_episodes(tmp_path, robot, calibration, [make_episode(robot)])
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        real, ours = (pq.read_schema(root / name) for root in (real_data / "so101_tape", tmp_path))
        for field in real:
            kinds = [str(schema.field(field.name).type) for schema in (real, ours)]
            assert kinds[0].replace("large_", "") == kinds[1], field.name
    real_info, our_info = (
        json.loads((root / "meta/info.json").read_text()) for root in (real_data / "so101_tape", tmp_path)
    )
    assert set(real_info) == set(our_info)
    assert real_info["data_path"] == our_info["data_path"]
    for name in real_info["features"]:
        assert real_info["features"][name] == our_info["features"][name]


def test_pooled_statistics_are_those_of_the_union() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, (50 + 30 * i, 3)) for i in range(3)]
    whole, together = column_stats(np.concatenate(parts)), pooled([column_stats(part) for part in parts])
    for key in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(together[key], whole[key])
    assert np.all((together["q50"] > whole["min"]) & (together["q50"] < whole["max"]))


def test_statistics_leave_out_what_is_not_a_number() -> None:
    stats = column_stats(np.array([[1.0, np.nan], [3.0, np.nan]]))
    assert stats["mean"].tolist() == [2.0, 0.0] and stats["count"].tolist() == [2]


def test_continues_a_set(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    write_episodes(tmp_path, robot, calibration, [make_episode(robot)])
    write_episodes(tmp_path, robot, calibration, [make_episode(robot, 40, seed=1, task="lift")])
    assert [entry.tasks for entry in check_consistent(tmp_path).episodes] == [("reach",), ("lift",)]


def test_rolls_over_to_another_file(
    robot: Robot, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "DATA_FILE_MB", 0)
    write_episodes(tmp_path, robot, calibration, [make_episode(robot, seed=i) for i in range(3)])
    dataset = check_consistent(tmp_path)
    assert [entry.data.name for entry in dataset.episodes] == [f"file-00{i}.parquet" for i in range(3)]
    assert len(dataset.load(robot)) == 3


class Killed(BaseException):
    """Not an Exception: nothing may clean up behind it, as nothing does behind SIGKILL."""


def test_a_writer_killed_at_any_step_loses_nothing_finished(
    robot: Robot, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace
    for finished in (0, 2):
        for step in range(100):
            root = tmp_path / f"{finished}-{step}"
            if finished:
                write_episodes(
                    root, robot, calibration, [make_episode(robot, seed=i) for i in range(finished)]
                )
            calls = 0

            def dying(source: Path, target: Path) -> None:
                nonlocal calls
                if calls == step:  # noqa: B023
                    raise Killed
                calls += 1
                replace(source, target)

            monkeypatch.setattr(os, "replace", dying)
            try:
                write_episodes(root, robot, calibration, [make_episode(robot, seed=9, task="new")])
                survived = True
            except Killed:
                survived = False
            monkeypatch.setattr(os, "replace", replace)
            if survived:
                assert step >= 5
                break
            if (root / "meta/info.json").exists():
                before = LeRobotDataset.open(root)
                assert len(before) >= finished
                for episode in before.load(robot) if len(before) else []:
                    assert np.isfinite(episode.state).all()
                count = len(before)
            else:
                count = 0
                assert finished == 0
            # The next writer on the folder leaves no trace of the accident.
            write_episodes(root, robot, calibration, [make_episode(robot, seed=10)])
            assert len(check_consistent(root)) == count + 1
        else:
            pytest.fail("the writer never got through")


_ENDLESS = """
import sys
from sim2real.calibration import Calibration
from sim2real.camera import CameraModel
from sim2real.lerobot import EpisodeRecorder
from sim2real.robot import Robot
import numpy as np
robot = Robot.load("so101")
camera = CameraModel.looking_at((0.5, 0, 0.5), (0.2, 0, 0), width=64, height=48)
recorder = EpisodeRecorder(sys.argv[1], robot, Calibration.nominal(robot), cameras={"front": camera})
image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
while True:
    for i in range(20):
        recorder.add(time=i / 30, state=robot.home, action=robot.home, executed=robot.home,
                     images={"front": image})
    print(recorder.save("reach", True), flush=True)
"""


def test_finished_episodes_survive_sigkill(robot: Robot, tmp_path: Path) -> None:
    for round_number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(tmp_path / "set")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told = -1
        for _ in range(2 + round_number):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout.read().split())])
        process.wait()
        dataset = LeRobotDataset.open(tmp_path / "set")
        assert len(dataset) in (told + 1, told + 2)
        assert len(list(dataset.frames(told, "front"))) == 20
        assert dataset.episode(told, robot).success is True


def test_a_full_disk_leaves_what_was_there(
    robot: Robot, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_episodes(tmp_path, robot, calibration, [make_episode(robot)])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(Sim2RealError, match="No space left on device.*1 episodes before it are safe"):
            write_episodes(tmp_path, robot, calibration, [make_episode(robot)])
    assert len(check_consistent(tmp_path)) == 1


def test_a_full_disk_is_one_error_for_videos_too(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    encoder = VideoEncoder(whole, 96, 64, 30.0)
    for i in range(30):
        encoder.add(np.full((64, 96, 3), 8 * i, np.uint8))
    encoder.finish()
    with pytest.raises(OSError) as caught:
        plain_video(whole, Path("/dev/full"), 30)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == "/dev/full"


def test_video_round_trip(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    camera = CameraModel.looking_at((0.5, 0, 0.5), (0.2, 0, 0), width=96, height=64)
    pictures = [np.full((64, 96, 3), (10 * i, 200, 255 - 10 * i), np.uint8) for i in range(12)]
    with EpisodeRecorder(tmp_path, robot, calibration, cameras={"front": camera}) as recorder:
        for episode in range(2):
            for i, picture in enumerate(pictures):
                missing = episode == 1 and i == 5
                recorder.add(
                    time=i / 30,
                    state=robot.home,
                    action=robot.home,
                    executed=robot.home,
                    images={"front": None if missing else picture},
                )
            recorder.save("look", None)
        recorder.add(time=0, state=robot.home, action=robot.home, executed=robot.home)
        assert recorder.missing_images == 2
    dataset = check_consistent(tmp_path)
    assert dataset.cameras == ("front",) and (tmp_path / "cameras.toml").exists()
    info = dataset.info["features"]["observation.images.front"]
    assert info["shape"] == [64, 96, 3] and info["info"]["video.codec"] == "h264"
    for episode in range(2):
        frames = list(dataset.frames(episode, "front"))
        assert len(frames) == 12
        for i, frame in enumerate(frames):
            shown = 4 if episode == 1 and i == 5 else i
            np.testing.assert_allclose(frame[32, 48].astype(int), pictures[shown][0, 0], atol=6)
    stats = json.loads((tmp_path / "meta/stats.json").read_text())["observation.images.front"]
    assert np.shape(stats["mean"]) == (3, 1, 1) and stats["count"] == [24]
    np.testing.assert_allclose(np.ravel(stats["mean"])[1], 200 / 255, atol=0.02)


def test_refuses_what_does_not_fit(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_episodes(root, robot, calibration, [make_episode(robot)])
    with pytest.raises(UserError, match=r"other features \(observation.environment_state differ\)"):
        EpisodeRecorder(root, robot, calibration)
    environment = {"goal": 3, "object.cube.age": 1}
    with pytest.raises(UserError, match="recorded at 30 Hz, this is 50"):
        EpisodeRecorder(root, robot, calibration, environment=environment, fps=50)
    with pytest.raises(UserError, match="another calibration"):
        EpisodeRecorder(root, robot, Calibration.nominal(robot), environment=environment)
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "table.csv").write_text("1,2")
    with pytest.raises(UserError, match="no data set"):
        EpisodeRecorder(tmp_path / "other", robot, calibration)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        EpisodeRecorder(tmp_path / "file", robot, calibration)


def test_refuses_columns_that_do_not_fit(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path, 30, {"action": FeatureSpec("float32", (2,))})
    for columns, needle in [
        ({}, "missing are .'action'"),
        ({"action": np.zeros((3, 2)), "x": np.zeros(3)}, "unknown .'x'"),
        ({"action": np.zeros((3, 3))}, "must have the shape"),
        ({"action": np.zeros((0, 2))}, "at least one frame"),
    ]:
        with pytest.raises(UserError, match=needle):
            writer.append(columns, task="t")
    assert not (tmp_path / "meta").exists()


def test_measurements_that_an_earlier_version_did_not_record(
    robot: Robot, calibration: Calibration, tmp_path: Path
) -> None:
    """Recording goes on in the same folder: what was not measured then is NaN, nothing else changes."""
    root, load = tmp_path / "set", {"servo.load": FeatureSpec("float32", (robot.n,))}
    episodes = [make_episode(robot, 20, seed=k) for k in range(2)]
    write_episodes(root, robot, calibration, episodes)
    before = [LeRobotDataset.open(root).columns(k) for k in range(2)]
    old = {
        name: (root / name).read_bytes()
        for name in ("meta/info.json", "meta/episodes/chunk-000/file-000.parquet")
    }

    def record() -> LeRobotDataset:
        with EpisodeRecorder(
            root, robot, calibration, environment={"goal": 3, "object.cube.age": 1}, extra=load
        ) as recorder:
            extra = {"servo.load": np.full(robot.n, 0.25)}
            for k in range(9):
                features = {"goal": np.zeros(3), "object.cube.age": np.zeros(1)}
                recorder.add(
                    time=k / 30, state=robot.home, action=robot.home, executed=robot.home,
                    environment=features, extra=extra,
                )  # fmt: skip
            recorder.save("reach", True)
        return check_consistent(root)

    def look(dataset: LeRobotDataset, count: int) -> None:
        assert len(dataset) == count and dataset.features["servo.load"].shape == (robot.n,)
        for k, columns in enumerate(before):
            now = dataset.columns(k)
            assert np.isnan(now.pop("servo.load")).all()
            assert now.keys() == columns.keys()
            for name, values in columns.items():
                np.testing.assert_array_equal(now[name], values)
        assert (dataset.columns(count - 1)["servo.load"] == 0.25).all()

    look(record(), 3)
    stats = json.loads((root / "meta/stats.json").read_text())["servo.load"]
    assert stats["mean"] == [0.25] * robot.n
    # Killed before the set was entered as widened: the next recording finds some files done, and goes on.
    for name, content in old.items():
        (root / name).write_bytes(content)
    look(record(), 3)
    look(record(), 4)


def test_a_policy_does_not_learn_from_what_was_not_measured(
    robot: Robot, calibration: Calibration, tmp_path: Path
) -> None:
    with EpisodeRecorder(tmp_path, robot, calibration) as recorder:
        recorder.add(time=0, state=robot.home, action=robot.home, executed=robot.home)
        recorder.save("reach", True)
    for changes in ({"environment": {"goal": 3}}, {"extra": {"mark": FeatureSpec("int64", (1,))}}):
        with pytest.raises(UserError, match="other features"):
            EpisodeRecorder(tmp_path, robot, calibration, **changes)
