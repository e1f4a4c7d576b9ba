"""Sessions in which a person acts: with a leader arm, with keys, or with the hands on the limp arm itself.

The arm follows all the time, also between episodes: that is how the scene is put in order again. Recording begins on
the operator's word (or after a time), and ends with a key that says how it went.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hardware.runtime.control.supervisor import Phase, Request
from hardware.runtime.sessions.session import Key, Session
from hardware.runtime.sources.teleop import DISBELIEF, Guide
from sim2real.errors import Sim2RealError
from sim2real.observation import Observation

BEGIN = ("\r", "\n", "n")
"""Keys that begin an episode: Enter, and n."""

PATIENCE = 120.0
"""Seconds that an operator may take to bring the leader to the follower."""

BRIEFLY = 5.0
"""Seconds for it where nobody is there to read what is wrong."""


@dataclass
class Collection(Session):
    """`guide` is who acts; None: a hand moves the limp arm, and torque stays off."""

    guide: Guide | None = None
    reset_time: float | None = None
    """Seconds between episodes. None: until the operator begins the next one."""
    believe: Callable[[], None] | None = None
    """Makes the arm take readings as they are, where a hand has been faster than its servos could be."""

    def _connect(self) -> None:
        if self.guide is not None:
            super()._connect()
        else:
            self._until(lambda: self.loop.phase is Phase.LIMP, 5.0, "the arm to answer")

    def _work(self) -> None:
        plan, loop = self.plan, self.loop
        if self.guide is not None:
            self._take_over(self.guide)
        loop.perception.begin(plan.goals(0))
        index = 0
        while plan.episodes is None or index < plan.episodes:
            self._pause(index)
            ended = self._live(index, None, lambda: False, plan.seconds or float("inf"))
            index += ended != Key.REDO
        if self.guide is not None:
            self._halt()
            loop.stop_policy()
            self._go_home()

    def _take_over(self, guide: Guide) -> None:
        """Start following as soon as the guide is near enough."""
        loop = self.loop
        self._do("waiting for the leader")
        why, told = "", float("-inf")

        def near() -> bool:
            nonlocal why, told
            if not loop.policy.alive:
                raise Sim2RealError(loop.policy.problem)
            why, now = guide.apart(loop.gate.position), loop.clock.now()
            if why and now - told > 3.0:
                self.operator.tell(why)
                told = now
            return not why

        if not self._wait(near, PATIENCE if self.operator.attended else BRIEFLY):
            raise Sim2RealError(f"not started: {why}")
        loop.start_policy(self.plan.seed)
        loop.request = Request.RUN

    def _pause(self, index: int) -> None:
        """Between episodes. Raises Stopped, as everywhere, when the operator has had enough."""
        self._do(f"before episode {index}")
        if self.plan.before:
            code = self._command(self.plan.before, index, None)
            if code != 0:
                raise Sim2RealError(f"--before-episode ended with status {code} before episode {index}")
        self._said = ""
        if self.reset_time is None and self.operator.attended:
            self.operator.tell(f"Enter begins episode {index}, q ends")
            self._wait(lambda: False, float("inf"), also=BEGIN)
        elif index > 0 and self.reset_time:
            self.operator.tell(f"episode {index} begins in {self.reset_time:g} s (Enter: now, q: end)")
            self._wait(lambda: False, self.reset_time, also=BEGIN)

    def _after(self) -> None:
        """The arm goes on following."""

    def _other_key(self, key: str) -> None:
        if self.guide is not None:
            self.guide.key(key)

    def _frame(self, time: float, observation: Observation) -> None:
        reading = self.loop.reading
        if self.guide is None and self.believe is not None and reading is not None:
            if reading.age.max() > DISBELIEF:
                self.believe()
        super()._frame(time, observation)

    @property
    def _acting(self) -> bool:
        return self.guide is None or self.loop.policy.on

    def _keys(self) -> str:
        hint = "move the arm by hand" if self.guide is None else self.guide.hint
        begin = "" if self.loop.episode >= 0 else "Enter begin  "
        return f"{hint}   {begin}{super()._keys()}"
