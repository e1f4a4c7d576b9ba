"""Wilson intervals against published values and their own definition."""

import math

import pytest

from sim2real.statistics import wilson_interval


def test_published_values() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I.
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson_interval(successes, trials)
        assert interval == pytest.approx((low, high), abs=5e-5)


def test_the_ends_solve_the_score_equation() -> None:
    low, high = wilson_interval(37, 50)
    for p in (low, high):
        assert abs(37 / 50 - p) / math.sqrt(p * (1 - p) / 50) == pytest.approx(1.959964, abs=1e-5)


def test_extremes() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    for trials in (1, 5, 77, 4096):
        assert wilson_interval(0, trials)[0] == 0.0
        assert wilson_interval(trials, trials)[1] == 1.0
    with pytest.raises(ValueError, match="6 of 5"):
        wilson_interval(6, 5)
