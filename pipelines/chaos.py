"""An arm at work while things go wrong at random, from a seed: what `sim2real chaos` and the soak run.

Whole runs as `deploy` makes them (connect, arm, episodes, lower, limp), one after the other on a stepped clock,
with faults drawn from the catalogue. After a run that a fault has ended somebody comes, repairs what is broken
and starts the next one: that is an intervention. The witness of `proving.py` checks every promise all the time;
here it is checked besides that every latched fault had a cause, and that every fault did what the catalogue says.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.catalogue import CATALOGUE, Case, FaultKind, Place
from hardware.emulator.faults import Fault, parse_fault
from hardware.runtime.session import Plan, Session
from hardware.runtime.supervisor import Phase
from pipelines.proving import Rig
from sim2real.errors import Sim2RealError, UserError
from sim2real.robot import Robot
from sim2real.tasks.base import load_task

Mix = Literal["even", "field"]

EPISODES = 4
"""Episodes of one run, if nothing ends it before."""

REPAIR = 300.0
"""s until somebody has come and the arm works again (an assumption, for uptime)."""

AFTERMATH = 3.0
"""s after its end for which a fault may still be the cause of what is latched."""

OUTSIDE = frozenset({"kill_control", "stop_control", "kill_helper", "disk_full"})
"""Faults that need real processes and disks: benchmarks/kill.py."""

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


@dataclass
class Tally:
    """What came of it. Tallies of consecutive runs add up."""

    seconds: float = 0.0
    """Simulated, without repairs."""
    down: float = 0.0
    """s in which the arm could not work: from a fault to the next start, repairs included."""
    runs: int = 0
    interventions: int = 0
    episodes: int = 0
    successes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Injected, by name."""
    latched: Counter[str] = field(default_factory=Counter)
    """Runs ended, by what the supervisor latched (or "refused": the arm could not be started)."""
    peaks: dict[str, float] = field(default_factory=dict)
    """Largest value of what each promise bounds, as a share of the bound."""
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept: seed, time, fault, what happened."""

    def add(self, other: "Tally") -> None:
        for name in ("seconds", "down", "runs", "interventions", "episodes", "successes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.latched += other.latched
        for name, value in other.peaks.items():
            self.peaks[name] = max(self.peaks.get(name, 0.0), value)
        self.broken += other.broken

    @property
    def uptime(self) -> float:
        total = self.seconds + self.interventions * REPAIR
        return 1.0 - self.down / total if total else 1.0

    @property
    def success(self) -> float | None:
        return self.successes / self.episodes if self.episodes else None

    @property
    def interventions_per_day(self) -> float:
        total = self.seconds + self.interventions * REPAIR
        return self.interventions / total * 86400.0 if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "faults": dict(self.faults),
            "latched": dict(self.latched),
            "uptime": self.uptime,
            "success": self.success,
            "interventions_per_day": self.interventions_per_day,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Tally":
        derived = ("uptime", "success", "interventions_per_day")
        own = {name: value for name, value in plain.items() if name not in derived}
        return cls(**(own | {name: Counter(own[name]) for name in ("faults", "latched")}))


class Chaos:
    """One arm, its faults and its runs. `advance(seconds)` goes on from where it is."""

    def __init__(self, options: ChaosOptions) -> None:
        self.options = options
        robot = Robot.load(options.robot)
        task = load_task("reach", robot.n)
        self.rng = np.random.default_rng(options.seed)
        self.rig = Rig(robot, task=task, policy=task.expert(robot), seed=options.seed)
        self.kinds = _kinds(options, robot.protocol)
        rates = np.array([kind.per_day if options.mix == "field" else 1.0 for kind in self.kinds])
        self._chances = rates / rates.sum()
        day = float(rates.sum()) * options.stress
        self.gap = 86400.0 / day if options.mix == "field" else options.gap
        self.tally = Tally()
        self._next = self.rng.exponential(self.gap)
        self._history: list[tuple[Fault, Case, float]] = []  # with when it began
        self._pending: list[tuple[Fault, Case]] = []

    def advance(self, seconds: float, progress: Callable[[float], None] = lambda done: None) -> Tally:
        """Runs until `seconds` more have passed. Returns what came of this stretch."""
        self.tally = Tally()
        rig, start = self.rig, self.rig.clock.now()
        while rig.clock.now() - start < seconds:
            self._run()
            progress(min((rig.clock.now() - start) / seconds, 1.0))
        self.tally.seconds = rig.clock.now() - start
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
        loop = rig.start()
        # As deploy gives goals where no camera finds them.
        goals = {}

        def goal(i: int) -> NDArray[np.float64]:
            values = {p.name: self.rng.uniform(p.low, p.high) for p in rig.task.scene_parameters()}
            goals[i] = np.array(rig.task.setup(values, self.rng).goal)
            return goals[i]

        session = Session(
            loop, Plan(rig.task, episodes=EPISODES, seed=int(self.rng.integers(1 << 31)), goals=goal)
        )
        tick = loop.tick
        began = rig.clock.now()

        def ticked() -> None:
            self._draw(rig.clock.now())
            if rig.injector.active("sigterm") is not None:
                session.interrupt(15)
            tick()

        loop.tick = ticked  # type: ignore[method-assign]
        results = session.run()
        tally.episodes += len(results)
        tally.successes += sum(result.success is True for result in results)
        now = rig.clock.now()
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
        """Somebody comes, mends what is broken, switches the power off and on, and goes."""
        self.tally.interventions += 1
        self.tally.down += down + REPAIR
        self.rig.reset()
        self.rig.idle(0.5)
        self._history.clear()
        self._next = self.rig.clock.now() + self.rng.exponential(self.gap)

    def _draw(self, now: float) -> None:
        """Plan the next fault when the last one has begun."""
        if now < self._next:
            return
        kind = self.kinds[int(self.rng.choice(len(self.kinds), p=self._chances))]
        case = kind.cases[int(self.rng.integers(len(kind.cases)))]
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
        if protocol in kind.families and kind.place is not Place.CAMERA and kind.name not in OUTSIDE
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


def summary(tally: Tally, took: float | None = None) -> str:
    """What a fleet operator wants to know, as text."""
    hours = tally.seconds / 3600
    per_hour = sum(tally.faults.values()) / hours if hours else 0.0
    success = "no episodes" if tally.success is None else f"{tally.success:.1%} of {tally.episodes} episodes"
    lines = [
        f"simulated   {hours:.2f} h, {tally.runs} runs, {sum(tally.faults.values())} faults"
        + (f" (in {took:.0f} s)" if took is not None else ""),
        f"uptime      {tally.uptime:.2%} at {per_hour:.0f} faults an hour (a repair takes {REPAIR / 60:.0f} min)",
        f"success     {success}",
        f"people      {tally.interventions} interventions, {tally.interventions_per_day:.2f} per day",
        "ended by    " + (", ".join(f"{n} × {name}" for name, n in tally.latched.most_common()) or "nothing"),
        "closest     "
        + (
            ", ".join(f"{name} {share:.0%}" for name, share in sorted(tally.peaks.items())) or "nothing moved"
        ),
        f"promises    {'all kept' if not tally.broken else f'{len(tally.broken)} BROKEN'}",
    ]
    return "\n".join(lines + [f"  {text}" for text in tally.broken[:20]])


def timed(function: Callable[[], Tally]) -> tuple[Tally, float]:
    """The result, and how long it took, s."""
    start = time.monotonic()
    return function(), time.monotonic() - start
