"""The surrogate: Ishigami's total indices, its stated error, and its honesty about noise."""

import numpy as np
import pytest

from randomization.designs import load_design
from randomization.surrogate import fit_surrogate
from sim2real.errors import UserError
from tests.randomization.test_sensitivity import FIRST, NAMES, TOTAL, ishigami, planted


def test_totals_of_ishigami():
    points = load_design("sobol").points(1024, 3, 0)
    surrogate = fit_surrogate(points, ishigami(points), NAMES)
    assert surrogate.q2 > 0.99
    for found in surrogate.totals:
        assert found.total == pytest.approx(TOTAL[found.name], abs=0.03)
        assert found.alone == pytest.approx(FIRST[found.name], abs=0.03)
        assert found.low <= found.total <= found.high


def test_the_stated_error_is_that_of_new_points():
    points = load_design("sobol").points(1024, 3, 0)
    rng = np.random.default_rng(0)
    noisy = ishigami(points) + 2.0 * rng.standard_normal(1024)
    surrogate = fit_surrogate(np.exp(points), noisy, NAMES)
    fresh = load_design("independent").points(4000, 3, 1)
    outcome = ishigami(fresh) + 2.0 * rng.standard_normal(4000)
    error = np.mean((surrogate.predict(np.exp(fresh)) - outcome) ** 2) / outcome.var()
    assert 1 - surrogate.q2 == pytest.approx(error, abs=0.04)


def test_an_interaction_among_many_columns_is_found():
    points = load_design("sobol").points(1024, 100, 3)
    success = ((points[:, 7] > 0.5) & (points[:, 60] > 0.5)).astype(float)
    surrogate = fit_surrogate(points, success, [f"p{i}" for i in range(100)], resamples=20)
    assert {t.name for t in surrogate.totals[:2]} == {"p7", "p60"}
    for found in surrogate.totals[:2]:
        # Exactly: variance 3/16, each alone 1/16, together 1/16.
        assert found.total == pytest.approx(2 / 3, abs=0.12)
        assert found.alone == pytest.approx(1 / 3, abs=0.08)
    assert all(t.total < 0.05 for t in surrogate.totals[2:])


def test_pure_noise_explains_nothing():
    rng = np.random.default_rng(1)
    surrogate = fit_surrogate(
        rng.random((512, 50)), rng.random(512) < 0.7, list(map(str, range(50))), resamples=10
    )
    assert surrogate.q2 < 0.02
    assert surrogate.totals[0].total < 0.03


def test_a_planted_cause_has_the_largest_total():
    points, success, cause = planted(3)
    surrogate = fit_surrogate(points, success, [f"p{i}" for i in range(61)], resamples=20)
    assert surrogate.totals[0].name == f"p{cause}"
    assert 0 < surrogate.q2 < 0.3


def test_constant_outcomes_and_too_few_draws():
    x = np.random.default_rng(0).random((60, 2))
    assert fit_surrogate(x, np.ones(60), ["a", "b"]).totals[0].total == 0
    with pytest.raises(UserError, match="at least 50"):
        fit_surrogate(x[:20], np.ones(20), ["a", "b"])
