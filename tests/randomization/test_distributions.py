"""Distributions: quantiles against scipy.stats and numerical means, TOML round trips, refusals."""

import numpy as np
import pytest
import scipy.stats as st

from randomization.distributions import (
    Beta,
    Choice,
    Constant,
    Distribution,
    LogBeta,
    LogUniform,
    Mixture,
    Normal,
    TruncatedNormal,
    Uniform,
    from_toml,
)
from sim2real.errors import UserError

U = (np.arange(20_000) + 0.5) / 20_000

EXAMPLES: list[tuple[Distribution, object]] = [
    (Uniform(-1.0, 3.0), st.uniform(-1, 4)),
    (LogUniform(0.02, 0.5), st.loguniform(0.02, 0.5)),
    (Normal(2.0, 0.3), st.norm(2, 0.3)),
    (TruncatedNormal(1.0, 2.0, 0.5, 4.0), st.truncnorm(-0.25, 1.5, 1, 2)),
    (Beta(2.0, 5.0, 1.0, 3.0), st.beta(2, 5, 1, 2)),
]


@pytest.mark.parametrize("distribution, reference", EXAMPLES, ids=lambda e: getattr(e, "kind", ""))
def test_quantiles_equal_those_of_scipy(distribution, reference):
    np.testing.assert_allclose(distribution.ppf(U), reference.ppf(U), rtol=1e-9, atol=1e-12)
    assert distribution.mean == pytest.approx(reference.mean(), rel=1e-9)


ALL = [d for d, _ in EXAMPLES] + [
    Constant(4.0),
    LogBeta(2.0, 0.7, 0.1, 3.0),
    Choice((1.0, 2.0, 5.0), (1.0, 1.0, 2.0)),
    Mixture((Uniform(0.0, 1.0), Normal(10.0, 0.5), Constant(3.0)), (0.5, 0.3, 0.2)),
    Uniform(2.0, 2.0),
    LogUniform(2.0, 2.0),
    TruncatedNormal(0.0, 1.0, 2.0, 2.0),
]


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_mean_support_and_toml_round_trip(distribution):
    values = distribution.ppf(U)
    assert values.mean() == pytest.approx(distribution.mean, rel=2e-3, abs=1e-3)
    low, high = distribution.support
    assert low <= values.min() and values.max() <= high
    assert distribution.varies == (values.min() < values.max())
    assert from_toml(distribution.to_toml(), "x") == distribution


def test_mixture_and_choice_have_their_weights():
    mixture = Mixture((Uniform(0.0, 1.0), Uniform(5.0, 6.0)), (3.0, 1.0))
    assert (mixture.ppf(U) > 2).mean() == pytest.approx(0.25, abs=1e-3)
    choice = Choice((7.0, 8.0, 9.0), (0.0, 1.0, 3.0))
    assert set(choice.ppf(U)) == {8.0, 9.0}
    assert choice.support == (8.0, 9.0)
    assert (choice.ppf(U) == 9.0).mean() == pytest.approx(0.75, abs=1e-3)


def test_short_forms():
    assert from_toml([1, 2], "x") == Uniform(1.0, 2.0)
    assert from_toml(3, "x") == Constant(3.0)
    assert from_toml({"distribution": "beta", "alpha": 2, "beta": 3}, "x") == Beta(2.0, 3.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "raw, complaint",
    [
        ({"distribution": "uniform", "low": 2.0, "high": 1.0}, "low <= high"),
        ({"distribution": "loguniform", "low": 0.0, "high": 1.0}, "low > 0"),
        ({"distribution": "normal", "mean": 0.0, "std": 0.0}, "std > 0"),
        ({"distribution": "normal", "mean": float("nan"), "std": 1.0}, "finite mean"),
        ({"distribution": "normal", "mean": 0.0}, "std"),
        ({"distribution": "uniform", "low": 1.0}, "needs high"),
        ({"distribution": "uniform", "low": 1.0, "high": 2.0, "hihg": 3}, "no 'hihg'"),
        ({"distribution": "gaussian"}, "allowed are"),
        ({"distribution": "choice", "values": []}, "at least one"),
        ({"distribution": "choice", "values": [1, 2], "weights": [1]}, "1 weights"),
        ({"distribution": "choice", "values": [1, 2], "weights": [0, 0]}, "not all zero"),
        ({"distribution": "uniform", "low": "1", "high": 2.0}, "must be a number"),
        ([1, 2, 3], "low, high"),
        ("0:1", "expected a number"),
        (True, "expected a number"),
        ({"distribution": "mixture", "components": [{"distribution": "beta"}]}, "component 0"),
    ],
)
def test_impossible_distributions_are_refused_by_name(raw, complaint):
    with pytest.raises(UserError, match="servo.kp") as caught:
        from_toml(raw, "servo.kp")
    assert complaint in str(caught.value)
