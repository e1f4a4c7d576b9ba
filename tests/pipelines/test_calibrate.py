"""`sim2real calibrate` and `check-calibration` as a user runs them, on a limp arm that a hand moves."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hardware.arm.serial_arm import open_bus
from hardware.emulator.assembly import emulated_calibration
from pipelines.cli import main
from sim2real.calibration import Calibration
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
TRUTH = emulated_calibration(ROBOT)
PHOSPHO = {
    "name": "so-100",
    "servos_offsets": [2045.0, 2049.0, 2048.0, 2048.0, 2047.0, 2048.0],
    "servos_calibration_position": [1067.0, 3085.0, 1139.0, 949.0, 3146.0, 3274.0],
    "servos_offsets_signs": [-1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
}


class Arm:
    def __init__(self, port: str) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.limp_arm", port],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout.readline() == b"ready\n"

    def hand(self) -> None:
        self.process.stdin.write(b"hand\n")
        self.process.stdin.flush()

    def stored(self) -> dict[str, tuple[int, ...]]:
        bus = open_bus(ROBOT, self.port)
        try:
            names = ("homing_offset", "min_position_limit", "max_position_limit")
            return {
                joint.name: tuple(bus.read(joint.servo_id, name, 0.5) for name in names)
                for joint in ROBOT.joints
            }
        finally:
            bus.close()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def as_stored(table: dict[str, dict[str, int]]) -> dict[str, tuple[int, ...]]:
    return {name: (e["homing_offset"], e["range_min"], e["range_max"]) for name, e in table.items()}


@pytest.fixture
def arm(tmp_path):
    arm = Arm(str(tmp_path / "tty"))
    yield arm
    arm.close()


@pytest.mark.slow
def test_a_script_calibrates_while_somebody_moves_the_arm(arm, tmp_path, capsys):
    out = tmp_path / "arm.json"
    out.write_text("an older one")
    timer = threading.Timer(0.7, arm.hand)
    timer.start()
    status = main(["calibrate", "--port", arm.port, "--out", str(out), "--seconds", "9", "--json"])
    timer.join()
    answer = json.loads(capsys.readouterr().out)
    assert status == 0 and answer["ok"] and answer["stored_in_servos"] and answer["todo"] == []
    table = json.loads(out.read_text())
    assert table == answer["calibration"] and arm.stored() == as_stored(table)
    found = Calibration.load(out, ROBOT)
    spans = (found.range_max - found.range_min) / (TRUTH.range_max - TRUTH.range_min)
    assert np.delete(spans, 4) == pytest.approx(1.0, abs=0.02)
    assert (tmp_path / "arm.json.bak").read_text() == "an older one"
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["arm.json", "arm.json.bak"]
    # What has been written is what check-calibration finds, and where the arm is said to be is where it is.
    picture = tmp_path / "arm.png"
    status = main(["check-calibration", str(out), "--port", arm.port, "--draw", str(picture), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert status == 0 and answer["ok"] and answer["problems"] == [] and answer["doubts"] == []
    degrees = [joint["degrees"] for joint in answer["pose"]["joints"].values()]
    assert np.abs(degrees[:5]).max() < 1.5
    import cv2

    image = cv2.imread(str(picture))
    assert image.shape == (480, 960, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_an_arm_that_nobody_moves_is_not_calibrated(arm, tmp_path, capsys):
    before = arm.stored()
    out = tmp_path / "arm.json"
    assert main(["calibrate", "--port", arm.port, "--out", str(out), "--seconds", "0.3"]) == 2
    assert "not moved to both stops: shoulder_pan" in capsys.readouterr().err
    assert arm.stored() == before and not out.exists()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *words], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        self.said = ""

    def wait_until(self, done) -> None:
        while not done(self.said):
            self.said += os.read(self._ours, 4096).decode()

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda said: text in said)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> tuple[int, str]:
        drained = threading.Thread(target=self._drain, daemon=True)
        drained.start()
        out, _ = self.process.communicate(timeout=60)
        os.close(self._ours)
        return self.process.returncode, out.decode()

    def _drain(self) -> None:
        try:
            while data := os.read(self._ours, 4096):
                self.said += data.decode()
        except OSError:
            pass


def test_guided(arm, tmp_path):
    out = tmp_path / "arm.json"
    terminal = Terminal("calibrate", "--port", arm.port, "--out", str(out))
    terminal.wait_for("The arm goes limp")
    terminal.type(b"\n")
    terminal.wait_for("wrist_roll exactly: this becomes its zero), then press Enter")
    terminal.type(b"\n")
    terminal.wait_for("Move every joint slowly to both its stops")
    terminal.type(b"\n")
    terminal.wait_for("not yet: shoulder_pan (")
    arm.hand()
    # The last joint is the gripper.
    terminal.wait_until(lambda said: re.search(r"gripper [^\n]*seen", said))
    terminal.type(b"\n")
    status, printed = terminal.end()
    assert status == 0, terminal.said
    assert f"written to {out} and into the servos" in printed
    assert arm.stored() == as_stored(json.loads(out.read_text()))


def test_ctrl_c_leaves_everything_as_it_was(arm, tmp_path):
    before = arm.stored()
    terminal = Terminal("calibrate", "--port", arm.port, "--out", str(tmp_path / "arm.json"))
    terminal.wait_for("The arm goes limp")
    terminal.type(b"\n")
    terminal.wait_for("then press Enter")
    terminal.type(b"\n")
    terminal.wait_for("Move every joint")
    terminal.process.send_signal(signal.SIGINT)
    status, _ = terminal.end()
    assert status == 130 and "Traceback" not in terminal.said
    assert arm.stored() == before and not list(tmp_path.glob("*.json*"))


def test_lerobots_file_is_taken_over(arm, tmp_path, capsys):
    source, out = tmp_path / "lerobot.json", tmp_path / "arm.json"
    table = TRUTH.table()
    table["elbow_flex"]["range_max"] -= 12
    source.write_text(json.dumps(table))
    words = ["calibrate", "--import", str(source), "--out", str(out)]
    assert main(words) == 0
    assert "still to do: write it into the servos" in capsys.readouterr().out
    assert arm.stored() == as_stored(TRUTH.table())
    assert main([*words, "--port", arm.port]) == 0
    assert arm.stored() == as_stored(table) == as_stored(json.loads(out.read_text()))


def test_phosphobots_file_is_taken_over_with_what_is_to_be_done(arm, tmp_path, capsys):
    source, out = tmp_path / "so-100_config.json", tmp_path / "arm.json"
    source.write_text(json.dumps(PHOSPHO))
    assert main(["calibrate", "--import", str(source), "--out", str(out), "--port", arm.port, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "not recorded" in answer["todo"][0]
    found = Calibration.load(out, ROBOT)
    assert found.homing_offset.tolist() == TRUTH.homing_offset.tolist(), "what the servos have"
    assert arm.stored() == as_stored(answer["calibration"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give its --port"),
        (["--port", "/dev/nosuch", "--seconds", "1"], "no serial port /dev/nosuch"),
        (["--port", "/dev/nosuch"], "needs a terminal; for scripts give --seconds S"),
        (["--port", "p", "--seconds", "-1"], "must be positive"),
        (["--import", "x.json", "--seconds", "1"], "exclude each other"),
        (["--import", "x.json"], "no calibration file at x.json"),
        (["--import", "x.json", "--out", "/no/such/dir/c.json"], "the directory /no/such/dir does not exist"),
        (["--port", "p", "--seconds", "1", "--out", "/dev"], "--out /dev is a folder; name a file"),
        (["--port", "p", "--seconds", "1", "--out", "/proc/c.json"], "/proc cannot be written to"),
        (["--port", "p", "--robot", "koala"], "no robot called 'koala'"),
    ],
)
def test_mistakes_cost_one_message(words, said, capsys):
    assert main(["calibrate", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


# check-calibration


def check(path: Path, table: object, capsys, *words: str) -> tuple[int, dict]:
    path.write_text(json.dumps(table))
    status = main(["check-calibration", str(path), "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def changed(**joints: dict[str, int]) -> dict[str, dict[str, int]]:
    table = TRUTH.table()
    for name, change in joints.items():
        table[name] |= change
    return table


@pytest.mark.parametrize(
    ("joints", "words"),
    [
        ({"elbow_flex": {"range_min": 1, "range_max": 4095}}, ["elbow_flex has a range of 4094", "wrapped"]),
        ({"gripper": {"range_min": 0, "range_max": 4095}}, ["gripper has a range of 4095"]),
        ({"elbow_flex": {"id": 2}}, ["shoulder_lift and elbow_flex both have the servo id 2"]),
        ({"shoulder_pan": {"range_max": 4200}}, ["shoulder_pan has range_max 4200"]),
        (
            {"shoulder_pan": {"range_max": 9}, "wrist_flex": {"drive_mode": 3}, "gripper": {"id": 9}},
            ["shoulder_pan has range_min", "wrist_flex has drive_mode 3", "gripper has the servo id 9"],
        ),
    ],
)
def test_every_problem_is_listed(joints, words, tmp_path, capsys):
    status, answer = check(tmp_path / "c.json", changed(**joints), capsys)
    assert status == 1 and not answer["ok"] and len(answer["problems"]) >= len(joints)
    for word in words:
        assert any(word in problem for problem in answer["problems"])


def test_the_arm_of_a_robot_on_wheels_is_judged_alone(tmp_path, capsys):
    wheels = {f"base_{side}_wheel": TRUTH.table()["gripper"] | {"id": 7} for side in ("left", "right")}
    table = {f"arm_{name}": entry for name, entry in TRUTH.table().items()} | wheels
    status, answer = check(tmp_path / "c.json", table, capsys)
    assert status == 0 and answer["ok"] and answer["left_out"] == list(wheels)
    assert main(["check-calibration", str(tmp_path / "c.json")]) == 0
    assert "left out: base_left_wheel, base_right_wheel" in capsys.readouterr().out
    table["arm_elbow_flex"] = table["arm_elbow_flex"] | {"range_min": 1, "range_max": 4095}
    status, answer = check(tmp_path / "c.json", table, capsys)
    assert status == 1 and "joint elbow_flex has a range of 4094" in answer["problems"][0]


def test_a_range_that_was_not_recorded_to_its_ends_is_doubtful(tmp_path, capsys):
    status, answer = check(tmp_path / "c.json", changed(elbow_flex={"range_max": 2400}), capsys)
    assert status == 0 and answer["ok"] and "joint elbow_flex has a range" in answer["doubts"][0]


def test_what_is_no_calibration_is_a_problem_and_what_is_no_file_a_mistake(tmp_path, capsys):
    status, answer = check(tmp_path / "c.json", PHOSPHO, capsys)
    assert status == 1 and "sim2real calibrate --import" in answer["problems"][0]
    assert check(tmp_path / "c.json", [1], capsys)[0] == 1
    for words, said in (
        (["/no/such.json"], "no calibration file at /no/such.json"),
        ([__file__], "cannot read the calibration file"),
        ([str(tmp_path / "c.json"), "--draw", "x.png"], "needs its --port"),
        ([str(tmp_path / "c.json"), "--port", "p", "--draw", "x.jpg"], "takes a .png file"),
        ([str(tmp_path / "c.json"), "--robot", "koala"], "no robot called"),
    ):
        assert main(["check-calibration", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.strip().splitlines()) == 1


def test_another_arms_file_disagrees_with_the_servos(arm, tmp_path, capsys):
    status, answer = check(
        tmp_path / "c.json", changed(wrist_flex={"homing_offset": 5}), capsys, "--port", arm.port
    )
    assert status == 1
    (problem,) = answer["problems"]
    assert problem.startswith("wrist_flex: homing_offset is") and "is 5 in the file" in problem
    (tmp_path / "c.json").write_text(json.dumps(TRUTH.table()))
    assert main(["check-calibration", str(tmp_path / "c.json"), "--port", arm.port]) == 0
    page = capsys.readouterr().out
    assert "no problem found" in page and "cm above the table" in page


def test_real_files_are_judged(capsys):
    root = os.environ.get("SIM2REAL_REAL_DATA")
    if not root:
        pytest.skip("SIM2REAL_REAL_DATA is not set: no real calibration files to judge")
    good = 0
    for path in sorted(Path(root).glob("calibrations/*.json")):
        status = main(["check-calibration", str(path), "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert status == (0 if answer["ok"] else 1)
        good += answer["ok"]
    assert good > 5
