"""Checks of recorded joints."""

import numpy as np
import pytest

from pipelines.identification.recording_checks import (
    contradicts,
    doubts,
    frame_numbers,
    glitches,
    hand_guided,
    leading,
    measured_rate,
    moving_frames,
    opposed,
    without_turns,
)
from sim2real.errors import listed

TIME = np.arange(200) / 30


def wave(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(0.6 * np.sin(rng.uniform(2, 5, 3) * TIME[:, None] + rng.uniform(0, 6, 3)))


def test_the_rate_is_that_of_the_mean_step() -> None:
    """A 100 Hz loop records 30 Hz after 3, 3 and 4 ticks; a pause is not a frame."""
    uneven = np.cumsum(np.tile([0.03, 0.03, 0.04], 30))
    assert measured_rate([uneven]) == pytest.approx(30.0, rel=0.01)
    assert measured_rate([np.concatenate([uneven, 5.0 + uneven])]) == pytest.approx(30.0, rel=0.01)
    # Every other frame missing now and then, a clock that was set back: the rate is that of the rest.
    assert measured_rate([np.delete(TIME, [9, 40, 41, 90]), TIME[50:] - 1.0]) == pytest.approx(30.0)
    assert measured_rate([np.concatenate([TIME[:100], TIME[:100]])]) == pytest.approx(30.0)
    assert measured_rate([np.zeros(5)]) is None and measured_rate([]) is None
    assert contradicts(29.0, 30.0) and not contradicts(29.9, 30.0)


def test_a_glitch_is_alone_and_beyond_what_a_servo_can_do() -> None:
    state = wave()
    assert not glitches(state, 30.0).any()
    state[0, 1] += 0.5
    state[40, 2] -= 0.3
    state[90:92, 0] += 0.5  # two samples in a row are no glitch: the arm was pushed
    state[120:, 1] += 0.4  # a step that stays
    state[150, 2] += 0.05  # what vibration does
    assert np.argwhere(glitches(state, 30.0)).tolist() == [[0, 1], [40, 2]]


def test_the_limit_goes_with_the_rate() -> None:
    """At 10 Hz an arm can be 0.5 rad away for one sample; at 100 Hz not even 0.06 rad."""
    state = np.zeros((9, 1))
    state[4] = 0.5
    assert not glitches(state, 10.0).any() and glitches(state, 30.0).sum() == 1
    state[4] = 0.06
    assert not glitches(state, 30.0).any() and glitches(state, 100.0).sum() == 1
    assert not glitches(state[:2], 30.0).any()


def test_hand_guiding_shows_whatever_the_pauses() -> None:
    state = [wave(1), wave(2)]
    ahead = [np.concatenate([s[1:], s[-1:]]) for s in state]
    assert hand_guided(ahead, state) == "state[t+1]"
    assert hand_guided(state, state) == "state[t]"
    servo = [np.concatenate([s[4:], np.repeat(s[-1:], 4, axis=0)]) for s in state]
    assert hand_guided(servo, state) is None
    # A servo holds exactly where it was told to for most of the time, and moves a little: no hand.
    still = [np.concatenate([np.repeat(s[:1], 2000, axis=0), s]) for s in state]
    told = [np.concatenate([np.repeat(s[:1], 2000, axis=0), c]) for s, c in zip(state, servo)]
    assert hand_guided(told, still) is None
    # And a guided arm that rests for a long time is guided all the same.
    led = [np.concatenate([s[1:], s[-1:]]) for s in still]
    assert hand_guided(led, still) == "state[t+1]"
    assert hand_guided([np.zeros((9, 2))], [np.zeros((9, 2))]) is None
    assert moving_frames([np.zeros((9, 2))]) == 0 and moving_frames(state) == 398


def test_missing_frames_are_counted_and_jitter_is_not() -> None:
    rng = np.random.default_rng(0)
    kept = np.delete(np.arange(200), [20, 60, 61, 150])
    assert (frame_numbers(kept / 30, 30.0) == kept).all()
    late = (np.arange(200) + rng.uniform(0.0, 0.45, 200)) / 30
    assert (frame_numbers(late, 30.0) == np.arange(200)).all()
    drifting = np.arange(900) / 29.75
    assert (frame_numbers(drifting, 30.0) == np.arange(900)).all()
    wrong = TIME.copy()
    wrong[100:] -= 3.0
    wrong[150] = np.nan
    assert (frame_numbers(wrong, 30.0) == np.arange(200)).all()


def test_whole_turns_are_taken_out() -> None:
    state = wave() + np.array([0.0, 2.9, 0.0])
    command = state + 0.05
    wrapped, told = ((values + np.pi) % (2 * np.pi) - np.pi for values in (state, command))
    assert np.abs(np.diff(wrapped[:, 1])).max() > 6
    smooth_command, smooth, jumped = without_turns(told, wrapped)
    assert jumped and smooth == pytest.approx(state) and smooth_command == pytest.approx(command)
    assert without_turns(command, state)[2] is False
    # Alike however many turns off, and whichever of the two wrapped.
    assert without_turns(told, state + np.array([0, 2 * np.pi, 0]))[1] == pytest.approx(state)


def test_commands_that_follow_the_motion_are_found() -> None:
    rng = np.random.default_rng(0)
    state = [wave(seed) for seed in range(3)]
    late = [np.roll(s, 3, axis=0) + rng.normal(0, 1e-4, s.shape) for s in state]
    assert leading(late, state) == 3.0
    ahead = [np.roll(s, -3, axis=0) + rng.normal(0, 1e-4, s.shape) for s in state]
    assert leading(ahead, state) is None


def test_a_joint_that_turns_the_other_way_is_found() -> None:
    state = [wave(seed) for seed in range(2)]
    command = [np.roll(s, -3, axis=0) * [1, -1, 1] for s in state]
    assert opposed(command, state).tolist() == [False, True, False]
    # A joint that holds against its command, or hardly moves, is another matter.
    still = [s * [1, 0.01, 1] for s in state]
    assert not opposed(command, still).any()


def test_a_doubtful_rate_is_told() -> None:
    state = [wave(seed) for seed in range(2)]
    command = [np.roll(s, -4, axis=0) + 1e-3 for s in state]
    assert doubts(command, state, 30.0) == []
    (doubt,) = doubts(command, state, 90.0)
    assert "the rate of 90 Hz is doubtful" in doubt and "--fps" in doubt
    ahead = [np.concatenate([s[1:], s[-1:]]) for s in state]
    assert doubts(ahead, state, 90.0) == []  # nobody's servo
    assert listed([3, 1, 3]) == "1, 3" and listed(list(range(11))).endswith("7 and 3 more")
