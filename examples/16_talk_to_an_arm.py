"""An arm without a policy: read it, move it through the gate, let it go. Here an emulated one.

    python examples/16_talk_to_an_arm.py [PORT]

This is what `ControlLoop` does a hundred times a second, with a supervisor and a watchdog besides: use `deploy`
for anything that is more than a look.
"""

import sys
import time

import sim2real as s2r
from hardware import SerialArm, start_emulator

robot = s2r.Robot.load("so101")
emulator = start_emulator(robot, camera=False) if len(sys.argv) < 2 else None
arm = SerialArm.connect(robot, emulator.port if emulator else sys.argv[1])
try:
    start = arm.enable()  # torque on, the goal where the arm is
    gate = s2r.Gate(robot, speed=0.3)
    gate.reset(start)
    wanted = start.copy()
    wanted[0] += 0.2
    period = 1.0 / robot.command_rate
    due = time.monotonic()
    for _ in range(100):
        gate.step(wanted)
        sent = arm.command(gate.position)
        due += period
        time.sleep(max(0.0, due - time.monotonic()))
    state = arm.observe()
    print(
        f"{robot.joint_names[0]}: asked {wanted[0]:.3f}, sent {sent[0]:.3f}, is {state.position[0]:.3f} rad"
    )
    print(f"voltages {state.voltage} V, temperatures {state.temperature} °C")
finally:
    arm.relax()
    arm.close()
    if emulator:
        emulator.stop()
