"""Clients that differ as real arms do: each has an arm, camera and objects of its own, and its own share of the work.

The work of one task is split by where it happens: the range of the task's first angle (of the goal, or of an object)
in `REGIONS` equal parts. A client's shares of them are drawn from a Dirichlet distribution, as is usual for data that
are not alike (T.-M. H. Hsu and others, "Measuring the effects of non-identical data distribution for federated visual
classification", 2019).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.federated.settings import Federation
from pipelines.sweeps.simulated import make_plan
from randomization.space import BoundSpace, Space
from sim2real.errors import UserError
from sim2real.parameters import Draw

REGIONS = 4

TWINS, SHARES, WORK, TRIALS, PACE = (0xFED0 + k for k in range(5))
"""Streams of random numbers."""

PER_CLIENT = 100_000
"""Episodes of client c are numbered from c times this."""


@dataclass(frozen=True)
class Client:
    """One arm. `values`: its own parameters, servos to camera and objects, fixed in all its episodes; `shares`: how
    often it works in each region; `seconds` that it takes to train for a round; `bandwidth` to the server, bytes/s."""

    number: int
    values: Mapping[str, float]
    shares: tuple[float, ...]
    seconds: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """Where a task happens: `split`, the parameter by whose range it is divided, in a space of the task's own."""

    split: str
    space: BoundSpace

    def draws(self, client: Client, regions: Sequence[int], seed: int) -> list[Draw]:
        """An episode of a client in each of the regions."""
        low, high = self.space.range(self.split, tail=0.0)
        found = []
        for index, (draw, region) in enumerate(zip(self.space.draws(len(regions), seed), regions)):
            values = dict(draw.values)
            width = (high - low) / REGIONS
            values[self.split] = low + width * region + (values[self.split] - low) / REGIONS
            number = client.number * PER_CLIENT + index
            found.append(Draw(number, draw.seed, {**client.values, **values}))
        return found


def work_of(federation: Federation) -> Work:
    """How the task is divided. Raises UserError for a task that varies in nothing."""
    plan = make_plan(task=federation.task, robot=federation.robot, draws=1, space=Space(base="task"))
    bound = plan.bind()
    places = [name for name in bound.names if name.startswith("task.") and ".start." not in name]
    if not places:
        raise UserError(
            f"the task '{federation.task}' always happens at one place: clients cannot differ in their share of it"
        )
    angles = [name for name in places if name.endswith(".angle")]
    return Work((angles or places)[0], bound)


def make_clients(federation: Federation) -> tuple[Client, ...]:
    """All of them, from the seed: a client is the same whatever the number of clients."""
    plan = make_plan(task=federation.task, robot=federation.robot, draws=1)
    bound = plan.bind()
    found = []
    twins = bound.draws(federation.clients, _seed(federation.seed, TWINS))
    for number, twin in enumerate(twins):
        values = {name: value for name, value in twin.values.items() if not name.startswith("task.")}
        rng = np.random.default_rng((SHARES, federation.seed, number))
        if math.isinf(federation.alpha):
            shares = np.full(REGIONS, 1 / REGIONS)
        else:
            shares = rng.dirichlet(np.full(REGIONS, federation.alpha))
        pace = np.random.default_rng((PACE, federation.seed, number))
        seconds = 60.0 * float(pace.lognormal(0.0, 0.25))
        bandwidth = 250e3 * float(pace.lognormal(0.0, 0.5))
        found.append(Client(number, values, tuple(map(float, shares)), seconds, bandwidth))
    return tuple(found)


def own_episodes(client: Client, work: Work, federation: Federation) -> list[Draw]:
    """The draws of what a client collects, in regions by its shares."""
    rng = np.random.default_rng((WORK, federation.seed, client.number))
    regions = rng.choice(REGIONS, federation.episodes, p=client.shares)
    return work.draws(client, regions.tolist(), _seed(federation.seed, WORK, client.number))


def trials(client: Client, work: Work, federation: Federation) -> list[Draw]:
    """The draws that a client is measured on: every region in turn, whatever its shares are."""
    regions = [index % REGIONS for index in range(federation.evaluate)]
    return work.draws(client, regions, _seed(federation.seed, TRIALS, client.number))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
