"""A servo family of your own: what is special about your servos, said once. Here Feetech's with faster joints.

    python examples/15_servo_family.py

A family says which registers are read in every cycle, what its models can do and what their status bits mean;
`hardware/servos/family.py` has them all. One with another protocol brings a module of packets and a bus.
"""

from dataclasses import replace

from hardware import FAMILIES, SerialArm, ServoFamily, start_emulator
from sim2real import Robot

feetech: ServoFamily = FAMILIES["feetech"]
quick = replace(feetech.model("STS3215"), name="STS3215-24V", max_speed=14.0, voltage=(11.0, 26.0))
mine = replace(
    feetech,
    name="mine",
    title="My Feetech",
    models=(quick, *feetech.models),
    # Positions alone in every cycle: less time on the bus. The rest is read in every tenth one.
    fast=("present_position",),
)
FAMILIES["mine"] = mine  # in this process

robot = replace(Robot.load("so101"), protocol="mine")
with start_emulator("so101", camera=False) as emulator:
    arm = SerialArm.connect(robot, emulator.port)
    print([identity.model for identity in arm.identify()])
    print("joints at", arm.observe().position.round(3), "rad")
    arm.close()
for register in list(quick.table.values())[:4]:
    print(f"{register.address:4} {register.name:24} {register.description}")
