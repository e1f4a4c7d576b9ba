"""The recorder process: real pipes, real files."""

import os
import resource
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from hardware.emulator.assembly import emulated_calibration
from hardware.runtime.control.supervisor import CODES, Phase, State
from hardware.runtime.recording.recorder import RecorderConfig, RecorderProcess
from hardware.runtime.sources.inference import Slot
from sim2real.arm import ArmState
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.journal import pending, recover
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

from .ticks import a_tick

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
CALIBRATION = emulated_calibration(ROBOT)
LIFT = load_task("lift")
ENVIRONMENT = RecorderConfig("", "so101", {}, "lift", objects=LIFT.objects).environment
CAMERA = CameraModel.looking_at((0.4, 0.3, 0.4), (0.2, 0.0, 0.0), width=64, height=48, name="front")


class Grey:
    """Pictures whose brightness is ten times their number, shared as a camera process shares them."""

    def __init__(self) -> None:
        self.slot = Slot(2)

    def show(self, taken: float, number: int) -> None:
        self.slot.write((taken, float(number)))

    def latest(self):
        got = self.slot.read()
        if got is None or got[0] == 0:
            return None
        taken, number = got[1]
        return float(taken), np.full((48, 64, 3), int(10 * number), np.uint8)


def wait(condition, timeout):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture
def make(tmp_path):
    running = []

    def start(**more):
        config = RecorderConfig(
            str(tmp_path / "set"), "so101", CALIBRATION.table(), "lift", objects=LIFT.objects, **more
        )
        running.append(RecorderProcess(config, wait))
        return running[-1]

    yield start
    for recorder in running:
        recorder.close()


def reading(time: float, i: int) -> ArmState:
    zeros = np.zeros(ROBOT.n)
    return ArmState(
        time, zeros, zeros, zeros + 0.01 * i, zeros > -1, zeros, zeros + 7.4, zeros + 30 + i, zeros + 0.1,
        np.zeros(ROBOT.n, np.int64),
    )  # fmt: skip


def feed(recorder, frames: int, start: float = 100.0, each=lambda i: None) -> None:
    """An episode of the given number of complete frames."""
    recorder.begin()
    running = State(Phase.RUNNING)
    for i in range(frames + 1):
        each(i)
        observation = {name: np.full(size, 0.1 * i) for name, size in ENVIRONMENT.items()}
        observation["joint_position"] = ROBOT.home + 0.01 * i
        begun = a_tick(
            time=start + i / 30 - 0.001,
            state=running,
            reading=reading(start + i / 30, i),
            observation=observation,
            episode=0,
        )
        recorder.tick(begun)
        # What is sent during frame i is known when frame i + 1 begins.
        recorder.tick(
            replace(begun, observation=None, requested=ROBOT.home + 0.02 * i, executed=ROBOT.home + 0.015 * i)
        )


def test_frames_become_episodes(make, tmp_path):
    recorder = make()
    feed(recorder, 40)
    recorder.end(True)
    feed(recorder, 10)
    recorder.discard()
    feed(recorder, 20, start=500.0)
    recorder.end(None)
    recorder.close()
    assert recorder.saved == [0, 1] and recorder.lost == 0
    dataset = LeRobotDataset.open(tmp_path / "set")
    first, second = (dataset.episode(i, ROBOT) for i in range(2))
    assert (len(first), first.success) == (40, True) and (len(second), second.success) == (20, None)
    assert np.allclose(first.time, np.arange(40) / 30) and np.allclose(second.time, np.arange(20) / 30)
    steps = np.arange(40)[:, None]
    assert np.allclose(first.state, ROBOT.home + 0.01 * steps, atol=1e-5)
    assert np.allclose(first.action, ROBOT.home + 0.02 * steps, atol=1e-5)
    assert np.allclose(first.executed, ROBOT.home + 0.015 * steps, atol=1e-5)
    assert np.allclose(first.features["goal"], 0.1 * steps * np.ones(3), atol=1e-6)
    columns = dataset.columns(0)
    assert (columns["supervisor"] == CODES[Phase.RUNNING]).all()
    assert np.allclose(columns["servo.temperature"], 30 + steps) and np.allclose(
        columns["servo.current"], 0.1
    )
    assert np.allclose(columns["servo.load"], 0.01 * steps)


def test_each_frame_gets_the_picture_taken_before_it(make, tmp_path):
    grey = Grey()
    recorder = make(cameras={"front": CAMERA}, pictures={"front": grey})

    def each(i):
        # A picture every third frame, taken just before it.
        if i % 3 == 0:
            grey.show(100.0 + i / 30 - 0.001, i)
            time.sleep(0.1)

    feed(recorder, 18, each=each)
    recorder.end(False)
    recorder.close()
    shown = np.array([image.mean() for image in LeRobotDataset.open(tmp_path / "set").frames(0, "front")])
    due = np.array([10 * (i - i % 3) for i in range(18)])
    # A busy machine may miss a picture; what must not be is one from the future, or an older one again.
    assert (shown <= due + 4).all() and (np.diff(shown) >= -4).all()
    assert len(np.unique(np.round(shown))) > 2


def test_a_stopped_recorder_never_blocks_the_loop(make):
    recorder = make()
    os.kill(recorder._process.pid, signal.SIGSTOP)
    try:
        feed(recorder, 20_000)
        assert 0 < recorder.lost < 20_000
    finally:
        os.kill(recorder._process.pid, signal.SIGCONT)


def test_a_hung_recorder_is_given_up_long_before_a_slow_one(make, monkeypatch):
    """Nobody answers and nobody works: the arm that holds meanwhile does not wait for the whole time allowed."""
    monkeypatch.setattr("hardware.runtime.recording.recorder.IDLE_TIMEOUT", 0.5)
    monkeypatch.setattr("hardware.runtime.recording.recorder.SAVE_TIMEOUT", 1e6)
    recorder = make()
    feed(recorder, 12)
    os.kill(recorder._process.pid, signal.SIGSTOP)
    with pytest.raises(Sim2RealError, match="does not answer"):
        recorder.end(True)
    recorder.close()
    assert not recorder._process.is_alive()


def test_a_dead_recorder_is_reported_and_keeps_what_was_saved(make, tmp_path):
    recorder = make()
    feed(recorder, 12)
    recorder.end(True)
    feed(recorder, 12)
    recorder._process.kill()
    recorder._process.join()
    with pytest.raises(Sim2RealError, match="saved before are safe"):
        recorder.end(True)
    assert len(LeRobotDataset.open(tmp_path / "set")) == 1


def test_nobody_collects_an_episode_that_nobody_records(make):
    """Dead before the episode begins: it does not begin. Dead before its first frame: that is said."""
    recorder = make()
    recorder.begin()
    assert recorder.problem == ""
    recorder._process.kill()
    recorder._process.join()
    assert "has ended" in recorder.problem
    with pytest.raises(Sim2RealError, match="saved before are safe"):
        recorder.end(True)
    with pytest.raises(Sim2RealError, match="saved before are safe"):
        recorder.begin()


def test_a_folder_that_cannot_take_it_is_refused(make, tmp_path):
    recorder = make()
    feed(recorder, 12)
    recorder.end(True)
    recorder.close()
    with pytest.raises(UserError, match="other features"):
        make(cameras={"front": CAMERA}, pictures={"front": Grey()})


def ended(dataset: LeRobotDataset) -> list[str]:
    return [entry.ended for entry in dataset.episodes]


def test_the_death_of_control_costs_at_most_the_last_frame(make, tmp_path):
    recorder = make()
    feed(recorder, 12)
    recorder.end(True)
    feed(recorder, 25)
    # What the recorder sees of a control process that has been killed.
    recorder._commands.close()
    recorder._frames.close()
    recorder._process.join(30)
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert ended(dataset) == ["", "recovered"]
    assert [len(entry) for entry in (dataset.episode(i, ROBOT) for i in range(2))] == [12, 25]
    assert dataset.episodes[1].success is None


def test_the_death_of_the_recorder_is_made_good_by_the_next_one(make, tmp_path):
    recorder = make()
    feed(recorder, 40)
    rows = tmp_path / "set" / ".journal" / "000001" / "rows.bin"
    # Its head alone has some three thousand bytes, a frame more than two hundred.
    assert wait(lambda: rows.exists() and rows.stat().st_size > 10_000, 30)
    assert pending(tmp_path / "set") == 1 and recorder.problem == ""
    recorder._process.kill()
    recorder._process.join()
    assert "recovered by the next recording" in recorder.problem
    with pytest.raises(Sim2RealError, match="recovered by the next recording"):
        recorder.end(True)
    following = make()
    (episode,) = following.recovered
    assert episode.index == 0 and 10 < episode.frames <= 40
    feed(following, 15)
    following.end(False, "stopped")
    following.close()
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert ended(dataset) == ["recovered", "stopped"]
    np.testing.assert_allclose(
        dataset.episode(0, ROBOT).state, ROBOT.home + 0.01 * np.arange(episode.frames)[:, None], atol=1e-5
    )


def test_a_terminated_recorder_saves_what_it_has(make, tmp_path):
    recorder = make()
    feed(recorder, 30)
    recorder._process.terminate()
    recorder._process.join(30)
    assert ended(LeRobotDataset.open(tmp_path / "set")) == ["recovered"]


def test_a_full_disk_is_reported_and_the_loop_goes_on(make, tmp_path):
    recorder = make()
    feed(recorder, 12)
    recorder.end(True)
    resource.prlimit(recorder._process.pid, resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    feed(recorder, 500)
    assert wait(lambda: recorder.problem != "", 30)
    assert "cannot write" in recorder.problem
    with pytest.raises(Sim2RealError, match="the rest of this episode will be missing"):
        recorder.end(True)
    resource.prlimit(recorder._process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    feed(recorder, 14)
    assert recorder.problem == ""
    recorder.end(False)
    recorder.close()
    assert len(LeRobotDataset.open(tmp_path / "set")) == 2
    (episode,) = recover(tmp_path / "set")
    assert 12 < episode.frames < 500


def test_moved_by_hand_the_action_is_the_next_state(make, tmp_path):
    recorder = make(hand_guided=True)
    feed(recorder, 20)
    recorder.end(True)
    recorder.close()
    dataset = LeRobotDataset.open(tmp_path / "set")
    episode = dataset.episode(0, ROBOT)
    assert np.array_equal(episode.action[:-1], episode.state[1:]) and dataset.notes["hand_guided"] is True
    assert np.array_equal(episode.executed, episode.action)


def test_who_acted_and_what_the_policy_wanted_is_recorded(tmp_path):
    class Person:
        acting = 0

        def wanted(self, time, n):
            return np.full(n, np.nan) if self.acting == 2 else np.array(ROBOT.home) + 0.1 * self.acting

    person = Person()
    config = RecorderConfig(
        str(tmp_path / "set"), "so101", CALIBRATION.table(), "lift", objects=LIFT.objects, corrections=True
    )
    recorder = RecorderProcess(config, wait, person)
    try:
        feed(recorder, 9, each=lambda i: setattr(person, "acting", (0, 2, 1)[min(i, 8) // 3]))
        recorder.end(True)
    finally:
        recorder.close()
    data = LeRobotDataset.open(tmp_path / "set")
    columns = data.columns(0)
    acted, wanted = np.ravel(columns["intervention"]), columns["policy.action"]
    assert acted.tolist() == [0, 0, 0, 2, 2, 2, 1, 1, 1]
    # In the units of the actions; that of a frame is known when the next one begins.
    expected = CALIBRATION.from_radians(np.array(ROBOT.home) + 0.1, "degrees")
    assert np.allclose(wanted[6:], expected, atol=1e-3) and np.isnan(wanted[2:5]).all()
