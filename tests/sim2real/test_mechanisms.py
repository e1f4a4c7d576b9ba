"""Things that move on joints: their geometry, and goals that are said of them."""

import math

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.mechanisms import MECHANISMS
from sim2real.objects import ByName, ObjectSpec, Pose
from sim2real.predicates import And, Closed, Open, Predicate, Pressed, Turned, predicate
from sim2real.truth import ObjectState, Truth

SIZES = {
    "drawer": (0.08, 0.07, 0.03), "slider": (0.11, 0.04, 0.015), "lever": (0.05, 0.015), "knob": (0.04, 0.02),
    "lid": (0.06, 0.05, 0.03), "button": (0.016, 0.03),
}  # fmt: skip


def spec(kind: str) -> ObjectSpec:
    return ObjectSpec(kind, kind, SIZES[kind], "red", 0.05)


def truth(kind: str, share: float) -> Truth:
    thing = spec(kind)
    assert thing.joint is not None
    state = ObjectState(thing, np.zeros(3), np.eye(3), joint=share * thing.joint.travel)
    zero = np.zeros(6)
    return Truth(
        0.0, zero, zero, zero, np.array([0.3, 0.0, 0.2]), np.eye(3), np.zeros(3), ByName({kind: state})
    )


@pytest.mark.parametrize("kind", MECHANISMS)
def test_a_handle_moves_along_its_direction(kind: str) -> None:
    joint = spec(kind).joint
    assert joint is not None
    for value in np.linspace(0.1, 0.9, 5) * joint.travel:
        step = 1e-6
        moved = (joint.handle_at(value + step) - joint.handle_at(value - step)) / (2 * step)
        way, per_unit = joint.direction_at(value)
        np.testing.assert_allclose(moved, way * per_unit, atol=1e-6)
        # Where the frame is said to be, the handle is.
        origin, (x, y, z, w) = joint.placed(value)
        axis = np.array([x, y, z])
        handle = np.array(joint.handle)
        turned = handle + 2 * np.cross(axis, np.cross(axis, handle) + w * handle)
        np.testing.assert_allclose(origin + turned, joint.handle_at(value), atol=1e-9)


@pytest.mark.parametrize(
    ("goal", "kind", "true", "false"),
    [
        (Open("drawer"), "drawer", 0.75, 0.6),
        (Open("drawer", 0.4), "drawer", 0.45, 0.3),
        (Closed("drawer"), "drawer", 0.05, 0.2),
        (Open("lid"), "lid", 0.9, 0.1),
        (Pressed("button"), "button", 0.9, 0.3),
        (Turned("knob", 0.5), "knob", 0.6, 0.9),
        (Turned("lever"), "lever", 0.9, 0.7),
        (Turned("slider", 0.0), "slider", 0.1, 0.3),
    ],
)
def test_what_is_so_of_a_joint(goal: Predicate, kind: str, true: float, false: float) -> None:
    assert goal.holds(truth(kind, true))
    assert goal.distance(truth(kind, true)) == 0.0
    assert not goal.holds(truth(kind, false))
    assert goal.distance(truth(kind, false)) > 0.0
    specs = {kind: spec(kind)}
    for share, so in ((true, True), (false, False)):
        assert goal.estimate({f"object.{kind}.joint": np.array([share])}, specs) is so
    assert goal.estimate({}, specs) is None
    assert predicate(goal.to_dict()) == goal
    goal.check(specs)


def test_nearer_is_nearer() -> None:
    away = [Open("drawer").distance(truth("drawer", share)) for share in (0.0, 0.2, 0.4, 0.6)]
    assert away == sorted(away, reverse=True)


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        (Open("button"), "drawer or a lid"),
        (Pressed("drawer"), "a button"),
        (Turned("drawer"), "knob or a lever or a slider"),
        (Open("drawer", 0.95), "0.1 to 0.9"),
        (And((Pressed("button"), Open("drawer"))), "say Pressed last"),
    ],
)
def test_what_no_joint_does_is_refused(goal: Predicate, says: str) -> None:
    with pytest.raises(UserError, match=says):
        goal.check({kind: spec(kind) for kind in SIZES})


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(UserError, match="0 … 1"):
        Turned("knob", math.nan)
    with pytest.raises(UserError, match="0 … 1"):
        predicate({"kind": "turned", "a": "knob", "q": "far"})
    with pytest.raises(UserError, match="0 … 1"):
        Pose(0.2, 0.0, joint=1.5)
    with pytest.raises(UserError, match="mass"):
        ObjectSpec("drawer", "drawer", SIZES["drawer"], "red")
