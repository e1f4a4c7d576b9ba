"""The control loop on Dynamixel servos, bytes and all: faults that the servos latch, and their own watchdog."""

from typing import cast

import numpy as np

from hardware.emulator.dynamixel.servo import OVERLOAD, DynamixelServo
from hardware.emulator.stepped import SteppedArm
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.control.supervisor import Phase, Request


def ready() -> tuple[SteppedArm, ControlLoop]:
    rig = SteppedArm("koch")
    rig.arm.identify()
    rig.arm.configure()
    loop = ControlLoop(rig.arm, rig.clock, settings=LoopSettings(limits=rig.calibration.limits))
    run(loop, 0.05)
    arm_it(loop)
    return rig, loop


def run(loop: ControlLoop, seconds: float, until: Phase | None = None) -> None:
    for _ in range(round(seconds * loop.robot.command_rate)):
        loop.tick()
        if loop.phase is until:
            return
    assert until is None, f"still {loop.phase}, faults {loop.faults}"


def arm_it(loop: ControlLoop) -> None:
    loop.request = Request.ARM
    run(loop, 3.0, Phase.HOLD)


def test_an_overloaded_servo_is_restarted_on_acknowledgement_only() -> None:
    rig, loop = ready()
    tripped = cast(DynamixelServo, rig.servos[1])
    tripped.trip(OVERLOAD)
    loop.request = Request.NONE
    run(loop, 30.0, Phase.LIMP_FAULT)
    assert "shoulder_lift" in loop.faults[0]
    run(loop, 0.5)
    assert loop.phase is Phase.LIMP_FAULT and tripped.status == OVERLOAD
    assert not any(cast(DynamixelServo, servo).get("torque_enable") for servo in rig.servos)
    loop.request = Request.ACKNOWLEDGE
    run(loop, 1.0, Phase.LIMP)
    assert tripped.status == 0
    arm_it(loop)
    assert rig.arm.alarms() == {} and rig.arm.enabled.all()


def test_a_loop_that_stood_still_too_long_finds_the_arm_stopped() -> None:
    rig, loop = ready()
    loop.travel(rig.robot.home)
    loop.request = Request.RUN
    run(loop, 0.4)
    rig.clock.advance(1.0)
    rig.line.advance(rig.clock.now())
    held = rig.plant.position.copy()
    # Whatever the loop sends now, the servos take no goals until a person arms the arm again.
    run(loop, 30.0, Phase.LIMP_FAULT)
    assert "servo_fault" in loop.faults[0]
    np.testing.assert_allclose(rig.plant.position, held, atol=0.05)
    loop.request = Request.ACKNOWLEDGE
    run(loop, 1.0, Phase.LIMP)
    arm_it(loop)
    assert rig.arm.alarms() == {}
