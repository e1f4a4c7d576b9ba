"""The black box: what is in it, that it forgets the oldest, and that it reaches the disk whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.recording import blackbox
from hardware.runtime.recording.blackbox import RECEIVED, SENT, VECTORS, BlackBox, save
from hardware.runtime.recording.blackbox_rows import BlackBoxSink, about
from hardware.runtime.recording.timeline import BlackBoxRecording
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from hardware.servos.dynamixel import protocol as dynamixel
from hardware.servos.family import FAMILIES
from pipelines.cli import main
from sim2real.errors import UserError
from sim2real.robot import Robot

from .test_loop import Wave

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
N = ROBOT.n


def box(rate: float = 100.0) -> BlackBox:
    return BlackBox(N, rate, about(ROBOT, port="test", command="test"))


def tick(into: BlackBox, t: float) -> None:
    into.row((t, *(0.0,) * 14), tuple(np.full(N, t) for _ in VECTORS))


def test_the_oldest_is_forgotten_and_the_order_kept(tmp_path):
    one = box(rate=20)
    for k in range(500):
        tick(one, k / 20)
        one.exchange(k / 20, k % 2, bytes([k % 256]) * (k % 7 + 1))
        if k % 50 == 0:
            one.event(k / 20, f"event {k}")
    save(one.memory.snapshot("test"), tmp_path / "box.npz")
    read = BlackBoxRecording(tmp_path / "box.npz")
    t = read.scalar("t")
    assert np.allclose(np.diff(t), 0.05) and t[-1] == 499 / 20 and 9.9 <= np.ptp(t) <= 10.0
    assert np.array_equal(read.vector("position")[:, 3], t)
    lines = read.lines()
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert lines[-1].time - lines[0].time == pytest.approx(10.0, abs=0.11)
    for line in lines:
        k = round(line.time * 20)
        assert line.data == bytes([k % 256]) * (k % 7 + 1) and line.sent == (k % 2 == SENT)
    assert [text for _, text in read.events] == [f"event {k}" for k in range(0, 500, 50)]


def test_bytes_are_kept_as_far_as_there_is_room(monkeypatch, tmp_path):
    monkeypatch.setattr(blackbox, "_BYTES", 1000)
    monkeypatch.setattr(blackbox, "_EXCHANGES", 64)
    one = box()
    for k in range(200):
        one.exchange(k / 100, RECEIVED, bytes([k]) * 37)
    tick(one, 2.0)
    save(one.memory.snapshot("test"), tmp_path / "box.npz")
    lines = BlackBoxRecording(tmp_path / "box.npz").lines()
    assert 20 <= len(lines) <= 27
    assert [line.data for line in lines] == [bytes([k]) * 37 for k in range(200 - len(lines), 200)]


@pytest.fixture
def flown(arm_rig, tmp_path):
    """A run on servo bytes that ends in a fault: (the recording, the rig, its loop, the path)."""
    arm, clock = arm_rig.arm, arm_rig.clock
    one = box()
    one.tap(arm.bus)
    arm.identify()
    arm.configure()
    loop = ControlLoop(
        arm, clock, LocalPolicy(Wave(), 1 / 30, clock, 0.01), GoalOnly(), sinks=(BlackBoxSink(one),)
    )
    assert loop.run(lambda: loop.phase is Phase.LIMP, 1)
    loop.request = Request.ARM
    assert loop.run(lambda: loop.phase is Phase.HOLD, 2)
    loop.start_policy(0)
    loop.request = Request.RUN
    loop.run(lambda: False, 2.0)
    arm_rig.servos[3].temperature = 80.0
    assert loop.run(lambda: loop.state.fault is not None, 2.0)
    loop.run(lambda: False, 0.5)
    path = tmp_path / "blackbox-1.npz"
    save(one.memory.snapshot("fault"), path)
    return BlackBoxRecording(path), arm_rig, loop, path


def test_a_fault_can_be_read_from_it(flown):
    recording, _, loop, _ = flown
    (sink,) = loop.sinks
    assert sink.box.dumps == 1
    assert recording.faults == loop.faults and "wrist_flex" in loop.faults[0]
    states = [state for _, state, _ in recording.states()]
    assert states[-2:] == ["running", "fault_hold"] or states[-3:] == ["running", "degraded", "fault_hold"]
    assert states[0] == "limp" or states[0] == "identifying"
    row = recording.joint_table()["wrist_flex"]
    assert row["temperature"] >= 65 and row["voltage"] == pytest.approx(12.0, abs=0.2) and row["valid"] == 1
    assert any("overheated" in text for _, text in recording.warnings())
    assert np.array_equal(recording.vector("executed")[-1], loop.executed)
    # The work of a tick is in it, and what was decided.
    assert recording.meta["actions"][int(recording.scalar("action")[-1])] == "hold"


def test_the_line_is_decoded_packet_by_packet(flown):
    recording, rig, loop, _ = flown
    lines = recording.lines(40)
    sent = [line for line in lines if line.sent]
    assert sent and all(line.packets for line in sent)
    goals = [line for line in sent if line.packets[0].startswith("sync_write id 1: goal_position")]
    ticks = rig.calibration.radians_to_ticks(loop.executed)
    assert goals[-1].packets[0].split(" id ")[3] == f"3: goal_position {ticks[2]};"
    answers = [packet for line in lines if not line.sent for packet in line.packets]
    assert any(packet.startswith("id 3: present_position") for packet in answers)
    assert b"".join(line.data for line in sent) in recording._bytes or len(sent) > 1


def test_a_common_reply_is_read_servo_by_servo(tmp_path):
    koch = Robot.load("koch")
    one = BlackBox(koch.n, 100.0, about(koch, port="test", command="test"))
    position = FAMILIES["dynamixel"].table["present_position"]
    one.exchange(1.0, SENT, dynamixel.fast_sync_read(position.address, position.size, (1, 2)))
    parts = [(1, 0, position.encode(2048)), (2, 4, position.encode(1000))]
    one.exchange(1.1, RECEIVED, dynamixel.fast_sync_reply(parts))
    one.row((1.2, *(0.0,) * 14), tuple(np.zeros(koch.n) for _ in VECTORS))
    save(one.memory.snapshot("test"), tmp_path / "box.npz")
    request, answer = BlackBoxRecording(tmp_path / "box.npz").lines()
    assert request.packets == ("fast_sync_read present_position of ids 1, 2",)
    assert answer.packets == ("id 1: present_position 2048; id 2: error 4 present_position 1000",)


def test_recording_changes_nothing(arm_rig):
    """The same replies, in the same time, with and without a black box on the line."""
    port = arm_rig.port
    plain = arm_rig.arm.observe().position
    before = port.now()
    arm_rig.arm.observe()
    cost = port.now() - before
    box().tap(arm_rig.arm.bus)
    before = port.now()
    assert np.array_equal(arm_rig.arm.observe().position, plain)
    assert port.now() - before == pytest.approx(cost)
    assert arm_rig.arm.bus.port.plugged


def wait_for(path: Path) -> BlackBoxRecording:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)
    return BlackBoxRecording(path)


def test_the_writer_writes_on_a_fault_and_what_followed(tmp_path):
    one = box()
    one.start_writer(tmp_path)
    tick(one, 1.0)
    one.event(1.0, "running > fault_hold: estop: key")
    one.dump()
    tick(one, 1.01)
    one.close()
    recording = wait_for(tmp_path / "blackbox-1.npz")
    assert recording.faults == ["estop: key"] and len(recording.ticks) == 2
    assert recording.meta["why"] == "fault"
    # A run without a fault leaves nothing behind.
    two = box()
    two.start_writer(tmp_path)
    two.close()
    assert [path.name for path in tmp_path.iterdir()] == ["blackbox-1.npz"]


def test_a_killed_control_process_leaves_its_black_box(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.hardware.runtime.test_blackbox import box, tick\n"
        "one = box()\n"
        f"one.start_writer(Path({str(tmp_path)!r}))\n"
        "tick(one, 1.0)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    recording = wait_for(tmp_path / "blackbox-1.npz")
    assert len(recording.ticks) == 1 and "without notice" in recording.meta["why"]


def test_the_command_shows_it(flown, capsys, tmp_path):
    path = str(flown[3])
    assert main(["blackbox", path]) == 0
    text = capsys.readouterr().out
    assert (
        "wrist_flex" in text
        and "> fault_hold: " in text
        and "sync_write" in text
        and "present_position" in text
    )
    picture = tmp_path / "box.png"
    assert main(["blackbox", path, "--json", "--exchanges", "10", "--plot", str(picture)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["faults"] == flown[2].faults and len(shown["exchanges"]) == 10
    assert shown["joints"]["wrist_flex"]["temperature"] >= 65
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("content", [None, b"", b"no box", b"PK\x03\x04 broken"])
def test_anything_else_is_refused(content, tmp_path, capsys):
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError):
        BlackBoxRecording(path)
    assert main(["blackbox", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
