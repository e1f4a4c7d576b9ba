"""`calibrate-camera` as it is used: printed pages, mistakes, and both steps on the emulated arm against the truth."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import tomli_w
from scipy.spatial.transform import Rotation

from hardware.emulator.deviations import default_twin
from pipelines.cli import main
from sim2real.camera import CameraModel, load_cameras, save_cameras
from sim2real.robot import Robot
from sim2real.simulation.cameras import perturbed
from sim2real.simulation.world import World

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")


def truth() -> CameraModel:
    """Where the emulated camera stands in the frame that the arm, whose first encoder is off, believes in."""
    with World(ROBOT) as world:
        nominal = {name: one.nominal for name, one in world.parameters.items()}
        values = nominal | default_twin(world.parameters)
    camera = perturbed(ROBOT.cameras["front"], values)
    # The axis of the first joint points down: an angle that reads too large turns the world the other way.
    origin = np.array([0.0388353, 0.0, 0.0])
    turn = Rotation.from_rotvec([0.0, 0.0, -values["servo.shoulder_pan.offset"]]).as_matrix()
    pose = camera.camera_to_base.copy()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = turn @ (pose[:3, 3] - origin) + origin
    return CameraModel(640, 480, camera.fx, camera.fy, camera.cx, camera.cy, pose)


@pytest.mark.parametrize("step", ["board", "card"])
@pytest.mark.parametrize("kind", ["pdf", "png"])
def test_pages_are_written(step: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"{step}.{kind}"
    assert main(["calibrate-camera", step, "--out", str(out), "--paper", "letter"]) == 0
    assert "Print it at 100 %" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"%PDF-" if kind == "pdf" else b"\x89PNG")


def test_cameras_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate-camera", "--list", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["board", "--out", "b.jpg"], "written as .pdf or .png"),
        (["board", "--out", "b.pdf", "--square", "90"], "squares of 90 mm do not fit"),
        (["lens", "--source", "0"], "Give --out NAME.lens.toml"),
        (["lens", "--out", "x.toml"], "Give its --source"),
        (["pose", "--port", "x"], "Give --cameras FILE"),
        (["pose", "--cameras", "c.toml"], "give its --port (or --points FILE)"),
        (["pose", "--cameras", "none/c.toml", "--port", "x"], "the folder none does not exist"),
        (["pose", "--cameras", "c.toml", "--port", "/dev/ttyNOT"], "the lens of 'front' is not known"),
        (["--cameras", "c.toml", "--points", "p.csv"], "give that step, and no --port"),
        (
            ["pose", "--cameras", "c.toml", "--points", "p.csv", "--lens", "no.toml"],
            "cannot read the lens file",
        ),
        (["--cameras", "c.toml", "--port", "x", "--views", "3"], "--views must be at least 6"),
        (["lens", "--source", "no.mp4", "--out", "x.toml", "--size", "big"], "--size is WIDTHxHEIGHT"),
    ],
)
def test_mistakes_cost_one_message(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate-camera", *words]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_points_of_known_places_take_the_arms_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = ROBOT.cameras["front"]
    points = np.random.default_rng(0).uniform((0.1, -0.2, 0.0), (0.35, 0.2, 0.2), (10, 3))
    rows = [",".join(f"{value:.6f}" for value in row) for row in np.hstack([camera.project(points), points])]
    (tmp_path / "p.csv").write_text("u,v,x,y,z\n" + "\n".join(rows) + "\n")
    shifted = camera.camera_to_base.copy()
    shifted[0, 3] += 0.1
    file = tmp_path / "cameras.toml"
    side = CameraModel.looking_at((0.1, 0.5, 0.5), (0.2, 0.0, 0.0), name="side")
    wrong = CameraModel(640, 480, camera.fx, camera.fy, camera.cx, camera.cy, shifted, source="7")
    save_cameras({"side": side, "front": wrong}, file)
    other = tomllib.loads(file.read_text())["side"]
    words = ["calibrate-camera", "pose", "--points", str(tmp_path / "p.csv"), "--cameras", str(file)]
    assert main(words) == 0
    assert "sure to" in capsys.readouterr().out
    found = load_cameras(file)
    np.testing.assert_allclose(found["front"].camera_to_base, camera.camera_to_base, atol=1e-4)
    assert found["front"].source == "7" and tomllib.loads(file.read_text())["side"] == other
    (tmp_path / "p.csv").write_text("u,v,x,y,z\n" + "\n".join(rows[:4]) + "\n1,2,3,4\n")
    before = file.read_text()
    assert main(words) == 2
    assert "line 6: 5 finite numbers are expected" in capsys.readouterr().err and file.read_text() == before


DEADLINE = 400.0
"""s after which a command is killed, whatever it waits for."""


@contextmanager
def start(folder: Path, *more: str) -> "Iterator[subprocess.Popen[str]]":
    words = [
        sys.executable,
        "-m",
        "pipelines",
        "calibrate-camera",
        "--port",
        "emulated",
        "--cameras",
        "c.toml",
    ]
    with subprocess.Popen(
        [*words, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:  # fmt: skip
        alarm = threading.Timer(DEADLINE, process.kill)
        alarm.start()
        try:
            yield process
            process.wait()
        finally:
            process.kill()
            alarm.cancel()


@pytest.mark.slow
def test_lens_and_place_of_the_emulated_camera(tmp_path: Path) -> None:
    side = CameraModel.looking_at((0.1, 0.5, 0.5), (0.2, 0.0, 0.0), name="side")
    save_cameras({"side": side}, tmp_path / "c.toml")
    other = tomllib.loads((tmp_path / "c.toml").read_text())["side"]
    with start(tmp_path, "--views", "12", "--out", "out", "--json") as process:
        said, told = process.communicate()
    assert process.returncode == 0, told
    answer, exact = json.loads(said), truth()
    found = load_cameras(tmp_path / "c.toml")
    front = found["front"]
    assert np.linalg.norm(front.position - exact.position) < 0.003
    assert np.degrees(Rotation.from_matrix(front.rotation.T @ exact.rotation).magnitude()) < 0.3
    assert abs(front.fx / exact.fx - 1) < 0.003 and abs(front.cx - exact.cx) < 2.0
    assert (
        tomllib.loads((tmp_path / "c.toml").read_text())["side"] == other
        and answer["pose"]["residual_mm"] < 2.0
    )
    assert answer["run"]["final_state"] == "limp" and answer["run"]["faults"] == []
    assert len(json.loads((tmp_path / "out" / "views.json").read_text())) == 12
    # The zeros of the emulated arm's encoders come out as well.
    with World(ROBOT) as world:
        twin = default_twin(world.parameters)
    off = np.degrees([twin[f"servo.{name}.offset"] for name in ROBOT.joint_names[1:4]])
    np.testing.assert_allclose(answer["pose"]["zeros_deg"][1:4], -off, atol=0.25)
    picture = cv2.imread(str(tmp_path / "out" / "overlay.png"))
    assert picture.shape == (480, 640, 3)
    assert ((picture[..., 0] > 230) & (picture[..., 1] < 60) & (picture[..., 2] > 230)).sum() > 300


@pytest.mark.slow
def test_ctrl_c_lowers_the_arm_and_writes_nothing(tmp_path: Path) -> None:
    save_cameras({"front": ROBOT.cameras["front"]}, tmp_path / "c.toml")
    before = (tmp_path / "c.toml").read_text()
    lens = {key: value for key, value in ROBOT.cameras["front"].table().items() if key != "camera_to_base"}
    (tmp_path / "lens.toml").write_text(tomli_w.dumps(lens))
    with start(tmp_path, "pose", "--lens", "lens.toml", "--out", "out", "--json") as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            if line.startswith("pose 2"):
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        told = process.stderr.read()
    assert process.returncode == 130, told
    assert json.loads(said)["run"]["final_state"] == "limp" and "c.toml is as it was" in told
    assert (tmp_path / "c.toml").read_text() == before
    assert not (tmp_path / "out" / "overlay.png").exists() and not list(tmp_path.glob("*.bak"))
