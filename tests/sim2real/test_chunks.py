"""Chunks and their player, in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.errors import Sim2RealError


def ramp(start: float, first: float, step: float, rows: int = 4) -> Chunk:
    return Chunk(start, 0.1, (first + step * np.arange(1, rows + 1))[:, None])


def test_rows_are_due_one_period_after_each_other() -> None:
    player = ChunkPlayer(blend=0.0)
    player.reset(np.array([0.0]), 0.0)
    assert player.add(ramp(0.0, 0.0, 1.0), 0.0)
    for time, goal in [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.25, 2.5), (0.4, 4.0), (9.0, 4.0)]:
        assert player.sample(time)[0] == pytest.approx(goal)


def test_rows_that_are_late_are_skipped() -> None:
    player = ChunkPlayer(blend=0.0)
    player.reset(np.array([0.0]), 0.0)
    assert player.add(ramp(0.0, 0.0, 1.0), 0.25)
    assert player.sample(0.25)[0] == pytest.approx(2.5)
    assert player.sample(0.35)[0] == pytest.approx(3.5)


def test_an_expired_chunk_changes_nothing() -> None:
    player = ChunkPlayer()
    player.reset(np.array([7.0]), 0.0)
    assert not player.add(ramp(0.0, 0.0, 1.0), 0.4)
    assert player.sample(0.5)[0] == 7.0


def test_a_new_chunk_is_blended_in_without_a_jump() -> None:
    player = ChunkPlayer(blend=0.1)
    player.reset(np.array([0.0]), 0.0)
    player.add(ramp(0.0, 0.0, 0.0), 0.0)
    player.add(Chunk(0.0, 0.1, np.full((4, 1), 1.0)), 0.15)
    assert player.sample(0.15)[0] == pytest.approx(0.0)
    assert player.sample(0.20)[0] == pytest.approx(0.5)
    assert player.sample(0.25)[0] == pytest.approx(1.0)


def test_starvation_holds_the_last_goal() -> None:
    player = ChunkPlayer()
    player.reset(np.array([0.0]), 0.0)
    player.add(ramp(0.0, 0.0, 1.0), 0.0)
    assert player.remaining(0.1) == pytest.approx(0.3)
    assert player.remaining(0.5) == pytest.approx(-0.1)
    assert player.sample(60.0)[0] == pytest.approx(4.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_that_is_not_finite_is_refused_and_the_old_one_stays(bad: float) -> None:
    player = ChunkPlayer()
    player.reset(np.array([0.0]), 0.0)
    player.add(ramp(0.0, 0.0, 1.0), 0.0)
    with pytest.raises(Sim2RealError, match="not finite"):
        player.add(Chunk(0.0, 0.1, np.array([[1.0], [bad]])), 0.05)
    assert player.sample(0.4)[0] == pytest.approx(4.0)


def test_a_chunk_for_another_arm_is_refused() -> None:
    player = ChunkPlayer()
    player.reset(np.zeros(6), 0.0)
    with pytest.raises(Sim2RealError, match="5 joints, the arm has 6"):
        player.add(Chunk(0.0, 0.1, np.zeros((3, 5))), 0.0)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.3), st.floats(-0.3, 0.1), st.lists(st.floats(-1, 1), min_size=1, max_size=8)
        ),
        min_size=1,
        max_size=10,
    )
)
def test_the_goal_never_leaves_the_range_of_what_was_asked(
    steps: list[tuple[float, float, list[float]]],
) -> None:
    player = ChunkPlayer()
    player.reset(np.array([0.0]), 0.0)
    time = 0.0
    for wait, offset, rows in steps:
        time += wait
        player.add(Chunk(time + offset, 1 / 30, np.array(rows)[:, None]), time)
        for sample in np.linspace(time, time + 0.4, 9):
            assert -1 - 1e-9 <= player.sample(float(sample))[0] <= 1 + 1e-9
