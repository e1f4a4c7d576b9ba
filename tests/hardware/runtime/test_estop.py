"""Emergency stop inputs: lines that are watched, a signal that is sent, a run that is stopped by it."""

import errno
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.runtime.processes import NAME, control_processes, is_control
from hardware.runtime.safety.estop import AGAIN, EmergencyStop
from hardware.runtime.safety.estop_line import LineWatcher, reader
from pipelines.cli import main
from sim2real.errors import UserError

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[3]


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.01)


def test_presses_are_counted_and_repeats_are_not():
    stop = EmergencyStop()
    assert stop.read(0.0) == (False, 0, "")
    stop.press("key")
    stop.press("key")
    assert stop.read(0.01) == (False, 1, "key")
    # A key that is held down, however long.
    for k in range(100):
        stop.press("key")
        assert stop.read(0.1 + 0.05 * k).presses == 1
    stop.press("signal")
    assert stop.read(5.05 + AGAIN) == (False, 2, "signal")


def test_a_file_is_pressed_when_it_says_so_or_cannot_be_read(tmp_path):
    path = tmp_path / "value"
    with pytest.raises(UserError, match="cannot be read"):
        reader(str(path))
    path.write_text("")
    with pytest.raises(UserError, match="empty"):
        reader(str(path))
    path.write_text("1\n")
    pressed = reader(str(path))
    assert not pressed()
    path.write_text("0\n")
    assert pressed()
    path.write_text("1\n")
    assert not pressed()
    path.unlink()
    assert pressed()
    path.mkdir()
    assert pressed()


def test_a_port_without_modem_lines_is_refused():
    master, slave = pty.openpty()
    try:
        for spec in (os.ttyname(slave), f"{os.ttyname(slave)}:dsr"):
            with pytest.raises(UserError, match="modem lines"):
                reader(spec)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(("spec", "wanted", "driven"), [("", "CTS", "RTS"), (":dsr", "DSR", "DTR")])
def test_a_serial_line_is_pressed_unless_it_is_asserted(monkeypatch, spec, wanted, driven):
    """A pty has no modem lines, so the kernel's answers are stood in for; all else is real."""
    state = {"lines": 0, "error": False}
    real = fcntl.ioctl

    def ioctl(descriptor, request, argument=0, *rest):
        if request == termios.TIOCMBIS:
            state["driven"] = struct.unpack("i", argument)[0]
            return argument
        if request == termios.TIOCMGET:
            if state["error"]:
                raise OSError(errno.EIO, "gone")
            return struct.pack("i", state["lines"])
        return real(descriptor, request, argument, *rest)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    master, slave = pty.openpty()
    try:
        pressed = reader(os.ttyname(slave) + spec)
        assert state["driven"] == getattr(termios, f"TIOCM_{driven}"), "it feeds the button"
        assert pressed(), "the line is down: the button is pressed, or its wire broken"
        state["lines"] = getattr(termios, f"TIOCM_{wanted}")
        assert not pressed()
        state["lines"] = ~getattr(termios, f"TIOCM_{wanted}") & 0xFFF
        assert pressed(), "the other lines do not count"
        state["lines"], state["error"] = getattr(termios, f"TIOCM_{wanted}"), True
        assert pressed(), "an adapter that was pulled"
    finally:
        os.close(master)
        os.close(slave)


def test_a_line_is_watched_by_a_process(tmp_path):
    path = tmp_path / "value"
    path.write_text("0")
    with pytest.raises(UserError, match="release it first"):
        LineWatcher(str(path))
    path.write_text("1")
    line = LineWatcher(str(path))
    try:
        line.wait_ready()
        stop = EmergencyStop()
        stop.inputs.append(line)
        eventually(lambda: not stop.read(time.monotonic()).held, "the line to be released")
        presses = stop.read(time.monotonic()).presses
        path.write_text("0")
        eventually(lambda: stop.read(time.monotonic()).held, "the press")
        path.write_text("1")
        eventually(lambda: not stop.read(time.monotonic()).held, "the release")
        reading = stop.read(time.monotonic())
        assert reading.presses > presses and reading.source == str(path)
        # Stopped, or dead: nobody looks, so it counts as pressed.
        os.kill(line.pid, signal.SIGSTOP)
        eventually(lambda: stop.read(time.monotonic()).held, "the stopped process to be noticed")
        os.kill(line.pid, signal.SIGCONT)
        eventually(lambda: not stop.read(time.monotonic()).held, "the process to go on")
        os.kill(line.pid, signal.SIGKILL)
        eventually(lambda: stop.read(time.monotonic()).held, "the dead process to be noticed")
    finally:
        line.close()


CONTROL = """
import signal, sys, time
from hardware.runtime.processes import take_name
signal.signal(signal.SIGUSR1, lambda *_: print("stop", flush=True))
take_name()
print("ready", flush=True)
time.sleep(600)
"""


def test_the_command_finds_and_stops_a_control_process(capsys, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", CONTROL], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert process.pid in control_processes() and is_control(process.pid)
        assert main(["estop", str(process.pid), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"stopped": [process.pid]}
        assert process.stdout.readline() == "stop\n"
        assert process.poll() is None
        # Nothing else is ever signalled: SIGUSR1 would end it.
        bystander = subprocess.Popen(["sleep", "600"])
        assert main(["estop", str(bystander.pid)]) == 2
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()
        assert main(["estop", "--port", str(tmp_path / "port")]) == 1
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_run_is_stopped_by_the_command(tmp_path):
    """The whole way: deploy on an emulated arm, `sim2real estop`, a latched stop, lowered, limp, black box."""
    words = [
        sys.executable,
        "-m",
        "pipelines",
        "deploy",
        "--policy",
        "expert",
        "--task",
        "reach",
        "--yes",
        "--json",
    ]
    words += ["--port", "emulated", "--seconds", "120", "--out", str(tmp_path), "--goal", "0.2,0.05,0.1"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        comm = Path(f"/proc/{process.pid}/comm")
        eventually(lambda: comm.read_text().strip() == NAME, "the arm to be driven", 180.0)
        time.sleep(2.5)
        subprocess.run(
            [sys.executable, "-m", "pipelines", "estop", str(process.pid)], check=True, cwd=ROOT, timeout=60
        )
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    result = json.loads(out)
    assert process.returncode == 1, error
    assert result["faults"] == ["estop: signal"] and result["final_state"] == "limp_fault"
    import pyarrow.parquet as pq

    states = list(dict.fromkeys(pq.read_table(tmp_path / "log.parquet")["state"].to_pylist()))
    assert states[-3:] == ["estop", "settling", "limp_fault"]
    from hardware.runtime.recording.timeline import BlackBoxRecording

    assert BlackBoxRecording(tmp_path / "blackbox-1.npz").faults == ["estop: signal"]
