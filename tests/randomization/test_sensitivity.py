"""Sensitivity: Ishigami's known indices, planted causes, interval coverage, maps and curves."""

import numpy as np
import pytest

from randomization.designs import load_design, saltelli_draws
from randomization.sensitivity import (
    bin_labels,
    dependence,
    first_order,
    pick_freeze,
    strongest_pairs,
)
from sim2real.errors import UserError
from sim2real.statistics import wilson_interval


def ishigami(u):
    """Ishigami and Homma 1990, a = 7, b = 0.1, on (0, 1)³."""
    x = np.pi * (2 * u - 1)
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


_V1, _V2, _V13 = (1 + 0.1 * np.pi**4 / 5) ** 2 / 2, 49 / 8, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
_V = _V1 + _V2 + _V13
FIRST = {"x1": _V1 / _V, "x2": _V2 / _V, "x3": 0.0}
TOTAL = {"x1": (_V1 + _V13) / _V, "x2": _V2 / _V, "x3": _V13 / _V}
NAMES = ["x1", "x2", "x3"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pick_freeze_gives_ishigamis_indices(seed):
    points = load_design("saltelli").points(saltelli_draws(4096, 3), 3, seed)
    for found in pick_freeze(ishigami(points), NAMES, resamples=20):
        assert found.first == pytest.approx(FIRST[found.name], abs=0.03)
        assert found.total == pytest.approx(TOTAL[found.name], abs=0.03)
        assert found.first_low <= found.first <= found.first_high


@pytest.mark.parametrize("design", ["sobol", "lhs", "independent"])
def test_given_data_first_order_gives_ishigamis_indices(design):
    points = load_design(design).points(4096, 3, seed=0)
    for effect in first_order(points, ishigami(points), NAMES):
        assert effect.index == pytest.approx(FIRST[effect.name], abs=0.03)
        assert effect.significant == (FIRST[effect.name] > 0)


def test_first_order_does_not_depend_on_units():
    points = load_design("sobol").points(512, 3, seed=0)
    a = first_order(points, ishigami(points), NAMES)
    b = first_order(np.exp(5 * points), ishigami(points), NAMES)
    assert [(e.name, e.index) for e in a] == [(e.name, e.index) for e in b]


def test_intervals_cover_the_index():
    covered = 0
    truth = 0.5  # y = x + z with equal variances
    for seed in range(60):
        x = np.random.default_rng(seed).random((400, 2))
        effects = {e.name: e for e in first_order(x, x.sum(1), ["a", "b"], seed=seed)}
        covered += effects["a"].low <= truth <= effects["a"].high
    assert covered >= 52


def planted(seed: int, others: int = 60, draws: int = 512):
    """Success hangs on one parameter (fails above its 70 % mark, mostly), all others do nothing."""
    points = load_design("sobol").points(draws, others + 1, seed)
    rng = np.random.default_rng(seed)
    cause = seed % (others + 1)
    success = rng.random(draws) < np.where(points[:, cause] > 0.7, 0.6, 0.9)
    return points, success, cause


def test_a_planted_cause_is_ranked_first():
    names = [f"p{i}" for i in range(61)]
    right = alarms = 0
    for seed in range(20):
        points, success, cause = planted(seed)
        effects = first_order(points, success, names, resamples=20)
        right += effects[0].name == f"p{cause}"
        alarms += sum(e.significant for e in effects if e.name != f"p{cause}")
        assert effects[0].trend < 0 or effects[0].name != f"p{cause}"
    assert right >= 19
    assert alarms <= 3


def test_nothing_is_significant_where_nothing_matters():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        effects = first_order(
            rng.random((256, 40)), rng.random(256) < 0.8, list(map(str, range(40))), resamples=10
        )
        alarms += any(e.significant for e in effects)
    assert alarms <= 6  # 5 % each by construction


def test_an_outcome_that_never_changes_has_no_causes():
    x = np.random.default_rng(0).random((50, 2))
    assert all(e.index == 0 and not e.significant for e in first_order(x, np.ones(50, bool), ["a", "b"]))
    with pytest.raises(UserError, match="at least 16"):
        first_order(x[:8], np.ones(8), ["a", "b"])


def test_dependence_counts_and_bounds():
    x = np.arange(80) / 80
    levels = dependence(x, x < 0.5, bins=4)
    assert [level.mean for level in levels] == [1, 1, 0, 0]
    assert [level.count for level in levels] == [20] * 4
    assert (levels[0].low, levels[0].high) == wilson_interval(20, 20)
    assert levels[1].start == 0.25 and levels[1].stop == pytest.approx(0.4875)
    numeric = dependence(x, 3 * x, bins=4)
    assert numeric[2].mean == pytest.approx(3 * numeric[2].value)
    assert numeric[2].low < numeric[2].mean < numeric[2].high


def test_bins_of_discrete_values_keep_equal_values_together():
    x = np.array([0.0] * 30 + [1.0] * 5 + [2.0] * 65)
    labels, k = bin_labels(x, 8)
    assert k == 3 and [len(set(labels[x == v])) for v in (0, 1, 2)] == [1, 1, 1]
    labels, k = bin_labels(np.concatenate([np.zeros(50), np.arange(1, 51)]), 4)
    assert len(set(labels[:50])) == 1 and k == 3


def test_the_strongest_pair_is_the_interacting_one():
    points = load_design("sobol").points(1024, 6, seed=1)
    success = (points[:, 1] > 0.6) & (points[:, 4] > 0.6)
    names = [f"p{i}" for i in range(6)]
    (found,) = strongest_pairs(points, success, names, first_order(points, success, names, resamples=10))
    assert {found.x, found.y} == {"p1", "p4"}
    assert found.count.sum() == 1024
    assert found.mean[-1, -1] > 0.98 and found.mean[0, 0] == 0.0
    assert found.joint > 0.8
