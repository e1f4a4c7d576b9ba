"""The suite `table`: what one arm can do with things on a table, family by family.

A task is a goal over a scene; colours are instances, not tasks. Split: with the usual things (`seen`), with other
sizes and kinds (`L1`), with combinations of goals that training does not have (`L2`), and a family that training does
not have (`L3`); what is not `seen` is held out, to measure transfer.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations

from sim2real.joint_goals import JointPredicate
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
    "chest": ObjectSpec("chest", "drawer", (0.10, 0.08, 0.036), "turquoise", 0.09),
    "lid": ObjectSpec("lid", "lid", (0.06, 0.05, 0.03), "purple", 0.03),
    "button": ObjectSpec("button", "button", (0.016, 0.03), "red", 0.02),
    "big_button": ObjectSpec("big_button", "button", (0.022, 0.024), "yellow", 0.03),
    "small_button": ObjectSpec("small_button", "button", (0.013, 0.036), "blue", 0.015),
    "lever": ObjectSpec("lever", "lever", (0.05, 0.015), "green", 0.04),
    "long_lever": ObjectSpec("long_lever", "lever", (0.065, 0.015), "pink", 0.05),
    "knob": ObjectSpec("knob", "knob", (0.045, 0.02), "orange", 0.05),
    "slider": ObjectSpec("slider", "slider", (0.11, 0.04, 0.015), "yellow", 0.03),
    "long_slider": ObjectSpec("long_slider", "slider", (0.14, 0.04, 0.02), "purple", 0.035),
}
"""What moves on joints."""
INSERTED = {
    "peg": ObjectSpec("peg", "cylinder", (0.010, 0.05), "red", 0.02),
    "thick_peg": ObjectSpec("thick_peg", "cylinder", (0.0125, 0.055), "yellow", 0.03),
    "stick": ObjectSpec("stick", "block", (0.02, 0.02, 0.05), "pink", 0.02),
    "dowel": ObjectSpec("dowel", "cylinder", (0.009, 0.045), "orange", 0.015),
    "socket": ObjectSpec("socket", "socket", (0.064, 0.038, 0.02), "blue", 0.3),
    "wide_socket": ObjectSpec("wide_socket", "socket", (0.072, 0.044, 0.026), "green", 0.4),
    "ring": ObjectSpec("ring", "ring", (0.018, 0.024), "red", 0.012),
    "low_ring": ObjectSpec("low_ring", "ring", (0.0175, 0.02), "orange", 0.01),
    "pole": ObjectSpec("pole", "pole", (0.006, 0.035), "blue", 0.25),
    "tall_pole": ObjectSpec("tall_pole", "pole", (0.006, 0.045), "green", 0.3),
}
"""What is inserted, and into what."""
SAID = {
    "cube": "the red cube", "big_cube": "the orange cube", "small_cube": "the pink cube", "tower": "the yellow tower",
    "can": "the purple can", "ball": "the turquoise ball", "tile": "the red tile", "tin": "the purple tin",
    "mid_cube": "the small orange cube", "marble": "the turquoise marble", "mark": "the green mark",
    "dot": "the blue dot",
    "drawer": "the orange drawer", "chest": "the turquoise drawer", "lid": "the purple lid",
    "button": "the red button", "big_button": "the yellow button", "small_button": "the blue button",
    "lever": "the green lever", "long_lever": "the pink lever", "knob": "the orange knob",
    "slider": "the yellow slider", "long_slider": "the purple slider",
    "peg": "the red peg", "thick_peg": "the yellow peg", "stick": "the pink block", "dowel": "the orange peg",
    "socket": "the blue socket", "wide_socket": "the green socket", "ring": "the red ring",
    "low_ring": "the orange ring", "pole": "the blue pole", "tall_pole": "the green pole",
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
    "pole": Region((0.17, 0.22), (-0.7, 0.7)),
    "tall_pole": Region((0.17, 0.22), (-0.7, 0.7)),
}
NEAR_BY = Region((0.20, 0.23), (-0.6, 0.6), yaw=(-0.6, 0.6))
STANDS = {
    "drawer": replace(NEAR_BY, radius=(0.18, 0.21)),
    "slider": replace(NEAR_BY, radius=(0.19, 0.23), yaw=(0.97, 2.17)),
}
"""Where mechanisms stand, some kinds elsewhere: the hand gets to both sides of their handles."""
AMONG = -1.2, 1.2
"""rad from straight ahead where they, and all other things, are where there are several."""
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
            yield _spec(f"push_{moved}_to_{zone}", "push", At(moved, zone), pushed=(moved,))
    yield from _joints()
    yield from _inserted()
    yield from _composites()
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


def _joints() -> Iterator[TaskSpec]:
    """What is opened, closed, pressed and turned."""
    for drawer in ("drawer", "chest"):
        yield _spec(f"open_{drawer}", "open", Open(drawer))
        yield _spec(f"open_{drawer}_half_way", "open", Open(drawer, 0.4))
        yield _spec(f"close_{drawer}", "open", Closed(drawer))
    yield _spec("open_lid", "open", Open("lid"))
    yield _spec("close_lid", "open", Closed("lid"))
    for button in ("button", "big_button", "small_button"):
        yield _spec(f"press_{button}", "press", Pressed(button))
    for thing in ("lever", "long_lever", "knob", "slider", "long_slider"):
        for q, how in ((0.0, "back"), (0.5, "half_way"), (1.0, "all_the_way")):
            yield _spec(f"turn_{thing}_{how}", "turn", Turned(thing, q))


def _inserted() -> Iterator[TaskSpec]:
    """Pegs into sockets, and, as a family that training does not have, rings around poles."""
    for socket in ("socket", "wide_socket"):
        for peg in ("peg", "thick_peg", "stick"):
            yield _spec(f"{peg}_in_{socket}", "insert", Inserted(peg, socket))
        yield _spec(f"dowel_in_{socket}", "insert", Inserted("dowel", socket), split="L1")
    for ring in ("ring", "low_ring"):
        for pole in ("pole", "tall_pole"):
            yield _spec(f"{ring}_on_{pole}", "thread", Inserted(ring, pole), split="L3")


def _composites() -> Iterator[TaskSpec]:
    """Goals of two and three parts, with things that are swept along the table and with joints."""
    for first, second in permutations(("cube", "big_cube", "small_cube"), 2):
        goal = And((At(first, "mark"), At(second, "dot")))
        yield _spec(f"sweep_{first}_to_mark_{second}_to_dot", "sweep", goal, pushed=(first, second))
    for moved in MOVED:
        yield _spec(f"{moved}_in_bowl_press_button", "two", And((In(moved, "bowl"), Pressed("button"))))
        yield _spec(f"open_drawer_{moved}_at_mark", "two", And((Open("drawer"), At(moved, "mark"))))
        yield _spec(f"turn_lever_{moved}_in_tray", "two", And((Turned("lever"), In(moved, "tray"))))
    for moved in ("cube", "tower", "ball"):
        goal = And((Closed("drawer"), In(moved, "bowl")))
        yield _spec(f"close_drawer_{moved}_in_bowl", "two", goal, split="L2")
    for does in (Open("drawer"), Closed("drawer"), Turned("slider"), Turned("slider", 0.0), Turned("lever")):
        yield _spec(f"{_does(does)}_press_button", "two", And((does, Pressed("button"))))
    yield _spec("turn_slider_turn_lever", "two", And((Turned("slider"), Turned("lever"))))
    for first, second in list(combinations(MOVED, 2))[:9]:
        goal = And((In(first, "tray"), In(second, "tray"), Pressed("button")))
        yield _spec(f"{first}_and_{second}_in_tray_press_button", "three", goal)
    for moved in ("cube", "big_cube", "small_cube", "tower", "can", "ball"):
        goal = And((Open("drawer"), In(moved, "bowl"), Pressed("button")))
        yield _spec(f"open_drawer_{moved}_in_bowl_press_button", "three", goal)


def _does(goal: Predicate) -> str:
    """A part of an id for one thing that is done with a joint."""
    verb = {"open": "open", "closed": "close", "turned": "turn"}[goal.kind]
    back = "_back" if isinstance(goal, Turned) and goal.q == 0.0 else ""
    return f"{verb}_{goal.objects()[0]}{back}"


def _spec(
    name: str, family: str, goal: Predicate, *, split: str = "seen", pushed: tuple[str, ...] = ()
) -> TaskSpec:
    known = MOVED | OTHERS | TARGETS | JOINTED | INSERTED
    names = goal.objects()
    said = goal.english(lambda thing: SAID[thing])
    if pushed:
        said = said.replace("put", "push").replace(" on ", " to ")
    start = {thing: WIDE[thing] for thing in names if thing in WIDE}
    if len(names) > 3:
        start = {thing: replace(WIDE.get(thing, Region()), angle=AMONG) for thing in names}
    if isinstance(goal, Near) and goal.direction:
        start[goal.b] = POST[goal.direction]
    for part in goal.parts():
        if isinstance(part, JointPredicate):
            region = STANDS.get(known[part.a].kind, NEAR_BY)
            start[part.a] = replace(
                region,
                joint=(0.8, 1.0) if part.aim < 0.5 else (0.0, 0.1),
                angle=region.angle if len(names) == 1 else AMONG,
            )
    parts = len({part.objects()[0] for part in goal.parts()})
    return TaskSpec(
        id=f"{NAME}/{name}",
        family=family,
        scene=tuple(known[thing] for thing in names),
        goal=goal,
        language=(said,),
        horizon=(8.0 if family == "lift" else ONE) + MORE * (parts - 1),
        split=split,
        constraints=tuple(Not(Raised(thing)) for thing in pushed),
        start=start,
    )
