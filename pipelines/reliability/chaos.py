"""An arm at work while things go wrong at random, from a seed: what `sim2real chaos` and the soak run.

Whole runs as `deploy` makes them (connect, arm, episodes, lower, limp), one after the other on a stepped clock,
with faults drawn from the catalogue. After a run that a fault has ended a person comes, repairs what is broken
and starts the next one: that is an intervention. Whatever ends a run needs one, even what has long passed: a fault
latches until a person has looked. (SIGTERM is a person's wish, and counts as none.) The witness of `proving.py`
checks every promise all the time; here it is checked besides that every latched fault had a cause, and that every
fault did what the catalogue says.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.faults.catalogue import CATALOGUE, EVER, Case, FaultKind
from hardware.emulator.faults.fault import Fault, parse_fault
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.control.tick import Tick
from hardware.runtime.sessions.roles import Judge
from hardware.runtime.sessions.session import Plan, Session
from pipelines.reliability.proving import ProvingRig
from pipelines.reliability.tally import ATTEND, DAY, MEND, Tally
from sim2real.errors import Sim2RealError, UserError
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

Mix = Literal["even", "field"]

EPISODES = 4
"""Episodes of one run, if nothing ends it before."""

AFTERMATH = 3.0
"""s after its end for which a fault may still be the cause of what is latched."""

OUTSIDE = frozenset({"kill_control", "stop_control", "kill_helper", "disk_full"})
"""Faults that need real processes and disks: `outside.py`, benchmarks/kill.py."""

GENERAL = frozenset({"arming_failed", "rest_unreachable", "settling_too_long", "feedback_lost"})
"""Latched faults that any fault on the bus or of a servo may lead to, if it comes at the wrong moment."""


@dataclass(frozen=True)
class ChaosOptions:
    """`seconds` of simulated time; `gap` s between faults on average ("even": every kind alike; "field": as often
    as the catalogue assumes, times `stress`)."""

    robot: str = "so101"
    seed: int = 0
    seconds: float = 600.0
    gap: float = 10.0
    mix: Mix = "even"
    stress: float = 1.0
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seconds", "gap", "stress"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise UserError(f"--{name} must be positive, got {value:g}")
        if self.mix not in ("even", "field"):
            raise UserError(f"--mix is even or field, got '{self.mix}'")
        if self.seed < 0:
            raise UserError(f"--seed must be 0 or more, got {self.seed}")


class _Hits:
    """A sink of ticks that finds the episodes during which a fault was in effect, or just had been."""

    def __init__(self, suspects: Callable[[float], Sequence[Any]]) -> None:
        self.episodes: set[int] = set()
        self._suspects = suspects

    def tick(self, tick: Tick) -> None:
        new = tick.observation is not None and tick.episode >= 0 and tick.episode not in self.episodes
        if new and self._suspects(tick.time):
            self.episodes.add(tick.episode)


class Chaos:
    """One arm, its faults and its runs. `advance(seconds)` goes on from where it is."""

    def __init__(self, options: ChaosOptions) -> None:
        self.options = options
        robot = Robot.load(options.robot)
        task = load_task("reach", robot.n)
        self.rng = np.random.default_rng(options.seed)
        self.rig = ProvingRig(robot, task=task, policy=task.expert(robot), seed=options.seed)
        kinds = _kinds(options, robot.protocol)
        self.cases = [(kind, case) for kind in kinds for case in kind.cases]
        field_mix = options.mix == "field"
        rates = np.array([case.per_day if field_mix else 1.0 / len(kind.cases) for kind, case in self.cases])
        self._chances = rates / rates.sum()
        self.gap = DAY / (float(rates.sum()) * options.stress) if field_mix else options.gap
        self._density = options.stress if field_mix else 1.0
        self.tally = Tally()
        self._next = self.rng.exponential(self.gap)
        self._history: list[tuple[Fault, Case, float]] = []  # with when it began

    def advance(self, seconds: float, progress: Callable[[float], None] = lambda done: None) -> Tally:
        """Runs until `seconds` more have passed. Returns what came of this stretch."""
        self.tally = Tally()
        rig, start = self.rig, self.rig.clock.now()
        while rig.clock.now() - start < seconds:
            self._run()
            progress(min((rig.clock.now() - start) / seconds, 1.0))
        self.tally.seconds = rig.clock.now() - start
        self.tally.exposure = self.tally.seconds * self._density
        self.tally.peaks = dict(rig.witness.peaks)
        return self.tally

    # One run

    def _run(self) -> None:
        rig, tally = self.rig, self.tally
        tally.runs += 1
        self._draw(rig.clock.now())
        try:
            rig.connect()
        except Sim2RealError as error:
            self._refused(error)
            return

        def before_tick() -> None:
            self._draw(rig.clock.now())
            if rig.injector.active("sigterm") is not None:
                session.interrupt(15)

        loop = rig.start_whole(before_tick)
        # As deploy gives goals where no camera finds them.
        goals = {}

        def goal(i: int) -> NDArray[np.float64]:
            values = {p.name: self.rng.uniform(p.low, p.high) for p in rig.task.scene_parameters()}
            goals[i] = np.array(rig.task.setup(values, self.rng).goal)
            return goals[i]

        session = Session(
            loop, Plan(rig.task, episodes=EPISODES, seed=int(self.rng.integers(1 << 31)), goals=goal)
        )
        began = rig.clock.now()
        hits = _Hits(self._suspects)
        loop.sinks.append(hits)
        results = session.run()
        now = rig.clock.now()
        for result in results:
            hit = result.episode in hits.episodes or result.judge is Judge.FAULT
            tally.episodes += 1
            tally.successes += result.success is True
            tally.hit_episodes += hit
            tally.hit_successes += hit and result.success is True
        self._judge(session, began, now)
        fault = loop.state.fault
        stopped = session.stopped and not session.interrupted
        if fault is not None or stopped:
            tally.latched[fault or "stopped"] += 1
            since = loop.state.fault_since if fault is not None else now
            self._repair(now - since)
        elif self.rig.torque.any():
            self._repair(0.0)

    def _refused(self, error: Sim2RealError) -> None:
        """The arm could not be started: there must be a fault that explains it, and the torque is off."""
        now = self.rig.clock.now()
        if not self._suspects(now):
            self._note(f"refused without a cause: {error}")
        self.tally.latched["refused"] += 1
        self._repair(0.0)

    def _repair(self, down: float) -> None:
        """What a person does who is called: mend what is broken, switch the power off and on, and go."""
        since = self.rig.clock.now() - down
        suspects = [entry for entry in self._suspects(since) if entry[2] <= since]
        lasting = any(fault.kind.lasts == EVER for fault, _, _ in suspects)
        repair = ATTEND + lasting * MEND
        self.tally.interventions += 1
        self.tally.people[suspects[-1][0].name if suspects else ""] += 1
        self.tally.repairs += repair
        self.tally.down += down + repair
        self.rig.reset()
        self.rig.idle(0.5)
        self._history.clear()
        self._next = self.rig.clock.now() + self.rng.exponential(self.gap)

    def _draw(self, now: float) -> None:
        """Plan the next fault when the last one has begun."""
        if now < self._next:
            return
        kind, case = self.cases[int(self.rng.choice(len(self.cases), p=self._chances))]
        fault = parse_fault(f"{kind.name}:{case.values}")
        if fault.values.get("id"):
            id = int(self.rng.choice([servo.id for servo in self.rig.bus.servos]))
            fault = replace(fault, values={**fault.values, "id": id})
        self._next = now + self.rng.exponential(self.gap)
        if any(other.name == fault.name and now < at + _length(other) for other, _, at in self._history):
            return
        self.rig.injector.add(fault, now)
        self._history.append((fault, case, now))
        del self._history[:-50]
        self.tally.faults[kind.name] += 1

    # Judging

    def _suspects(self, now: float) -> list[tuple[Fault, Case, float]]:
        """Faults that were active a moment ago."""
        return [entry for entry in self._history if now - AFTERMATH <= entry[2] + _length(entry[0])]

    def _judge(self, session: Session, began: float, now: float) -> None:
        loop, rig = session.loop, self.rig
        fault, since = loop.state.fault, loop.state.fault_since
        for text in rig.witness.broken:
            self._note(text)
        rig.witness.broken.clear()
        if loop.phase is not Phase.DISCONNECTED and rig.torque.any():
            self._note(f"end: torque is on after a run that ended {loop.phase.value}")
        if fault is not None:
            suspects = [entry for entry in self._suspects(since) if entry[2] <= since]
            allowed = {name for _, case, _ in suspects for name in _latches(case, suspects)}
            if fault not in allowed:
                named = ", ".join(str(one) for one, _, _ in suspects) or "no fault"
                self._note(f"latched {fault} after {named}")
        elif session.stopped and not session.interrupted and not self._suspects(now):
            self._note(f"stopped without a cause: {session.stopped}")

    def _note(self, text: str) -> None:
        last = ", ".join(f"{fault} at {at:.2f} s" for fault, _, at in self._history[-2:])
        self.tally.broken.append(f"seed {self.options.seed}: {text} (last faults: {last or 'none'})")

    def close(self) -> None:
        self.rig.close()


def _length(fault: Fault) -> float:
    assert fault.lasts is not None
    return fault.lasts


def _latches(case: Case, suspects: list[tuple[Fault, Case, float]]) -> set[str]:
    """What may be latched where `case` is among what went wrong: its own, and what any trouble may lead to."""
    latches = set(case.latches) | GENERAL
    if len(suspects) > 1:
        latches |= {name for _, other, _ in suspects for name in other.latches}
    # A policy is not asked while the joints are not heard, and its chunk runs out.
    return latches | {"policy_late", "off_track", "stalled", "overloaded", "gripper_stuck"}


def _kinds(options: ChaosOptions, protocol: str) -> list[FaultKind]:
    """The faults to draw from. Raises UserError for names that cannot be among them."""
    able = {
        kind.name: kind
        for kind in CATALOGUE.values()
        if protocol in kind.families and kind.name not in OUTSIDE
    }
    unknown = [name for name in options.only if name not in able]
    if unknown:
        raise UserError(f"cannot inject {', '.join(unknown)} here; faults are {', '.join(able)}")
    return [able[name] for name in options.only] if options.only else list(able.values())


def run_chaos(options: ChaosOptions, progress: Callable[[float], None] = lambda done: None) -> Tally:
    """Everything `options` ask for, on a new arm."""
    chaos = Chaos(options)
    try:
        return chaos.advance(options.seconds, progress)
    finally:
        chaos.close()


def timed(function: Callable[[], Tally]) -> tuple[Tally, float]:
    """The result, and how long it took, s."""
    start = time.monotonic()
    return function(), time.monotonic() - start
