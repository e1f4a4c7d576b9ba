"""How late a policy may answer: the closed form against the arm's own player, asked as the inference process is."""

import numpy as np
import pytest

from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.policies.latency import FEWEST, Coverage, Timing, time_policy

RATE = 30.0


def least_left(horizon: int, latency: float, frames: int = 400) -> float:
    """The least number of s that the player had left, once the first chunk had come."""
    period = 1 / RATE
    player, left = ChunkPlayer(), []
    player.reset(np.zeros(1), 0.0)
    free, frame = 0.0, 0
    while frame < frames:
        # It takes the newest frame there is, or waits for the next one.
        newest = int(np.floor(free / period + 1e-9))
        frame = max(frame + 1, newest)
        arrived = max(free, frame * period) + latency
        if left or frame > 1:
            left.append(player.remaining(arrived))
        player.add(Chunk(frame * period, period, np.zeros((horizon, 1))), arrived)
        free = arrived
    return min(left)


@pytest.mark.parametrize("horizon", [2, 5, 10, 16, 40])
def test_the_longest_latency_is_the_longest(horizon: int) -> None:
    covered = Coverage(horizon, RATE)
    for share in np.linspace(0.05, 1.0, 40):
        assert least_left(horizon, share * covered.longest) >= -1e-9, share
    assert least_left(horizon, covered.longest + covered.period) < 0


def test_what_coverage_says() -> None:
    covered = Coverage(10, RATE)
    assert covered.longest == pytest.approx(0.150)
    assert covered.keeps_rate(0.033) and not covered.keeps_rate(0.034)
    assert covered.covers(0.149) and not covered.covers(0.151)
    assert (
        covered.horizon_for(0.02) == 2
        and covered.horizon_for(0.150) == 10
        and covered.horizon_for(0.151) == 11
    )
    for latency in np.linspace(0.04, 1.0, 50):
        wanted = covered.horizon_for(latency)
        assert Coverage(wanted, RATE).covers(latency) and not Coverage(wanted - 1, RATE).covers(latency)
    assert Coverage(1, RATE).longest == pytest.approx(1 / RATE)


def test_timing_is_of_every_answer() -> None:
    class Counting:
        horizon = 1
        calls = 0

        def reset(self, seed: int) -> None: ...

        def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            self.calls += 1
            return np.zeros((1, 1))

    policy, pauses = Counting(), []
    assert (
        time_policy(policy, {}, 0.0, pause=lambda: pauses.append(1)).calls
        == FEWEST
        == policy.calls
        == len(pauses)
    )
    assert time_policy(policy, {}, 60.0, most=7).calls == 7
    found = Timing.of([0.001] * 99 + [0.2])
    assert found.p50 == 0.001 and found.longest == 0.2 and found.mean == pytest.approx(0.00299)
