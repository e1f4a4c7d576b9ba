"""From how people say things to plain commands, a clause each: "Would you mind putting the can in the bowl, please?"
becomes "put the can in the bowl".

Only forms are rewritten, by the tables below and in their order; what the words mean is decided in `language.py`.
Words that no table knows stay, so that they are refused there.
"""

import re
from collections.abc import Sequence
from functools import cache

from sim2real.errors import UserError

_NEGATION = re.compile(r"\b(not|don't|never|except|instead)\b|n't\b")
_COURTESY = re.compile(
    r"^(?:please|kindly|now|ok|okay|hey|hi|robot|so|well|and|but|first(?:ly| of all)?|then|next|after that|afterwards|"
    r"finally|lastly|would you mind|(?:could|can|would|will) you|i(?:'d| would) like you to|i (?:want|need) you to|"
    r"let's|let us|you (?:should|must|can|need to|have to)|go ahead and|go and|try to|make sure to|be so kind as to|"
    r"(?:your|the) (?:task|job) is to)(?:,\s*|\s+)"
)
_THANKS = re.compile(
    r",?\s+(?:please|thanks|thank you|for me|if you (?:can|could|would|please)|(?:will|would|could|can) you|"
    r"as well|too|also|now|again|there)$"
)
_GROUND = r"(?:table|tabletop|ground|surface|desk|floor)"
_SIDES: tuple[tuple[str, str], ...] = (
    (r"[’`]", "'"),
    (r"\b(?:to|on|at) (.+?)'s (left|right)(?:[- ]hand)?(?: side)?\b", r"\2 of \1"),
    (r"\b(?:(?:to|on|at|by|onto) )?the (left|right)(?:[- ]hand)?(?: side)? (?:of|from)\b", r"\1 of"),
    (r"\b(?:at|in|to|on) the (?:back|rear) (?:side )?of\b|\bin back of\b", "behind"),
    (r"\b(?:at|in|to) (?:the )?front (?:side )?of\b", "in front of"),
    (r"\batop(?: of)?\b|\b(?:to|at|on) the top of\b", "on top of"),
    (r"\btowards?\b|\bup to\b", "to"),
    (r"\b(?:adjacent to|at the side of|by the side of)\b", "beside"),
    (r"\b(?:so that|so|until|till) (?:it|they) (?:is|are|lies?|rests?|sits?|stands?|reach(?:es)?) ", ""),
    (r"\b(?:take|get|catch) hold of\b", "take"),
    (r"\b(?:build|make) a (?:stack|tower|pile) (?:with|of|from|out of)\b", "stack"),
    (r"\bgive (.+?) a (?:push|shove|nudge)\b", r"push \1"),
    (rf"^(?:\w+) (.+?) (?:up )?(?:off|from)(?: of)? the {_GROUND}\b", r"lift \1"),
    (r" (?:up )?(?:in|into|to|through) the air\b", ""),
    (rf" (?:along|across|over) the {_GROUND}\b", ""),
    (r"\b(?:as well as|along with|together with|plus)\b", "and"),
    (r"\b(?:up|down|away|both|all|together)\b(?! the way)", ""),
    (r"\b(?:over|across|back)\s+(?=(?:to|onto|on|into|in|next|near|by|beside|behind)\b)", ""),
    (r"\b(?:just|directly|straight|right|immediately|somewhere|safely|carefully|gently|neatly)\s+"
     r"(?=(?:on|onto|to|into|in|inside|next|near|by|beside|behind|before|at|left|right)\b)(?!right of)", ""),
)  # fmt: skip
"""Ways of saying where and how, and the plain one; in this order."""
_STATES = (
    r"(?:be|go|lie|rest|sit|stand|land|end(?: up)?|come|get|be (?:put|placed|moved|set)|drop|fall|slide|roll)"
)
_STATED: tuple[str, ...] = (
    r"^(?:make sure|see to it|ensure)(?: that)? (?P<what>.+?) "
    r"(?:is|are|ends?(?: up)?|lands?|lies?|goes|go|gets?|sits?|stands?|rests?)$",
    rf"^(?:the )?(?P<what>.+?) (?:should|shall|must|has to|have to|needs? to|ought to|is to|are to) {_STATES}$",
    r"^(?P<what>.+?) (?:goes|go|belongs?|ends?(?: up)?|comes?)$",
    rf"^i(?: would|'d)? (?:want|need|like|wish)(?: to have| to see)? (?P<what>.+?)(?: to {_STATES})?$",
    rf"^(?:let|have) (?P<what>.+?) {_STATES}$",
)
"""What comes before the place where it is said how things should be; the thing is `what`."""
_GOING = ("to", "into", "onto")
_CUT = re.compile(
    r"(?:,|;)?\s+(?:and\s+)?(?:then|after that|afterwards|next(?! to)|finally)\s+|,?\s+and\s+|[;,]\s*"
)


def plain(sentence: str, verbs: Sequence[str], places: Sequence[str]) -> list[str]:
    """The clauses of a sentence in lower case, each beginning with a verb wherever one was found or understood.

    `verbs`: those that there are; `places`: phrases that say where, as "next to". Raises UserError for what forbids or
    excludes: half of such an instruction is the opposite of it.
    """
    words = _squeezed(re.sub(r"[.!?]+$", "", sentence.strip()))
    pushed = re.subn(r",?\s*without (?:lifting|raising|picking)(?: (?:it|them))?(?: up)?,?\s*", " ", words)
    words = _squeezed(pushed[0])
    if said := _NEGATION.search(words):
        raise UserError(
            f"'{said.group()}': an instruction says what to do, not what to leave; say only what shall be done"
        )
    # Things are called by these words, too: "the next cube", "the post next to it".
    while (shorter := _COURTESY.sub("", _THANKS.sub("", words))) != words:
        words = shorter
    for form, plainer in _SIDES:
        words = _squeezed(re.sub(form, plainer, words))
    place = _any(tuple(places))
    words = _commanded(_fronted(words, place), tuple(verbs), place)
    found: list[str] = []
    for segment in _segments(words):
        found = _with(found, _commanded(segment, tuple(verbs), place), verbs, place)
    if pushed[1] and found:
        found[0] = re.sub(r"^\w+", "push", found[0])
    return found


def _squeezed(words: str) -> str:
    return " ".join(words.lower().split()).strip(" ,")


@cache
def _any(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest))})\b")


@cache
def _gerunds(verbs: tuple[str, ...]) -> dict[str, str]:
    """The verbs by their forms in -ing."""
    return {form + "ing": verb for verb in verbs for form in (verb, verb + verb[-1], verb.removesuffix("e"))}


def _fronted(words: str, place: re.Pattern[str]) -> str:
    """ "behind the post, put the can" said the other way round."""
    if place.match(words) and (cut := re.match(r"([^,]+), ([^,]+)$", words)):
        return f"{cut.group(2)} {cut.group(1)}"
    return words


def _segments(words: str) -> list[str]:
    return [part.strip(" ,") for part in _CUT.split(words) if part and part.strip(" ,")]


def _commanded(segment: str, verbs: tuple[str, ...], place: re.Pattern[str]) -> str:
    """A segment as a command, where it is one in other words."""
    while (shorter := _COURTESY.sub("", _THANKS.sub("", segment))) != segment:
        segment = shorter
    first, _, rest = segment.partition(" ")
    if first in _gerunds(verbs):
        segment = f"{_gerunds(verbs)[first]} {rest}"
    for where in place.finditer(segment):
        head, tail = segment[: where.start()].strip(), segment[where.start() :]
        if re.match(rf"to {_STATES}\b", tail):
            continue
        for form in _STATED:
            if stated := re.match(form, head):
                return f"put {stated.group('what')} {tail}"
    going = place.search(segment)
    if first == "take" and going is not None and going.group() in _GOING and not _CUT.search(segment):
        return f"put {rest}"
    return segment


def _with(found: list[str], segment: str, verbs: Sequence[str], place: re.Pattern[str]) -> list[str]:
    """The clauses so far and a further segment: a clause of its own, a further thing in a list, or one for which the
    verb, or verb and place, of the clause before it are meant again."""
    if not found or segment.partition(" ")[0] in verbs:
        return [*found, segment]
    last = found[-1]
    said = place.search(last)
    if said is None:
        return [*found[:-1], f"{last} and {segment}"]
    verb = last.partition(" ")[0]
    where = "" if place.search(segment) else f" {last[said.start() :]}"
    return [*found, f"{verb} {segment}{where}"]
