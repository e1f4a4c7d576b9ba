"""What a sentence asks for: a goal over the objects of a scene, or why it asks for none.

A small grammar of imperatives, no model: verbs, where things go, and noun phrases that name an object by kind, colour,
size or name. What is understood is said back (`Predicate.english`), so that a person sees what the arm will do; what is
ambiguous or impossible is refused with what the scene allows. Words that it does not know are refused, too: half of an
instruction understood is another instruction.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim2real.errors import UserError, nearest
from sim2real.objects import COLOURS, ObjectSpec
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
from sim2real.tasks.suite.phrasing import plain
from sim2real.text import printable

MOST_CHARACTERS, MOST_PARTS = 300, 3

PUT, PUSH, LIFT, INSERT = "put", "push", "lift", "insert"
OPEN, CLOSE, PRESS, TURN = "open", "close", "press", "turn"
OF_JOINTS = (OPEN, CLOSE, PRESS, TURN)
VERBS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "put", "place", "set", "lay", "drop", "move", "bring", "stack", "stow", "deposit", "leave", "position",
            "carry", "stand", "transfer", "get", "relocate", "shift", "toss", "throw", "balance", "pile", "hide",
            "tidy", "deliver", "store", "pop", "arrange", "roll", "rest", "park", "dump", "collect", "gather", "load",
            "serve", "sit", "send", "locate", "keep", "return", "fit",
        ),
        PUT,
    ),
    **dict.fromkeys(("push", "slide", "shove", "nudge", "drag"), PUSH),
    **dict.fromkeys(("insert", "plug", "thread", "stick"), INSERT),
    **dict.fromkeys(("open", "pull"), OPEN),
    **dict.fromkeys(("close", "shut"), CLOSE),
    **dict.fromkeys(("press", "hit"), PRESS),
    **dict.fromkeys(("turn", "rotate", "flip", "swing", "switch"), TURN),
    **dict.fromkeys(
        ("lift", "raise", "pick", "grab", "take", "grasp", "hold", "hoist", "elevate", "heave", "seize"), LIFT
    ),
}  # fmt: skip
"""What each verb asks the hand to do."""

WHERE: tuple[tuple[str, str], ...] = (
    ("on top of", "on"), ("on to", "on"), ("onto", "on"), ("upon", "on"), ("over", "on"),
    ("around", "on"), ("round", "on"), ("on", "on"),
    ("inside of", "in"), ("inside", "in"), ("into", "in"), ("within", "in"),
    ("in front of", "before"), ("before", "before"), ("in", "in"),
    ("to the left side of", "left"), ("to the left of", "left"), ("on the left of", "left"), ("left of", "left"),
    ("to the right side of", "right"), ("to the right of", "right"), ("on the right of", "right"),
    ("right of", "right"), ("behind", "behind"), ("next to", "near"), ("close to", "near"), ("beside", "near"),
    ("near to", "near"), ("near", "near"), ("alongside", "near"), ("by", "near"), ("to", "to"), ("at", "to"),
)  # fmt: skip
"""How a place is said, and what it means; longer ones before what they begin with where both fit."""

NOUNS: Mapping[str, tuple[str, ...]] = {
    "cube": ("cube", "dice", "die", "block"),
    "block": ("block", "brick", "tower", "tile", "plate", "slab"),
    "cylinder": ("cylinder", "can", "tin", "post", "roll", "puck", "peg"),
    "ball": ("ball", "sphere", "marble"),
    "bowl": ("bowl", "dish", "basin"),
    "box": ("box", "tray", "container", "bin", "crate"),
    "ring": ("ring", "hoop", "washer"),
    "pole": ("pole", "rod", "stick"),
    "socket": ("socket", "hole"),
    "drawer": ("drawer",),
    "slider": ("slider", "slide", "fader"),
    "lever": ("lever", "handle"),
    "knob": ("knob", "dial", "crank"),
    "lid": ("lid", "cover", "flap"),
    "button": ("button", "key", "buzzer"),
    "zone": ("zone", "mark", "dot", "spot", "circle", "disc", "patch", "area", "target", "marker"),
}
"""What objects of each kind are called."""
LARGE, SMALL = ("big", "bigger", "large", "larger"), ("small", "smaller", "little", "tiny")
FILLERS = frozenset(
    "the a an please now carefully gently then up down it them that one robot arm could can you would kindly".split()
) - {"can"}  # fmt: skip


AMOUNTS: tuple[tuple[str, float], ...] = (
    ("all the way", 1.0), ("to the end", 1.0), ("to the far end", 1.0), ("fully", 1.0), ("completely", 1.0),
    ("half way", 0.5), ("halfway", 0.5), ("half", 0.5), ("to the middle", 0.5),
    ("all the way back", 0.0), ("back", 0.0), ("to the start", 0.0), ("off", 0.0), ("on", 1.0),
)  # fmt: skip
"""How far a joint shall go, as it is said at the end of a clause, and the share of its way that this is."""


@dataclass(frozen=True)
class _Clause:
    """`amount`: how far a joint shall go, None where nothing is said of it."""

    verb: str
    objects: str
    where: str
    target: str
    amount: float | None = None


def understand(sentence: str, objects: Sequence[ObjectSpec]) -> tuple[Predicate, tuple[Predicate, ...]]:
    """The goal that a sentence asks for, and what must not happen on the way ("push": do not lift).

    Raises UserError for what it does not understand, what is ambiguous, and what cannot be in this scene.
    """
    words = " ".join(sentence.lower().split())
    if not words or len(words) > MOST_CHARACTERS:
        raise UserError(
            f"an instruction is a sentence of up to {MOST_CHARACTERS} characters, got {len(words)}"
        )
    specs = {spec.name: spec for spec in objects}
    parts: list[Predicate] = []
    constraints: list[Predicate] = []
    before: list[str] = []
    for text in plain(words, tuple(VERBS), tuple(phrase for phrase, _ in WHERE)):
        clause = _clause(text)
        moved = before if _is_pronoun(clause.objects) else _several(clause.objects, objects)
        if not moved:
            raise UserError(f"'{printable(text)}' does not say what to move; {_there_is(objects)}")
        made = [_part(clause, name, specs, objects) for name in moved]
        # "pick up the cube and put it …" is one thing to do.
        parts = [part for part in parts if not (isinstance(part, Raised) and part.a in moved)]
        parts += made
        constraints += [Not(Raised(name)) for name in moved if clause.verb == PUSH and specs[name].moves]
        before = moved
    if len(parts) > MOST_PARTS:
        raise UserError(
            f"an instruction may ask for up to {MOST_PARTS} things at once, this asks for {len(parts)}"
        )
    goal = parts[0] if len(parts) == 1 else And(tuple(parts))
    try:
        goal.check(specs)
    except UserError as error:
        raise UserError(f"{error}; {_possible(objects)}") from None
    return goal, tuple(constraints)


def said(spec: ObjectSpec) -> str:
    """What an object is called: "the red cube"."""
    colour = f"{spec.colour} " if isinstance(spec.colour, str) else ""
    return f"the {colour}{NOUNS[spec.kind][0]}"


def _clause(text: str) -> _Clause:
    first, _, rest = text.partition(" ")
    if first not in VERBS:
        raise UserError(
            f"'{printable(first)}' is nothing that the arm can do{nearest(first, VERBS)}; an instruction begins with "
            f"a verb like {', '.join(dict.fromkeys(VERBS.values()))}"
        )
    verb = VERBS[first]
    rest = re.sub(r"^(up|down)\b ?", "", rest)
    amount = None
    if verb in (*OF_JOINTS, PUSH):
        for phrase, share in sorted(AMOUNTS, key=lambda pair: -len(pair[0])):
            if rest.endswith(f" {phrase}"):
                rest, amount = rest[: -len(phrase)].strip(), share
                break
    if verb in OF_JOINTS:
        return _Clause(verb, rest, "", "", amount)
    found: list[tuple[int, int, str]] = []
    for phrase, meaning in WHERE:
        at = re.search(rf"\b{phrase}\b", rest)
        if at:
            found.append((at.start(), -len(phrase), meaning))
    if not found:
        return _Clause(verb, rest, "", "", amount)
    start, length, meaning = min(found)
    return _Clause(verb, rest[:start].strip(), meaning, rest[start - length :].strip(), amount)


def _part(
    clause: _Clause, name: str, specs: Mapping[str, ObjectSpec], objects: Sequence[ObjectSpec]
) -> Predicate:
    if specs[name].joint is not None or clause.verb in OF_JOINTS:
        return _of_joint(clause, specs[name])
    if not clause.where:
        if clause.verb == LIFT:
            return Raised(name)
        raise UserError(f"where shall {said(specs[name])} go? {_possible(objects)}")
    if clause.verb == LIFT:
        raise UserError(
            f"'{printable(clause.target)}': lifting has no place; say put or push if {said(specs[name])} shall go there"
        )
    target = _one(clause.target, [spec for spec in objects if spec.name != name])
    kind = specs[target].kind
    if kind in ("socket", "pole") and (clause.verb == INSERT or clause.where in ("in", "on", "to")):
        return Inserted(name, target)
    if clause.where in ("left", "right", "behind", "before"):
        return Near(name, target, clause.where)
    if clause.where == "near":
        return Near(name, target)
    if kind == "zone":
        return At(name, target)
    if clause.where == "to":
        return Near(name, target) if kind not in ("bowl", "box") else In(name, target)
    # A thing that is dropped on a bowl is in it.
    if kind in ("bowl", "box"):
        return In(name, target)
    return In(name, target) if clause.where == "in" else On(name, target)


def _of_joint(clause: _Clause, spec: ObjectSpec) -> Predicate:
    """What is wanted of a thing with a joint."""
    name, kind, amount = spec.name, spec.kind, clause.amount
    if kind == "button" and clause.verb in (PRESS, PUSH) and amount is None:
        return Pressed(name)
    if kind in Open.needs and clause.verb == OPEN:
        return Open(name) if amount in (None, 1.0) else Open(name, 0.4)
    if kind in Closed.needs and clause.verb in (CLOSE, PUSH) and amount in (None, 0.0, 1.0):
        return Closed(name)
    if kind in Turned.needs and clause.verb in (TURN, PUSH, OPEN):
        return Turned(name, 1.0 if amount is None else amount)
    can = {"button": "press", "drawer": "open or close", "lid": "open or close"}
    if spec.joint is None:
        raise UserError(f"{said(spec)} has no joint, and nobody can {clause.verb} it")
    raise UserError(f"{said(spec)}: say {can.get(kind, 'turn … back, half way or all the way')}")


def _is_pronoun(text: str) -> bool:
    return text.strip() in ("it", "them", "that", "this")


def _several(text: str, objects: Sequence[ObjectSpec]) -> list[str]:
    """The objects of a list: "the red cube and the can"."""
    phrases = [phrase for phrase in re.split(r",? and |, ", text) if phrase.strip()]
    return list(dict.fromkeys(_one(phrase, objects) for phrase in phrases))


def _one(phrase: str, objects: Sequence[ObjectSpec]) -> str:
    """The one object that a noun phrase names."""
    words = [word for word in re.findall(r"[a-z0-9_]+", phrase) if word not in FILLERS]
    if not words:
        raise UserError(f"'{printable(phrase)}' names nothing; {_there_is(objects)}")
    nouns = {noun for names in NOUNS.values() for noun in names}
    known = (
        nouns
        | set(COLOURS)
        | set(LARGE)
        | set(SMALL)
        | {w for s in objects for w in (s.name, *s.name.split("_"))}
    )
    for word in words:
        if word not in known:
            raise UserError(
                f"'{printable(word)}' is no word for anything here{nearest(word, known)}; {_there_is(objects)}"
            )
    found = [spec for spec in objects if _fits(words, spec)]
    if len(found) > 1 and any(word in LARGE + SMALL for word in words):
        found = [
            (max if any(word in LARGE for word in words) else min)(found, key=lambda spec: max(spec.extent))
        ]
    if len(found) > 1:
        # Who says a name of its own, as can, means that thing, though others are of its kind.
        names = {spec.name: set(spec.name.split("_")) for spec in found}
        kinds = {names[0] for names in NOUNS.values()}
        named = [
            spec for spec in found if kinds.isdisjoint(names[spec.name]) and names[spec.name] <= set(words)
        ]
        found = named or found
    if len(found) == 1:
        return found[0].name
    if not found:
        raise UserError(f"there is no '{printable(phrase)}'; {_there_is(objects)}")
    raise UserError(f"'{printable(phrase)}' may be {' or '.join(said(spec) for spec in found)}; say which")


def _fits(words: Sequence[str], spec: ObjectSpec) -> bool:
    own = set(spec.name.split("_")) | {spec.name, *NOUNS[spec.kind], str(spec.colour)}
    return all(word in own or word in LARGE + SMALL for word in words)


def _there_is(objects: Sequence[ObjectSpec]) -> str:
    return f"there is {', '.join(said(spec) for spec in objects) or 'nothing'}"


def _possible(objects: Sequence[ObjectSpec]) -> str:
    """Some of what can be asked for in this scene."""
    specs = {spec.name: spec for spec in objects}
    goals: list[Predicate] = [
        kind(name) for name in specs for kind in (Raised, Open, Closed, Pressed, Turned)
    ]
    for a in specs:
        goals += [kind(a, b) for b in specs if b != a for kind in (At, In, Inserted, On, Near)]
    can = [goal for goal in goals if not goal.refusal(specs)]
    return "possible are, for example: " + "; ".join(
        goal.english(lambda name: said(specs[name])) for goal in can[:4]
    )
