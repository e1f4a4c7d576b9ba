"""What benchmarks begin and end with that steer a control loop themselves: from limp to home, and back to limp."""

from collections.abc import Callable

from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase, Request


def bring_home(loop: ControlLoop) -> None:
    """Arm and travel to the home pose; then it holds there, ready for `loop.start_policy`."""
    _until(loop, lambda: loop.phase is Phase.LIMP, 5, "the arm to answer")
    loop.request = Request.ARM
    _until(loop, lambda: loop.phase is Phase.HOLD, 5, "the arm to be armed")
    loop.travel(loop.robot.home)
    loop.request = Request.RUN
    _until(loop, lambda: loop.arrived, 20, "the arm to arrive at home")


def bring_to_rest(loop: ControlLoop) -> None:
    """Stop, lower to the rest pose, let go."""
    loop.request = Request.STOP
    _until(loop, lambda: loop.phase is Phase.HOLD, 5, "the arm to stop")
    loop.stop_policy()
    loop.request = Request.SETTLE
    _until(loop, loop.ended, 60, "the arm to be limp")


def _until(loop: ControlLoop, condition: Callable[[], bool], timeout: float, what: str) -> None:
    if not loop.run(condition, timeout):
        raise SystemExit(f"waited {timeout:.0f} s for {what}: {', '.join(loop.faults) or 'no fault'}")
