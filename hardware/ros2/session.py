"""A run in which ROS decides: when the arm is armed, where it goes, and when it is let go."""

from dataclasses import dataclass

from hardware.ros2.node import RosNode
from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.sessions.session import Session


@dataclass
class BridgeSession(Session):
    """Waits, limp, until `node.wanted`; follows as long as it is; then goes home and down, as every run does."""

    node: RosNode | None = None

    def _connect(self) -> None:
        node = self.node
        assert node is not None
        self._until(lambda: self.loop.phase is Phase.LIMP, 5.0, "the arm to answer")
        self._do("waiting to be enabled")
        self.operator.tell("limp; publish true on /sim2real/enable to begin")
        self._wait(lambda: node.wanted or bool(node.why_dead()), float("inf"))
        super()._connect()

    def _work(self) -> None:
        node, loop = self.node, self.loop
        assert node is not None
        loop.start_policy(self.plan.seed)
        loop.request = Request.RUN
        self._do("following ROS 2")
        self.operator.tell("following")
        self._wait(lambda: not node.wanted, self.plan.seconds or float("inf"))
        self._halt()
        loop.stop_policy()
        self._go_home()
