"""A robot of your own: a URDF says where its joints are, a TOML the rest.

    python examples/03_own_robot.py

The URDF here is one that PyBullet ships; yours is a path relative to the TOML. examples/iiwa/iiwa.toml shows more.
"""

from pathlib import Path

import numpy as np

import sim2real as s2r

JOINTS = [f"lbr_iiwa_joint_{i}" for i in range(1, 8)]

HEAD = """
name = "iiwa"
urdf = "pybullet_data:kuka_iiwa/model.urdf"
tool_link = "lbr_iiwa_link_7"
rates = { policy = 30, command = 100, physics = 300 }               # Hz
gate = { reach = 1.3 }                                              # m
servo = { voltage = 48.0, torque_constant = 20.0, resistance = 2.0, kp = 20.0, armature = 0.5, coulomb = 1.0 }

[poses]                                                             # rad
home = [0.0, 0.4, 0.0, -1.4, 0.0, 1.0, 0.0]
rest = [0.0, 0.0, 0.0, -1.57, 0.0, 1.57, 0.0]
"""
JOINT = """
[[joints]]
name = "{name}"
servo_id = {number}
velocity = 1.4        # rad/s, rad/s² and rad/s³: what the gate lets pass
acceleration = 8.0
jerk = 300.0
"""
Path("my_arm.toml").write_text(
    HEAD + "".join(JOINT.format(name=name, number=i) for i, name in enumerate(JOINTS, 1))
)

robot = s2r.Robot.load("my_arm.toml")
print(f"{robot.name}: {robot.n} joints from {robot.lower.round(2)} to {robot.upper.round(2)} rad")

with s2r.World(robot) as world:
    before = world.truth().tool_position
    world.advance(robot.home + np.array([0.5, 0, 0, 0, 0, 0, 0]), steps=2 * robot.physics_rate)
    print(f"the tool moved from {before.round(3)} to {world.truth().tool_position.round(3)} m in two seconds")
