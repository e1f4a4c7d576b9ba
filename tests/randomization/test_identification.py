"""The fit and its posterior on problems whose answers are known."""

import numpy as np
import pytest

from randomization.identification import Unknown, autocorrelation_time, fit, prior_covariance, robust_scale

TIME = np.linspace(0, 4, 200)
STARTS = np.array([0, 100, 200])


def decay(values: np.ndarray) -> np.ndarray:
    """Amplitude and rate of an exponential, (B, 2) → (B, T)."""
    return values[:, :1] * np.exp(-values[:, 1:] * TIME)


UNKNOWNS = (
    Unknown("amplitude", 1.0, 0.1, 10.0, 2.0, "log", 0.01),
    Unknown("rate", 1.0, 0.01, 5.0, 3.0, "linear", 0.01),
)


def residuals_to(data: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda values: (decay(values) - data)[:, :, None]


def test_recovers_parameters_and_says_how_well() -> None:
    rng = np.random.default_rng(0)
    data = decay(np.array([[2.5, 0.7]]))[0] + 0.05 * rng.standard_normal(len(TIME))
    found = fit(residuals_to(data), UNKNOWNS, STARTS)
    np.testing.assert_allclose(found.values, [2.5, 0.7], rtol=0.03)
    assert (found.deviation < 0.05).all()
    assert (found.prior_share < 0.05).all()
    assert found.scale[0] == pytest.approx(0.05, rel=0.2)
    assert not found.at_bound.any()


def test_the_posterior_is_that_of_linear_regression() -> None:
    rng = np.random.default_rng(1)
    design = rng.normal(size=(300, 2))
    truth, noise, prior = np.array([0.5, -1.0]), 0.3, 1.0
    data = design @ truth + noise * rng.standard_normal(300)
    unknowns = [Unknown(name, 0.0, -10, 10, prior, step=0.1) for name in "ab"]
    found = fit(
        lambda v: (v @ design.T - data)[:, :, None], unknowns, np.array([0, 300]), iterations=30, rounds=3
    )
    information = design.T @ design / noise**2 + np.eye(2) / prior**2
    expected = np.linalg.solve(information, design.T @ data / noise**2)
    # Soft L1 gives up a little efficiency against exact Gaussian noise.
    np.testing.assert_allclose(found.values, expected, atol=0.02)
    np.testing.assert_allclose(found.deviation, np.sqrt(np.diag(np.linalg.inv(information))), rtol=0.35)


def test_intervals_cover_the_truth_at_their_rate() -> None:
    """60 repetitions × 2 parameters of 90 % intervals: 80–98 % must hold the truth."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(60):
        truth = np.array([np.exp(rng.uniform(0, 1.5)), rng.uniform(0.3, 2.0)])
        data = decay(truth[None])[0] + 0.05 * rng.standard_normal(len(TIME))
        found = fit(residuals_to(data), UNKNOWNS, STARTS)
        low, high = found.interval(0.9)
        held += list((low <= truth) & (truth <= high))
    assert 0.8 <= np.mean(held) <= 0.98


def test_slow_errors_widen_the_posterior() -> None:
    rng = np.random.default_rng(3)
    clean = decay(np.array([[2.5, 0.7]]))[0]
    white = clean + 0.05 * rng.standard_normal(len(TIME))
    slow = clean + 0.05 * np.sin(7 * TIME)
    widths = [fit(residuals_to(data), UNKNOWNS, STARTS).deviation for data in (white, slow)]
    assert (widths[1] > 1.8 * widths[0]).all()


def test_glitches_hardly_matter() -> None:
    data = decay(np.array([[2.5, 0.7]]))[0]
    data = data + 0.02 * np.random.default_rng(4).standard_normal(len(TIME))
    data[[20, 90, 150]] += [30.0, -50.0, 40.0]
    found = fit(residuals_to(data), UNKNOWNS, STARTS, rounds=3)
    np.testing.assert_allclose(found.values, [2.5, 0.7], rtol=0.04)


def test_missing_samples_are_left_out() -> None:
    data = decay(np.array([[2.5, 0.7]]))[0]
    data[::2] = np.nan
    found = fit(residuals_to(data), UNKNOWNS, STARTS)
    np.testing.assert_allclose(found.values, [2.5, 0.7], rtol=1e-3)


def test_an_unknown_without_effect_keeps_its_prior() -> None:
    idle = Unknown("idle", 3.0, 0.0, 6.0, 0.5, step=0.1)
    data = decay(np.array([[2.5, 0.7]]))[0] + 0.01 * np.random.default_rng(5).standard_normal(len(TIME))
    found = fit(lambda v: (decay(v[:, :2]) - data)[:, :, None], (*UNKNOWNS, idle), STARTS)
    assert found.values[2] == pytest.approx(3.0, abs=1e-3)
    assert found.prior_share[2] == pytest.approx(1.0, abs=1e-3)


def test_draws_follow_the_posterior_within_the_bounds() -> None:
    data = decay(np.array([[2.5, 0.7]]))[0] + 0.3 * np.random.default_rng(6).standard_normal(len(TIME))
    found = fit(residuals_to(data), UNKNOWNS, STARTS)
    draws = found.draws(4000, np.random.default_rng(0))
    assert (draws >= [0.1, 0.01]).all() and (draws <= [10.0, 5.0]).all()
    np.testing.assert_allclose(np.log(draws[:, 0]).std(), found.deviation[0], rtol=0.1)
    np.testing.assert_allclose(
        np.corrcoef(np.log(draws[:, 0]), draws[:, 1])[0, 1], _correlation(found), atol=0.06
    )


def _correlation(found) -> float:  # type: ignore[no-untyped-def]
    return float(found.covariance[0, 1] / np.prod(found.deviation))


def test_a_value_at_its_bound_is_marked() -> None:
    data = decay(np.array([[2.5, 0.7]]))[0]
    tight = (UNKNOWNS[0], Unknown("rate", 1.5, 1.0, 5.0, 3.0, "linear", 0.01))
    found = fit(residuals_to(data), tight, STARTS)
    assert found.at_bound.tolist() == [False, True]


def test_unknowns_of_different_channels_are_perturbed_together() -> None:
    """Two channels that do not interact: the same answer, for half the simulations."""
    data = np.stack([decay(np.array([[2.5, 0.7]]))[0], decay(np.array([[1.5, 0.4]]))[0]], axis=-1)

    def residuals(v: np.ndarray) -> np.ndarray:
        return np.stack([decay(v[:, :2]), decay(v[:, 2:])], axis=-1) - data

    counts, values = [], []
    for channels in ((None,) * 4, (0, 0, 1, 1)):
        unknowns = [
            Unknown(f"{u.name}{i}", u.start, u.low, u.high, u.prior, u.scale, u.step, channel=channels[i])
            for i, u in enumerate((*UNKNOWNS, *UNKNOWNS))
        ]
        found = fit(residuals, unknowns, STARTS, posterior=False)
        counts.append(found.evaluations)
        values.append(found.values)
    np.testing.assert_allclose(values[0], [2.5, 0.7, 1.5, 0.4], rtol=1e-3)
    np.testing.assert_allclose(values[1], values[0], rtol=1e-3)
    assert counts[1] < 0.75 * counts[0]


def test_unknowns_that_are_alike_learn_from_each_other() -> None:
    """Of two that may differ by `spread` only one shows in the data: the other follows it, that much less sure."""
    data = decay(np.array([[2.5, 0.7]]))[0]
    pooled = [
        UNKNOWNS[1],
        *(
            Unknown(f"height{i}", 1.0, 0.1, 10.0, 1.0, "log", 0.01, group="height", spread=0.1)
            for i in range(2)
        ),
    ]

    def residuals(v: np.ndarray) -> np.ndarray:
        return residuals_to(data)(v[:, [1, 0]])

    believed = prior_covariance(pooled)
    np.testing.assert_allclose(np.diag(believed)[1:], 1.0)
    # The variance of the difference of the two: twice that within the group.
    assert believed[1, 1] + believed[2, 2] - 2 * believed[1, 2] == pytest.approx(2 * 0.1**2)
    found = fit(residuals, pooled, STARTS)
    assert found.values[1] == pytest.approx(2.5, rel=0.03)
    assert found.values[2] == pytest.approx(found.values[1], rel=0.03)
    assert found.deviation[2] == pytest.approx(np.sqrt(2) * 0.1, rel=0.1)
    assert found.deviation[1] < 0.05


def test_autocorrelation_time_of_white_and_slow_noise() -> None:
    rng = np.random.default_rng(7)
    white = rng.standard_normal((5000, 1))
    slow = np.zeros((5000, 1))
    for t in range(1, 5000):
        slow[t] = 0.9 * slow[t - 1] + rng.standard_normal(1)
    starts = np.array([0, 2500, 5000])
    assert autocorrelation_time(white, starts)[0] == pytest.approx(1.0, abs=0.15)
    # (1 + a) / (1 − a) = 19 for an autoregression with a = 0.9.
    assert autocorrelation_time(slow, starts)[0] == pytest.approx(19.0, rel=0.3)


def test_robust_scale_ignores_a_few_outliers() -> None:
    r = np.random.default_rng(8).standard_normal((2000, 1))
    assert robust_scale(r)[0] == pytest.approx(1.0, abs=0.06)
    r[:20] = 1000.0
    assert robust_scale(r)[0] == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", 5.0, 0.0, 1.0, 1.0), "low <= start <= high"),
        (("x", 0.5, 0.0, 1.0, 1.0, "log"), "log scale needs low > 0"),
        (("x", 0.5, 0.0, 1.0, 0.0), "must be positive"),
        (("x", 0.5, 0.0, 1.0, 0.1, "linear", 0.01, None, None, "g"), "0 < spread <= prior"),
    ],
)
def test_impossible_unknowns_are_refused(arguments: tuple, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        Unknown(*arguments)


def test_a_simulation_without_finite_output_is_refused() -> None:
    with pytest.raises(ValueError, match="no finite residual"):
        fit(lambda v: np.full((len(v), 200, 1), np.nan), UNKNOWNS, STARTS)
