"""What is believed of things that move, in closed form."""

import math
from itertools import pairwise

import numpy as np
import pytest

from sim2real.moving_track import CONFIRMATIONS, CORRELATION, LYING, TIP, MovingTrack
from sim2real.observation import MAX_AGE, MAX_SPREAD
from sim2real.sighting import Hand, Sighting
from sim2real.tasks.registry import load_task
from sim2real.tracking import Percept, PerceptTracker

CUBE = load_task("lift").objects[0]
FRAME = 1 / 30
REST = CUBE.rest
AT = np.array([0.22, -0.03, REST])


def beside(x: float, y: float, z: float) -> np.ndarray:
    """A place that lies by so much beside the cube's, m."""
    return AT + np.array([x, y, z])


def spread(place: float, angle: float) -> np.ndarray:
    """Covariance of these standard deviations, mm and degrees."""
    return np.diag([(place / 1000) ** 2] * 2 + [math.radians(angle) ** 2])


FREE, HALF = spread(0.3, 1.0), spread(4.0, 15.0)


def seen(
    place: object = AT,
    yaw: float = 0.2,
    covariance: np.ndarray = FREE,
    visible: float = 1.0,
    lifted: float = 0.0,
) -> Sighting:
    return Sighting(np.array(place, dtype=np.float64), yaw, visible, visible, covariance, lifted=lifted)


def hand(place: object, opening: float) -> Hand:
    return Hand(np.array(place, dtype=np.float64), np.eye(3), opening)


def yaw_of(track: MovingTrack, now: float) -> float:
    cosine, sine = track.entries(now)["object.cube.yaw"]
    return math.atan2(sine, cosine) / 4


def place_of(track: MovingTrack, now: float) -> np.ndarray:
    return track.entries(now)["object.cube.position"]


def spread_of(track: MovingTrack, now: float) -> np.ndarray:
    return track.entries(now)["object.cube.spread"]


def test_before_it_is_seen_it_may_be_anywhere() -> None:
    entries = MovingTrack(CUBE).entries(3.0)
    assert entries["object.cube.spread"].tolist() == list(MAX_SPREAD)
    assert entries["object.cube.age"][0] == MAX_AGE


def test_a_first_sighting_is_believed_as_it_is_and_fades() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 1.0)
    np.testing.assert_allclose(place_of(track, 1.0), AT)
    np.testing.assert_allclose(spread_of(track, 1.0), (0.0003, math.radians(1.0)), rtol=1e-9)
    place, angle = LYING
    expected = math.hypot(0.0003, 2 * place / 2), math.hypot(math.radians(1.0), angle)
    np.testing.assert_allclose(spread_of(track, 2.0), expected, rtol=1e-9)


def test_two_sightings_are_weighed_by_their_covariances_and_the_time_between() -> None:
    """A Kalman filter in one number: x, with the noise of a picture that stands for its share of `CORRELATION`."""
    track, dt, sigma = MovingTrack(CUBE), 0.1, 0.002
    noise = np.diag([sigma**2, sigma**2, 0.01])
    track.add(seen(covariance=noise), 0.0)
    track.add(seen(beside(0.003, 0, 0), covariance=noise), dt)
    before, measured = sigma**2 + dt * LYING[0] ** 2, sigma**2 * CORRELATION / dt
    gain = before / (before + measured)
    assert place_of(track, dt)[0] == pytest.approx(AT[0] + gain * 0.003, rel=1e-6)
    assert spread_of(track, dt)[0] == pytest.approx(math.sqrt((1 - gain) * before), rel=1e-4)


def test_what_was_seen_free_weighs_more_than_what_is_half_hidden_now() -> None:
    track = MovingTrack(CUBE)
    for k in range(30):
        track.add(seen(), k * FRAME)
    for k in range(30, 60):
        # The same wrong answer for a second, as one finger before the cube gives it.
        track.add(seen(beside(0.005, 0.0, 0.0), 0.2 + math.radians(30), HALF, visible=0.6), k * FRAME)
    now = 59 * FRAME
    assert math.dist(place_of(track, now), AT) < 0.001
    assert abs(yaw_of(track, now) - 0.2) < math.radians(3)
    assert track.entries(now)["object.cube.age"][0] == 0.0


def test_the_solution_that_agrees_with_the_belief_is_taken() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.0)
    right = seen(beside(0.0005, 0, 0), 0.2, spread(0.5, 2), 0.6)
    wrong = seen(beside(0.004, 0, 0), 0.2 + math.radians(40), spread(0.5, 2), 0.6)
    both = Sighting(wrong.position, wrong.yaw, 0.6, 0.6, spread(2, 25), (wrong, right))
    track.add(both, 0.2)
    assert abs(yaw_of(track, 0.2) - 0.2) < math.radians(1)
    assert math.dist(place_of(track, 0.2), AT) < 0.0006


@pytest.mark.parametrize("known", [False, True])
def test_a_pushed_cube_is_followed(known: bool) -> None:
    track = MovingTrack(CUBE)
    for k in range(60):
        now = k * FRAME
        place = beside(0.05 * now, 0.0, 0.0)
        pushing = hand(np.add(place, (-0.02, 0, 0)), 0.1) if known else None
        if pushing is not None:
            track.follow(now, pushing)
        track.add(seen(place), now, pushing)
        assert math.dist(place_of(track, now), place) < 0.003


def swept(track: MovingTrack, way: list[np.ndarray], *, opening: float = 0.1, sight: bool = False) -> float:
    """The hand goes along places at 0.1 m/s; what is there is not seen meanwhile, unless `sight`; returns the time."""
    now = 1.0
    for here, there in pairwise(way):
        steps = max(1, round(math.dist(here, there) / (0.1 * FRAME)))
        for k in range(steps + 1):
            now += FRAME
            track.follow(now, hand(here + (there - here) * k / steps, opening))
            if sight:
                track.add(seen(), now, hand(here + (there - here) * k / steps, opening))
    return now


def test_what_a_low_hand_comes_to_unseen_is_pushed_on_ahead_of_it() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.9)
    at = beside(0, -0.06, 0), beside(0, 0.05, 0)
    now = swept(track, list(at))
    expected = at[1] + np.array([0, CUBE.width / 2 + TIP, 0])
    np.testing.assert_allclose(place_of(track, now), expected, atol=2e-3)
    assert not track.held
    assert 0.005 < spread_of(track, now)[0] < 0.05, "how it slid on nobody knows"
    # It is seen again, a little aside.
    track.add(seen(expected + np.array([0.01, 0, 0])), now + FRAME)
    np.testing.assert_allclose(place_of(track, now + FRAME), expected + np.array([0.01, 0, 0]), atol=2e-3)


@pytest.mark.parametrize(
    "way",
    [
        [beside(0.04, -0.06, 0), beside(0.04, 0.05, 0)],
        [beside(0, -0.06, 0.05), beside(0, 0.05, 0.05)],
        [beside(0, -0.03, 0), beside(0, -0.08, 0)],
        [beside(0, -0.06, 0), beside(0, -0.03, 0)],
    ],
    ids=["aside", "above", "away", "not so far"],
)
def test_a_hand_that_does_not_come_to_it_pushes_nothing(way: list[np.ndarray]) -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.9)
    now = swept(track, way)
    np.testing.assert_allclose(place_of(track, now), AT, atol=1e-9)


def test_what_is_seen_to_lie_still_is_not_pushed_by_joints_that_are_off() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.9)
    now = swept(track, [beside(0.018, -0.06, 0), beside(0.018, 0.05, 0)], sight=True)
    np.testing.assert_allclose(place_of(track, now), AT, atol=1e-4)


def test_a_hand_that_closed_on_its_way_has_not_closed_at_it() -> None:
    """So comes who pushes: fingers together, long before it is there."""
    track = MovingTrack(CUBE)
    track.add(seen(), 0.9)
    for k, opening in enumerate((0.6, 0.4, 0.2, 0.1)):
        track.follow(0.9 + 0.02 * k, hand(beside(0, -0.09, 0.02), opening))
    now = swept(track, [beside(0, -0.09, 0), beside(0, -0.02, 0), beside(0, -0.02, 0.06)])
    assert not track.held and place_of(track, now)[2] == REST


def test_a_hand_at_the_table_has_lifted_nothing() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.0)
    low = hand(beside(0, -0.02, 0), 0.1)
    track.follow(1.0, low)
    track.add(seen(beside(0.003, 0, 0.018), covariance=spread(8, 20), visible=0.35, lifted=1.0), 1.0, low)
    assert not track.held


def test_what_no_hand_is_near_does_not_move_by_itself() -> None:
    track, away = MovingTrack(CUBE), hand((0.1, 0.2, 0.2), 0.5)
    track.follow(0.0, away)
    track.add(seen(), 0.0, away)
    for k in range(1, 5):
        track.follow(k * FRAME, away)
        track.add(seen(beside(0.02, 0, 0)) if k == 2 else seen(), k * FRAME, away)
        assert math.dist(place_of(track, k * FRAME), AT) < 1e-3


def test_a_jump_is_confirmed_and_until_then_said_to_be_doubtful() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.0)
    there = beside(0.1, 0, 0)
    for k in range(1, CONFIRMATIONS):
        track.add(seen(there), k * FRAME)
        assert math.dist(place_of(track, k * FRAME), AT) < 1e-9
        assert spread_of(track, k * FRAME)[0] > 0.04
    track.add(seen(there), CONFIRMATIONS * FRAME)
    np.testing.assert_allclose(place_of(track, CONFIRMATIONS * FRAME), there)
    assert spread_of(track, CONFIRMATIONS * FRAME)[0] < 0.001


def test_a_jump_after_it_was_lost_from_sight_is_believed_at_once() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.0)
    for k in range(1, 20):
        track.miss(k * FRAME)
    track.add(seen(beside(0.1, 0, 0)), 20 * FRAME)
    np.testing.assert_allclose(place_of(track, 20 * FRAME), beside(0.1, 0, 0))


def carried(track: MovingTrack, heights: list[float], *, sight: Sighting | None = None) -> float:
    """The hand comes to the cube, closes, rises; returns the time."""
    now = 0.0
    at = beside(0.0, 0.012, 0.0)
    for opening in (0.9, 0.9, 0.7, 0.5, 0.4, 0.4):
        track.follow(now, hand(at, opening))
        track.add(seen(), now, hand(at, opening))
        now += FRAME
    for height in heights:
        up = hand(np.add(at, (0, 0, height)), 0.4)
        track.follow(now, up)
        if sight is not None:
            track.add(sight, now, up)
        now += FRAME
    return now - FRAME


def test_a_cube_that_the_hand_took_goes_with_it_unseen() -> None:
    track = MovingTrack(CUBE)
    now = carried(track, [0.005, 0.01, 0.02, 0.04, 0.06])
    assert track.held
    np.testing.assert_allclose(place_of(track, now), beside(0, 0, 0.06), atol=1e-6)
    turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    track.follow(now + FRAME, Hand(beside(0.0, 0.012, 0.06), turned, 0.4))
    np.testing.assert_allclose(place_of(track, now + FRAME), beside(0.012, 0.012, 0.06), atol=1e-6)


def test_a_held_cube_is_not_believed_on_the_table_behind() -> None:
    """A camera that takes it for lying sees it further away, the further the higher the hand."""
    track = MovingTrack(CUBE)
    now = carried(track, [0.01])
    for k in range(40):
        now += FRAME
        up = hand(beside(0, 0.012, 0.01 + 0.002 * k), 0.4)
        track.follow(now, up)
        track.add(seen(beside(-0.8 * 0.002 * k, 0, 0)), now, up)
    assert track.held and place_of(track, now)[2] > 0.07


def test_what_lies_still_while_the_hand_goes_on_has_slipped_out() -> None:
    track = MovingTrack(CUBE)
    now = carried(track, [0.01, 0.03, 0.06])
    there = beside(-0.06, 0, 0)
    for k in range(20):
        now += FRAME
        up = hand(beside(0, 0.012 + 0.003 * k, 0.06), 0.4)
        track.follow(now, up)
        track.add(seen(there), now, up)
        assert track.held == (0.003 * k <= 0.03), "it is not believed before the hand has gone on"
    np.testing.assert_allclose(place_of(track, now), there, atol=1e-3)


def test_jaws_that_close_further_have_lost_what_they_held() -> None:
    track = MovingTrack(CUBE)
    now = carried(track, [0.01, 0.03, 0.06])
    track.follow(now + FRAME, hand(beside(0, 0.012, 0.06), 0.35))
    assert track.held
    track.follow(now + 2 * FRAME, hand(beside(0, 0.012, 0.06), 0.25))
    assert not track.held and place_of(track, now + 2 * FRAME)[2] == REST


def test_half_hidden_pictures_do_not_take_a_cube_out_of_the_hand() -> None:
    track = MovingTrack(CUBE)
    behind = seen(beside(-0.06, 0, 0), covariance=HALF, visible=0.55)
    now = carried(track, [0.01, 0.03, 0.06, 0.06, 0.06, 0.06, 0.06], sight=behind)
    assert track.held and place_of(track, now)[2] > 0.05


def test_a_cube_seen_lifted_at_the_hand_is_held() -> None:
    track = MovingTrack(CUBE)
    track.add(seen(), 0.0)
    up = hand(beside(0, 0.012, 0.08), 0.4)
    track.follow(1.0, up)
    track.add(seen(beside(0.003, 0, 0.075), covariance=spread(8, 20), visible=0.5, lifted=0.99), 1.0, up)
    assert track.held and place_of(track, 1.0)[2] > 0.05
    track.follow(1.1, hand(beside(0, 0.012, 0.08), 0.6))
    assert not track.held, "an opened hand holds nothing"
    assert place_of(track, 1.1)[2] == REST and spread_of(track, 1.1)[0] > 0.005


def test_a_hand_that_closed_beside_it_and_left_without_it() -> None:
    track = MovingTrack(CUBE)
    now = carried(track, [0.005, 0.02, 0.04], sight=seen())
    for _ in range(3):
        now += FRAME
        track.add(seen(), now, hand(beside(0, 0.012, 0.04), 0.4))
    assert not track.held
    np.testing.assert_allclose(place_of(track, now), AT, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_beliefs_hold_what_they_promise(seed: int) -> None:
    """Random covariances and errors drawn from them: the belief's own ellipse holds its share, and stays one."""
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(60):
        track = MovingTrack(CUBE)
        truth = np.array([*(AT[:2] + rng.normal(0, 0.02, 2)), rng.uniform(-0.7, 0.7)])
        for k in range(6):
            root = rng.normal(0, 1, (3, 3)) * np.array([[0.002], [0.002], [0.1]])
            covariance = root @ root.T + spread(0.2, 1)
            x, y, yaw = rng.multivariate_normal(truth, covariance)
            track.add(seen((x, y, REST), yaw, covariance), k * CORRELATION)
        now = 5 * CORRELATION
        place, (sigma, turn) = place_of(track, now), spread_of(track, now)
        assert np.linalg.eigvalsh(track._covariance).min() > 0
        inside.append(math.dist(place[:2], truth[:2]) < 2.45 * sigma * math.sqrt(2))
        inside.append(abs(math.remainder(yaw_of(track, now) - truth[2], math.pi / 2)) < 1.96 * turn)
    assert np.mean(inside) > 0.93


@pytest.mark.parametrize("seed", range(3))
def test_nothing_makes_a_belief_that_is_not_finite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track = MovingTrack(CUBE)
    now = 0.0
    for _ in range(400):
        now += rng.choice([0.0, FRAME, 1.0, -0.01])
        place = AT + rng.normal(0, 0.05, 3)
        nan = rng.random() < 0.05
        covariance = (
            np.zeros((3, 3)) if rng.random() < 0.1 else spread(rng.uniform(0, 10), rng.uniform(0, 40))
        )
        sight = seen(
            place * (np.nan if nan else 1.0),
            rng.uniform(-9, 9),
            covariance,
            rng.random(),
            lifted=rng.random(),
        )
        where = hand(place + rng.normal(0, 0.02, 3), rng.uniform(0, 1)) if rng.random() < 0.7 else None
        if where is not None:
            track.follow(now, where)
        if rng.random() < 0.3:
            track.miss(now)
        else:
            track.add(sight, now, where)
        entries = track.entries(now)
        assert all(np.isfinite(value).all() for value in entries.values())
        assert (entries["object.cube.spread"] <= MAX_SPREAD).all()
        assert (entries["object.cube.spread"] >= 0).all()
        assert 0 <= entries["object.cube.age"][0] <= MAX_AGE


def test_the_tracker_tells_tracks_what_pictures_do_not_show() -> None:
    tracker = PerceptTracker([CUBE])
    tracker.add(Percept(0.0, {"cube": seen()}))
    for k in range(1, 31):
        tracker.add(Percept(k * FRAME))
    place, _ = tracker.entries(1.0)["object.cube.spread"]
    assert place > 0.005, "what is hidden by who knows what may be moved"
