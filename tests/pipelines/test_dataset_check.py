import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import cli
from pipelines.identification.dataset_check import check
from pipelines.identification.dataset_text import as_text
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.lerobot import LeRobotDataset, schema, write_episodes
from sim2real.lerobot.lag import lag
from sim2real.robot import Robot

TASKS = ("reach", "push", "lift")
LAG = 3.4


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot.load("so101")


def motion(
    robot: Robot, seed: int, length: int = 150, *, rate: float = 30.0, features: bool = True
) -> Episode:
    """An arm that does what it was told LAG/30 s ago, recorded at `rate` but stated as 30 Hz."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6, robot.n), rng.uniform(2, 4, robot.n)
    time = np.arange(length) / rate

    def at(moment: np.ndarray) -> np.ndarray:
        return robot.home + 0.4 * np.sin(speed * moment[:, None] + phase)

    observed = {"goal": np.tile([0.2, 0.0, 0.1], (length, 1))} if features else {}
    return Episode(
        time=time,
        state=at(time - LAG / 30),
        action=at(time),
        executed=at(time),
        fps=30.0,
        robot=robot.name,
        task="reach",
        features=observed,
        success=True,
    )


def report_of(root: Path, robot: Robot, episodes: list[Episode], **options: str) -> dict:
    dataset = write_episodes(root, robot, Calibration.nominal(robot), episodes)
    return check(dataset, robot, tasks=TASKS, **options)


def test_lag_of_a_delayed_copy() -> None:
    time = np.arange(300) / 30
    command = [np.sin(2 * time), np.sin(3 * time + 1)]
    state = [np.sin(2 * (time - 0.1)) - 0.05, np.sin(3 * (time - 0.1) + 1) - 0.05]
    frames, rms = lag(command, state)
    assert frames == pytest.approx(3.0, abs=0.06)
    assert rms < 2e-3  # the constant offset is no lag
    assert np.isnan(lag([np.zeros(100)], [np.zeros(100)])[0])


def test_a_good_recording(robot: Robot, tmp_path: Path) -> None:
    report = report_of(tmp_path, robot, [motion(robot, seed) for seed in range(4)])
    assert report["episodes"] == 4 and report["frames"] == 600
    assert report["units"]["found"] == "degrees" and report["calibrated"] and not report["hand_guided"]
    for joint in report["joints"].values():
        assert joint["lag_frames"] == pytest.approx(LAG, abs=0.11)
        assert joint["glitches"] == 0 and joint["moves"]
    assert report["rate_hz"]["measured"] == pytest.approx(30, rel=1e-3)
    assert report["suspicious"] == []
    uses = report["uses"]
    assert uses["replay"]["possible"] and uses["identify"]["possible"]
    assert uses["finetune"]["reach"]["possible"] and not uses["finetune"]["lift"]["possible"]
    assert "cube" in uses["finetune"]["lift"]["missing"][0]
    assert "episodes of lift: these are of reach" in uses["finetune"]["lift"]["missing"]
    assert report["success"] == {"successes": 4, "failures": 0, "unknown": 0}
    json.dumps(report, allow_nan=False)
    text = as_text(report)
    assert "no episode looks wrong" in text and "finetune (reach)  yes" in text


def test_episodes_that_look_wrong(robot: Robot, tmp_path: Path) -> None:
    episodes = [motion(robot, seed) for seed in range(8)]
    episodes[1].state[40, 2] += 1.0  # a glitch
    episodes[2].state[60:130, 1] = episodes[2].state[60, 1]  # a servo that stopped answering
    episodes[3] = motion(robot, 3, length=12)
    episodes[4] = motion(robot, 4, length=600)
    episodes[5].state[:] = episodes[5].action[:] = robot.home
    episodes[6].state[:] += 0.7
    episodes[7].action[9, 0] = np.nan
    report = report_of(tmp_path, robot, episodes)
    reasons = {entry["episode"]: " | ".join(entry["reasons"]) for entry in report["suspicious"]}
    assert set(reasons) == {1, 2, 3, 4, 5, 6, 7}
    assert "elbow_flex jumps for a single frame 1 x, first at frame 40" in reasons[1]
    assert "shoulder_lift reads the same for 2." in reasons[2] and "from frame 60" in reasons[2]
    assert "only 12 frames" in reasons[3] and "600 frames where others have 150" in reasons[4]
    assert "nothing moves" in reasons[5] and "from their commands" in reasons[6]
    assert "not numbers, first at frame 9" in reasons[7]
    assert report["joints"]["elbow_flex"]["glitches"] == 1


def test_hand_guided_data_tell_nothing_about_servos(robot: Robot, tmp_path: Path) -> None:
    episodes = [motion(robot, seed) for seed in range(2)]
    for episode in episodes:
        for commands in (episode.action, episode.executed):
            commands[:-1] = episode.state[1:]
    report = report_of(tmp_path / "all", robot, episodes)
    assert report["hand_guided"] and report["uses"]["replay"]["possible"]
    assert not report["uses"]["identify"]["possible"]
    assert "guided by hand" in report["uses"]["identify"]["missing"][0]
    # With others among them, those are what there is to learn from.
    report = report_of(tmp_path / "mixed", robot, [*episodes[:1], motion(robot, 4), motion(robot, 5)])
    assert report["uses"]["identify"]["possible"] and "episodes 0 were guided" in report["notes"][-1]


def test_a_wrong_rate_shows(robot: Robot, tmp_path: Path) -> None:
    report = report_of(tmp_path / "a", robot, [motion(robot, 0, rate=18.5)])
    assert report["rate_hz"]["measured"] == pytest.approx(18.5, rel=1e-3)
    assert "say 18.5 Hz, not 30 Hz" in report["rate_hz"]["note"]
    # Without capture times the lag tells: these arms need at least 80 ms, which are fewer frames at 10 Hz.
    root = tmp_path / "b"
    write_episodes(root, robot, Calibration.nominal(robot), [motion(robot, i, rate=10.0) for i in range(3)])
    info = json.loads((root / "meta/info.json").read_text())
    del info["features"][schema.TIME]
    (root / "meta/info.json").write_text(json.dumps(info))
    rate = check(LeRobotDataset.open(root), robot)["rate_hz"]
    assert (
        rate["measured"] is None
        and rate["suggested"] is None
        and rate["likely"][0] < 10 < rate["likely"][1] < 20
    )


def test_clipping_at_the_calibrated_range(robot: Robot, tmp_path: Path) -> None:
    episode = motion(robot, 0)
    lower, upper = Calibration.nominal(robot).limits
    episode.action[:30, 1] = upper[1] + 0.1
    episode.state[:15, 1] = lower[1]
    report = report_of(tmp_path, robot, [episode])
    joint = report["joints"]["shoulder_lift"]
    assert joint["clipped_action"] == pytest.approx(0.2) and joint["clipped_state"] == pytest.approx(0.1)


def test_without_calibration_and_units(robot: Robot, tmp_path: Path) -> None:
    episodes = [motion(robot, i) for i in range(2)]
    for episode in episodes:
        for values in (episode.state, episode.action):
            values[:, 3] -= 1.0  # beyond 100 degrees there would be no doubt
    write_episodes(tmp_path, robot, Calibration.nominal(robot), episodes)
    (tmp_path / schema.CALIBRATION_FILE).unlink()
    (tmp_path / schema.NOTES_FILE).unlink()
    report = check(LeRobotDataset.open(tmp_path), robot, tasks=TASKS)
    assert report["units"]["found"] is None and not report["calibrated"]
    # Lags need neither.
    assert report["joints"]["wrist_flex"]["lag_frames"] == pytest.approx(LAG, abs=0.11)
    assert not report["uses"]["replay"]["possible"]
    assert "no calibration" in as_text(report)


def test_states_alone(robot: Robot, tmp_path: Path) -> None:
    write_episodes(tmp_path, robot, Calibration.nominal(robot), [motion(robot, i) for i in range(2)])
    info = json.loads((tmp_path / "meta/info.json").read_text())
    del info["features"]["action"], info["features"]["action.executed"]
    (tmp_path / "meta/info.json").write_text(json.dumps(info))
    report = check(LeRobotDataset.open(tmp_path), robot, tasks=TASKS)
    assert "commands were not recorded" in report["uses"]["replay"]["missing"][0]
    assert report["joints"] == {} and as_text(report)


def test_the_command(robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episodes(tmp_path / "set", robot, Calibration.nominal(robot), [motion(robot, 0)])
    assert cli.main(["data", str(tmp_path / "set"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 150
    assert cli.main(["data", str(tmp_path / "set")]) == 0
    assert "can be used for:" in capsys.readouterr().out
    assert cli.main(["data", str(tmp_path / "absent")]) == 2
    assert "is not a LeRobot data set" in capsys.readouterr().err


def test_real_recordings(robot: Robot) -> None:
    import os

    if not os.environ.get("SIM2REAL_REAL_DATA"):
        pytest.skip("SIM2REAL_REAL_DATA is not set: no logs of real arms to look at")
    for name, frames in (("so101_tape", 3.8), ("so101_cube", 4.3)):
        dataset = LeRobotDataset.open(Path(os.environ["SIM2REAL_REAL_DATA"]) / name)
        report = check(dataset, robot, tasks=TASKS)
        lags = [joint["lag_frames"] for key, joint in report["joints"].items() if key != "gripper"]
        assert np.mean(lags) == pytest.approx(frames, abs=0.4)
        assert report["suspicious"] == [] and not report["hand_guided"]
        assert report["rate_hz"]["suggested"] == 30
        assert report["uses"]["identify"]["possible"]
        assert not report["uses"]["finetune"]["lift"]["possible"]
