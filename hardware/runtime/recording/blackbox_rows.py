"""What a black box is told: about the run beforehand, and in every tick."""

from typing import Any

from hardware.runtime.control.health import Request
from hardware.runtime.control.monitor_kernel import FAULT_SHIFT
from hardware.runtime.control.monitors import NAMES
from hardware.runtime.control.supervisor import CODES, Action, Phase
from hardware.runtime.control.tick import Tick
from hardware.runtime.recording.blackbox import BlackBox
from sim2real.gate.gate import NAMES as INTERVENTIONS
from sim2real.robot import Robot

_WARNINGS = (1 << FAULT_SHIFT) - 1
_ACTIONS = {action: code for code, action in enumerate(Action)}
_REQUESTS = {request: code for code, request in enumerate(Request)}


def about(robot: Robot, **more: Any) -> dict[str, Any]:
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


class BlackBoxSink:
    """Tells a black box of every tick, and has it written on every fault."""

    def __init__(self, box: BlackBox) -> None:
        self.box = box

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""
        if tick.state.phase is not tick.before.phase:
            self._note_change(tick)
        health, reading = tick.health, tick.reading
        self.box.row(
            (
                tick.time, CODES[tick.state.phase], _ACTIONS[tick.action], _REQUESTS[health.request], tick.flags,
                tick.period_error, tick.work, health.feedback_age, health.remaining, health.camera_age,
                health.operator_age, health.estop, tick.monitors & _WARNINGS, tick.monitors >> FAULT_SHIFT,
                tick.episode,
            ),
            (
                tick.requested, tick.gated, tick.executed,
                *(
                    (None,) * 9
                    if reading is None
                    else (
                        reading.position, reading.velocity, reading.load, reading.voltage, reading.temperature,
                        reading.current, tick.heating, reading.valid, reading.status,
                    )
                ),
            ),
        )  # fmt: skip

    def _note_change(self, tick: Tick) -> None:
        text = f"{tick.before.phase.value} > {tick.state.phase.value}"
        self.box.event(tick.time, f"{text}: {tick.fault_report}" if tick.fault_report else text)
        if tick.fault_report or tick.state.phase is Phase.ESTOP:
            self.box.dump()
