"""Automatic ranges: they stop where success does, and spread where nothing stops them."""

import numpy as np
import pytest

from randomization.adaptive import maximize_entropy, widen_ranges
from randomization.distributions import Beta, LogBeta, LogUniform, Normal, Uniform
from randomization.space import Space
from sim2real.errors import UserError
from sim2real.parameters import Parameter

PARAMETERS = {
    p.name: p
    for p in (
        Parameter("limit", 0.5, "", 0.0, 1.0),
        Parameter("friction", 1.0, "", 0.1, 10.0, "log"),
        Parameter("harmless", 0.2, "", 0.0, 1.0),
        Parameter("task.x", 0.0, "", -1.0, 1.0),
    )
}
BOUND = Space().bind(PARAMETERS)
ADAPTED = (0, 1, 2)


def run(draws):
    """Fails above limit 0.8 and below friction 0.3, with 3 % failures everywhere."""
    return [
        d.values["limit"] < 0.8
        and d.values["friction"] > 0.3
        and np.random.default_rng(d.seed).random() > 0.03
        for d in draws
    ]


def test_widening_finds_the_limits():
    found = widen_ranges(BOUND, run, columns=ADAPTED, batch=30, draws=8000)
    bound = found.space.bind(PARAMETERS)
    limit, friction, harmless = (bound.range(name) for name in ("limit", "friction", "harmless"))
    assert limit[0] == 0.0 and limit[1] == pytest.approx(0.8, abs=0.06)
    assert friction[1] == 10.0 and friction[0] == pytest.approx(0.3, rel=0.35)
    assert harmless == (0.0, 1.0)
    assert bound.range("task.x") == (-1.0, 1.0)
    assert isinstance(bound.columns[1].variation.distribution, LogUniform)
    assert np.mean(run(bound.draws(500, 1))) > 0.85
    assert found.history[0]["draws"] < found.history[-1]["draws"] <= 8000


def test_maximum_entropy_keeps_the_success_rate():
    found = maximize_entropy(BOUND, run, columns=ADAPTED, success=0.8, draws=10_000, seed=1)
    bound = found.space.bind(PARAMETERS)
    rate = np.mean(run(bound.draws(2000, 5)))
    assert 0.77 <= rate <= 0.92
    kinds = [type(c.variation.distribution) for c in bound.columns]
    assert kinds == [Beta, LogBeta, Beta, Uniform]
    spread = {name: end - start for name, (start, end) in found.history[-1]["ranges"].items()}
    first = {name: end - start for name, (start, end) in found.history[0]["ranges"].items()}
    assert spread["harmless"] > 0.85 and all(spread[name] > 1.5 * first[name] for name in spread)
    limits = [d.values["limit"] for d in bound.draws(2000, 5)]
    assert np.mean(np.array(limits) > 0.8) < 0.15


def test_the_same_seed_gives_the_same_ranges(tmp_path):
    a, b = (maximize_entropy(BOUND, run, columns=ADAPTED, draws=1000, seed=3) for _ in range(2))
    assert a.space == b.space
    a.space.save(tmp_path / "space.toml")
    assert Space.load(tmp_path / "space.toml") == a.space
    assert widen_ranges(BOUND, run, draws=500).history == widen_ranges(BOUND, run, draws=500).history


def test_a_policy_that_always_fails_widens_nothing():
    found = widen_ranges(BOUND, lambda draws: [False] * len(draws), columns=ADAPTED, draws=2000)
    bound = found.space.bind(PARAMETERS)
    assert bound.range("limit") == (0.5, 0.5) or bound.range("limit")[1] == pytest.approx(0.5)


def test_what_cannot_be_adapted_is_refused():
    bound = Space({"limit": Normal(0.5, 0.1)}).bind(PARAMETERS)
    with pytest.raises(UserError, match="'limit' is normal"):
        widen_ranges(bound, run)
    with pytest.raises(UserError, match="low < high"):
        widen_ranges(BOUND, run, low=0.9, high=0.8)
    with pytest.raises(UserError, match="within 0 and 1"):
        maximize_entropy(BOUND, run, success=1.0)
