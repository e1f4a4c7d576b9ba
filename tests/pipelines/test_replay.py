"""Replay in the world, the batched twin beside it, and reading logs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines import cli
from pipelines.identification.logs import informative, load_arm_log
from pipelines.identification.misplaced_zeros import misplaced
from pipelines.identification.replay import gap, physics_rate, replay_in_twin, replay_in_world
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import write_episodes
from sim2real.robot import Robot

REAL = os.environ.get("SIM2REAL_REAL_DATA")
needs_logs = pytest.mark.skipif(
    REAL is None, reason="SIM2REAL_REAL_DATA is not set: no logs of real arms to read"
)

ODD = {
    "servo.shoulder_lift.offset": 0.03,
    "servo.elbow_flex.offset": -0.02,
    "servo.wrist_flex.backlash": 0.01,
    "servo.shoulder_pan.command_delay": 0.061,
    "servo.elbow_flex.kp": 2.2,
    "servo.wrist_roll.acceleration": 40.0,
    "link.lower_arm.mass": 0.15,
    "payload.mass": 0.05,
    "world.tilt_x": 0.02,
}


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot.load("so101")


def commands(robot: Robot, seed: int, length: int = 120, fps: float = 30.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6, robot.n), rng.uniform(1, 4, robot.n)
    time = np.arange(length)[:, None] / fps
    reach = np.array([0.6, 0.4, 0.4, 0.5, 0.6, 0.3])
    return np.asarray(robot.home + reach * (np.sin(speed * time + phase) - np.sin(phase)))


def episode(robot: Robot, action: np.ndarray, state: np.ndarray, fps: float = 30.0) -> Episode:
    return Episode(
        time=np.arange(len(action)) / fps, state=state, action=action, executed=action, fps=fps,
        robot=robot.name, task="", features={}, success=None,
    )  # fmt: skip


def write(root: Path, robot: Robot, episodes: list[Episode]) -> Path:
    write_episodes(root, robot, Calibration.nominal(robot), episodes)
    return root


@pytest.mark.parametrize("fps", [30.0, 50.0])
def test_the_twin_is_the_world_in_free_air(robot: Robot, tmp_path: Path, fps: float) -> None:
    actions = [commands(robot, seed, 100, fps) for seed in (0, 1)]
    root = write(tmp_path / "set", robot, [episode(robot, action, action, fps) for action in actions])
    log = load_arm_log(root, robot)
    world, twin = replay_in_world(log, robot, ODD), replay_in_twin(log, robot, ODD)
    difference = np.rad2deg(np.sqrt(np.mean((world - twin) ** 2, axis=0)))
    assert difference.max() < 0.15
    # And both feel the parameters.
    assert np.rad2deg(np.abs(world - replay_in_world(log, robot)).max(axis=0)[:5]).min() > 0.3


def test_a_jaw_that_something_stops_is_told_and_not_judged(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    action = np.tile(robot.home, (120, 1))
    action[:, :5] = commands(robot, 1)[:, :5]
    action[:, 5] = 0.8 - np.clip(np.arange(120) - 30, 0, None) / 120
    state = np.concatenate([action[:1].repeat(3, axis=0), action[:-3]])
    free = write(tmp_path / "free", robot, [episode(robot, action, state)])
    holding = state.copy()
    holding[:, 5] = np.maximum(state[:, 5], 0.5)
    stopped = write(tmp_path / "stopped", robot, [episode(robot, action, holding)])
    found = {}
    for root in (free, stopped):
        assert cli.main(["data", str(root), "--json"]) == 0
        notes = json.loads(capsys.readouterr().out)["notes"]
        assert cli.main(["replay", "--data", str(root), "--json"]) == 0
        told = capsys.readouterr()
        found[root] = json.loads(told.out)["gripper_deg"]["gripper"]
        for said in ("\n".join(notes), told.err):
            assert ("the gripper holds something in" in said) == (root == stopped)
    assert found[stopped] < found[free] + 2.0  # 20° if it were judged by what stops it


def test_a_recording_of_the_world_replays_without_a_gap(robot: Robot, tmp_path: Path) -> None:
    """state[t + 1] is what the world shows after action[t]: the comparison is not a frame off."""
    action = commands(robot, 3)
    action[0] = action[1]
    first = write(tmp_path / "first", robot, [episode(robot, action, np.tile(action[0], (len(action), 1)))])
    shown = replay_in_world(load_arm_log(first, robot), robot)
    state = np.concatenate([action[:1], shown[:-1]])
    log = load_arm_log(write(tmp_path / "second", robot, [episode(robot, action, state)]), robot)
    found = gap(log, replay_in_world(log, robot), robot)
    # What remains is that data sets store whole ticks of angle in 32 bits, the start included.
    assert found.mean < 0.02
    assert found.frames == len(action) - 1


def test_the_rate_is_a_multiple_of_the_frames(robot: Robot) -> None:
    assert [physics_rate(fps, robot) for fps in (30.0, 50.0, 20.0, 18.5, 60.0)] == [300, 300, 300, 240, 300]


def test_json_and_units(robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    action = commands(robot, 4, 40)
    root = write(tmp_path / "set", robot, [episode(robot, action, action)])
    assert cli.main(["replay", "--data", str(root), "--units", "degrees", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert set(result) >= {"mean_deg", "rms_deg", "episodes", "frames"}
    assert list(result["rms_deg"]) == list(robot.joint_names[:5])
    assert result["mean_deg"] == pytest.approx(np.mean(list(result["rms_deg"].values())))
    assert (result["episodes"], result["frames"]) == (1, 39)
    assert "units: degrees" in captured.err


def test_a_twin_file_is_applied(robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    action = commands(robot, 5, 40)
    root = write(tmp_path / "set", robot, [episode(robot, action, action)])
    twin = tmp_path / "twin.toml"
    twin.write_text('[parameters]\n"servo.shoulder_pan.command_delay" = 0.12\n')
    means = []
    for extra in ([], ["--twin", str(twin)]):
        assert cli.main(["replay", "--data", str(root), "--json", *extra]) == 0
        means.append(json.loads(capsys.readouterr().out)["rms_deg"]["shoulder_pan"])
    assert means[1] > means[0] + 0.5
    twin.write_text('[parameters]\n"servo.shoulder.delay" = 0.12\n')
    assert cli.main(["replay", "--data", str(root), "--twin", str(twin)]) == 2
    assert "is not a parameter" in capsys.readouterr().err


def test_glitches_are_ignored_and_told(robot: Robot, tmp_path: Path) -> None:
    action = commands(robot, 6)
    state = np.tile(action[:1], (len(action), 1))
    state[0, 2] += 1.0
    state[50, 1] -= 1.0
    log = load_arm_log(write(tmp_path / "set", robot, [episode(robot, action, state)]), robot)
    assert np.argwhere(~log.valid).tolist() == [[0, 2], [50, 1]]
    assert np.isnan(log.outcome()[49, 1]) and np.isfinite(log.outcome()[50]).all()
    assert np.rad2deg(np.abs(log.recording.state - action[0])).max() < 0.1
    assert "2 single-sample read errors" in log.remarks[0]


def test_timestamps_tell_the_true_rate(robot: Robot, tmp_path: Path) -> None:
    action = commands(robot, 7)
    slow = episode(robot, action, action)
    slow = Episode(**{**vars(slow), "time": np.arange(len(action)) / 18.5, "fps": 20.0})
    log = load_arm_log(write(tmp_path / "set", robot, [slow]), robot)
    assert log.recording.fps == pytest.approx(18.5, rel=1e-3)
    assert "timestamps" in log.remarks[0]


def test_hand_guided_data_are_refused(robot: Robot, tmp_path: Path) -> None:
    path = commands(robot, 8, 100)
    action, state = path[1:], path[:-1]
    log = load_arm_log(write(tmp_path / "set", robot, [episode(robot, action, state)]), robot)
    with pytest.raises(UserError, match=r"guided by hand: action\[t\] equals state\[t\+1\]"):
        informative(log, robot, "set")


def test_guided_episodes_among_others_are_left_out(robot: Robot, tmp_path: Path) -> None:
    path = commands(robot, 8, 100)
    served = episode(robot, path[4:], path[:-4])
    guided = episode(robot, path[1:], path[:-1])
    log = load_arm_log(write(tmp_path / "set", robot, [served, guided, served]), robot)
    left = informative(log, robot, "set")
    assert left.episodes == (0, 2) and "episodes 1 were guided by hand" in left.remarks[-1]


def test_a_joint_against_its_commands_is_refused(robot: Robot, tmp_path: Path) -> None:
    path = commands(robot, 8, 100)
    state = path[:-4].copy()
    state[:, 2] = 2 * robot.home[2] - state[:, 2]
    with pytest.raises(UserError, match=r"against their commands \(elbow_flex -1"):
        load_arm_log(write(tmp_path / "set", robot, [episode(robot, path[4:], state)]), robot)
    # Where it follows too loosely to be measured, the direction still shows.
    state[:, 2] += np.random.default_rng(0).normal(0, 0.2, len(state))
    log = load_arm_log(write(tmp_path / "loose", robot, [episode(robot, path[4:], state)]), robot)
    with pytest.raises(UserError, match="elbow_flex turns against its commands"):
        informative(log, robot, "loose")


def test_missing_frames_are_bridged_and_gaps_cut(robot: Robot, tmp_path: Path) -> None:
    action = commands(robot, 3, 200)
    whole = episode(robot, action[4:], action[:-4])
    kept = np.delete(np.arange(196), [20, 90, 91, *range(120, 150)])
    broken = Episode(
        **{**vars(whole), "time": kept / 30}
        | {name: getattr(whole, name)[kept] for name in ("state", "action", "executed")}
    )
    log = load_arm_log(write(tmp_path / "set", robot, [broken]), robot)
    assert log.recording.starts.tolist() == [0, 120, 166] and log.recording.fps == 30.0
    assert np.flatnonzero(~log.valid.any(axis=1)).tolist() == [20, 90, 91]
    assert log.recording.command[:120] == pytest.approx(action[4:124], abs=0.03)
    assert log.episodes == (0, 0) and "3 frames are missing" in log.remarks[0]
    # Who knows better than the time stamps may say so.
    told = load_arm_log(tmp_path / "set", robot, fps=25.0)
    assert told.recording.fps == 25.0 and len(told.recording.command) == len(kept)


def test_an_unreadable_episode_is_left_out(robot: Robot, tmp_path: Path) -> None:
    action = commands(robot, 3, 100)
    good = episode(robot, action[4:], action[:-4])
    bad = episode(robot, action[4:], action[:-4].copy())
    bad.state[7, 2] = np.nan
    log = load_arm_log(write(tmp_path / "set", robot, [good, bad, good]), robot)
    assert log.episodes == (0, 2) and "left out: observation.state of episode 1" in log.remarks[0]
    with pytest.raises(UserError, match="not numbers, first at frame 7"):
        load_arm_log(tmp_path / "set", robot, episodes="1")


@pytest.mark.parametrize(
    ("joint", "sign", "shift", "told"),
    [(1, -1, 0.0, "turned around"), (2, -1, 0.0, "turned around"), (1, 1, np.pi / 2, "a quarter turn back")],
)
def test_a_joint_that_is_counted_wrongly_shows_in_how_the_arm_sags(
    robot: Robot, tmp_path: Path, joint: int, sign: float, shift: float, told: str
) -> None:
    """The simulated arm hangs where it is; the recording says that one joint stands elsewhere."""
    actions = [commands(robot, seed, 200) for seed in (0, 1)]
    right = load_arm_log(write(tmp_path / "a", robot, [episode(robot, a, a) for a in actions]), robot)
    moved = replay_in_twin(right, robot, {"servo.elbow_flex.kp": 2.6, "link.lower_arm.mass": 0.13})
    shown = [np.concatenate([a[:1], s[:-1]]) for a, s in zip(actions, np.split(moved, 2))]
    log = load_arm_log(
        write(tmp_path / "b", robot, [episode(robot, *both) for both in zip(actions, shown)]), robot
    )
    assert misplaced(log, robot) is None
    for values in (*actions, *shown):
        values[:, joint] = sign * values[:, joint] + shift
    log = load_arm_log(
        write(tmp_path / "c", robot, [episode(robot, *both) for both in zip(actions, shown)]), robot
    )
    doubt = misplaced(log, robot)
    assert doubt is not None and f"{robot.joint_names[joint]} stood otherwise: {told}" in doubt


@pytest.mark.parametrize("share", [0.0, 0.5, 1.8])
def test_other_servos_are_no_wrong_zero(robot: Robot, tmp_path: Path, share: float) -> None:
    """An arm that sags by a share of what the nominal one does: stiffer servos, or softer ones."""
    actions = [commands(robot, seed, 200) for seed in (0, 1)]
    right = load_arm_log(write(tmp_path / "a", robot, [episode(robot, a, a) for a in actions]), robot)
    shown = replay_in_twin(right, robot)
    late = [np.concatenate([np.repeat(a[:1], 4, axis=0), a[:-4]]) for a in actions]
    sagging = [
        np.concatenate([a[:1], (b + share * (s - b))[:-1]])
        for a, b, s in zip(actions, late, np.split(shown, 2))
    ]
    log = load_arm_log(
        write(tmp_path / "b", robot, [episode(robot, *both) for both in zip(actions, sagging)]), robot
    )
    assert misplaced(log, robot) is None
    stiff = {f"servo.{name}.kp": 6.5 for name in robot.joint_names}
    assert misplaced(log, robot, stiff) is None


def test_an_arm_that_stands_still_is_refused(robot: Robot, tmp_path: Path) -> None:
    still = np.tile(robot.home, (50, 1))
    log = load_arm_log(write(tmp_path / "set", robot, [episode(robot, still, still)]), robot)
    with pytest.raises(UserError, match="does not move"):
        informative(log, robot, "set")


@needs_logs
def test_real_states_carry_their_calibration(robot: Robot, tmp_path: Path) -> None:
    """With the file taken away, the grid of the states gives the log that the file gives."""
    source = Path(str(REAL)) / "so101_tape"
    for name in ("meta", "data"):
        (tmp_path / name).symlink_to(source / name)
    told, stated = (load_arm_log(root, robot, episodes=":2") for root in (tmp_path, source))
    np.testing.assert_allclose(told.recording.state, stated.recording.state, atol=1e-9)
    assert "grids of servo ticks" in told.remarks[0] and told.units == "normalised"


@needs_logs
@pytest.mark.parametrize(("name", "most"), [("so101_tape", 0.7), ("so101_cube", 1.45)])
def test_the_nominal_arm_beats_a_constant_delay(robot: Robot, name: str, most: float) -> None:
    """The best constant delay leaves 1.03° and 1.44°, the public model as shipped 4.36° and 3.12°."""
    log = load_arm_log(Path(str(REAL)) / name, robot, episodes="0:2")
    found = gap(log, replay_in_world(log, robot), robot)
    assert log.units == "normalised"
    assert found.mean < most


def test_a_missing_data_set_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["replay", "--data", str(tmp_path / "none")]) == 2
    assert "is not a LeRobot data set" in capsys.readouterr().err
