"""Sessions on a simulated arm: the order of things, who judges, and the way out."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.session import NoOperator, Plan, Session
from hardware.runtime.sessions.table import table
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from sim2real.clock import SimulatedClock
from sim2real.errors import Sim2RealError
from sim2real.model.kinematics import tool_position
from sim2real.robot import Robot
from sim2real.simulation.arm import SimulatedArm
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

from .ticks import log_of

ROBOT = Robot.load("so101")
TASK = load_task("reach")
GOAL = np.array([0.22, 0.08, 0.12])


class Keys(NoOperator):
    """An operator who presses the given keys, each once the session has said the given words."""

    attended = True

    def __init__(self, *script: tuple[str, str]) -> None:
        self.lines: list[str] = []
        self.script = list(script)
        super().__init__(self.lines.append)

    def pressed(self) -> str:
        if self.script and any(self.script[0][0] in line for line in self.lines):
            return self.script.pop(0)[1]
        return ""


class Frames:
    def __init__(self) -> None:
        self.kept, self.ended, self.frames, self.discarded, self.lost, self.problem = [], [], [], 0, 0, ""

    @property
    def taken(self):
        return len(self.frames)

    def begin(self):
        self.frames = []

    def tick(self, tick):
        if tick.observation is not None and tick.episode >= 0:
            seen = tick.observation
            self.frames.append((tick.time, seen["joint_position"], seen["joint_command"]))

    def end(self, success, ended=""):
        self.kept.append((success, self.frames))
        self.ended.append(ended)
        self.frames = []

    def discard(self):
        self.discarded += bool(self.frames)
        self.frames = []


@pytest.fixture
def make():
    worlds = []

    def build(operator=None, policy=None, **plan):
        clock = SimulatedClock()
        world = World(ROBOT)
        world.reset(position=ROBOT.rest)
        worlds.append(world)
        source = LocalPolicy(policy or TASK.expert(ROBOT), 1 / ROBOT.policy_rate, clock, 0.01)
        loop = ControlLoop(
            SimulatedArm(world, clock),
            clock,
            source,
            GoalOnly(),
            attended=bool(operator and operator.attended),
            sinks=(TickLog(ROBOT.joint_names),),
        )
        plan = Plan(TASK, **{"goals": lambda i: GOAL, **plan})
        session = Session(loop, plan, recorder=Frames(), operator=operator or NoOperator())
        return session, world

    yield build
    for world in worlds:
        world.close()


def check_limp(session, world, fault=None):
    assert session.loop.phase is (Phase.LIMP_FAULT if fault else Phase.LIMP)
    assert (world.servo.enabled == 0).all()
    assert np.abs(world.position - ROBOT.rest)[:5].max() < 0.1


def test_episodes_by_the_tasks_own_estimate(make):
    session, world = make(episodes=2)
    results = session.run()
    assert [r.success for r in results] == [True, True] and {r.judge for r in results} == {"estimate"}
    assert all(1.0 < r.seconds < TASK.duration for r in results)
    check_limp(session, world)
    assert session.loop.faults == [] and session.stopped == ""
    kept = session.recorder.kept
    assert [success for success, _ in kept] == [True, True]
    times = np.array([time for time, _, _ in kept[0][1]])
    assert np.diff(times).min() > 0.029 and np.diff(times).max() < 0.041
    assert np.diff(times).mean() == pytest.approx(1 / 30, rel=0.01)


def test_commands_run_around_the_episode(make, tmp_path):
    log = tmp_path / "log"
    before = f"echo before $EPISODE $TASK >> {log}"
    judge = f"echo judge $EPISODE $GOAL >> {log}; test $EPISODE = 1"
    session, world = make(episodes=2, before=before, judge=judge)
    poses = []
    original = session._command
    session._command = lambda command, *rest: (poses.append(world.position), original(command, *rest))[1]
    results = session.run()
    assert [r.success for r in results] == [False, True] and {r.judge for r in results} == {"command"}
    assert log.read_text().splitlines() == [
        "before 0 reach", "judge 0 0.22,0.08,0.12", "before 1 reach", "judge 1 0.22,0.08,0.12",
    ]  # fmt: skip
    # The judge comes while the arm still holds its last pose, the reset while it is at home.
    assert np.linalg.norm(tool_position(ROBOT.model, poses[1]) - GOAL) < 0.02
    assert np.abs(poses[2] - ROBOT.home).max() < 0.1
    check_limp(session, world)


def test_seconds_make_one_long_episode(make):
    session, _ = make(seconds=7.0)
    (result,) = session.run()
    assert result.seconds == pytest.approx(7.0, abs=0.02) and result.success is True
    assert session.loop.counts.commands == pytest.approx(700, abs=6)


def test_nobody_can_tell(make, monkeypatch):
    monkeypatch.setattr(TASK, "estimate", lambda observation, robot: None)
    session, _ = make()
    assert [r.success for r in session.run()] == [None]
    operator = Keys(("did it succeed", "n"))
    session, _ = make(operator)
    (result,) = session.run()
    assert result.success is False and result.judge == "operator"


def test_a_failing_reset_ends_the_session_safely(make):
    session, world = make(episodes=3, before="exit 3")
    assert session.run() == []
    assert "status 3" in session.stopped
    check_limp(session, world)


def test_an_interrupt_keeps_what_is_done(make):
    session, world = make(episodes=5)
    end = session.recorder.end

    def end_and_interrupt(success):
        end(success)
        if len(session.recorder.kept) == 2:
            session.interrupt()

    session.recorder.end = end_and_interrupt
    assert len(session.run()) == 2
    assert session.stopped == "stopped by SIGINT"
    check_limp(session, world)


@pytest.mark.parametrize("tick", [1, 20, 60, 150, 260, 420])
def test_an_interrupt_at_any_moment(make, tick):
    session, world = make(episodes=2)
    loop = session.loop
    original = loop.tick

    def counting():
        original()
        if loop.counts.ticks == tick:
            session.interrupt()

    loop.tick = counting
    session.run()
    check_limp(session, world)
    held = log_of(loop).columns()["phase"]
    assert (np.diff(np.flatnonzero(held == 9)) == 1).all(), "it is lowered once"


def test_the_stop_key(make):
    session, world = make(Keys(("episode 0", "q")), episodes=5)
    assert len(session.run()) == 1
    assert session.stopped == "stopped at the terminal"
    check_limp(session, world)


def test_a_fault_ends_the_session(make):
    class Broken:
        horizon = 4

        def reset(self, seed):
            pass

        def act(self, observation):
            raise RuntimeError("no")

    session, world = make(policy=Broken(), episodes=3)
    start = session.loop.clock.now()
    (result,) = session.run()
    assert result.success is False and result.judge == "fault" and "RuntimeError: no" in result.note
    # What was recorded of it is kept, and says how it ended.
    assert [success for success, _ in session.recorder.kept] == [False] and session.recorder.ended == [
        "fault"
    ]
    check_limp(session, world, "policy_died")
    assert session.loop.clock.now() - start < 30
    assert session.stopped == "policy_died: RuntimeError: no"


def test_an_operator_decides_after_a_fault(make):
    class Broken(LocalPolicy):
        pass

    operator = Keys(("FAULT", "s"))
    session, world = make(operator)
    session.loop.policy.source.alive = False
    assert [result.success for result in session.run()] == [False]
    assert any("holds" in line for line in operator.lines)
    check_limp(session, world, "policy_died")


def test_keys_judge_drop_and_repeat_what_is_recorded(make):
    class Script(Keys):
        """Presses the next key half a second into every episode."""

        def __init__(self, keys):
            super().__init__()
            self.keys, self.session = list(keys), None

        def pressed(self):
            loop = self.session.loop
            if loop.episode < 0 or self.session.recorder.taken < 15 or not self.keys:
                return ""
            return self.keys.pop(0)

    operator = Script("fdrsq")
    session, world = make(operator, episodes=5)
    operator.session = session
    goals = []
    session.plan = replace(session.plan, goals=lambda i: goals.append(i) or GOAL)
    results = session.run()
    # The one that was discarded counts, the one to redo is done again, the last was stopped.
    assert goals == [0, 1, 2, 2, 3]
    assert [(r.episode, r.success, r.judge) for r in results] == [
        (0, False, "operator"),
        (2, True, "operator"),
    ]
    recorder = session.recorder
    assert [success for success, _ in recorder.kept] == [False, True, None]
    assert recorder.ended == ["", "", "stopped"] and recorder.discarded == 2
    assert session.stopped == "stopped at the terminal"
    check_limp(session, world)


def test_trouble_of_the_recorder_does_not_stop_the_arm(make):
    operator = Keys()
    session, world = make(operator, episodes=3)
    recorder, frames = session.recorder, []

    def tick(tick):
        if tick.observation is not None and tick.episode >= 0:
            frames.append(tick.time)
        if len(frames) == 10:
            recorder.problem = "the disk is full"

    def end(success, ended=""):
        raise Sim2RealError("the disk is full")

    recorder.tick, recorder.end = tick, end
    session.run()
    assert len(frames) > 30, "the episode went on to its end"
    assert sum("the disk is full" in line for line in operator.lines) == 1
    assert session.stopped == "the disk is full" and session.loop.state.fault is None
    check_limp(session, world)


def saving_for(session, seconds, each):
    """Make the recorder take its time, as it does: the loop goes on, and `each()` looks at every tick."""

    def end(success, ended=""):
        session.loop.run(lambda: each(), seconds)

    session.recorder.end = end


def test_the_emergency_stop_key_counts_while_an_episode_is_saved(make):
    operator = Keys()
    session, world = make(operator, episodes=2)
    phases = []

    def each():
        operator.script = operator.script or ([("", " ")] if not phases else [])
        operator.lines.append("")
        phases.append(session.loop.phase)
        return False

    saving_for(session, 0.5, each)
    operator.tell = lambda text: (
        operator.lines.append(text) or (operator.script.append(("FAULT", "s")) if "FAULT" in text else None)
    )
    session.run()
    assert phases[10] is Phase.ESTOP, "not only when it has been saved"
    check_limp(session, world, "estop")


def test_a_signal_stops_the_arm_while_an_episode_is_saved(make):
    """Where a person acts the arm goes on following meanwhile."""
    session, world = make(episodes=2)
    session._after = lambda: None
    requests = []

    def each():
        requests.append(session.loop.request)
        session.interrupt()
        return False

    saving_for(session, 0.5, each)
    session.run()
    assert requests[0] is Request.RUN and requests[10:] == [Request.STOP] * len(requests[10:])
    assert session.stopped == "stopped by SIGINT"
    check_limp(session, world)


def test_a_task_that_raises_does_not_leave_the_arm_up(make, monkeypatch):
    """Somebody's own task, in the middle of an episode: the arm is lowered by us, then the error is theirs."""
    session, world = make(episodes=2)
    calls = []

    def broken(observation, robot):
        calls.append(observation)
        if len(calls) > 20:
            raise ZeroDivisionError("theirs")

    monkeypatch.setattr(TASK, "estimate", broken)
    session.recorder.discard = lambda: session.loop.run(lambda: False, 0.2)
    with pytest.raises(ZeroDivisionError, match="theirs"):
        session.run()
    check_limp(session, world)


def test_the_operator_sees_how_things_stand(make):
    shown = []
    operator = NoOperator()
    operator.show = shown.append
    session, _ = make(operator)
    session.run()
    assert {"arming", "hold", "running", "settling"} <= {status.state for status in shown}
    assert {"going home", "episode 0"} <= {status.activity for status in shown}
    assert shown[-1].kept == 1 and max(status.recorded for status in shown) > 30
    steady = [status.rate for status in shown if status.state == "running"]
    assert np.median(steady) == pytest.approx(100, abs=1)
    rows = table(shown[len(shown) // 2], 80)
    assert all(len(row) < 80 for row in rows) and any(row.startswith("elbow_flex") for row in rows)


def test_an_emergency_stop_on_the_way_down_asks_again(make):
    """Space while the arm is lowered stops it there; it waits for the operator, and goes on when told to."""
    operator = Keys()
    session, world = make(operator, episodes=1)
    loop, still, held = session.loop, [], []
    original, settling, shown = loop.tick, [], []
    operator.show = shown.append

    def watching():
        original()
        if loop.phase is Phase.SETTLING:
            settling.append(loop.clock.now())
            if len(settling) == 80:
                loop.estop.press("key")
        if loop.phase is Phase.ESTOP:
            held.append(loop.clock.now())
            if held[-1] - held[0] > 1.0:
                still.append(world.position)
            if held[-1] - held[0] > 6.0 and len(operator.script) == 0:
                operator.script.append(("FAULT", "s"))

    loop.tick = watching
    session.run()
    assert loop.faults == ["estop: key"]
    assert held[-1] - held[0] > 6.0 and np.ptp(np.array(still), axis=0).max() < 0.01, "it held until s"
    assert {status.keys for status in shown if status.state == "estop"} == {
        "s lower the arm to rest  space let go: the arm drops"
    }
    assert "space EMERGENCY STOP" in shown[-1].keys, "the question has been answered"
    check_limp(session, world, "estop")


def test_an_arm_folded_into_itself_is_told_why_it_does_not_go_home(make):
    session, _ = make()
    session.loop.gate.reset(np.radians([0.0, 0.0, 90.0, 50.0, -25.0, 0.0]))
    with pytest.raises(Sim2RealError) as raised:
        session._until(lambda: False, 0.0, "the arm to arrive at home")
    told = str(raised.value)
    assert "to arrive at home; it stands" in told and "folded into itself (-" in told
    assert "by hand and begin again" in told
    session.loop.gate.reset(np.array(ROBOT.home))
    with pytest.raises(Sim2RealError, match="to arrive at home$"):
        session._until(lambda: False, 0.0, "the arm to arrive at home")


def test_a_sink_that_raises_does_not_leave_the_arm_up(make):
    """It is told nothing more, the arm is lowered, then the error is whoever's it was."""
    session, world = make(episodes=1)
    told = []

    class Broken:
        def tick(self, tick):
            told.append(tick.time)
            if tick.episode >= 0:
                raise ZeroDivisionError("a viewer's")

    session.loop.sinks.append(Broken())
    with pytest.raises(ZeroDivisionError, match="a viewer's"):
        session.run()
    check_limp(session, world)
    assert told[-1] < session.loop.clock.now() - 1.0
