"""Staged rollouts: who runs what when, what episodes say, and what a robot keeps. Logic alone, closed forms."""

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.benchmarks.sequential import Bet, Game
from pipelines.fleet.rollout.evidence import against_as_good, against_worse, block
from pipelines.fleet.rollout.plan import Member, Plan, Rules, make_plan, order, parse_stages, sizes_of
from pipelines.fleet.rollout.progress import Outcome, Progress, follow
from pipelines.fleet.rollout.simulate import simulate, simulated_fleet
from sim2real.errors import UserError

FLEET = simulated_fleet(40)


def plan(stages: str = "1,10%,50%,100%", robots: tuple[Member, ...] = FLEET, **rules: object) -> Plan:
    return make_plan("r1", "new", "old", robots, stages, Rules(**rules))  # type: ignore[arg-type]


# Evidence


def mean_evidence(ratio: tuple[float, ...], k: int | None, a: float, b: float) -> float:
    """The mean of exp(block) when the true rates are a and b."""
    total = 0.0
    for success, beside in product((True, False), range((k or 0) + 1)):
        chance = (
            (b if success else 1 - b) * math.comb(k or 0, beside) * a**beside * (1 - a) ** ((k or 0) - beside)
        )
        total += chance * math.exp(block(ratio, success, k, beside))  # type: ignore[arg-type]
    return total


@given(
    st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 0.4), st.integers(1, 8), st.floats(0.01, 0.99)
)
def test_no_evidence_grows_on_average_while_its_claim_holds(
    a: float, gap: float, delta: float, k: int, expected: float
) -> None:
    worse = max(a - delta - gap, 0.0)
    if a - delta >= 0:
        assert mean_evidence(against_worse(expected, delta, k), k, a, worse) <= 1 + 1e-9
        if abs(round(expected, 3) - a) < 1e-9:
            assert mean_evidence(against_worse(expected, delta, None), None, a, worse) <= 1 + 1e-9
    better = min(a + gap, 1.0)
    assert mean_evidence(against_as_good(expected, delta, k), k, a, better) <= 1 + 1e-9


def test_with_a_known_rate_evidence_is_walds_ratio() -> None:
    good, bad = against_worse(0.8, 0.1, None)[:2], against_as_good(0.8, 0.1, None)[:2]
    assert good == pytest.approx((math.log(0.8 / 0.7), math.log(0.2 / 0.3)))
    assert bad == pytest.approx((math.log(0.7 / 0.8), math.log(0.3 / 0.2)))
    # Many stable episodes to one of the candidate come to the same.
    assert against_worse(0.8, 0.1, 100_000)[:2] == pytest.approx(good, abs=1e-3)


def test_evidence_grows_when_its_claim_is_wrong() -> None:
    for k in (1, 4, 8, None):
        for rate in (0.5, 0.85, 0.97):
            assert mean_evidence(against_worse(rate, 0.1, k), k, rate, rate) > 1
            assert mean_evidence(against_as_good(rate, 0.1, k), k, rate, rate - 0.1) > 1


def test_a_bet_one_outcome_at_a_time_is_the_bet() -> None:
    outcomes = (np.random.default_rng(3).random(500) < 0.9).tolist()
    game = Game(Bet(0.8))
    for outcome in outcomes:
        game.add(outcome)
    assert (game.verdict, game.count) == Bet(0.8).verdict(outcomes) == ("above", game.count)


# Plans


def test_stages_are_numbers_and_shares() -> None:
    assert sizes_of(parse_stages("1, 10%,50%,100%"), 100) == (1, 10, 50, 100)
    assert sizes_of(parse_stages("1,10%,50%,100%"), 4) == (1, 2, 4)
    assert sizes_of(parse_stages("2.5%"), 100) == (3,)
    for text in ("", "0", "0%", "101%", "1.5", "ten", "-1", "1,,2", "٣", "10 %x"):
        with pytest.raises(UserError, match="stage"):
            parse_stages(text)
    with pytest.raises(UserError, match="must grow"):
        sizes_of(parse_stages("50%,10%"), 100)
    with pytest.raises(UserError, match="there are 4"):
        sizes_of(parse_stages("5"), 4)


def test_every_prefix_of_the_order_mirrors_the_fleet() -> None:
    ordered = order(FLEET, "r1")
    assert sorted(robot.name for robot in ordered) == sorted(robot.name for robot in FLEET)
    assert order(reversed(FLEET), "r1") == ordered != order(FLEET, "r2")
    groups = plan().groups
    for k in range(1, len(FLEET) + 1):
        taken = [group for robot in ordered[:k] for group in robot.groups]
        for group, size in groups.items():
            assert abs(taken.count(group) - size * k / len(FLEET)) < 2


def test_a_canary_can_be_reached() -> None:
    robots = [Member(f"r{i}", reachable=i == 7) for i in range(10)]
    assert order(robots, "r1")[0].name == "r7"


def test_who_has_the_candidate_keeps_it_through_the_stages() -> None:
    staged = plan()
    for stage in range(1, len(staged.sizes)):
        assert set(staged.stage_robots(stage - 1)) < set(staged.stage_robots(stage))
    assert staged.policy(staged.robots[0].name, 0) == "new"
    assert staged.policy(staged.robots[1].name, 0) == staged.policy(staged.robots[0].name, None) == "old"
    assert "site=site 1" in staged.groups and len(staged.uncovered(0)) == len(staged.groups) - 3
    assert Plan.from_dict(json.loads(json.dumps(staged.to_dict()))) == staged


def test_plans_that_decide_nothing_are_refused() -> None:
    for rules in ({"delta": 0}, {"alpha": 1}, {"min_success": 90}, {"alone": -1}, {"patience": 0}):
        with pytest.raises(UserError):
            plan(**rules)
    with pytest.raises(UserError, match="no stable policy"):
        make_plan("r", "new", "", FLEET)
    with pytest.raises(UserError, match="names of their own"):
        make_plan("r", "new", "old", [Member("a"), Member("a")])
    with pytest.raises(UserError, match="no plan"):
        Plan.from_dict({"rollout": "x"})


# Progress


def test_nothing_passes_silently() -> None:
    """A stage with few episodes is inconclusive, and stays so: it waits unless it is told to go on."""
    canary = plan().robots[0].name
    outcomes = [Outcome(canary, "new", i % 5 > 0) for i in range(60)]
    waiting = follow(plan(patience=50), outcomes)
    assert (waiting.state, waiting.stage, waiting.stages[0].verdict) == ("running", 0, "inconclusive")
    alone = (Member("a"), Member("b"))
    both = [Outcome(name, policy, True) for name, policy in (("a", "new"), ("b", "old"))]
    staged = make_plan("r1", "new", "old", alone, "1,100%", Rules(delta=0.01, patience=10))
    first = staged.robots[0].name
    both = [
        Outcome(name, "new" if name == first else "old", i % 2 == 0) for i in range(12) for name in ("a", "b")
    ]
    assert follow(staged, both).state == "waiting"
    onward = make_plan(
        "r1", "new", "old", alone, "1,100%", Rules(delta=0.01, patience=10, on_inconclusive="continue")
    )
    went_on = follow(onward, both)
    assert (went_on.stage, went_on.stages[0].verdict, went_on.policy("b")) == (1, "inconclusive", "new")
    for i in range(20):
        went_on.add(Outcome("a", "new", i % 2 == 0))
        went_on.add(Outcome("a", "old", i % 2 == 0))
    assert went_on.state in ("running", "inconclusive")


def test_a_safety_event_ends_it_at_once_and_everybody_goes_back() -> None:
    progress = Progress(plan())
    canary = progress.plan.robots[0].name
    progress.add(Outcome(canary, "old", True, safety_events=3))
    assert progress.policy(canary) == "new"
    progress.add(Outcome(canary, "new", None, safety_events=1))
    assert (progress.state, progress.stage, progress.policy(canary)) == ("failed", None, "old")
    assert "safety event" in progress.reason and canary in progress.reason
    before = json.dumps(progress.to_dict())
    progress.add(Outcome(canary, "new", True))
    assert json.dumps(progress.to_dict()) == before


def test_episodes_of_others_count_for_nothing() -> None:
    progress = follow(
        plan(), [Outcome("stranger", "new", False, 5), Outcome(FLEET[0].name, "third", False, 5)]
    )
    assert (progress.state, progress.ignored, progress.episodes) == ("running", 2, 0)


def test_without_a_stable_policy_the_least_success_decides() -> None:
    staged = make_plan("r", "new", "", FLEET[:2], "1,100%", Rules(min_success=0.8))
    name = staged.robots[0].name
    passed = follow(staged, [Outcome(name, "new", True)] * 400)
    assert passed.state == "passed"
    failed = follow(staged, [Outcome(name, "new", i % 2 == 0) for i in range(400)])
    assert failed.state == "failed" and "0.8" in failed.reason


def test_bad_candidates_go_back_from_the_canary_and_equal_ones_pass() -> None:
    """The figures of benchmarks/rollouts.py, on fewer and smaller fleets."""
    ends = {
        difference: [
            simulate(np.random.default_rng([5, i]), robots=FLEET, stable=0.85, difference=difference)
            for i in range(16)
        ]
        for difference in (-0.1, 0.0)
    }
    bad, equal = ends[-0.1], ends[0.0]
    assert sum(end.state == "failed" and end.ran == 1 for end in bad) >= 14
    assert sum(end.state == "passed" and end.ran == 40 for end in equal) >= 13


def test_one_bad_firmware_does_not_hide_in_the_mean() -> None:
    for seed in range(8):
        end = simulate(
            np.random.default_rng([6, seed]),
            robots=FLEET,
            stable=0.85,
            difference=0.08,
            spread=0.0,
            worse_where={"firmware=1.2": -0.35},
        )
        assert end.state == "failed" and end.ran < 40, end


# What a robot keeps


def test_a_robot_with_the_candidate_knows_its_way_back() -> None:
    progress = Progress(plan())
    canary, other = progress.plan.robots[0].name, progress.plan.robots[1].name
    assert progress.rule(canary) == {"fallback": "old", "max_safety_events": 0, "max_episodes": 100}
    assert progress.rule(other) is None
    progress.abort("by hand")
    assert (progress.policy(canary), progress.rule(canary), progress.reason) == ("old", None, "by hand")
    first = Progress(make_plan("r", "new", "", FLEET, "1,100%", Rules(min_success=0.5)))
    assert "fallback" not in (first.rule(first.plan.robots[0].name) or {"fallback": ""})
