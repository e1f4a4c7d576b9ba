"""`sim2real serve`, the example server, and an arm that is driven by a policy server."""

import ast
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.launch import start_emulator
from pipelines.cli import main
from pipelines.deployment.serve import PolicyServer, Served
from sim2real.errors import HardwareError, UserError
from sim2real.observation import STANDARD, standard_features
from sim2real.policies.messages import Line, Message
from sim2real.policies.remote import RemotePolicy, offered
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

ROOT = Path(__file__).parents[2]
ROBOT = Robot.load("so101")
EXAMPLE = ROOT / "examples" / "13_policy_server.py"


def observation(goal: tuple[float, float, float] = (0.2, 0.05, 0.12)) -> dict[str, np.ndarray]:
    made = {feature.name: np.zeros(feature.size) for feature in standard_features(STANDARD, ROBOT.n)}
    made["joint_position"] = made["joint_command"] = np.array(ROBOT.home)
    made["goal"] = np.array(goal)
    return made


@pytest.fixture(scope="module")
def server():
    words = [sys.executable, "-m", "pipelines", "serve", "--policy", "expert", "--task", "reach"]
    process = subprocess.Popen(
        [*words, "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said


@pytest.fixture
def example():
    """The example server, in an interpreter without our packages on its path."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(EXAMPLE), "0"], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


def line_to(url: str) -> Line:
    host, port = url.removeprefix("tcp://").split(":")
    return Line(socket.create_connection((host, int(port)), 10))


def test_it_answers_as_the_policy_itself(server):
    assert server["task"] == "reach" and server["robot"] == "so101"
    policy = RemotePolicy(server["url"], "reach", ROBOT)
    expert = load_task("reach").expert(ROBOT)
    expert.reset(1)
    policy.reset(1)
    np.testing.assert_array_equal(policy.act(observation()), expert.act(observation()))
    assert policy.horizon == expert.horizon
    policy.close()


def test_one_arm_at_a_time_and_the_next_when_it_has_gone(server):
    first = RemotePolicy(server["url"], "reach", ROBOT)
    with pytest.raises(UserError, match="driving another arm"):
        offered(server["url"], ROBOT)
    assert first.act(observation()).shape[1] == ROBOT.n, "the first is not disturbed"
    first.close()
    assert offered(server["url"], ROBOT).task == "reach"


def test_a_served_policy_is_evaluated_in_simulation(server, capsys):
    words = ["evaluate", "--task", "reach", "--draws", "2", "--seed", "3", "--json"]
    assert main([*words, "--policy", server["url"]]) == 0
    served = json.loads(capsys.readouterr().out)
    assert main([*words, "--policy", "expert", "--sees", "sensors", "--workers", "0"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert served.pop("policy") == server["url"] and here.pop("policy") == "expert"
    assert served == here and served["errors"] == 0
    assert main([*words, "--policy", server["url"], "--workers", "2"]) == 2
    assert "serves one at a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message("observation"), "begins with 'hello'"),
        (Message("hello", {"version": 2}), "protocol version 1, the arm has 2"),
        (Message("hello", {"version": 1, "robot": "koch"}), "robot so101, the arm has koch"),
        (Message("hello", {"version": 1, "robot": "so101", "joints": ["a"]}), "the arm has ['a']"),
    ],
)
def test_strangers_are_told_why(server, message, words):
    line = line_to(server["url"])
    line.send(message)
    answer = line.receive()
    assert answer.type == "refusal" and words in answer.fields["message"]
    line.close()


def test_a_wrong_observation_is_refused_and_garbage_ends_only_its_connection(server):
    hello = {"version": 1, "robot": "so101", "joints": list(ROBOT.joint_names)}
    line = line_to(server["url"])
    line.send(Message("hello", hello))
    assert line.receive().type == "welcome"
    line.send(Message("observation", {"number": 1}, {"joint_position": np.zeros(5)}))
    assert "needs 'joint_position' with shape (6,), got shape (5,)" in line.receive().fields["message"]
    line.close()
    line = line_to(server["url"])
    line.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    line.close()
    assert offered(server["url"], ROBOT).task == "reach"


def test_whoever_says_nothing_keeps_nobody_waiting(server):
    silent = [line_to(server["url"]) for _ in range(3)]
    assert offered(server["url"], ROBOT).task == "reach"
    for line in silent:
        line.close()


def test_an_arm_that_has_fallen_silent_loses_its_place_to_another():
    heard: list[str] = []
    server = PolicyServer(Served.load("zero", "reach", "so101"), "127.0.0.1:0", heard.append, idle=0.0)
    threading.Thread(target=server.run, daemon=True).start()
    first = RemotePolicy(server.url, "reach", ROBOT)
    second = RemotePolicy(server.url, "reach", ROBOT)
    assert second.act(observation()).shape[1] == ROBOT.n
    assert any("silent for" in text for text in heard)
    with pytest.raises(HardwareError, match="closed|broken"):
        first.act(observation())
    second.close()


def test_what_a_peer_writes_cannot_reach_the_terminal(server):
    line = line_to(server["url"])
    line.send(Message("hello", {"version": 1, "robot": "so\x1b[2J\x07101"}))
    answer = line.receive().fields["message"]
    assert "\\x1b[2J\\x07" in answer and answer.isprintable()
    line.close()


def test_a_policy_that_raises_is_a_problem_not_the_end(tmp_path):
    words = ["--policy", "tests.hardware.runtime.stubs:Raising", "--task", "reach", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "serve", *words, "--json"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        url = json.loads(process.stdout.readline())["url"]
        policy = RemotePolicy(url, "reach", ROBOT)
        policy.reset(5)
        with pytest.raises(HardwareError, match="RuntimeError: the policy broke"):
            for _ in range(5):
                policy.act(observation())
        assert offered(url, ROBOT).horizon == 8
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "expert"], "add --task"),
        (["--policy", "none.onnx"], "none.onnx does not exist"),
        (["--policy", "expert", "--task", "reach", "--listen", "5555"], "--listen is HOST:PORT"),
        (
            ["--policy", "expert", "--task", "reach", "--listen", "192.0.2.1:1"],
            "cannot listen on '192.0.2.1:1'",
        ),
    ],
)
def test_mistakes_cost_one_message(words, said, capsys):
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_a_files_features_are_all_that_is_asked_for():
    class Filed:
        horizon = 4

        class info:
            features = standard_features(["joint_position", "goal"], 6)

    served = Served("file", Filed(), ROBOT, load_task("reach"))
    assert served.welcome().fields["features"] == ["joint_position", "goal"]


def test_the_example_needs_numpy_and_nothing_else():
    names = set()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy"}


def test_the_example_serves_one_arm_after_another(example):
    for _ in range(2):
        policy = RemotePolicy(example, "reach", ROBOT)
        chunk = policy.act(observation())
        assert chunk.shape == (10, 6) and np.allclose(chunk[:, 0], ROBOT.home[0])
        assert np.abs(chunk[:, 3] - 1.3).max() <= 0.2
        policy.close()


SEEING = f"""
import sys
sys.path.insert(0, {str(EXAMPLE.parent)!r})
from importlib import import_module

policy_server = import_module("13_policy_server")

def act(arm, fields, observation):
    assert observation["front"].startswith(b"\\xff\\xd8"), "a JPEG"
    return policy_server.act(arm, fields, observation)

policy_server.serve(0, act, ["joint_position", "joint_command"], pictures=["front"], task="reach")
"""


@pytest.fixture
def seeing():
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", SEEING], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.realtime
def test_an_arm_is_driven_by_a_server_that_sees(seeing, tmp_path, capsys):
    """The whole way: camera and servos → inference process → server process → control loop → bytes → physics."""
    with start_emulator("so101", task="reach") as arm:
        words = ["deploy", "--policy", seeing, "--port", arm.port, "--cameras", arm.cameras_file,
                 "--calibration", arm.calibration, "--seconds", "2"]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *words, "--out", str(tmp_path / "out"), "--json"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=ROOT,
        )  # fmt: skip
        blind = main([*words[:5], "--out", str(tmp_path / "blind")])
    assert blind == 2 and "wants to see the camera front: give --cameras" in capsys.readouterr().err
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["faults"] == [] and result["final_state"] == "limp", done.stderr
    assert result["task"] == "reach" and result["chunks"] > 5 and result["rejected"] == 0
    import pyarrow.parquet as pq

    log = pq.read_table(tmp_path / "out" / "log.parquet").to_pydict()
    rows = zip(log["executed.wrist_flex"], log["state"], strict=True)
    wrist = [value for value, state in rows if state == "running"]
    assert max(wrist[-60:]) - min(wrist[-60:]) > 0.05, "it nods"
