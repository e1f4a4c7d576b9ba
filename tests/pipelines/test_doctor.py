"""`sim2real doctor` as a user runs it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hardware.emulator.launch import EmulatorHandle, start_emulator
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime


def _doctor(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "doctor", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    with start_emulator("so101", camera=False) as handle:
        yield handle


def test_installation_is_checked() -> None:
    done = _doctor("--json")
    answer = json.loads(done.stdout)
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["pybullet with numpy"]["ok"]
    for package in ("sim2real", "hardware", "randomization", "pipelines"):
        assert checks[f"package {package}"]["ok"], checks[f"package {package}"]
    assert done.returncode == (0 if answer["ok"] else 1)


def test_servos_are_checked(emulator: EmulatorHandle) -> None:
    answer = json.loads(
        _doctor("--port", emulator.port, "--calibration", emulator.calibration, "--json").stdout
    )
    servos = answer["port"]["servos"]
    assert [servo["joint"] for servo in servos] == list(Robot.load("so101").joint_names)
    assert {servo["model"] for servo in servos} == {777}
    assert all(servo["torque_enable"] == 0 for servo in servos)
    assert answer["port"]["statistics"]["exchanges"] > 100
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["servos"]["ok"] and checks["calibration"]["ok"]
    assert checks["firmware"]["detail"] == "STS3215: 3.10"
    assert (
        answer["port"]["reads"] == 300
        and "in 300 readings of 6 servos" in checks["errors on the bus"]["detail"]
    )


def test_servos_of_another_family_are_checked() -> None:
    done = _doctor("--port", "emulated", "--robot", "koch", "--reads", "50", "--json")
    answer = json.loads(done.stdout)
    servos = answer["port"]["servos"]
    assert [servo["joint"] for servo in servos] == list(Robot.load("koch").joint_names)
    assert [servo["model_name"] for servo in servos] == ["XL430-W250"] * 2 + ["XL330-M288"] * 4
    assert all(4 < servo["voltage"] < 13 and servo["firmware"] for servo in servos)
    assert answer["port"]["problems"] == [] and answer["port"]["reads"] == 50
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["servos"]["ok"] and checks["calibration"]["ok"]


def test_a_wrong_calibration_is_named(emulator: EmulatorHandle, tmp_path: object) -> None:
    with open(emulator.calibration) as file:
        table = json.load(file)
    table["wrist_flex"]["range_max"] -= 7
    path = f"{tmp_path}/other.json"
    with open(path, "w") as file:
        json.dump(table, file)
    done = _doctor("--port", emulator.port, "--calibration", path)
    assert done.returncode == 1
    assert "wrist_flex: max_position_limit is" in done.stdout


def test_a_missing_port_is_one_message() -> None:
    done = _doctor("--port", "/dev/nosuch")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("sim2real doctor: there is no serial port /dev/nosuch")
    assert "Traceback" not in done.stderr


def test_a_wrong_number_of_reads_is_one_message() -> None:
    done = _doctor("--reads", "0")
    assert done.returncode == 2 and done.stderr == "sim2real doctor: --reads must be at least 1, got 0\n"
