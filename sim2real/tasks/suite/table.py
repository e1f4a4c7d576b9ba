"""The suite `table`: what one arm can do with things on a table, family by family.

A task is a goal over a scene; colours are instances, not tasks. Split: with the usual things (`seen`), with other
sizes and kinds (`L1`), with combinations of goals that training does not have (`L2`).
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from sim2real.objects import ObjectSpec
from sim2real.predicates import (
    And,
    At,
    Closed,
    In,
    JointPredicate,
    Near,
    Not,
    On,
    Open,
    Predicate,
    Pressed,
    Raised,
)
from sim2real.tasks.suite.spec import Region, TaskSpec

NAME = "table"

MOVED = {
    "cube": ObjectSpec("cube", "cube", 0.025, "red", 0.02),
    "big_cube": ObjectSpec("big_cube", "cube", 0.030, "orange", 0.03),
    "small_cube": ObjectSpec("small_cube", "cube", 0.020, "pink", 0.012),
    "tower": ObjectSpec("tower", "block", (0.022, 0.022, 0.036), "yellow", 0.025),
    "can": ObjectSpec("can", "cylinder", (0.012, 0.035), "purple", 0.02),
    "ball": ObjectSpec("ball", "ball", 0.014, "turquoise", 0.015),
}
"""What the hand takes, by name."""
OTHERS = {
    "tile": ObjectSpec("tile", "block", (0.024, 0.024, 0.018), "red", 0.015),
    "tin": ObjectSpec("tin", "cylinder", (0.015, 0.025), "purple", 0.02),
    "mid_cube": ObjectSpec("mid_cube", "cube", 0.0275, "orange", 0.024),
    "marble": ObjectSpec("marble", "ball", 0.011, "turquoise", 0.01),
}
"""Things of other sizes and kinds, which training does not have."""
TARGETS = {
    "mark": ObjectSpec("mark", "zone", 0.03, "green"),
    "dot": ObjectSpec("dot", "zone", 0.02, "blue"),
    "bowl": ObjectSpec("bowl", "bowl", (0.05, 0.03), "blue", 0.15),
    "tray": ObjectSpec("tray", "box", (0.09, 0.09, 0.03), "green", 0.2),
    "plate": ObjectSpec("plate", "block", (0.07, 0.07, 0.012), "green", 0.2),
    "base": ObjectSpec("base", "cube", 0.03, "blue", 0.03),
    "post": ObjectSpec("post", "cylinder", (0.018, 0.04), "green", 0.08),
}
"""What things are put on, into or beside."""
JOINTED = {
    "drawer": ObjectSpec("drawer", "drawer", (0.08, 0.07, 0.03), "orange", 0.06),
    "button": ObjectSpec("button", "button", (0.016, 0.03), "red", 0.02),
}
"""What moves on joints."""
SAID = {
    "cube": "the red cube", "big_cube": "the orange cube", "small_cube": "the pink cube", "tower": "the yellow tower",
    "can": "the purple can", "ball": "the turquoise ball", "tile": "the red tile", "tin": "the purple tin",
    "mid_cube": "the small orange cube", "marble": "the turquoise marble", "mark": "the green mark",
    "dot": "the blue dot",
    "drawer": "the orange drawer", "button": "the red button",
    "bowl": "the blue bowl", "tray": "the green tray", "plate": "the green plate",
    "base": "the blue cube", "post": "the green post",
}  # fmt: skip
"""What each is called in a sentence."""

ONE, MORE = 14.0, 9.0
"""s for the first thing to be moved, and for every further one."""
WIDE = {
    "bowl": Region((0.19, 0.26), (-0.9, 0.9)),
    "tray": Region((0.19, 0.25), (-0.9, 0.9)),
    "plate": Region((0.18, 0.26), (-0.9, 0.9)),
}
NEAR_BY = Region((0.20, 0.23), (-0.6, 0.6), yaw=(-0.6, 0.6))
"""Where a mechanism stands: the hand gets to both sides of its handle."""
POST = {
    "left": Region((0.17, 0.23), (-0.7, 0.4)),
    "right": Region((0.17, 0.23), (-0.4, 0.7)),
    "behind": Region((0.16, 0.19), (-0.7, 0.7)),
    "before": Region((0.24, 0.27), (-0.7, 0.7)),
}
"""Where the post may stand so that the place beside it can be reached."""


def tasks() -> Iterator[TaskSpec]:
    """All tasks of the suite."""
    for moved in MOVED:
        yield _spec(f"lift_{moved}", "lift", Raised(moved))
        for zone in ("mark", "dot"):
            yield _spec(f"{moved}_at_{zone}", "place", At(moved, zone))
        for hollow in ("bowl", "tray"):
            yield _spec(f"{moved}_in_{hollow}", "contain", In(moved, hollow))
        for direction in ("", "left", "right", "behind", "before"):
            where = direction or "next_to"
            yield _spec(f"{moved}_{where}_post", "beside", Near(moved, "post", direction))
        if moved not in ("ball", "can"):
            for under in ("plate", "base"):
                yield _spec(f"{moved}_on_{under}", "stack", On(moved, under))
    for moved in ("cube", "big_cube", "small_cube"):
        for zone in ("mark", "dot"):
            yield _spec(f"push_{moved}_to_{zone}", "push", At(moved, zone), pushed=moved)
    yield _spec("open_drawer", "joints", Open("drawer"))
    yield _spec("close_drawer", "joints", Closed("drawer"))
    yield _spec("press_button", "joints", Pressed("button"))
    for first, second in combinations(MOVED, 2):
        yield _spec(f"{first}_and_{second}_in_tray", "sort", And((In(first, "tray"), In(second, "tray"))))
        goal = And((At(first, "mark"), In(second, "bowl")))
        yield _spec(
            f"{first}_at_mark_{second}_in_bowl", "two", goal, split="L2" if second == "ball" else "seen"
        )
        if second != "ball" and first != "can":
            yield _spec(
                f"{first}_on_plate_{second}_at_dot",
                "two",
                And((On(first, "plate"), At(second, "dot"))),
                split="L2",
            )
    for moved in OTHERS:
        yield _spec(f"lift_{moved}", "lift", Raised(moved), split="L1")
        yield _spec(f"{moved}_at_mark", "place", At(moved, "mark"), split="L1")
        yield _spec(f"{moved}_in_bowl", "contain", In(moved, "bowl"), split="L1")
        yield _spec(f"{moved}_next_to_post", "beside", Near(moved, "post"), split="L1")


def _spec(name: str, family: str, goal: Predicate, *, split: str = "seen", pushed: str = "") -> TaskSpec:
    known = MOVED | OTHERS | TARGETS | JOINTED
    names = goal.objects()
    said = goal.english(lambda thing: SAID[thing])
    if pushed:
        said = said.replace("put", "push", 1).replace(" on ", " to ", 1)
    start = {thing: WIDE[thing] for thing in names if thing in WIDE}
    if isinstance(goal, Near) and goal.direction:
        start[goal.b] = POST[goal.direction]
    for part in goal.parts():
        if isinstance(part, JointPredicate):
            start[part.a] = replace(NEAR_BY, joint=(0.8, 1.0) if part.aim < 0.5 else (0.0, 0.1))
    parts = len({part.objects()[0] for part in goal.parts()})
    return TaskSpec(
        id=f"{NAME}/{name}",
        family=family,
        scene=tuple(known[thing] for thing in names),
        goal=goal,
        language=(said,),
        horizon=(8.0 if family == "lift" else ONE) + MORE * (parts - 1),
        split=split,
        constraints=(Not(Raised(pushed)),) if pushed else (),
        start=start,
    )
