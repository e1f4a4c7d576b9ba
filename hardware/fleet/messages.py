"""What robots and hub say to each other: JSON of bounded size, checked field by field on both sides.

A robot asks (`Batch`: how it is, and what is in its outbox), the hub answers (`Answer`: what it has on its disk, which
policy it offers, whether to stop). Nothing else is said, and nothing that is said moves an arm.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hardware.fleet.signing import Manifest
from sim2real.errors import Sim2RealError
from sim2real.text import printable

VERSION = 1
LARGEST = 1 << 20
"""Bytes of one message."""
MANY = 200
"""Messages of one batch."""
BODY = 8192
"""Bytes of one message's body, as JSON."""
TEXT = 300
"""Characters of one text."""
PIECE = 1 << 19
"""Bytes of a policy file that are asked for at a time."""
POLICY = 1 << 30
"""Bytes of the largest policy file."""

KINDS = ("episode", "intervention", "state")
"""What an outbox holds, the most important first."""


class Refused(Sim2RealError):
    """A message is not what it should be; the reason is for both sides. `sequence`: which one of the outbox it is."""

    def __init__(self, reason: str, sequence: int | None = None) -> None:
        super().__init__(printable(reason))
        self.sequence = sequence


@dataclass(frozen=True)
class Message:
    """One entry of an outbox. `time`: seconds since 1970, by the robot's clock; nothing depends on it."""

    sequence: int
    kind: str
    time: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """What a robot says at a time. `outbox` names the outbox that numbers its messages, `session` the agent's run,
    `certificate` is the fingerprint of the robot's."""

    outbox: str
    session: str
    certificate: str
    state: str
    policy: str | None
    firmware: str
    camera: str
    details: Mapping[str, Any]
    messages: tuple[Message, ...] = ()

    def encode(self) -> bytes:
        raw = {**vars(self), "v": VERSION, "messages": [vars(message) for message in self.messages]}
        return _encoded(raw)

    @classmethod
    def decode(cls, data: bytes) -> "Batch":
        """Raises Refused."""
        raw = _opened(data)
        messages = raw.pop("messages", None)
        if not isinstance(messages, list) or len(messages) > MANY:
            raise Refused(f"messages must be a list of at most {MANY}")
        values = _checked(raw, BATCH, "the batch")
        return cls(**values, messages=tuple(_message(message) for message in messages))


@dataclass(frozen=True)
class Offer:
    """A policy that the hub would have a robot run: what is signed of it and by whom; `rule` and `fallback` say by what
    the robot leaves it by itself, and for what."""

    manifest: Manifest
    signature: str
    max_safety_events: int | None = None
    """More in one run than these, and it goes back; None: no such rule."""
    max_episodes: int | None = None
    """It may run so many without hearing from the hub; None: any."""
    fallback: "Offer | None" = None

    def to_json(self) -> dict[str, Any]:
        return {
            "manifest": self.manifest.to_json(),
            "signature": self.signature,
            "max_safety_events": self.max_safety_events,
            "max_episodes": self.max_episodes,
            "fallback": None if self.fallback is None else self.fallback.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Any, deep: bool = True) -> "Offer":
        """Raises Refused."""
        if not isinstance(raw, dict):
            raise Refused("an offer must be an object")
        raw = dict(raw)
        fallback = raw.pop("fallback", None)
        values = _checked(raw, OFFER, "the offer")
        try:
            manifest = Manifest.from_json(values.pop("manifest"))
        except ValueError as error:
            raise Refused(f"the offer: {error}") from None
        if manifest.size > POLICY:
            raise Refused(f"the offer: a policy of {manifest.size} bytes is larger than {POLICY}")
        back = cls.from_json(fallback, deep=False) if fallback is not None and deep else None
        return cls(manifest, **values, fallback=back)


@dataclass(frozen=True)
class Answer:
    """What the hub says. `acknowledged`: messages of the outbox up to this number are on the hub's disk."""

    acknowledged: int | None = None
    refused: str = ""
    """Why it takes nothing from this robot now."""
    sequence: int | None = None
    """The message that it will never take."""
    offer: Offer | None = None
    stop: str | None = None
    """Set: end what is running; each request has a text of its own."""

    def encode(self) -> bytes:
        return _encoded({
            "v": VERSION, "acknowledged": self.acknowledged, "refused": self.refused, "sequence": self.sequence,
            "offer": None if self.offer is None else self.offer.to_json(), "stop": self.stop,
        })  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> "Answer":
        """Raises Refused."""
        raw = _opened(data)
        offer = raw.pop("offer", None)
        return cls(
            **_checked(raw, ANSWER, "the answer"), offer=None if offer is None else Offer.from_json(offer)
        )


@dataclass(frozen=True)
class Request:
    """A piece of a policy file."""

    digest: str
    offset: int

    def encode(self) -> bytes:
        return _encoded({**vars(self), "v": VERSION})

    @classmethod
    def decode(cls, data: bytes) -> "Request":
        """Raises Refused."""
        return cls(**_checked(_opened(data), REQUEST, "the request"))


@dataclass(frozen=True)
class Rule:
    """What one field may be."""

    kinds: tuple[type, ...]
    check: Callable[[Any], bool] = field(default=lambda value: True)
    about: str = ""
    default: Any = ...


def text(longest: int = TEXT, default: Any = ...) -> Rule:
    return Rule((str,), lambda v: len(v) <= longest, f"a text of at most {longest} characters", default)


def whole(low: int = 0, high: int = 1 << 53, default: Any = ...) -> Rule:
    return Rule((int,), lambda v: low <= v <= high, f"a whole number from {low} to {high}", default)


def number(low: float, high: float) -> Rule:
    return Rule((int, float), lambda v: low <= v <= high, f"a number from {low:g} to {high:g}")


def maybe(rule: Rule) -> Rule:
    return Rule(
        (*rule.kinds, type(None)), lambda v: v is None or rule.check(v), f"{rule.about}, or null", None
    )


def table() -> Rule:
    return Rule((dict,), lambda v: len(_encoded(v)) <= BODY, f"an object of at most {BODY} bytes", {})


HEX = Rule(
    (str,), lambda v: len(v) <= 64 and not set(v) - set("0123456789abcdef"), "at most 64 hexadecimal digits"
)
DIGEST = Rule((str,), lambda v: len(v) == 64 and HEX.check(v), "64 hexadecimal digits")

BATCH = {
    "outbox": HEX, "session": HEX, "certificate": HEX, "state": text(64), "policy": maybe(DIGEST),
    "firmware": text(64, ""), "camera": text(64, ""), "details": table(),
}  # fmt: skip
MESSAGE = {
    "sequence": whole(1),
    "kind": Rule((str,), lambda v: v in KINDS, "one of " + ", ".join(KINDS)),
    "time": number(0, 1e11),
    "body": table(),
}
EPISODE = {
    "policy": maybe(DIGEST), "task": text(200, ""), "success": maybe(Rule((bool,))), "judge": text(64, ""),
    "seconds": number(0, 1e7), "interventions": whole(0, 10**6, 0), "safety_events": whole(0, 10**6, 0),
    "firmware": text(64, ""), "camera": text(64, ""), "details": table(),
}  # fmt: skip
OFFER = {
    "manifest": table(), "signature": text(200), "max_safety_events": maybe(whole(0, 10**6)),
    "max_episodes": maybe(whole(0, 10**9)),
}  # fmt: skip
ANSWER = {
    "acknowledged": maybe(whole()), "refused": text(TEXT + 200, ""), "sequence": maybe(whole(1)),
    "stop": maybe(text(64)),
}  # fmt: skip
REQUEST = {"digest": DIGEST, "offset": whole(0, POLICY)}


def check_message(message: Message) -> Message:
    """The message itself, its body with what it left out. Raises Refused."""
    return _message(vars(message))


def _message(raw: Any) -> Message:
    if not isinstance(raw, dict):
        raise Refused("a message must be an object")
    sequence = raw.get("sequence")
    mark = sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else None
    try:
        values = _checked(raw, MESSAGE, "a message")
        if values["kind"] == "episode":
            values["body"] = _checked(values["body"], EPISODE, "an episode")
    except Refused as error:
        raise Refused(str(error), mark) from None
    return Message(**values)


def _checked(raw: Mapping[str, Any], rules: Mapping[str, Rule], what: str) -> dict[str, Any]:
    """What `rules` say of an object, nothing missing and nothing more. Raises Refused."""
    if unknown := sorted(set(raw) - set(rules)):
        raise Refused(f"{what} has no {unknown[0]!r}")
    values = {}
    for name, rule in rules.items():
        value = raw.get(name, rule.default)
        if value is ...:
            raise Refused(f"{what} lacks {name!r}")
        # True is a whole number to Python.
        fits = isinstance(value, rule.kinds) and (not isinstance(value, bool) or bool in rule.kinds)
        if not fits or not rule.check(value):
            raise Refused(f"{what}: {name} must be {rule.about or 'of another kind'}")
        values[name] = value
    return values


def _opened(data: bytes) -> dict[str, Any]:
    """A JSON object of this version. Raises Refused."""
    if len(data) > LARGEST:
        raise Refused(f"a message of {len(data)} bytes is larger than {LARGEST}")
    try:
        raw = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
        # Written out again: half a character, which no file can hold, and nesting that only reading bears, end here.
        if b"\\u0000" in json.dumps(raw, ensure_ascii=False).encode():
            raise ValueError("a text holds the character 0, which databases do not keep")
    except (ValueError, RecursionError) as error:
        raise Refused(f"a message is no JSON: {error}") from None
    if not isinstance(raw, dict) or raw.pop("v", None) != VERSION:
        raise Refused(f"a message must be an object of version {VERSION}")
    return raw


def _encoded(raw: Any) -> bytes:
    return json.dumps(raw, separators=(",", ":"), allow_nan=False).encode()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value
