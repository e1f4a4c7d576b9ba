"""What a goal is: something on the table that is so or not, and that knows how far it is from being so.

The kinds are in `sim2real/predicates.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

from sim2real.errors import UserError, nearest
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation
from sim2real.text import printable
from sim2real.truth import Truth

Specs = Mapping[str, ObjectSpec]
Named = Callable[[str], str]
"""What an object is called in a sentence, by its name."""


@dataclass(frozen=True)
class Predicate(ABC):
    """Something that may be so. See the module."""

    kind: ClassVar[str]

    @abstractmethod
    def holds(self, truth: Truth) -> bool:
        """Whether it is so at this instant."""

    def distance(self, truth: Truth) -> float:
        """How far it is from being so, m; 0 where it is. A reward's measure, not a promise."""
        return 0.0 if self.holds(truth) else self.left(truth) + 1e-3

    def left(self, truth: Truth) -> float:
        """m that are left to go where it is not so; `distance` adds a little, since more than the place may lack."""
        raise NotImplementedError

    @abstractmethod
    def estimate(self, observation: Observation, specs: Specs) -> bool | None:
        """Whether it is so by what an arm observes; None where that cannot be told."""

    @abstractmethod
    def english(self, named: Named) -> str:
        """What to tell somebody who shall bring it about."""

    @abstractmethod
    def refusal(self, specs: Specs) -> str:
        """Why it can never be so with these objects; "" where it can."""

    def objects(self) -> tuple[str, ...]:
        """The names that it speaks of, in order."""
        return tuple(dict.fromkeys(getattr(self, name) for name in _naming(type(self))))

    def parts(self) -> "Iterator[Predicate]":
        """The predicates that must all be so, in order; itself where there is one."""
        yield self

    def check(self, specs: Specs) -> None:
        """Raise UserError for an unknown object, or one that it cannot be said of."""
        for name in self.objects():
            if name not in specs:
                raise UserError(
                    f"the goal {self} speaks of '{printable(name)}', which is not there{nearest(name, specs)}; "
                    f"there are {', '.join(specs) or 'no objects'}"
                )
        if why := self.refusal(specs):
            raise UserError(f"the goal {self} cannot be: {why}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; `predicate` reads it back."""
        return {"kind": self.kind} | {f.name: getattr(self, f.name) for f in fields(self)}


@cache
def _naming(kind: type[Predicate]) -> tuple[str, ...]:
    """The fields of a predicate that hold names of objects."""
    return tuple(f.name for f in fields(kind) if f.name in ("a", "b"))
