"""Sessions in which a policy acts and a person corrects it: they take over, show how, and hand back."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sessions.session import Session
from hardware.runtime.sources.corrections import Acting, Corrections
from sim2real.observation import Observation

Array = NDArray[np.float64]

TAKE = "t"
"""The key that takes the arm over, and hands it back."""

REMIND = 3.0
"""s between two lines that say what is being waited for."""


@dataclass
class Correcting(Session):
    """`source` is what the loop follows. An episode lasts as long as its policy may act: the time in which a person
    acts does not count."""

    source: Corrections = field(kw_only=True)
    _wanted: bool = False
    """Whether TAKE was pressed since the last frame."""
    _told: tuple[float, str] = (float("-inf"), "")
    """When the person was last told what the arm waits for, and what."""
    _alone: float = 0.0
    _helped: float = 0.0
    _times: int = 0

    def _live(
        self, index: int, goal: Array | None, enough: Callable[[], bool], duration: float, note: str = ""
    ) -> str:
        self._wanted, self._alone, self._helped, self._times = False, 0.0, 0.0, 0
        before = len(self.results)
        try:
            return super()._live(index, goal, lambda: enough() or self._alone >= duration, float("inf"), note)
        finally:
            for result in self.results[before:]:
                result.interventions, result.corrected_seconds = self._times, round(self._helped, 3)

    def _other_key(self, key: str) -> None:
        if key.lower() == TAKE and self.loop.episode >= 0:
            self._wanted = not self._wanted
        elif self.source.acting is Acting.PERSON:
            self.source.guide.key(key)

    def _frame(self, time: float, observation: Observation) -> None:
        if self.loop.episode >= 0 and self.loop.policy.on:
            self._decide(time)
            if self.source.acting is Acting.POLICY:
                self._alone += 1 / self.loop.robot.policy_rate
            else:
                self._helped += 1 / self.loop.robot.policy_rate
        super()._frame(time, observation)

    def _decide(self, time: float) -> None:
        """Who acts in this frame."""
        source, tell = self.source, self.operator.tell
        asked, self._wanted = self._wanted, False
        if asked and source.acting is not Acting.POLICY:
            source.give_back()
            tell("the policy acts again")
        elif asked:
            why = source.take()
            self._times += not why
            if why:
                tell(f"you cannot take over, the policy goes on: {why}")
        if source.acting is not Acting.NOBODY:
            return
        if not source.lost and not (why := source.follow(self.loop.gate.position)):
            tell(f"you act: {source.guide.hint}; {TAKE} gives the arm back to the policy")
            return
        line = (
            f"the arm holds: {source.lost}. {TAKE} gives it back to the policy, q ends"
            if source.lost
            else f"the arm holds until you are near: {why}"
        )
        if line != self._told[1] or time - self._told[0] >= REMIND:
            tell(line)
            self._told = (time, line)

    def _keys(self) -> str:
        if self.loop.episode < 0:
            return super()._keys()
        if self.source.acting is Acting.POLICY:
            return f"{TAKE} take over  {super()._keys()}"
        return f"{self.source.guide.hint}   {TAKE} give back  {super()._keys()}"
