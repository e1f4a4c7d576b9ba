"""`sim2real robots`: which arms are known, and what is known of them."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim2real.robot import Robot

HELP = "List the robots that ship with the package, or describe one of your own."
EXAMPLES = """  sim2real robots
  sim2real robots --json
  sim2real robots --robot my_arm.toml      check a robot file of your own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--robot", metavar="R", help="only this one: a name, or the path of a robot's .toml")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(args: argparse.Namespace) -> int:
    from sim2real.robot import Robot, robot_names

    robots = [Robot.load(name) for name in ([args.robot] if args.robot else robot_names())]
    if args.json:
        print(json.dumps([_described(robot) for robot in robots], indent=2))
        return 0
    for robot in robots:
        gripper = robot.joint_names[robot.gripper] if robot.gripper is not None else "none"
        print(f"{robot.name}: {robot.n} joints, gripper {gripper}")
        print(f"  bus    {robot.protocol}, {robot.baud} baud")
        print(
            f"  rates  policy {robot.policy_rate} Hz, commands {robot.command_rate} Hz, "
            f"physics {robot.physics_rate} Hz"
        )
        print(f"  model  {robot.urdf}")
        print(f"  {'joint':16} {'servo':>5} {'lower':>8} {'upper':>8} {'home':>8} {'rest':>8} {'speed':>8}")
        for i, joint in enumerate(robot.joints):
            print(
                f"  {joint.name:16} {joint.servo_id:5d} {robot.lower[i]:8.3f} {robot.upper[i]:8.3f} "
                f"{robot.home[i]:8.3f} {robot.rest[i]:8.3f} {joint.velocity:8.2f}"
            )
        print("  angles in rad, speed (the gate's limit) in rad/s")
    return 0


def _described(robot: "Robot") -> dict[str, object]:
    return {
        "name": robot.name,
        "urdf": str(robot.urdf),
        "protocol": robot.protocol,
        "baud": robot.baud,
        "gripper": robot.joint_names[robot.gripper] if robot.gripper is not None else None,
        "rates_hz": {
            "policy": robot.policy_rate,
            "command": robot.command_rate,
            "physics": robot.physics_rate,
        },
        "joints": [
            {
                "name": joint.name,
                "servo_id": joint.servo_id,
                "lower_rad": float(robot.lower[i]),
                "upper_rad": float(robot.upper[i]),
                "velocity_rad_s": joint.velocity,
                "acceleration_rad_s2": joint.acceleration,
                "jerk_rad_s3": joint.jerk,
            }
            for i, joint in enumerate(robot.joints)
        ],
        "home_rad": robot.home.tolist(),
        "rest_rad": robot.rest.tolist(),
        "cameras": sorted(robot.camera_tables),
    }
