"""Every example runs, in this order and in one folder, as somebody would who goes through them."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[1]

RUNS = {
    "01_first_sweep": (["4"], "of 4 draws succeeded"),
    "02_space": (["4"], "of 4 draws succeeded"),
    "03_own_robot": ([], "iiwa: 7 joints"),
    "04_own_task": (["2"], "of 2 succeeded"),
    "05_own_policy": (["2"], "0 of 2 succeeded"),
    "06_gymnasium": ([], "observations (4, 15)"),
    "07_stable_baselines3": (["512"], "of 20 succeeded"),
    "08_pretrain": (["4"], "runs/reach/policy.onnx"),
    "09_record": (["2"], "2 episodes at 30 Hz"),
    "10_identify": ([], "written to runs/twin"),
    "11_finetune": (["1"], "TunedPolicy"),
    "12_deploy": (["runs/tuned/policy.onnx", "1"], "episodes    1"),
    "14_pandas": ([], "shoulder_pan"),
    "15_servo_family": ([], "joints at"),
    "16_talk_to_an_arm": ([], "shoulder_pan: asked"),
    "17_cost": (["500"], "with a success of 96 %"),
    "18_fleet": (["6"], "80 robots, one person"),
}
"""Arguments that keep an example short, and what it prints. Servers run until they are stopped: see
test_serve.py and test_lerobot.py."""

NEEDS = {"07_stable_baselines3": "stable_baselines3", "14_pandas": "pandas", "18_fleet": "simpy"}
"""Packages that the project itself does without."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def test_every_example_is_here() -> None:
    numbered = {path.stem for path in (ROOT / "examples").glob("*.py")}
    # A fleet's loop takes minutes; its parts have tests of their own.
    assert numbered == {*RUNS, "13_policy_server", "19_fleet_loop", "lerobot_server"}


@pytest.mark.slow
@pytest.mark.xdist_group("examples")
@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs(name: str, folder: Path) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    arguments, said = RUNS[name]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    found = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    assert said in found.stdout, found.stdout
