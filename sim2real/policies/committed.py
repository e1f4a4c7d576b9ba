"""What an arm will do until an answer can change it: goals that are committed while a policy thinks.

A policy that takes `latency` s is asked about a moment and answers when that has passed; until then the chunk before
plays on. Policies that observe these two entries know what it will bring, and plan from where it ends (Black et al.,
"Training-time action conditioning for efficient real-time chunking", 2025).

| entry | size | meaning |
|---|---|---|
| `committed` | `ROWS` · n | goals, rad, 0 … `ROWS` − 1 periods later; those beyond `latency` are the last within it |
| `latency` | 1 | s that the answer is expected to take |
"""

import numpy as np
from numpy.typing import NDArray

from sim2real.chunks import ChunkPlayer
from sim2real.observation import Feature, Observation

COMMITTED, LATENCY = "committed", "latency"

ROWS = 10
"""Goals that are told: at 30 Hz those of 0 to 300 ms."""


def committed_features(n: int) -> tuple[Feature, ...]:
    """The two entries as features, for n joints."""
    return Feature(COMMITTED, ROWS * n), Feature(LATENCY, 1)


def committed_entries(player: ChunkPlayer, now: float, period: float, latency: float) -> Observation:
    """The two entries for what `player` plays from `now` on, s; `period` s is the policy's."""
    # Whole periods: what comes between two goals is the answer's already, where it comes in between.
    times = now + np.minimum(np.arange(ROWS), int(latency / period + 1e-6)) * period
    return {COMMITTED: player.ahead(times).ravel(), LATENCY: np.array([latency])}


def nothing_committed(command: NDArray[np.float64]) -> Observation:
    """The two entries where an answer comes at once: the goal (n,) rad stays."""
    return {COMMITTED: np.tile(command, ROWS), LATENCY: np.zeros(1)}
