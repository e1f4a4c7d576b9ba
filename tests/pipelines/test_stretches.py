"""Which part of a long recording is fitted."""

import numpy as np

from pipelines.identification.logs import ArmLog
from pipelines.identification.stretches import informative_part
from sim2real.model.batched import ArmRecording
from sim2real.robot import Robot

ROBOT = Robot.load("so101")


def log_of(parts: list[np.ndarray]) -> ArmLog:
    state = np.concatenate(parts)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return ArmLog(
        ArmRecording(state, state, starts, 30.0), ROBOT.lower, ROBOT.upper, np.ones(state.shape, dtype=bool),
        "degrees", "made", tuple(range(len(parts))), (),
    )  # fmt: skip


def waves(frames: int, joints: list[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.tile(ROBOT.home, (frames, 1)) + rng.normal(0, 1e-3, (frames, ROBOT.n))
    for j in joints:
        out[:, j] += 0.4 * np.sin(rng.uniform(1, 3) * np.arange(frames) / 30 + rng.uniform(0, 6))
    return out


def test_a_short_recording_is_fitted_whole() -> None:
    log = log_of([waves(200, [0, 1])])
    assert informative_part(log, ROBOT, 300) is log


def test_the_only_episode_in_which_a_joint_moves_is_taken() -> None:
    parts = [waves(300, [0, 1], seed) for seed in range(12)]
    parts[7] = waves(300, [0, 1, 2, 3, 4, 5], 20)
    chosen = informative_part(log_of(parts), ROBOT, 900)
    assert 7 in chosen.episodes
    assert 900 <= len(chosen.recording.command) <= 1200


def test_a_long_episode_is_cut_and_each_piece_warms_up() -> None:
    log = log_of([waves(9000, [0, 1, 2, 3, 4])])
    part = informative_part(log, ROBOT, 1500)
    assert part.recording.episodes >= 5
    outcome = part.outcome()
    compared = np.isfinite(outcome).all(axis=1)
    for a, b in zip(part.recording.starts[:-1], part.recording.starts[1:]):
        begins = np.array_equal(part.recording.state[a], log.recording.state[0])
        assert compared[a : b - 1].all() if begins else (not compared[a : a + 20].any() and compared[b - 2])
    # Every row is one of the log's.
    rows = {tuple(row) for row in log.recording.state}
    assert all(tuple(row) in rows for row in part.recording.state)


def test_a_stretch_in_which_something_else_moved_the_arm_is_left_out() -> None:
    parts = [waves(300, [0, 1, 2, 3, 4], seed) for seed in range(10)]
    log = log_of(parts)
    errors = np.full(log.recording.state.shape, 0.4)
    errors[4 * 300 : 5 * 300] = 25.0
    assert 4 not in informative_part(log, ROBOT, 1500, errors).episodes
    assert 4 in informative_part(log, ROBOT, 2900, errors).episodes
