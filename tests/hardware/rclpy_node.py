"""A real ROS 2 node, run by an interpreter of its own that has rclpy: enables an arm, moves it, counts what it hears.

python rclpy_node.py DOMAIN SECONDS
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def main(domain: int, seconds: float) -> dict[str, Any]:
    import rclpy
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Bool, Float64MultiArray, String
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("proof")
    quality = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
    stamps: list[float] = []
    positions: list[list[float]] = []
    phases: list[str] = []

    def heard(message: Any) -> None:
        stamps.append(message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec)
        positions.append(list(message.position))

    node.create_subscription(JointState, "/joint_states", heard, quality)
    node.create_subscription(
        String, "/sim2real/state", lambda message: phases.append(json.loads(message.data)["phase"]), quality
    )
    enable = node.create_publisher(Bool, "/sim2real/enable", quality)
    setpoint = node.create_publisher(Float64MultiArray, "/forward_position_controller/commands", quality)
    trajectory = node.create_publisher(
        JointTrajectory, "/joint_trajectory_controller/joint_trajectory", quality
    )

    def until(limit: float, reached: Callable[[], bool], each: Callable[[], None] = lambda: None) -> bool:
        end, due = time.monotonic() + limit, 0.0
        while time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.01)
            if time.monotonic() > due:
                due = time.monotonic() + 0.02
                each()
            if reached():
                return True
        return False

    found: dict[str, Any] = {"limp": until(250, lambda: "limp" in phases)}

    def ask() -> None:
        if phases[-1] == "limp":
            enable.publish(Bool(data=True))

    found["running"] = until(60, lambda: phases[-1] == "running", ask)
    start = positions[-1]
    goal = [start[0] + 0.3, *start[1:]]
    found["set-point"] = until(
        30,
        lambda: abs(positions[-1][0] - goal[0]) < 0.05,
        lambda: setpoint.publish(Float64MultiArray(data=goal)),
    )
    point = JointTrajectoryPoint(positions=[start[0]])
    point.time_from_start.sec = 1
    trajectory.publish(JointTrajectory(joint_names=["shoulder_pan"], points=[point]))
    found["trajectory"] = until(30, lambda: abs(positions[-1][0] - start[0]) < 0.05)
    before = len(stamps)
    until(seconds, lambda: False)
    found["rate"] = (len(stamps) - before) / (stamps[-1] - stamps[before - 1])
    enable.publish(Bool(data=False))
    found["let go"] = until(60, lambda: phases[-1] == "limp")
    until(1.0, lambda: False)
    rclpy.shutdown()
    return found | {"heard": len(stamps)}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), float(sys.argv[2]))))
