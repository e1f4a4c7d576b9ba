"""The emulator as users start it: a process with a port, a camera stream, control, and files that go away."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.arm.serial_arm import SerialArm
from hardware.commissioning.board import Board
from hardware.emulator import tell
from hardware.emulator.launch import EmulatorHandle, start_emulator
from hardware.emulator.session import SUFFIXES
from hardware.emulator.traces import clear_leftovers
from pipelines import cli
from sim2real.calibration import Calibration
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.robot import Robot

pytestmark = [pytest.mark.slow, pytest.mark.realtime]
ROBOT = Robot.load("so101")


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorHandle]:
    with start_emulator("so101", seed=3) as handle:
        yield handle


def _state(handle: EmulatorHandle) -> dict[str, Any]:
    with urllib.request.urlopen(f"{handle.control_url}/state", timeout=10) as answer:
        return json.load(answer)


def _shell(command: str, **environment: str) -> int:
    return subprocess.run(
        command, shell=True, env=dict(os.environ, **environment), capture_output=True
    ).returncode


def _eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_driver_moves_the_arm_and_the_judge_agrees(emulator: EmulatorHandle) -> None:
    arm = SerialArm.connect(ROBOT, emulator.port, Calibration.load(emulator.calibration, ROBOT))
    arm.bus.allowance = 0.2  # type: ignore[attr-defined]
    try:
        arm.enable()
        start = arm.observe().position.copy()
        for k in range(150):
            arm.command(start + (ROBOT.home - start) * min(1.0, k / 120))
            time.sleep(0.01)
        state = arm.observe()
        assert state.valid.all()
        np.testing.assert_allclose(state.position, ROBOT.home, atol=np.radians(4))
        true = _state(emulator)
        np.testing.assert_allclose(true["sensed_position"], arm.observe().position, atol=0.01)
        goal = ",".join(map(str, true["tool"]))
        assert _eventually(lambda: _shell(emulator.success_command, TASK="reach", GOAL=goal) == 0)
        assert _shell(emulator.success_command, TASK="reach", GOAL="0.3,0.1,0.3") == 1
        assert _shell(emulator.success_command, TASK="lift") == 1
        assert _shell(emulator.success_command, TASK="reach", GOAL="0.3,0.1") == 2
        assert _shell(emulator.success_command, TASK="fly") == 2
    finally:
        arm.relax()
        arm.close()


def test_before_episode_places_objects_anew(emulator: EmulatorHandle) -> None:
    before = _state(emulator)
    assert _shell(emulator.before_episode, EPISODE="0") == 0
    after = _state(emulator)
    assert after["episode"] == before["episode"] + 1
    assert after["objects"]["cube"] != before["objects"]["cube"]


def test_camera_shows_the_cube_where_it_is(emulator: EmulatorHandle) -> None:
    import cv2

    from sim2real.parameters import load_twin
    from sim2real.simulation.cameras import perturbed

    with urllib.request.urlopen(emulator.sources["front"].replace("mjpg", "jpg"), timeout=20) as answer:
        assert float(answer.headers["X-Timestamp"]) > 0
        picture = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (480, 640, 3)
    blue, green, red = (picture[..., c].astype(int) for c in range(3))
    rows, columns = np.nonzero((red > 100) & (green < 80) & (blue < 80))
    assert len(rows) > 200
    cube = np.array(_state(emulator)["objects"]["cube"])
    twin = load_twin(emulator.twin)
    shifts = {f"camera.{k}": 0.0 for k in ("x", "y", "z", "pitch", "yaw", "roll", "distortion")} | {
        "camera.focal": 1.0
    }
    true = perturbed(ROBOT.cameras["front"], shifts | {k: v for k, v in twin.items() if k in shifts})
    expected = true.project(cube)
    # The visible faces' middle lies near the cube's projected centre.
    assert np.hypot(columns.mean() - expected[0], rows.mean() - expected[1]) < 6.0


def test_a_sheet_held_up_to_the_camera_is_seen(emulator: EmulatorHandle, tmp_path: Path) -> None:
    import cv2

    board = Board()
    (tmp_path / "board.png").write_bytes(cv2.imencode(".png", board.image())[1].tobytes())
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 0.5
    sheet = {"name": "board", "image": "board.png", "width": board.size[0], "held_by": "camera"}
    (tmp_path / "sheet.json").write_text(json.dumps(sheet | {"poses": [pose.tolist()]}))
    link = emulator.port
    status, text = tell.tell("show", link, path=str(tmp_path / "sheet.json"))
    assert status == 0 and json.loads(text) == {"shown": ["board"]}

    def found() -> Any:
        with urllib.request.urlopen(emulator.sources["front"].replace(".mjpg", ".jpg"), timeout=10) as answer:
            picture = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_GRAYSCALE)
        return board.find(picture)

    assert _eventually(lambda: found() is not None)
    numbers, pixels = found()
    points = (board.corners[numbers] - [*np.array(board.size) / 2, 0.0]) @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(pixels - ROBOT.cameras["front"].project_local(points)).max() < 0.5
    (tmp_path / "sheet.json").write_text(json.dumps({"name": "board", "image": None}))
    assert tell.tell("show", link, path=str(tmp_path / "sheet.json")) == (0, '{"shown": []}\n')
    assert _eventually(lambda: found() is None)
    (tmp_path / "sheet.json").write_text(json.dumps(sheet))
    assert tell.tell("show", link, path=str(tmp_path / "sheet.json")) == (
        2, "a sheet's poses are a list of 4 x 4 matrices of finite numbers, at least one"
    )  # fmt: skip


def test_stream_opens_in_opencv(emulator: EmulatorHandle) -> None:
    import cv2

    capture = cv2.VideoCapture(emulator.sources["front"])
    try:
        assert capture.isOpened()
        for _ in range(5):
            done, frame = capture.read()
            assert done and frame.shape == (480, 640, 3)
    finally:
        capture.release()


def test_files_describe_the_arm(emulator: EmulatorHandle) -> None:
    import tomllib

    calibration = Calibration.load(emulator.calibration, ROBOT)
    assert calibration.names == ROBOT.joint_names
    table = tomllib.loads(Path(emulator.cameras_file).read_text())["front"]
    assert table["source"] == emulator.sources["front"]
    camera = CameraModel.from_table(table, "front")
    # The file says where the camera was measured to be; where it truly is differs a little.
    np.testing.assert_allclose(camera.camera_to_base, ROBOT.cameras["front"].camera_to_base, atol=1e-9)


def test_a_hand_moves_the_limp_arm(emulator: EmulatorHandle, tmp_path: Path) -> None:
    link, path = emulator.port, tmp_path / "path.json"
    path.write_text(
        json.dumps(
            [{"time": 0.5, "position": ROBOT.home.tolist()}, {"time": 30.0, "position": ROBOT.home.tolist()}]
        )
    )
    status, answer = tell.tell("hand", link, path=str(path))
    assert status == 0 and json.loads(answer) == {"seconds": 30.0}
    assert _eventually(lambda: np.allclose(_state(emulator)["sensed_position"], ROBOT.home, atol=0.02))
    path.write_text("[{]")
    status, answer = tell.tell("hand", link, path=str(path))
    assert status == 2 and "must be JSON" in answer
    path.write_text('[{"time": 1.0, "position": [0.0]}]')
    status, answer = tell.tell("hand", link, path=str(path))
    assert status == 2 and "needs 6 joint angles" in answer


def test_a_fault_that_is_refused_is_told_in_plain_words(emulator: EmulatorHandle) -> None:
    status, text = tell.tell("fault", emulator.port, fault="watchdog_trip:id=2")
    assert status == 2 and text.startswith("fault 'watchdog_trip' acts on dynamixel servos"), text
    assert tell.tell("fault", emulator.port, fault="mute:id=2,for=0.01")[0] == 0


def test_twin_file_restarts_the_same_arm(emulator: EmulatorHandle, tmp_path: Path) -> None:
    with start_emulator("so101", twin=emulator.twin, camera=False) as other:
        assert other.sources == {}
        assert Path(other.twin).read_text() == Path(emulator.twin).read_text()


def test_leader_and_follower_of_two_families(emulator: EmulatorHandle, tmp_path: Path) -> None:
    """Two arms on one machine, each on a link of its own: one moved by hand, one by the other."""
    koch = Robot.load("koch")
    with start_emulator("koch", camera=False) as handle:
        assert handle.port != emulator.port and handle.control_url != emulator.control_url
        leader = SerialArm.connect(ROBOT, emulator.port, Calibration.load(emulator.calibration, ROBOT))
        follower = SerialArm.connect(koch, handle.port, Calibration.load(handle.calibration, koch))
        try:
            for arm in (leader, follower):
                arm.bus.allowance = 1.0  # type: ignore[attr-defined]
            follower.enable()
            # A busy machine may pause for longer than the servos' own watchdogs allow.
            follower.bus.sync_write("bus_watchdog", follower.ids, [0] * koch.n)
            goal = koch.home
            path = [{"time": t, "position": goal.tolist()} for t in (1.0, 120.0)]
            request = urllib.request.Request(
                f"{emulator.control_url}/hand", json.dumps(path).encode(), method="POST"
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.load(answer) == {"seconds": 120.0}
            assert _eventually(lambda: np.allclose(leader.observe().position, goal, atol=0.03))
            start = follower.observe().position.copy()
            for k in range(200):
                follower.command(start + (leader.observe().position - start) * min(1.0, k / 150))
                time.sleep(0.01)
            assert _eventually(
                lambda: np.allclose(follower.observe().position, leader.observe().position, atol=0.08)
            )
            assert not any(_state(emulator)["torque"]) and all(_state(handle)["torque"])
        finally:
            follower.relax()
            follower.close()
            leader.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robot": "so999"}, "no robot called"),
        ({"task": "fly"}, "no task called"),
        ({"twin": "/nonexistent.toml"}, "does not exist"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start_emulator(**({"robot": "so101"} | arguments))


def _start(link: Path, *more: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "emulate", "--link", str(link), "--no-camera", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "control" in line:
            return process
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
def test_signals_leave_nothing_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    link = tmp_path / "ttyARM"
    process = _start(link)
    assert link.is_symlink() and Path(tell.sidecar(str(link))).exists()
    assert tell.tell("episode", str(link))[0] == 0
    process.send_signal(number)
    assert process.wait(20) == status
    assert list(tmp_path.iterdir()) == []
    assert tell.tell("episode", str(link))[0] == 1


def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    link = tmp_path / "ttyARM"
    command = [sys.executable, "-m", "pipelines", "emulate", "--link", str(link), "--no-camera"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert _eventually(Path(tell.sidecar(str(link))).exists, 120.0)
    process.terminate()
    assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


def test_starts_again_after_it_was_killed(tmp_path: Path) -> None:
    link = tmp_path / "ttyARM"
    process = _start(link)
    process.kill()
    process.wait()
    # The system gives the number of its terminal to whoever asks next.
    master, slave = pty.openpty()
    link.unlink()
    link.symlink_to(os.ttyname(slave))
    again = _start(link)
    assert os.readlink(link) != os.ttyname(slave)
    with pytest.raises(UserError, match="link of an emulator that runs; it is not overwritten"):
        clear_leftovers(str(link), SUFFIXES)
    again.terminate()
    assert again.wait(20) == 0
    assert list(tmp_path.iterdir()) == []
    os.close(master)
    os.close(slave)


def test_refuses_to_overwrite_a_file(tmp_path: Path) -> None:
    link = tmp_path / "ttyARM"
    link.write_text("precious")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "emulate", "--link", str(link), "--no-camera"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "is not overwritten" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ttyARM"]


def test_ends_when_its_parent_dies(tmp_path: Path) -> None:
    """The parent is killed outright; the emulator notices, waits until the bus is quiet, and removes its files."""
    script = (
        "from hardware.emulator.launch import start_emulator; import os, time\n"
        "h = start_emulator('so101', camera=False); print(h.pid, h.directory, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    lines = (line for line in parent.stdout if not line.startswith("pybullet"))
    pid, directory = next(lines).split()
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    assert _eventually(gone)
    assert _eventually(lambda: not Path(directory).exists())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path", "hand.json"], "--path goes with --tell hand"),
        (["--goal", "0,0,0"], "--goal goes with --tell success"),
        (["--tell", "hand"], "--tell needs --link"),
        (["--tell", "hand", "--link", "/tmp/none"], "needs --path FILE"),
        (["--tell", "state", "--link", "/tmp/none", "--fault", "mute"], "--fault goes with --tell fault"),
        (["--tell", "episode", "--link", "/tmp/none", "--goal", "0,0,0"], "--goal goes with --tell success"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--http-port", "99999"], "--http-port is 0 (any free one) to 65535, got 99999"),
    ],
)
def test_flags_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["emulate", *arguments]) == 2
    assert message in capsys.readouterr().err
