"""The one reader of `data`, `replay`, `identify` and `finetune`: what it leaves out, and at which rate it reads."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import cli
from pipelines.identification.dataset_check import check
from pipelines.identification.dataset_text import as_text
from pipelines.identification.episodes import grouped, open_readings, selection
from pipelines.identification.logs import load_arm_log
from pipelines.identification.recording_checks import doubtful, likely_rates, measured_rate
from pipelines.learning.recorded import load_recorded
from sim2real.errors import UserError, spans
from sim2real.lerobot import LeRobotDataset
from sim2real.observation import standard_features
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot
from tests.sim2real.lerobot.foreign_set import file_of, foreign_set, rewrite, wave

ROBOT = Robot.load("so101")
GOAL = {
    "observation.environment_state": {
        "dtype": "float32",
        "shape": [3],
        "names": ["goal.x", "goal.y", "goal.z"],
    }
}
POLICY = PolicyInfo(
    task="reach",
    robot="so101",
    joints=ROBOT.joint_names,
    features=standard_features(["joint_position", "joint_command", "goal"], ROBOT.n),
    horizon=4,
    policy_rate=30,
    command_rate=100,
)


def goal(episode: int, length: int) -> dict[str, list]:
    return {"observation.environment_state": list(np.tile(np.float32([0.2, 0, 0.1]), (length, 1)))}


def recorded(root: Path, **options: object) -> dict:
    return load_recorded(root, POLICY, ROBOT, **options)[1]  # type: ignore[arg-type]


def test_lists_for_people() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7, 8" and spans([]) == "" and spans([4, 4]) == "4"
    assert spans(range(0, 40, 2)).endswith("14 and 12 more stretches")
    assert selection([3, 0, 1, 2, 7]) == "0:4,7"
    lines = grouped(
        [(k, f"no pictures: {k}.mp4 is gone") for k in range(58)]
        + [(60, "odd"), (3, "odd"), (4, "episode 4 is odd")]
    )
    assert lines == [
        "episodes 0-57: as in episode 0: no pictures: 0.mp4 is gone", "episodes 3, 60: odd", "episode 4 is odd",
    ]  # fmt: skip


def test_rates_that_no_arm_is_recorded_at_are_no_rates() -> None:
    for rate in (0.03, 1e-6, 5e3):
        assert measured_rate([np.arange(50) / rate]) is None
    assert measured_rate([np.arange(50) / 5.0]) == pytest.approx(5.0)


def test_what_lags_tell_of_the_rate_are_bounds() -> None:
    # Frames at 60 Hz stamped as 30: joints seem to trail twice as long.
    bounds, why = likely_rates([0.24] * 6, 1.0, 30.0)
    assert bounds == pytest.approx((36, 90)) and "more than such servos need" in why
    assert doubtful(30, bounds) and not doubtful(60, bounds) and not doubtful(30, None)
    for lag, speed in ((1e-9, 1.0), (1e9, 1.0), (0.24, 1e9), (0.01, 50.0)):
        bounds, _ = likely_rates([lag], speed, 30.0)
        assert bounds is not None and 1 <= bounds[0] <= bounds[1] <= 1000


def test_all_commands_read_alike(tmp_path: Path) -> None:
    """Recorded at 15 Hz, as the stamps say and info.json does not; one frame of an episode is no number."""
    root = foreign_set(
        tmp_path / "set",
        [wave(60, 15, k) for k in range(4)],
        stamps=lambda e, i: i / 15,
        features=GOAL,
        columns=goal,
    )
    wrong = [[float("nan")] * 6] + [[0.0] * 6] * 59
    rewrite(
        file_of(root, 2), lambda t: t.set_column(t.column_names.index("action"), "action", pa.array(wrong))
    )
    log = load_arm_log(root, ROBOT)
    assert log.recording.fps == 15 and log.episodes == (0, 1, 3)
    used = recorded(root)
    assert used["fps"] == 15 and used["episodes"] == 3 and used["pairs"] == 3 * (59 * 2 + 1)
    report = check(LeRobotDataset.open(root), ROBOT)
    assert report["rate_hz"]["used"] == 15 and report["seconds"] == pytest.approx(16)
    assert report["joints"]["elbow_flex"]["lag_ms"] == pytest.approx(120, abs=5)
    assert "not numbers, first at frame 0" in report["suspicious"][0]["reasons"][0]
    for remarks in (log.remarks, used["remarks"]):
        assert any("timestamps 15.00 Hz" in line for line in remarks)
        assert any(line.startswith("left out: action of episode 2") for line in remarks)
    # Who knows better may say so, everywhere.
    assert load_arm_log(root, ROBOT, fps=30).recording.fps == 30
    assert recorded(root, fps=30)["fps"] == 30 and recorded(root, fps=30)["pairs"] == 3 * 60
    assert recorded(root, episodes="0:2")["episodes"] == 2
    assert check(LeRobotDataset.open(root), ROBOT, fps=30.0, episodes=":2")["episodes"] == 2


def test_an_arm_of_two_teaches_a_policy(tmp_path: Path) -> None:
    joints = [f"{joint}.pos" for joint in ROBOT.joint_names]
    both = [tuple(np.hstack([values, -values]) for values in wave())]
    names = tuple(f"{arm}_{joint}" for arm in ("left", "right") for joint in joints)
    root = foreign_set(
        tmp_path / "set", both, names=names, features=GOAL, columns=goal, robot_type="bi_so101_follower"
    )  # type: ignore[arg-type]
    with pytest.raises(UserError, match="choose one with --arm left or right"):
        recorded(root)
    assert recorded(root, arm="right")["episodes"] == 1


def test_episodes_at_another_rate_than_most(tmp_path: Path) -> None:
    """Replay needs one rate; demonstrations are resampled, each from its own."""
    episodes = [wave(60, 15, 0), wave(60, 15, 1), wave(90, 30, 2), wave(60, 15, 3)]
    root = foreign_set(
        tmp_path / "set",
        episodes,
        stamps=lambda e, i: i / (30 if e == 2 else 15),
        features=GOAL,
        columns=goal,
    )
    readings = open_readings(root, ROBOT)
    assert readings.rate == 15 and [e.fps for e in readings.episodes.values()] == [15, 15, 30, 15]
    log = load_arm_log(root, ROBOT)
    assert log.episodes == (0, 1, 3) and log.recording.fps == 15
    assert any("choose the others with --episodes 2" in line for line in log.remarks)
    assert load_arm_log(root, ROBOT, episodes="2").recording.fps == 30
    assert recorded(root)["pairs"] == 3 * 119 + 90


def test_stamps_of_other_units_hang_nothing(tmp_path: Path) -> None:
    for unit, size in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        root = foreign_set(tmp_path / unit, [wave(60)], stamps=lambda e, i, size=size: (i + 7) * size / 30)
        log = load_arm_log(root, ROBOT)
        assert log.recording.fps == 30 and any(unit in line for line in log.remarks)
    root = foreign_set(tmp_path / "nothing", [wave(60)], stamps=lambda e, i: i * 0.5)
    assert (
        load_arm_log(root, ROBOT).recording.fps == 30
    )  # 2 Hz would be off by more than a stated rate can be


def test_demonstrations_are_cut_where_frames_are_missing(tmp_path: Path) -> None:
    def gap(episode: int, length: int) -> dict:
        frames = np.arange(length) + 20 * (np.arange(length) >= 30)
        return goal(episode, length) | {"frame_index": frames, "timestamp": frames / 30}

    root = foreign_set(tmp_path / "set", [wave(60)], features=GOAL, columns=gap)
    demonstrations, used = load_recorded(root, POLICY, ROBOT)
    assert used["pairs"] == 60 and used["episodes"] == 1
    assert any("cut in 1 places" in line for line in used["remarks"])
    # At the cut, the last action stays, as at an episode's end.
    assert (demonstrations.chunks[29] == demonstrations.chunks[29][:1]).all()


def test_observations_that_are_promised_and_not_there(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", features=GOAL)
    assert len(load_arm_log(root, ROBOT).episodes) == 3  # which does not need them
    with pytest.raises(
        UserError, match="no episode of .* holds goal, which the policy observes: .*lacks the column"
    ):
        recorded(root)


def test_labels_count_for_data_and_finetuning_alike(tmp_path: Path) -> None:
    one = {"next.success": {"dtype": "bool", "shape": [1], "names": None}}
    root = foreign_set(
        tmp_path / "set",
        [wave(40, seed=k) for k in range(4)],
        features=GOAL | one,
        columns=lambda e, n: goal(e, n) | {"next.success": (np.arange(n) == n - 1) & (e >= 2)},
    )
    assert check(LeRobotDataset.open(root), ROBOT)["success"] == {"successes": 2, "failures": 2, "unknown": 0}
    assert recorded(root)["episodes"] == 2 and recorded(root, every_episode=True)["episodes"] == 4
    bad = foreign_set(tmp_path / "bad", row=lambda e: {"success": ["yes", "half", "no"][e]})
    report = check(LeRobotDataset.open(bad), ROBOT)
    assert report["success"] == {"successes": 1, "failures": 1, "unknown": 1}
    assert any("not judged" in note and "'half'" in note for note in report["notes"])


def test_one_cause_is_told_once(tmp_path: Path) -> None:
    video = {"observation.images.top": {"dtype": "video", "shape": [4, 4, 3], "names": None}}
    root = foreign_set(tmp_path / "set", [wave(40, seed=k % 3) for k in range(60)], features=video)
    file_of(root, 7).write_bytes(b"")
    text = as_text(check(LeRobotDataset.open(root), ROBOT))
    wrong = (
        text[text.index("episodes that look wrong") : text.index("can be used for")].strip().splitlines()[1:]
    )
    assert len(wrong) == 2
    assert "episodes 0-6, 8-59: as in episode 0: no pictures of the camera top" in wrong[0] + wrong[1]


def test_the_commands_refuse_and_say_what_to_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = str(foreign_set(tmp_path / "unknown", robot_type="aloha"))
    for command in (["data", unknown], ["replay", "--data", unknown]):
        assert cli.main(command) == 2
        assert "'aloha', which is not known" in capsys.readouterr().err
    assert cli.main(["data", unknown, "--robot", "so101", "--task", "reach"]) == 0
    capsys.readouterr()
    pointers = foreign_set(tmp_path / "pointers")
    for episode in range(3):
        file_of(pointers, episode).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert cli.main(["data", str(pointers)]) == 2
    assert "git lfs pull" in capsys.readouterr().err
    empty = foreign_set(tmp_path / "empty", [])
    assert cli.main(["data", str(empty), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 0
    assert cli.main(["replay", "--data", str(empty)]) == 2
    assert "has no episodes" in capsys.readouterr().err
