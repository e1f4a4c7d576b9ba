"""Statistics of benchmarks: closed forms, and error rates by simulation with fixed seeds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from pipelines.benchmarks.sequential import Bet, Wald
from pipelines.benchmarks.statistics import (
    holm,
    interquartile_mean,
    letters,
    mean_rate,
    profile,
    unpaired,
)
from pipelines.benchmarks.trials import plan_trials
from sim2real.errors import UserError
from sim2real.statistics import wilson_interval


@pytest.mark.parametrize(
    ("before", "after", "trials"), [(0.8, 0.9, 154), (0.75, 0.85, 196), (0.93, 0.97, 353)]
)
def test_how_many_trials_a_difference_needs(before: float, after: float, trials: int) -> None:
    assert plan_trials(before, after).trials_per_arm == trials
    assert plan_trials(after, before).trials_per_arm == trials


@given(st.floats(0.02, 0.95), st.floats(0.02, 0.95), st.floats(0.01, 0.2), st.floats(0.6, 0.95))
def test_planned_trials_are_those_of_statsmodels(a: float, b: float, alpha: float, power: float) -> None:
    if not 0.02 < abs(a - b) < 0.25:
        return  # its root finder gives up on a handful of trials
    effect = abs(proportion_effectsize(a, b))
    expected = NormalIndPower().solve_power(effect, alpha=alpha, power=power, alternative="larger")
    found = plan_trials(a, b, alpha=alpha, power=power).trials_per_arm
    assert math.ceil(expected - 1e-3) <= found <= math.ceil(expected + 1e-3)


@pytest.mark.parametrize(
    ("before", "after"), [(0.0, 0.5), (0.5, 1.0), (1.2, 0.5), (float("nan"), 0.5), (0.5, 0.5)]
)
def test_rates_that_cannot_be_planned_for_are_refused(before: float, after: float) -> None:
    with pytest.raises(UserError):
        plan_trials(before, after)


def test_one_task_has_wilsons_interval() -> None:
    found = mean_rate([18], [20])
    assert (found.low, found.high) == wilson_interval(18, 20)
    assert found.value == 0.9


def test_tasks_count_alike_however_many_trials_they_had() -> None:
    assert mean_rate([10, 0], [10, 1000]).value == 0.5


def test_trials_that_all_succeed_prove_no_certainty() -> None:
    found = mean_rate([20, 20], [20, 20])
    assert (found.low, found.high) == wilson_interval(40, 40)


def test_tasks_that_stand_for_others_widen_the_interval() -> None:
    won, of = [20, 20, 2, 1, 20], [20] * 5
    given_tasks, sampled = mean_rate(won, of), mean_rate(won, of, sampled=True)
    assert sampled.high - sampled.low > 2 * (given_tasks.high - given_tasks.low)


def test_the_suites_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(5)
    rates = np.array([0.95, 0.9, 0.6, 0.8])
    inside = 0
    for seed in range(200):
        found = mean_rate(rng.binomial(20, rates), np.full(4, 20), seed=seed, resamples=400)
        inside += found.low <= rates.mean() <= found.high
    assert inside / 200 > 0.89


@pytest.mark.parametrize(("won", "of"), [([], []), ([3], [2]), ([-1], [2]), ([0], [0]), ([1, 2], [3])])
def test_counts_that_cannot_be_are_refused(won: list[int], of: list[int]) -> None:
    with pytest.raises(UserError):
        mean_rate(won, of)


def test_unpaired_trials_of_one_task() -> None:
    # R. Newcombe, "Interval estimation for the difference between independent proportions", 1998, example (a).
    found = unpaired([48], [80], [56], [70])
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.p < 0.02


def test_unpaired_trials_of_several_tasks_do_not_fall_for_simpsons_paradox() -> None:
    # The second policy is better on both tasks, though it succeeded less often in all.
    found = unpaired([81, 192], [87, 263], [234, 55], [250, 70])
    assert found.difference > 0 and found.p > 0.05
    same = unpaired([10, 10], [10, 10], [10, 10], [10, 10])
    assert same.p == 1.0 and same.low < -0.1 and same.high > 0.1


def test_holm_corrects_for_several_tests() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_letters_are_shared_by_those_that_cannot_be_told_apart() -> None:
    same = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)
    assert letters(["a", "b", "c"], same) == {"a": "a", "b": "ab", "c": "b"}


@given(st.integers(2, 6), st.integers(0, 2**15 - 1))
def test_letters_say_exactly_which_pairs_differ(count: int, bits: int) -> None:
    same = np.eye(count, dtype=bool)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for k, (i, j) in enumerate(pairs):
        same[i, j] = same[j, i] = bool(bits >> k & 1)
    names = [f"p{i}" for i in range(count)]
    found = letters(names, same)
    for i, j in pairs:
        assert bool(set(found[names[i]]) & set(found[names[j]])) == same[i, j]


def test_middle_half_and_profile() -> None:
    assert interquartile_mean([0.0, 0.5, 0.7, 1.0]) == pytest.approx(0.6)
    assert profile([0.2, 0.5, 0.9], [0.1, 0.5, 0.95]).tolist() == pytest.approx([1.0, 1 / 3, 0.0])


def test_walds_test_errs_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(1)
    test = Wald(0.8, 0.9, alpha=0.05, beta=0.1)
    low = [test.verdict(rng.random(2000) < 0.8)[0] for _ in range(1500)]
    high = [test.verdict(rng.random(2000) < 0.9)[0] for _ in range(1500)]
    assert low.count("above") / 1500 < 0.065
    assert high.count("below") / 1500 < 0.115
    assert "open" not in low + high


def test_walds_test_ends_sooner_than_a_fixed_number_of_trials() -> None:
    rng = np.random.default_rng(2)
    counts = [Wald(0.8, 0.9).verdict(rng.random(2000) < 0.9)[1] for _ in range(400)]
    assert np.median(counts) < plan_trials(0.8, 0.9, power=0.95).trials_per_arm / 2


@pytest.mark.parametrize("rate", [0.5, 0.85, 0.97])
def test_a_bet_against_the_truth_is_rarely_won_however_often_one_looks(rate: float) -> None:
    rng = np.random.default_rng(3)
    verdicts = [Bet(rate).verdict((rng.random(1000) < rate).tolist())[0] for _ in range(800)]
    assert (800 - verdicts.count("open")) / 800 < 0.06


def test_a_bet_is_won_where_the_claim_is_wrong() -> None:
    rng = np.random.default_rng(4)
    better = [Bet(0.8).verdict((rng.random(400) < 0.95).tolist()) for _ in range(200)]
    worse = [Bet(0.8).verdict((rng.random(400) < 0.6).tolist()) for _ in range(200)]
    assert [v for v, _ in better].count("above") > 195
    assert [v for v, _ in worse].count("below") > 195
    assert np.median([n for _, n in better]) < 120


@given(st.lists(st.floats(0.0, 1.0), max_size=60), st.floats(0.05, 0.95))
def test_a_bet_never_loses_more_than_it_has(outcomes: list[float], rate: float) -> None:
    verdict, count = Bet(rate).verdict(outcomes)
    assert verdict in ("above", "below", "open") and 0 <= count <= len(outcomes)


@pytest.mark.parametrize(
    "make", [lambda: Wald(0.9, 0.8), lambda: Wald(0.0, 0.5), lambda: Bet(1.0), lambda: Bet(0.0)]
)
def test_tests_without_an_answer_are_refused(make: object) -> None:
    with pytest.raises(UserError):
        make()  # type: ignore[operator]
