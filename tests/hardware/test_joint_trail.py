from multiprocessing.connection import Connection

import numpy as np
import pytest

from hardware.cameras.joint_trail import FRESH, ROWS, JointTrail
from sim2real.spawning import context


def test_between_readings_by_straight_lines_and_not_far_from_any() -> None:
    trail = JointTrail(2, exposed=0.05)
    assert trail.at(1.0) is None
    trail.tell(1.0, np.array([0.0, 1.0]))
    trail.tell(1.1, np.array([0.2, 1.0]))
    np.testing.assert_allclose(trail.at(1.05), [0.1, 1.0])
    np.testing.assert_allclose(trail.at_picture(1.1), [0.1, 1.0])
    np.testing.assert_allclose(trail.at(1.1 + 0.9 * FRESH), [0.2, 1.0])
    assert trail.at(1.1 + 1.1 * FRESH) is None and trail.at(1.0 - 1.1 * FRESH) is None
    trail.clear()
    assert trail.at(1.05) is None


def test_the_oldest_is_written_over() -> None:
    trail = JointTrail(1)
    for k in range(3 * ROWS):
        trail.tell(0.01 * k, np.array([float(k)]))
    newest = 3 * ROWS - 1
    assert trail.at(0.01 * newest) == pytest.approx([newest])
    assert trail.at(0.01 * (newest - ROWS // 2) + 0.005) == pytest.approx([newest - ROWS // 2 + 0.5])


def test_a_row_that_is_not_finite_counts_for_nothing() -> None:
    trail = JointTrail(1)
    trail.tell(1.0, np.array([2.0]))
    trail.tell(1.01, np.array([np.nan]))
    assert trail.at(1.01) == pytest.approx([2.0])


def test_another_process_reads_what_this_one_writes() -> None:
    trail = JointTrail(3)
    trail.tell(5.0, np.array([1.0, 2.0, 3.0]))
    ours, theirs = context.Pipe()
    process = context.Process(target=_told, args=(trail, theirs))
    process.start()
    assert ours.poll(60.0)
    np.testing.assert_allclose(ours.recv(), [1.0, 2.0, 3.0])
    process.join(10.0)


def _told(trail: JointTrail, answer: Connection) -> None:
    answer.send(trail.at(5.0))
