"""The batched arm model."""

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.model import batched, servo
from sim2real.model.dynamics import mass_and_bias
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
MODEL = ROBOT.model
NOMINAL = servo.nominal_parameters(ROBOT)


def recording(frames: int = 60, episodes: int = 2, fps: float = 30.0) -> batched.ArmRecording:
    """Smooth motion around home; states are the commands, which only the first row's value matters of."""
    time = np.arange(frames) / fps
    command = np.concatenate(
        [ROBOT.home + 0.3 * np.sin(2 * time[:, None] + e + np.arange(6)) - 0.3 * np.sin(e + np.arange(6))
         for e in range(episodes)]
    )  # fmt: skip
    return batched.ArmRecording(command, command.copy(), np.arange(episodes + 1) * frames, fps)


def test_batch_and_episodes_are_independent() -> None:
    log = recording()
    other = NOMINAL.copy()
    other[:, servo.KP] *= 0.7
    both = batched.simulate(MODEL, log, np.stack([NOMINAL, other]))
    assert both.shape == (2, 120, 6)
    assert (both[0] == batched.simulate(MODEL, log, NOMINAL)[0]).all()
    assert (both[1] == batched.simulate(MODEL, log, other)[0]).all()
    assert (both[0][60:] == batched.simulate(MODEL, log.select([1]), NOMINAL)[0]).all()


def test_a_held_pose_droops_by_gravity_over_stiffness() -> None:
    parameters = NOMINAL.copy()
    for field in ("coulomb", "stribeck", "load_motor", "load_external", "dead_band"):
        parameters[:, servo.FIELD_INDEX[field]] = 0.0
    command = np.tile(np.array([0.0, 0.3, -0.3, 0.2, 0.0, 0.5]), (90, 1))
    log = batched.ArmRecording(command, command.copy(), np.array([0, 90]), 30.0)
    end = batched.simulate(MODEL, log, parameters)[0, -1]
    gravity = mass_and_bias(MODEL, end, np.zeros(6))[1]
    p = parameters
    stiffness = p[:, servo.KP] * p[:, servo.TORQUE_CONSTANT] * p[:, servo.VOLTAGE] / p[:, servo.RESISTANCE]
    np.testing.assert_allclose(command[0] - end, gravity / stiffness, atol=1e-5)


def test_offsets_turn_the_arm_not_its_angles() -> None:
    """With all weight removed an offset of the encoders changes nothing that they show."""
    log = recording()
    shifted = NOMINAL.copy()
    shifted[:, servo.OFFSET] = 0.05
    still = np.zeros(3)
    a = batched.simulate(MODEL, log, NOMINAL, gravity=still)
    b = batched.simulate(MODEL, log, shifted, gravity=still)
    np.testing.assert_allclose(a, b, atol=2e-3)
    assert np.abs(batched.simulate(MODEL, log, shifted) - batched.simulate(MODEL, log, NOMINAL)).max() > 1e-3


def test_joints_stop_at_the_limits_given() -> None:
    log = recording()
    lower, upper = ROBOT.home - 0.1, ROBOT.home + 0.1
    out = batched.simulate(MODEL, log, NOMINAL, lower=lower, upper=upper)
    assert (out >= lower - 1e-9).all() and (out <= upper + 1e-9).all()
    assert (np.abs(out - upper) < 1e-9).any()


def test_a_finer_step_changes_little() -> None:
    log = recording()
    coarse, fine = (
        batched.simulate(MODEL, log, NOMINAL, rate=240),
        batched.simulate(MODEL, log, NOMINAL, rate=2400),
    )
    assert np.rad2deg(np.sqrt(np.mean((coarse - fine) ** 2))) < 0.35


def test_torque_limits_are_heeded() -> None:
    log = recording()
    weak = batched.simulate(MODEL, log, NOMINAL, torque_limit=np.full(6, 0.02))
    assert np.abs(weak - batched.simulate(MODEL, log, NOMINAL)).max() > 0.1


@pytest.mark.parametrize(("fps", "expected"), [(30, 8), (50, 5), (18.5, 13), (240, 1), (1000, 1)])
def test_substeps(fps: float, expected: int) -> None:
    assert batched.substeps(fps) == expected


def test_recordings_are_checked() -> None:
    ok = np.zeros((10, 6))
    with pytest.raises(UserError, match="must both be"):
        batched.ArmRecording(ok, np.zeros((9, 6)), np.array([0, 10]), 30)
    with pytest.raises(UserError, match="starts must run"):
        batched.ArmRecording(ok, ok, np.array([0, 9]), 30)
    with pytest.raises(UserError, match="at least two frames"):
        batched.ArmRecording(ok, ok, np.array([0, 1, 10]), 30)
    with pytest.raises(UserError, match="fps"):
        batched.ArmRecording(ok, ok, np.array([0, 10]), 0)


def test_what_is_compared_with_what() -> None:
    state = np.arange(5.0)[:, None] * np.ones(6)
    log = batched.ArmRecording(state, state, np.array([0, 3, 5]), 30)
    assert log.compared().tolist() == [True, True, False, True, False]
    assert log.outcome()[:, 0].tolist() == [1, 2, 2, 4, 4]
    assert log.initial[:, 0].tolist() == [0, 3]


def test_a_ramp_is_a_staircase_of_a_faster_clock() -> None:
    """Commands that a 300 Hz clock reached in a straight line, recorded at 30 Hz, against all of them."""
    log = recording(40, 1)
    fine = np.concatenate(
        [log.command[:1].repeat(10, axis=0)]
        + [a + (np.arange(1, 11) / 10)[:, None] * (b - a) for a, b in zip(log.command[:-1], log.command[1:])]
    )
    every = batched.ArmRecording(fine, fine.copy(), np.array([0, len(fine)]), 300.0)
    ramp = batched.ArmRecording(log.command, log.state, log.starts, 30.0, ramp=True)
    expected = batched.simulate(MODEL, every, NOMINAL, rate=300.0)[0][9::10]
    np.testing.assert_allclose(batched.simulate(MODEL, ramp, NOMINAL, rate=300.0)[0], expected, atol=1e-12)
    assert np.abs(batched.simulate(MODEL, log, NOMINAL, rate=300.0)[0] - expected).max() > 0.005
    assert ramp.select([0]).ramp
