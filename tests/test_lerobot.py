"""LeRobot's policies here, our arm there: with LeRobot in an environment of its own.

`SIM2REAL_LEROBOT_PYTHON` names its interpreter, e.g. of `python -m venv lr; lr/bin/pip install lerobot==0.4.4`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim2real.camera import CameraModel
from sim2real.policies.remote import RemotePolicy, Surroundings
from sim2real.robot import Robot

ROOT = Path(__file__).parents[1]
SIDE = ROOT / "tests" / "lerobot_side"
ROBOT = Robot.load("so101")


def their_python() -> str:
    """LeRobot's interpreter; skips where there is none, and says why."""
    python = os.environ.get("SIM2REAL_LEROBOT_PYTHON", sys.executable)
    try:
        found = subprocess.run(
            [python, "-c", "import lerobot.robots.robot, lerobot.policies.factory"],
            capture_output=True, text=True, timeout=120, check=False, env=theirs(),
        )  # fmt: skip
    except OSError as error:
        pytest.skip(f"SIM2REAL_LEROBOT_PYTHON={python}: {error.strerror}")
    if found.returncode:
        why = (found.stderr.strip().splitlines() or ["no lerobot"])[-1]
        pytest.skip(f"{python} has no lerobot ({why}); SIM2REAL_LEROBOT_PYTHON names an interpreter that has")
    return python


def theirs(**more: str) -> dict[str, str]:
    """The environment of their programs: nothing of ours in it, and nobody asks a hub."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **more}


class Grey:
    """A camera that sees nothing but grey: a JPEG keeps it."""

    camera = CameraModel.looking_at((0.4, 0.3, 0.4), (0.2, 0.0, 0.0), width=160, height=120, name="front")

    def latest(self):
        return 0.0, np.full((120, 160, 3), 128, np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_a_checkpoint_is_served_in_our_units(kind, tmp_path):
    python = their_python()
    subprocess.run(
        [python, str(SIDE / "make_checkpoint.py"), kind, str(tmp_path)],
        check=True,
        capture_output=True,
        env=theirs(),
    )
    expected = json.loads((tmp_path / "expected.json").read_text())
    server = subprocess.Popen(
        [python, str(ROOT / "examples" / "lerobot_server.py"), str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE, text=True, env=theirs(),
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = next(line.strip() for line in server.stdout if line.startswith("tcp://"))
        lower, upper = np.full(6, -1.5), np.full(6, 1.7)
        policy = RemotePolicy(address, "reach", ROBOT, Surroundings(lower, upper, cameras={"front": Grey()}))
        assert policy.horizon == expected["rows"] and policy.offer.pictures == ("front",)

        def radians(values):
            position = np.radians(values) + 0.1  # degrees from the middle of the range
            position[..., 5] = lower[5] + np.asarray(values)[..., 5] / 100 * 3.2
            return position

        state = radians(expected.get("state", [0.0] * 5 + [50.0]))
        observation = {"joint_position": state, "joint_velocity": 0 * state, "joint_command": state}
        for episode in range(2):
            policy.reset(episode)
            for _ in range(2):
                chunk = policy.act(observation)
        assert chunk.shape == (expected["rows"], 6) and np.isfinite(chunk).all()
        if "chunk" in expected:
            np.testing.assert_allclose(chunk, radians(expected["chunk"]), atol=1e-5)
        policy.close()
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_lerobot_drives_an_arm_behind_our_gate(tmp_path):
    python = their_python()
    ours = tmp_path / "sim2real"
    ours.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m pipelines \"$@\"\n")
    ours.chmod(0o755)
    done = subprocess.run(
        [python, str(SIDE / "drive.py"), str(ours), str(tmp_path / "out")], capture_output=True, text=True, timeout=280,
        check=False, env=theirs(PYTHONPATH=str(ROOT / "examples" / "lerobot_robot"), HF_HOME=str(tmp_path / "hub")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["features"] == sorted(f"{name}.pos" for name in ROBOT.joint_names)
    assert found["end"]["shoulder_pan.pos"] == pytest.approx(found["start"]["shoulder_pan.pos"] + 15, abs=2)
    assert found["end"]["elbow_flex.pos"] == pytest.approx(found["start"]["elbow_flex.pos"], abs=2)
    assert max(found["far"].values()) < 200, "no goal is out of the arm's range"
    (run,) = (tmp_path / "out").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["faults"] == [] and result["final_state"] == "limp" and result["commands"] > 200
