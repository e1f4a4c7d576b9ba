"""The closed-form inverse kinematics against the general forward kinematics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.errors import UserError
from sim2real.experts.motion import tilt_at
from sim2real.experts.pointing import (
    AXIS_X,
    LOWER_LENGTH,
    MARGIN,
    UPPER_LENGTH,
    forward,
    inverse,
    least_tilt,
    opening_direction,
    pointing_geometry,
    roll_for_heading,
)
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
TOOL = pointing_geometry(ROBOT)
JAWS = pointing_geometry(ROBOT, (0.02, 0.003))


def test_forward_agrees_with_the_general_kinematics() -> None:
    rng = np.random.default_rng(0)
    opening = tool_pose(ROBOT.model, np.zeros(6))[1].T @ opening_direction(ROBOT)
    opening[2] = 0.0  # across the approach direction, the tool's z
    opening /= np.linalg.norm(opening)
    for _ in range(300):
        q = rng.uniform(ROBOT.lower, ROBOT.upper)
        position, rotation = tool_pose(ROBOT.model, q)
        x, y, z, tilt, _ = forward(TOOL, q)
        assert np.allclose((x, y, z), position, atol=1e-12)
        assert math.cos(tilt) == pytest.approx(-rotation[2, 2], abs=1e-9)
        guided = position + rotation @ (0.02 * opening + np.array([0, 0, 0.003]))
        assert np.allclose(forward(JAWS, q)[:3], guided, atol=1e-9)


def test_the_heading_is_where_the_gripper_opens() -> None:
    q = np.zeros(6)
    inverse(TOOL, 0.25, 0.05, 0.03, 0.0, 0.4, ROBOT.lower, ROBOT.upper, q)
    _, _, _, tilt, heading = forward(TOOL, q)
    assert tilt == pytest.approx(0.0, abs=1e-9)
    rotation = tool_pose(ROBOT.model, q)[1] @ tool_pose(ROBOT.model, np.zeros(6))[1].T
    opening = rotation @ opening_direction(ROBOT)
    assert math.atan2(opening[1], opening[0]) == pytest.approx(heading, abs=1e-6)


places = st.tuples(st.floats(0.15, 0.31), st.floats(-0.95, 0.95), st.floats(0.01, 0.23), st.floats(-1.0, 1.0))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(places)
def test_every_place_of_the_tasks_is_reached(place: tuple[float, float, float, float]) -> None:
    radius, angle, z, roll = place
    if z < 0.06:
        radius = min(radius, 0.28)
    x, y = TOOL[AXIS_X] + radius * math.cos(angle), radius * math.sin(angle)
    q = np.empty(6)
    tilt = tilt_at(TOOL, x, y, z, roll)
    assert inverse(TOOL, x, y, z, tilt, roll, ROBOT.lower, ROBOT.upper, q) == 0.0
    reached = forward(TOOL, q)
    # Where the wrist is at its limit it is met to within half a millimetre.
    near = 1e-6 if q[3] < ROBOT.upper[3] - MARGIN - 1e-9 else 5e-4
    assert np.allclose(reached[:3], (x, y, z), atol=near)
    assert reached[3] == pytest.approx(tilt, abs=max(near, 1e-6) * 10)


def test_the_solution_is_a_smooth_function_of_the_place() -> None:
    q = np.empty((2, 6))
    steepest = 0.0
    for radius in np.arange(0.16, 0.30, 0.002):
        for z in np.arange(0.01, 0.22, 0.005):
            for k, moved in enumerate((radius, radius + 0.001)):
                x = TOOL[AXIS_X] + moved
                tilt = tilt_at(TOOL, x, 0.0, z, 0.0)
                inverse(TOOL, x, 0.0, z, tilt, 0.0, ROBOT.lower, ROBOT.upper, q[k])
            steepest = max(steepest, float(np.abs(q[1, :5] - q[0, :5]).max()))
    # 1 mm at an arm of 0.1 m is 0.01 rad; near the straight arm the elbow moves faster.
    assert steepest < 0.04


def test_least_tilt_just_reaches() -> None:
    stretch = TOOL[UPPER_LENGTH] + TOOL[LOWER_LENGTH]
    q = np.empty(6)
    for radius, z in ((0.33, 0.02), (0.30, 0.12), (0.25, 0.2)):
        x = TOOL[AXIS_X] + radius
        tilt = least_tilt(TOOL, x, 0.0, z, 0.0, stretch)
        assert tilt > 0.1
        assert inverse(TOOL, x, 0.0, z, tilt + 0.02, 0.0, ROBOT.lower, ROBOT.upper, q) == 0.0
        assert inverse(TOOL, x, 0.0, z, tilt - 0.02, 0.0, ROBOT.lower, ROBOT.upper, q) > 0.0
    assert least_tilt(TOOL, TOOL[AXIS_X] + 0.2, 0.0, 0.02, 0.0, stretch) == 0.0


def test_roll_follows_the_heading_by_the_nearest_symmetry() -> None:
    q = np.empty(6)
    for yaw in np.linspace(-math.pi, math.pi, 23):
        roll = roll_for_heading(JAWS, 0.22, 0.08, yaw, math.pi / 2, 0.0)
        assert abs(roll) <= math.pi / 4 + 0.05  # the branch is chosen before the last millimetres of pan
        inverse(JAWS, 0.22, 0.08, 0.03, 0.0, roll, ROBOT.lower, ROBOT.upper, q)
        heading = forward(JAWS, q)[4]
        assert math.cos(4 * (heading - yaw)) == pytest.approx(1.0, abs=1e-4)


def test_other_arms_are_refused_with_the_reason() -> None:
    class Fake:
        name, n, arm, joint_names = "scara", 6, ROBOT.arm[:4], ROBOT.joint_names
        model, gripper = ROBOT.model, None

    with pytest.raises(UserError, match="'scara': it has 4 arm joints"):
        pointing_geometry(Fake())  # type: ignore[arg-type]
