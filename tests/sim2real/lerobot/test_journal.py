"""What is left of a recording that was broken off at any moment."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim2real.calibration import Calibration
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import EpisodeRecorder, LeRobotDataset, journal
from sim2real.lerobot.journal import FolderLock, pending, recover
from sim2real.robot import Robot

from .test_writer import check_consistent

FPS = 30
CAMERA = CameraModel.looking_at((0.4, 0.3, 0.4), (0.2, 0.0, 0.0), width=64, height=48, name="front")


def start(root: Path, robot: Robot, *, cameras: bool = True, **more) -> EpisodeRecorder:
    return EpisodeRecorder(
        root, robot, Calibration.nominal(robot), environment={"goal": 3}, task="reach",
        cameras={"front": CAMERA} if cameras else {}, **more,
    )  # fmt: skip


def frame(robot: Robot, i: int) -> dict:
    """Frame i: everything in it follows from its number."""
    return {
        "time": i / FPS,
        "state": robot.home + 0.001 * i,
        "action": robot.home + 0.002 * i,
        "executed": robot.home + 0.003 * i,
        "environment": {"goal": np.full(3, 0.01 * i)},
        "images": {"front": np.full((48, 64, 3), i % 250, np.uint8)},
        "image_times": {"front": i / FPS - 0.01},
    }


def check_frames(dataset: LeRobotDataset, position: int, robot: Robot, first: int = 0) -> None:
    """The episode holds frames `first`, `first` + 1, … and nothing else."""
    episode = dataset.episode(position, robot)
    i = first + np.arange(len(episode))
    np.testing.assert_allclose(episode.state, robot.home + 0.001 * i[:, None], atol=1e-5)
    np.testing.assert_allclose(episode.action, robot.home + 0.002 * i[:, None], atol=1e-5)
    np.testing.assert_allclose(episode.executed, robot.home + 0.003 * i[:, None], atol=1e-5)
    np.testing.assert_allclose(episode.features["goal"], 0.01 * i[:, None] * np.ones(3), atol=1e-6)
    np.testing.assert_allclose(episode.time, (i - first) / FPS, atol=1e-9)
    if dataset.cameras:
        shown = [image.mean() for image in dataset.frames(position, "front")]
        np.testing.assert_allclose(shown, i % 250, atol=6)
        np.testing.assert_allclose(dataset.columns(position)["time.front"], i / FPS - 0.01, atol=1e-9)


CHILD = """
import sys, time
from pathlib import Path
from sim2real.robot import Robot
from tests.sim2real.lerobot.test_journal import frame, start
robot = Robot.load("so101")
recorder = start(Path(sys.argv[1]), robot)
count = 0
for episode, length in enumerate([40, 10_000]):
    for i in range(length):
        recorder.add(**frame(robot, i))
        count += 1
        print(count, flush=True)
        time.sleep(0.002)
    recorder.save("reach", True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 25, 39, 40, 75, 131])
def test_a_kill_costs_less_than_a_second(frames: int, robot: Robot, tmp_path: Path) -> None:
    root = tmp_path / "set"
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    # Wherever it is by then: in the middle of a frame, or of saving the first episode.
    for line in process.stdout:
        if int(line) >= frames:
            break
    process.send_signal(signal.SIGKILL)
    seen = int([line, *process.stdout.read().split()][-1])
    process.wait()
    expected, finished = (seen, 0) if seen < 40 else (seen - 40, 1)
    found = recover(root)
    assert pending(root) == 0 and not (root / journal.FOLDER).exists()
    recovered = sum(episode.frames for episode in found)
    if seen == 40:
        # The first episode was saved, or it was recovered.
        finished = len(LeRobotDataset.open(root)) - len(found)
        expected = 40 * (1 - finished)
    assert expected - FPS < recovered <= expected + 2
    assert recover(root) == []
    if finished + len(found):
        dataset = check_consistent(root)
        assert [(e.success, e.ended) for e in dataset.episodes] == [(True, "")] * finished + [
            (None, "recovered")
        ] * len(found)
        for position in range(len(dataset)):
            check_frames(dataset, position, robot)
    # The folder takes the next recording.
    recorder = start(root, robot)
    for i in range(12):
        recorder.add(**frame(robot, i))
    recorder.save("reach", False)
    recorder.close()
    assert len(check_consistent(root)) == finished + len(found) + 1


def broken_off(root: Path, robot: Robot, frames: int = 20) -> Path:
    """A folder as a recorder leaves it that dies after so many frames; its rows."""
    recorder = start(root, robot, cameras=False)
    for i in range(frames):
        recorder.add(**frame(robot, i) | {"images": None, "image_times": None})
    assert recorder._journal is not None and recorder._lock is not None
    recorder._journal.close()
    recorder._lock.release()
    return recorder._journal.folder / journal.ROWS


@pytest.mark.parametrize("cut", [1, 50, 300])
def test_a_torn_record_costs_what_follows_it(cut: int, robot: Robot, tmp_path: Path) -> None:
    rows = broken_off(tmp_path / "a", robot)
    whole = rows.read_bytes()
    header = whole.index(b"\n") + 1
    size = (len(whole) - header) // 20
    rows.write_bytes(whole[:-cut])
    (episode,) = recover(tmp_path / "a")
    assert episode.frames == 20 - -(-cut // size)
    check_frames(check_consistent(tmp_path / "a"), 0, robot)
    # After a loss of power blocks of a file may read as zeros.
    rows = broken_off(tmp_path / "b", robot)
    content = bytearray(rows.read_bytes())
    at = header + 7 * size + cut % size
    content[at : at + 1] = bytes([content[at] ^ 0x10])
    rows.write_bytes(content)
    (episode,) = recover(tmp_path / "b")
    assert episode.frames == 7
    check_frames(check_consistent(tmp_path / "b"), 0, robot)


@pytest.mark.parametrize("content", [b"", b"{", b"{}\n", b'{"fps": 30}\n123'])
def test_a_journal_without_a_frame_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / journal.FOLDER / "000001"
    folder.mkdir(parents=True)
    (folder / journal.ROWS).write_bytes(content)
    assert recover(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_what_was_saved_is_not_recovered_again(robot: Robot, tmp_path: Path) -> None:
    recorder = start(tmp_path, robot)
    for i in range(40):
        recorder.add(**frame(robot, i))
    # Killed between the end of saving and the removal of the journal.
    shutil.copytree(tmp_path / journal.FOLDER, tmp_path / "kept")
    recorder.save("reach", True)
    recorder.close()
    (tmp_path / "kept").rename(tmp_path / journal.FOLDER)
    assert pending(tmp_path) == 1
    assert recover(tmp_path) == [] and pending(tmp_path) == 0
    assert len(check_consistent(tmp_path)) == 1


def test_discarding_leaves_nothing(robot: Robot, tmp_path: Path) -> None:
    recorder = start(tmp_path, robot)
    recorder.add(**frame(robot, 0))
    assert pending(tmp_path) == 1
    recorder.discard()
    assert pending(tmp_path) == 0
    recorder.close()


def test_a_full_disk_ends_the_episode_and_keeps_its_beginning(robot: Robot, tmp_path: Path) -> None:
    recorder = start(tmp_path, robot)
    for i in range(30):
        recorder.add(**frame(robot, i))
    recorder.save("reach", True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        refused = None
        for i in range(400):
            recorder.add(**frame(robot, i))
            if recorder.problem and refused is None:
                refused = i
        assert refused is not None and 20 < refused < 399
        with pytest.raises(Sim2RealError, match="cannot write .* of an episode .*--recover"):
            recorder.save("reach", True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # There is room again: the next episode can be saved, and what was written before is there.
    assert recorder.problem == ""
    for i in range(20):
        recorder.add(**frame(robot, i))
    recorder.save("reach", False)
    recorder.close()
    assert pending(tmp_path) == 1
    (episode,) = recover(tmp_path)
    assert refused - FPS < episode.frames <= refused
    dataset = check_consistent(tmp_path)
    assert [e.ended for e in dataset.episodes] == ["", "", "recovered"]
    check_frames(dataset, 2, robot)


def test_a_disk_that_fills_up_while_saving(robot: Robot, tmp_path: Path) -> None:
    recorder = start(tmp_path, robot, cameras=False)
    for i in range(30):
        recorder.add(**frame(robot, i) | {"images": None, "image_times": None})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(Sim2RealError, match="--recover"):
            recorder.save("reach", True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recorder.close()
    (episode,) = recover(tmp_path)
    assert episode.frames == 30
    check_frames(check_consistent(tmp_path), 0, robot)


def test_one_recorder_per_folder(robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LOCK_TIMEOUT", 0.1)
    lock = FolderLock(tmp_path)
    with pytest.raises(UserError, match="another process is recording into"):
        FolderLock(tmp_path, 0.1)
    lock.release()
    recorder = start(tmp_path, robot)
    recorder.close()
    start(tmp_path, robot).close()


def test_a_folder_takes_one_kind_of_recording(robot: Robot, tmp_path: Path) -> None:
    recorder = start(tmp_path, robot, cameras=False, notes={"hand_guided": True})
    recorder.add(**frame(robot, 0) | {"images": None, "image_times": None})
    recorder.save("reach", None)
    recorder.close()
    assert LeRobotDataset.open(tmp_path).notes["hand_guided"] is True
    with pytest.raises(UserError, match="moved by hand, this is the arm moved by its servos"):
        start(tmp_path, robot, cameras=False)


def test_older_sets_can_be_continued(robot: Robot, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    def add() -> None:
        recorder = start(tmp_path, robot, cameras=False)
        for i in range(5):
            recorder.add(**frame(robot, i) | {"images": None, "image_times": None})
        recorder.save("reach", True)
        recorder.close()

    add()
    table = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(table).drop_columns(["ended", "recording"]), table)
    add()
    dataset = check_consistent(tmp_path)
    assert [e.ended for e in dataset.episodes] == ["", ""] and len(dataset) == 2
