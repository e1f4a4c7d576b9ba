"""The whole loop on a simulated arm and clock: assertions are about the simulated physics and what was sent."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.emulator.plant import IdealPlant
from hardware.emulator.stepped import SteppedArm
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.control.supervisor import Action, Phase, Request
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from sim2real.clock import SimulatedClock
from sim2real.errors import BusError, HardwareError
from sim2real.robot import Robot
from sim2real.simulation.arm import SimulatedArm
from sim2real.simulation.world import World
from sim2real.status import report

ROBOT = Robot.load("so101")
DT = 1 / ROBOT.command_rate


class Wave:
    """A gentle motion of all joints around home, with faults on demand."""

    horizon = 10

    def __init__(self) -> None:
        self.calls, self.fault, self.stalled = 0, "", False

    def reset(self, seed: int) -> None:
        self.calls = 0

    def act(self, observation):
        if self.fault == "raise":
            raise RuntimeError("the policy broke")
        steps = self.calls + 1 + np.arange(self.horizon)
        self.calls += 1
        if self.fault == "nan":
            return np.full((self.horizon, 6), np.nan)
        if self.fault == "shape":
            return np.zeros((self.horizon, 5))
        if self.fault == "teleport":
            return np.tile(ROBOT.home + (-1.0) ** self.calls * 1.5, (self.horizon, 1))
        return ROBOT.home - 0.2 * (1 - np.cos(2 * np.pi * 0.5 * steps / ROBOT.policy_rate))[
            :, None
        ] * np.ones(6)


class Stalling(LocalPolicy):
    """Answers nothing while `stalled`."""

    stalled = False

    def send(self, time, observation):
        if not self.stalled:
            super().send(time, observation)


class Gone:
    """A watchdog that is not there."""

    alive = False

    def beat(self, armed, executed):
        pass

    def busy(self):
        pass


class Rig:
    def __init__(self, latency: float = 0.02, **options) -> None:
        self.clock = SimulatedClock()
        self.world = World(ROBOT)
        self.world.reset(position=ROBOT.home)
        self.arm = SimulatedArm(self.world, self.clock)
        self.policy = Wave()
        self.source = Stalling(self.policy, 1 / ROBOT.policy_rate, self.clock, latency)
        self.log = TickLog(ROBOT.joint_names)
        self.loop = ControlLoop(self.arm, self.clock, self.source, GoalOnly(), sinks=(self.log,), **options)
        self.truth: list[np.ndarray] = []
        self.tip: list[float] = []

    def run(self, seconds: float, until=None) -> bool:
        end = self.clock.now() + seconds
        while self.clock.now() < end - 1e-9:
            self.loop.tick()
            self.truth.append(self.world.position)
            self.tip.append(self.world.truth().tool_position[2])
            if until is not None and until():
                return True
        return until is None

    def arm_it(self) -> None:
        self.run(0.05)
        self.loop.request = Request.ARM
        assert self.run(2.0, lambda: self.loop.phase is Phase.HOLD)

    def start(self) -> None:
        self.arm_it()
        self.loop.travel(ROBOT.home)
        self.loop.request = Request.RUN
        assert self.run(5.0, lambda: self.loop.arrived)
        self.stop()
        self.loop.start_policy(0)
        self.loop.request = Request.RUN

    def stop(self) -> None:
        self.loop.request = Request.STOP
        assert self.run(2.0, lambda: self.loop.phase is Phase.HOLD)

    def settle(self) -> None:
        self.loop.request = Request.SETTLE
        assert self.run(20.0, self.loop.ended)

    def sent(self) -> np.ndarray:
        columns = self.log.columns()
        return np.stack([columns[f"executed.{name}"] for name in ROBOT.joint_names], axis=1)

    def check_motion(self) -> None:
        """What was sent, since torque came on, keeps the gate's velocity and acceleration limits."""
        columns = self.log.columns()
        energised = columns["phase"] >= 4
        sent = self.sent()[energised]
        velocity = np.diff(sent, axis=0) / DT
        assert (np.abs(velocity) <= ROBOT.limits("velocity") + 1e-6).all()
        assert (np.abs(np.diff(velocity, axis=0) / DT) <= ROBOT.limits("acceleration") + 1e-3).all()

    def check_ended(self, fault: str | None = None) -> None:
        """Torque off, lowered to rest beforehand, never a fast joint on the way."""
        assert (self.world.servo.enabled == 0).all()
        assert self.loop.phase is (Phase.LIMP_FAULT if fault else Phase.LIMP)
        assert self.loop.state.fault == fault
        assert np.abs(self.world.position - ROBOT.rest)[:5].max() < 0.1
        speed = np.abs(np.diff(np.array(self.truth), axis=0)) / DT
        assert speed.max() < 4.5
        self.check_motion()


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.world.close()


def test_a_whole_life(rig):
    """Limp, armed without moving, home, a policy, stopped, lowered to rest, limp."""
    before = rig.world.position
    rig.arm_it()
    assert np.abs(rig.world.position - before).max() < 0.12
    rig.loop.request = Request.NONE
    rig.start()
    rig.run(4.0)
    assert rig.loop.phase is Phase.RUNNING
    moved = np.ptp(np.array(rig.truth[-200:]), axis=0)
    assert (moved[:5] > 0.25).all(), "the arm follows the policy"
    rig.stop()
    rig.run(0.3)
    still = rig.world.position
    rig.run(0.5)
    assert np.abs(rig.world.position - still).max() < 0.01
    rig.settle()
    rig.check_ended()
    assert rig.loop.counts.overruns == 0 and rig.loop.faults == []
    assert rig.loop.counts.rejected == 0
    assert rig.loop.counts.commands == pytest.approx(400, abs=5)
    assert np.allclose(rig.loop.counts.latencies, 0.02, atol=0.011)


def test_the_same_run_twice_is_the_same():
    logs = []
    for _ in range(2):
        rig = Rig()
        rig.start()
        rig.run(1.0)
        logs.append(rig.log.rows())
        rig.world.close()
    assert np.array_equal(logs[0], logs[1])


def test_latency_is_invisible():
    """With chunks that come 200 ms late, the arm follows the same trajectory, not one shifted by 200 ms."""
    tracks = []
    for latency in (0.0, 0.2):
        rig = Rig(latency=latency)
        rig.start()
        rig.run(3.0)
        columns = rig.log.columns()
        tracks.append(columns["executed.shoulder_pan"][columns["episode"] == -1][-200:])
        assert rig.loop.counts.expired == 0
        rig.world.close()
    # The late one begins 0.2 s later, but then calls answer the same steps.
    assert np.abs(tracks[0] - tracks[1]).max() < 0.02


def test_a_stalled_policy_plays_out_then_holds_then_latches(rig):
    rig.start()
    rig.run(1.0)
    rig.source.stalled = True
    stall = rig.clock.now()
    assert rig.run(1.0, lambda: rig.loop.phase is Phase.DEGRADED)
    # Ten actions of 1/30 s were known, so it goes on for a third of a second, then stands still.
    assert 0.2 < rig.clock.now() - stall < 0.45
    rig.run(0.4)
    assert np.abs(rig.world.velocity).max() < 0.05
    rig.source.stalled = False
    assert rig.run(0.5, lambda: rig.loop.phase is Phase.RUNNING), "it recovers by itself before the deadline"
    rig.source.stalled = True
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("policy_late")


@pytest.mark.parametrize("fault", ["nan", "shape"])
def test_invalid_chunks_are_refused_then_latch(rig, fault):
    rig.start()
    rig.run(1.0)
    rig.policy.fault = fault
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("policy_invalid")
    assert np.isfinite(rig.sent()).all() and rig.loop.counts.refused >= 4


def test_one_invalid_chunk_changes_nothing(rig):
    rig.start()
    rig.run(1.0)
    rig.policy.fault = "nan"
    rig.run(0.034)
    rig.policy.fault = ""
    rig.run(1.0)
    assert rig.loop.phase is Phase.RUNNING and rig.loop.faults == []
    assert rig.loop.counts.refused >= 1
    rig.stop()
    rig.settle()
    rig.check_ended()


def test_a_policy_that_raises_is_named(rig):
    rig.start()
    rig.run(1.0)
    rig.policy.fault = "raise"
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("policy_died")
    assert rig.loop.faults == ["policy_died: RuntimeError: the policy broke"]


def test_a_teleporting_policy_stays_within_the_limits(rig):
    rig.start()
    rig.policy.fault = "teleport"
    rig.run(3.0)
    rig.loop.request = Request.STOP
    rig.run(2.0)
    rig.settle()
    rig.check_motion()
    assert rig.loop.counts.rejected + rig.loop.counts.clipped > 100


def test_bus_silence_holds_at_once_and_recovers(rig):
    rig.start()
    rig.run(0.7)
    assert np.abs(rig.world.velocity).max() > 0.2
    rig.arm.silent[:] = True
    rig.run(0.03)
    assert rig.loop.phase is Phase.DEGRADED, "three periods"
    rig.run(0.5)
    assert np.abs(rig.world.velocity).max() < 0.05
    rig.arm.silent[:] = False
    rig.run(0.3)
    assert rig.loop.phase is Phase.RUNNING
    rig.stop()
    rig.settle()
    rig.check_ended()


@pytest.mark.parametrize("rate", [100, 200])
def test_a_silent_line_is_noticed_within_three_periods_at_any_rate(rate):
    robot = replace(ROBOT, command_rate=rate, physics_rate=3 * rate)
    arm = SteppedArm(robot, IdealPlant(robot.n, robot.home))
    arm.arm.identify()
    arm.arm.configure()
    log = TickLog(robot.joint_names)
    loop = ControlLoop(arm.arm, arm.clock, sinks=(log,))
    loop.run(lambda: loop.phase is Phase.LIMP, 1)
    loop.request = Request.ARM
    assert loop.run(lambda: loop.phase is Phase.HOLD, 3)
    loop.travel(robot.home + 0.3)
    loop.request = Request.RUN
    loop.run(lambda: False, 0.5)
    arm.line.tamper = lambda reply: () if reply.id == 6 else (reply,)
    loop.tick()
    assert loop.doing is Action.FOLLOW, "a single lost reply holds nothing up"
    arm.line.tamper = None
    loop.run(lambda: False, 0.1)
    assert loop.phase is Phase.RUNNING and loop.counts.overruns == 0
    arm.line.tamper = lambda reply: ()
    assert loop.reading is not None
    heard = loop.reading.time
    assert loop.run(lambda: loop.doing is Action.HOLD, 1)
    assert arm.clock.now() - heard <= 3 / rate
    assert np.diff(log.columns()["t"]).min() > 0.5 / rate, "no burst of cycles"


def test_bus_silence_that_lasts_ends_in_limp_fault(rig):
    rig.start()
    rig.run(0.5)
    rig.arm.silent[:] = True
    rig.run(10.0)
    assert rig.loop.phase is Phase.LIMP_FAULT and rig.loop.state.fault == "feedback_lost"
    assert not rig.loop.ended(), "torque off is not confirmed while nobody answers"
    rig.arm.silent[:] = False
    assert rig.run(1.0, rig.loop.ended)
    assert (rig.world.servo.enabled == 0).all()


def test_one_silent_servo_latches_and_is_named(rig):
    rig.start()
    rig.run(0.5)
    rig.arm.silent[2] = True
    assert rig.run(3.0, lambda: rig.loop.phase is Phase.FAULT_HOLD)
    assert rig.loop.faults == ["feedback_lost: elbow_flex"]
    rig.arm.silent[2] = False
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("feedback_lost")


def test_an_emergency_stop_brakes_hard_and_holds():
    """However slow the run, it stops within the way that the robot's full deceleration needs."""
    rig = Rig(settings=LoopSettings(speed=0.5), attended=True)
    rig.start()
    rig.run(0.7)
    speed = np.abs(np.diff(rig.sent()[-2:], axis=0)[0]) / DT
    assert speed.max() > 0.2
    rig.loop.estop.press("key")
    rig.run(0.02)
    assert rig.loop.phase is Phase.ESTOP
    begin = rig.sent()[-3]
    rig.run(1.0)
    assert rig.loop.gate.at_rest and np.abs(rig.world.velocity).max() < 0.05
    way = np.abs(rig.sent()[-1] - begin)
    # v²/2A, what goes on until the press is seen, and the smoothing of the last ticks.
    limit = speed**2 / (2 * ROBOT.limits("acceleration")) + speed * (0.03 + rig.loop.gate.delay)
    assert (way <= limit + 0.003).all()
    rig.check_motion()
    # Whatever is asked now, it holds.
    still = rig.sent()[-1]
    for request in (Request.RUN, Request.ARM, Request.NONE):
        rig.loop.request = request
        rig.run(0.5)
        assert rig.loop.phase is Phase.ESTOP and np.array_equal(rig.sent()[-1], still)
    rig.loop.request = Request.SETTLE
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("estop")
    assert rig.loop.faults == ["estop: key"]
    rig.world.close()


def test_a_second_press_lets_go_but_a_held_key_does_not(rig):
    rig.loop.attended = True
    rig.start()
    rig.run(0.5)
    # A key that is held down repeats itself.
    for _ in range(40):
        rig.loop.estop.press("key")
        rig.run(0.05)
    assert rig.loop.phase is Phase.ESTOP and (rig.world.servo.enabled == 1).all()
    rig.run(1.5)
    rig.loop.estop.press("key")
    rig.run(0.02)
    assert rig.loop.phase is Phase.LIMP_FAULT and (rig.world.servo.enabled == 0).all()


def test_nothing_arms_while_a_stop_is_pressed(rig):
    class Line:
        name, pressed = "button", True

        def state(self, now):
            return self.pressed, 1

    line = Line()
    rig.loop.estop.inputs.append(line)
    rig.run(0.05)
    rig.loop.request = Request.ARM
    rig.run(1.0)
    assert rig.loop.phase is Phase.LIMP_FAULT and (rig.world.servo.enabled == 0).all()
    rig.loop.request = Request.ACKNOWLEDGE
    rig.run(1.0)
    assert rig.loop.phase is Phase.LIMP_FAULT
    line.pressed = False
    rig.run(0.1)
    assert rig.loop.phase is Phase.LIMP
    rig.arm_it()


def test_an_operator_who_falls_silent_stops_the_arm():
    rig = Rig(settings=LoopSettings(operator_required=True))
    rig.loop.operator_sign()
    rig.arm_it()
    rig.loop.travel(ROBOT.home)
    rig.loop.request = Request.RUN
    rig.run(4.0)
    rig.loop.operator_sign()
    rig.run(4.0)
    assert rig.loop.phase is Phase.RUNNING
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("operator_lost")
    rig.world.close()


def test_a_servo_that_reports_overheating_latches(rig):
    rig.start()
    rig.run(0.5)
    rig.arm.status[3] = 4
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("servo_fault")
    assert rig.loop.faults == [f"servo_fault: wrist_flex reports {report(['temperature'])}"]


class Camera(GoalOnly):
    """A camera whose pictures stop coming when `taken` stays."""

    needed = True

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock, self.taken = clock, None
        self.problem = "front stalled"

    def frame_age(self, time):
        return 0.05 if self.taken is None else time - self.taken


def test_a_camera_that_stops_degrades_then_latches(rig):
    camera = rig.loop.perception = Camera(rig.clock)
    rig.start()
    rig.run(1.0)
    assert rig.loop.phase is Phase.RUNNING
    camera.taken = rig.clock.now()
    rig.run(0.5)
    assert rig.loop.phase is Phase.DEGRADED
    camera.taken = None
    rig.run(0.1)
    assert rig.loop.phase is Phase.RUNNING
    camera.taken = rig.clock.now()
    assert rig.run(6.0, lambda: rig.loop.phase is Phase.RETREATING)
    away = np.abs(rig.world.position - ROBOT.home)[:5].max()
    assert away > 0.1
    assert rig.run(6.0, lambda: rig.loop.phase is Phase.FAULT_HOLD)
    # Blind, it goes home first.
    assert np.abs(rig.world.position - ROBOT.home)[:5].max() < min(0.06, away)
    assert rig.run(20.0, rig.loop.ended)
    rig.check_ended("camera_lost")


def test_a_port_that_dies_is_no_crash(rig):
    rig.start()
    rig.run(0.5)
    rig.arm.unplugged = True
    rig.run(1.0)
    assert rig.loop.phase is Phase.DISCONNECTED and rig.loop.state.fault == "port_lost"
    assert rig.loop.faults == ["port_lost: the simulated port has gone away"]
    rig.arm.unplugged = False
    rig.run(1.0)
    assert rig.loop.phase is Phase.DISCONNECTED, "a port that comes back is left alone"
    assert rig.loop.ended()


def test_overruns_skip_whole_periods_and_keep_phase(rig):
    rig.start()
    starts: list[float] = []
    observe = rig.arm.observe

    def slow():
        starts.append(rig.clock.now())
        if len(starts) == 50:
            rig.clock.advance(0.047)
        return observe()

    rig.arm.observe = slow
    rig.run(1.5)
    gaps = np.diff(starts) / DT
    assert rig.loop.counts.overruns in (4, 5)
    assert np.allclose(gaps, np.round(gaps), atol=1e-6), "the phase is kept"
    assert sorted(np.round(gaps))[-1] in (5, 6) and (np.round(gaps) >= 1).all(), "no burst follows"
    rig.check_motion()


def test_the_gripper_may_be_overloaded(rig):
    rig.start()
    rig.arm.status[ROBOT.gripper] = 0b100000
    rig.run(1.0)
    assert rig.loop.phase is Phase.RUNNING
    rig.arm.status[ROBOT.gripper] = 0b100
    assert rig.run(20.0, rig.loop.ended)
    assert rig.loop.faults == [f"servo_fault: gripper reports {report(['temperature'])}"], "but not hot"


def test_the_same_loop_on_servo_bytes(arm_rig):
    """A whole life through the serial driver, byte by byte, on the emulated bus with a stepped clock."""
    arm, clock = arm_rig.arm, arm_rig.clock
    arm.identify()
    arm.configure()
    loop = ControlLoop(arm, clock, LocalPolicy(Wave(), 1 / 30, clock, 0.01), GoalOnly())

    def run(condition, seconds):
        assert loop.run(condition, seconds)

    run(lambda: loop.phase is Phase.LIMP, 1)
    loop.request = Request.ARM
    run(lambda: loop.phase is Phase.HOLD, 2)
    assert (arm_rig.plant.drive.mode == 1).all()
    loop.travel(ROBOT.home)
    loop.request = Request.RUN
    run(lambda: loop.arrived, 10)
    loop.start_policy(0)
    loop.run(lambda: False, 2.0)
    assert loop.phase is Phase.RUNNING and loop.counts.commands > 190
    assert np.abs(arm_rig.plant.position - loop.executed).max() < 0.1
    loop.request = Request.STOP
    run(lambda: loop.phase is Phase.HOLD, 2)
    loop.request = Request.SETTLE
    run(loop.ended, 20)
    assert loop.phase is Phase.LIMP and loop.counts.bus_errors == 0 and loop.counts.overruns == 0
    assert (arm_rig.plant.drive.mode == 0).all()
    assert np.abs(arm_rig.plant.position - ROBOT.rest).max() < 0.05


def test_nothing_is_sent_before_it_is_asked_to_arm(rig):
    rig.run(2.0)
    assert rig.loop.phase is Phase.LIMP
    assert (rig.world.servo.enabled == 0).all()


def test_goals_go_on_from_those_that_torque_came_on_with():
    """A hand has moved the arm since the reading before it: what is sent next is what the servos hold."""
    rig = Rig()
    rig.run(0.05)
    enable, held = rig.arm.enable, []

    def moved_first():
        rig.world.reset(position=ROBOT.home - 0.05)
        rig.arm._origin = rig.clock.now()
        held.append(enable())
        return held[-1]

    rig.arm.enable = moved_first
    rig.loop.request = Request.ARM
    assert rig.run(2.0, lambda: rig.loop.phase is Phase.HOLD)
    np.testing.assert_allclose(held[0], ROBOT.home - 0.05, atol=0.01)
    np.testing.assert_array_equal(rig.loop.executed, held[0])


def test_a_port_that_dies_while_torque_comes_on_leaves_no_other_goal_behind():
    """The last goal is what a watchdog starts from: never home, where the arm has not been."""
    rig = Rig()
    rig.world.reset(position=ROBOT.rest)
    rig.arm._origin = rig.clock.now()
    rig.run(0.05)
    enable = rig.arm.enable

    def then_unplugged():
        goals = enable()
        rig.arm.unplugged = True
        return goals

    rig.arm.enable = then_unplugged
    rig.loop.request = Request.ARM
    assert rig.run(2.0, lambda: rig.loop.phase is Phase.DISCONNECTED)
    np.testing.assert_allclose(rig.loop.executed, ROBOT.rest, atol=0.02)


def test_torque_stays_off_without_a_watchdog():
    rig = Rig(guardian=Gone())
    rig.run(0.05)
    rig.loop.request = Request.ARM
    rig.run(0.5)
    assert rig.loop.state.fault == "watchdog_lost" and not rig.loop.link.torque
    assert (rig.world.servo.enabled == 0).all()


@pytest.mark.parametrize(("error", "attempts"), [(HardwareError("it moved"), 1), (BusError("silence"), 50)])
def test_an_arm_that_moved_while_torque_came_on_is_left_alone(error, attempts):
    """A bus that was disturbed is asked again; an arm that moved would move again."""
    rig, calls = Rig(), []

    def enable():
        calls.append(error)
        raise error

    rig.arm.enable = enable
    rig.run(0.05)
    rig.loop.request = Request.ARM
    assert rig.run(6.0, rig.loop.ended)
    assert (len(calls) == 1) if attempts == 1 else (len(calls) > attempts)
    assert rig.loop.faults == [f"arming_failed: {error}"]


def test_a_straight_way_is_kept_to(rig: Rig) -> None:
    """Joints with far and near to go arrive at once, where each as fast as it can would leave the line by far."""
    rig.arm_it()
    away = {}
    for straight in (True, False):
        rig.loop.travel(ROBOT.home)
        rig.loop.request = Request.RUN
        assert rig.run(5.0, lambda: rig.loop.arrived)
        start, turn = rig.loop.executed.copy(), np.array([0.9, 0.1, -0.3, 0.05, 0.6, 0.0])
        rig.loop.travel(start + turn, straight=straight)
        before = len(rig.sent())
        assert rig.run(5.0, lambda: rig.loop.arrived)
        gone = rig.sent()[before:] - start
        along = gone @ turn / (turn @ turn)
        away[straight] = np.abs(gone - along[:, None] * turn).max()
    assert away[True] < 0.03 and away[False] > 3 * away[True]
