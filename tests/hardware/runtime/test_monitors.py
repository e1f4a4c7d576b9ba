"""Each monitor in closed form, then on a simulated arm that is jammed, pushed, heated or starved."""

from dataclasses import replace

import numpy as np
import pytest

from hardware.runtime.control.loop import REDUCED
from hardware.runtime.control.monitors import NAMES, Monitors, Thresholds, Verdict
from hardware.runtime.control.supervisor import Phase
from sim2real.arm import ArmState
from sim2real.errors import UserError
from sim2real.robot import Robot

from .test_loop import Rig

ROBOT = Robot.load("so101")
N, DT = ROBOT.n, 0.01
GRIPPER = ROBOT.gripper
STILL = ArmState(
    time=0.0,
    position=np.zeros(N),
    velocity=np.zeros(N),
    load=np.zeros(N),
    valid=np.ones(N, dtype=bool),
    age=np.zeros(N),
    voltage=np.full(N, 12.0),
    temperature=np.full(N, 30.0),
    current=np.zeros(N),
    status=np.zeros(N, dtype=np.int64),
)


def at(joint: int, value: float, base: float = 0.0) -> np.ndarray:
    values = np.full(N, base)
    values[joint] = value
    return values


class Watch:
    """Feeds readings to the monitors at 100 Hz and remembers when each name first warned and failed."""

    def __init__(self, start: ArmState = STILL, **thresholds) -> None:
        robot = replace(ROBOT, monitors=thresholds) if thresholds else ROBOT
        self.monitors, self.time = Monitors(robot), 0.0
        self.verdict = Verdict()
        self.feed(start, 0.05)

    def feed(self, reading: ArmState, seconds: float, goal=None, driven: bool = True) -> dict[str, float]:
        begin, first = self.time, {}
        for _ in range(round(seconds / DT)):
            self.time += DT
            self.verdict = self.monitors.step(
                self.time,
                replace(reading, time=self.time),
                np.zeros(N) if goal is None else goal,
                on=True,
                driven=driven,
            )
            for name in self.verdict.warned:
                first.setdefault(f"{name} warns", self.time - begin)
            for name in self.verdict.faulty:
                first.setdefault(name, self.time - begin)
        return {name: round(when, 2) for name, when in first.items()}


def test_a_good_arm_says_nothing():
    watch = Watch()
    assert watch.feed(STILL, 5.0) == {} and watch.verdict == Verdict()


def test_heat_warns_until_it_has_come_down_some_way():
    watch = Watch()
    assert watch.feed(replace(STILL, temperature=at(2, 55.0, 30)), 1.0) == {"overheated warns": 0.01}
    assert watch.monitors.joints("overheated") == "elbow_flex"
    assert watch.feed(replace(STILL, temperature=at(2, 51.0, 30)), 1.0) == {"overheated warns": 0.01}
    assert watch.feed(replace(STILL, temperature=at(2, 50.0, 30)), 1.0) == {}
    found = watch.feed(replace(STILL, temperature=at(2, 65.0, 30)), 1.0)
    assert found == {"overheated warns": 0.01, "overheated": 0.3}
    # One wrong byte in between two readings, 0.1 s apart, is no fault.
    watch = Watch()
    assert "overheated" not in watch.feed(replace(STILL, temperature=at(2, 200.0)), 0.1)


def test_voltage_is_judged_by_what_was_there_when_torque_came_on():
    for supply in (5.0, 7.4, 12.0):
        watch = Watch()
        watch.monitors._clear()
        watch.feed(replace(STILL, voltage=np.full(N, supply)), 0.1)
        assert watch.feed(replace(STILL, voltage=np.full(N, 0.9 * supply)), 1.0) == {}
        assert watch.feed(replace(STILL, voltage=at(1, 0.8 * supply, supply)), 1.0) == {"voltage warns": 0.3}
        assert watch.feed(replace(STILL, voltage=at(1, 0.7 * supply, supply)), 1.0)["voltage"] == 0.3
    assert Watch().feed(replace(STILL, voltage=at(1, 15.0, 12)), 1.0)["voltage"] == 0.3


def test_i2t_follows_the_closed_form():
    watch = Watch()
    continuous, constant = 1.0, 30.0
    current = 1.6
    found = watch.feed(replace(STILL, current=at(1, current)), 40.0)
    for name, share in (("overloaded warns", 0.8), ("overloaded", 1.3)):
        expected = -constant * np.log(1 - share * continuous**2 / current**2)
        assert found[name] == pytest.approx(expected, rel=0.01)
    assert Watch().feed(replace(STILL, current=at(1, 0.85)), 120.0) == {}


def test_current():
    assert Watch().feed(replace(STILL, current=at(1, 2.4)), 2.0) == {
        "overcurrent warns": 0.5,
        "overcurrent": 1.0,
    }
    assert Watch().feed(replace(STILL, current=at(1, 2.4)), 0.4) == {}


def test_stall_needs_load_without_motion_and_the_gripper_may_squeeze():
    pushing = replace(STILL, load=at(1, -0.9))
    assert Watch().feed(pushing, 2.0) == {"stalled warns": 0.4, "stalled": 1.0}
    assert Watch().feed(replace(pushing, velocity=at(1, 0.3)), 2.0) == {}
    assert Watch().feed(pushing, 2.0, driven=False) == {}
    squeezing = replace(STILL, load=at(GRIPPER, -0.9), position=at(GRIPPER, 0.5))
    assert Watch(squeezing).feed(squeezing, 5.0, goal=at(GRIPPER, 0.1)) == {}


def test_tracking_error():
    assert Watch().feed(STILL, 2.0, goal=at(0, 0.4)) == {"off_track warns": 0.5}
    assert Watch().feed(STILL, 2.0, goal=at(0, -0.6)) == {"off_track warns": 0.5, "off_track": 0.7}
    assert Watch().feed(STILL, 0.45, goal=at(0, 0.6)) == {}
    watch = Watch(track_warn={"shoulder_pan": 0.7}, track_fault={"shoulder_pan": 0.9})
    assert watch.feed(STILL, 2.0, goal=at(0, 0.6)) == {}


def test_an_encoder_that_jumps():
    assert "encoder_jumped" in Watch().feed(replace(STILL, position=at(3, 0.5)), 0.05)
    assert Watch().feed(replace(STILL, position=at(3, 0.1)), 0.05) == {}
    # After half a second of silence a joint may be anywhere near.
    watch = Watch()
    for _ in range(50):
        watch.time += DT
        watch.monitors.step(watch.time, STILL, np.zeros(N), on=True, driven=True)
    assert watch.feed(replace(STILL, position=at(3, 0.5)), 0.05) == {}


def test_a_stuck_gripper_is_told_from_a_squeezing_one():
    opening = at(GRIPPER, 0.6)
    assert Watch().feed(STILL, 2.0, goal=opening) == {"gripper_stuck warns": 0.7, "gripper_stuck": 1.5}
    closed_on_nothing = replace(STILL, position=at(GRIPPER, 0.6))
    assert "gripper_stuck" in Watch(closed_on_nothing).feed(closed_on_nothing, 2.0)
    assert Watch(closed_on_nothing).feed(replace(closed_on_nothing, load=at(GRIPPER, -0.3)), 5.0) == {}
    assert Watch().feed(replace(STILL, velocity=at(GRIPPER, 1.0)), 2.0, goal=opening) == {}


def test_thresholds_come_from_the_robot_and_are_checked():
    standard = Thresholds.of(ROBOT)
    assert standard.warm.shape == (N,) and (standard.warm < standard.hot).all()
    changed = Thresholds.of(replace(ROBOT, monitors={"warm": 40.0, "stall_time": {"gripper": 2.0}}))
    assert (changed.warm == 40.0).all() and changed.stall_time[GRIPPER] == 2.0
    for wrong, said in (
        ({"warmth": 1}, "there are warm, cool"),
        ({"warm": {"knee": 1}}, "knee"),
        ({"warm": -1}, "positive"),
    ):
        with pytest.raises(UserError, match=said):
            Thresholds.of(replace(ROBOT, monitors=wrong))


# On a simulated arm


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.world.close()


def jam(rig: Rig, joint: int) -> None:
    """Block a joint where it is."""
    views = rig.world._coupling.views
    lower, upper = views.lower.copy(), views.upper.copy()
    lower[joint], upper[joint] = rig.world.position[joint] + np.array([-0.005, 0.005])
    rig.world.set_joint_limits(lower, upper)


def test_nothing_is_reported_on_a_moving_arm(rig):
    rig.start()
    rig.run(4.0)
    assert rig.loop.phase is Phase.RUNNING and not rig.loop.inputs.monitors.levels.any()


def test_a_jammed_joint_is_named_and_no_longer_pushed(rig):
    rig.start()
    rig.run(0.3)
    jam(rig, 0)
    rig.policy.act = lambda observation: np.tile(ROBOT.home + 0.6 * np.eye(6)[0], (10, 1))
    assert rig.run(6.0, lambda: rig.loop.state.fault is not None)
    assert rig.loop.state.fault in ("stalled", "off_track", "overcurrent")
    assert rig.loop.faults == [f"{rig.loop.state.fault}: shoulder_pan"]
    assert abs(rig.world.servo.duty[0]) > 0.7
    # The goal comes back to the arm, so that it does not go on pushing.
    assert rig.run(5.0, lambda: rig.loop.state.retreat is None)
    rig.run(0.1)
    assert abs(rig.world.servo.duty[0]) < 0.3
    assert rig.run(25.0, rig.loop.ended)
    assert (rig.world.servo.enabled == 0).all()


def test_a_stuck_gripper_is_released_and_the_arm_raised(rig):
    rig.start()
    rig.run(0.3)
    jam(rig, GRIPPER)
    low = rig.world.truth().tool_position[2]
    rig.policy.act = lambda observation: np.tile(ROBOT.home + 0.5 * np.eye(6)[GRIPPER], (10, 1))
    assert rig.run(6.0, lambda: rig.loop.phase is Phase.FAULT_HOLD)
    assert rig.loop.state.fault == "gripper_stuck"
    # Stopped first; then it goes up with the gripper told to open.
    assert rig.run(3.0, lambda: rig.loop.phase is Phase.RETREATING)
    assert np.abs(rig.world.velocity).max() < 0.1
    assert rig.run(9.0, lambda: rig.loop.phase is Phase.FAULT_HOLD)
    assert rig.loop.executed[GRIPPER] > ROBOT.lower[GRIPPER] + 0.7 * np.ptp([ROBOT.lower, ROBOT.upper], 0)[5]
    assert rig.world.truth().tool_position[2] > low + 0.03
    rig.check_motion()
    assert rig.run(30.0, rig.loop.ended)
    assert rig.loop.phase is Phase.LIMP_FAULT


def test_a_warm_servo_slows_the_arm_down_and_a_hot_one_stops_it(rig):
    rig.start()
    sweep = [ROBOT.home + 0.6 * np.eye(6)[0], ROBOT.home - 0.6 * np.eye(6)[0]]
    rig.policy.act = lambda observation: np.tile(sweep[int(rig.clock.now()) % 2], (10, 1))
    rig.run(3.0)
    full = np.abs(np.diff(rig.sent()[-200:, 0])).max() / DT
    assert full > 0.9 * ROBOT.limits("velocity")[0]
    rig.arm.temperature[3] = 58.0
    rig.run(1.0)
    rig.run(2.0)
    slow = np.abs(np.diff(rig.sent()[-200:, 0])).max() / DT
    assert rig.loop.phase is Phase.DEGRADED
    assert slow <= REDUCED * ROBOT.limits("velocity")[0] + 1e-6 and slow > 0.5
    rig.check_motion()
    rig.arm.temperature[3] = 66.0
    assert rig.run(25.0, rig.loop.ended)
    assert rig.loop.faults == ["overheated: wrist_flex"]
    rig.check_motion()


def test_every_monitor_has_a_name_that_latches():
    from hardware.runtime.control.supervisor import MONITORS, TRANSITIONS

    latching = {row.condition for row in TRANSITIONS if row.fault}
    assert set(NAMES) == set(MONITORS) <= latching
