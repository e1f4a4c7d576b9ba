"""The control loop: observe, judge, choose, guard, command, log; a hundred times a second.

The loop takes its clock, arm, policy and perception as arguments. On a simulated clock and arm it is
deterministic and runs as fast as the simulation; on a bus it keeps absolute deadlines. It waits for nothing but
the arm's own reading, which has a deadline of its own.
"""

import gc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.counts import Counts
from hardware.runtime.control.fault_inputs import Guardian, Vitals
from hardware.runtime.control.link import Link
from hardware.runtime.control.monitors import Monitors, Verdict
from hardware.runtime.control.recovery import Withdrawal
from hardware.runtime.control.supervisor import (
    CODES,
    ENERGISED,
    MONITORS,
    OBSTRUCTIONS,
    Action,
    Deadlines,
    Health,
    Phase,
    Request,
    Retreat,
    State,
    action,
    advance,
)
from hardware.runtime.recording.blackbox import BlackBox
from hardware.runtime.recording.blackbox_rows import note_change, note_tick
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.safety.descent import NEAR, SPEED, Descent, longest
from hardware.runtime.sources.sources import GoalOnly, PerceptionSource, PolicySource
from sim2real.arm import Arm, ArmState
from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.clock import Clock
from sim2real.errors import Sim2RealError
from sim2real.gate.gate import CLIPPED, REJECTED, Gate
from sim2real.model.kinematics import tool_jacobian
from sim2real.observation import Observation

Array = NDArray[np.float64]

TRAVEL_SPEED = 0.5
"""Share of the gate's limits at which the arm goes home between episodes."""

REDUCED = 0.4
"""Share of the velocity limits that is left while a monitor warns."""


class ControlLoop:
    """See the module docstring. The session steers it through `request`, `target` and `policy_on`."""

    def __init__(
        self,
        arm: Arm,
        clock: Clock,
        policy: PolicySource | None = None,
        perception: PerceptionSource | None = None,
        *,
        speed: float = 1.0,
        limits: tuple[Array, Array] | None = None,
        deadlines: Deadlines | None = None,
        guardian: Guardian | None = None,
        attended: bool = False,
    ) -> None:
        """`speed` scales the gate's limits; `limits` (lower, upper), (n,) rad, are the calibrated range."""
        self.arm, self.clock, self.robot = arm, clock, arm.robot
        self.policy = policy
        self.perception: PerceptionSource = GoalOnly() if perception is None else perception
        given = Deadlines() if deadlines is None else deadlines
        self.period = 1.0 / self.robot.command_rate
        self.deadlines = replace(
            given,
            settling=max(given.settling, longest(self.robot, speed)),
            # However fast the loop: one lost reading is nothing, after two it holds before three periods are over.
            feedback_hold=min(given.feedback_hold, 2 * self.period),
        )
        self.guardian = guardian
        self.counts = Counts()
        self.link = Link(arm, clock, guardian, self.counts)
        self.attended = attended
        self.moves = True
        """False in a dry run: the arm does not do what it is sent, and nobody may wonder that it does not."""
        self.vitals = Vitals(self.robot, self.deadlines, self.link.problems)
        self.estop = self.vitals.estop
        self.monitors = Monitors(self.robot)

        lower, upper = (None, None) if limits is None else limits
        self.gates = {
            Action.FOLLOW: Gate(self.robot, speed, lower=lower, upper=upper),
            Action.HOLD: Gate(self.robot, min(speed, TRAVEL_SPEED), lower=lower, upper=upper),
            Action.DESCEND: Gate(self.robot, min(speed, SPEED), lower=lower, upper=upper),
        }
        """By use: the policy's, the way home's and the descent's."""
        self.gate = self.gates[Action.FOLLOW]
        self.descent = Descent(self.robot, self.gates[Action.DESCEND])
        self.player = ChunkPlayer()

        self.state = State(since=clock.now())
        self.doing = Action.NOTHING
        """What was done in the last tick."""
        self.request = Request.NONE
        self.policy_on = False
        """Whether RUN means following the policy (else: going to `target`)."""
        self.target: Array = np.array(self.robot.home)
        self.episode = -1
        self.identified = True
        self.requested: Array = np.array(self.robot.home)
        self.observation: Observation = {}
        self.on_frame: Callable[[float, Observation], None] | None = None
        """Called at the policy rate, before the actions of the frame are sent."""
        self.faults: list[str] = []
        self.log = TickLog(self.robot.joint_names)
        self.box: BlackBox | None = None
        """Keeps the last seconds and writes them to disk on every fault."""

        self._tick = 0
        self._deadline = clock.now()
        self._last_start: float | None = None
        self._descending = False
        self._withdrawal: Withdrawal | None = None
        self._yielded = False  # once per fault: what pushes back then is the arm's own weight
        self._bad_chunks = 0
        self._rejected = 0.0
        self._compile()

    # Driving

    def _compile(self) -> None:
        """Call once what is compiled at its first call: under way the watchdog would take it for a dead loop."""
        gate, player, home = Gate(self.robot), ChunkPlayer(), np.array(self.robot.home)
        gate.reset(home)
        gate.step(home)
        gate.brake()
        tool_jacobian(self.robot.model, home)
        player.reset(home, 0.0)
        for start in (0.0, self.period):
            player.add(Chunk(start, self.period, np.tile(home, (2, 1))), start)
            player.sample(start + self.period / 2)

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

    def resync(self) -> None:
        """Start a new time base: what was waited for on purpose is no overrun."""
        self._deadline = self.clock.now() + self.period
        self._last_start = None

    def tick(self) -> None:
        """Wait for the next deadline and do one cycle."""
        self.clock.sleep_until(self._deadline)
        start = self.clock.now()
        error = 0.0 if self._last_start is None else start - self._last_start - self.period
        self._last_start = start

        if self.link.connected or self.state.phase is not Phase.DISCONNECTED:
            self.link.observe()
        self._take_chunk(start)
        # As of now: waiting for a silent bus takes most of a period.
        age, bus_age = self.link.ages(self.clock.now())
        health = self._health(start, age, bus_age)
        before = self.state
        self.state = advance(start, before, health, self.deadlines)
        if before.phase is Phase.LIMP_FAULT and self.state.phase is Phase.LIMP:
            self.link.acknowledge()
            self.resync()
        told = ""
        if self.state.fault is not None and before.fault is None:
            told = self._note_fault(self.state.fault)
        if self.box is not None and self.state.phase is not before.phase:
            note_change(self.box, start, before, self.state, told)
        if self.state.phase in (Phase.ESTOP, Phase.LIMP_FAULT):
            self.vitals.answer_stop()
        doing = self.doing = action(self.state, health, self.deadlines)

        if self.reading is not None and self._frame_due():
            self._frame(start, doing)
        self.gate.limit_velocity(REDUCED if health.warned else 1.0)
        flags = self._act(start, doing)
        if self.guardian is not None:
            if self.link.torque and not self.link.enabled:
                # Half armed: there is nothing to come down from, whoever takes over lets go.
                self.guardian.busy()
            else:
                self.guardian.beat(self.link.torque, self.executed)

        if self.reading is not None:
            self.log.add(
                (
                    start,
                    CODES[self.state.phase],
                    flags,
                    error,
                    self.clock.now() - start,
                    age,
                    health.remaining,
                    health.camera_age,
                    self.episode,
                ),
                self.reading.position,
                self.requested,
                self.executed,
            )
        if self.box is not None:
            note_tick(self.box, self, start, error, health, doing, flags)
        self.counts.ticks += 1
        self._tick += 1
        self._deadline += self.period
        if self._last_start is None:
            self._deadline = self.clock.now() + self.period
            return
        # Whole periods are skipped: the phase stays, and no burst of commands follows a stall.
        missed = int((self.clock.now() - self._deadline) / self.period + 0.5)
        if missed > 0:
            self.counts.overruns += missed
            self._deadline += missed * self.period

    # Parts of a cycle

    def _take_chunk(self, now: float) -> None:
        if self.policy is None:
            return
        answer = self.policy.poll()
        if answer is None:
            return
        self.counts.chunks += 1
        if answer.chunk is None:
            self._refuse(answer.problem)
            return
        self.counts.latencies.append(answer.arrived - answer.chunk.start)
        if not self.policy_on:
            return
        try:
            if not self.player.add(answer.chunk, now):
                self.counts.expired += 1
            self._bad_chunks = 0
        except Sim2RealError as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        self.counts.refused += 1
        self._bad_chunks += 1
        self.vitals.problems["policy_invalid"] = why

    def _health(self, now: float, age: float, bus_age: float) -> Health:
        policy_on = self.policy_on and self.request is Request.RUN
        reading = self.reading
        estop, estop_press = self.vitals.stop(now)
        verdict = Verdict() if reading is None else self._judge(now, reading)
        camera_needed = policy_on and self.perception.needed
        phase = self.state.phase
        should_hold = phase in ENERGISED and phase is not Phase.ARMING
        off = (
            ~self.arm.enabled if should_hold and self.link.torque else np.zeros(self.robot.n, dtype=np.bool_)
        )
        return Health(
            request=self.request,
            connected=self.link.connected,
            identified=self.identified,
            feedback_age=age,
            bus_age=bus_age,
            armed=phase is Phase.ARMING and self.link.still_armed(now),
            refused=phase is Phase.ARMING and self.link.refused,
            torque_lost=bool(off.any()),
            torque_gone=bool(off.all()) or (should_hold and not self.link.enabled),
            servo_fault=self.vitals.servo_fault(now, reading),
            policy_needed=policy_on and phase in (Phase.RUNNING, Phase.DEGRADED),
            policy_alive=self.policy is not None and self.policy.alive,
            remaining=self.player.remaining(now) if policy_on else 0.0,
            bad_chunks=self._bad_chunks,
            rejected=self._rejected,
            camera_needed=camera_needed,
            camera_age=self.perception.frame_age(now) if camera_needed else 0.0,
            still=self.gate.at_rest,
            rested=phase is Phase.SETTLING and self._descending and self.descent.done,
            attended=self.attended,
            relaxed=self.link.relaxed,
            guarded=self.guardian is None or self.guardian.alive,
            estop=estop,
            estop_press=estop_press,
            warned=verdict.warned,
            faulty=verdict.faulty,
            operator_age=self.vitals.operator_age(now),
            retreated=(phase is Phase.RETREATING and self._withdrawal is not None and self._withdrawal.done),
            obstructed=(
                phase in (Phase.RETREATING, Phase.FAULT_HOLD)
                and not self._yielded
                and bool(verdict.faulty & OBSTRUCTIONS)
            ),
        )

    def _judge(self, now: float, reading: ArmState) -> Verdict:
        phase = self.state.phase
        driven = self.moves and self.link.torque and phase in ENERGISED and phase is not Phase.ARMING
        return self.monitors.step(now, reading, self.executed, on=self.link.torque, driven=driven)

    def _note_fault(self, fault: str) -> str:
        problems = self.vitals.problems
        if fault in MONITORS:
            problems[fault] = self.monitors.joints(fault)
        if fault.startswith("policy_") and fault != "policy_invalid" and self.policy is not None:
            problems[fault] = self.policy.problem
        elif fault == "camera_lost":
            problems[fault] = self.perception.problem
        elif fault == "torque_lost":
            problems[fault] = ", ".join(np.array(self.robot.joint_names)[~self.arm.enabled])
        told = self.vitals.describe(fault, self.clock.now(), self.reading)
        self.faults.append(told)
        return told

    def _frame_due(self) -> bool:
        rate, command = self.robot.policy_rate, self.robot.command_rate
        return (self._tick * rate) // command != ((self._tick - 1) * rate) // command

    def _frame(self, now: float, doing: Action) -> None:
        assert self.reading is not None
        observation = self.perception.entries(now)
        observation["joint_position"] = self.reading.position
        observation["joint_velocity"] = self.reading.velocity
        observation["joint_command"] = self.executed
        self.observation = observation
        if self.on_frame is not None:
            self.on_frame(now, observation)
        if self.policy is not None and self.policy_on and doing is Action.FOLLOW:
            self.policy.send(now, observation)

    def start_policy(self, seed: int) -> None:
        """Follow the policy from now on: a new episode. Ask for RUN as well."""
        assert self.policy is not None
        self.policy.reset(seed)
        self._use(Action.FOLLOW)
        self.player.reset(self.gate.position, self.clock.now())
        self._bad_chunks, self._rejected = 0, 0.0
        self.policy_on = True

    def travel(self, target: Array) -> None:
        """Go to `target` (n,), rad, instead of following the policy. Ask for RUN as well."""
        self.policy_on = False
        self.target = np.array(target, dtype=np.float64)
        self._use(Action.HOLD)

    @property
    def arrived(self) -> bool:
        """Whether the goal rests where `travel` was told to go."""
        return self.gate.at_rest and bool(np.abs(self.gate.position - self.target).max() < NEAR)

    def _use(self, which: Action) -> None:
        """Change to another gate; the goal goes on from where it is."""
        # Only at rest: a gate starts without velocity, and the goal must not stop dead.
        if self.gate.at_rest:
            gate = self.gates[which]
            gate.reset(self.gate.position)
            self.gate = gate

    def _act(self, now: float, doing: Action) -> int:
        """Do what the supervisor decided; returns the gate's mask."""
        if doing is Action.ENABLE:
            self._enable()
            return 0
        if doing in (Action.NOTHING, Action.OBSERVE, Action.RELAX):
            link = self.link
            if link.connected and (link.torque or (doing is Action.RELAX and not link.relaxed)):
                self._relax()
            return 0
        if not self.link.enabled:
            # Torque never came on as it should, or only here and there: no goal of ours was ever measured.
            if self.link.connected and self.link.torque:
                self._relax()
            return 0
        flags = 0
        if doing in (Action.HOLD, Action.BRAKE):
            self.gate.brake(hard=doing is Action.BRAKE)
            self.requested = self.gate.position
        elif doing is Action.RETREAT:
            flags = self._retreat(self.state.retreat)
        elif doing is Action.DESCEND:
            if not self._descending:
                self._use(Action.DESCEND)
                self.descent.begin()
                self._descending = True
            self.requested = self.descent.request
            flags = self.descent.step()
        elif self.policy_on:
            self.requested = self.player.sample(now)
            flags = self.gate.step(self.requested)
            self._count(flags)
        else:
            self.requested = self.target
            flags = self.gate.step(self.requested)
        self.link.send(self.gate.position)
        return flags

    def _retreat(self, way: Retreat | None) -> int:
        if self._withdrawal is None or self._withdrawal.kind is not way:
            assert self.reading is not None and way is not None
            self._use(Action.HOLD)
            self._withdrawal = Withdrawal(way, self.robot, self.gate, self.reading.position)
            self._yielded = self._yielded or way is Retreat.YIELD
        self.requested = self._withdrawal.request
        return self._withdrawal.step()

    def _count(self, flags: int) -> None:
        self.counts.commands += 1
        if flags & REJECTED:
            self.counts.rejected += 1
            self._rejected += self.period
        else:
            self._rejected = 0.0
            if flags & CLIPPED:
                self.counts.clipped += 1

    def _enable(self) -> None:
        if not self.link.enabled:
            start = self.link.enable()
            # Switching on takes several exchanges, on purpose.
            self.resync()
            if start is None:
                return
            for gate in self.gates.values():
                gate.reset(start)
        self.link.send(self.gate.position)

    def _relax(self) -> None:
        if self.link.relax():
            self._descending, self._withdrawal, self._yielded = False, None, False
        self.resync()

    def operator_sign(self) -> None:
        """The operator is there: a key, a click, a heartbeat."""
        self.vitals.operator_seen = self.clock.now()

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
