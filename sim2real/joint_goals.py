"""Goals about things that move on a joint: drawers, lids, buttons, knobs, levers, sliders."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sim2real.errors import UserError
from sim2real.goal import Named, Predicate, Specs
from sim2real.observation import Observation, joint_key
from sim2real.truth import Truth

SHUT, DOWN, TURNED, OPENED, HALF = 0.1, 0.6, 0.15, 0.2, 0.5
"""Shares of a joint's way: up to which it is closed, from which a button is pressed, by which it may be off, by which
more than is asked for it is opened, and up to which a sentence says half way."""


@dataclass(frozen=True)
class JointPredicate(Predicate):
    """What is said of the joint of `a`."""

    a: str
    needs: ClassVar[tuple[str, ...]] = ()
    """The kinds of objects of which it can be said."""

    @abstractmethod
    def within(self, share: float) -> bool:
        """Whether it is so where the joint is at this share of its way."""

    @property
    @abstractmethod
    def aim(self) -> float:
        """The share of its way to which whoever brings it about moves the joint."""

    def __post_init__(self) -> None:
        q = getattr(self, "q", 0.0)
        if not isinstance(q, int | float) or not 0.0 <= q <= 1.0:
            raise UserError(f"q is a share of a joint's way, 0 … 1; got {q}")

    def holds(self, truth: Truth) -> bool:
        return self.within(truth.objects[self.a].share)

    def left(self, truth: Truth) -> float:
        a = truth.objects[self.a]
        joint = a.spec.joint
        assert joint is not None
        return abs(self.aim - a.share) * joint.travel * joint.direction_at(a.joint)[1]

    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        share = observation.get(joint_key(self.a))
        return None if share is None else self.within(float(share[0]))

    def refusal(self, specs: Specs) -> str:
        kind = specs[self.a].kind
        return (
            "" if kind in self.needs else f"{self.a} is a {kind}; it is said of a {' or a '.join(self.needs)}"
        )


@dataclass(frozen=True)
class Open(JointPredicate):
    """The drawer or lid `a` is open, by the share `q` of its way or more."""

    q: float = 0.7
    kind: ClassVar[str] = "open"
    needs: ClassVar[tuple[str, ...]] = ("drawer", "lid")

    def within(self, share: float) -> bool:
        return share >= self.q

    @property
    def aim(self) -> float:
        return min(self.q + OPENED, 1.0)

    def english(self, named: Named) -> str:
        return f"open {named(self.a)}{'' if self.q > HALF else ' half way'}"

    def refusal(self, specs: Specs) -> str:
        if not 0.1 < self.q <= 0.9:
            return "open is 0.1 to 0.9 of the way: the rest is play"
        return super().refusal(specs)


@dataclass(frozen=True)
class Closed(JointPredicate):
    """The drawer or lid `a` is closed."""

    kind: ClassVar[str] = "closed"
    needs: ClassVar[tuple[str, ...]] = ("drawer", "lid")

    def within(self, share: float) -> bool:
        return share <= SHUT

    @property
    def aim(self) -> float:
        return 0.0

    def english(self, named: Named) -> str:
        return f"close {named(self.a)}"


@dataclass(frozen=True)
class Pressed(JointPredicate):
    """The button `a` is down: it springs back when it is let go."""

    kind: ClassVar[str] = "pressed"
    needs: ClassVar[tuple[str, ...]] = ("button",)

    def within(self, share: float) -> bool:
        return share >= DOWN

    @property
    def aim(self) -> float:
        return 1.0

    def english(self, named: Named) -> str:
        return f"press {named(self.a)}"


@dataclass(frozen=True)
class Turned(JointPredicate):
    """The knob, lever or slider `a` is at the share `q` of its way."""

    q: float = 1.0
    kind: ClassVar[str] = "turned"
    needs: ClassVar[tuple[str, ...]] = ("knob", "lever", "slider")

    def within(self, share: float) -> bool:
        return abs(share - self.q) <= TURNED

    @property
    def aim(self) -> float:
        return self.q

    def english(self, named: Named) -> str:
        where = "back" if self.q < TURNED else "half way" if self.q <= HALF else "all the way"
        return f"turn {named(self.a)} {where}"
