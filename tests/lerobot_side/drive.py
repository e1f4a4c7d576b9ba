"""Runs in LeRobot's environment: drive an emulated arm through the plugin as LeRobot's own scripts do.

python drive.py SIM2REAL OUT      prints what it saw as JSON
"""

import json
import sys
import time
from dataclasses import dataclass

import draccus
import lerobot_robot_sim2real  # noqa: F401  (what LeRobot does with installed plugins)
from lerobot.robots import RobotConfig, make_robot_from_config

command, out = sys.argv[1:3]
WORDS = ("type=sim2real_follower", "port=emulated", "id=ours", f"sim2real={command}", f"out={out}")


@dataclass
class Arguments:
    """As LeRobot's own scripts declare theirs."""

    robot: RobotConfig


def main() -> None:
    arguments = draccus.parse(Arguments, args=[f"--robot.{word}" for word in WORDS])
    robot = make_robot_from_config(arguments.robot)
    features = sorted(robot.action_features)
    robot.connect()
    start = robot.get_observation()
    goal = dict(start)
    goal["shoulder_pan.pos"] += 15.0
    sent = {}
    for _ in range(90):
        begin = time.perf_counter()
        seen = robot.get_observation()
        sent = robot.send_action({name: goal[name] for name in robot.action_features})
        time.sleep(max(0.0, 1 / 30 - (time.perf_counter() - begin)))
    far = robot.send_action({name: 1000.0 for name in robot.action_features})
    robot.disconnect()
    print(json.dumps({"features": features, "start": start, "end": seen, "sent": sent, "far": far}))


main()
