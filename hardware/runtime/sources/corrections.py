"""A policy that a person may take over from, and hand back to: what happens then becomes data.

To the loop it is one source of actions. Whoever acts, the policy goes on being asked, so that a recording can tell
what it would have done. Between the two the arm holds: from the moment at which a person wants it until whatever they
lead with is near enough, and until the policy has answered again about what it sees then.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sources.sources import PolicyAnswer, PolicySource
from hardware.runtime.sources.teleop import Guide
from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.clock import Clock
from sim2real.errors import Sim2RealError
from sim2real.observation import Observation

Array = NDArray[np.float64]

SILENCE = 0.3
"""s without anything from the person's side after which the arm holds: they have lost their leader."""

HOLD_ROWS = 10
"""Actions of a chunk that holds the arm, policy periods."""


class Acting(IntEnum):
    """Who decides what the arm does; the numbers are those in recordings."""

    POLICY = 0
    PERSON = 1
    NOBODY = 2
    """It holds, on its way from one to the other."""


class Corrections:
    """See the module docstring; a `PolicySource`. `person` gives the actions of `guide`; `period` s is the policy's.

    `take` and `give_back` are what the person wants; `follow` is called as long as they are waited for.
    """

    def __init__(
        self, policy: PolicySource, person: PolicySource, guide: Guide, period: float, clock: Clock
    ) -> None:
        self.policy, self.person, self.guide = policy, person, guide
        self.acting = Acting.POLICY
        self.lost = ""
        """Why the person does not act any more, where they have not handed back; "" for nothing."""
        self._period, self._clock = period, clock
        self._seed = 0
        self._fresh = False
        """Whether the policy has just been given the arm back: it is held until the first answer, for a while."""
        self._heard = 0.0
        self._hold: PolicyAnswer | None = None
        self._plan = ChunkPlayer()
        """What the policy wants, whoever acts."""
        self._planned = False

    # What the person wants

    def take(self) -> str:
        """The person wants the arm: it holds from now on. Returns why they cannot have it, "" when they can."""
        if not self.person.alive:
            return self.person.problem or "nobody is there to take over"
        self.acting, self.lost = Acting.NOBODY, ""
        return ""

    def follow(self, position: Array) -> str:
        """Follow the person, if they are near enough to the arm's goal `position` (n,) rad; else why not."""
        if not self.person.alive:
            self.lost = self.person.problem
            return self.lost
        why = self.guide.apart(position)
        if not why:
            self.person.reset(self._seed)
            self.acting, self._heard = Acting.PERSON, self._clock.now()
        return why

    def give_back(self) -> None:
        """The policy acts again, from what it sees from now on."""
        self.acting, self.lost = Acting.POLICY, ""
        self.policy.reset(self._seed)
        self._fresh, self._planned = True, False

    def wanted(self, time: float, n: int) -> Array:
        """(n,) rad: where the policy would have the arm at `time`; NaN where it has said nothing about that."""
        if not self._planned or self._plan.remaining(time) < 0:
            return np.full(n, np.nan)
        return self._plan.sample(time)

    # A policy source

    @property
    def alive(self) -> bool:
        # What a person does not need any more, or what the policy is not asked for, ends nothing.
        return self.policy.alive if self.acting is Acting.POLICY else True

    @property
    def problem(self) -> str:
        return self.policy.problem

    def reset(self, seed: int) -> None:
        self._seed = seed
        self.acting, self.lost, self._hold = Acting.POLICY, "", None
        self._fresh = self._planned = False
        self.policy.reset(seed)

    def send(self, time: float, observation: Observation) -> None:
        command = observation["joint_command"]
        if not self._planned:
            self._plan.reset(command, time)
        if self.policy.alive:
            self.policy.send(time, observation)
        if self.acting is Acting.PERSON:
            self.person.send(time, observation)
        elif self.acting is Acting.NOBODY or self._fresh:
            self._fresh = False  # later than this chunk lasts, the policy is late
            # From where the goal is by now: it comes to rest as the gate's limits have it.
            chunk = Chunk(time, self._period, np.tile(command, (HOLD_ROWS, 1)))
            self._hold = PolicyAnswer(chunk, self._clock.now())

    def poll(self) -> PolicyAnswer | None:
        mine = self.policy.poll()
        if mine is not None:
            self._note(mine)
        if self.acting is Acting.PERSON:
            theirs = self.person.poll()
            now = self._clock.now()
            if theirs is not None:
                self._heard = now
                return theirs
            if not self.person.alive or now - self._heard > SILENCE:
                self.acting = Acting.NOBODY
                self.lost = self.person.problem or "nothing comes from whoever leads"
            return None
        if self.acting is Acting.POLICY and mine is not None:
            self._hold = None
            return mine
        hold, self._hold = self._hold, None
        return hold

    def close(self) -> None:
        self.policy.close()
        self.person.close()

    def _note(self, answer: PolicyAnswer) -> None:
        if answer.chunk is None:
            return
        try:
            self._planned = self._plan.add(answer.chunk, self._clock.now()) or self._planned
        except Sim2RealError:
            pass  # not finite: the loop refuses it where the policy acts
