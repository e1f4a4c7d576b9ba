"""What the loop tells its black box in every tick, and what the black box is told about the run beforehand."""

from typing import TYPE_CHECKING, Any

from hardware.runtime.control.health import Health, Request
from hardware.runtime.control.monitors import NAMES
from hardware.runtime.control.supervisor import CODES, Action, Phase, State
from hardware.runtime.recording.blackbox import BlackBox
from sim2real.gate.gate import NAMES as INTERVENTIONS

if TYPE_CHECKING:
    from hardware.runtime.control.loop import ControlLoop
    from sim2real.robot import Robot

_ACTIONS = {action: code for code, action in enumerate(Action)}
_REQUESTS = {request: code for code, request in enumerate(Request)}


def about(robot: "Robot", **more: Any) -> dict[str, Any]:
    """What a black box says of the run: names behind all codes, joints and servos, and `more`."""
    return {
        "robot": robot.name,
        "protocol": robot.protocol,
        "baud": robot.baud,
        "joints": list(robot.joint_names),
        "ids": [joint.servo_id for joint in robot.joints],
        "models": [joint.model for joint in robot.joints],
        "command_rate": robot.command_rate,
        "phases": [phase.value for phase in Phase],
        "actions": [action.value for action in Action],
        "requests": [request.value for request in Request],
        "monitors": list(NAMES),
        "interventions": {str(bit): name for bit, name in INTERVENTIONS.items()},
        **more,
    }


def note_change(box: BlackBox, time: float, before: State, after: State, told: str) -> None:
    """A change of the supervisor's state; `told`: the fault in words if one was latched."""
    text = f"{before.phase.value} > {after.phase.value}"
    box.event(time, f"{text}: {told}" if told else text)
    if told or after.phase is Phase.ESTOP:
        box.dump()


def note_tick(
    box: BlackBox, loop: "ControlLoop", start: float, error: float, health: Health, doing: Action, flags: int
) -> None:
    """The tick that has just been done."""
    reading = loop.reading
    mask = loop.monitors.mask
    box.tick(
        (
            start, CODES[loop.state.phase], _ACTIONS[doing], _REQUESTS[health.request], flags, error,
            loop.clock.now() - start, health.feedback_age, health.remaining, health.camera_age,
            health.operator_age, health.estop, mask & 0xFF, mask >> 8, loop.episode,
        ),
        (
            loop.requested, loop.gate.position, loop.executed,
            *(
                (None,) * 9
                if reading is None
                else (
                    reading.position, reading.velocity, reading.load, reading.voltage, reading.temperature,
                    reading.current, loop.monitors.heating, reading.valid, reading.status,
                )
            ),
        ),
    )  # fmt: skip
