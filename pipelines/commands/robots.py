"""`sim2real robots`: which arms are known, and what is known of them."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pipelines.commands._options import add

if TYPE_CHECKING:
    from sim2real.robot import Robot

SUMMARY = "list the robots and what is known of them"
GROUP = "setting up"
HELP = "List the robots that ship with the package, or describe one of your own."
EXAMPLES = """  sim2real robots
  sim2real robots --json
  sim2real robots --robot my_arm.toml      check a robot file of your own; docs/robots.md lists its keys
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, robot={"default": None, "help": "only this one: a name, or the path of a robot's .toml"})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from sim2real.robot import Robot, robot_names

    robots = [Robot.load(name) for name in ([args.robot] if args.robot else robot_names())]
    if args.robot:
        from pipelines.robot_check import check_robot

        for note in check_robot(robots[0]):
            print(f"note: {note}", file=sys.stderr)
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
        _print_joints(robot)
    return 0


def _print_joints(robot: "Robot") -> None:
    sliding, width = robot.model.sliding, max(16, *(len(name) for name in robot.joint_names))
    columns = ("servo", "lower", "upper", "home", "rest", "speed")
    print(f"  {'joint':{width}} {columns[0]:>5} " + " ".join(f"{name:>8}" for name in columns[1:]))
    for i, joint in enumerate(robot.joints):
        numbers = (robot.lower[i], robot.upper[i], robot.home[i], robot.rest[i])
        unit = "m, m/s" if sliding[i] else ""
        print(
            f"  {joint.name:{width}} {joint.servo_id:5d} "
            + " ".join(f"{number:8.3f}" for number in numbers)
            + f" {joint.velocity:8.2f} {unit}".rstrip()
        )
    print("  angles in rad, speed (the gate's limit) in rad/s" + (", unless m" if sliding.any() else ""))
    for name, joint_name, multiplier, offset in followers(robot):
        law = f"{multiplier:g} · {joint_name}" + (f" {offset:+g}" if offset else "")
        print(f"  {name} follows {joint_name}: {law}")
    for name, position in robot.model.locked.items():
        print(f"  {name} is not among the joints: locked at {position:g}")


def followers(robot: "Robot") -> list[tuple[str, str, float, float]]:
    """(joint, what it follows, multiplier, offset) of the URDF's joints that follow others."""
    m = robot.model
    return [
        (name, robot.joint_names[m.driver[i]], float(m.multiplier[i]), float(m.shift[i]))
        for i, name in enumerate(m.link_joints)
        if name not in robot.joint_names
    ]


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
                "unit": unit,
                f"lower_{unit}": float(robot.lower[i]),
                f"upper_{unit}": float(robot.upper[i]),
                f"velocity_{unit}_s": joint.velocity,
                f"acceleration_{unit}_s2": joint.acceleration,
                f"jerk_{unit}_s3": joint.jerk,
                f"home_{unit}": float(robot.home[i]),
                f"rest_{unit}": float(robot.rest[i]),
            }
            for i, (joint, unit) in enumerate(zip(robot.joints, robot.units))
        ],
        "followers": [
            {"name": name, "follows": joint, "multiplier": multiplier, "offset": offset}
            for name, joint, multiplier, offset in followers(robot)
        ],
        "locked": dict(robot.model.locked),
        "cameras": sorted(robot.camera_tables),
    }
