"""Objects: what a spec may say, and what follows from its kind. Closed forms, without a simulator."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.objects import COLOURS, KINDS, WALL, ByName, ObjectSpec, Pose, checked
from sim2real.task import Scene
from sim2real.tasks.registry import load_task

SIZES = {
    "cube": 0.03,
    "block": (0.06, 0.03, 0.02),
    "cylinder": (0.02, 0.05),
    "ball": 0.02,
    "bowl": (0.05, 0.03),
    "box": (0.08, 0.06, 0.03),
    "ring": (0.018, 0.024),
    "pole": (0.006, 0.04),
    "socket": (0.06, 0.036, 0.02),
    "zone": 0.04,
}


def spec(kind: str, **changes: object) -> ObjectSpec:
    values = {"name": "thing", "size": SIZES[kind], "colour": "blue", "mass": 0.0 if kind == "zone" else 0.1}
    return ObjectSpec(kind=kind, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "cubes"}, "no kind of object 'cubes'; did you mean cube"),
        ({"size": (0.03, 0.03)}, r"its size is 1 number \(side\) of 0.005 … 0.5 m, got \(0.03, 0.03\)"),
        ({"size": -0.03}, "of 0.005 … 0.5 m, got -0.03"),
        ({"size": math.nan}, "must be finite"),
        ({"size": "large"}, "must be numbers"),
        ({"colour": "bleu"}, "no colour 'bleu'; did you mean blue"),
        ({"colour": (0.1, 2.0, 0.1)}, "red, green and blue in 0..1"),
        ({"mass": 0.0}, "mass must be 0.001 … 10 kg, got 0.0"),
        ({"mass": math.nan}, "mass must be 0.001 … 10 kg"),
        ({"name": "Red cube"}, "lower-case letters"),
        ({"name": "table"}, "cannot be called 'table'"),
        ({"kind": "bowl", "size": (0.05, 0.006)}, "more than two walls"),
        ({"kind": "socket", "size": (0.04, 0.035, 0.02)}, "wider than its hole"),
        ({"kind": "slider", "size": (0.03, 0.04, 0.015)}, "no room for the part that moves"),
        ({"kind": "button", "size": (0.02, 0.006)}, "no room for the part that moves"),
        ({"kind": "zone"}, "painted on the table and has no mass"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    good = {"name": "thing", "kind": "cube", "size": 0.03, "colour": "blue", "mass": 0.1}
    ObjectSpec(**good)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        ObjectSpec(**(good | changes))  # type: ignore[arg-type]


def test_names_are_unique_and_unknown_ones_get_the_nearest() -> None:
    with pytest.raises(UserError, match="two objects are called 'thing'"):
        checked([spec("cube"), spec("ball")])
    with pytest.raises(UserError, match="no object 'cub'; did you mean cube"):
        ByName(cube=1, bowl=2)["cub"]
    with pytest.raises(UserError, match="task 'push': there is no object 'mrk'; did you mean mark"):
        load_task("push").object("mrk")
    with pytest.raises(UserError, match="no object 'cupe'; did you mean cube"):
        Scene(np.zeros(3), {"cube": Pose(0.2, 0.0)}).poses["cupe"]


def test_a_pose_is_finite() -> None:
    with pytest.raises(UserError, match="finite"):
        Pose(0.2, math.nan)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].moves])
def test_an_object_stands_on_its_underside_and_its_frame_is_its_centre_of_mass(kind: str) -> None:
    thing = spec(kind)
    lowest = min(float(shape.corners()[:, 2].min()) for shape in thing.shapes)
    assert lowest == pytest.approx(-thing.rest)
    volume = np.array([shape.volume for shape in thing.shapes])
    centre = volume @ np.array([shape.position for shape in thing.shapes]) / volume.sum()
    np.testing.assert_allclose(centre, 0.0, atol=1e-12)
    assert thing.height == pytest.approx(thing.extent[2])


def test_moments_of_inertia_against_textbook_and_sampling() -> None:
    assert spec("cube").inertia(0.1)[0] == pytest.approx(0.1 * 0.03**2 / 6)
    assert spec("ball").inertia(0.1)[2] == pytest.approx(0.4 * 0.1 * 0.02**2)
    assert spec("cylinder").inertia(0.1)[2] == pytest.approx(0.5 * 0.1 * 0.02**2)
    assert spec("block").inertia(0.1)[1] == pytest.approx(0.1 * (0.06**2 + 0.02**2) / 12)
    # The box: points drawn evenly from its shapes.
    box, rng, points = spec("box"), np.random.default_rng(0), []
    total = sum(shape.volume for shape in box.shapes)
    for shape in box.shapes:
        count = round(200_000 * shape.volume / total)
        points.append(np.array(shape.position) + (rng.random((count, 3)) - 0.5) * shape.size)
    x, y, z = (np.concatenate(points) ** 2).mean(axis=0)
    np.testing.assert_allclose(box.inertia(0.1), 0.1 * np.array([y + z, x + z, x + y]), rtol=0.01)


def test_symmetries_and_scaling() -> None:
    assert [spec(kind).symmetry for kind in ("cube", "block", "box", "ball", "bowl", "zone")] == [
        4,
        2,
        2,
        0,
        0,
        0,
    ]
    assert spec("block", size=(0.03, 0.03, 0.05)).symmetry == 4
    small = spec("cylinder").scaled(0.018)
    assert small.measures == (0.018, pytest.approx(0.045)) and small.mass == 0.1
    assert spec("cube").scaled(0.03) == spec("cube")


def test_a_bowls_floor_and_walls_close() -> None:
    """Any point under the rim is covered by a plate of the floor, and no gap is between the walls."""
    bowl = spec("bowl")
    floor = [shape for shape in bowl.shapes if shape.size[2] == WALL]
    for angle in np.linspace(0, 2 * math.pi, 97):
        for radius in (0.0, 0.02, 0.049):
            x, y = radius * math.cos(angle), radius * math.sin(angle)
            inside = [
                abs(x * math.cos(s.yaw) + y * math.sin(s.yaw)) <= s.size[0] / 2
                and abs(y * math.cos(s.yaw) - x * math.sin(s.yaw)) <= s.size[1] / 2 + 1e-12
                for s in floor
            ]
            assert any(inside), (angle, radius)


def test_every_colour_is_one_and_survives_json() -> None:
    for name in COLOURS:
        table = spec("cube", colour=name).to_json()
        assert ObjectSpec(**table) == spec("cube", colour=name)
    table = spec("cube", colour=(0.2, 0.4, 0.6)).to_json()
    assert ObjectSpec(**table).rgb == (0.2, 0.4, 0.6)


def test_a_task_takes_other_sizes_but_no_other_kinds() -> None:
    task = load_task("lift")
    large = task.with_objects([replace(task.object("cube"), size=0.03, colour="blue")])
    assert large.object("cube").rest == 0.015 and load_task("lift").object("cube").rest == 0.0125
    with pytest.raises(UserError, match="'cube' is a cube and cannot be a ball"):
        task.with_objects([ObjectSpec("cube", "ball", 0.02, "red", 0.02)])
    with pytest.raises(UserError, match="no object 'mark'"):
        task.with_objects([ObjectSpec("mark", "zone", 0.02, "red")])
