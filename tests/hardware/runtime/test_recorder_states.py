"""The recorder process dies, hangs, or its disk is full, in every state of a session that has torque.

A real recorder process beside a session on a simulated arm and clock: whatever becomes of the recording, no fault
comes of it, goals keep their limits, the arm ends limp at rest, and what was saved is there.
"""

import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.assembly import emulated_calibration
from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.recording.recorder import RecorderConfig, RecorderProcess
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.session import NoOperator, Plan, Session
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from sim2real.clock import SimulatedClock
from sim2real.lerobot import LeRobotDataset
from sim2real.lerobot.journal import recover
from sim2real.robot import Robot
from sim2real.simulation.arm import SimulatedArm
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

SO101 = Robot.load("so101")
ROBOT = replace(SO101, home=SO101.rest + 0.2 * (SO101.home - SO101.rest))
"""Its home is near, to save time."""

STATES = (
    *(Phase.ARMING, Phase.RUNNING, Phase.DEGRADED, Phase.STOPPING),
    *(Phase.HOLD, Phase.FAULT_HOLD, Phase.SETTLING),
)
STRIKES = {
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
    "stop": lambda pid: os.kill(pid, signal.SIGSTOP),
    "disk_full": lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY)),
}
SAID = {"kill": "the recorder process has ended", "stop": "does not answer", "disk_full": "cannot write"}


class Nod(LocalPolicy):
    """A gentle motion, asked for `asked` times so far; late for a while or broken where a state needs that."""

    def __init__(self, clock: SimulatedClock, phase: Phase) -> None:
        super().__init__(self, 1 / ROBOT.policy_rate, clock, 0.02)
        self.phase, self.asked = phase, 0

    def reset(self, seed):
        self._waiting.clear()

    def act(self, observation):
        steps = self.asked + np.arange(5)
        return ROBOT.home + 0.05 * np.sin(0.2 * steps)[:, None] * np.ones(ROBOT.n)

    def send(self, time, observation):
        self.asked += 1
        if self.phase is Phase.FAULT_HOLD and self.asked > 10:
            self.alive, self.problem = False, "it broke"
        elif self.phase is not Phase.DEGRADED or not 10 < self.asked < 18:
            super().send(time, observation)


class Trial:
    """One session of one episode, with one strike: at the first tick in a state, once there is an episode to lose
    (for ARMING: before there is)."""

    def __init__(self, phase: Phase, how: str, root: Path) -> None:
        self.phase, self.how, self.struck = phase, how, False
        self.told: list[str] = []
        clock = SimulatedClock()
        self.world = World(ROBOT)
        self.world.reset(position=ROBOT.rest)
        self.log = TickLog(ROBOT.joint_names)
        self.loop = ControlLoop(
            SimulatedArm(self.world, clock), clock, Nod(clock, phase), GoalOnly(), sinks=(self.log,)
        )
        # Simulated seconds pass at once; what the recorder does takes real ones.
        self.recorder = RecorderProcess(
            RecorderConfig(str(root), "so101", emulated_calibration(SO101).table(), "reach"),
            lambda condition, timeout: self.loop.run(lambda: time.sleep(0.005) or condition()),
        )
        self.pid = self.recorder._process.pid
        self.session = Session(
            self.loop,
            Plan(load_task("reach"), seconds=0.8),
            recorder=self.recorder,
            operator=NoOperator(self.told.append),
        )
        self._tick, self.loop.tick = self.loop.tick, self.tick

    def tick(self) -> None:
        self._tick()
        begun = self.recorder.taken >= 5 or self.recorder.saved
        if self.loop.phase is self.phase and (begun or self.phase is Phase.ARMING) and not self.struck:
            self.struck = True
            STRIKES[self.how](self.pid)
            if self.how == "kill":
                self.recorder._process.join()

    def close(self) -> None:
        if self.recorder._process.is_alive():
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            os.kill(self.pid, signal.SIGCONT)
        self.recorder.close()
        self.world.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", STRIKES)
@pytest.mark.parametrize("phase", STATES, ids=str)
def test_the_arm_does_not_mind(tmp_path, monkeypatch, phase, how):
    if how == "stop":
        monkeypatch.setattr("hardware.runtime.recording.recorder.IDLE_TIMEOUT", 0.5)
    trial = Trial(phase, how, tmp_path / "set")
    try:
        results = trial.session.run()
    finally:
        trial.close()
    loop, session, recorder = trial.loop, trial.session, trial.recorder
    assert trial.struck
    # What becomes of the recording is no fault of the arm's.
    assert loop.state.fault == ("policy_died" if phase is Phase.FAULT_HOLD else None)
    assert loop.phase is (Phase.LIMP if loop.state.fault is None else Phase.LIMP_FAULT)
    assert (trial.world.servo.enabled == 0).all()
    assert np.abs(trial.world.position - ROBOT.rest)[:5].max() < 0.1
    columns = trial.log.columns()
    sent = np.stack([columns[f"executed.{name}"] for name in ROBOT.joint_names], axis=1)[
        columns["phase"] >= 4
    ]
    velocity = np.diff(sent, axis=0) * ROBOT.command_rate
    acceleration = np.diff(velocity, axis=0) * ROBOT.command_rate
    assert (np.abs(velocity) <= ROBOT.limits("velocity") + 1e-6).all()
    assert (np.abs(acceleration) <= ROBOT.limits("acceleration") + 1e-3).all()
    # The policy went on to its end where it had begun; nobody moved for a recording that could not be.
    followed = int((columns["episode"] == 0).sum())
    if phase is Phase.ARMING and how == "kill":
        assert followed == 0
    elif phase is not Phase.FAULT_HOLD:
        assert followed >= 79
    # Somebody is told, and what the recorder said was saved is on disk.
    assert recorder.saved == ([0] if phase is Phase.SETTLING else [])
    if phase is Phase.SETTLING:
        assert [result.episode for result in results] == [0] and session.stopped == ""
        assert len(LeRobotDataset.open(tmp_path / "set")) == 1
    else:
        assert any(SAID[how] in line for line in [*trial.told, session.stopped])
    recover(tmp_path / "set")
