"""How a policy may learn besides cloning: by practice. What an algorithm is, and what it is given.

    class MyAlgorithm:
        def train(self, practice: Practice) -> None:
            while practice.left > 0 and not practice.expired():
                episodes = practice.episodes(20, exploration=0.1 * practice.reach)
                ...                                    # change practice.network
                practice.note(success=...)
                if practice.measure() > best:
                    practice.keep()                    # policy.onnx is this network now

    sim2real pretrain --task reach --algorithm my.module:MyAlgorithm --out runs/mine

docs/learning.md has a whole one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.learning.drawn import ranges_of
from pipelines.learning.experience import EXPLORATION, Experience, Known, PractiseEpisode
from pipelines.learning.export import serialize_policy
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.trainer import PRACTICE
from randomization.space import BoundSpace
from randomization.workers import LocalWorkers, Outcome, attempt
from sim2real.errors import Sim2RealError, UserError, nearest
from sim2real.files import write_bytes
from sim2real.parameters import Draw
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot

Array = NDArray[np.float64]

CLONING, PPO = "cloning", "ppo"
NAMES = (CLONING, PPO, f"{CLONING}+{PPO}")

CHECKED = 100
"""Episodes by which a policy is measured while it practises."""


class Algorithm(Protocol):
    """Changes a network for the better by practice. Its class is called without arguments."""

    def train(self, practice: "Practice") -> None:
        """Train `practice.network`, and `keep` what is good; to return early is fine."""


class Practice:
    """What an algorithm is given.

    `network` is to be changed in place; its weights lie on the CPU. `cloned`: whether it has been cloned from an
    expert; otherwise it has the weights that it was made with, and normalizers that do nothing. `known`: what a critic
    is told (`Experience.truths`). `reach` (n,) rad: how far each joint may go in one period. Everything random should
    follow from `seed`.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        info: PolicyInfo,
        robot: Robot,
        recipe: PractiseEpisode,
        space: BoundSpace,
        out: Path,
        *,
        cloned: bool,
        seed: int,
        total: int,
        workers: int,
        keep: Callable[[], object],
        expired: Callable[[], bool] = lambda: False,
        note: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> None:
        self.network, self.robot, self.known = network, robot, recipe.known
        self.cloned, self.seed, self.total = cloned, seed, total
        self.reach: Array = robot.limits("velocity") / robot.policy_rate
        self.done = 0
        """Episodes practised."""
        self.keep, self.expired = keep, expired
        """Make the network as it is now the run's policy; whether the time is up."""
        self._info, self._space, self._note = info, space, note
        self._recipe, self._actor = recipe, Path(recipe.actor)
        self._state = out / PRACTICE
        self._workers = LocalWorkers(recipe, workers) if workers else None
        self._here: Callable[[Draw], Any] | None = None

    @property
    def left(self) -> int:
        """Episodes still to be practised."""
        return max(0, self.total - self.done)

    def episodes(self, count: int, exploration: Array | None = None) -> list[Experience]:
        """Practise `count` episodes, each in a world drawn anew.

        `exploration` (n,) rad: standard deviation of what is added to all goals of a chunk, in every step anew (None:
        nothing). Episodes that could not be simulated are left out. Raises Sim2RealError when none could be.
        """
        self._write_actor(exploration)
        begin, self.done = self.done, self.done + count
        seed = int(np.random.SeedSequence((self.seed, 0x94AC)).generate_state(1)[0])
        return self._run([self._space.draw(index, seed) for index in range(begin, self.done)])

    def wander(self, count: int) -> list[Experience]:
        """Episodes in which the arm wanders about, before there is any policy: what normalizers are fitted on."""
        self._actor.unlink(missing_ok=True)
        seed = int(np.random.SeedSequence((self.seed, 0x3A7D)).generate_state(1)[0])
        return self._run([self._space.draw(index, seed) for index in range(count)])

    def measure(self, count: int = CHECKED) -> tuple[float, float]:
        """Share of successes, and mean sum of rewards, without exploration: on the same draws each time."""
        self._write_actor(None)
        seed = int(np.random.SeedSequence((self.seed, 0xC4EC)).generate_state(1)[0])
        found = self._run([self._space.draw(index, seed) for index in range(count)])
        return (
            float(np.mean([episode.success for episode in found])),
            float(np.mean([episode.rewards.sum() for episode in found])),
        )

    def note(self, **numbers: float) -> None:
        """A row of metrics.json, and of what is printed."""
        self._note({"episodes": self.done, **numbers})

    def save(self, state: dict[str, Any]) -> None:
        """Store what `restore` gives back when the run goes on: tensors and plain values. The network, the number of
        episodes and torch's random numbers are stored with it."""
        self._state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._state.with_suffix(".part")
        whole = {
            "algorithm": state,
            "network": self.network.state_dict(),
            "done": self.done,
            "random": torch.get_rng_state(),
        }
        torch.save(whole, temporary)
        temporary.replace(self._state)

    def restore(self) -> dict[str, Any] | None:
        """What was saved last; the network and the number of episodes are what they were then. None: a beginning."""
        if not self._state.exists():
            return None
        whole = torch.load(self._state, weights_only=True)
        self.network.load_state_dict(whole["network"])
        self.done = int(whole["done"])
        torch.set_rng_state(whole["random"])
        state: dict[str, Any] = whole["algorithm"]
        return state

    def close(self) -> None:
        """Stop the workers."""
        if self._workers is not None:
            self._workers.close()

    def _write_actor(self, exploration: Array | None) -> None:
        sigma = np.zeros(self.robot.n) if exploration is None else np.asarray(exploration, dtype=np.float64)
        if sigma.shape != (self.robot.n,) or not (np.isfinite(sigma).all() and (sigma >= 0).all()):
            raise UserError(f"exploration needs {self.robot.n} numbers of at least 0, rad; got {exploration}")
        info = replace(self._info, provenance={EXPLORATION: sigma.tolist()})
        self._actor.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._actor, serialize_policy(self.network, info))

    def _run(self, draws: Sequence[Draw]) -> list[Experience]:
        if self._workers is not None:
            outcomes = sorted(self._workers.run(draws), key=lambda outcome: outcome.draw.index)
        else:
            self._here = self._here or self._recipe()
            outcomes = [attempt(self._here, draw) for draw in draws]
        return _experiences(outcomes)


def _experiences(outcomes: Sequence[Outcome]) -> list[Experience]:
    names = Experience.__dataclass_fields__
    found = [Experience(**{name: o.row[name] for name in names}) for o in outcomes if not o.error]
    if not found:
        raise Sim2RealError(
            f"none of {len(outcomes)} episodes could be simulated; the first: {outcomes[0].error}\n"
            f"{outcomes[0].detail}"
        )
    return found


def known_to_critics(features: Sequence[Any], robot: Robot, space: BoundSpace) -> Known:
    """What critics are told of worlds drawn from this space."""
    return Known(tuple(features), robot.n, ranges_of(space))


def stages(name: str) -> tuple[bool, str]:
    """Whether an algorithm begins with cloning, and what practises after that ("" for nothing).

    Raises UserError for a name that means nothing.
    """
    if name in NAMES:
        first, _, second = name.partition("+")
        return first == CLONING, second if first == CLONING else first
    if name.startswith(f"{CLONING}+") and ":" in name:
        return True, name.partition("+")[2]
    if ":" in name:
        return False, name
    raise UserError(
        f"there is no algorithm '{name}'{nearest(name, NAMES) or ';'} Known are {', '.join(NAMES)}, and classes of "
        f"your own as my.module:MyAlgorithm, after cloning as {CLONING}+my.module:MyAlgorithm"
    )
