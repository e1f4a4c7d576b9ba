"""Sentences: what they ask for in a scene, and what is refused."""

import json

import pytest

from pipelines.cli import main
from sim2real.errors import UserError
from sim2real.objects import ObjectSpec
from sim2real.predicates import (
    And,
    At,
    Closed,
    In,
    Inserted,
    Near,
    Not,
    On,
    Open,
    Predicate,
    Pressed,
    Raised,
    Turned,
)
from sim2real.tasks.registry import load_task
from sim2real.tasks.suite.language import said, understand
from sim2real.tasks.suite.registry import load_suite
from sim2real.tasks.suite.spec import SpecTask

SCENE = (
    ObjectSpec("cube", "cube", 0.025, "red", 0.02),
    ObjectSpec("other", "cube", 0.03, "blue", 0.03),
    ObjectSpec("can", "cylinder", (0.012, 0.035), "purple", 0.02),
    ObjectSpec("bowl", "bowl", (0.05, 0.03), "orange", 0.1),
    ObjectSpec("mark", "zone", 0.03, "green"),
)


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("put the red cube into the bowl", In("cube", "bowl")),
        ("Please place the red cube in the orange bowl.", In("cube", "bowl")),
        ("could you drop the can inside the dish?", In("can", "bowl")),
        ("put the red cube on the blue one's cube", None),
        ("stack the red cube on top of the blue cube", On("cube", "other")),
        ("set the small cube onto the large cube", On("cube", "other")),
        ("put the can on the green mark", At("can", "mark")),
        ("bring the red block to the green circle", At("cube", "mark")),
        ("move the red cube to the left of the bowl", Near("cube", "bowl", "left")),
        ("put the can in front of the blue cube", Near("can", "other", "before")),
        ("place the can beside the bowl", Near("can", "bowl")),
        ("lift the red cube", Raised("cube")),
        ("pick up the can", Raised("can")),
        ("pick up the can and put it into the bowl", In("can", "bowl")),
        ("put the red cube and the can into the bowl", And((In("cube", "bowl"), In("can", "bowl")))),
        ("put the red cube on the mark and then lift the can", And((At("cube", "mark"), Raised("can")))),
        (
            "put the red cube on the mark, put the can into the bowl",
            And((At("cube", "mark"), In("can", "bowl"))),
        ),
    ],
)
def test_what_is_asked_for(sentence: str, goal: Predicate | None) -> None:
    if goal is None:
        with pytest.raises(UserError):
            understand(sentence, SCENE)
        return
    assert understand(sentence, SCENE)[0] == goal


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("I would like the can to be in the orange bowl, please.", In("can", "bowl")),
        ("Would you mind carrying the red cube over to the green mark?", At("cube", "mark")),
        ("Make sure that the can ends up to the right-hand side of the bowl", Near("can", "bowl", "right")),
        ("the red cube must go on the mark", At("cube", "mark")),
        ("let the can stand at the bowl's left", Near("can", "bowl", "left")),
        ("At the back of the bowl, set down the can", Near("can", "bowl", "behind")),
        ("get the can off the table", Raised("can")),
        ("get hold of the can and raise it up in the air", Raised("can")),
        ("take the can to the bowl", In("can", "bowl")),
        (
            "First the can into the bowl, then the red cube",
            None,  # nothing says what to do with it
        ),
        ("put the can in the bowl and the red cube too", And((In("can", "bowl"), In("cube", "bowl")))),
        ("put the can on the mark; the red cube into the bowl", And((At("can", "mark"), In("cube", "bowl")))),
        ("the red cube and the can belong in the bowl", And((In("cube", "bowl"), In("can", "bowl")))),
        ("stack the red cube right on top of the blue one", On("cube", "other")),
        ("put the can next to the bowl, next to the can put the red cube", None),
        ("put the can into the bowl, but not the red cube", None),
        ("don't lift the can", None),
        ("put the can into the bowl or onto the mark", None),
        ("put the can between the bowl and the red cube", None),
    ],
)
def test_other_ways_of_saying_it(sentence: str, goal: Predicate | None) -> None:
    if goal is None:
        with pytest.raises(UserError):
            understand(sentence, SCENE)
        return
    assert understand(sentence, SCENE) == (goal, ())


WORKSHOP = (
    ObjectSpec("drawer", "drawer", (0.08, 0.07, 0.03), "orange", 0.06),
    ObjectSpec("lid", "lid", (0.06, 0.05, 0.03), "purple", 0.03),
    ObjectSpec("button", "button", (0.016, 0.03), "red", 0.02),
    ObjectSpec("lever", "lever", (0.05, 0.015), "green", 0.04),
    ObjectSpec("slider", "slider", (0.11, 0.04, 0.015), "yellow", 0.03),
    ObjectSpec("peg", "cylinder", (0.010, 0.05), "red", 0.02),
    ObjectSpec("socket", "socket", (0.064, 0.038, 0.02), "blue", 0.3),
    ObjectSpec("ring", "ring", (0.018, 0.024), "red", 0.012),
    ObjectSpec("pole", "pole", (0.006, 0.035), "blue", 0.25),
)


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("open the drawer", Open("drawer")),
        ("please pull the orange drawer half way", Open("drawer", 0.4)),
        ("shut the drawer", Closed("drawer")),
        ("push the drawer", Closed("drawer")),
        ("open the lid and press the red button", And((Open("lid"), Pressed("button")))),
        ("push the button", Pressed("button")),
        ("turn the lever", Turned("lever")),
        ("turn the green lever half way", Turned("lever", 0.5)),
        ("slide the slider all the way back", Turned("slider", 0.0)),
        ("insert the peg into the socket", Inserted("peg", "socket")),
        ("put the red peg into the hole", Inserted("peg", "socket")),
        ("put the ring around the pole", Inserted("ring", "pole")),
        ("press the peg", "has no joint"),
        ("press the button half way", "say press"),
        ("open the lever and press the drawer", "say open or close"),
        ("lift the drawer", "say open or close"),
        ("put the ring into the socket", "a ring around a pole"),
        ("insert the peg into the drawer", "nothing (is inserted|goes in)"),
        ("press the button and open the drawer", "say Pressed last"),
        ("open the drawr", "did you mean 'drawer'"),
    ],
)
def test_what_is_asked_of_joints_and_holes(sentence: str, goal: Predicate | str) -> None:
    if isinstance(goal, str):
        with pytest.raises(UserError, match=goal):
            understand(sentence, WORKSHOP)
        return
    understood, constraints = understand(sentence, WORKSHOP)
    assert understood == goal
    assert constraints == ()


def test_pushing_is_not_lifting() -> None:
    goal, constraints = understand("without lifting it, bring the red cube to the mark", SCENE)
    assert goal == At("cube", "mark") and constraints == (Not(Raised("cube")),)
    goal, constraints = understand("push the red cube to the green mark", SCENE)
    assert goal == At("cube", "mark") and constraints == (Not(Raised("cube")),)


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ("put the cube into the bowl", "the red cube or the blue cube"),
        ("put the yellow cube into the bowl", "there is no"),
        ("put the red cube into the bol", "did you mean 'bowl'"),
        ("put the red cube into the can", "nothing goes in"),
        ("put the mark into the bowl", "lies where it is"),
        ("put the red cube", "where shall the red cube go"),
        ("paint the red cube", "nothing that the arm can do"),
        ("lift the red cube into the bowl", "say put"),
        ("put the red cube quickly into the bowl", "no word for anything"),
        ("", "a sentence"),
        ("x" * 1000, "a sentence"),
        ("put it into the bowl", "does not say what to move"),
        ("\x1b[31mlift the red cube", "nothing that the arm can do"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_could_be(sentence: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        understand(sentence, SCENE)
    assert "\x1b" not in str(refused.value)


def test_the_suites_own_sentences_are_understood() -> None:
    for spec in load_suite("table").values():
        goal, constraints = understand(spec.language[0], spec.scene)
        assert goal == spec.goal, spec.language[0]
        assert constraints == spec.constraints


def test_a_scene_can_be_told_something_else() -> None:
    task = load_task("table/cube_in_bowl")
    assert isinstance(task, SpecTask)
    told = task.told("put the red cube behind the blue bowl")
    assert told.spec.goal == Near("cube", "bowl", "behind") and told.objects == task.objects
    assert told.spec.hash != task.spec.hash
    assert told.description == "put the red cube behind the blue bowl"
    again = load_task(told.name)
    assert isinstance(again, SpecTask) and again.spec == told.spec
    assert said(task.object("bowl")) == "the blue bowl"


def test_instructions_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--policy", "expert", "--draws", "1", "--workers", "0", "--json"]
    told = ["--task", "table/cube_in_bowl", "--instruction", "lift the red cube"]
    assert main([*words, *told]) == 0
    captured = capsys.readouterr()
    assert "understood: lift the red cube" in captured.err
    assert json.loads(captured.out)["task"] == "table/cube_in_bowl?lift the red cube"
    for task, says in (("lift", "takes no instruction"), (None, "name one with --task")):
        given = [] if task is None else ["--task", task]
        assert main([*words, *given, "--instruction", "lift the red cube"]) == 2
        assert says in capsys.readouterr().err
