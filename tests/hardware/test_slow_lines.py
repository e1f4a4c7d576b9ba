"""Adapters that keep what they have for a while: slow is not dead, and too slow for a loop is said before torque."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from hardware.commissioning.inspection import inspect_bus
from hardware.emulator.stepped import SteppedArm
from hardware.emulator.wire import Reply
from hardware.servos.pace import LinePace, usual
from sim2real.errors import BusError, UserError
from sim2real.robot import Robot

SO101 = Robot.load("so101")


def late(rig: SteppedArm, seconds: float) -> None:
    """Every reply comes so much later than the servos said it."""

    def hold(reply: Reply) -> Iterable[Reply]:
        return [replace(reply, due=reply.due + seconds)]

    rig.line.tamper = hold


@pytest.mark.parametrize("robot", ["so101", "koch"])
@pytest.mark.parametrize("seconds", [0.004, 0.0075, 0.016, 0.03])
def test_slow_servos_are_found_and_none_of_them_is_called_broken(robot: str, seconds: float) -> None:
    rig = SteppedArm(robot)
    late(rig, seconds)
    report = inspect_bus(rig.robot, rig.bus, cycles=20)
    assert report.missing == () and report.problems == ()
    assert report.latency == pytest.approx(seconds, abs=0.001)
    assert [one.joint for one in rig.arm.identify()] == list(rig.robot.joint_names)
    rig.arm.configure()
    state = rig.arm.observe()
    assert state.valid.all()
    reading, wire = rig.arm.time_readings(25)
    assert reading == pytest.approx(wire + seconds, abs=0.004) and wire < 0.004
    pace = LinePace("/dev/ttyX", reading, wire)
    assert pace.serves(rig.robot) == (seconds < 0.007)
    if pace.serves(rig.robot):
        start = rig.arm.enable()
        rig.run(1.0, start)
        assert all(rig.bus.statistics.servos[id].late == 0 for id in rig.arm.ids)
        rig.arm.relax()


def test_a_quick_line_waits_no_longer_than_it_did() -> None:
    rig = SteppedArm("so101")
    before = rig.bus.allowance
    latency = rig.bus.settle(rig.arm.ids)
    assert latency is not None and latency < 0.001
    assert rig.bus.allowance == before


def test_servos_that_are_not_there_are_missing_on_a_slow_line_too() -> None:
    rig = SteppedArm("so101")
    late(rig, 0.016)
    del rig.line.servos[0], rig.line.servos[3]
    report = inspect_bus(rig.robot, rig.bus, cycles=5)
    assert report.missing == ("shoulder_pan (ID 1)", "wrist_roll (ID 5)")
    with pytest.raises(
        BusError, match="no answer from shoulder_pan .ID 1., wrist_roll .ID 5.; found shoulder_lift"
    ):
        rig.arm.identify()


def test_what_is_usual() -> None:
    assert usual([1.0, 9.0, 7.0, 9.0] * 6) == 7.0, "slow every time"
    assert usual([1.0, 9.0] * 10) == 1.0, "a machine that is busy every other time"


def test_a_loop_that_cannot_be_held_is_refused_with_both_figures() -> None:
    LinePace("/dev/ttyX", 0.0079, 0.001).require(SO101)
    with pytest.raises(UserError) as refused:
        LinePace("/dev/ttyX", 0.0176, 0.001).require(SO101)
    text = str(refused.value)
    assert "17.6 ms for a reading of all servos (1.0 ms of it on the wire)" in text
    assert "at 45 Hz at most; that of so101 runs at 100 Hz. Nothing has moved" in text
    assert "set command_rate = 30 in a TOML" in text and "waiting for the adapter" in text
    # A wire that is too slow is not the adapter's fault.
    remedy = LinePace("/dev/ttyX", 0.033, 0.031).remedy(SO101)
    assert remedy.startswith("give the servos a higher baud rate than 1000000 (a slower loop will not do")
