"""The loop's line to the arm: readings, goals and torque, and what is known of them when the line fails."""

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.counts import Counts
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.safety.guardian import Guardian
from sim2real.arm import Arm, ArmState
from sim2real.clock import Clock
from sim2real.errors import BusError, HardwareError, PortError

Array = NDArray[np.float64]

ARMING_TIME = 0.3
"""Seconds for which the arm must be seen not to move before it counts as armed."""

ARMING_MOTION = 0.12
"""rad; a joint that moves more than this while torque comes on has not been armed. (Droop stays below.)"""


class Link:
    """Every exchange with the arm. Nothing here raises what an arm raises: it is counted, and `detail` tells it."""

    def __init__(self, arm: Arm, clock: Clock, guardian: Guardian | None, counts: Counts) -> None:
        self.arm, self.clock, self.guardian, self.counts = arm, clock, guardian, counts
        self.connected = True
        """False once the port has died."""
        self.torque = False
        """Whether torque is on, as far as is known."""
        self.relaxed = False
        """Whether torque off has been confirmed."""
        self.refused = False
        """Whether torque did not come on for another reason than the bus: the arm moved."""
        self.reading: ArmState | None = None
        self.executed: Array = np.array(arm.robot.home)
        """(n,) rad, the goal that was last sent."""
        self._lost = self._not_armed = ""
        self._armed_since: float | None = None
        self._armed_at: Array = np.zeros(arm.robot.n)

    def observe(self) -> None:
        """Take a reading; the last one stays where there is none."""
        try:
            self.reading = self.arm.observe()
        except PortError as error:
            self._lose(error)
        except BusError:
            self.counts.bus_errors += 1

    def ages(self, now: float) -> tuple[float, float]:
        """How old the oldest and the newest joint's readings are, s."""
        if self.reading is None:
            return float("inf"), float("inf")
        since, age = now - self.reading.time, self.reading.age
        return since + float(age.max()), since + float(age.min())

    def send(self, goal: Array) -> None:
        """Send joint goals (n,), rad."""
        try:
            self.executed = self.arm.command(goal)
        except PortError as error:
            self._lose(error)
        except BusError:
            self.counts.bus_errors += 1

    def enable(self) -> Array | None:
        """Torque on, which takes several exchanges; the goals then, (n,) rad, None when it failed."""
        self._warn()
        self.torque, self.relaxed, self.refused = True, False, False
        try:
            # What the servos were told last, from now on: another goal of an earlier time must not be the last one.
            self.executed = self._armed_at = self.arm.enable()
        except PortError as error:
            self._lose(error)
            return None
        except HardwareError as error:
            self.counts.bus_errors += 1
            self._not_armed = str(error)
            self.refused = not isinstance(error, BusError)
            return None
        self._armed_since = self.clock.now()
        return self._armed_at

    @property
    def enabled(self) -> bool:
        """Whether `enable` has done its part."""
        return self._armed_since is not None

    def still_armed(self, now: float) -> bool:
        """Whether torque has been on for long enough without the arm having moved."""
        if self._armed_since is None or self.reading is None:
            return False
        still = np.abs(self.reading.position - self._armed_at).max() <= ARMING_MOTION
        return bool(still) and now - self._armed_since >= ARMING_TIME

    def relax(self) -> bool:
        """Torque off, which takes several exchanges; whether that is confirmed."""
        self._warn()
        try:
            self.arm.relax()
        except PortError as error:
            self._lose(error)
            return False
        except HardwareError:
            self.counts.bus_errors += 1
            return False
        self.torque, self.relaxed, self._armed_since = False, True, None
        return True

    def acknowledge(self) -> None:
        """A person has looked: what servos latch may be taken back. What stays will refuse to be armed."""
        self._warn()
        try:
            self.arm.acknowledge()
        except PortError as error:
            self._lose(error)
        except HardwareError:
            self.counts.bus_errors += 1

    def detail(self, fault: FaultCode) -> str:
        """What is known here about a fault, for people; "" for nothing."""
        match fault:
            case FaultCode.PORT_LOST:
                return self._lost
            case FaultCode.ARMING_FAILED:
                return self._not_armed
            case FaultCode.TORQUE_LOST:
                return ", ".join(np.array(self.arm.robot.joint_names)[~self.arm.enabled])
        return ""

    def _lose(self, error: PortError) -> None:
        self.connected = False
        self._lost = str(error)

    def _warn(self) -> None:
        if self.guardian is not None:
            self.guardian.busy()
