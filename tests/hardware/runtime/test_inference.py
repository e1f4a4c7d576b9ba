"""The inference process: real processes, real shared memory."""

import multiprocessing
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from hardware.runtime.sources.inference import InferenceProcess, Slot, _Shared, _think, observed_features
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")
STUBS = "tests.hardware.runtime.stubs"


def observation(command: float = 0.1):
    features = observed_features(load_task("reach"), ROBOT)
    made = {feature.name: np.zeros(feature.size) for feature in features}
    made["joint_position"] = made["joint_command"] = np.full(6, command)
    made["goal"] = np.array([0.2, 0.0, 0.1])
    return made


def wait(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("nothing came")


@pytest.fixture
def start():
    running = []

    def make(name: str, task: str = "reach") -> InferenceProcess:
        spec = name if name in ("expert", "zero", "random") or name.endswith(".onnx") else f"{STUBS}:{name}"
        running.append(InferenceProcess(spec, task, "so101"))
        return running[-1]

    yield make
    for process in running:
        process.close()


def test_slot_is_never_torn():
    slot = Slot(3)
    assert slot.read()[0] == 0
    slot.write((1.0,), np.array([2.0, 3.0]))
    version, values = slot.read()
    assert version == 2 and values.tolist() == [1.0, 2.0, 3.0]
    slot._sequence[0] += 1
    assert slot.read() is None


def test_chunks_come_back_with_the_time_of_their_observation(start):
    source = start("Echo")
    source.wait_ready()
    source.reset(seed=5)
    source.send(12.5, observation(0.1))
    answer = wait(source.poll)
    assert answer.chunk.start == 12.5 and answer.chunk.period == pytest.approx(1 / 30)
    assert np.allclose(answer.chunk.positions, 0.105) and answer.chunk.positions.shape == (8, 6)
    assert source.poll() is None, "each answer is given once"
    # A new episode never sees the old one's answers.
    source.send(13.0, observation(0.2))
    source.reset(seed=6)
    source.send(14.0, observation(0.3))
    answer = wait(source.poll)
    assert answer.chunk.start == 14.0 and np.allclose(answer.chunk.positions, 0.306)
    source.close()
    assert not source.alive


def test_the_expert_answers(start):
    source = start("expert")
    source.wait_ready()
    source.reset(0)
    source.send(0.0, observation())
    answer = wait(source.poll)
    assert answer.chunk.positions.shape[1] == 6 and np.isfinite(answer.chunk.positions).all()


@pytest.mark.parametrize(
    ("name", "problem"),
    [("Raising", "RuntimeError: the policy broke"), ("Dying", "exit status 7")],
)
def test_failures_are_named(start, name, problem):
    source = start(name)
    source.wait_ready()
    source.reset(1)

    def ask():
        source.send(0.0, observation())
        return not source.alive

    wait(ask)
    assert problem in source.problem


def test_bad_chunks_are_passed_on_as_such(start):
    source = start("WrongShape")
    source.wait_ready()
    source.reset(1)
    source.send(0.0, observation())
    answer = wait(source.poll)
    assert answer.chunk is None and "shape" in answer.problem


def test_a_policy_that_does_not_load_says_why(start):
    with pytest.raises(UserError, match="no weights here"):
        start("Unloadable").wait_ready()
    with pytest.raises(UserError, match="does not exist"):
        start("nowhere.onnx").wait_ready()


def test_sending_to_a_stopped_process_does_not_block(start):
    source = start("Echo")
    source.wait_ready()
    os.kill(source.pid, signal.SIGSTOP)
    try:
        for k in range(20_000):
            source.send(float(k), observation())
        assert source.poll() is None and source.alive
    finally:
        os.kill(source.pid, signal.SIGCONT)
    assert wait(source.poll).chunk.start >= 0


def test_it_ends_when_control_dies_while_it_writes_an_observation():
    """The half of it that is there stays a half for ever."""
    features = observed_features(load_task("reach"), ROBOT)
    shared = _Shared(sum(feature.size for feature in features), ROBOT.n)
    shared.observation._sequence[0] += 1
    reader, wake = multiprocessing.Pipe(duplex=False)
    os.write(wake.fileno(), b".")
    wake.close()
    thinking = threading.Thread(target=_think, args=(None, ROBOT, features, shared, reader), daemon=True)
    thinking.start()
    thinking.join(10)
    ended = not thinking.is_alive()
    shared.observation._sequence[0] += 1  # a thread that waits for it ends in an exception
    assert ended


def test_it_ends_when_the_control_process_dies():
    import subprocess

    code = (
        "from hardware.runtime.sources.inference import InferenceProcess\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    p = InferenceProcess('zero', 'reach', 'so101'); p.wait_ready(); print(p.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)

    def gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] == "Z"

    wait(gone)
