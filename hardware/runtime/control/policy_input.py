"""The policy as the control loop sees it: chunks are taken in, judged, and played; what is committed is told."""

import statistics

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.counts import Counts
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.sources.sources import PolicySource
from sim2real.chunks import ChunkPlayer
from sim2real.errors import Sim2RealError
from sim2real.gate.gate import CLIPPED, REJECTED
from sim2real.observation import Observation
from sim2real.policies.committed import committed_entries

Array = NDArray[np.float64]


LAST = 9
"""Answers by whose median the latency of the next one is told."""


class PolicyInput:
    """`source` answers observations with chunks; None: there is no policy. `period` s is the loop's, `step` s the
    policy's."""

    def __init__(
        self, source: PolicySource | None, period: float, counts: Counts, step: float = 1 / 30
    ) -> None:
        self.source, self.period, self.counts, self.step = source, period, counts, step
        self.player = ChunkPlayer()
        self.on = False
        """Whether the policy's chunks are followed."""
        self.bad_chunks = 0
        """Chunks refused in a row."""
        self.rejected = 0.0
        """s for which the gate has rejected every command."""
        self._refusal = ""

    @property
    def alive(self) -> bool:
        """Whether there is a policy that has not failed."""
        return self.source is not None and self.source.alive

    @property
    def problem(self) -> str:
        """What is wrong with it, if anything is."""
        return "" if self.source is None else self.source.problem

    def detail(self, fault: FaultCode) -> str:
        """What the policy has to do with a fault, for people; "" for nothing."""
        match fault:
            case FaultCode.POLICY_INVALID:
                return self._refusal
            case FaultCode.POLICY_DIED | FaultCode.POLICY_LATE | FaultCode.POLICY_REJECTED:
                return self.problem
        return ""

    def start(self, seed: int, position: Array, now: float) -> None:
        """Follow the policy from `position` (n,) rad on: a new episode."""
        assert self.source is not None
        self.source.reset(seed)
        self.player.reset(position, now)
        self.bad_chunks, self.rejected = 0, 0.0
        self.on = True

    def take(self, now: float) -> None:
        """Take the chunk that has arrived, if one has."""
        answer = None if self.source is None else self.source.poll()
        if answer is None:
            return
        self.counts.chunks += 1
        if answer.chunk is None:
            self._refuse(answer.problem)
            return
        self.counts.latencies.append(answer.arrived - answer.chunk.start)
        if not self.on:
            return
        try:
            if not self.player.add(answer.chunk, now):
                self.counts.expired += 1
            self.bad_chunks = 0
        except Sim2RealError as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        self.counts.refused += 1
        self.bad_chunks += 1
        self._refusal = why

    def send(self, now: float, observation: Observation) -> None:
        """Hand the policy an observation made at `now`, s."""
        if self.source is not None and self.on:
            self.source.send(now, observation | committed_entries(self.player, now, self.step, self.latency))

    @property
    def latency(self) -> float:
        """s that the next answer is expected to take: the median of the last ones; 0 before there are any."""
        last = self.counts.latencies[-LAST:]
        return statistics.median(last) if last else 0.0

    def note(self, flags: int) -> None:
        """What the gate made of a command of the policy's: its mask."""
        self.counts.commands += 1
        if flags & REJECTED:
            self.counts.rejected += 1
            self.rejected += self.period
        else:
            self.rejected = 0.0
            if flags & CLIPPED:
                self.counts.clipped += 1
