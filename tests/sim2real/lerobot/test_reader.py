import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset, write_episodes
from sim2real.lerobot.units import find_units
from sim2real.lerobot.video import VideoEncoder
from sim2real.robot import Robot

from .conftest import NAMES, make_episode


def write_v21(root: Path, states: list[np.ndarray], actions: list[np.ndarray], names: list[str]) -> None:
    """A data set as LeRobot 0.3 laid it out, one file per episode, with a video."""
    (root / "meta").mkdir(parents=True)
    joints = {"dtype": "float32", "shape": [len(names)], "names": names}
    features = {
        "action": joints,
        "observation.state": joints,
        "observation.images.top": {
            "dtype": "video",
            "shape": [32, 32, 3],
            "names": ["height", "width", "channels"],
        },
    } | {
        name: {"dtype": dtype, "shape": [1], "names": None}
        for name, dtype in [
            ("timestamp", "float32"),
            ("frame_index", "int64"),
            ("episode_index", "int64"),
            ("index", "int64"),
            ("task_index", "int64"),
        ]
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "so101",
        "total_episodes": len(states),
        "fps": 30,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "put"}) + "\n")
    rows = [
        json.dumps({"episode_index": i, "tasks": ["put"], "length": len(state)})
        for i, state in enumerate(states)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(rows) + "\n")
    start = 0
    for i, (state, action) in enumerate(zip(states, actions)):
        count = len(state)
        table = pa.table(
            {
                "action": pa.array(action.astype(np.float32).tolist(), pa.list_(pa.float32())),
                "observation.state": pa.array(state.astype(np.float32).tolist(), pa.list_(pa.float32())),
                "timestamp": pa.array(np.arange(count, dtype=np.float32) / 30),
                "frame_index": pa.array(np.arange(count)),
                "episode_index": pa.array(np.full(count, i)),
                "index": pa.array(start + np.arange(count)),
                "task_index": pa.array(np.zeros(count, np.int64)),
            }
        )
        path = root / f"data/chunk-000/episode_{i:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        video = root / f"videos/chunk-000/observation.images.top/episode_{i:06d}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        encoder = VideoEncoder(video, 32, 32, 30)
        for j in range(count):
            encoder.add(np.full((32, 32, 3), 5 * j % 256, np.uint8))
        encoder.finish()
        start += count


@pytest.mark.parametrize("units", ["normalised", "degrees"])
def test_reads_v21_in_either_units(
    units: str, robot: Robot, calibration: Calibration, tmp_path: Path
) -> None:
    episodes = [make_episode(robot, 25 + i, seed=i) for i in range(2)]
    # A servo reports whole ticks.
    truth = [
        calibration.ticks_to_radians(calibration.radians_to_ticks(episode.state)) for episode in episodes
    ]
    order = [3, 0, 5, 1, 4, 2]

    def stored(values: list[np.ndarray]) -> list[np.ndarray]:
        return [calibration.from_radians(rows, units)[:, order] for rows in values]  # type: ignore[arg-type]

    names = [f"main_{NAMES[i]}" for i in order]
    write_v21(tmp_path / "set", stored(truth), stored([e.action for e in episodes]), names)
    calibration.save(tmp_path / "set" / "calibration.json")
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert dataset.version == "v2.1" and dataset.tasks == ("put",) and dataset.cameras == ("top",)
    convert = dataset.converter(robot)
    assert convert.found.units == units
    for i, read in enumerate(dataset.load(robot, convert)):
        np.testing.assert_allclose(read.state, truth[i], atol=1e-5)
        np.testing.assert_allclose(
            read.action, np.clip(episodes[i].action, *calibration.limits), atol=1e-5
        ) if units == "normalised" else np.testing.assert_allclose(read.action, episodes[i].action, atol=1e-5)
        np.testing.assert_array_equal(read.executed, read.action)
        assert read.task == "put" and read.success is None
        frames = list(dataset.frames(i, "top"))
        assert len(frames) == len(read)
        assert abs(int(frames[20][16, 16, 0]) - 100) <= 6


def test_units_from_the_grid_of_ticks(robot: Robot, calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    lower, upper = calibration.limits
    raw = calibration.radians_to_ticks(rng.uniform(lower, upper, (300, 6)) * 0.4)
    position = calibration.ticks_to_radians(raw)
    for units in ("normalised", "degrees"):
        values = calibration.from_radians(position, units).astype(np.float32).astype(float)  # type: ignore[arg-type]
        found = find_units(values, values, robot, calibration, "auto", "x")
        assert found.units == units and "ticks" in found.reason
        # A calibration that is one tick off spoils the middle, not the distances between degrees.
        if units == "degrees":
            assert find_units(values, values, robot, None, "auto", "x").units == "degrees"


def test_units_from_the_extent(robot: Robot, calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    small = rng.uniform(-30, 30, (300, 6))
    with pytest.raises(UserError, match="nothing in x tells"):
        find_units(small, small, robot, calibration, "auto", "x")
    assert find_units(small, small, robot, None, "degrees", "x").units == "degrees"
    large = small.copy()
    large[7, 1] = 101.5
    assert find_units(large, large, robot, calibration, "auto", "x").units == "degrees"
    # One wrong reading is no contradiction to what the user says.
    assert find_units(large, large, robot, calibration, "normalised", "x").units == "normalised"
    large[20:60, 2] = -120.0
    with pytest.raises(UserError, match="normalised cannot be right"):
        find_units(large, large, robot, calibration, "normalised", "x")
    with pytest.raises(UserError, match="radians cannot be right"):
        find_units(large, large, robot, calibration, "radians", "x")
    saturated = small.copy()
    saturated[5:9, 1] = -100.0
    assert find_units(small, saturated, robot, None, "auto", "x").units == "normalised"
    with pytest.raises(UserError, match="must be one of auto, normalised, degrees, .* got 'turns'"):
        find_units(small, small, robot, None, "turns", "x")
    with pytest.raises(UserError, match="reach 4.*raw servo ticks"):
        find_units(small + 4000.0, small, robot, None, "auto", "x")


def test_radians_are_told_by_their_extent(robot: Robot, tmp_path: Path) -> None:
    states = [make_episode(robot, 60, seed=seed).state for seed in range(2)]
    write_v21(tmp_path / "set", states, states, [f"{name}.pos" for name in NAMES])
    dataset = LeRobotDataset.open(tmp_path / "set")
    convert = dataset.converter(robot)
    assert convert.found.units == "radians"
    np.testing.assert_allclose(dataset.episode(1, robot, convert).state, states[1], atol=1e-6)
    still = np.full((60, 6), 0.5)
    with pytest.raises(UserError, match="nothing in x tells"):
        find_units(still + 1e-3 * np.arange(60)[:, None], still, robot, None, "auto", "x")


def test_lerobots_old_zeros(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    """Before May 2025 the lift counted down from upright to 90° and the elbow up from a right angle."""
    state = make_episode(robot, 90).state
    state[:, 1] = np.linspace(robot.lower[1], -0.3, 90)
    degrees = calibration.radians_to_degrees(state)
    old = degrees.copy()
    old[:, 1], old[:, 2] = 90.0 - degrees[:, 1], degrees[:, 2] + 90.0
    write_v21(tmp_path / "old", [old], [old], [f"main_{name}" for name in NAMES])
    dataset = LeRobotDataset.open(tmp_path / "old")
    found = dataset.converter(robot, calibration)
    assert found.found.units == "old-degrees"
    np.testing.assert_allclose(dataset.episode(0, robot, found).state, state, atol=1e-5)
    degrees[0, 4] = 110.0
    assert find_units(degrees, degrees, robot, calibration, "auto", "x").units == "degrees"


def test_a_few_wrong_readings_do_not_change_the_units(robot: Robot, calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    ticks = rng.integers(calibration.range_min, calibration.range_max, (300, 6))
    values = calibration.radians_to_normalised(calibration.ticks_to_radians(ticks))
    values[::60, 2] = 130.0
    assert find_units(values, values, robot, calibration, "auto", "x").units == "normalised"


def test_one_of_two_arms_and_joints_of_others(robot: Robot, tmp_path: Path) -> None:
    states = make_episode(robot, 40).state
    left, right = np.rad2deg(states), -np.rad2deg(states)
    names = [f"{arm}_{name}.pos" for arm in ("left", "right") for name in NAMES]
    write_v21(tmp_path / "two", [np.hstack([left, right])], [np.hstack([left, right])], names)
    with pytest.raises(UserError, match="of 2 arms; choose one with --arm left or right"):
        LeRobotDataset.open(tmp_path / "two").joint_order("action", robot)
    with pytest.raises(UserError, match="no arm 'middle'.*its arms are left, right"):
        LeRobotDataset.open(tmp_path / "two", "middle").joint_order("action", robot)
    dataset = LeRobotDataset.open(tmp_path / "two", "right")
    np.testing.assert_allclose(dataset.joints(0, "action", robot), right, rtol=1e-6)
    # A base that drives along, names in another style, one arm that is called something.
    for names in ([*NAMES, "x.vel"], [name.replace("_", " ").title() for name in [*NAMES, "base"]]):
        write_v21(
            tmp_path / names[0], [np.hstack([left, left[:, :1]])], [np.hstack([left, left[:, :1]])], names
        )
        np.testing.assert_allclose(
            LeRobotDataset.open(tmp_path / names[0]).joints(0, "action", robot), left, rtol=1e-6
        )
    write_v21(tmp_path / "one", [left], [left], [f"follower_{name}" for name in NAMES])
    assert list(LeRobotDataset.open(tmp_path / "one").joint_order("action", robot)) == list(range(6))


def test_normalised_values_need_a_calibration(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    values = calibration.radians_to_normalised(make_episode(robot).state)
    write_v21(tmp_path / "set", [values], [values], [f"{name}.pos" for name in NAMES])
    dataset = LeRobotDataset.open(tmp_path / "set")
    with pytest.raises(UserError, match=r"no calibration\.json; give the arm's"):
        dataset.converter(robot, units="normalised")
    # Degrees are angles without one.
    assert dataset.converter(robot, units="degrees").found.units == "degrees"


def test_selects_episodes(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    dataset = write_episodes(tmp_path, robot, calibration, [make_episode(robot, 12) for _ in range(4)])
    cases = {
        None: (0, 1, 2, 3),
        ":2": (0, 1),
        "1:3": (1, 2),
        "-1:": (3,),
        "2": (2,),
        "-1": (3,),
        "0:2,3": (0, 1, 3),
    }
    for text, expected in cases.items():
        assert dataset.select(text) == expected
    for text in ("a:b", "1:2:3", "x"):
        with pytest.raises(UserError, match="needs A:B"):
            dataset.select(text)
    with pytest.raises(UserError, match="selects nothing"):
        dataset.select("7:9")


def test_says_what_is_wrong(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a LeRobot data set"):
        LeRobotDataset.open(tmp_path)
    root = tmp_path / "set"
    write_episodes(root, robot, calibration, [make_episode(robot, seed=i) for i in range(2)])
    info = json.loads((root / "meta/info.json").read_text())

    def opened(**changes: object) -> LeRobotDataset:
        (root / "meta/info.json").write_text(json.dumps(info | changes))
        return LeRobotDataset.open(root)

    with pytest.raises(UserError, match=r"version v1\.6; v3"):
        opened(codebase_version="v1.6")
    with pytest.raises(UserError, match="fps must be 1 to 1000 Hz"):
        opened(fps=0)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        LeRobotDataset.open(root)
    features = {name: spec for name, spec in info["features"].items() if name != "action"}
    with pytest.raises(UserError, match="lacks action; it has observation.state"):
        opened(features=features).episode(0, robot)
    renamed = {**info["features"], "action": info["features"]["action"] | {"names": list("abcdef")}}
    with pytest.raises(UserError, match="has the joints a, b, c, d, e, f, but so101 has shoulder_pan"):
        opened(features=renamed).episode(0, robot)
    nameless = {**info["features"], "action": info["features"]["action"] | {"names": None}}
    with pytest.raises(UserError, match="does not name the joints of action"):
        opened(features=nameless).episode(0, robot)
    promised = {**info["features"], "current": {"dtype": "float32", "shape": [6], "names": None}}
    with pytest.raises(UserError, match="lacks the columns current"):
        opened(features=promised).columns(0)
    assert len(opened(features=promised).episode(0, robot)) == 30  # which does not need it
    dataset = opened()
    with pytest.raises(UserError, match="lacks observation.images.front"):
        dataset.frames(0, "front")
    data = root / "data/chunk-000/file-000.parquet"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not readable as parquet"):
        opened().episode(0, robot)
    data.unlink()
    with pytest.raises(UserError, match="incomplete"):
        opened().episode(0, robot)
    table = pq.read_table(pa.BufferReader(whole))
    pq.write_table(table.slice(0, 50), data)
    assert len(opened().episode(0, robot)) == 30
    with pytest.raises(UserError, match="episode 1 has 20 frames"):
        opened().episode(1, robot)


def test_refuses_values_that_are_not_numbers(robot: Robot, calibration: Calibration, tmp_path: Path) -> None:
    episode = make_episode(robot)
    episode.state[7, 2] = np.nan
    dataset = write_episodes(tmp_path, robot, calibration, [episode])
    with pytest.raises(UserError, match="first at frame 7"):
        dataset.episode(0, robot)


@pytest.mark.parametrize(("name", "episodes", "frames"), [("so101_tape", 25, 7479), ("so101_cube", 2, 747)])
def test_real_recordings(name: str, episodes: int, frames: int, robot: Robot, real_data: Path) -> None:
    dataset = LeRobotDataset.open(real_data / name)
    convert = dataset.converter(robot)
    assert convert.found.units == "normalised"
    loaded = dataset.load(robot, convert)
    assert len(loaded) == episodes and sum(map(len, loaded)) == frames
    calibration = dataset.calibration(robot)
    assert calibration is not None
    for episode in loaded:
        # Every recorded state is a whole tick within the calibrated range.
        ticks = calibration.ticks_to_radians(calibration.radians_to_ticks(episode.state))
        assert np.abs(episode.state - ticks).max() < 1e-5
        assert np.abs(np.diff(episode.time) - 1 / 30).max() < 1e-5
