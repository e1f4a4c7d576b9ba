"""The watchdog against a real arm on a pty, killing real processes: order and end state, judged by physics."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.assembly import emulated_calibration
from hardware.emulator.stepped import SteppedArm
from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.safety import watchdog
from hardware.runtime.safety.watchdog import DescentMemory, Takeover
from hardware.runtime.safety.watchdog_client import DEAF, SPACING, DescentPlanner, Watchdog
from hardware.runtime.safety.way_back import SPEED, WayBack, longest_descent
from hardware.servos.port_users import programs_on
from sim2real.gate.gate import Gate
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")


def spawn(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def line(process: subprocess.Popen, start: str) -> str:
    """The next line of output that begins with `start`."""
    for text in process.stdout:
        if text.startswith(start):
            return text.strip()
    raise AssertionError(f"ended without '{start}'")


def is_starting(pid: int) -> bool:
    """Whether a process is a fork that has not become its own program yet: it still has its parent's files."""
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return True


class Bench:
    """An arm on a pty, who has it open, and a control process on it."""

    def __init__(self, folder, robot: str) -> None:
        self.robot = Robot.load(robot)
        self.link, self.log = str(folder / "arm"), str(folder / "log.npz")
        self.arm = spawn("tests.hardware.runtime.pty_arm", self.link, self.log, robot, stdin=subprocess.PIPE)
        line(self.arm, "ready")
        self.owners: list[set[int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.is_set():
            before = self._holders()
            starting = {pid for pid in before if is_starting(pid)}
            self.owners.append((before & self._holders()) - starting)
            time.sleep(0.01)

    def _holders(self) -> set[int]:
        return {program.pid for program in programs_on(self.link)}

    def control(self, *arguments: str) -> subprocess.Popen:
        return spawn(
            "tests.hardware.runtime.control",
            self.link,
            self.robot.name,
            *arguments,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> dict[str, np.ndarray]:
        self._done.set()
        self._thread.join()
        self.arm.stdin.write("\n")
        self.arm.stdin.flush()
        assert self.arm.wait(20) == 0
        rows = np.load(self.log)["rows"]
        n = self.robot.n
        return {
            "time": rows[:, 0], "position": rows[:, 1 : 1 + n], "goal": rows[:, 1 + n : 1 + 2 * n],
            "mode": rows[:, 1 + 2 * n :],
        }  # fmt: skip

    def close(self) -> None:
        self._done.set()
        if self.arm.poll() is None:
            self.arm.kill()
        self.arm.wait()


@pytest.fixture
def bench(tmp_path, request):
    made = Bench(tmp_path, getattr(request, "param", "so101"))
    yield made
    made.close()


def check_settled(truth, robot: Robot, killed: float, owners, control: int, guard: int) -> None:
    """Held, lowered slowly, let go; and never two processes on the port."""
    assert all(len(owner) <= 1 for owner in owners)
    assert owners[-1] == set(), "the port is released"
    assert {control} in owners and {guard} in owners
    first = owners.index({guard})
    assert not any(control in owner for owner in owners[first:]), "control never comes back"
    t, goal, mode = truth["time"], truth["goal"], truth["mode"]
    after = t > killed + 0.02
    assert (mode[-1] == 0).all(), "the torque is off"
    off = np.argmax(after & (mode == 0).all(axis=1))
    moving = np.flatnonzero(after[1:] & (np.abs(np.diff(goal, axis=0)).max(axis=1) > 0))
    held = t[moving[0]] - killed
    assert held >= 1.0, "it holds for a second before it moves"
    assert (mode[(t < t[off]) & after] == 1).all(), "the torque stays on until the end"
    assert moving[-1] < off, "nothing is sent after letting go"
    # True joint speeds while it is lowered, over 50 ms.
    lowering = truth["position"][moving[0] : off]
    speed = np.abs(lowering[5:] - lowering[:-5]) / (t[moving[0] + 5 : off] - t[moving[0] : off - 5])[:, None]
    assert speed.max() < 1.5 * SPEED * robot.limits("velocity").max()
    assert np.abs(truth["position"][-1] - robot.rest)[:5].max() < 0.12, "at rest"
    # Letting go drops nothing: the joints sag by a little at most.
    assert np.abs(truth["position"][-1] - truth["position"][off - 1])[:5].max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bench", "how"),
    # Dynamixel servos have stopped by themselves before the watchdog has the port.
    [("so101", signal.SIGKILL), ("so101", signal.SIGSTOP), ("koch", signal.SIGSTOP)],
    indirect=["bench"],
)
def test_control_is_gone(bench, how):
    control = bench.control()
    guard = int(line(control, "watchdog").split()[1])
    line(control, "running")
    killed = time.monotonic()
    os.kill(control.pid, how)
    assert control.wait(30) == -signal.SIGKILL
    end = time.monotonic() + 60
    while (
        os.path.exists(f"/proc/{guard}")
        and watchdog._scheduling(guard).state != "Z"
        and time.monotonic() < end
    ):
        time.sleep(0.05)
    said = control.stderr.read()
    check_settled(bench.finish(), bench.robot, killed, bench.owners, control.pid, guard)
    words = ["taking over", "holding", "lowering", "torque is off"]
    places = [said.index(word) for word in words]
    assert places == sorted(places)


@pytest.mark.slow
def test_a_normal_end_needs_no_watchdog(bench):
    control = bench.control("1.5")
    guard = int(line(control, "watchdog").split()[1])
    assert line(control, "ended") == "ended limp []"
    assert control.wait(20) == 0
    assert "taking over" not in control.stderr.read()
    truth = bench.finish()
    assert not any(guard in owner for owner in bench.owners)
    assert (truth["mode"][-1] == 0).all()
    assert np.abs(truth["position"][-1] - ROBOT.rest)[:5].max() < 0.12


@pytest.mark.slow
def test_a_dead_watchdog_ends_the_session(bench):
    control = bench.control()
    guard = int(line(control, "watchdog").split()[1])
    line(control, "running")
    os.kill(guard, signal.SIGKILL)
    assert line(control, "ended") == "ended limp_fault ['watchdog_lost']"
    truth = bench.finish()
    assert (truth["mode"][-1] == 0).all()
    assert np.abs(truth["position"][-1] - ROBOT.rest)[:5].max() < 0.12


@pytest.mark.parametrize(
    ("mode", "silent", "slept", "state", "share", "expected"),
    [
        (watchdog.ARMED, 0.11, 0.0, "T", 0.0, True),  # stopped: at once
        (watchdog.ARMED, 0.11, 0.1, "T", 0.0, True),  # however late we are ourselves
        (watchdog.ARMED, 0.11, 0.0, "", 0.0, True),
        (watchdog.ARMED, 0.09, 0.0, "T", 0.0, False),
        (watchdog.ARMED, 0.30, 0.0, "S", 0.0, False),
        (watchdog.ARMED, 0.51, 0.0, "S", 0.0, True),  # waits for something that does not come
        (watchdog.ARMED, 0.51, 0.0, "R", 0.9, True),  # busy with something else
        (watchdog.ARMED, 0.51, 0.1, "R", 0.9, False),  # we were not let run either
        (watchdog.ARMED, 1.0, 0.0, "R", 0.05, False),  # wants to run, and is not let
        (watchdog.ARMED, 3.1, 0.0, "R", 0.05, True),
        (watchdog.ARMED, 1.0, 0.0, "R", float("nan"), True),  # nobody knows
        (watchdog.BUSY, 4.9, 0.0, "S", 0.0, False),
        (watchdog.BUSY, 5.1, 0.0, "S", 0.0, True),
        (watchdog.LIMP, 99.0, 0.0, "T", 0.0, False),
    ],
)
def test_who_is_merely_starved_is_not_taken_over(mode, silent, slept, state, share, expected):
    assert watchdog.overdue(mode, silent, slept, state, share) is expected


def test_what_the_system_says_about_a_process():
    before = watchdog._scheduling(os.getpid())
    sum(range(2_000_000))
    after = watchdog._scheduling(os.getpid())
    assert before.state == after.state == "R" and after.ran > before.ran
    assert watchdog._scheduling(2**22 + 1).state == ""


def test_memory_keeps_the_old_descent_until_the_new_one_is_complete():
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, watchdog.SIZE)
    writer, reader = DescentMemory(descriptor), DescentMemory(descriptor)
    writer.start(6, 0.05)
    assert reader.read() == ([0] * 6, [], 0.05)
    writer.set_last([1, 2, 3, 4, 5, 6])
    writer.set_descent([[10] * 6, [20] * 6])
    assert reader.read() == ([1, 2, 3, 4, 5, 6], [[10] * 6, [20] * 6], 0.05)
    # A writer that dies halfway through the next one leaves this one in force.
    second = watchdog._HEADER.size + watchdog._LAST.size + watchdog._POINTS.size
    struct.pack_into("q6q", writer._map, second, 9, *[7] * 6)
    assert reader.read()[1] == [[10] * 6, [20] * 6]
    writer.set_descent([[30] * 6])
    assert reader.read()[1] == [[30] * 6]
    writer.set_descent([[k] * 6 for k in range(watchdog.MAX_POINTS)])
    assert len(reader.read()[1]) == watchdog.MAX_POINTS


def test_a_descent_is_forgotten_once_the_arm_is_limp():
    """A hand may have moved it since: whoever takes over while it is armed anew must not send it back."""
    stepped = SteppedArm("so101")
    guard = Watchdog(stepped.robot, "/dev/null", stepped.calibration.radians_to_ticks)
    try:
        guard.busy()
        guard.beat(True, stepped.robot.home)
        last, points, _ = guard._memory.read()
        assert last == stepped.calibration.radians_to_ticks(stepped.robot.home).tolist() == points[0]
        guard.beat(False, stepped.robot.home)
        assert guard._memory.read()[:2] == ([0] * 6, [])
        guard.busy()
        assert guard._memory.read()[1] == []
        guard.beat(False, stepped.robot.home)
    finally:
        guard.close()


def test_the_descent_is_gated_and_ends_at_rest():
    planner, check = DescentPlanner(ROBOT), Gate(ROBOT)
    rng = np.random.default_rng(1)
    for _ in range(10):
        start = ROBOT.home + rng.uniform(-0.4, 0.1, ROBOT.n)
        planner.begin(start)
        points = None
        calls = 0
        while points is None:
            points = planner.advance(20)
            calls += 1
        points = np.array(points)
        assert calls < 130 and len(points) <= watchdog.MAX_POINTS
        assert np.allclose(points[0], start) and np.allclose(points[-1], ROBOT.rest, atol=1e-6)
        speed = np.abs(np.diff(points[:-1], axis=0)) / SPACING
        assert (speed <= SPEED * ROBOT.limits("velocity") + 1e-9).all()
        assert min(check.clearance(q) for q in points) > -ROBOT.gate.table_clearance


BARRED = np.array([-0.127, 1.492, -0.912, -1.388, 2.58, 1.049])
"""rad. Folded: a slow gate lets it down only after three attempts, or not all the way."""


@pytest.mark.parametrize("speed", [1.0, 0.1])
def test_a_descent_ends_before_anybody_gives_it_up(speed):
    rng = np.random.default_rng(1)
    gate = Gate(ROBOT, min(speed, SPEED))
    for start in (BARRED, *(ROBOT.home + rng.uniform(-0.4, 0.1, ROBOT.n) for _ in range(3))):
        gate.reset(start)
        way, ticks = WayBack(ROBOT, gate, down=True), 0
        while not way.done:
            way.step()
            ticks += 1
        assert ticks / ROBOT.command_rate < 0.9 * longest_descent(ROBOT, speed)


def test_a_slow_robots_descent_fits_too():
    """Joints that need half a minute to turn at the speed of a descent: all of it is there, and control waits."""
    joints = tuple(replace(joint, velocity=joint.velocity / 10) for joint in ROBOT.joints)
    slow = replace(ROBOT, joints=joints)
    planner = DescentPlanner(slow)
    planner.begin(ROBOT.home)
    points = planner.advance(planner.longest)
    assert len(points) <= watchdog.MAX_POINTS
    np.testing.assert_allclose(points[-1], ROBOT.rest, atol=1e-6)
    assert len(points) * planner.every / slow.command_rate > 20.0
    arm = SteppedArm(slow)
    assert ControlLoop(arm.arm, arm.clock).settings.deadlines.settling == longest_descent(slow) > 20.0


@pytest.mark.parametrize("speed", [1.0, 0.1, 0.02])
def test_however_slow_the_run_the_way_down_ends_at_rest(speed):
    """Its points are as few as ever; where all is slow they lie further apart in time."""
    calibration = emulated_calibration(ROBOT)
    with Watchdog(ROBOT, "/dev/ttyNOT", calibration.radians_to_ticks, speed=speed) as guardian:
        guardian.beat(True, ROBOT.home)
        last, points, period = guardian._memory.read()
        guardian.beat(False, ROBOT.home)
    assert last == points[0]
    np.testing.assert_allclose(points[-1], calibration.radians_to_ticks(ROBOT.rest), atol=2)
    tick = 2 * np.pi / 4096
    fastest = np.abs(np.diff(points, axis=0)).max(axis=0) * tick / period
    allowed = min(speed, SPEED) * ROBOT.limits("velocity")
    assert (fastest <= allowed + tick / period).all() and (fastest > 0.5 * allowed).any()


def test_a_watchdog_that_is_stopped_counts_as_gone():
    """It still has its end of the pipe, and would not lower anything."""
    with Watchdog(ROBOT, "/dev/ttyNOT", emulated_calibration(ROBOT).radians_to_ticks) as guardian:
        guardian.beat(False, ROBOT.home)
        assert guardian.alive
        os.kill(guardian.pid, signal.SIGSTOP)
        for _ in range(round(DEAF * ROBOT.command_rate) + 2):
            guardian.beat(False, ROBOT.home)
        assert not guardian.alive
        for _ in range(5000):
            guardian.beat(False, ROBOT.home)
        assert not guardian.alive, "nor once the pipe is full"
        os.kill(guardian.pid, signal.SIGCONT)
        end = time.monotonic() + 30
        while not guardian.alive and time.monotonic() < end:
            time.sleep(0.01)
        assert guardian.alive


UNREACHABLE = """
import sys, time
from hardware.emulator.assembly import emulated_calibration
from hardware.runtime.safety.watchdog_client import Watchdog
from sim2real.robot import Robot
robot = Robot.load("so101")
guardian = Watchdog(robot, sys.argv[1], emulated_calibration(robot).radians_to_ticks)
guardian.beat(True, robot.home)
print(guardian.pid, flush=True)
if sys.argv[2] == "handed over":
    guardian.close()
    time.sleep(1.5)
else:
    time.sleep(60.0)
print("written", flush=True)
"""


@pytest.mark.parametrize("how", ["handed over", "silent"])
def test_control_that_hands_over_an_arm_it_cannot_reach_has_time_for_its_report(how, tmp_path):
    """One that is only silent is killed long before."""
    words = [sys.executable, "-c", UNREACHABLE, str(tmp_path / "no-port"), how]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    reported = done.stdout.split()[1:] == ["written"]
    assert (done.returncode, reported) == ((0, True) if how == "handed over" else (-signal.SIGKILL, False))
    # Either way the watchdog tried to take over then.
    assert "no-port" in done.stderr or "no serial port" in done.stderr


class FakePort:
    """Takes bytes; answers nothing. For the order of what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def write(self, data):
        self.sent.append((data[5], data))

    def read(self, size, deadline):
        return b""

    def discard_input(self):
        return 0

    def now(self):
        return time.monotonic()


def test_the_order_of_what_is_sent(monkeypatch):
    """Hold, approach, descent, torque off, even on a bus on which nothing answers."""
    clock = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watchdog.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    port, said = FakePort(), []
    done = Takeover(port, [1, 2], said.append).run([2000, 2000], [[2100, 2000], [2300, 1900]], 0.05)
    assert not done and "NOT off" in said[-1]
    assert clock[0] > watchdog.HOLD
    goals = [struct.unpack("<H", data[8:10])[0] for address, data in port.sent if address == 42]
    assert goals[0] <= 2010 and goals == sorted(goals) and goals[-1] == 2300
    assert 2100 in goals
    # 651.9 ticks are a radian; the approach is slow.
    approach = [goal for goal in goals if goal <= 2100]
    assert np.diff(approach).max() * watchdog.RATE / 651.9 <= watchdog.APPROACH * 1.5
    addresses = [address for address, _ in port.sent]
    assert 40 not in addresses[: addresses.index(42) + len(goals)], "torque off comes last"


def test_a_limp_arm_leaves_no_descent_behind():
    """Servos may be restarted while the arm is limp and count other turns then: the old goals mean nothing."""
    robot = Robot.load("koch")
    calibration = emulated_calibration(robot)
    beyond = 4096 * np.arange(robot.n)

    def goals(position):
        return calibration.radians_to_ticks(position) + beyond

    with Watchdog(robot, "/dev/ttyNOT", goals) as guardian:
        guardian.beat(True, robot.home)
        last, descent, _ = guardian._memory.read()
        assert last == goals(robot.home).tolist() and descent[0] == last
        np.testing.assert_allclose(descent[-1], goals(robot.rest), atol=20)
        guardian.busy()
        assert guardian._memory.read()[1] == descent, "it may be needed until the torque is off"
        guardian.beat(False, robot.home)
        assert guardian._memory.read()[1] == []
