"""A leader arm on a real pty, read by its own process."""

import threading
import time

import numpy as np
import pytest

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.hand import HandPath
from hardware.emulator.plant import IdealPlant
from hardware.emulator.pty_port import Pty
from hardware.emulator.wire import EmulatedBus
from hardware.runtime.sources.teleop import APART, RAMP, Leader, Mapping
from sim2real.errors import UserError
from sim2real.robot import Robot

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
CALIBRATION = emulated_calibration(ROBOT)
HELD = np.append(ROBOT.home[:5], 0.2)


class LeaderArm:
    """An emulated leader whose joints stand where `plant` says, served by a thread."""

    def __init__(self, path) -> None:
        self.plant = IdealPlant(ROBOT.n, HELD)
        bus = EmulatedBus(build_servos(ROBOT, self.plant, CALIBRATION), self.plant)
        self.servos = bus.servos
        self.pty = Pty(bus)
        self.file = path / "leader.json"
        CALIBRATION.save(self.file)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.pty.serve, kwargs={"until": self._stop.is_set})
        self._thread.start()

    def fall_silent(self) -> None:
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        self.fall_silent()
        self.pty.close()


@pytest.fixture
def arm(tmp_path):
    arm = LeaderArm(tmp_path)
    yield arm
    arm.close()


@pytest.fixture
def leader(arm):
    leader = Leader("so101", arm.pty.name, str(arm.file), "so101", CALIBRATION.limits)
    leader.wait_ready()
    yield leader
    leader.close()


def until(condition, timeout: float = 30.0) -> bool:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def next_chunk(leader):
    got = []
    assert until(lambda: bool(got.append(leader.poll()) or got[-1]))
    return got[-1].chunk


def test_the_follower_comes_up_to_the_leader_and_goes_where_it_goes(arm, leader):
    assert until(lambda: leader.apart(HELD) == "")
    assert (arm.plant.drive.mode == 0).all(), "a leader is limp"
    leader.reset(0)
    assert leader.poll() is None, "nothing before it is known where the follower is"
    start = HELD + np.array([0.5, 0, 0, 0, 0, 0])
    leader.send(time.monotonic(), {"joint_command": start})
    chunk = next_chunk(leader)
    began = leader._began
    # The way there takes |offset| / RAMP seconds, whatever the leader does meanwhile.
    left = 1 - (chunk.start + chunk.period - began) / (0.5 / RAMP)
    assert chunk.positions[0, 0] - HELD[0] == pytest.approx(0.5 * max(left, 0), abs=0.01)
    assert until(lambda: abs(next_chunk(leader).positions[-1, 0] - HELD[0]) < 0.01)
    target = HELD + np.array([-0.3, 0.2, 0.1, 0, 0, 0.4])
    arm.plant.hand.follow(HandPath.through([(1.0, target.tolist())]))
    assert until(lambda: np.abs(next_chunk(leader).positions[-1] - target).max() < 0.01)


def test_too_far_apart_names_the_joint_but_not_the_gripper(leader):
    far = HELD + np.array([0, APART + 0.3, 0, 0, 0, 1.3])
    assert until(lambda: "does not answer" not in leader.apart(far))
    assert leader.apart(far) == (
        "leader and follower are too far apart (shoulder_lift by -63°): bring the leader within 46°"
    )
    assert leader.apart(HELD + np.array([0, 0, 0, 0, 0, 1.3])) == ""


def test_a_leader_that_falls_silent_gives_nothing_more(arm, leader):
    leader.reset(0)
    assert until(lambda: leader.apart(HELD) == "")
    leader.send(time.monotonic(), {"joint_command": HELD})
    last = next_chunk(leader)
    arm.fall_silent()
    # What is on its way still comes; then nothing, and the follower's player runs dry.
    time.sleep(0.3)
    while leader.poll() is not None:
        pass
    time.sleep(0.3)
    assert leader.poll() is None
    assert last.end - last.start < 0.1
    assert until(lambda: "does not answer" in leader.apart(HELD))


def test_an_unplugged_leader_and_a_dead_process_are_reported(arm, leader):
    assert leader.alive and leader.problem == ""
    arm.fall_silent()  # the thread that serves the port must not find it gone in mid-exchange
    arm.pty.hang_up()
    assert until(lambda: not leader.alive)
    assert leader.problem != ""
    leader._process.join(10)


def test_a_leader_that_jumps_is_not_followed(arm, leader):
    leader.reset(0)
    assert until(lambda: leader.apart(HELD) == "")
    leader.send(time.monotonic(), {"joint_command": HELD})
    next_chunk(leader)
    arm.plant.position[2] += 1.0
    seen = []

    def gone() -> bool:
        answer = leader.poll()
        if answer is not None and answer.chunk is not None:
            seen.append(answer.chunk.positions[:, 2].max())
        return not leader.alive

    assert until(gone)
    assert "elbow_flex jumped by" in leader.problem
    assert not seen or max(seen) < HELD[2] + 0.1


def test_what_cannot_lead_is_refused(arm, tmp_path):
    with pytest.raises(UserError, match="so101 cannot lead openmanipulator_x: it has no joint"):
        Leader("so101", arm.pty.name, None, "openmanipulator_x", CALIBRATION.limits)
    leader = Leader("so101", "/dev/ttyNOT", None, "so101", CALIBRATION.limits)
    with pytest.raises(UserError, match="leader: .*no serial port /dev/ttyNOT"):
        leader.wait_ready()
    leader.close()


def test_the_gripper_is_mapped_by_its_range():
    n = ROBOT.n
    narrow = (np.full(n, -1.0), np.full(n, 1.0))
    wide = (np.full(n, -2.0), np.full(n, 2.0))
    mapping = Mapping(ROBOT, narrow, ROBOT, wide)
    mapped = mapping(np.full(n, 0.5))
    assert np.allclose(mapped[:5], 0.5) and mapped[5] == pytest.approx(1.0)
    assert mapping(np.full(n, 5.0))[5] == pytest.approx(2.0), "never beyond the follower's range"
