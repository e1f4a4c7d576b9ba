import numpy as np

from pipelines.identification.holding import held, held_angles, without_held
from pipelines.identification.logs import ArmLog
from sim2real.model.batched import ArmRecording
from sim2real.robot import Robot

ROBOT = Robot.load("so101")


def log_of(command: np.ndarray, state: np.ndarray) -> ArmLog:
    arrays = [np.tile(ROBOT.home, (len(command), 1)) for _ in range(2)]
    arrays[0][:, 5], arrays[1][:, 5] = command, state
    recording = ArmRecording(*arrays, np.array([0, len(command) // 2, len(command)]), 30.0)
    return ArmLog(
        recording, ROBOT.lower, ROBOT.upper, np.ones(arrays[0].shape, bool), "degrees", "", (0, 1), ()
    )


def test_a_gripper_that_stands_short_of_its_command_holds_something() -> None:
    command = 0.8 - 0.6 * np.clip(np.sin(np.arange(400) / 40), 0, 1)
    free = np.concatenate([command[:1].repeat(4), command[:-4]])
    assert not held(log_of(command, free), ROBOT).any()
    cube = np.maximum(free, 0.5)
    frames = held(log_of(command, cube), ROBOT)
    assert frames[(cube > command + 0.1) & (np.arange(400) > 8)].mean() > 0.8
    assert not frames[free > 0.7].any()


def test_its_frames_are_not_compared_and_the_others_are() -> None:
    command, state = np.full(200, 0.1), np.full(200, 0.4)
    state[:60] = 0.1
    log = without_held(log_of(command, state), ROBOT)
    outcome = log.outcome()
    assert np.isnan(outcome[60:, 5]).all() and np.isfinite(outcome[:40, 5]).all()
    assert np.isfinite(outcome[:98, :5]).all() and "holds something in 7" in log.remarks[-1]
    assert np.isfinite(without_held(log_of(command, np.full(200, 0.4)), ROBOT).outcome()[:98, 5]).all()
    still = log_of(command, command)
    assert without_held(still, ROBOT) is still


def test_where_the_jaw_stands_while_it_holds_is_told_by_episode() -> None:
    """Two episodes: one grasps at 0.5 rad, the other stays open; a gripper counted 8° lower grasps 8° lower."""
    command = np.concatenate([np.full(100, 0.8), np.full(100, 0.1), np.full(200, 0.8)])
    state = np.concatenate([np.full(100, 0.8), np.full(100, 0.5), np.full(200, 0.8)])
    np.testing.assert_allclose(held_angles(log_of(command, state), ROBOT), [0.5], atol=1e-9)
    lower = held_angles(log_of(command - 0.14, state - 0.14), ROBOT)
    np.testing.assert_allclose(lower, [0.36], atol=1e-9)
    # A moment in which it is stopped is no grasp.
    state[105:] = 0.1
    assert not len(held_angles(log_of(command, state), ROBOT))
