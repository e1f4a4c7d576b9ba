"""Paired comparison: counts, exactness of the test, coverage of the interval."""

import numpy as np
import pytest

from randomization.comparison import compare
from sim2real.errors import UserError


def test_counts_and_exact_p_value():
    a = [True] * 10 + [True] * 1 + [False] * 7 + [False] * 2
    b = [True] * 10 + [False] * 1 + [True] * 7 + [False] * 2
    found = compare(a, b)
    assert (found.both, found.only_a, found.only_b, found.neither, found.draws) == (10, 1, 7, 2, 20)
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(2 * (1 + 8) / 2**8)
    assert found.low < 0.3 < found.high


def test_equal_policies_do_not_differ():
    success = np.arange(50) % 3 > 0
    found = compare(success, success)
    assert found.p_value == 1.0 and found.difference == 0.0 and found.low < 0 < found.high


def test_the_interval_covers_the_difference():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        easy = rng.random(60)
        found = compare(easy < 0.6 + 0.2 * rng.random(60), easy < 0.8 + 0.1 * rng.random(60))
        covered += found.low <= 0.15 <= found.high
    assert 0.92 <= covered / 400


def test_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="same draws"):
        compare([True], [True, False])
