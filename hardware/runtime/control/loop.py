"""The control loop: observe, judge, choose, guard, command, tell; a hundred times a second.

The loop takes its clock, arm, policy and perception as arguments. On a simulated clock and arm it is
deterministic and runs as fast as the simulation; on a bus it keeps absolute deadlines. It waits for nothing but
the arm's own reading, which has a deadline of its own. What every cycle was goes, as one `Tick`, to the sinks.
"""

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.counts import Counts
from hardware.runtime.control.fault_inputs import FaultInputs
from hardware.runtime.control.goals import Goals, compile_first
from hardware.runtime.control.link import Link
from hardware.runtime.control.pace import LoopPace
from hardware.runtime.control.policy_input import PolicyInput
from hardware.runtime.control.supervisor import (
    ENERGISED,
    OBSTRUCTIONS,
    Action,
    Deadlines,
    Health,
    Phase,
    Request,
    State,
    action,
    advance,
)
from hardware.runtime.control.tick import Tick, TickSink
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.safety.estop import EmergencyStop
from hardware.runtime.safety.guardian import Guardian
from hardware.runtime.safety.way_back import longest_descent
from hardware.runtime.sources.sources import GoalOnly, PerceptionSource, PolicySource
from sim2real.arm import Arm, ArmState
from sim2real.clock import Clock
from sim2real.gate.gate import Gate
from sim2real.observation import Observation
from sim2real.robot import Robot

Array = NDArray[np.float64]

REDUCED = 0.4
"""Share of the velocity limits that is left while a monitor warns."""


@dataclass(frozen=True)
class LoopSettings:
    """How a loop drives its arm; nothing of it changes while it runs."""

    speed: float = 1.0
    """Share of the gate's limits."""
    limits: tuple[Array, Array] | None = None
    """(lower, upper), (n,) rad: the calibrated range. None: the robot's."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    moves: bool = True
    """False in a dry run: the arm does not do what it is sent, and nobody may wonder that it does not."""
    operator_required: bool = False
    """Whether the arm stops when nobody shows a sign of life."""

    def fitted(self, robot: Robot) -> "LoopSettings":
        """With the deadlines that this robot can keep."""
        given = self.deadlines
        return replace(
            self,
            deadlines=replace(
                given,
                settling=max(given.settling, longest_descent(robot, self.speed)),
                # However fast the loop: one lost reading is nothing, after two it holds before three periods are over.
                feedback_hold=min(given.feedback_hold, 2 / robot.command_rate),
            ),
        )


class ControlLoop:
    """See the module docstring. A session steers it: `request`, `attended`, `episode`, and the methods `start_policy`,
    `stop_policy` and `travel`."""

    def __init__(
        self,
        arm: Arm,
        clock: Clock,
        policy: PolicySource | None = None,
        perception: PerceptionSource | None = None,
        *,
        settings: LoopSettings | None = None,
        guardian: Guardian | None = None,
        attended: bool = False,
        sinks: Iterable[TickSink] = (),
        before_tick: Callable[[], None] | None = None,
    ) -> None:
        """`guardian` lowers the arm when this process cannot; `sinks` get every tick; `before_tick` is called before
        each one waits for its time."""
        self.robot, self.clock = arm.robot, clock
        self.settings = (settings or LoopSettings()).fitted(arm.robot)
        self.guardian, self.before_tick = guardian, before_tick
        self.sinks = list(sinks)
        self.on_frame: Callable[[float, Observation], None] | None = None
        """Called at the policy rate, before the actions of the frame are sent."""

        self.counts = Counts()
        self.pace = LoopPace(clock, 1.0 / self.robot.command_rate)
        self.link = Link(arm, clock, guardian, self.counts)
        self.policy = PolicyInput(policy, self.pace.period, self.counts, 1.0 / self.robot.policy_rate)
        self.perception: PerceptionSource = GoalOnly() if perception is None else perception
        self.inputs = FaultInputs(
            self.robot, self.settings.deadlines, operator_required=self.settings.operator_required
        )
        self.goals = Goals(self.robot, self.settings.speed, self.settings.limits)

        self.request = Request.NONE
        """What is wanted of the arm."""
        self.attended = attended
        """Whether an operator is present to decide what follows a fault."""
        self.episode = -1
        """Number of the episode under way; -1 between episodes."""

        self.state = State(since=clock.now())
        self.doing = Action.NOTHING
        """What was done in the last tick."""
        self.faults: list[str] = []
        """What has been latched, in words."""
        compile_first(self.robot, self.pace.period)

    # Driving

    def run(self, until: Callable[[], bool], timeout: float = float("inf")) -> bool:
        """Tick until `until()` is true; False when `timeout` s passed first. At least one tick is made."""
        end = self.clock.now() + timeout
        enabled = gc.isenabled()
        # A collection over a large heap takes longer than many periods.
        gc.disable()
        try:
            while True:
                self.tick()
                if until():
                    return True
                if self.clock.now() >= end:
                    return False
        finally:
            if enabled:
                gc.enable()

    def tick(self) -> None:
        """Wait for the next deadline and do one cycle."""
        if self.before_tick is not None:
            self.before_tick()
        start, error = self.pace.wait()
        if self.link.connected or self.state.phase is not Phase.DISCONNECTED:
            self.link.observe()
        self.policy.take(start)
        health = self._health(start)
        before = self.state
        self.state = advance(start, before, health, self.settings.deadlines)
        if before.phase is Phase.LIMP_FAULT and self.state.phase is Phase.LIMP:
            self.link.acknowledge()
            self.pace.resync()
        report = ""
        if self.state.fault is not None and before.fault is None:
            report = self._report(self.state.fault)
            self.faults.append(report)
        if self.state.phase in (Phase.ESTOP, Phase.LIMP_FAULT):
            self.inputs.answer_stop()
        self.doing = action(self.state, health, self.settings.deadlines)

        observation = self._frame(start)
        self.gate.limit_velocity(REDUCED if health.warned else 1.0)
        flags = self._act(start)
        if self.guardian is not None:
            if self.link.torque and not self.link.enabled:
                # Half armed: there is nothing to come down from, the watchdog lets go when it takes over.
                self.guardian.busy()
            else:
                self.guardian.beat(self.link.torque, self.executed)

        self._tell(
            Tick(
                time=start,
                before=before,
                state=self.state,
                action=self.doing,
                health=health,
                reading=self.reading,
                requested=self.goals.requested,
                gated=self.gate.position,
                executed=self.executed,
                at_rest=self.gate.at_rest,
                flags=flags,
                fault_report=report,
                observation=observation,
                episode=self.episode,
                period_error=error,
                work=self.clock.now() - start,
                monitors=self.inputs.monitors.mask,
                heating=self.inputs.monitors.heating,
                clipped=self.counts.clipped,
                rejected=self.counts.rejected,
            )
        )
        self.counts.ticks += 1
        self.counts.overruns += self.pace.finish()

    # Steering

    def start_policy(self, seed: int) -> None:
        """Follow the policy from now on: a new episode. Ask for RUN as well."""
        self.goals.use(Action.FOLLOW)
        self.policy.start(seed, self.gate.position, self.clock.now())

    def stop_policy(self) -> None:
        """From now on RUN means going to the target."""
        self.policy.on = False

    def travel(self, target: Array, *, straight: bool = False) -> None:
        """Go to `target` (n,), rad, instead of following the policy; `straight`: all joints arrive at once.

        Ask for RUN as well.
        """
        self.stop_policy()
        self.goals.aim(target, straight=straight)

    def go_home(self) -> None:
        """Go to the robot's home pose instead of following the policy, another way where the straight one is barred.

        Ask for RUN as well.
        """
        self.stop_policy()
        self.goals.aim_home()

    def operator_sign(self) -> None:
        """The operator is there: a key, a click, a heartbeat."""
        self.inputs.operator_seen = self.clock.now()

    # Parts of a cycle

    def _health(self, now: float) -> Health:
        link, inputs, policy, phase = self.link, self.inputs, self.policy, self.state.phase
        # As of now: waiting for a silent bus takes most of a period.
        age, bus_age = link.ages(self.clock.now())
        policy_on = policy.on and self.request is Request.RUN
        estop, estop_press = inputs.stop(now)
        should_hold = phase in ENERGISED and phase is not Phase.ARMING
        verdict = inputs.judge(
            now,
            self.reading,
            self.executed,
            on=link.torque,
            driven=self.settings.moves and link.torque and should_hold,
        )
        camera_needed = policy_on and self.perception.needed
        off = ~link.arm.enabled if should_hold and link.torque else np.zeros(self.robot.n, dtype=np.bool_)
        return Health(
            request=self.request,
            connected=link.connected,
            feedback_age=age,
            bus_age=bus_age,
            armed=phase is Phase.ARMING and link.still_armed(now),
            refused=phase is Phase.ARMING and link.refused,
            torque_lost=bool(off.any()),
            torque_gone=bool(off.all()) or (should_hold and not link.enabled),
            servo_fault=inputs.servo_fault(now, self.reading),
            policy_needed=policy_on and phase in (Phase.RUNNING, Phase.DEGRADED),
            policy_alive=policy.alive,
            remaining=policy.player.remaining(now) if policy_on else 0.0,
            bad_chunks=policy.bad_chunks,
            rejected=policy.rejected,
            camera_needed=camera_needed,
            camera_age=self.perception.frame_age(now) if camera_needed else 0.0,
            still=self.gate.at_rest,
            rested=phase is Phase.SETTLING and self.goals.descended,
            attended=self.attended,
            relaxed=link.relaxed,
            guarded=self.guardian is None or self.guardian.alive,
            estop=estop,
            estop_press=estop_press,
            warned=verdict.warned,
            faulty=verdict.faulty,
            operator_age=inputs.operator_age(now),
            retreated=phase is Phase.RETREATING and self.goals.withdrawn,
            obstructed=(
                phase in (Phase.RETREATING, Phase.FAULT_HOLD)
                and not self.goals.yielded
                and bool(verdict.faulty & OBSTRUCTIONS)
            ),
        )

    def _report(self, fault: FaultCode) -> str:
        """A fault with what is known about it, for people: each part of the loop is asked what it knows."""
        detail = (
            self.link.detail(fault)
            or self.inputs.detail(fault, self.clock.now(), self.reading)
            or self.policy.detail(fault)
            or (self.perception.problem if fault is FaultCode.CAMERA_LOST else "")
        )
        return f"{fault}: {detail}" if detail else str(fault)

    def _frame(self, now: float) -> Observation | None:
        """What the policy observes, where a frame of its rate begins with this cycle."""
        rate, command, tick = self.robot.policy_rate, self.robot.command_rate, self.counts.ticks
        if self.reading is None or (tick * rate) // command == ((tick - 1) * rate) // command:
            return None
        observation = self.perception.entries(now)
        observation["joint_position"] = self.reading.position
        observation["joint_velocity"] = self.reading.velocity
        observation["joint_command"] = self.executed
        if self.on_frame is not None:
            self.on_frame(now, observation)
        if self.doing is Action.FOLLOW:
            self.policy.send(now, observation)
        return observation

    def _act(self, now: float) -> int:
        """Do what the supervisor decided; returns the gate's mask."""
        doing, link, goals = self.doing, self.link, self.goals
        if doing is Action.ENABLE:
            self._enable()
            return 0
        if doing in (Action.NOTHING, Action.OBSERVE, Action.RELAX):
            if link.connected and (link.torque or (doing is Action.RELAX and not link.relaxed)):
                self._relax()
            return 0
        if not link.enabled:
            # Torque never came on as it should, or only here and there: no goal of ours was ever measured.
            if link.connected and link.torque:
                self._relax()
            return 0
        if doing in (Action.HOLD, Action.BRAKE):
            flags = goals.brake(hard=doing is Action.BRAKE)
        elif doing is Action.RETREAT:
            assert self.reading is not None and self.state.retreat is not None
            flags = goals.retreat(self.state.retreat, self.reading.position)
        elif doing is Action.DESCEND:
            flags = goals.descend()
        elif self.policy.on:
            flags = goals.follow(self.policy.player.sample(now))
            self.policy.note(flags)
        else:
            flags = goals.travel()
        link.send(self.gate.position)
        return flags

    def _enable(self) -> None:
        if not self.link.enabled:
            start = self.link.enable()
            # Switching on takes several exchanges, on purpose.
            self.pace.resync()
            if start is None:
                return
            self.goals.begin(start)
        self.link.send(self.gate.position)

    def _relax(self) -> None:
        if self.link.relax():
            self.goals.end()
        self.pace.resync()

    def _tell(self, tick: Tick) -> None:
        for sink in tuple(self.sinks):
            try:
                sink.tick(tick)
            except Exception:
                # A sink that fails would do so again in every tick, and the arm has still to be lowered.
                self.sinks.remove(sink)
                raise

    # What others look at

    @property
    def gate(self) -> Gate:
        """The gate whose goal is sent."""
        return self.goals.gate

    @property
    def arrived(self) -> bool:
        """Whether the goal rests where `travel` was told to go."""
        return self.goals.arrived

    @property
    def barred(self) -> bool:
        """Whether `go_home` found no way."""
        return self.goals.barred

    @property
    def estop(self) -> EmergencyStop:
        """The emergency stop: can be pressed here, and given more inputs."""
        return self.inputs.estop

    @property
    def energised(self) -> bool:
        """Whether torque is on, as far as is known."""
        return self.link.torque

    @property
    def reading(self) -> ArmState | None:
        """The last reading of the arm."""
        return self.link.reading

    @property
    def executed(self) -> Array:
        """(n,) rad, the goal that was last sent."""
        return self.link.executed

    @property
    def phase(self) -> Phase:
        return self.state.phase

    def ended(self) -> bool:
        """Whether torque is off (or the port gone), so that nothing is left to do."""
        if self.state.phase is Phase.DISCONNECTED:
            return not self.link.connected
        return self.state.phase in (Phase.LIMP, Phase.LIMP_FAULT) and not self.link.torque
