"""Rollouts over simulated robots whose true success is known: how often a plan is right, and how soon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.fleet.rollout.plan import STAGES, Member, Rules, make_plan
from pipelines.fleet.rollout.progress import Outcome, Progress


@dataclass(frozen=True)
class Finish:
    """How one simulated rollout ended. episodes: judged ones with the candidate; ran: robots that ever ran it."""

    state: str
    reason: str
    stages: int
    episodes: int
    ran: int
    canary: int
    safety_events: int


def simulated_fleet(robots: int, sites: int = 4, firmwares: int = 3, cameras: int = 2) -> tuple[Member, ...]:
    """Robots over sites, firmwares and cameras, in numbers that do not divide each other."""
    return tuple(
        Member(
            f"arm-{i:04d}",
            f"site {i % sites + 1}",
            f"1.{i // sites % firmwares}",
            f"camera {i // 7 % cameras + 1}",
        )
        for i in range(robots)
    )


def simulate(
    rng: np.random.Generator,
    *,
    robots: Sequence[Member],
    stable: float,
    difference: float,
    stages: str = STAGES,
    rules: Rules | None = None,
    spread: float = 0.05,
    worse_where: Mapping[str, float] | None = None,
    danger: float = 0.0,
    record: int = 50,
    most: int = 20_000,
) -> Finish:
    """One rollout of a candidate whose success is `stable` + `difference` on average.

    spread: how much sites differ (standard deviation of the rate, both policies alike). worse_where: further
    differences of the candidate by group, `{"firmware=1.2": -0.3}`. danger: chance of a safety event in an episode
    with the candidate. record: episodes that each robot has from before. most: episodes of the candidate after which
    the simulation gives up. Robots work side by side, in random order.
    """
    plan = make_plan(f"simulated-{rng.integers(1 << 62)}", "candidate", "stable", robots, stages, rules)
    by_site = {site: rng.normal(0.0, spread) for site in sorted({robot.site for robot in robots})}
    old = {robot.name: float(np.clip(stable + by_site[robot.site], 0.02, 0.98)) for robot in robots}
    new = {
        robot.name: float(
            np.clip(
                old[robot.name] + difference + sum((worse_where or {}).get(g, 0.0) for g in robot.groups),
                0.0,
                1.0,
            )
        )
        for robot in robots
    }
    before = {name: (int(rng.binomial(record, rate)), record) for name, rate in old.items()}
    progress = Progress(plan, before if record else None)
    ran: set[str] = set()
    names = [robot.name for robot in robots]
    while not progress.over and progress.episodes < most:
        with_candidate = {robot.name for robot in plan.stage_robots(progress.stage or 0)}
        ran |= with_candidate
        order, luck, harm = rng.permutation(len(names)), rng.random(len(names)), rng.random(len(names))
        for i in order:
            name = names[i]
            if name in with_candidate:
                outcome = Outcome(name, "candidate", bool(luck[i] < new[name]), int(harm[i] < danger))
            else:
                outcome = Outcome(name, "stable", bool(luck[i] < old[name]))
            progress.add(outcome)
    return Finish(
        progress.state,
        progress.reason,
        len(progress.stages),
        progress.episodes,
        len(ran),
        plan.sizes[0],
        progress.safety_events,
    )
