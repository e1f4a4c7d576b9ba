"""Other objects than a task has by itself: what is typed, and the name that carries it."""

import pytest

from sim2real.changed_objects import name_of, split
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task, with_flags

ROBOT = Robot.load("so101")


def test_the_name_of_a_task_carries_its_objects() -> None:
    name = with_flags("lift", ["cube:size=0.03,colour=blue"])
    # 25 mm → 30 mm at the density it had: 20 g · 1.2³.
    assert name == "lift[cube.size=0.03,cube.colour=blue,cube.mass=0.0346]"
    cube = load_task(name).object("cube")
    assert (cube.measures, cube.colour, cube.mass) == ((0.03,), "blue", 0.0346)
    assert with_flags("lift", []) == with_flags("lift", ["cube:size=0.025,colour=red"]) == "lift"
    # On top of what the name says already, and in the task's order whatever was typed first.
    assert with_flags(name, ["cube:colour=red,mass=0.02"]) == "lift[cube.size=0.03]"
    two = with_flags("stack", ["base:colour=yellow", "cube:mass=0.03"])
    assert two == "stack[cube.mass=0.03,base.colour=yellow]"
    assert split(two) == ("stack", {"cube": {"mass": "0.03"}, "base": {"colour": "yellow"}})
    own = with_flags("push", ["cube:colour=0.1/0.2/0.9", "mark:size=0.04"])
    assert load_task(own).object("cube").rgb == (0.1, 0.2, 0.9)
    assert load_task(own).object("mark").measures == (0.04,)
    plain, new = load_task("push"), load_task(own)
    assert name_of("push", plain.objects, new.objects) == own


@pytest.mark.parametrize(
    ("task", "flag", "told"),
    [
        ("lift", "cub:size=0.03", "no object 'cub'; did you mean cube"),
        ("lift", "cube:siz=0.03", "no key 'siz'; did you mean size"),
        ("lift", "cube:colour=blu", "no colour 'blu'; did you mean blue"),
        ("lift", "cube:size=0.08", "18 to 40 mm.*got 80 mm"),
        ("place", "cube:size=0.01", "18 to 40 mm.*got 10 mm"),
        ("stack", "base:size=0.06", "'base' may measure 20 to 50 mm"),
        ("lift", "cube:size=nan", "finite"),
        ("lift", "cube:size=3cm", "size must be a number"),
        ("lift", "cube:size=0.03x0.02", "1 number"),
        ("lift", "cube:mass=-1", "mass must be"),
        ("lift", "cube:kind=ball", "cannot be a ball"),
        ("lift", "cube:colour=grey", "too close to grey"),
        ("stack", "cube:colour=blue", "'cube' .blue. and 'base' .blue. look alike"),
        ("push", "cube:colour=green", "look alike"),
        ("reach", "cube:size=0.03", "no object 'cube'; known: none"),
        ("lift", "cube", "NAME:KEY=VALUE"),
        ("lift", "cube:size", "NAME:KEY=VALUE"),
        ("lift", "cube:size=0.03,size=0.02", "says one thing twice"),
    ],
)
def test_what_cannot_be_is_told(task: str, flag: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        with_flags(task, [flag])


def test_an_object_is_said_once() -> None:
    with pytest.raises(UserError, match="says twice what 'cube' is"):
        with_flags("lift", ["cube:size=0.03", "cube:colour=blue"])


@pytest.mark.parametrize("name", ["lift[]", "lift[cube]", "lift[cube.size]", "[cube.size=0.03]"])
def test_a_name_that_is_none_is_told(name: str) -> None:
    with pytest.raises(UserError, match="not the name of a task with other objects"):
        load_task(name)


def test_the_experts_grip_follows_the_cubes_size() -> None:
    small, large = (
        load_task(with_flags("lift", [f"cube:size={size}"])).expert(ROBOT) for size in (0.02, 0.035)
    )
    from sim2real.experts.base import Expert
    from sim2real.experts.grasping import HELD, OPEN, SIDE, WIDTH

    assert isinstance(small, Expert) and isinstance(large, Expert)
    for column in (OPEN, WIDTH, HELD, SIDE):
        assert large._grip[column] > small._grip[column]
