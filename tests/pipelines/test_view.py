"""The live view: what it costs the loop, and what it writes where rerun is installed."""

import importlib.util
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hardware.runtime.control.supervisor import CODES, Phase, State
from hardware.runtime.control.tick import Tick
from hardware.runtime.fault_codes import FaultCode
from pipelines.cli import main
from pipelines.deployment.view import LiveView
from sim2real.errors import UserError
from sim2real.robot import Robot
from tests.hardware.runtime.ticks import a_tick

ROBOT = Robot.load("so101")
INSTALLED = importlib.util.find_spec("rerun") is not None


def tick(i: int) -> Tick:
    zeros = np.zeros(ROBOT.n)
    return a_tick(
        time=i / 30,
        reading=SimpleNamespace(position=zeros + 0.01 * i, load=zeros, temperature=zeros + 30),
        requested=zeros,
        executed=zeros,
        state=State(Phase.RUNNING if i > 10 else Phase.HOLD, fault=FaultCode.SERVO_FAULT if i > 20 else None),
        observation={},
        clipped=i,
    )


@pytest.mark.skipif(INSTALLED, reason="rerun is installed")
def test_without_the_viewer_it_is_one_message(capsys, tmp_path):
    words = ["deploy", "--policy", "expert", "--task", "reach", "--port", "/dev/ttyNOT", "--view"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "pip install 'sim2real-transfer[view]'" in said[0]


@pytest.mark.skipif(INSTALLED, reason="rerun is installed")
def test_a_viewer_that_has_gone_disturbs_nobody(tmp_path, capfd):
    view = LiveView(ROBOT, str(tmp_path / "run.rrd"), {})
    view._process.join(60.0)
    for i in range(100):
        view.tick(tick(i))
    assert view.lost == 100
    assert "ended early" in view.close()
    assert "rerun" in capfd.readouterr().err


class Still:
    """A camera that always shows the same."""

    def latest(self):
        return time.monotonic(), np.full((48, 64, 3), (10, 200, 90), np.uint8)


@pytest.mark.skipif(not INSTALLED, reason="rerun is not installed (extra 'view')")
def test_it_writes_what_rerun_can_read(tmp_path, monkeypatch):
    """Read back with rerun's own reader: joints, supervisor, interventions, pictures."""
    monkeypatch.setattr(
        "pipelines.deployment.view.GOODBYE", 120.0
    )  # a busy machine loads it for longer than a run ends
    view = LiveView(ROBOT, str(tmp_path / "run.rrd"), {"front": Still()})
    for i in range(30):
        view.tick(tick(i))
    assert view.close() == ""
    content = (tmp_path / "run.rrd").read_bytes()
    assert content[:3] == b"RRF" and b"joints/elbow_flex" in content
    experimental = pytest.importorskip("rerun.experimental")
    if not hasattr(experimental, "RrdReader"):
        pytest.skip("this rerun cannot read its files in Python")
    read = {}
    for chunk in experimental.RrdReader(str(tmp_path / "run.rrd")).stream():
        if not chunk.is_static:
            table = chunk.to_record_batch()
            for name, column in zip(table.schema.names, table.columns, strict=True):
                # Times are whole nanoseconds, which Python's own types do not hold.
                values = column.cast("int64") if name in ("time", "log_time") else column
                read.setdefault((chunk.entity_path, name), []).extend(values.to_pylist())
    elbow = np.array(read["/joints/elbow_flex", "Scalars:scalars"])
    np.testing.assert_allclose(elbow[:, 0], np.degrees(0.01 * np.arange(30)))
    assert not elbow[:, 1:].any() and elbow.shape == (30, 3)
    seconds = np.array(read["/joints/elbow_flex", "time"]) / 1e9
    np.testing.assert_allclose(seconds, np.arange(30) / 30, atol=1e-6)
    assert np.ravel(read["/interventions/clipped", "Scalars:scalars"]).tolist() == list(range(30))
    states = np.ravel(read["/supervisor/state", "Scalars:scalars"])
    assert states[10] == CODES[Phase.HOLD] and states[11] == CODES[Phase.RUNNING]
    said = [text for [text] in read["/supervisor/log", "TextLog:text"]]
    assert said == ["hold", "running", "running: servo_fault"]
    assert [level for [level] in read["/supervisor/log", "TextLog:level"]] == ["INFO", "INFO", "ERROR"]
    picture = cv2.imdecode(np.array(read["/camera/front", "EncodedImage:blob"][0][0], np.uint8), 1)
    np.testing.assert_allclose(picture[24, 32, ::-1], (10, 200, 90), atol=6)


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        LiveView(ROBOT, str(tmp_path / "file" / "run.rrd"), {})
