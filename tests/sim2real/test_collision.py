"""Distances between links against Coal and Bullet, and what a gate makes of them."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.gate.collision import boxes_gap, forget, known_gap, self_gap
from sim2real.gate.gate import COLLISION, Gate
from sim2real.gate.geometry import Geometry, views
from sim2real.gate.shapes import collision_shapes
from sim2real.model.kinematics import link_poses, link_poses_into
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet

ROBOT = Robot.load("so101")
GATE = Gate(ROBOT)


def kept() -> dict[tuple[str, str], float]:
    """The pairs of links that are kept apart, by name, and what they keep, m."""
    g: Geometry = views(GATE._geometry)

    def name(group: float) -> str:
        link = int(g.groups[int(group), 0])
        return "base" if link < 0 else ROBOT.model.link_names[link]

    return {(name(a), name(b)): keep for a, b, keep in g.pairs.tolist() if keep > -math.inf}


KEPT = kept()
SMOOTHING = 0.004
"""m by which the mean of five ticks may cut a corner of the way that was checked, see docs/gate.md."""


class Bullet:
    """The arm in a physics client of its own: distances between its links by another program."""

    def __init__(self) -> None:
        self.client = bullet.connect(bullet.DIRECT)
        self.arm = bullet.loadURDF(str(ROBOT.urdf), useFixedBase=True, physicsClientId=self.client)
        self.links = {"base": -1, **{name: i for i, name in enumerate(ROBOT.model.link_names)}}

    def distances(self, q: np.ndarray) -> dict[tuple[str, str], float]:
        for joint, angle in enumerate(q.tolist()):
            bullet.resetJointState(self.arm, joint, angle, physicsClientId=self.client)
        found = {}
        for a, b in KEPT:
            points = bullet.getClosestPoints(
                self.arm, self.arm, 0.05, self.links[a], self.links[b], physicsClientId=self.client
            )
            found[a, b] = min((point[8] for point in points), default=0.05)
        return found


@pytest.fixture(scope="module")
def oracle() -> Iterator[Bullet]:
    client = Bullet()
    yield client
    bullet.disconnect(client.client)


def geometry(gate: Gate) -> Geometry:
    return views(gate._geometry)


def test_gaps_between_boxes_agree_with_coal() -> None:
    coal = pytest.importorskip("coal")
    rng = np.random.default_rng(0)
    signs = set()
    for _ in range(400):
        halves, boxes, placed = [], [], []
        for _ in range(2):
            half = rng.uniform(0.005, 0.06, 3)
            rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            rotation *= np.linalg.det(rotation)
            centre = rng.uniform(-0.06, 0.06, 3)
            halves.append(half)
            boxes.append((coal.Box(*(2 * half)), coal.Transform3s(rotation, centre)))
            placed.append(np.concatenate([rotation.ravel(), centre]))
        result = coal.DistanceResult()
        coal.distance(boxes[0][0], boxes[0][1], boxes[1][0], boxes[1][1], coal.DistanceRequest(), result)
        gap = boxes_gap(placed[0], halves[0], placed[1], halves[1], np.inf)
        if result.min_distance <= 0:
            # Overlapping: the depth is exact.
            assert gap == pytest.approx(result.min_distance, abs=1e-5)
        else:
            # Apart: never more than the distance, and above zero.
            assert 0 < gap <= result.min_distance + 1e-6
        signs.add(gap > 0)
    assert signs == {True, False}


def test_which_links_are_kept_apart() -> None:
    assert set(KEPT) >= {("base", "gripper"), ("shoulder", "wrist"), ("upper_arm", "jaw")}
    # Neighbours are not, nor is the jaw from the hand that carries it.
    assert not {("gripper", "jaw"), ("base", "shoulder"), ("wrist", "gripper")} & set(KEPT)
    assert KEPT["base", "gripper"] == ROBOT.gate.self_clearance
    # The rest pose folds the arm up; that is allowed, and a little more.
    assert KEPT["shoulder", "wrist"] < 0
    assert GATE.self_clearance(ROBOT.rest) == pytest.approx(1e-3)


def test_links_are_as_far_apart_as_bullet_says(oracle: Bullet) -> None:
    rng = np.random.default_rng(1)
    close = 0
    for _ in range(150):
        q = rng.uniform(ROBOT.lower, ROBOT.upper)
        gap = GATE.self_clearance(q)
        other = min(distance - KEPT[pair] for pair, distance in oracle.distances(q).items())
        if gap < 0.02 or other < 0.02:
            close += 1
            # Boxes edge to edge look a little nearer than they are.
            assert gap <= other + 1e-3
            assert gap > other - 0.012
    assert close > 30


def test_what_is_remembered_is_never_too_much() -> None:
    rng = np.random.default_rng(2)
    g = geometry(GATE)
    q = ROBOT.home.copy()
    velocity = np.zeros(6)
    looked = 0
    forget(g)
    for _ in range(4000):
        velocity = 0.98 * velocity + 0.05 * rng.normal(size=6)
        q = np.clip(q + 0.01 * velocity, ROBOT.lower, ROBOT.upper)
        link_poses_into(g.chain, q, g.rotations, g.origins)
        told = known_gap(q, g, 0.004, 0)
        looked += bool((g.remembered[0] == q).all())
        exact = self_gap(g, np.inf)[0]
        # The gap along fifteen directions is a little less than the distance, which is what may be relied on.
        assert told <= max(exact, 0.0) + 0.003
        if exact < 0:
            assert told <= exact + 0.003
    assert 10 < looked < 3000
    forget(g)


target = st.lists(st.floats(-0.1, 1.1), min_size=6, max_size=6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    targets=st.lists(st.tuples(target, st.integers(5, 60)), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_no_requests_bring_the_arm_into_itself(oracle, targets, seed):
    rng = np.random.default_rng(seed)
    gate = Gate(ROBOT)
    last = gate.position
    for place, ticks in targets:
        goal = ROBOT.lower + np.array(place) * (ROBOT.upper - ROBOT.lower)
        for _ in range(ticks):
            gate.step(goal + 0.02 * rng.normal(size=6))
            # Where it is sent, and half-way there.
            for q in (gate.position, (gate.position + last) / 2):
                for pair, distance in oracle.distances(q).items():
                    assert distance > KEPT[pair] - SMOOTHING, pair
            last = gate.position


folded = st.tuples(
    *(st.floats(*ends) for ends in ((-1.5, 1.5), (-1.7, -0.8), (0.9, 1.65), (0.6, 1.6), (-2, 2), (0, 1.5)))
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(start=folded, goal=folded, seed=st.integers(0, 2**31))
def test_an_arm_that_starts_in_itself_may_only_come_out(start, goal, seed):
    gate = Gate(ROBOT)
    gate.reset(np.array(start))
    rng = np.random.default_rng(seed)
    # The deepest there may be; what came out stays out.
    floor = min(gate.self_clearance(np.array(start)), 0.0)
    for k in range(120):
        request = np.array(goal if k < 60 else ROBOT.home) + 0.02 * rng.normal(size=6)
        gate.step(request)
        gap = gate.self_clearance(gate.position)
        assert gap > floor - SMOOTHING
        floor = max(floor, min(gap, 0.0))


def test_a_pose_in_collision_is_approached_and_held_off() -> None:
    gate = Gate(ROBOT)
    # The elbow closes until the fingers would be in the shoulder.
    start = np.array([-1.34, -0.64, 1.13, -1.58, 2.7, 0.65])
    goal = start.copy()
    goal[2] = 1.67
    assert gate.self_clearance(goal) < -0.01 and gate.clearance(goal) > 0
    gate.reset(start)
    masks = [gate.step(goal) for _ in range(400)]
    assert masks[-1] & COLLISION and gate.counts["self_collision"] > 100
    assert 0 <= gate.self_clearance(gate.position) < 1e-3
    end = gate.position
    for _ in range(50):
        gate.step(goal)
    assert np.abs(gate.position - end).max() < 1e-3


def test_the_way_to_rest_and_back_is_free() -> None:
    gate = Gate(ROBOT)
    for goal in (ROBOT.rest, ROBOT.home):
        for _ in range(400):
            gate.step(goal)
        assert np.abs(gate.position - goal).max() < 1e-6
    assert gate.counts["self_collision"] < 40


def test_shapes_are_read_from_the_urdf() -> None:
    shapes = collision_shapes(ROBOT)
    assert len(shapes) == 15 and {s.link for s in shapes} == {-1, 0, 1, 2, 3, 4, 5}
    rotations, origins = link_poses(ROBOT.model, np.zeros(6))
    for s in shapes:
        if s.link >= 0:
            corners = s.corners @ rotations[s.link].T + origins[s.link]
            assert np.abs(corners).max() < 0.6
    wide = replace(ROBOT, gate=replace(ROBOT.gate, self_clearance=0.01))
    assert Gate(wide).self_clearance(ROBOT.home) == pytest.approx(GATE.self_clearance(ROBOT.home) - 0.006)
