"""`record` by hand with keys on a terminal, and `play`, on the emulated arm."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from hardware.emulator.launch import start_emulator
from pipelines.cli import main
from pipelines.deployment.request import Options, prepare
from pipelines.deployment.result import summary
from sim2real.camera import save_cameras
from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "t", "--leader", "a", "--hand"], "--leader and --hand exclude each other"),
        (["--task", "t", "--hand", "--policy", "expert"], "--policy and --hand exclude each other"),
        (["--task", "t", "--leader-robot", "koch"], "give --leader PORT"),
        (["--task", "t", "--leader", "/dev/ttyNOT"], "need a port each"),
        (
            ["--task", "t", "--leader", "a", "--leader-robot", "openmanipulator_x"],
            "it has no joint shoulder_pan",
        ),
        (["--task", "t", "--leader", "a", "--leader-calibration", "no.json"], "no calibration file"),
        (["--task", "reach", "--reset-time", "3"], "it goes with --leader, --hand or --keyboard"),
        (["--task", "reach", "--seconds", "3", "--episodes", "2"], "exclude each other"),
        (["--hand"], "--task is missing"),
        (["--task", "my own words"], "my own words"),
    ],
)
def test_mistakes_cost_one_message(arguments, words, capsys, tmp_path):
    status = main(["record", *arguments, "--port", "/dev/ttyNOT", "--out", str(tmp_path / "out"), "--json"])
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert words in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_two_cameras_of_one_source_are_refused(capsys, tmp_path):
    save_cameras({name: ROBOT.cameras["front"] for name in ("front", "side")}, tmp_path / "cameras.toml")
    words = ["record", "--task", "reach", "--port", "/dev/ttyNOT", "--out", str(tmp_path / "out")]
    words += ["--cameras", str(tmp_path / "cameras.toml"), "--camera", "front=http://cam/1"]
    assert main([*words, "--camera", "side=http://cam:80/1"]) == 2
    assert (
        "the cameras 'front' (http://cam/1) and 'side' (http://cam:80/1) are one and"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["record", "deploy"])
def test_stopped_before_anything_is_written_it_says_so(command, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("pipelines.deployment.run.emulate", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    words = [
        command,
        "--task",
        "reach",
        "--policy",
        "expert",
        "--port",
        "emulated",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 130
    captured = capsys.readouterr()
    assert captured.out.endswith("nothing was written\n") and captured.err == ""
    assert main([*words, "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["out"] is None and not (tmp_path / "o").exists()


def test_where_a_person_acts_any_words_name_what_is_done():
    setup = prepare(Options("record", "p", "o", task="put it there", keyboard=True, record=True))
    assert setup.task is None and setup.name == "put it there" and setup.actor == "keyboard"
    known = prepare(Options("record", "p", "o", task="lift", keyboard=True, record=True))
    assert known.task is not None and known.name == "lift"
    with pytest.raises(UserError, match="was not found"):
        prepare(Options("record", "p", "o", task="no.such:Task", keyboard=True, record=True))


@pytest.fixture(scope="module")
def arm():
    with start_emulator("so101", camera=False) as handle:
        yield handle


class AtTerminal:
    """A command with somebody at its terminal."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *map(str, words)],
            stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def until(self, text: str, timeout: float = 240.0) -> None:
        """Read until it says so; what was said until then does not count again."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < end, f"it never said {text!r}: {self.seen[-3000:]}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"it ended without saying {text!r}: {self.seen[-3000:]}") from None
        self.seen = self.seen.split(text, 1)[1]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def result(self) -> tuple[int, dict]:
        out, _ = self.process.communicate(timeout=120)
        os.close(self.master)
        return self.process.returncode, json.loads(out)


def move_by_hand(arm, *points: tuple[float, list[float]]) -> None:
    body = json.dumps([{"time": t, "position": list(q)} for t, q in points]).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{arm.control_url}/hand", data=body)
    with opener.open(request, timeout=30) as answer:
        assert answer.status == 200


def await_position(arm, wanted: np.ndarray) -> None:
    """Until the emulated arm really stands there, however slow the machine is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        with opener.open(f"{arm.control_url}/state", timeout=30) as answer:
            if np.abs(np.array(json.load(answer)["joint_position"]) - wanted).max() < 0.06:
                return
        time.sleep(0.1)
    raise AssertionError("the arm never came there")


@pytest.mark.slow
def test_guided_by_hand_judged_by_keys_and_played_again(arm, tmp_path, capsys):
    place = ["--port", arm.port, "--calibration", arm.calibration]
    record = AtTerminal(
        "record", "--task", "wave", "--hand", *place, "--out", tmp_path / "set", "--json"
    )  # fmt: skip
    record.until("Enter begins episode 0")
    there = np.array(ROBOT.home)
    away = there + np.array([0.5, -0.2, 0.2, -0.3, 0.4, 0.3])
    # There first, then to and fro; then the hand lets go.
    move_by_hand(arm, (1.0, there), (4.0, away), (6.0, there), (8.0, there))
    time.sleep(1.2)
    record.press("\r")
    record.until("episode 0 ")
    time.sleep(5.0)
    record.press("s")
    record.until("episode 0: success")
    record.until("Enter begins episode 1")
    record.press("\r")
    record.until("episode 1 ")
    record.press("d")
    record.until("episode 1: dropped")
    record.until("Enter begins episode 2")
    record.press("q")
    status, result = record.result()
    assert status == 0 and result["episodes"] == 1 and result["successes"] == 1 and result["recorded"] == [0]
    assert result["final_state"] == "limp" and result["commands"] == 0 and result["policy"] == "hand"
    dataset = LeRobotDataset.open(tmp_path / "set")
    episode = dataset.episode(0, ROBOT)
    assert len(dataset) == 1 and dataset.tasks == ("wave",) and episode.success is True
    assert np.array_equal(episode.action[:-1], episode.state[1:])
    assert np.abs(episode.state.max(axis=0) - episode.state.min(axis=0))[0] > 0.3, "it was moved"
    assert dataset.notes["hand_guided"] is True
    # No servo was at work: nothing can be identified from it.
    assert main(["identify", "--data", str(tmp_path / "set"), "--out", str(tmp_path / "fit")]) == 2
    assert "hand" in capsys.readouterr().err

    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "play", "--dataset", tmp_path / "set", *place, "--speed", "0.8",
         "--out", tmp_path / "played", "--json"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    played = json.loads(done.stdout)
    assert played["final_state"] == "limp" and played["faults"] == []
    assert played["interventions"].get("discontinuity", 0) == 0
    assert 0 < played["tracking_rms_deg"]["shoulder_pan"] < 6
    assert played["apart_rms_deg"]["shoulder_pan"] < 8
    assert json.loads((tmp_path / "played" / "result.json").read_text()) == played
    said = summary(played | {"interventions": {"acceleration": 14}})
    assert "acceleration 14" in said and "took over" not in said


@pytest.fixture(scope="module")
def leader():
    with start_emulator("so101", camera=False) as handle:
        yield handle


@pytest.mark.slow
def test_a_leader_leads_and_keys_judge(arm, leader, tmp_path):
    """Two arms, a hand on one of them, and somebody at the keyboard."""
    start = np.array(ROBOT.rest)
    away = start + np.array([0.4, 0.2, -0.2, 0.2, 0.3, 0.3])
    move_by_hand(leader, (0.5, start), (1.0, start))
    record = AtTerminal(
        "record", "--task", "follow me", "--leader", leader.port, "--leader-calibration", leader.calibration,
        "--port", arm.port, "--calibration", arm.calibration, "--yes", "--out", tmp_path / "set", "--json",
    )  # fmt: skip
    record.until("Enter begins episode 0")
    record.press("\r")
    record.until("episode 0 ")
    move_by_hand(leader, (1.5, away), (30.0, away))
    await_position(arm, away)
    record.press("s")
    record.until("episode 0: success")
    for key, index, ended in (("r", 1, "dropped"), ("f", 1, "failure")):
        record.until(f"Enter begins episode {index}")
        record.press("\r")
        record.until(f"episode {index} ")
        time.sleep(0.3)
        record.press(key)
        record.until(f"episode {index}: {ended}")
    record.until("Enter begins episode 2")
    record.press("q")
    status, result = record.result()
    assert status == 0 and result["final_state"] == "limp" and result["faults"] == []
    assert result["policy"] == "leader" and result["recorded"] == [0, 1]
    dataset = LeRobotDataset.open(tmp_path / "set")
    assert len(dataset) == 2 and dataset.tasks == ("follow me",)
    led = dataset.episode(0, ROBOT)
    assert led.success is True and dataset.episode(1, ROBOT).success is False
    assert led.executed[-1] == pytest.approx(away, abs=0.1), "it went where the leader was led"
    assert led.state[-1] == pytest.approx(away, abs=0.15)


@pytest.mark.slow
def test_keys_move_the_arm(arm, tmp_path):
    record = AtTerminal(
        "record", "--task", "by keys", "--keyboard", "--port", arm.port, "--calibration", arm.calibration,
        "--yes", "--episodes", "1", "--out", tmp_path / "set", "--json",
    )  # fmt: skip
    record.until("Enter begins episode 0")
    record.press("\r")
    record.until("episode 0 ")
    record.press("1")
    for _ in range(8):
        record.press("\x1b[A")
        time.sleep(0.1)
    time.sleep(0.5)
    record.press("q")
    status, result = record.result()
    assert status == 130 and result["stopped"] == "stopped at the terminal"
    assert result["final_state"] == "limp" and result["policy"] == "keyboard"
    dataset = LeRobotDataset.open(tmp_path / "set")
    episode = dataset.episode(0, ROBOT)
    assert episode.success is None and dataset.episodes[0].ended == "stopped"
    moved = episode.state[-1] - episode.state[0]
    assert moved[0] == pytest.approx(8 * 0.035, abs=0.1), "eight steps of the pan joint"
    assert np.abs(moved[1:]).max() < 0.1
