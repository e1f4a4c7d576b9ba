"""Where the arm is told to go: one goal per tick, always through a gate."""

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.recovery import Withdrawal
from hardware.runtime.control.supervisor import Action, Retreat
from hardware.runtime.safety.line import Line
from hardware.runtime.safety.way_back import NEAR, SPEED, WayBack
from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.gate.gate import Gate
from sim2real.model.kinematics import tool_jacobian, tool_position
from sim2real.robot import Robot

Array = NDArray[np.float64]

TRAVEL_SPEED = 0.5
"""Share of the gate's limits at which the arm goes home between episodes."""


class Goals:
    """The gates, and what has been asked of them. `limits` (lower, upper), (n,) rad: the calibrated range."""

    def __init__(self, robot: Robot, speed: float, limits: tuple[Array, Array] | None) -> None:
        lower, upper = (None, None) if limits is None else limits
        self.robot = robot
        self.gates = {
            Action.FOLLOW: Gate(robot, speed, lower=lower, upper=upper),
            Action.HOLD: Gate(robot, min(speed, TRAVEL_SPEED), lower=lower, upper=upper),
            Action.DESCEND: Gate(robot, min(speed, SPEED), lower=lower, upper=upper),
        }
        """A gate for each use: following the policy, the way home, the descent."""
        self.gate = self.gates[Action.FOLLOW]
        """The gate whose goal is sent."""
        self.requested: Array = np.array(robot.home)
        """(n,) rad, what was asked of it last."""
        self.target: Array = np.array(robot.home)
        """(n,) rad, where `travel` goes."""
        self._line: Line | None = None
        self._ticks = 0
        """Of the way there, if it is a straight one."""
        self._homeward: WayBack | None = None
        """The way there, if it is the one home."""
        self.yielded = False
        """Whether the goal has come back to the arm since the torque came on: once per fault, since what pushes back
        then is the arm's own weight."""
        self._descent = WayBack(robot, self.gates[Action.DESCEND], down=True)
        self._descending = False
        self._withdrawal: Withdrawal | None = None

    @property
    def descended(self) -> bool:
        """Whether the way down has been gone to its end."""
        return self._descending and self._descent.done

    @property
    def withdrawn(self) -> bool:
        """Whether the way out of a fault has been gone to its end."""
        return self._withdrawal is not None and self._withdrawal.done

    @property
    def arrived(self) -> bool:
        """Whether the goal rests at the target."""
        return self.gate.at_rest and bool(np.abs(self.gate.position - self.target).max() < NEAR)

    @property
    def barred(self) -> bool:
        """Whether the way home was barred wherever it turned."""
        return self._homeward is not None and self._homeward.done and not self._homeward.arrived

    def use(self, which: Action) -> None:
        """Change to another gate; the goal goes on from where it is."""
        # Only at rest: a gate starts without velocity, and the goal must not stop dead.
        if self.gate.at_rest:
            gate = self.gates[which]
            gate.reset(self.gate.position)
            self.gate = gate

    def aim(self, target: Array, *, straight: bool = False) -> None:
        """From now on `travel` goes to `target` (n,), rad; `straight`: all joints arrive at once."""
        self.target = np.array(target, dtype=np.float64)
        self.use(Action.HOLD)
        self._line, self._ticks = Line(self.robot, self.gate, self.target) if straight else None, 0
        self._homeward = None

    def aim_home(self) -> None:
        """From now on `travel` goes home, another way where the straight one is barred."""
        self.aim(np.array(self.robot.home))
        self._homeward = WayBack(self.robot, self.gate, down=False)

    def begin(self, position: Array) -> None:
        """Torque has come on with the goals `position` (n,), rad."""
        for gate in self.gates.values():
            gate.reset(position)

    def end(self) -> None:
        """Torque is off."""
        self._descending, self._withdrawal, self.yielded = False, None, False

    # One tick of each; all return the gate's mask.

    def follow(self, request: Array) -> int:
        """Towards `request` (n,), rad."""
        self.requested = request
        return self.gate.step(request)

    def travel(self) -> int:
        """Towards the target."""
        if self._homeward is not None:
            if self._homeward.gate is not self.gate:
                self.aim_home()
            self.requested = self._homeward.request
            return self._homeward.step()
        self._ticks += 1
        return self.follow(self.target if self._line is None else self._line.at(self._ticks))

    def brake(self, hard: bool) -> int:
        """To a stop within the limits, or as `hard` as the robot can; then stay there."""
        self.gate.brake(hard=hard)
        self.requested = self.gate.position
        return 0

    def descend(self) -> int:
        """Down to rest."""
        if not self._descending:
            self.use(Action.DESCEND)
            self._descent.begin()
            self._descending = True
        self.requested = self._descent.request
        return self._descent.step()

    def retreat(self, way: Retreat, position: Array) -> int:
        """The way out of a fault; `position` (n,) rad is where the arm was last seen."""
        if self._withdrawal is None or self._withdrawal.kind is not way:
            self.use(Action.HOLD)
            self._withdrawal = Withdrawal(way, self.robot, self.gate, position)
            self.yielded = self.yielded or way is Retreat.YIELD
        self.requested = self._withdrawal.request
        return self._withdrawal.step()


def compile_first(robot: Robot, period: float) -> None:
    """Call once what is compiled at its first call: under way the watchdog would take it for a dead loop."""
    gate, player, home = Gate(robot), ChunkPlayer(), np.array(robot.home)
    gate.reset(home)
    gate.step(home)
    gate.brake()
    gate.clear_share(home, home)
    gate.clearance(home)
    gate.self_clearance(home)
    gate.raised(home, 0.0)
    tool_jacobian(robot.model, home)
    tool_position(robot.model, home)
    player.reset(home, 0.0)
    for start in (0.0, period):
        player.add(Chunk(start, period, np.tile(home, (2, 1))), start)
        player.sample(start + period / 2)
    player.ahead(np.array([2 * period]))
