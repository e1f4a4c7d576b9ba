"""`sim2real setup` as a user runs it, on the emulated arm's pty."""

import json
import os
import pty
import subprocess
import sys

import pytest

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.plant import IdealPlant
from hardware.emulator.pty_port import Pty
from hardware.emulator.wire import EmulatedBus
from pipelines.cli import main
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime

SERVE = """
import select, sys
from tests.pipelines.test_setup import line
pty = line(sys.argv[1], int(sys.argv[2]))
print("ready", flush=True)
pty.serve(until=lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
pty.close()
"""


def line(link: str, count: int) -> Pty:
    """The first `count` servos of an SO-101 on a pty."""
    robot = Robot.load("so101")
    plant, calibration = IdealPlant(robot.n, robot.rest), emulated_calibration(robot)
    return Pty(EmulatedBus(build_servos(robot, plant, calibration)[:count], plant), link=link)


@pytest.fixture
def start(tmp_path):
    """Start an emulated line with so many servos; returns its port."""
    running = []

    def make(count: int) -> str:
        link = str(tmp_path / f"tty{len(running)}")
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, link, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout.readline() == b"ready\n"
        return link

    yield make
    for process in running:
        process.communicate(b"\n", timeout=30)


def test_the_whole_arm(start, capsys):
    port = start(6)
    assert main(["setup", "--port", port, "--robot", "so101", "--baud", "1000000", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] and answer["problems"] == []
    assert [servo["joint"] for servo in answer["servos"]] == list(Robot.load("so101").joint_names)
    assert {(servo["model"], servo["baud"]) for servo in answer["servos"]} == {("STS3215", 1_000_000)}


def test_another_kind_of_arm_is_called_so(start, capsys):
    assert main(["setup", "--port", start(1), "--robot", "koch", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [servo["protocol"] for servo in answer["servos"]] == ["feetech"]
    assert answer["problems"] == [
        "these servos speak feetech, those of koch dynamixel: is it another robot? (`sim2real robots` lists them)"
    ]


def test_a_servo_becomes_a_joint(start, capsys):
    port = start(1)
    common = ["setup", "--port", port, "--robot", "so101", "--baud", "1000000"]
    assert main([*common, "--joint", "gripper", "--alone", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["servo"]["joint"] == "gripper"
    assert main(common) == 1
    out = capsys.readouterr().out
    assert "STS3215" in out and "problem: nobody answers as shoulder_pan (ID 1)" in out
    assert main(["setup", "--port", port, "--baud", "1000000", "--set-id", "9", "--alone"]) == 0
    assert capsys.readouterr().out == "done: STS3215 with ID 9 at 1000000 baud\n"


def test_a_script_vouches_or_nothing_is_written(start, capsys):
    port = start(1)
    assert main(["setup", "--port", port, "--baud", "1000000", "--set-id", "9"]) == 2
    assert "a script cannot be asked. Nothing was written" in capsys.readouterr().err
    assert main(["setup", "--port", port, "--baud", "1000000", "--json"]) == 0
    assert [servo["id"] for servo in json.loads(capsys.readouterr().out)["servos"]] == [1]


def test_several_servos_are_not_written_to(start, capsys):
    port = start(2)
    assert main(["setup", "--port", port, "--baud", "1000000", "--set-id", "7"]) == 2
    assert "connect one servo alone" in capsys.readouterr().err
    assert main(["setup", "--port", port, "--baud", "1000000", "--id", "1", "--set-id", "2"]) == 2
    assert "the ID 2 is taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "/dev/nosuch"], "there is no serial port /dev/nosuch"),
        (["--port", "p", "--protocol", "can"], "no protocol 'can'; known are feetech, dynamixel"),
        (["--port", "p", "--baud", "9601"], "no servo runs at 9601 baud"),
        (["--port", "p", "--robot", "so101", "--protocol", "dynamixel"], "so101 speaks 'feetech'"),
        (["--port", "p", "--joint", "gripper"], "need --robot"),
        (["--port", "p", "--robot", "so101", "--joint", "g", "--set-id", "2"], "exclude each other"),
        (["--port", "p", "--set-id", "300"], "--set-id must be 0 to 253, got 300"),
        (["--port", "/dev/null"], "/dev/null is not a serial port"),
        (["--port", "p", "--id", "2"], "add --set-id, --set-baud or --joint"),
        (["--port", "p", "--robot", "so101", "--each"], "needs a terminal"),
    ],
)
def test_mistakes_cost_one_message(words, said, capsys):
    assert main(["setup", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_every_joint_guided(start, tmp_path):
    """On a terminal: two joints are skipped or done, then q; what cannot be is said and asked again."""
    port = start(1)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "setup", "--port", port, "--robot", "so101", "--each"],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = ""

    def answer(after: str, keys: bytes) -> None:
        nonlocal said
        while after not in said:
            said += os.read(ours, 4096).decode()
        said = said.split(after, 1)[1]
        os.write(ours, keys)

    answer("Connect the servo of gripper alone (it becomes ID 6)", b"\n")
    answer("Connect the servo of wrist_roll alone", b"s\n")
    answer("Connect the servo of wrist_flex alone", b"q\n")
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 1
    assert out.decode() == "gripper: STS3215 with ID 6 at 1000000 baud\n1 of 6 servos set up\n"
