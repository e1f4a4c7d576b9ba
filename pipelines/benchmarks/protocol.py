"""How a policy is tried on a task, whatever world it is tried in."""

from dataclasses import dataclass
from typing import Any, Protocol

from randomization.workers import Factory
from sim2real.parameters import Draw


class Trials(Protocol):
    """How a policy is tried on one task."""

    @property
    def policy(self) -> str:
        """What the policy is called."""

    def identity(self) -> dict[str, Any]:
        """What decides how trials end, as JSON types."""

    def draws(self, count: int) -> list[Draw]:
        """The first so many trials; the k-th does not depend on the count."""

    def recipe(self) -> Factory:
        """A picklable recipe of trials, whose rows have `success`, `stage`, `failure`, `cause` and `seconds`."""


@dataclass(frozen=True)
class Entry:
    """One task of a benchmark: its name, what kind of task it is, and how the policy is tried on it."""

    id: str
    family: str
    split: str
    trials: Trials
