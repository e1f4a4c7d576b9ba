"""The torque that a motion needs, and the box that the tool stays in."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.errors import UserError
from sim2real.gate.gate import CLIPPED, NAMES, TORQUE, WORKSPACE, Gate
from sim2real.model.dynamics import INVERSE_COLUMNS, add_point_mass, inverse_dynamics_into, mass_and_bias
from sim2real.model.kinematics import link_poses, tool_position
from sim2real.model.servo import ARMATURE, nominal_parameters
from sim2real.robot import GateSettings, Robot

ROBOT = Robot.load("so101")
DT = 1 / ROBOT.command_rate
CAP = 1.1
"""N·m, little enough to matter."""
WEAK = replace(ROBOT, gate=replace(ROBOT.gate, torque=CAP))
SMOOTHING = 0.02
"""Share by which the mean of five ticks may need more than the ticks that were checked."""


def needed(positions: np.ndarray, payload: float = ROBOT.gate.payload) -> np.ndarray:
    """(T - 2, n) N·m: of the motion through these poses, with the payload, by finite differences."""
    inertials = np.array(ROBOT.model.inertials)
    add_point_mass(inertials, int(ROBOT.model.tool[0]), payload, np.array(ROBOT.model.tool[10:13]))
    speed = np.diff(positions, axis=0) / DT
    change = np.diff(speed, axis=0) / DT
    mass, bias = mass_and_bias(ROBOT.model, positions[1:-1], speed[:-1], inertials=inertials)
    armature = nominal_parameters(ROBOT)[:, ARMATURE]
    return np.einsum("tij,tj->ti", mass, change) + armature * change + bias


def played(gate: Gate, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positions, masks = [gate.position] * 2, []
    for request in requests:
        masks.append(gate.step(request))
        positions.append(gate.position)
    return np.array(positions), np.array(masks)


def test_inverse_dynamics_agree_with_mass_matrix_and_bias() -> None:
    model = ROBOT.model
    rng = np.random.default_rng(0)
    torque, work = np.zeros(6), np.zeros((6, INVERSE_COLUMNS))
    for _ in range(50):
        q, qd, qdd = rng.uniform(model.lower, model.upper), 3 * rng.normal(size=6), 30 * rng.normal(size=6)
        mass, bias = mass_and_bias(model, q, qd)
        rotations, origins = link_poses(model, q)
        inverse_dynamics_into(model.chain, model.inertials, qd, qdd, 9.81, rotations, origins, work, torque)
        assert np.allclose(torque, mass @ qdd + bias, atol=1e-10)


def test_inverse_dynamics_with_a_slider(tmp_path) -> None:
    from sim2real.urdf import ArmModel

    inertial = (
        '<inertial><origin xyz="0.1 0.02 0.03"/><mass value="1.5"/>'
        '<inertia ixx="0.01" iyy="0.02" izz="0.015"/></inertial>'
    )
    urdf = tmp_path / "slider.urdf"
    urdf.write_text(
        f"""<robot name="slider"><link name="base"/><link name="a">{inertial}</link><link name="b">{inertial}</link>
        <link name="c">{inertial}</link>
        <joint name="turn" type="revolute"><parent link="base"/><child link="a"/><axis xyz="0 1 0"/>
          <limit lower="-1" upper="1"/></joint>
        <joint name="slide" type="prismatic"><parent link="a"/><child link="b"/><origin xyz="0.2 0 0" rpy="0.3 0 0"/>
          <axis xyz="1 0 0"/><limit lower="0" upper="1"/></joint>
        <joint name="twist" type="revolute"><parent link="b"/><child link="c"/><origin xyz="0 0.1 0" rpy="0 0.4 0"/>
          <axis xyz="0 0 1"/><limit lower="-1" upper="1"/></joint></robot>"""
    )
    model = ArmModel.from_urdf(urdf, ("turn", "slide", "twist"), "c")
    rng = np.random.default_rng(1)
    torque, work = np.zeros(3), np.zeros((3, INVERSE_COLUMNS))
    for _ in range(20):
        q, qd, qdd = rng.normal(size=3), rng.normal(size=3), rng.normal(size=3)
        mass, bias = mass_and_bias(model, q, qd)
        rotations, origins = link_poses(model, q)
        inverse_dynamics_into(model.chain, model.inertials, qd, qdd, 9.81, rotations, origins, work, torque)
        assert np.allclose(torque, mass @ qdd + bias, atol=1e-10)


place = st.lists(st.floats(0, 1), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    targets=st.lists(st.tuples(place, st.integers(3, 50)), min_size=1, max_size=6), seed=st.integers(0, 2**31)
)
def test_no_requests_need_more_than_the_torque(targets, seed):
    rng = np.random.default_rng(seed)
    requests = [
        ROBOT.lower + np.array(where) * (ROBOT.upper - ROBOT.lower) + 0.02 * rng.normal(size=6)
        for where, ticks in targets
        for _ in range(ticks)
    ]
    gate = Gate(WEAK)
    positions, _ = played(gate, np.array(requests))
    rest, _ = played(gate, np.full((100, 6), np.nan))
    torque = needed(np.vstack([positions, rest[2:]]))
    assert np.abs(torque).max() <= CAP * (1 + SMOOTHING)


def test_a_motion_that_needs_too_much_is_slowed_down_and_arrives() -> None:
    goal = ROBOT.home + np.array([0.6, 0.5, -0.5, -0.3, 0.0, 0.0])
    requests = np.tile(goal, (800, 1))
    free = replace(ROBOT, gate=replace(ROBOT.gate, torque=float("inf")))
    fast, _ = played(Gate(free), requests)
    peak = np.abs(needed(fast)).max()
    weak = replace(ROBOT, gate=replace(ROBOT.gate, torque=0.9 * peak))
    slow, masks = played(Gate(weak), requests)
    assert np.abs(needed(slow)).max() < (1 + SMOOTHING) * 0.9 * peak
    assert (masks & TORQUE).any() and TORQUE & CLIPPED and NAMES[TORQUE] == "torque"
    # It gets there, later; both end at the same place.
    assert np.abs(slow[-1] - goal).max() < 1e-6
    assert np.abs(slow - goal).sum() > np.abs(fast - goal).sum()


def test_a_pose_that_cannot_be_held_is_not_taken() -> None:
    """Stretched out, the arm needs more of the shoulder than it may give."""
    cap = 0.9
    weak = replace(ROBOT, gate=replace(ROBOT.gate, torque={"shoulder_lift": cap}))
    near = np.array([0.0, -0.28, 0.06, 0.67, 0.0, 0.5])
    far = np.array([0.0, 0.8, -0.72, 0.67, 0.0, 0.5])
    gate = Gate(weak)
    assert gate.clearance(far) > 0 and gate.self_clearance(far) > 0
    assert abs(needed(np.tile(far, (3, 1)))[0, 1]) > 1.1 * cap
    gate.reset(near)
    positions, masks = played(gate, np.tile(far, (1000, 1)))
    assert np.abs(needed(positions)[:, 1]).max() <= cap * (1 + SMOOTHING)
    assert masks[-1] & TORQUE and np.abs(np.diff(positions[-20:], axis=0)).max() < 1e-3
    # An arm that is already there may come out, and not go back.
    gate.reset(far)
    positions, _ = played(gate, np.tile(near, (1000, 1)))
    assert np.abs(positions[-1] - near).max() < 1e-6
    positions, _ = played(gate, np.tile(far, (300, 1)))
    assert np.abs(needed(positions)[:, 1]).max() <= cap * (1 + SMOOTHING)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(targets=st.lists(place, min_size=1, max_size=4))
def test_the_tool_stays_in_its_box(targets):
    low, high = np.array([0.1, -0.15, 0.01]), np.array([0.35, 0.15, 0.3])
    boxed = replace(ROBOT, gate=replace(ROBOT.gate, box=(tuple(low), tuple(high))))
    gate = Gate(boxed)
    assert gate.clearance(ROBOT.home) > 0
    for where in targets:
        positions, _ = played(
            gate, np.tile(ROBOT.lower + np.array(where) * (ROBOT.upper - ROBOT.lower), (80, 1))
        )
        for q in positions:
            tool = tool_position(ROBOT.model, q)
            assert (tool > low - 0.003).all() and (tool < high + 0.003).all()


def test_the_tool_goes_along_the_side_of_its_box() -> None:
    boxed = replace(ROBOT, gate=replace(ROBOT.gate, box=((0.05, -0.05, 0.0), (0.4, 0.05, 0.4))))
    gate = Gate(boxed)
    goal = ROBOT.home + np.array([0.6, 0.0, 0.0, 0.0, 0.5, 0.0])
    _, masks = played(gate, np.tile(goal, (300, 1)))
    assert abs(tool_position(ROBOT.model, gate.position)[1]) == pytest.approx(0.05, abs=2e-3)
    assert (masks & WORKSPACE).any()
    assert gate.position[4] == pytest.approx(goal[4], abs=0.05)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"torque": {"shoulder": 1.0}}, "'shoulder', which is not one of the joints"),
        ({"torque": 0.0}, "torque must be positive, got 0.0"),
        ({"torque": {"shoulder_pan": -1.0}}, "torque must be positive"),
        ({"payload": -0.1}, "payload must be a number from 0 on"),
        ({"self_clearance": float("nan")}, "self_clearance must be a number from 0 on"),
        ({"box": [[0, 0, 0], [1, 1, 0]]}, "each coordinate of the first less"),
        ({"box": [0, 1]}, "two corners"),
    ],
)
def test_settings_are_checked(table, message, tmp_path) -> None:
    import tomllib

    import tomli_w

    text = tomllib.loads((ROBOT.urdf.parent / "so101.toml").read_text())
    text["urdf"] = str(ROBOT.urdf)
    text["gate"] |= table
    file = tmp_path / "arm.toml"
    file.write_text(tomli_w.dumps(text))
    with pytest.raises(UserError, match=message):
        Robot.load(file)


def test_torques_are_given_for_all_joints_or_by_name() -> None:
    assert (Robot.load("so101").torque_limits == 2.4).all()
    some = replace(ROBOT, gate=GateSettings(torque={"elbow_flex": 1.5}))
    assert some.torque_limits[2] == 1.5 and np.isinf(np.delete(some.torque_limits, 2)).all()
