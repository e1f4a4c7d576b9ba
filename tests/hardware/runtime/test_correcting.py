"""A person takes over from a policy and hands back: on an emulated arm with a stepped clock, bytes included."""

from itertools import pairwise

import numpy as np
import pytest

from hardware.emulator.stepped import SteppedArm
from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.correcting import Correcting
from hardware.runtime.sessions.roles import Plan
from hardware.runtime.sources.corrections import Acting, Corrections
from hardware.runtime.sources.jog import ANGLE, KeyboardJog
from hardware.runtime.sources.sources import LocalPolicy, PolicyAnswer
from hardware.runtime.sources.teleop import APART, RAMP, ROWS
from sim2real.chunks import Chunk
from sim2real.robot import Robot

from .test_collecting import Timed
from .ticks import log_of

ROBOT = Robot.load("so101")
PERIOD = 1 / ROBOT.policy_rate
FIRST = 6.0
"""s on the session's clock by which the first episode is under way: the arm goes home before."""


class Drift:
    """A policy that turns the base to one side, and keeps book of how it is called."""

    def __init__(self, horizon) -> None:
        self.horizon = horizon
        self.resets: list[int] = []
        self.calls_since_reset = 0
        self.broken = False

    def reset(self, seed):
        self.resets.append(seed)
        self.calls_since_reset = 0

    def act(self, observation):
        if self.broken:
            raise RuntimeError("the policy broke")
        self.calls_since_reset += 1
        step = np.zeros(ROBOT.n)
        step[0] = 0.004
        return observation["joint_command"] + step * (1 + np.arange(self.horizon))[:, None]


class HandLed:
    """A leader as the follower's side sees it: a reading a command period, chunks of a few of them, a slow way up."""

    hint = "move the leader arm"

    def __init__(self, clock, where) -> None:
        self.clock, self.where = clock, where
        self.alive, self.problem, self.silent = True, "", False
        self._offset = None
        self._began = self._ramp = self._last = 0.0

    def apart(self, position):
        if self.silent:
            return "the leader does not answer"
        far = np.abs(self.where(self.clock.now()) - position)[:5].max() > APART
        return "leader and follower are too far apart" if far else ""

    def key(self, key):
        pass

    def reset(self, seed):
        self._offset = None

    def send(self, time, observation):
        if self._offset is None:
            self._offset = observation["joint_command"] - self.where(time)
            self._began, self._ramp = time, max(np.abs(self._offset).max() / RAMP, 0.01)

    def poll(self):
        now = self.clock.now()
        if self._offset is None or self.silent or not self.alive or now - self._last < 0.009:
            return None
        self._last, period = now, 1 / ROBOT.command_rate
        due = now + period * (1 + np.arange(ROWS))
        left = np.clip(1 - (due - self._began) / self._ramp, 0, 1)
        return PolicyAnswer(Chunk(now, period, self.where(now) + left[:, None] * self._offset), now)

    def close(self):
        pass


class Book:
    """A recorder that keeps who acted, what was sent and what the policy wanted."""

    def __init__(self) -> None:
        self.rows, self.kept, self.lost, self.problem, self.source = [], [], 0, "", None

    @property
    def taken(self):
        return len(self.rows)

    def begin(self):
        self.rows = []

    def tick(self, tick):
        if tick.observation is not None and tick.episode >= 0:
            wanted = self.source.wanted(tick.time, ROBOT.n)
            self.rows.append((tick.time, int(self.source.acting), tick.executed, wanted))

    def end(self, success, ended=""):
        self.kept.append((success, ended, self.rows))

    def discard(self):
        self.rows = []


class Run:
    def __init__(self, operator, make_person, *, latency=0.05, seconds=6.0, horizon=10) -> None:
        arm = SteppedArm(ROBOT)
        arm.arm.identify()
        arm.arm.configure()
        clock = arm.clock
        self.policy = Drift(horizon)
        thinking = LocalPolicy(self.policy, PERIOD, clock, latency)
        person, self.guide = make_person(clock)
        source = Corrections(thinking, person, self.guide, PERIOD, clock)
        operator.clock, operator.attended = clock, False  # nobody who is asked questions
        self.book = Book()
        self.book.source = source
        loop = ControlLoop(arm.arm, clock, source, sinks=(TickLog(ROBOT.joint_names),))
        plan = Plan(None, episodes=1, seconds=seconds, name="drift")
        self.session = Correcting(loop, plan, operator=operator, recorder=self.book, source=source)
        self.lines = operator.lines

    def go(self):
        self.results = self.session.run()
        return self

    @property
    def rows(self):
        _, _, rows = self.book.kept[0]
        columns = [np.array(column) for column in zip(*rows)]
        return columns[0] - columns[0][0], *columns[1:]

    def check_no_jump(self):
        log = log_of(self.session.loop).columns()
        for joint in ROBOT.joints:
            steps = np.diff(log[f"executed.{joint.name}"][log["episode"] >= 0])
            # A servo's tick is 0.0015 rad.
            assert np.abs(steps).max() <= joint.velocity / ROBOT.command_rate + 0.002, joint.name


def keys(clock):
    jog = KeyboardJog(ROBOT)
    return LocalPolicy(jog, PERIOD, clock), jog


def stretches(acting):
    """Who acted, in turn."""
    return [int(acting[0])] + [int(b) for a, b in pairwise(acting) if a != b]


def test_keys_take_over_and_hand_back():
    script = [(FIRST, "t"), *((FIRST + 0.5 + 0.1 * k, "down") for k in range(10)), (FIRST + 3.0, "t")]
    run = Run(Timed(*script), keys).go()
    (result,) = run.results
    assert run.session.loop.faults == [] and result.interventions == 1
    _, acting, executed, wanted = run.rows
    assert stretches(acting) == [Acting.POLICY, Acting.PERSON, Acting.POLICY], "keys are near at once"
    person = acting == Acting.PERSON
    assert person.sum() == pytest.approx(90, abs=2) and result.corrected_seconds == pytest.approx(
        3.0, abs=0.05
    )
    # The policy's own time is what was planned, whatever the person has used.
    assert (~person).sum() * PERIOD == pytest.approx(6.0, abs=0.1) and result.seconds == pytest.approx(
        9.0, abs=0.2
    )
    # Its turns grow while it acts, fall while the person turns the other way, and grow again.
    base = executed[:, 0]
    first, last = np.flatnonzero(person)[[0, -1]]
    assert base[first] > base[0] and base[last] - base[first] == pytest.approx(-10 * ANGLE, abs=0.1)
    assert base[-1] > base[last] + 0.1
    # What it wanted meanwhile: further on from wherever the person had brought it.
    assert np.isfinite(wanted[person]).all()
    assert (wanted[person][5:, 0] > executed[person][5:, 0]).all()
    run.check_no_jump()
    # The policy begins anew: nothing that it had said before is played.
    assert run.policy.resets == [0, 0]
    assert any("you act" in line for line in run.lines) and any(
        "policy acts again" in line for line in run.lines
    )


def test_a_leader_is_waited_for_and_followed_slowly():
    """It stands too far away until someone has brought it near; then the arm comes up to it as in teleoperation."""
    near = FIRST + 1.5

    def where(time):
        pose = np.array(ROBOT.home)
        pose[1] += 1.2 if time < near else 0.4
        return pose

    def led(clock):
        leader = HandLed(clock, where)
        return leader, leader

    run = Run(Timed((FIRST, "t"), (FIRST + 4.0, "t")), led).go()
    _, acting, executed, _ = run.rows
    assert stretches(acting) == [Acting.POLICY, Acting.NOBODY, Acting.PERSON, Acting.POLICY]
    waiting, person = acting == Acting.NOBODY, acting == Acting.PERSON
    assert waiting.sum() * PERIOD == pytest.approx(1.5, abs=0.1)
    # Nothing moves while nobody acts, but for the goal's coming to rest.
    held = executed[waiting][10:]
    assert np.ptp(held, axis=0).max() < 0.01
    speed = np.diff(executed[person][:, 1]) / PERIOD
    assert speed.max() == pytest.approx(RAMP, abs=0.12) and executed[person][-1, 1] == pytest.approx(
        ROBOT.home[1] + 0.4, abs=0.02
    )
    run.check_no_jump()
    assert any("holds until you are near" in line for line in run.lines)
    assert run.session.loop.faults == [] and run.results[0].interventions == 1


@pytest.mark.parametrize("how", ["dies", "falls silent"])
def test_a_leader_that_is_lost_leaves_the_arm_holding(how):
    leaders = []

    def led(clock):
        leaders.append(HandLed(clock, lambda time: ROBOT.home + 0.1))
        return leaders[0], leaders[0]

    class Cutting(Timed):
        def pressed(self):
            if self.clock.now() > FIRST + 1.5:
                leaders[0].silent = True
                if how == "dies":
                    leaders[0].alive, leaders[0].problem = False, "the leader's process ended"
            return super().pressed()

    run = Run(Cutting((FIRST, "t"), (FIRST + 5.0, "t"), (FIRST + 5.5, "t"), (FIRST + 6.0, "t")), led).go()
    _, acting, executed, _ = run.rows
    assert run.session.loop.faults == [] and run.session.stopped == "", "it holds, and nothing else happens"
    if how == "dies":
        # Who is not there any more cannot take over again.
        assert stretches(acting) == [0, 1, 2, 0]
        assert any("you cannot take over" in line for line in run.lines)
    else:
        assert stretches(acting) == [0, 1, 2, 0, 2, 0]
    lost = np.flatnonzero(acting == Acting.NOBODY)
    assert np.ptp(executed[lost][10:60], axis=0).max() < 0.01
    assert any("the arm holds: " in line and "t gives it back" in line for line in run.lines)
    run.check_no_jump()


def test_a_policy_that_dies_meanwhile_is_a_fault_once_it_is_to_act():
    run = Run(Timed((FIRST, "t"), (FIRST + 3.0, "t")), keys)

    class Breaking(Timed):
        def pressed(self):
            if self.clock.now() > FIRST + 1.0:
                run.policy.broken = True
            return super().pressed()

    operator = Breaking((FIRST, "t"), (FIRST + 3.0, "t"), (FIRST + 9.0, "s"))
    operator.clock, operator.attended = run.session.loop.clock, False
    run.session.operator = operator
    run.go()
    _, acting, _, wanted = run.rows
    assert stretches(acting)[:2] == [0, 1] and (acting == 1).sum() == pytest.approx(90, abs=3)
    assert run.session.loop.faults[0].startswith("policy_died: RuntimeError: the policy broke")
    assert run.session.loop.phase is Phase.LIMP_FAULT
    assert np.isnan(wanted[-20:]).any(), "what nobody wants is not made up"


def test_q_ends_while_a_person_acts_and_keeps_what_there_is():
    run = Run(Timed((FIRST, "t"), (FIRST + 2.0, "q")), keys).go()
    assert run.results == [] and [ended for _, ended, _ in run.book.kept] == ["stopped"]
    assert run.session.loop.phase is Phase.LIMP


def test_a_slow_policy_does_not_leave_the_arm_without_actions_when_it_takes_over():
    run = Run(Timed((FIRST, "t"), (FIRST + 1.0, "t")), keys, latency=0.8, horizon=60).go()
    assert not any("policy_late" in fault for fault in run.session.loop.faults)
    run.check_no_jump()
