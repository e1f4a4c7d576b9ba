"""Proximal policy optimization (Schulman et al., 2017) of chunk policies, with a critic that knows more than the actor.

What is drawn at random in a step is one number per joint, which is added to all goals of the chunk:

    a = ā(observation) + σ ε,      chunk = chunk(observation) + reach · σ ε,      ε' = ρ ε + √(1 − ρ²) η,  η ~ N(0, 1)

ā is the mean of the chunk's rows relative to its reference, in units of `reach`, what the joint can go in one period.
What is tried goes on for a while (ρ, `experience.MEMORY`), since what turns about in every step never gets past the
limits of the gate; ε of the step before is a part of the state, and π(a) = N(ā + σ ρ ε, σ² (1 − ρ²)) given that. The
gradient of log π(a) is the same for all rows, which so move together, whichever of them latency lets be executed.
The actor sees what the arm sees. The critic is given the true state and the parameters of the draw: it is needed only
while learning (Pinto et al., "Asymmetric actor critic", 2018).

Episodes end by time, not by success: the value of the state that they end in is the critic's (γ V), since else a
policy would be paid for not finishing. After cloning it stays near what was cloned: steps are small, and the
divergence from the cloned policy is part of the loss.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.learning.algorithm import Practice
from pipelines.learning.experience import MEMORY, Experience, Known
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.mlp import ObservationEncoder, chain_of
from sim2real.errors import UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """What PPO is run with.

    `sigma`: exploration at first, in units of `reach`. `anchor`: weight of the divergence from the cloned policy.
    `watched`: updates at first in which only the critic learns.
    """

    sigma: float = 0.5
    batch: int = 20
    """Episodes per update."""
    passes: int = 8
    """Passes over a batch in an update."""
    part: int = 1200
    """Steps per gradient."""
    actor_rate: float = 1.5e-4
    critic_rate: float = 1e-3
    discount: float = 0.97
    trace: float = 0.9
    """λ of the generalized advantage estimation."""
    clip: float = 0.2
    divergence: float = 0.03
    """An update ends where the policy has moved this far (nats)."""
    anchor: float = 0.0
    watched: int = 0
    check_every: int = 10


WANDERED = 40
"""Episodes that normalizers are fitted on where there is no policy yet."""
FRESH = 0.5 * math.log(1 - MEMORY**2)
"""What of the logarithm of σ is new in a step."""

SCRATCH = Numbers()
CLONED = Numbers(
    sigma=0.12,
    actor_rate=5e-5,
    passes=4,
    divergence=0.01,
    anchor=0.05,
    watched=3,
    discount=0.985,
    check_every=5,
)


def advantages(rewards: Array, values: Array, discount: float, trace: float) -> tuple[Array, Array]:
    """Generalized advantage estimation (Schulman et al., 2016) of one episode that time ended.

    `rewards` (T,), `values` (T + 1,) with that of the last state. Returns advantages and returns, (T,) each:
    A_t = Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} − V_t; a return is A_t + V_t.
    """
    found = np.empty(len(rewards))
    running = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + discount * values[t + 1] - values[t]
        running = delta + discount * trace * running
        found[t] = running
    return found, found + values[:-1]


def log_likelihood(action: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """(B,) ln π of actions (B, n) under N(mean, σ²), σ (n,) or (B, n)."""
    z = (action - mean) * torch.exp(-log_sigma)
    return (-0.5 * z * z - log_sigma - 0.5 * math.log(2 * math.pi)).sum(dim=1)


def clipped_loss(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """−mean of min(r A, clip(r, 1 − ε, 1 + ε) A), over ratios and advantages (B,)."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


class Critic(nn.Module):
    """What is known of a world (B, P) to its value (B,), in units of 1/(1 − γ) rewards."""

    mean: Tensor
    scale: Tensor

    def __init__(self, known: Known, robot: Robot, width: int = 256) -> None:
        super().__init__()
        chain = chain_of(robot)
        self.seen = sum(feature.size for feature in known.features)
        self.encoder = ObservationEncoder([(f.name, f.size) for f in known.features], chain.joints)
        self.encoder.set_chain(chain)
        size = self.encoder.size + known.size - self.seen
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.layers = nn.Sequential(
            nn.Linear(size, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    @torch.no_grad()
    def inputs(self, truths: Tensor) -> Tensor:
        """(B, size), without trainable weights."""
        return torch.cat([self.encoder(truths[:, : self.seen]), truths[:, self.seen :]], dim=1)

    @torch.no_grad()
    def fit_normalizers(self, truths: Tensor) -> None:
        """Set them from (N, P)."""
        inputs = self.inputs(truths)
        self.mean.copy_(inputs.mean(dim=0))
        self.scale.copy_(inputs.std(dim=0, unbiased=False).clamp_min(5e-3))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layers(((inputs - self.mean) / self.scale).clamp(-8.0, 8.0))
        return found[:, 0]


class Actor(nn.Module):
    """A policy network as a distribution of actions; see the module docstring."""

    reach: Tensor

    def __init__(self, network: PolicyNetwork, reach: Array, sigma: float) -> None:
        super().__init__()
        self.network = network
        self.log_sigma = nn.Parameter(torch.full((network.joints,), math.log(sigma)))
        self.register_buffer("reach", torch.as_tensor(reach, dtype=torch.float32))

    def offsets(self, encoded: Tensor) -> Tensor:
        """(B, H, n), the chunk relative to its reference in units of `reach`."""
        network = self.network
        return (network.decode(encoded) * network.output_scale + network.output_mean) / self.reach

    @property
    def sigma(self) -> Array:
        """(n,) in units of `reach`."""
        return np.exp(self.log_sigma.detach().numpy().astype(np.float64))


@dataclass
class Batch:
    """Steps of several episodes: what is computed of them once, before any gradient."""

    encoded: Tensor
    action: Tensor
    carried: Tensor
    """(B, n), what is still tried of the step before."""
    likelihood: Tensor
    advantage: Tensor
    target: Tensor
    inputs: Tensor
    cloned: Tensor | None

    def rows(self, chosen: Tensor) -> "Batch":
        parts: dict[str, Any] = {name: None if v is None else v[chosen] for name, v in vars(self).items()}
        return Batch(**parts)


class ProximalPolicy:
    """PPO as an `Algorithm`."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self.numbers = numbers

    def train(self, practice: Practice) -> None:
        """Practise until episodes or time are used up; the best of the networks measured on the way is kept."""
        torch.set_num_threads(1)
        learner = Learner(practice, self.numbers or (CLONED if practice.cloned else SCRATCH))
        state = practice.restore()
        if state is None:
            learner.begin()
        else:
            learner.load(state)
        while practice.left > 0 and not practice.expired():
            learner.update(min(learner.numbers.batch, practice.left))
            last = practice.left == 0 or practice.expired()
            if learner.updates % learner.numbers.check_every == 0 or last:
                learner.check()
            practice.save(learner.state())


class Learner:
    """Actor, critic and their optimizers over the updates."""

    def __init__(self, practice: Practice, numbers: Numbers) -> None:
        network = practice.network
        if not hasattr(network, "head") or network.pictures:
            raise UserError("ppo trains policies of states (networks of the kind 'mlp')")
        self.practice, self.numbers = practice, numbers
        self.actor = Actor(network, practice.reach, numbers.sigma)
        self.critic = Critic(practice.known, practice.robot)
        self.cloned = copy.deepcopy(self.actor).requires_grad_(False) if practice.cloned else None
        self.optimizers = [
            torch.optim.Adam(self.actor.parameters(), lr=numbers.actor_rate, eps=1e-5),
            torch.optim.Adam(self.critic.parameters(), lr=numbers.critic_rate, eps=1e-5),
        ]
        self.updates = 0
        self.best = (-math.inf, -math.inf)
        self._shuffling = torch.Generator().manual_seed(practice.seed)

    def begin(self) -> None:
        """Normalizers, and for a cloned policy what it can do."""
        practice, network = self.practice, self.practice.network
        if practice.cloned:
            self.check()
            seen = practice.episodes(self.numbers.batch, self.numbers.sigma * practice.reach)
        else:
            seen = practice.wander(WANDERED)
            observations = torch.from_numpy(np.concatenate([e.observations for e in seen]))
            network.fit_normalizers(observations, network(observations).detach())
            with torch.no_grad():
                # An output of 1 is as far as a joint can go in one period, and at first it goes nowhere.
                network.output_mean.zero_()
                network.output_scale.copy_(self.actor.reach.expand_as(network.output_scale))
                network.head.weight.mul_(0.01)  # type: ignore[union-attr,operator]
                network.head.bias.zero_()  # type: ignore[union-attr,operator]
        self.critic.fit_normalizers(torch.from_numpy(np.concatenate([e.truths for e in seen])))

    def update(self, count: int) -> None:
        """Practise `count` episodes and learn from them."""
        practice, numbers = self.practice, self.numbers
        seen = practice.episodes(count, self.actor.sigma * practice.reach)
        batch = self._batch(seen)
        learning = self.updates >= numbers.watched
        moved = off = 0.0
        for _ in range(numbers.passes):
            if moved > 1.5 * numbers.divergence:
                learning = False
            order = torch.randperm(len(batch.action), generator=self._shuffling)
            found = [self._step(batch.rows(rows), learning) for rows in order.split(numbers.part)]
            if learning:
                moved = float(np.mean([m for m, _ in found]))
            off = float(np.mean([v for _, v in found]))
        self.updates += 1
        practice.note(
            update=self.updates,
            success_rate=float(np.mean([episode.success for episode in seen])),
            reward=float(np.mean([episode.rewards.mean() for episode in seen])),
            sigma=float(self.actor.sigma.mean()),
            divergence=moved,
            value_loss=off,
        )

    def check(self) -> None:
        """Measure the policy without exploration, and keep it where it is better than all before."""
        found = self.practice.measure()
        self.practice.note(update=self.updates, measured_success_rate=found[0], measured_reward=found[1])
        if found > self.best:
            self.best = found
            self.practice.keep()

    def state(self) -> dict[str, Any]:
        """Everything that decides the rest of the run, besides what `Practice` keeps."""
        return {
            "log_sigma": self.actor.log_sigma.detach().clone(),
            "critic": self.critic.state_dict(),
            "cloned": None if self.cloned is None else self.cloned.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "updates": self.updates,
            "best": list(self.best),
            "shuffling": self._shuffling.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        with torch.no_grad():
            self.actor.log_sigma.copy_(state["log_sigma"])
        self.critic.load_state_dict(state["critic"])
        if self.cloned is not None:
            self.cloned.load_state_dict(state["cloned"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        self.updates, self.best = int(state["updates"]), tuple(state["best"])
        self._shuffling.set_state(state["shuffling"])

    @torch.no_grad()
    def _batch(self, seen: Sequence[Experience]) -> Batch:
        numbers, network = self.numbers, self.practice.network
        inputs, advantage, target = [], [], []
        for episode in seen:
            known = self.critic.inputs(torch.from_numpy(episode.truths))
            values = self.critic(known).numpy().astype(np.float64)
            # In units in which a reward of 1 for ever is worth 1.
            found = advantages(
                (1 - numbers.discount) * episode.rewards, values, numbers.discount, numbers.trace
            )
            inputs.append(known[:-1])
            advantage.append(found[0])
            target.append(found[1])
        encoded = network.encode(torch.from_numpy(np.concatenate([e.observations for e in seen])))
        mean = self.actor.offsets(encoded).mean(dim=1)
        tried = torch.from_numpy(np.concatenate([e.tried for e in seen])).float()
        sigma = torch.exp(self.actor.log_sigma)
        action = mean + sigma * tried
        before = [np.vstack([np.zeros((1, e.tried.shape[1])), e.tried[:-1]]) for e in seen]
        carried = sigma * MEMORY * torch.from_numpy(np.concatenate(before)).float()
        gain = np.concatenate(advantage)
        return Batch(
            encoded=encoded,
            action=action,
            carried=carried,
            likelihood=log_likelihood(action, mean + carried, self.actor.log_sigma + FRESH),
            advantage=torch.from_numpy((gain - gain.mean()) / (gain.std() + 1e-8)).float(),
            target=torch.from_numpy(np.concatenate(target)).float(),
            inputs=torch.cat(inputs),
            cloned=None if self.cloned is None else self.cloned.offsets(encoded),
        )

    def _step(self, batch: Batch, learning: bool) -> tuple[float, float]:
        """A gradient step of critic and, where it is `learning`, actor; how far the policy has moved from the one that
        practised (nats), and the critic's squared error."""
        error = ((self.critic(batch.inputs) - batch.target) ** 2).mean()
        self._descend(1, error)
        if not learning:
            return 0.0, float(error.detach())
        offsets, log_sigma = self.actor.offsets(batch.encoded), self.actor.log_sigma
        mean = offsets.mean(dim=1) + batch.carried
        change = log_likelihood(batch.action, mean, log_sigma + FRESH) - batch.likelihood
        loss = clipped_loss(torch.exp(change), batch.advantage, self.numbers.clip)
        if batch.cloned is not None:
            # The divergence of two normal distributions of equal width, in the mean over the chunk's rows.
            away = (offsets - batch.cloned) / self.numbers.sigma
            loss = loss + self.numbers.anchor * 0.5 * (away**2).sum(dim=2).mean()
        self._descend(0, loss)
        with torch.no_grad():
            # Neither blind nor wild: what is tried stays of the size that it had at first.
            log_sigma.clamp_(*(math.log(factor * self.numbers.sigma) for factor in (0.1, 1.5)))
            # (r − 1) − ln r: an estimate of the divergence that is never negative.
            moved = (torch.exp(change) - 1 - change).mean()
        return float(moved), float(error.detach())

    def _descend(self, which: int, loss: Tensor) -> None:
        optimizer = self.optimizers[which]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.5)
        optimizer.step()
