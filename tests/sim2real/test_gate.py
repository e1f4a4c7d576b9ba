"""The gate's promises, checked on what it sends: finite differences of the positions, never its own state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.errors import UserError
from sim2real.gate import gate as gate_module
from sim2real.gate.gate import CLIPPED, CONFIRM, DISCONTINUITY, NOT_FINITE, POSITION, WORKSPACE, Gate
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
DT = 1 / ROBOT.command_rate


def run(gate: Gate, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T + 1, n), the start included, and masks (T,)."""
    positions, masks = [gate.position], []
    for request in requests:
        masks.append(gate.step(request))
        positions.append(gate.position)
    return np.array(positions), np.array(masks)


def check_limits(gate: Gate, positions: np.ndarray, speed: float = 1.0) -> None:
    """Finite differences of what was sent, from rest before the first row, within every limit."""
    padded = np.vstack([positions[:1]] * 3 + [positions])
    velocity = np.diff(padded, axis=0) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    jerk = np.diff(acceleration, axis=0) / DT
    for name, values in (("velocity", velocity), ("acceleration", acceleration), ("jerk", jerk)):
        limit = speed * ROBOT.limits(name)
        assert (np.abs(values) <= limit * (1 + 1e-6) + 1e-6).all(), (name, np.abs(values).max(axis=0))
    low = np.minimum(ROBOT.lower + ROBOT.gate.position_margin, positions[0])
    high = np.maximum(ROBOT.upper - ROBOT.gate.position_margin, positions[0])
    assert (positions >= low - 1e-9).all() and (positions <= high + 1e-9).all()


value = st.one_of(
    st.floats(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.just(float("nan")),
)
segment = st.tuples(st.lists(value, min_size=6, max_size=6), st.integers(1, 40), st.floats(0, 0.3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    segments=st.lists(segment, min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
    speed=st.sampled_from([1.0, 0.3]),
    guard=st.booleans(),
)
def test_no_requests_leave_the_limits(segments, seed, speed, guard):
    rng = np.random.default_rng(seed)
    rows = []
    for target, ticks, noise in segments:
        rows += [np.array(target) + noise * rng.normal(size=6) for _ in range(ticks)]
    gate = Gate(ROBOT, speed, guard=guard)
    gate.reset(ROBOT.home)
    positions, _ = run(gate, np.array(rows))
    assert np.isfinite(positions).all()
    check_limits(gate, positions, speed)
    if guard:
        # The way between two clear poses may dip a little, but no guarded point reaches the table.
        assert min(gate.clearance(q) for q in positions) > -ROBOT.gate.table_clearance
    # From wherever that led, holding the request brings it to rest, within the limits.
    rest, _ = run(gate, np.full((200, 6), np.nan))
    check_limits(gate, np.vstack([positions, rest[1:]]), speed)
    assert gate.at_rest


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    start=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    target=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    speed=st.sampled_from([1.0, 0.25]),
)
def test_a_stationary_request_is_reached_and_held(start, target, speed):
    low, high = ROBOT.lower + 0.011, ROBOT.upper - 0.011
    gate = Gate(ROBOT, speed, guard=False)
    gate.reset(low + np.array(start) * (high - low))
    goal = low + np.array(target) * (high - low)
    positions, _ = run(gate, np.tile(goal, (int(300 / speed), 1)))
    check_limits(gate, positions, speed)
    assert np.allclose(positions[-50:], goal, atol=1e-9)
    assert gate.at_rest


@settings(max_examples=40, deadline=None, derandomize=True)
@given(target=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_request_below_the_table_stops_above_it(target):
    low, high = ROBOT.lower + 0.02, ROBOT.upper - 0.02
    goal = low + np.array(target) * (high - low)
    gate = Gate(ROBOT)
    positions, masks = run(gate, np.tile(goal, (1500, 1)))
    check_limits(gate, positions)
    assert min(gate.clearance(q) for q in positions) > -ROBOT.gate.table_clearance
    if gate.clearance(goal) < 0:
        assert masks[-1] & WORKSPACE
    # It comes to a stop and does not chatter against the boundary.
    assert np.abs(np.diff(positions[-50:], axis=0)).max() < 1e-3


def test_a_feasible_motion_passes_untouched_and_late():
    time = np.arange(300) * DT
    wave = np.sin(2 * np.pi * 0.5 * time) ** 3
    requests = ROBOT.home - np.array([0, 0, 0, 0.3, 0, 0]) + 0.15 * wave[:, None] * np.ones(6)
    gate = Gate(ROBOT)
    gate.reset(requests[0])
    positions, masks = run(gate, requests)
    assert (masks & CLIPPED == 0).all() and gate.counts["discontinuity"] == 0
    late = round(gate.delay / DT)
    # A mean over five ticks of a curve with little curvature is the curve two ticks ago.
    assert late == 2 and np.abs(positions[1:][late:] - requests[:-late]).max() < 2e-3


def test_the_gate_goes_along_the_table():
    """A request that slides below the table is followed on the table, not held at its edge."""
    gate = Gate(ROBOT)
    low = ROBOT.home.copy()
    low[1] += 1.2
    assert gate.clearance(low) < -0.02
    run(gate, np.tile(low, (200, 1)))
    turned = low.copy()
    turned[0] += 0.6
    positions, _ = run(gate, np.tile(turned, (200, 1)))
    assert positions[-1, 0] == pytest.approx(turned[0], abs=0.02)
    assert gate.clearance(positions[-1]) == pytest.approx(0, abs=2e-3)


def test_not_finite_requests_brake_and_are_counted():
    gate = Gate(ROBOT)
    moving, _ = run(gate, np.linspace(ROBOT.home, ROBOT.home + 0.3, 30))
    bad = ROBOT.home.copy()
    bad[3] = np.inf
    positions, masks = run(gate, np.tile(bad, (60, 1)))
    assert (masks == masks[0] & NOT_FINITE | masks & gate_module.JERK).all() and (masks & NOT_FINITE).all()
    check_limits(gate, np.vstack([moving, positions[1:]]))
    assert np.abs(np.diff(positions, axis=0)[0]).max() > 1e-3, "it must not stop dead"
    assert gate.at_rest and gate.counts["not_finite"] == 60


def test_a_jump_is_rejected_until_it_is_confirmed():
    gate = Gate(ROBOT, guard=False)
    far = ROBOT.home + np.array([1.5, 0, 0, 0, 0, 0])
    assert gate.step(far) & DISCONTINUITY
    assert gate.step(ROBOT.home) == 0, "one stray request changes nothing"
    masks = [gate.step(far) for _ in range(CONFIRM + 1)]
    assert all(mask & DISCONTINUITY for mask in masks[: CONFIRM - 1])
    assert not any(mask & DISCONTINUITY for mask in masks[CONFIRM - 1 :])
    before = gate.position
    gate.step(far)
    assert gate.position[0] > before[0]


def test_an_arm_outside_its_limits_may_only_come_in():
    gate = Gate(ROBOT, guard=False)
    start = ROBOT.home.copy()
    start[1] = ROBOT.lower[1] - 0.05
    gate.reset(start)
    out = start.copy()
    out[1] -= 0.2
    positions, masks = run(gate, np.tile(out, (50, 1)))
    assert np.allclose(positions, start) and (masks & POSITION).all()
    run(gate, np.tile(ROBOT.home, (300, 1)))
    positions, _ = run(gate, np.tile(start, (300, 1)))
    assert positions[-1, 1] == pytest.approx(ROBOT.lower[1] + ROBOT.gate.position_margin)


def test_the_compiled_tick_equals_the_interpreted_one(monkeypatch):
    rng = np.random.default_rng(4)
    requests = ROBOT.home + np.cumsum(rng.normal(0, 0.03, (150, 6)), axis=0)
    requests[40] = np.nan
    requests[90, 1] += 1.0
    compiled, compiled_masks = run(Gate(ROBOT), requests)
    for name in ("_tick", "_judge", "_aim", "_steer", "follow", "barred"):
        monkeypatch.setattr(gate_module, name, getattr(gate_module, name).py_func)
    interpreted, masks = run(Gate(ROBOT), requests)
    assert np.allclose(compiled, interpreted, atol=1e-12) and (compiled_masks == masks).all()


def test_further_limits_and_speed_are_checked():
    gate = Gate(ROBOT, lower=np.full(6, -0.5), upper=np.full(6, 0.5), guard=False)
    gate.reset(np.zeros(6))
    positions, _ = run(gate, np.full((200, 6), 0.69))
    assert np.allclose(positions[-1], 0.5 - ROBOT.gate.position_margin)
    with pytest.raises(UserError, match=r"in \(0, 1\]"):
        Gate(ROBOT, 1.5)
    with pytest.raises(UserError, match="finite"):
        gate.reset(np.full(6, np.nan))
    with pytest.raises(UserError, match="no room"):
        Gate(ROBOT, lower=np.full(6, 0.5), upper=np.full(6, 0.4))
    with pytest.raises(ValueError, match="shape"):
        gate.step(np.zeros(5))


def test_hard_braking_is_as_short_as_the_robot_allows():
    ways = {}
    for hard in (False, True):
        gate = Gate(ROBOT, 0.4, guard=False)
        gate.reset(ROBOT.home)
        moving, _ = run(gate, np.tile(ROBOT.home - 0.6, (40, 1)))
        assert np.abs(np.diff(moving[-2:], axis=0) / DT).max() > 0.3
        braking = [gate.position]
        while not gate.at_rest:
            gate.brake(hard=hard)
            braking.append(gate.position)
        positions = np.vstack([moving, braking[1:]])
        check_limits(gate, positions, 1.0 if hard else 0.4)
        ways[hard] = len(braking)
    assert ways[True] < 0.7 * ways[False]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shares=st.lists(st.tuples(st.floats(0.1, 1.0), st.integers(1, 30)), min_size=1, max_size=6))
def test_a_lower_speed_is_reached_within_the_limits(shares):
    gate = Gate(ROBOT, guard=False)
    gate.reset(ROBOT.home)
    positions = [gate.position]
    for k, (share, ticks) in enumerate(shares):
        for _ in range(ticks):
            gate.limit_velocity(share)
            gate.step(ROBOT.home + 0.4 * (-1) ** k)
            positions.append(gate.position)
    check_limits(gate, np.array(positions))
    for _ in range(60):
        gate.limit_velocity(0.1)
        gate.step(ROBOT.home - 0.69)
        positions.append(gate.position)
    slow = np.abs(np.diff(np.array(positions[-20:]), axis=0)) / DT
    assert (slow <= 0.1 * ROBOT.limits("velocity") + 1e-6).all() and slow.max() > 0.1
    check_limits(gate, np.array(positions))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from(["request", "nothing", "brake", "hard"]),
            st.lists(st.floats(-0.69, 0.69), min_size=6, max_size=6),
            st.sampled_from([1.0, 0.4, 0.1]),
            st.integers(1, 25),
        ),
        min_size=1,
        max_size=16,
    ),
    speed=st.sampled_from([1.0, 0.3, 0.05]),
)
def test_no_mixture_of_requests_and_stops_leaves_the_limits(parts, speed):
    """As a loop mixes them: an emergency stop, a hold, a warning that makes everything slower, and going on."""
    gate = Gate(ROBOT, speed)
    gate.reset(ROBOT.home)
    positions = [gate.position]
    for what, offset, share, ticks in parts:
        for _ in range(ticks):
            gate.limit_velocity(share)
            if what in ("brake", "hard"):
                gate.brake(hard=what == "hard")
            else:
                gate.step(ROBOT.home + (np.nan if what == "nothing" else np.array(offset)))
            positions.append(gate.position)
    for _ in range(200):
        gate.brake()
        positions.append(gate.position)
    assert gate.at_rest
    check_limits(gate, np.array(positions), 1.0 if any(part[0] == "hard" for part in parts) else speed)
    velocity = np.diff(positions, axis=0) / DT
    assert (np.abs(velocity) <= speed * ROBOT.limits("velocity") * (1 + 1e-6) + 1e-6).all()
