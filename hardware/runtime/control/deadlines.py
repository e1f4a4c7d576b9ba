"""How long each signal may be missing before the arm holds, and before it is lowered."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Deadlines:
    """How long each signal may be missing, s."""

    feedback_hold: float = 0.020
    """Joint feedback older than this: brake and hold. One lost reading stays below it, the second one in a row is
    above it when the cycle that waited for it is over: before three periods at 100 Hz have passed."""
    feedback_fault: float = 1.0
    """Joint feedback older than this: latch."""
    policy_fault: float = 1.0
    """After the last action was due, with no new chunk: latch. (Until then the arm has stopped at that action.)"""
    camera_degraded: float = 0.3
    camera_fault: float = 3.0
    """Age of the newest camera frame, where the task needs one."""
    operator: float = 5.0
    """The operator's last sign of life, where an operator has to be present."""
    bad_chunks: int = 4
    """Chunks refused in a row (not finite, wrong size): latch."""
    rejected_fault: float = 1.0
    """Requests rejected by the gate without a break: latch."""
    arming: float = 3.0
    hold: float = 1.0
    """Least time still before torque may go."""
    retreat: float = 10.0
    """Longest way out after a fault that has one (home, or up with the gripper open)."""
    settling: float = 20.0
    """Longest way to rest; the loop gives slow robots, and slow runs, the time they need."""
    silent: float = 5.0
    """A latched fault with no feedback at all: give up lowering the arm and switch torque off. With feedback from
    some joints only, the arm is lowered after as long: better blindly than by dropping it."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise ValueError(f"deadline {name} must be positive, got {value}")
        if self.hold < 1.0:
            raise ValueError(f"the arm must hold still for at least 1 s before torque goes, got {self.hold}")
