"""Goals as values: what they say of a table, of what is seen, and of themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real.errors import UserError
from sim2real.objects import ByName, ObjectSpec
from sim2real.observation import object_entries
from sim2real.predicates import (
    And,
    At,
    Held,
    In,
    Inserted,
    Near,
    Not,
    On,
    Predicate,
    Raised,
    Upright,
    predicate,
)
from sim2real.truth import ObjectState, Truth

SPECS = {
    spec.name: spec
    for spec in (
        ObjectSpec("cube", "cube", 0.025, "red", 0.02),
        ObjectSpec("base", "cube", 0.03, "blue", 0.03),
        ObjectSpec("bowl", "bowl", (0.05, 0.03), "blue", 0.1),
        ObjectSpec("mark", "zone", 0.03, "green"),
        ObjectSpec("ball", "ball", 0.014, "orange", 0.02),
        ObjectSpec("tray", "box", (0.02, 0.02, 0.02), "green", 0.1),
        ObjectSpec("peg", "cylinder", (0.010, 0.05), "red", 0.02),
        ObjectSpec("socket", "socket", (0.064, 0.038, 0.02), "blue", 0.3),
        ObjectSpec("ring", "ring", (0.018, 0.024), "red", 0.012),
        ObjectSpec("pole", "pole", (0.006, 0.035), "blue", 0.25),
    )
}

HERE = (0.2, 0.0, 0.0)


def table(tool: tuple[float, float, float] = (0.0, 0.0, 0.3), **where: tuple[float, float, float]) -> Truth:
    """Things at rest at these places (x, y, height of their underside), and the tool."""
    things = {
        name: ObjectState(SPECS[name], np.array([x, y, z + SPECS[name].rest]), np.eye(3))
        for name, (x, y, z) in where.items()
    }
    zeros = np.zeros(6)
    return Truth(0.0, zeros, zeros, zeros, np.array(tool), np.eye(3), np.zeros(3), ByName(things))


@pytest.mark.parametrize(
    ("goal", "true", "false"),
    [
        (At("cube", "mark"), {"cube": (0.2, 0.02, 0.0), "mark": HERE}, {"cube": (0.2, 0.03, 0.0), "mark": HERE}),
        (At("cube", "mark"), {"cube": HERE, "mark": HERE}, {"cube": (0.2, 0.0, 0.05), "mark": HERE}),
        (On("cube", "base"), {"cube": (0.2, 0.01, 0.03), "base": HERE}, {"cube": (0.2, 0.01, 0.0), "base": HERE}),
        (On("cube", "base"), {"cube": (0.2, 0.0, 0.032), "base": HERE}, {"cube": (0.2, 0.02, 0.03), "base": HERE}),
        (In("cube", "bowl"), {"cube": (0.2, 0.01, 0.003), "bowl": HERE}, {"cube": (0.2, 0.01, 0.04), "bowl": HERE}),
        (Near("cube", "base"), {"cube": (0.2, 0.07, 0.0), "base": HERE}, {"cube": (0.2, 0.2, 0.0), "base": HERE}),
        (
            Near("cube", "base", "left"),
            {"cube": (0.2, 0.07, 0.0), "base": HERE},
            {"cube": (0.27, 0.0, 0.0), "base": HERE},
        ),
        (
            Near("cube", "base", "behind"),
            {"cube": (0.27, 0.0, 0.0), "base": HERE},
            {"cube": (0.13, 0.0, 0.0), "base": HERE},
        ),
        (
            Inserted("peg", "socket"),
            {"peg": (0.206, 0.0, 0.0), "socket": HERE},
            {"peg": (0.2, 0.0, 0.02), "socket": HERE},
        ),
        (
            Inserted("ring", "pole"),
            {"ring": (0.2, 0.007, 0.006), "pole": HERE},
            {"ring": (0.23, 0.0, 0.0), "pole": HERE},
        ),
        (Not(At("cube", "mark")), {"cube": (0.2, 0.1, 0.0), "mark": HERE}, {"cube": HERE, "mark": HERE}),
    ],
)  # fmt: skip
def test_what_is_so(goal: Predicate, true: dict, false: dict) -> None:
    assert goal.holds(table(**true)) and goal.distance(table(**true)) == 0.0
    assert not goal.holds(table(**false)) and goal.distance(table(**false)) > 0.0


def test_nothing_is_put_down_as_long_as_the_hand_is_at_it() -> None:
    there = {"cube": HERE, "mark": HERE}
    assert not At("cube", "mark").holds(table((0.2, 0.0, 0.02), **there))


def test_raised_is_in_the_hand() -> None:
    up = {"cube": (0.2, 0.0, 0.06)}
    assert Raised("cube").holds(table((0.2, 0.0, 0.07), **up))
    assert not Raised("cube").holds(table((0.0, 0.0, 0.3), **up))


@given(st.floats(0.0, 2 * math.pi), st.floats(0.0, 0.3))
def test_the_place_that_near_names_is_near(turn: float, away: float) -> None:
    for direction in ("", "left", "right", "behind", "before"):
        goal = Near("cube", "base", direction)
        b = np.array([0.2, 0.0, 0.015])
        a = b + away * np.array([math.cos(turn), math.sin(turn), 0.0]) + 1e-5
        x, y = goal.place(a, b)
        assert goal.holds(table(cube=(float(x), float(y), 0.0), base=HERE))


def test_what_an_arm_sees() -> None:
    def seen(cube: float, age: float = 0.0) -> dict[str, np.ndarray]:
        cube_at, mark_at = np.array([0.2, cube, 0.0125]), np.array([0.2, 0.0, 0.0])
        return {
            **object_entries(SPECS["cube"], cube_at, 0.0, age),
            **object_entries(SPECS["mark"], mark_at, 0.0, 0.0),
        }

    goal = At("cube", "mark")
    assert goal.estimate(seen(0.01), SPECS) is True
    assert goal.estimate(seen(0.06), SPECS) is False
    assert goal.estimate(seen(0.01, age=1.5), SPECS) is None
    assert Not(goal).estimate(seen(0.01), SPECS) is False
    assert And((goal, Held("cube"))).estimate(seen(0.01), SPECS) is None
    assert And((goal, Held("cube"))).estimate(seen(0.06), SPECS) is False


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        (On("cube", "ball"), "a ball rolls off"),
        (On("ball", "base"), "a ball rolls off"),
        (On("cube", "bowl"), "say In"),
        (On("cube", "mark"), "say At"),
        (On("cube", "cube"), "on itself"),
        (On("cube", "pole"), "nothing lies flat"),
        (Inserted("ring", "socket"), "a ring around a pole"),
        (Inserted("cube", "bowl"), "a ring around a pole"),
        (Inserted("bowl", "socket"), "room"),
        (Inserted("tray", "socket"), "nobody could hold it"),
        (In("cube", "base"), "nothing goes in"),
        (In("cube", "tray"), "wider"),
        (At("cube", "bowl"), "not a zone"),
        (At("mark", "mark"), "lies where it is"),
        (Raised("mark"), "lies where it is"),
        (Upright("ball"), "whichever way"),
        (At("cub", "mark"), "did you mean 'cube'"),
        (And((Raised("cube"), On("cube", "ball"))), "a ball rolls off"),
    ],
)
def test_what_can_never_be_is_refused_with_the_reason(goal: Predicate, says: str) -> None:
    with pytest.raises(UserError, match=says):
        goal.check(SPECS)


def simple() -> st.SearchStrategy[Predicate]:
    names = st.sampled_from(sorted(SPECS))
    pairs = [st.builds(kind, names, names) for kind in (On, In, At)]
    near = st.builds(Near, names, names, st.sampled_from(["", "left", "right", "behind", "before"]))
    return st.one_of(*pairs, near, *(st.builds(kind, names) for kind in (Raised, Held, Upright)))


nested = st.recursive(
    simple(),
    lambda inner: st.one_of(
        st.builds(Not, inner), st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts)))
    ),
    max_leaves=4,
)


@given(nested)
def test_goals_are_values(goal: Predicate) -> None:
    try:
        again = predicate(goal.to_dict())
    except UserError as error:
        assert "nested" in str(error)
        return
    assert again == goal and hash(again) == hash(goal)
    assert eval(repr(goal)) == goal
    assert set(goal.objects()) <= set(SPECS)
    assert goal.english(lambda name: f"the {name}")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"kind": "onn", "a": "cube", "b": "base"}, "did you mean 'on'"),
        ({"kind": "on", "a": "cube"}, "needs b"),
        ({"kind": "on", "a": "cube", "b": 3}, "is a name"),
        ({"kind": "on", "a": "cube", "b": "base", "c": "x"}, "has no 'c'"),
        ({"kind": "near", "a": "cube", "b": "base", "direction": "up"}, "no direction"),
        ({"kind": "and", "all": [{"kind": "raised", "a": "cube"}]}, "two goals"),
        ({"kind": "and"}, "a list of goals"),
        ("on", "is a table"),
    ],
)
def test_goals_from_files_are_checked(said: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        predicate(said)


def test_deep_goals_are_refused() -> None:
    said: dict = {"kind": "raised", "a": "cube"}
    for _ in range(50):
        said = {"kind": "not", "one": said}
    with pytest.raises(UserError, match="nested"):
        predicate(said)
