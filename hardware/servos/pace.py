"""How often a line can be asked for all servos, and what to do where that is too seldom for a loop."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.servos.ports import latency_timer
from sim2real.errors import UserError
from sim2real.robot import Robot

SHARE = 0.8
"""Share of a loop's period that the reading of all servos may take; the loop has work of its own."""

SHORTEST_TIMER = 0.001
"""s, the least that an adapter's latency timer can be set to."""


def usual(times: Sequence[float]) -> float:
    """How long a reading takes, by several: what one of four stays below. A line that is slow is so every time; a
    machine that is busy now and then makes some of them longer, and is no reason to refuse the line."""
    return sorted(times)[len(times) // 4]


@dataclass(frozen=True)
class LinePace:
    """What a line can do: `reading` s (`usual`) for one of all servos, of which the wire itself needs `wire` s."""

    port: str
    reading: float
    wire: float

    @property
    def highest(self) -> float:
        """The highest rate of a loop that reads all servos in every cycle, Hz."""
        return SHARE / self.reading

    def serves(self, robot: Robot) -> bool:
        """Whether the robot's loop can run over it."""
        return robot.command_rate <= self.highest

    def remedy(self, robot: Robot) -> str:
        """What makes a loop possible that now is not."""
        timer = latency_timer(self.port)
        rate = next((rate for rate in range(int(self.highest), 0, -1) if robot.physics_rate % rate == 0), 0)
        slower = (
            f", or set command_rate = {rate} in a TOML of your own for {robot.name}"
            if rate >= robot.policy_rate
            else f" (a slower loop will not do: the policy alone acts {robot.policy_rate} times a second)"
        )
        if timer is not None and timer > SHORTEST_TIMER:
            return (
                f"let the adapter wait for 1 ms instead of {1000 * timer:.0f} ({shorten(self.port)}){slower}"
            )
        if self.wire > self.reading / 2:
            return f"give the servos a higher baud rate than {robot.baud}{slower}"
        return (
            "most of it is spent waiting for the adapter or this computer, not on the wire: plug it in without a hub, "
            f"try another adapter, close what keeps the computer busy{slower}"
        )

    def require(self, robot: Robot) -> None:
        """Raise UserError, with both figures, unless the robot's loop can run over this line."""
        if not self.serves(robot):
            raise UserError(
                f"{self.port} takes {1000 * self.reading:.1f} ms for a reading of all servos ({1000 * self.wire:.1f} "
                f"ms of it on the wire), so that a loop can run at {self.highest:.0f} Hz at most; that of {robot.name} "
                f"runs at {robot.command_rate} Hz. Nothing has moved. What to do: {self.remedy(robot)}"
            )


def shorten(port: str) -> str:
    """The command that makes an FTDI adapter pass on what it has after 1 ms."""
    device = os.path.basename(os.path.realpath(port))
    return f"echo 1 | sudo tee /sys/bus/usb-serial/devices/{device}/latency_timer"
