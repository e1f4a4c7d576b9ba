"""The arm's page: what it shows, whom it answers, what its button does, and that nothing of it holds up the loop."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.runtime.control.supervisor import Phase, State
from hardware.runtime.fault_codes import FaultCode
from pipelines.cli import main
from pipelines.deployment.browser_view import BrowserView, asked_for, port_of
from pipelines.robot_page import JointState, RobotState, robot_page
from sim2real.errors import UserError
from sim2real.gate.gate import VELOCITY
from sim2real.robot import Robot
from tests.hardware.runtime.ticks import a_tick

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
CHROMIUM = shutil.which("chromium")


class Still:
    """A camera that always shows the same."""

    def latest(self):
        return 1.0, np.full((48, 64, 3), (10, 200, 90), np.uint8)


def tick(i, **fields):
    zeros = np.zeros(ROBOT.n)
    reading = SimpleNamespace(position=zeros + 0.01 * i, load=zeros, temperature=zeros + 30)
    return a_tick(time=i * 0.11, reading=reading, state=State(Phase.RUNNING), clipped=i, **fields)


def ask(url, body=None, **headers):
    """(status, headers, content) of a request; redirects are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def page():
    view = BrowserView(ROBOT, "browser", {"front": Still(), '<b>"x"': Still()})
    for i in range(20):
        view.tick(tick(i, flags=VELOCITY if i % 2 else 0))
    until(lambda: json.loads(ask(view.url + "state")[2])["clipped"] == 19)
    yield view
    assert view.close() == ""


def test_it_shows_the_arm(page):
    status, headers, content = ask(page.url)
    html = content.decode()
    assert status == 200 and "running" in html and "elbow_flex" in html and "<b>" not in html
    assert f"{np.degrees(0.19):.1f}°" in html and "velocity" in html
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"(?:src|href|action)=.(?:https?:)?//", html), "something comes from elsewhere"
    state = json.loads(ask(page.url + "state")[2])
    assert state["state"] == "running" and state["interventions"]["velocity"] == 10
    assert ask(page.url + "camera/0.jpg")[2][:2] == b"\xff\xd8"
    for path in ("camera/2.jpg", "camera/-1.jpg", "camera/../state", "etc/passwd", "stop"):
        assert ask(page.url + path)[0] == 404


def test_pages_elsewhere_reach_nothing(page):
    for path in ("", "state", "camera/0.jpg"):
        assert ask(page.url + path, Origin="http://attacker.example")[0] == 403
        assert ask(page.url + path, Host="attacker.example")[0] == 403
    token = re.search(rb'name="token" value="([^"]+)"', ask(page.url)[2])[1]
    assert ask(page.url + "stop", b"token=" + token, Origin="http://attacker.example")[0] == 403
    assert ask(page.url + "stop", b"token=guessed")[0] == 403
    assert ask(page.url + "stop", b"")[0] == 403
    assert ask(page.url + "stop", b"", **{"Content-Length": "9999999999"})[0] == 413
    # This process drives no arm, and would die of the signal.
    status, _, content = ask(page.url + "stop", b"token=" + token)
    assert status == 503 and b"nothing was stopped" in content


DRIVER = """
import signal, time
from hardware.runtime.processes import take_name
from tests.pipelines.test_browser_view import ROBOT, BrowserView, tick
signal.signal(signal.SIGUSR1, lambda *_: print("pressed", flush=True))
take_name()
view = BrowserView(ROBOT, "browser", {})
print(view.url, flush=True)
for i in range(10_000):
    view.tick(tick(i))
    time.sleep(0.02)
"""


def test_its_button_is_the_emergency_stop():
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    try:
        url = driver.stdout.readline().strip()
        token = re.search(rb'name="token" value="([^"]+)"', ask(url)[2])[1]
        status, headers, _ = ask(url + "stop", b"token=" + token)
        assert (status, headers["Location"]) == (303, "/")
        assert driver.stdout.readline().strip() == "pressed"
    finally:
        driver.kill()
        driver.wait()


def test_a_page_that_hangs_or_has_gone_disturbs_nobody():
    view = BrowserView(ROBOT, "browser", {})
    import os

    os.kill(view._process.pid, signal.SIGSTOP)
    for i in range(3000):
        view.tick(tick(i))
    assert view._process.lost > 1000
    os.kill(view._process.pid, signal.SIGKILL)
    view._process.join(30.0)
    view.tick(tick(9000))
    assert "ended early" in view.close()


def test_a_stop_is_pressed_once_and_the_page_says_so():
    joint = JointState("elbow", 0.2, -1, 1, load=0.1, temperature=31)
    for state in ("estop", "settling"):
        lowered = robot_page(RobotState("so101", state, "estop", [joint]), stop="/stop", token="t")
        assert "<button disabled>" in lowered
    stopped = lowered
    assert "<button disabled>" in stopped and "http-equiv" in stopped and "<script" not in stopped
    assert "<form" not in robot_page(RobotState("so101", "running"))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_keeps_it_up_to_date(page, tmp_path):
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--no-first-run"]
    done = subprocess.run(
        [CHROMIUM, *words, "--virtual-time-budget=2000", "--dump-dom", page.url],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "elbow_flex" in done.stdout and "Emergency stop" in done.stdout, done.stderr[-2000:]
    # Its script came back with the newest state, and asked for further pictures.
    assert "/camera/0.jpg?" in done.stdout and 'id="gone" hidden' in done.stdout


def test_ports(capsys, tmp_path):
    assert asked_for("browser") and asked_for("browser:80") and not asked_for("browsers.rrd")
    assert port_of("browser") == 0 and port_of("browser:8080") == 8080
    for bad in ("browser:", "browser:0", "browser:70000", "browser:x"):
        with pytest.raises(UserError, match="port"):
            port_of(bad)
    words = ["deploy", "--policy", "expert", "--task", "reach", "--port", "/dev/ttyNOT"]
    assert main([*words, "--view", "browser:99999", "--out", str(tmp_path / "out")]) == 2
    assert "1 to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(page):
    with pytest.raises(UserError, match="cannot listen"):
        BrowserView(ROBOT, "browser:" + page.url.rstrip("/").rpartition(":")[2], {})


def test_a_fault_is_named():
    html = robot_page(RobotState("so101", "fault_hold", FaultCode.SERVO_FAULT.value))
    assert "servo fault" in html and "fault hold" in html
