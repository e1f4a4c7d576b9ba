"""An arm as ROS 2 sees one: `sim2real ros2 bridge`."""

from dataclasses import replace
from typing import Any

from hardware.ros2.dds import LOOPBACK, cyclonedds
from hardware.ros2.goals import DEADLINE, RosGoals
from hardware.ros2.node import RosNode
from hardware.ros2.pictures import PictureProcess
from hardware.ros2.session import BridgeSession
from pipelines.deployment.request import Options
from pipelines.deployment.run import run
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_pose

DOMAINS = range(233)
"""ROS 2 has these; ports end after them."""


def bridge(
    options: Options,
    *,
    domain: int = 0,
    interface: str = LOOPBACK,
    deadline: float = DEADLINE,
    start: bool = False,
) -> tuple[dict[str, Any], int]:
    """Run an arm for ROS until somebody publishes false on /sim2real/enable, or for `options.seconds` once it follows.

    domain: of ROS. interface: where DDS talks; loopback alone by default. deadline: s after the last set-point at which
    the arm stops. start: do not wait to be enabled. Returns the result and the exit status, raises as `run` does.
    """
    if domain not in DOMAINS:
        raise UserError(f"--domain must be 0 to {DOMAINS[-1]}, got {domain}")
    if not 0.02 <= deadline <= 10:
        raise UserError(f"--deadline must be 0.02 to 10 s, got {deadline:g}")
    cyclonedds()
    node: RosNode | None = None
    pictures: PictureProcess | None = None

    def make(rig: Any, loop: Any, plan: Any, arm: Any) -> BridgeSession:
        nonlocal node, pictures
        robot = rig.setup.robot
        goals = RosGoals(robot, loop.clock, deadline)
        node = RosNode(robot, goals, domain, interface, lambda q: tool_pose(robot.model, q))
        goals.alive_check = node.why_dead
        node.wanted = start
        node.start()
        rig.stack.callback(node.close)
        if readers := rig.readers():
            pictures = PictureProcess(readers, domain, interface)
            rig.stack.callback(pictures.close)
            rig.observer.started("pictures", pictures.pid)
        loop.policy.source = goals
        loop.estop.inputs.append(node)
        loop.sinks.append(node)
        return BridgeSession(loop, plan, node=node)

    result, status = run(replace(options, command="ros2 bridge", ros2=True), session=make)
    if node is not None:
        goals = node.goals
        result |= {
            "taken": goals.taken,
            "refused_commands": goals.refused.count,
            "last_refusal": goals.refused.last,
        }
        result |= {"published": node.published, "unpublished": node.lost}
        result["pictures"] = {} if pictures is None else pictures.published
    return result, status
