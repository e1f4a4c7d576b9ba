"""The live view: what it costs the loop, and what it writes where rerun is installed."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.runtime.supervisor import Phase, State
from pipelines.cli import main
from pipelines.view import View
from sim2real.errors import UserError
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
INSTALLED = importlib.util.find_spec("rerun") is not None


def loop(i: int) -> SimpleNamespace:
    zeros = np.zeros(ROBOT.n)
    return SimpleNamespace(
        reading=SimpleNamespace(position=zeros + 0.01 * i, load=zeros, temperature=zeros + 30),
        requested=zeros,
        executed=zeros,
        phase=Phase.RUNNING if i > 10 else Phase.HOLD,
        state=State(fault="stall" if i > 20 else None),
        counts=SimpleNamespace(clipped=i, rejected=0),
    )


@pytest.mark.skipif(INSTALLED, reason="rerun is installed")
def test_without_the_viewer_it_is_one_message(capsys, tmp_path):
    words = ["deploy", "--policy", "expert", "--task", "reach", "--port", "/dev/ttyNOT", "--view"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "pip install 'sim2real-transfer[view]'" in said[0]


@pytest.mark.skipif(INSTALLED, reason="rerun is installed")
def test_a_viewer_that_has_gone_disturbs_nobody(tmp_path, capfd):
    view = View(ROBOT, str(tmp_path / "run.rrd"), {})
    view._process.join(60)
    for i in range(100):
        view.watch(i / 30, loop(i))
    assert view.lost == 100
    assert "ended early" in view.close()
    assert "rerun" in capfd.readouterr().err


@pytest.mark.skipif(not INSTALLED, reason="rerun is not installed (extra 'view')")
def test_it_writes_what_rerun_can_read(tmp_path):
    view = View(ROBOT, str(tmp_path / "run.rrd"), {})
    for i in range(30):
        view.watch(i / 30, loop(i))
    assert view.close() == ""
    content = (tmp_path / "run.rrd").read_bytes()
    assert content[:3] == b"RRF" and b"joints/elbow_flex" in content


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        View(ROBOT, str(tmp_path / "file" / "run.rrd"), {})
