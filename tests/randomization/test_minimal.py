"""Stripping failures: the true culprits remain, alone or together, at the size that matters."""

import numpy as np
import pytest

from randomization.minimal import minimal_failure
from sim2real.errors import UserError
from sim2real.parameters import Draw

NOMINAL = {f"p{i}": 1.0 for i in range(150)}


def draw(seed: int = 0) -> Draw:
    rng = np.random.default_rng(seed)
    return Draw(3, 7, {**{n: 1 + rng.uniform(-1, 1) for n in NOMINAL}, "task.start": 0.3})


def test_one_culprit_is_found_and_shrunk_to_its_threshold():
    original = draw()
    far = original.values["p77"] - 1

    def fails(d: Draw) -> bool:
        assert d.seed == 7 and d.values["task.start"] == 0.3
        return abs(d.values["p77"] - 1) >= 0.5 * abs(far)

    found = minimal_failure(fails, original, NOMINAL)
    assert list(found.changes) == ["p77"]
    assert found.scale == pytest.approx(0.5, abs=1 / 64)
    assert fails(found.draw) and found.trials < 60
    assert all(found.draw.values[n] == 1.0 for n in NOMINAL if n != "p77")


@pytest.mark.parametrize("seed", range(5))
def test_culprits_that_act_together_all_remain(seed):
    original = draw(seed)
    culprits = {"p3", "p50", "p149"}

    def fails(d: Draw) -> bool:
        return all(d.values[n] == original.values[n] for n in culprits)

    found = minimal_failure(fails, original, NOMINAL, shrink=0)
    assert set(found.changes) == culprits
    assert found.trials < 150


def test_a_sum_of_many_small_changes_is_stripped_until_none_can_go():
    original = Draw(0, 0, {n: 1.0 + 0.01 * (i + 1) for i, n in enumerate(NOMINAL)})

    def fails(d: Draw) -> bool:
        return sum(d.values.values()) - len(NOMINAL) > 3.0

    found = minimal_failure(fails, original, NOMINAL, shrink=0)
    for name in found.changes:
        assert not fails(Draw(0, 0, dict(found.draw.values) | {name: 1.0}))
    assert len(found.changes) < 40


def test_failing_at_nominal_and_not_failing_at_all():
    assert minimal_failure(lambda d: True, draw(), NOMINAL).changes == {}
    with pytest.raises(UserError, match="nothing to strip"):
        minimal_failure(lambda d: False, draw(), NOMINAL)
