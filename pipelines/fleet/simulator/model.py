"""The events of a fleet, on SimPy's clock in hours.

A robot does many episodes in one event: it works until the next thing that stops it (a failure that needs a person, a
breakdown, a training, an update). So a fleet of a thousand robots takes seconds.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.fleet.simulator.settings import Settings
from sim2real.errors import UserError

DAY = 24.0
TINY = 1e-9
BATCH = 50
"""Episodes that are sent in one go."""

WAYS = (
    "collecting",
    "off",
    "waiting for help",
    "being helped",
    "broken",
    "waiting for a computer",
    "training",
    "updating",
)
"""What a robot can be doing, in the order in which pictures show it."""

Events = Generator[Any, Any, None]


def simpy() -> Any:
    """The module, or one message that says how to get it."""
    try:
        import simpy
    except ImportError:
        raise UserError(
            "fleet simulate needs SimPy, which is not installed: pip install 'sim2real-transfer[fleet]'"
        ) from None
    return simpy


@dataclass
class Outcome:
    """What happened. Times in hours."""

    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))
    """Robot hours by what they went to."""
    collected: int = 0
    arrived: int = 0
    rate: float = 0.0
    """Episodes a day that arrived and teach something, in the long run."""
    helps: int = 0
    breakdowns: int = 0
    trainings: int = 0
    updates: int = 0
    help_waits: list[float] = field(default_factory=list)
    trainer_waits: list[float] = field(default_factory=list)
    helped_hours: float = 0.0
    trained_hours: float = 0.0
    daily: list[float] = field(default_factory=list)
    """Episodes that arrived and teach something, by day."""


def simulate(settings: Settings, seed: int) -> Outcome:
    """Run a fleet for `settings.days`. The outcome follows from settings and seed alone."""
    fleet = _Fleet(settings, np.random.default_rng(seed))
    fleet.run()
    return fleet.outcome


class _Fleet:
    """All robots with what they share."""

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        module = simpy()
        self.settings, self.rng = settings, rng
        self.env = module.Environment()
        self.Interrupt = module.Interrupt
        self.end = settings.days * DAY
        self.outcome = Outcome(daily=[0.0] * math.ceil(settings.days))
        enough = settings.robots
        self.operators = module.Resource(self.env, settings.operators or enough)
        self.technicians = module.Resource(self.env, settings.technicians or enough)
        self.trainers = module.Resource(self.env, settings.trainers or enough)
        together = max(1, min(enough, int(settings.hub_link // settings.link)))
        self.hub = module.Resource(self.env, together)
        self.upload_rate = min(settings.link, settings.hub_link / together)
        self.robots = [_Robot(self, number) for number in range(settings.robots)]
        self.pool = settings.train_every
        """Episodes that have arrived since the last training began."""
        self.more: Any = self.env.event()

    def run(self) -> None:
        for robot in self.robots:
            robot.process = self.env.process(robot.live())
        if self.settings.pooled:
            self.env.process(self._train_for_all())
        self.env.run(until=self.end + TINY)
        for robot in self.robots:
            robot.close()
        self.outcome.rate = sum(robot.rate() for robot in self.robots) * (1.0 - self.settings.unusable)

    def arrive(self, robot: "_Robot", episodes: int) -> None:
        """Episodes have reached the hub."""
        self.outcome.arrived += episodes
        robot.arrived += episodes
        self.pool += episodes
        day = min(int(self.env.now / DAY - TINY), len(self.outcome.daily) - 1)
        self.outcome.daily[day] += episodes * (1.0 - self.settings.unusable)
        if not self.more.triggered:
            self.more.succeed()

    def _train_for_all(self) -> Events:
        """One policy after the other, and robots that take it up one by one until the next is there."""
        s = self.settings
        while True:
            # The fleet has run before: at the start there are a policy and the data for the next.
            for robot in self.robots:
                self.env.process(self._offer(robot, s.training_time * robot.number / s.robots))
            while self.pool < s.train_every:
                self.more = self.env.event()
                yield self.more
            self.pool = 0.0
            asked = self.env.now
            with self.trainers.request() as computer:
                yield computer
                self.outcome.trainer_waits.append(self.env.now - asked)
                yield self.env.timeout(s.training_time)
            self._trained(s.training_time)

    def _offer(self, robot: "_Robot", later: float) -> Events:
        yield self.env.timeout(later)
        robot.update_waits = True
        robot.nudge()

    def _trained(self, hours: float) -> None:
        self.outcome.trainings += 1
        self.outcome.trained_hours += hours

    def open_after(self, hours: float) -> float:
        """Hours until people whose day has `hours` are there; 0 while they are."""
        into = self.env.now % DAY
        return 0.0 if into < hours else DAY - into


class _Robot:
    """One robot: what it has done, and the process that does it."""

    def __init__(self, fleet: _Fleet, number: int) -> None:
        self.fleet, self.env, self.number = fleet, fleet.env, number
        self.rng = fleet.rng.spawn(1)[0]
        self.process: Any = None
        self.doing, self.since = "off", 0.0
        self.progress = 0.0
        """Episodes, the one under way as a part of one."""
        self.collected = self.arrived = 0
        self.since_training = 0.0
        self.update_waits = False
        self.outbox = 0
        self.sending = False
        self.renewals: list[tuple[float, int]] = []
        """When a cycle of training or updating ended, and what had arrived by then."""

    # What it does

    def live(self) -> Events:
        s, env = self.fleet.settings, self.env
        until_help = self._until_help()
        until_break = self._until_break()
        lone = not s.pooled
        while True:
            if self.update_waits:
                yield from self._update()
            elif until_break <= TINY:
                yield from self._break_down()
                until_break = self._until_break()
            elif lone and self.since_training >= s.train_every - TINY:
                yield from self._train()
            elif until_help <= TINY:
                yield from self._be_helped()
                until_help = self._until_help()
            else:
                today = s.hours - worked(0.0, env.now, s.hours) % s.hours  # so that days are counted right
                work = min(until_help * s.cycle, until_break, today if today > TINY else s.hours)
                if lone:
                    work = min(work, (s.train_every - self.since_training) * s.cycle)
                start = env.now
                self._do("collecting")
                try:
                    yield env.timeout(calendar(start, work, s.hours) - start)
                    done = work
                except self.fleet.Interrupt:
                    done = worked(start, env.now, s.hours)
                self._collect(done / s.cycle)
                until_help -= done / s.cycle
                until_break -= done

    def _until_help(self) -> float:
        chance = self.fleet.settings.needs_help
        return float(self.rng.geometric(chance)) if chance > 0 else math.inf

    def _until_break(self) -> float:
        mtbf = self.fleet.settings.mtbf
        return float(self.rng.exponential(mtbf)) if mtbf > 0 else math.inf

    def _be_helped(self) -> Events:
        fleet, env = self.fleet, self.env
        asked = env.now
        self._do("waiting for help")
        with fleet.operators.request() as person:
            yield person
            yield env.timeout(fleet.open_after(fleet.settings.operator_hours))
            fleet.outcome.help_waits.append(env.now - asked)
            self._do("being helped")
            takes = self.rng.exponential(fleet.settings.help_time)
            yield env.timeout(takes)
        fleet.outcome.helps += 1
        fleet.outcome.helped_hours += takes

    def _break_down(self) -> Events:
        fleet, env, s = self.fleet, self.env, self.fleet.settings
        fleet.outcome.breakdowns += 1
        self._do("broken")
        yield env.timeout(self.rng.exponential(s.spare_time))
        with fleet.technicians.request() as person:
            yield person
            yield env.timeout(fleet.open_after(s.operator_hours))
            yield env.timeout(self.rng.exponential(s.mttr))

    def _train(self) -> Events:
        """A lone robot's own training, for which it stands."""
        fleet, env, s = self.fleet, self.env, self.fleet.settings
        asked = env.now
        self._do("waiting for a computer")
        with fleet.trainers.request() as computer:
            yield computer
            fleet.outcome.trainer_waits.append(env.now - asked)
            self._do("training")
            yield env.timeout(s.training_time)
        fleet._trained(s.training_time)
        self.since_training = 0.0
        self._renew()

    def _update(self) -> Events:
        self.update_waits = False
        self._do("updating")
        yield self.env.timeout(self.fleet.settings.update_time)
        self.fleet.outcome.updates += 1
        self._renew()

    def nudge(self) -> None:
        """Stop collecting, to look what is to be done."""
        if self.doing == "collecting":
            self.process.interrupt()

    # What comes of it

    def _collect(self, episodes: float) -> None:
        self.progress += episodes
        self.since_training += episodes
        whole = int(self.progress + 1e-6) - self.collected
        if whole:
            self.collected += whole
            self.fleet.outcome.collected += whole
            if self.fleet.settings.episode_size == 0:
                self.fleet.arrive(self, whole)
            else:
                self.outbox += whole
                if not self.sending:
                    self.env.process(self._send())

    def _send(self) -> Events:
        fleet = self.fleet
        self.sending = True
        while self.outbox:
            count = min(self.outbox, BATCH)
            with fleet.hub.request() as place:
                yield place
                yield self.env.timeout(count * fleet.settings.episode_size / fleet.upload_rate)
            self.outbox -= count
            fleet.arrive(self, count)
        self.sending = False

    def _do(self, what: str) -> None:
        self._account()
        self.doing = what

    def _account(self) -> None:
        now, spent = min(self.env.now, self.fleet.end), self.fleet.outcome.spent
        elapsed = now - self.since
        if self.doing == "collecting":
            work = worked(self.since, now, self.fleet.settings.hours)
            spent["collecting"] += work
            spent["off"] += elapsed - work
        else:
            spent[self.doing] += elapsed
        self.since = now

    def _renew(self) -> None:
        self.renewals.append((self.env.now, self.arrived))

    def close(self) -> None:
        """At the end: what was under way counts as far as it went."""
        if self.doing == "collecting":
            self._collect(
                worked(self.since, self.fleet.end, self.fleet.settings.hours) / self.fleet.settings.cycle
            )
        self._account()

    def rate(self) -> float:
        """Episodes a day that arrived in the long run: over whole cycles of training or updating, if there were two."""
        if len(self.renewals) >= 2:
            (start, before), (end, after) = self.renewals[0], self.renewals[-1]
            return (after - before) / (end - start) * DAY
        return self.arrived / self.fleet.settings.days


def calendar(start: float, work: float, hours: float) -> float:
    """The time at which `work` hours have been worked since `start`, when the first `hours` of each day are worked."""
    before = worked(0.0, start, hours)
    total = before + work
    days = math.floor(total / hours + TINY)
    rest = max(total - days * hours, 0.0)
    if rest <= TINY and days:
        return max((days - 1) * DAY + hours, start)
    return max(days * DAY + rest, start)


def worked(start: float, end: float, hours: float) -> float:
    """Hours that were worked from `start` to `end`."""

    def until(time: float) -> float:
        days = math.floor(time / DAY)
        return days * hours + min(time - days * DAY, hours)

    return until(end) - until(start)
