"""A whole emulated arm on a stepped clock, with faults on demand and a witness of what it physically does.

Physics, servos, bytes, driver, control loop: everything is real but time, which stands still unless a caller
waits for it. The witness looks at every step of the physics and at every tick of the loop, and writes down each
promise that is broken (`PROMISES` says what they are).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hardware.arm.serial_arm import SerialArm
from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.faults.fault import Fault
from hardware.emulator.faults.injector import FaultInjector
from hardware.emulator.wire import EmulatedBus
from hardware.emulator.world_plant import WorldPlant
from hardware.runtime.control.deadlines import Deadlines
from hardware.runtime.control.loop import ControlLoop, LoopSettings
from hardware.runtime.control.supervisor import ENERGISED, Phase, Request
from hardware.runtime.control.tick import Tick
from hardware.runtime.sources.sources import GoalOnly, PerceptionSource
from hardware.servos.family import family_of
from pipelines.reliability.stand_ins import (
    FaultyCamera,
    FaultyGuardian,
    FaultyPolicy,
    FaultySource,
    SteppedPlug,
    Sway,
    WallClock,
)
from sim2real.clock import SimulatedClock
from sim2real.model.kinematics import tool_position
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot
from sim2real.simulation.world import World
from sim2real.task import Task
from sim2real.tasks.registry import load_task

Array = NDArray[np.float64]

PROMISES: Final = {
    "goal_speed": "the goals that are sent keep the gate's speed limits",
    "goal_acceleration": "and its limits of acceleration",
    "goal_jerk": "and its limits of jerk",
    "goal_origin": "a servo's goal is always one that passed the gate",
    "joint_speed": "no joint turns faster than its limit and a fifth, while it is held",
    "joint_acceleration": "nor speeds up or slows down much harder than its goal may, over 30 ms",
    "joint_jerk": "nor changes that much faster than its goal may",
    "torque": "no servo uses more than the share of its torque that it is configured for",
    "sag": "the tool stays within 3 cm of the height that the goals mean, while the arm is held",
    "stop_time": "after a fault the goal stands still within 0.3 s, the joints within 0.8 s",
    "unasked_torque": "torque is never on unless it was asked for",
    "rearmed": "after a fault nothing arms again before somebody has acknowledged it",
    "end": "a run ends with the torque off, or with a port that is gone",
}
"""Every promise by its name."""

SPEED_MARGIN = 0.25
"""rad/s by which true joints may overshoot SHARE times the limit of their goals: servos are springs."""

SHARE = 1.2
"""How much faster a joint may turn than its goal."""
RATTLE: Final = {"feetech": 1.2, "dynamixel": 4.0}
"""How much harder it may accelerate and jerk: small gears in light joints rattle, with nothing wrong at all."""
DRAGGED = 2.0
"""How much harder still, as a factor on RATTLE, while the joint beside it has let go. Where that makes the arm strike
something, how hard it stops is not bounded: nobody drives it there."""
WINDOW = 3
"""Ticks over which accelerations of joints are taken."""

SAG = 0.03
STOPPED: Final = (Phase.FAULT_HOLD, Phase.ESTOP)
GOAL_STOPS, JOINTS_STOP, STANDING = 0.3, 0.8, 0.15
TICKS = 1.6
"""How far a servo's goal may be from one that was sent, in its own ticks: rounding, twice."""

LAG = 0.3
"""s by which an arm that is on its way up may lag behind its goals without sagging."""

SETTLED = 0.5
"""s after torque has come on during which an arm may settle."""


class ProvingRig:
    """An emulated arm, its faults, and the witness; `connect` and `start` give it a driver and a loop.

    `policy` None: a gentle sway around a pose just above rest.
    """

    def __init__(
        self,
        robot: Robot | str = "so101",
        *,
        task: Task | None = None,
        policy: Policy | None = None,
        seed: int = 0,
        latency: float = 0.02,
    ) -> None:
        self.robot = Robot.load(robot) if isinstance(robot, str) else robot
        self.task = load_task("reach", self.robot.n) if task is None else task
        self.calibration = emulated_calibration(self.robot)
        self.plant = WorldPlant(self.robot, self.calibration, task=self.task, seed=seed)
        self.bus = EmulatedBus(build_servos(self.robot, self.plant, self.calibration), self.plant)
        self.clock = SimulatedClock()
        self.line = SteppedPlug(self.bus, self.clock)
        self.injector = FaultInjector(self.bus, self.line, seed=seed)
        self.family = family_of(self.robot)
        self.latency, self.seed = latency, seed
        robot_ = self.robot
        self.base: Array = robot_.rest + 0.2 * (robot_.home - robot_.rest)
        """A pose a little above rest, from which lowering takes little time."""
        self.policy: Policy = policy or Sway(robot_, self.base, 0.08 * np.ones(robot_.n))
        self.witness = Witness(self)
        self.plant.watch = self.witness.moved
        self.wall_clock = WallClock()
        self.arm: SerialArm | None = None
        self.loop: ControlLoop | None = None
        self._stalled = -np.inf

    def connect(self) -> SerialArm:
        """Open the port, identify and configure the arm. Raises what a driver raises; nothing may have moved."""
        bus = self.family.open_port(self.line.open(self.robot.baud), 0.0)
        arm = SerialArm(self.robot, bus, self.calibration, clock=self.clock)
        arm.identify()
        arm.configure()
        self.arm = arm
        return arm

    def start(
        self,
        perception: PerceptionSource | None = None,
        *,
        settings: LoopSettings | None = None,
        before_tick: Callable[[], None] = lambda: None,
    ) -> ControlLoop:
        """A loop on the connected arm, watched by the witness and kept from running where a fault says so.

        `before_tick` is called before each of its ticks.
        """
        assert self.arm is not None
        source = FaultySource(
            FaultyPolicy(self.policy, self.injector), 1 / self.robot.policy_rate, self.clock, self.latency
        )
        pressed: list[Fault] = []

        def before() -> None:
            self._overrun()
            before_tick()
            self.injector.advance(self.clock.now())
            if isinstance(perception, FaultyCamera):
                perception.advance(self.clock.now())
            press = self.injector.active("estop")
            if press is not None and press not in pressed:
                pressed.append(press)
                loop.estop.press("somebody")
            if self.injector.active("operator_gone") is None:
                loop.operator_sign()
            jump = self.injector.active("clock_jump")
            self.wall_clock.shift(0.0 if jump is None else jump["by"])

        loop = ControlLoop(
            self.arm,
            self.clock,
            source,
            GoalOnly() if perception is None else perception,
            settings=replace(settings or LoopSettings(), limits=self.calibration.limits),
            guardian=FaultyGuardian(self.injector),
            before_tick=before,
            sinks=(self.witness, self.wall_clock),
        )
        self.loop = loop
        self.injector.restart()
        self.witness.begin()
        return loop

    def _overrun(self) -> None:
        """Keep the loop from running between two ticks."""
        overrun = self.injector.active("overrun")
        if overrun is not None and self.clock.now() - self._stalled >= 0.1:
            self._stalled = self.clock.now()
            self.idle(overrun["ms"] / 1000)

    def start_whole(self, before_tick: Callable[[], None] = lambda: None) -> ControlLoop:
        """`start` with a camera and an operator besides, whom faults may take away."""
        settings = LoopSettings(deadlines=Deadlines(operator=1.0), operator_required=True)
        return self.start(FaultyCamera(self.injector), settings=settings, before_tick=before_tick)

    def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Tick until `condition()`, at most `timeout` s."""
        assert self.loop is not None
        return self.loop.run(condition, timeout)

    def run(self, seconds: float) -> None:
        """Tick for so long."""
        self.until(lambda: False, seconds)

    def idle(self, seconds: float) -> None:
        """Let time pass with nobody in control."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(min(0.01, end - self.clock.now()))
            self.bus.advance(self.clock.now())
            self.injector.advance(self.clock.now())

    def reset(self, position: Array | None = None) -> None:
        """As new, but for the clock: repaired, plugged in, limp at rest or at `position` (n,) rad, every random
        number as at the start."""
        self.injector.clear()
        self.wall_clock.shift(0.0)
        self.injector.rng = np.random.default_rng(self.seed)
        self.line.plug(renamed=False)
        self.loop = self.arm = None
        # The world's clock begins anew, the line's goes on.
        self.bus.advance(self.clock.now())
        self.plant.restart(self.clock.now(), position)
        for servo in self.bus.servos:
            servo.temperature = servo.thermal.ambient + 3.0
            servo.power_up()

    @property
    def weakened(self) -> NDArray[np.bool_]:
        """(n,) joints whose servo has had a fault since the start that takes its strength or turns it."""
        hit = np.zeros(self.robot.n, dtype=np.bool_)
        for fault in self.injector.begun:
            if not fault.kind.strength:
                id = int(fault.values.get("id", 0))
                hit |= np.array([id in (0, servo.id) for servo in self.bus.servos])
        return hit

    @property
    def torque(self) -> NDArray[np.bool_]:
        """(n,) whether each motor is really on."""
        return self.plant.drive.mode != 0

    def close(self) -> None:
        self.wall_clock.shift(0.0)
        self.plant.close()


class Witness:
    """Sees every step of the physics and every tick of the loop. `broken` lists what should not have happened."""

    def __init__(self, rig: ProvingRig) -> None:
        self.rig = rig
        self.broken: list[str] = []
        self.peaks: dict[str, float] = {}
        """Largest value of what a promise bounds, as a share of its bound."""
        robot = rig.robot
        self._dt = 1 / robot.command_rate
        # The second term is what floating point leaves of a difference of third order.
        self._limits = {
            f"goal_{name}": robot.limits(limit) * (1 + 1e-6) + 1e-9 / self._dt**order
            for order, (name, limit) in enumerate(
                [("speed", "velocity"), ("acceleration", "acceleration"), ("jerk", "jerk")], 1
            )
        }
        self._speed = SHARE * robot.limits("velocity") + SPEED_MARGIN
        rattle = RATTLE[robot.protocol]
        self._acceleration, self._jerk = (rattle * robot.limits(what) for what in ("acceleration", "jerk"))
        self._tick = np.array([servo.tick for servo in rig.bus.servos])
        self._looked = -np.inf
        self.begin()

    def moved(self, time: float) -> None:
        """The physics has come to `time`, s."""
        # As often as goals change: there are no surprises in between.
        if time - self._looked >= 0.9 * self._dt:
            self._looked = time
            self._stepped(time)

    def begin(self) -> None:
        """A new run begins; torque is off. What was broken before stays on the list."""
        self._trail: list[Array] = []  # the last goal, and its first two derivatives as far as they are known
        self._sent: list[Array] = []
        self._heights: deque[float] = deque(maxlen=round(LAG / self._dt))
        self._turning: deque[tuple[float, Array]] = deque(maxlen=2 * WINDOW + 1)  # times and true speeds
        self._last_goal: Array | None = None
        self._duty_limit = np.ones(self.rig.robot.n)  # a lower one takes a step to act
        self._phase = Phase.DISCONNECTED
        self._fault: str | None = None
        self._off_at = -np.inf
        self._stopping_since = np.inf
        self._braked = 0
        self._asked = False

    def note(self, promise: str, text: str) -> None:
        """A promise was broken."""
        if len(self.broken) < 50:
            faults = ", ".join(map(str, self.rig.injector.begun[-3:])) or "no fault"
            when = f"{self.rig.clock.now():.2f} s ({self._phase.value}, after {faults})"
            self.broken.append(f"{promise} at {when}: {text}")

    def _bound(self, promise: str, values: Array, bounds: "Array | float", what: str) -> None:
        shares = np.abs(values) / bounds
        share = float(shares.max())
        if not share <= self.peaks.get(promise, 0.0):
            self.peaks[promise] = share
        if not share <= 1.0 + 1e-6:
            worst = int(np.argmax(shares))
            name = self.rig.robot.joint_names[worst] if len(shares) > 1 else "tool"
            self.note(promise, f"{name} {what}: {share:.2f} of what is allowed")

    # The loop

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""
        now, phase = self.rig.clock.now(), tick.state.phase
        if phase is Phase.ARMING:
            self._asked = True
        if phase in ENERGISED and phase is not Phase.ARMING:
            self._goals(np.array(tick.gated))
        else:
            self._trail = []
        self._sent.append(np.array(tick.executed))
        del self._sent[:-3]
        fault = tick.state.fault
        if self._fault is not None and fault == self._fault and phase in (Phase.ARMING, Phase.RUNNING):
            self.note("rearmed", f"{phase.value} with {fault} latched")
        if phase not in STOPPED or self._phase not in STOPPED:
            self._stopping_since, self._braked = now, 0
        self._braked += 1
        # In ticks: a loop that is kept from running sends no goals, and the servos stay at the last one.
        if phase in STOPPED and self._braked * self._dt > GOAL_STOPS and not tick.at_rest:
            self.note("stop_time", f"the goal still moves {self._braked} ticks after the fault")
        self._phase, self._fault = phase, fault
        if phase in (Phase.LIMP, Phase.LIMP_FAULT) and not self.rig.torque.any():
            self._asked = False

    def _goals(self, goal: Array) -> None:
        before = self._trail
        if before and np.abs(goal - before[0]).max() > 1.0:
            before = []
        self._trail = trail = [goal]
        for last, (promise, allowed) in zip(before, self._limits.items()):
            trail.append((trail[-1] - last) / self._dt)
            self._bound(promise, trail[-1], allowed, "the goal")
        del trail[3:]

    # The physics

    def _stepped(self, now: float) -> None:
        rig, plant, drive = self.rig, self.rig.plant, self.rig.plant.drive
        on = drive.mode != 0
        if on.any() and not self._asked and rig.loop is not None:
            self._asked = True
            if rig.loop.request is not Request.ARM:
                self.note("unasked_torque", f"on joints {np.flatnonzero(on)}")
        goal, before = drive.goal.copy(), self._last_goal
        self._last_goal = goal
        model, world = rig.robot.model, plant.world
        assert isinstance(world, World)
        self._heights.append(float(tool_position(model, goal)[2]))
        if not on.all():
            self._off_at = now
        held = self._phase in ENERGISED and self._phase is not Phase.ARMING
        weak = rig.weakened
        strong, hurt = ~weak, bool(weak.any())
        # The others go on as if nothing were: where a servo has let go, they hold.
        if not held or (now - self._off_at < SETTLED and not hurt):
            self._turning.clear()
            return
        self._bound("torque", plant.duty, np.maximum(drive.duty_limit, self._duty_limit) + 0.02, "the duty")
        self._duty_limit = drive.duty_limit.copy()
        self._bound("joint_speed", strong * world.velocity, self._speed, "the joint")
        if hurt and world.bodies.arm_strikes():
            self._turning.clear()
        self._changes(world.time, strong * world.velocity, DRAGGED if hurt else 1.0)
        still = self._phase in STOPPED and now - self._stopping_since > JOINTS_STOP
        if still and np.abs(strong * world.velocity).max() > STANDING:
            self.note("stop_time", f"joints still turn {now - self._stopping_since:.2f} s after the fault")
        if hurt:
            return
        drop = min(self._heights) - float(tool_position(model, world.position)[2])
        self._bound("sag", np.array([max(drop, 0.0)]), SAG, "hangs lower than its goal")
        if before is not None and self._sent:
            near = np.min([np.abs(goal - sent) for sent in self._sent], axis=0)
            self._bound(
                "goal_origin", np.where(goal != before, near, 0.0), TICKS * self._tick, "the servo's goal"
            )

    def _changes(self, time: float, speed: Array, slack: float) -> None:
        """Acceleration and jerk of the joints, from their true speeds (n,) rad/s at `time`."""
        self._turning.append((time, speed))
        if len(self._turning) <= 2 * WINDOW:
            return
        (t0, v0), (t1, v1), (t2, v2) = self._turning[0], self._turning[WINDOW], self._turning[-1]
        before, after = (v1 - v0) / (t1 - t0), (v2 - v1) / (t2 - t1)
        self._bound("joint_acceleration", after, slack * self._acceleration, "the joint")
        jerk = (after - before) / ((t2 - t0) / 2)
        self._bound("joint_jerk", jerk, slack * self._jerk, "the joint")
