"""What `doctor` finds on a bus."""

from dataclasses import replace

from hardware.commissioning.inspection import inspect_bus
from hardware.emulator.wire import Reply
from sim2real.status import report as told

from .conftest import ArmRig


def test_a_sound_arm(arm_rig: ArmRig) -> None:
    before = [bytes(servo.memory[:56]) for servo in arm_rig.servos]
    report = inspect_bus(arm_rig.robot, arm_rig.bus, cycles=20)
    assert report.problems == () and report.missing == ()
    assert [servo.joint for servo in report.servos] == list(arm_rig.robot.joint_names)
    assert {(servo.model, servo.firmware, servo.voltage) for servo in report.servos} == {(777, "3.10", 12.0)}
    assert all(servo.error_rate == 0 for servo in report.servos)
    assert [bytes(servo.memory[:56]) for servo in arm_rig.servos] == before


def test_everything_wrong_is_named(arm_rig: ArmRig) -> None:
    stranger, absent, hot, noisy = arm_rig.servos[0], arm_rig.servos[1], arm_rig.servos[2], arm_rig.servos[3]
    stranger._put("model_number", 2825)
    arm_rig.line.servos.remove(absent)
    hot.temperature = 75.0
    arm_rig.line.advance(0.05)
    count = [0]

    def lose_some(reply: Reply) -> list[Reply]:
        if reply.id == noisy.id and len(reply.data) >= 12:
            count[0] += 1
            return [reply] if count[0] % 3 else []
        return [reply]

    arm_rig.line.tamper = lose_some
    text = "\n".join(inspect_bus(arm_rig.robot, arm_rig.bus, cycles=20).problems)
    assert "shoulder_pan (ID 1) is model 2825, expected 777" in text
    assert "no answer from shoulder_lift (ID 2)" in text
    assert "elbow_flex (ID 3) reports temperature" in text
    assert "elbow_flex (ID 3) is at 75 °C" in text
    assert "wrist_flex (ID 4) failed to answer" in text


def test_servos_with_other_ids_are_found(arm_rig: ArmRig) -> None:
    arm_rig.servos[5]._put("id", 60)
    report = inspect_bus(arm_rig.robot, arm_rig.bus, cycles=2, scan=True)
    assert report.missing == ("gripper (ID 6)",)
    assert report.servos[-1].id == 60
    assert any("(ID 60) belongs to no joint" in problem for problem in report.problems)


def test_an_empty_bus(arm_rig: ArmRig) -> None:
    arm_rig.line.servos.clear()
    report = inspect_bus(arm_rig.robot, arm_rig.bus)
    assert report.servos == () and len(report.missing) == 6 and report.cycle_median is None


def test_a_servo_that_cannot_be_read_is_not_called_absent_alone(arm_rig: ArmRig) -> None:
    """Two with one ID: what is the same of both gets through, the rest is damaged."""

    def spoil(reply: Reply) -> list[Reply]:
        long = reply.id == 2 and len(reply.data) > 6
        return [replace(reply, data=reply.data[:-1] + b"\0\0")] if long else [reply]

    arm_rig.line.tamper = spoil
    report = inspect_bus(arm_rig.robot, arm_rig.bus, cycles=5)
    assert report.missing == ("shoulder_lift (ID 2)",)
    assert "shoulder_lift (ID 2) answers a ping, but no question comes back whole" in report.problems[0]


def test_a_servo_that_knows_no_common_question_is_told_so(arm_rig: ArmRig) -> None:
    heard = [b""]

    def overhear(data: bytes, now: float) -> bytes:
        heard[0] = data
        return data

    arm_rig.line.overhear = overhear
    arm_rig.line.tamper = lambda reply: [] if reply.id == 4 and heard[0][4] == 0x82 else [reply]
    problems = inspect_bus(arm_rig.robot, arm_rig.bus, cycles=5).problems
    assert len(problems) == 1
    assert "wrist_flex (ID 4) failed to answer 100 % of requests" in problems[0]
    assert "answers when it is asked alone, but not to one question for all" in problems[0]


def test_what_a_servo_reports_comes_with_what_to_do(arm_rig: ArmRig) -> None:
    def alarmed(reply: Reply) -> list[Reply]:
        if reply.id != 6:
            return [reply]
        body = bytes((*reply.data[2:4], reply.data[4] | 32, *reply.data[5:-1]))
        return [replace(reply, data=reply.data[:2] + body + bytes((~sum(body) & 255,)))]

    arm_rig.line.tamper = alarmed
    (problem,) = inspect_bus(arm_rig.robot, arm_rig.bus, cycles=5).problems
    assert problem == f"gripper (ID 6) reports {told(['overload'])}" and "what blocks the joint" in problem
