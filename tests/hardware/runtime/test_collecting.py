"""Episodes in which a person acts, and episodes that are played again, on a simulated arm."""

import numpy as np
import pytest

from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.collecting import Collection
from hardware.runtime.sessions.playback import EpisodeSource, Playback, Trajectory
from hardware.runtime.sessions.roles import NoOperator, Plan
from hardware.runtime.sessions.session import AT_TERMINAL
from hardware.runtime.sources.jog import ANGLE, LEAD, LENGTH, KeyboardJog
from hardware.runtime.sources.sources import LocalPolicy
from pipelines.deployment.result import status
from sim2real.clock import SimulatedClock
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_position
from sim2real.robot import Robot
from sim2real.simulation.arm import SimulatedArm
from sim2real.simulation.world import World

from .test_session import Frames, check_limp
from .ticks import log_of

ROBOT = Robot.load("so101")


class Timed(NoOperator):
    """An operator who presses keys at given times of the session, s."""

    attended = True

    def __init__(self, *script: tuple[float, str]) -> None:
        self.lines: list[str] = []
        self.script, self.clock = list(script), SimulatedClock()
        super().__init__(self.lines.append)

    def pressed(self) -> str:
        if self.script and self.clock.now() >= self.script[0][0]:
            return self.script.pop(0)[1]
        return ""


@pytest.fixture
def build():
    worlds = []

    def make(kind, source=None, operator=None, plan=None, **more):
        clock = SimulatedClock()
        world = World(ROBOT)
        world.reset(position=ROBOT.rest)
        worlds.append(world)
        operator = operator or NoOperator()
        operator.clock = clock
        log = TickLog(ROBOT.joint_names)
        loop = ControlLoop(
            SimulatedArm(world, clock),
            clock,
            source(clock) if source else None,
            attended=operator.attended,
            sinks=(log,),
        )
        if kind is Playback:
            more["log"] = log
        session = kind(loop, plan or Plan(None, episodes=None, name="wave"), operator=operator, **more)
        return session, world

    yield make
    for world in worlds:
        world.close()


def jogged(jog):
    return lambda clock: LocalPolicy(jog, 1 / ROBOT.policy_rate, clock)


def test_episodes_begin_and_end_with_keys_while_the_arm_follows(build):
    jog = KeyboardJog(ROBOT)
    operator = Timed(
        (3.0, "\r"), (3.5, "1"), *((4.0 + 0.1 * k, "up") for k in range(20)), (7.0, "s"),
        # Between episodes the arm goes on following.
        *((7.5 + 0.1 * k, "down") for k in range(10)),
        (10.0, "\r"), (11.0, "r"), (11.5, "\r"), (12.5, "f"), (13.0, "n"), (14.0, "d"), (15.0, "q"),
    )  # fmt: skip
    session, world = build(Collection, jogged(jog), operator, guide=jog)
    session.recorder = Frames()
    results = session.run()
    assert [(r.episode, r.success, r.judge) for r in results] == [
        (0, True, "operator"),
        (1, False, "operator"),
    ]
    assert session.recorder.ended == ["", ""] and session.recorder.discarded == 2
    assert session.stopped == AT_TERMINAL and session.loop.faults == []
    frames = [np.array([position for _, position, _ in kept[1]]) for kept in session.recorder.kept]
    assert len(frames[0]) == pytest.approx(120, abs=3)
    turned = frames[0][-1] - frames[0][0]
    assert turned[0] == pytest.approx(20 * ANGLE, abs=0.08) and np.abs(turned[1:5]).max() < 0.05
    assert frames[1][0][0] - frames[0][-1][0] == pytest.approx(-10 * ANGLE, abs=0.08)
    assert any("Enter begins episode 1" in line for line in operator.lines)
    check_limp(session, world)


def test_stopping_in_an_episode_keeps_it(build):
    jog = KeyboardJog(ROBOT)
    operator = Timed((3.0, "\r"), (5.0, "q"))
    session, world = build(Collection, jogged(jog), operator, guide=jog)
    session.recorder = Frames()
    assert session.run() == []
    assert session.recorder.ended == ["stopped"] and session.recorder.kept[0][0] is None
    check_limp(session, world)


@pytest.mark.parametrize(("episodes", "code"), [(None, 0), (5, 130)])
@pytest.mark.parametrize("when", ["before the first", "within", "between"])
def test_q_ends_alike_wherever_it_is_pressed(build, when, episodes, code):
    """Where the operator is to end it, q is the ordinary end; where more was planned, it was cut short."""
    script = {
        "before the first": [(3.0, "q")],
        "within": [(3.0, "\r"), (5.0, "q")],
        "between": [(3.0, "\r"), (5.0, "s"), (6.0, "q")],
    }
    jog = KeyboardJog(ROBOT)
    plan = Plan(None, episodes=episodes, name="wave")
    session, world = build(Collection, jogged(jog), Timed(*script[when]), plan, guide=jog)
    session.recorder = Frames()
    session.run()
    assert session.stopped == AT_TERMINAL and session.loop.faults == [] and status(session) == code
    check_limp(session, world)


def test_nobody_there_makes_episodes_of_a_given_length(build):
    jog = KeyboardJog(ROBOT)
    plan = Plan(None, episodes=3, seconds=1.5, name="wave")
    session, world = build(Collection, jogged(jog), plan=plan, guide=jog, reset_time=0.5)
    session.recorder = Frames()
    results = session.run()
    assert [r.seconds for r in results] == pytest.approx([1.5] * 3, abs=0.02)
    assert [len(frames) for _, frames in session.recorder.kept] == pytest.approx([45] * 3, abs=2)
    starts = [frames[0][0] for _, frames in session.recorder.kept]
    assert np.diff(starts) == pytest.approx(2.0, abs=0.1)
    check_limp(session, world)


def test_a_hand_moves_a_limp_arm(build):
    operator = Timed((0.5, "\r"), (2.5, "s"), (3.0, "q"))
    session, world = build(Collection, operator=operator)
    session.recorder = Frames()
    torque = []
    tick = session.loop.tick
    session.loop.tick = lambda: (tick(), torque.append(world.servo.enabled.any()))
    (result,) = session.run()
    assert result.success is True and len(session.recorder.kept[0][1]) == pytest.approx(60, abs=3)
    assert not any(torque) and session.loop.phase is Phase.LIMP


class Far:
    """A guide that is too far away until a time."""

    hint = ""

    def __init__(self, until: float) -> None:
        self.until, self.clock = until, SimulatedClock()

    def apart(self, position):
        return "" if self.clock.now() >= self.until else "too far apart"

    def key(self, key):
        pass


def test_it_does_not_start_while_the_leader_is_far(build):
    jog = KeyboardJog(ROBOT)
    for until, started in ((4.0, True), (1000.0, False)):
        plan = Plan(None, episodes=1, seconds=1.0, name="wave")
        guide = Far(until)
        session, world = build(Collection, jogged(jog), plan=plan, guide=guide)
        guide.clock = session.loop.clock
        running = []
        tick = session.loop.tick
        session.loop.tick = lambda s=session, t=tick, r=running: (
            t(),
            r.append((s.loop.clock.now(), s.loop.phase)),
        )
        results = session.run()
        first = [time for time, phase in running if phase is Phase.RUNNING]
        assert len(results) == started
        assert session.stopped == ("" if started else "not started: too far apart")
        assert first[0] >= until if started else not first
        check_limp(session, world)


def test_jogging_stays_near_the_arm_and_within_its_range():
    jog = KeyboardJog(ROBOT)
    sent = np.array(ROBOT.home)
    chunk = jog.act({"joint_command": sent})
    assert np.allclose(chunk, sent)
    jog.key("2")
    for _ in range(100):
        jog.key("up")
    chunk = jog.act({"joint_command": sent})
    assert (
        np.abs(chunk - sent).max() <= LEAD + 1e-9
        and (np.diff(chunk[:, 1]) >= 0).all()
        and chunk[0, 1] > sent[1]
    )
    assert np.allclose(np.delete(chunk, 1, axis=1), np.delete(sent, 1))
    for _ in range(200):
        for _ in range(10):
            jog.key("up")
        sent = jog.act({"joint_command": sent})[0]
    assert sent[1] == pytest.approx(ROBOT.upper[1])


def test_jogging_the_tool_goes_in_straight_lines():
    jog = KeyboardJog(ROBOT)
    sent = np.array(ROBOT.home)
    jog.act({"joint_command": sent})
    jog.key("c")
    assert "tool" in jog.hint
    start = tool_position(ROBOT.model, sent)
    way = []
    for _ in range(8):
        jog.key("pageup")
        for _ in range(6):
            sent = jog.act({"joint_command": sent})[-1]
        way.append(tool_position(ROBOT.model, sent) - start)
    assert way[-1][2] == pytest.approx(8 * LENGTH, rel=0.1) and np.abs(np.array(way)[:, :2]).max() < 0.004
    assert sent[3] <= ROBOT.upper[3], "the wrist has come to the end of its range on the way"
    before = sent[-1]
    for _ in range(3):
        jog.key("o")
    for _ in range(6):
        sent = jog.act({"joint_command": sent})[-1]
    assert sent[-1] - before == pytest.approx(3 * ANGLE, abs=1e-6)


def recorded(length: int = 60, speed: float = 1.0) -> Episode:
    """A smooth motion around home, with times as a 100 Hz loop takes them."""
    time = np.cumsum(np.resize([0.03, 0.03, 0.04], length)) - 0.03
    # What was sent last in a frame: the goal at its end.
    phase = 2 * np.pi * 0.4 * np.append(time[1:], time[-1] + 0.03)[:, None]
    swing = np.array([0.4, 0.2, -0.2, -0.2, 0.3, 0.2])
    executed = ROBOT.home + (1 - np.cos(phase)) / 2 * swing
    return Episode(
        time=time, state=executed - 0.01, action=executed + 0.1, executed=executed, fps=30.0, robot="so101"
    )


def test_an_episode_is_played_through_the_gate(build):
    motion = Trajectory.of(recorded(), 100)
    plan = Plan(None, name="wave")
    session, world = build(Playback, lambda clock: EpisodeSource(motion), plan=plan, motion=motion)
    (result,) = session.run()
    assert result.success is None and result.seconds == pytest.approx(2.0 + 0.5, abs=0.05)
    # The first ticks, from standing.
    assert result.rejected == 0 and result.clipped < 6
    tracking = session.tracking()
    assert tracking is not None
    # What was sent is what was executed then, delayed by the gate's smoothing only.
    columns = log_of(session.loop).columns()
    playing = columns["episode"] == 0
    sent = columns["executed.shoulder_pan"][playing]
    assert sent.max() == pytest.approx(ROBOT.home[0] + 0.4, abs=0.01)
    assert 0 < tracking.lag_rms[:5].max() < 0.1 and (tracking.lag_max >= tracking.lag_rms).all()
    assert 0 < tracking.apart_rms[:5].max() < 0.12
    check_limp(session, world)


def test_slower_takes_longer_and_goes_the_same_way(build):
    normal, slow = Trajectory.of(recorded(), 100), Trajectory.of(recorded(), 100, 0.5)
    assert normal.duration == pytest.approx(2.0, abs=0.05)
    assert slow.duration == pytest.approx(2 * normal.duration, abs=0.02)
    assert np.allclose(slow.goals[::2], normal.goals, atol=1e-9)
    # Uneven times of capture become an even motion.
    rate = np.diff(normal.goals[:, 0]) * 100
    assert np.abs(np.diff(rate)).max() * 100 < 4.0


def test_what_cannot_be_played_is_refused():
    episode = recorded(30)
    episode.time[10] = episode.time[9]
    with pytest.raises(UserError, match="do not rise"):
        Trajectory.of(episode, 100)
    with pytest.raises(UserError, match="1 frames"):
        Trajectory.of(recorded(1), 100)
