"""Where a rollout stands: episodes in the order in which they arrived in, stages and verdicts out.

Nothing else decides, so that a hub that was killed finds the same state again in the episodes that it has stored.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.benchmarks.sequential import Bet, Game
from pipelines.fleet.rollout.evidence import (
    EFFECTS,
    against_as_good,
    against_worse,
    block,
    mean_of_exponentials,
)
from pipelines.fleet.rollout.plan import Member, Plan
from sim2real.statistics import wilson_interval

Verdict = Literal["passed", "failed", "inconclusive"]
State = Literal["running", "waiting", "passed", "failed", "inconclusive"]

MOST_STABLE = 8
"""Episodes of the stable policy that one of the candidate is held against: more say little more."""

ENOUGH = 30
"""Episodes of the stable policy that make a record, where no robot runs it any more."""

CURVE = 400
"""Points of a stage's curve that are kept, at most."""

WHOLE = "all"

Cell = tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One episode of a robot. success: None where nobody judged it. safety_events: what the arm's own guards stopped,
    as the registry counts them."""

    robot: str
    policy: str
    success: bool | None
    safety_events: int = 0


@dataclass
class Tally:
    """What one stage says of the whole fleet or of one group: counts, and evidence as logarithms."""

    delta: float
    episodes: int = 0
    successes: int = 0
    stable_episodes: int = 0
    stable_successes: int = 0
    not_worse: float = 0.0
    """log evidence against "worse by delta or more", of this stage alone."""

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"delta": self.delta, "log_evidence_not_worse": self.not_worse}
        for name, won, of in (
            ("candidate", self.successes, self.episodes),
            ("stable", self.stable_successes, self.stable_episodes),
        ):
            low, high = wilson_interval(won, of) if of else (0.0, 1.0)
            found[name] = {
                "episodes": of,
                "successes": won,
                "success_rate": won / of if of else None,
                "interval_95": [low, high],
            }
        return found


@dataclass
class Stage:
    """One stage as far as it has come. bar: the log evidence that it takes to pass."""

    robots: int
    bar: float
    tallies: dict[str, Tally]
    verdict: Verdict = "inconclusive"
    reason: str = ""
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    """(episodes of the candidate, evidence that it is not worse, that it is worse), logarithms in units of the bar:
    1 is decided."""
    game: Game | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "robots": self.robots,
            "log_evidence_to_pass": self.bar,
            "verdict": self.verdict,
            "reason": self.reason,
            "groups": {name: tally.to_dict() for name, tally in self.tallies.items()},
            "curve": [list(point) for point in self.curve],
        }


class Progress:
    """A rollout under way. `add` episodes as they arrive; `stage` is the one that runs, None when all is over.

    record: episodes of the stable policy before the rollout, (successes, episodes) by robot. They say what rate to
    expect, and stand in where no robot runs the stable policy any more.
    """

    def __init__(self, plan: Plan, record: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.plan = plan
        self.state: State = "running"
        self.reason = ""
        self.stages: list[Stage] = []
        self.safety_events = 0
        self.ignored = 0
        """Episodes of neither policy, of robots outside the plan, or that nobody judged."""
        self._robots = {robot.name: robot for robot in plan.robots}
        self._bar = math.log(1 / plan.rules.alpha)
        self._stable: dict[Cell, list[float]] = {robot.cell: [0.0, 0.0] for robot in plan.robots}
        for name, (won, of) in (record or {}).items():
            if name in self._robots and of > 0:
                self._stable[self._robots[name].cell][0] += won
                self._stable[self._robots[name].cell][1] += of
        # Evidence that it is worse goes on over all stages: by effect, for the whole fleet and for each group.
        self._worse = {name: [0.0] * len(EFFECTS) for name in (WHOLE, *plan.groups)}
        self._waiting: dict[Cell, tuple[deque[bool], deque[bool]]] = {}
        self._ratio: dict[Cell, int] = {}
        self._begin()

    @property
    def stage(self) -> int | None:
        """The stage whose robots run the candidate; None: all robots go back to, or stay with, one policy."""
        return len(self.stages) - 1 if self.state in ("running", "waiting") else None

    @property
    def over(self) -> bool:
        return self.state not in ("running", "waiting")

    @property
    def episodes(self) -> int:
        """Judged episodes with the candidate, over all stages."""
        return sum(stage.tallies[WHOLE].episodes for stage in self.stages)

    def policy(self, robot: str) -> str:
        """What a robot runs now. After a rollout that passed, the candidate; after one that failed, the stable policy;
        an inconclusive one leaves everybody with what the last stage gave."""
        if self.state == "failed":
            return self.plan.stable
        return self.plan.policy(robot, len(self.stages) - 1)

    def rule(self, robot: str) -> dict[str, Any] | None:
        """By what a robot leaves its policy by itself, also while it is offline, and for which: what it keeps on its
        own disk. None for a robot that runs the last good policy."""
        plan = self.plan
        if self.state == "passed" or self.policy(robot) != plan.candidate:
            return None
        back = {"fallback": plan.stable} if plan.stable else {}
        return {**back, "max_safety_events": plan.rules.max_safety_events, "max_episodes": plan.rules.alone}

    def add(self, outcome: Outcome) -> None:
        """Take in the next episode. After the end nothing changes any more."""
        robot = self._robots.get(outcome.robot)
        if self.over:
            return
        if robot is None or outcome.policy not in (self.plan.candidate, self.plan.stable):
            self.ignored += 1
            return
        if outcome.policy == self.plan.candidate:
            self.safety_events += outcome.safety_events
            if self.safety_events > self.plan.rules.max_safety_events:
                self._fail(
                    f"{self.safety_events} safety events with the candidate, the last one on {robot.name}"
                )
                return
        if outcome.success is None:
            self.ignored += 1
        elif outcome.policy == self.plan.candidate:
            self._candidate(robot, outcome.success)
        else:
            self._stable_episode(robot, outcome.success)

    def abort(self, reason: str) -> None:
        """End the rollout by hand: everybody goes back to the stable policy."""
        if not self.over:
            self._fail(reason)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rollout": self.plan.rollout,
            "candidate": self.plan.candidate,
            "stable": self.plan.stable,
            "state": self.state,
            "reason": self.reason,
            "stage": self.stage,
            "sizes": list(self.plan.sizes),
            "episodes": self.episodes,
            "safety_events": self.safety_events,
            "ignored": self.ignored,
            "uncovered": list(self.plan.uncovered(len(self.stages) - 1)),
            "evidence_worse": self.evidence_worse,
            "stages": [stage.to_dict() for stage in self.stages],
        }

    @property
    def evidence_worse(self) -> float:
        """log evidence that the candidate is worse, in the whole fleet or in some group, in units of the bar."""
        whole, groups = self._worse_logs()
        logs = [whole, mean_of_exponentials(list(groups.values()))] if groups else [whole]
        return mean_of_exponentials(logs) / self._bar

    def _worse_logs(self) -> tuple[float, dict[str, float]]:
        logs = {name: mean_of_exponentials(each) for name, each in self._worse.items()}
        return logs.pop(WHOLE), logs

    def _begin(self) -> None:
        plan, rules, index = self.plan, self.plan.rules, len(self.stages)
        chosen, rest = plan.robots[: plan.sizes[index]], plan.robots[plan.sizes[index] :]
        tallies = {WHOLE: Tally(rules.delta)}
        for name in plan.groups:
            if any(name in robot.groups for robot in chosen):
                tallies[name] = Tally(rules.margin_of_groups)
        self._waiting = {robot.cell: (deque(maxlen=64), deque(maxlen=64 * MOST_STABLE)) for robot in chosen}
        self._ratio = {}
        for cell in self._waiting:
            here = sum(robot.cell == cell for robot in chosen)
            others = sum(robot.cell == cell for robot in rest)
            self._ratio[cell] = min(max(others // here, 1), MOST_STABLE) if others else 0
        game = None if rules.min_success is None else Game(Bet(rules.min_success, rules.alpha))
        # The canary's stage is the one that spares all other robots a bad policy: it asks for twice the evidence.
        bar = self._bar if index else self._bar + math.log(2)
        self.stages.append(Stage(len(chosen), bar, tallies, game=game))

    def _stable_episode(self, robot: Member, success: bool) -> None:
        # An episode counts for the rate to expect only once it has been compared, or will not be.
        record = self._stable[robot.cell]
        if robot.cell in self._waiting and self._ratio[robot.cell]:
            for name in self._names(robot):
                tally = self.stages[-1].tallies[name]
                tally.stable_episodes += 1
                tally.stable_successes += success
            queue = self._waiting[robot.cell][1]
            if len(queue) == queue.maxlen:
                _count(record, queue.popleft())
            queue.append(success)
            self._blocks(robot)
        else:
            _count(record, success)

    def _candidate(self, robot: Member, success: bool) -> None:
        stage = self.stages[-1]
        if robot.cell not in self._waiting:
            self.ignored += 1  # A robot that ran the candidate before its stage.
            return
        for name in self._names(robot):
            stage.tallies[name].episodes += 1
            stage.tallies[name].successes += success
        if stage.game is not None:
            stage.game.add(float(success))
        if self.plan.stable:
            self._waiting[robot.cell][0].append(success)
            self._blocks(robot)
        if not self.plan.stable:
            self._judge()

    def _names(self, robot: Member) -> tuple[str, ...]:
        return (WHOLE, *robot.groups)

    def _blocks(self, robot: Member) -> None:
        mine, theirs = self._waiting[robot.cell]
        k, taken = self._ratio[robot.cell], False
        while mine and len(theirs) >= k:
            won, of = self._known(robot.cell)
            if not k and of < ENOUGH:
                break
            success = mine.popleft()
            beside = [theirs.popleft() for _ in range(k)]
            self._take(robot, success, k or None, sum(beside), (won + 1) / (of + 2))
            for each in beside:
                _count(self._stable[robot.cell], each)
            taken = True
        if taken:
            self._judge()

    def stable_record(self) -> tuple[float, float]:
        """Successes and episodes of the stable policy so far, before the rollout and in it."""
        return (
            sum(record[0] for record in self._stable.values()),
            sum(record[1] for record in self._stable.values()),
        )

    def _known(self, cell: Cell) -> tuple[float, float]:
        """Successes and episodes of the stable policy in a cell so far, or everywhere if it has no record there."""
        won, of = self._stable[cell]
        return (won, of) if of >= ENOUGH else self.stable_record()

    def _take(self, robot: Member, success: bool, k: int | None, beside: int, rate: float) -> None:
        rules, rate = self.plan.rules, round(rate, 2)
        worse = [
            block(against_as_good(rate, effect * rules.delta, k), success, k, beside) for effect in EFFECTS
        ]
        for name in self._names(robot):
            tally = self.stages[-1].tallies[name]
            tally.not_worse += block(against_worse(rate, tally.delta, k), success, k, beside)
            logs = self._worse[name]
            for i, each in enumerate(worse):
                logs[i] += each

    def _judge(self) -> None:
        stage, rules = self.stages[-1], self.plan.rules
        whole = stage.tallies[WHOLE]
        worse = self.evidence_worse
        _draw(stage.curve, (whole.episodes, whole.not_worse / stage.bar, worse))
        if worse >= 1:
            self._fail(self._worst())
        elif stage.game is not None and stage.game.verdict == "below":
            self._fail(
                f"success is below {rules.min_success:g}: {whole.successes} of {whole.episodes} episodes"
            )
        elif not (missing := self._missing()):
            stage.verdict, stage.reason = "passed", f"not worse than the stable policy by {rules.delta:g}"
            if not self.plan.stable:
                stage.reason = f"success is at least {rules.min_success:g}"
            self._next()
        else:
            stage.reason = missing
            if whole.episodes >= rules.patience:
                self._undecided(stage, missing)

    def _missing(self) -> str:
        """What a stage still has to show, "" if nothing."""
        stage = self.stages[-1]
        if self.plan.stable:
            short = [name for name, tally in stage.tallies.items() if tally.not_worse < stage.bar]
            if short:
                return f"not yet shown to be as good as the stable policy: {', '.join(short)}"
        if stage.game is not None and stage.game.verdict != "above":
            return f"not yet shown to succeed in {self.plan.rules.min_success:g} of the episodes"
        return ""

    def _worst(self) -> str:
        whole, groups = self._worse_logs()
        name = max(groups, key=lambda group: groups[group], default=WHOLE)
        if not groups or whole >= groups[name] - math.log(len(groups)):
            name = WHOLE
        tally = self.stages[-1].tallies.get(name)
        where = "" if name == WHOLE else f" where {name}"
        said = f"worse than the stable policy{where}"
        if tally is None or not tally.episodes:
            return said
        return (
            f"{said}: {tally.successes} of {tally.episodes} episodes, the stable one {tally.stable_successes} of \
{tally.stable_episodes}"
        )

    def _undecided(self, stage: Stage, missing: str) -> None:
        if self.plan.rules.on_inconclusive == "continue":
            stage.verdict = "inconclusive"
            self._next()
        else:
            self.state, self.reason = "waiting", f"stage {len(self.stages)}: {missing}"

    def _next(self) -> None:
        if len(self.stages) < len(self.plan.sizes):
            self.state, self.reason = "running", ""
            for cell, (_, theirs) in self._waiting.items():
                for each in theirs:
                    _count(self._stable[cell], each)
            self._begin()
            return
        open_stages = [str(i) for i, stage in enumerate(self.stages, 1) if stage.verdict != "passed"]
        self.state = "inconclusive" if open_stages else "passed"
        self.reason = f"nothing was shown at stage {', '.join(open_stages)}" if open_stages else ""

    def _fail(self, reason: str) -> None:
        self.stages[-1].verdict, self.stages[-1].reason = "failed", reason
        self.state, self.reason = "failed", reason


def _count(record: list[float], success: bool) -> None:
    record[0] += success
    record[1] += 1


def _draw(curve: list[tuple[int, float, float]], point: tuple[int, float, float]) -> None:
    curve.append(point)
    if len(curve) > CURVE:
        del curve[1:-1:2]


def follow(
    plan: Plan, outcomes: Iterable[Outcome], record: Mapping[str, tuple[int, int]] | None = None
) -> Progress:
    """The state of a rollout after `outcomes`, in the order in which they arrived."""
    progress = Progress(plan, record)
    for outcome in outcomes:
        progress.add(outcome)
    return progress
