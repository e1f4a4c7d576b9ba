"""What befalls clients in a simulated federation: how long they take, who is late, who dies, who lies."""

from dataclasses import dataclass

import numpy as np

from pipelines.federated.clients import Client
from pipelines.federated.codecs import Weights
from pipelines.federated.settings import Federation

FATES, LIARS = 0xFA7E, 0x11A5

LATE = (2.0, 6.0)
"""By what factor a straggler is slower."""

AWAY = (30.0, 180.0)
"""s that a client which died is away."""

DAY = 86_400.0
GONE_FOR_A_DAY = 0.05
"""Share of the dead that only come back after a day."""

LIE = -10.0
"""What some liars multiply their change by; the others send numbers that are none."""


@dataclass(frozen=True)
class Fate:
    """`seconds` until an answer, or, for one that dies, until it is back."""

    dies: bool
    seconds: float


def fate(federation: Federation, client: Client, turn: int, bytes_moved: int) -> Fate:
    """What becomes of a client in its turn number `turn`. Depends on nothing that happened before."""
    order = np.random.default_rng((FATES, federation.seed, turn)).permutation(federation.clients)
    place = int(np.flatnonzero(order == client.number)[0])
    dead = round(federation.dead * federation.clients)
    late = round(federation.stragglers * federation.clients)
    rng = np.random.default_rng((FATES, federation.seed, turn, client.number))
    takes = client.seconds * float(rng.uniform(0.9, 1.1)) + bytes_moved / client.bandwidth
    slow, away, day = float(rng.uniform(*LATE)), float(rng.uniform(*AWAY)), float(rng.random())
    if place < dead:
        return Fate(True, DAY if day < GONE_FOR_A_DAY else takes + away)
    return Fate(False, takes * slow if place < dead + late else takes)


def liars(federation: Federation) -> tuple[int, ...]:
    """Who sends what is wrong."""
    order = np.random.default_rng((LIARS, federation.seed)).permutation(federation.clients)
    return tuple(sorted(int(k) for k in order[: federation.lying]))


def lie(federation: Federation, client: int, honest: Weights, base: Weights) -> Weights:
    """What a liar sends instead: the opposite of what it learned, ten times as far; every second one garbage."""
    if liars(federation).index(client) % 2:
        return np.full_like(honest, np.nan)
    return np.asarray(base + np.float32(LIE) * (honest - base), dtype=np.float32)
