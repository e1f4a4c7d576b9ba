"""`deploy` and `record` from the command line: what they refuse, and whole runs on the emulated arm."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.launch import start_emulator
from pipelines.cli import main
from pipelines.deployment.request import Options, goals_of, parse_goal, prepare
from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset
from sim2real.robot import Robot
from tests.pipelines.compiling import MARK

pytestmark = pytest.mark.realtime

STUBS = "tests.hardware.runtime.stubs"
KEYS = {
    "episodes", "successes", "success_rate", "wilson_95", "rate_hz", "period_error_ms", "commands", "clipped",
    "rejected", "overruns", "faults", "final_state",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "nowhere.onnx"], "nowhere.onnx does not exist"),
        (["--policy", "expert"], "add --task"),
        (["--policy", "expert", "--task", "juggle"], "no task called 'juggle'"),
        (["--policy", "expert", "--task", "reach", "--robot", "koala"], "no robot called 'koala'"),
        (["--policy", "expert", "--task", "reach", "--goal", "1,2"], "x,y,z in metres"),
        (["--policy", "expert", "--task", "reach", "--goal", "1,2,nan"], "x,y,z in metres"),
        (["--policy", "expert", "--task", "reach", "--episodes", "0"], "at least 1"),
        (["--policy", "expert", "--task", "reach", "--seconds", "-1"], "must be positive"),
        (
            ["--policy", "expert", "--task", "reach", "--seconds", "1", "--episodes", "1"],
            "exclude each other",
        ),
        (["--policy", "expert", "--task", "reach", "--speed", "2"], "from 0.01 to 1"),
        (["--policy", "expert", "--task", "reach", "--speed", "1e-5"], "from 0.01 to 1"),
        (["--policy", "expert", "--task", "reach", "--calibration", "no.json"], "no calibration file"),
        (["--policy", "expert", "--task", "lift"], "--cameras FILE and --camera"),
        (["--policy", "expert", "--task", "push"], "cube and mark"),
        (["--policy", "expert", "--task", "reach", "--camera", "side=0"], "camera 'side' is not described"),
        (["--policy", "expert", "--task", "reach", "--camera", "0"], "name=SOURCE"),
        (["--policy", "expert", "--task", "reach", "--cameras", "no.toml"], "no.toml"),
        (["--policy", "expert", "--task", "reach"], "no serial port /dev/ttyNOT"),
        (["--policy", "expert", "--task", "reach", "--leader", "/dev/x"], "add --collect corrections"),
        (
            ["--policy", "expert", "--task", "reach", "--collect", "corrections"],
            "needs somebody who takes over",
        ),
        (
            ["--policy", "expert", "--task", "reach", "--collect", "corrections", "--dry-run"],
            "excludes --dry-run",
        ),
    ],
)
def test_mistakes_cost_one_message(arguments, words, capsys, tmp_path):
    out = tmp_path / "out"
    status = main(["deploy", *arguments, "--port", "/dev/ttyNOT", "--out", str(out), "--json"])
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert words in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not out.exists(), "nothing is written half"


@pytest.mark.parametrize(
    ("there", "command", "refused"),
    [("pretrain", "deploy", True), ("deploy", "record", True), ("record", "play", True),
     ("deploy", "deploy", False), ("record", "excite", False)],
)  # fmt: skip
def test_the_results_of_another_command_are_not_overwritten(there, command, refused, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"command": there}))
    options = Options(command=command, port="p", out=str(tmp_path), task="reach")
    if refused:
        with pytest.raises(UserError, match=f"holds a run of '{there}'"):
            prepare(options)
    else:
        assert prepare(options).name == "reach"


@pytest.mark.parametrize("command", ["deploy", "play"])
@pytest.mark.parametrize("name", ["result.json", "episodes.parquet", "log.parquet"])
def test_the_results_of_an_earlier_run_are_not_overwritten(command, name, tmp_path):
    config = {"command": command, "created": "2026-01-02T03:04:05"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / name).write_bytes(b"results")
    options = Options(command=command, port="p", out=str(tmp_path), task="reach")
    with pytest.raises(UserError, match=rf"earlier run of 2026-01-02T03:04:05 \({name}\).*another --out"):
        prepare(options)
    assert (tmp_path / name).read_bytes() == b"results"


def test_goals_are_drawn_from_the_task_by_seed():
    def goals(**options):
        setup = prepare(Options(command="deploy", port="p", out="o", **options))
        return [goals_of(setup)(i) for i in range(20)]

    drawn = np.array(goals(task="reach", seed=3))
    assert np.array_equal(drawn, goals(task="reach", seed=3))
    assert not np.array_equal(drawn, goals(task="reach", seed=4))
    radius = np.hypot(drawn[:, 0] - 0.04, drawn[:, 1])
    assert (radius >= 0.16).all() and (radius <= 0.30).all() and np.ptp(radius) > 0.05
    assert (drawn[:, 2] >= 0.05).all() and (drawn[:, 2] <= 0.22).all()
    assert goals(task="push") == [None] * 20, "the camera finds the mark"
    assert np.array_equal(goals(task="push", goal="0.2,0.1,0.0125")[7], [0.2, 0.1, 0.0125])
    with pytest.raises(UserError, match="got 'a,b,c'"):
        parse_goal("a,b,c", Robot.load("so101"))


@pytest.mark.parametrize("goal", ["0.5,0.5,0.1", "0.2,0,-0.01"])
def test_a_goal_out_of_reach_is_refused(goal: str) -> None:
    with pytest.raises(UserError, match="out of reach: so101 works up to 0.45 m"):
        parse_goal(goal, Robot.load("so101"))


@pytest.fixture(scope="module")
def arm():
    with start_emulator("so101", task="lift", seed=2) as handle:
        yield handle


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pipelines", *map(str, words)]


def on(arm, *words: str) -> list[str]:
    """A command with everything it needs to know about the emulated arm."""
    return command(
        *words, "--port", arm.port, "--calibration", arm.calibration, "--cameras", arm.cameras_file,
        "--before-episode", arm.before_episode, "--success", arm.success_command,
    )  # fmt: skip


def run(words: list[str]) -> tuple[int, dict, str]:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    try:
        return done.returncode, json.loads(done.stdout), done.stderr
    except ValueError:
        raise AssertionError(f"no JSON alone: {done.stdout!r} {done.stderr}") from None


def truth(arm) -> dict:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{arm.control_url}/state", timeout=10) as answer:
        return json.loads(answer.read())


def check_limp(arm) -> None:
    state = truth(arm)
    assert state["torque"] == [0] * 6
    assert np.abs(np.array(state["joint_position"]) - Robot.load("so101").rest)[:5].max() < 0.15


@pytest.mark.slow
def test_deploy(arm, tmp_path):
    status, result, _ = run(
        on(
            arm,
            "deploy",
            "--policy",
            "expert",
            "--task",
            "reach",
            "--episodes",
            "2",
            "--out",
            tmp_path,
            "--json",
        )
    )
    assert status == 0 and result.keys() >= KEYS
    assert result["episodes"] == 2 and result["faults"] == [] and result["final_state"] == "limp"
    assert result["period_error_ms"].keys() == {"p50", "p99", "max"}
    assert result["success_rate"] == result["successes"] / 2
    check_limp(arm)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["command"] == "deploy" and config["settings"]["task"] == "reach"
    import pyarrow.parquet as pq

    episodes = pq.read_table(tmp_path / "episodes.parquet").to_pydict()
    assert episodes["success"] == [True, True] and episodes["judge"] == ["command"] * 2
    log = pq.read_table(tmp_path / "log.parquet").to_pydict()
    assert {"t", "state", "period_error", "position.gripper", "executed.shoulder_pan"} <= log.keys()
    assert log["state"][-1] == "limp" and "running" in log["state"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["reach", "lift"])
def test_nothing_is_compiled_while_the_arm_is_under_torque(task, tmp_path):
    """On a new machine, where nothing is compiled yet, the watchdog would take control for dead."""
    with start_emulator("so101", task=task, seed=1) as arm:
        words = ["--policy", "expert", "--task", task, "--seconds", "1", "--out", str(tmp_path / "run")]
        done = subprocess.run(
            [sys.executable, "-m", "tests.pipelines.compiling", "deploy", *words,
             "--port", arm.port, "--calibration", arm.calibration, "--cameras", arm.cameras_file],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    assert done.returncode == 0 and MARK not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_fault_ends_the_command(arm, tmp_path):
    status, result, _ = run(
        on(
            arm, "deploy", "--policy", f"{STUBS}:Dying", "--task", "reach", "--seed", "1", "--episodes", "2",
            "--out", tmp_path, "--json",
        )
    )  # fmt: skip
    assert status == 1 and result["final_state"] == "limp_fault"
    assert len(result["faults"]) == 1 and result["faults"][0].startswith("policy_died: the inference process")
    assert result["episodes"] == 1 and result["successes"] == 0
    check_limp(arm)


@pytest.mark.slow
def test_a_policy_that_would_run_out_of_actions_is_refused_before_torque(arm, tmp_path, capsys):
    torque = truth(arm)["torque"]
    status = main(
        ["deploy", "--policy", f"{STUBS}:Slow", "--task", "reach", "--port", arm.port,
         "--calibration", arm.calibration, "--out", str(tmp_path / "out")]
    )  # fmt: skip
    message = capsys.readouterr().err
    assert status == 2 and "would run out of actions" in message and "cover 117 ms" in message
    assert truth(arm)["torque"] == torque == [0] * 6 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_interrupt_lowers_the_arm(arm, tmp_path):
    process = subprocess.Popen(
        on(arm, "deploy", "--policy", "expert", "--task", "reach", "--episodes", "9", "--out", tmp_path, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("episode 0"):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    result = json.loads(out)
    assert process.returncode == 130
    assert result["final_state"] == "limp" and result["episodes"] == 1 and result["faults"] == []
    check_limp(arm)


@pytest.mark.slow
def test_an_impatient_interrupt_before_the_arm_moves_cleans_up(arm, tmp_path):
    process = subprocess.Popen(
        on(arm, "deploy", "--policy", "expert", "--task", "reach", "--out", tmp_path, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text():
        time.sleep(0.01)
    # The first child is still importing: ending it takes longer than this.
    for _ in range(3):
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    result = json.loads(out)
    assert result["episodes"] == 0 and result["final_state"] in ("limp", "disconnected")
    check_limp(arm)


@pytest.mark.slow
def test_record_what_was_seen(arm, tmp_path):
    status, result, said = run(
        on(arm, "record", "--task", "lift", "--episodes", "1", "--out", tmp_path, "--json")
    )
    assert status == 0 and result["episodes"] == 1, said
    check_limp(arm)
    dataset, robot = LeRobotDataset.open(tmp_path), Robot.load("so101")
    assert len(dataset) == 1 and dataset.cameras == ("front",)
    episode = dataset.episode(0, robot)
    assert (tmp_path / "calibration.json").exists() and (tmp_path / "cameras.toml").exists()
    seen = {f"object.cube.{what}" for what in ("position", "yaw", "age", "spread")}
    assert set(episode.features) == {"goal", *seen}
    assert episode.success is (result["successes"] == 1)
    steps = np.diff(episode.time)
    assert steps.mean() == pytest.approx(1 / 30, rel=0.05)
    # What was sent keeps the gate's limits from frame to frame; what the arm did follows it.
    sent = np.abs(np.diff(episode.executed, axis=0)) / steps[:, None]
    assert (sent <= robot.limits("velocity") * 1.4).all()
    assert np.abs(episode.executed - episode.state)[:, :5].max() < 0.6
    pictures = list(dataset.frames(0, "front"))
    assert len(pictures) == len(episode)
    red = [(p[..., 0].astype(int) - p[..., 1:].max(axis=-1) > 60).sum() for p in pictures]
    assert red[0] > 50, "the cube is in the first picture"


@pytest.mark.slow
def test_a_killed_recording_keeps_what_was_finished_and_can_go_on(arm, tmp_path):
    words = on(arm, "record", "--task", "reach", "--out", tmp_path, "--json")
    process = subprocess.Popen(
        [*words, "--episodes", "9"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("episode 1"):
            break
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    said = process.stderr.read()
    # The pipe ends when the watchdog, the last one, has ended: the arm is at rest by then.
    assert "torque is off" in said
    check_limp(arm)
    # The two that were finished, and what there was of the third.
    before = LeRobotDataset.open(tmp_path).episodes
    assert [entry.ended for entry in before] in (["", ""], ["", "", "recovered"])
    status, result, _ = run([*words, "--episodes", "1"])
    assert status == 0 and result["episodes"] == 1
    dataset = LeRobotDataset.open(tmp_path)
    assert len(dataset) == len(before) + 1 and dataset.episodes[-1].ended == ""
    assert all(len(dataset.episode(i, Robot.load("so101"))) > 10 for i in (0, 1, len(before)))


@pytest.mark.slow
def test_it_refuses_another_arms_calibration(arm, tmp_path, capsys):
    table = json.loads(Path(arm.calibration).read_text())
    table["elbow_flex"]["range_max"] -= 40
    other = tmp_path / "other.json"
    other.write_text(json.dumps(table))
    status = main(
        [
            "deploy", "--policy", "expert", "--task", "reach", "--port", arm.port, "--calibration", str(other),
            "--out", str(tmp_path / "out"),
        ]
    )  # fmt: skip
    assert status == 2
    assert "elbow_flex" in capsys.readouterr().err and truth(arm)["torque"] == [0] * 6


def at_rest(arm):
    """The joint positions once the limp arm has come to lie still, rad."""
    position = truth(arm)["joint_position"]
    for _ in range(100):
        time.sleep(0.2)
        last, position = position, truth(arm)["joint_position"]
        if np.allclose(position, last, atol=1e-5):
            return position
    raise AssertionError("the limp arm does not come to rest")


@pytest.mark.slow
def test_a_dry_run_moves_nothing(arm, tmp_path):
    before = at_rest(arm)
    status, result, _ = run(
        on(arm, "deploy", "--policy", "expert", "--task", "reach", "--seconds", "1", "--dry-run", "--out", tmp_path,
           "--json")
    )  # fmt: skip
    assert status == 0 and result["dry_run"] and result["commands"] > 50 and result["unknown"] == 1
    state = truth(arm)
    assert state["torque"] == [0] * 6 and np.allclose(state["joint_position"], before, atol=1e-3)
