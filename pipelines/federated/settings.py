"""What a federated training is, as values; and which choices there are."""

import math
from dataclasses import dataclass
from typing import Final

from pipelines.federated.codecs import CODECS
from pipelines.federated.strategies import STRATEGIES
from sim2real.errors import UserError, nearest

PERSONAL: Final = ("none", "head", "adapters")
"""What each client keeps for itself beside the shared weights."""

MOST_CLIENTS = 1000
MOST: Final = {"rounds": 100_000, "steps": 1_000_000, "batch_size": 1_000_000, "width": 4096, "depth": 32}
"""A server elsewhere may say these; a client does not take just anything for them."""


@dataclass(frozen=True)
class Learning:
    """What is learned, and how a client learns for one round: what server and clients must agree on.

    `steps` of `batch_size` pairs a round, with a learning rate that falls over all rounds as a cosine.
    """

    task: str = "reach"
    robot: str = "so101"
    rounds: int = 10
    strategy: str = "fedavg"
    codec: str = "none"
    personal: str = "none"
    steps: int = 40
    batch_size: int = 256
    learning_rate: float = 2e-3
    width: int = 128
    depth: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            _whole(name, getattr(self, name), 1, most)
        _whole("seed", self.seed, 0)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"the learning rate must be a positive number, got {self.learning_rate}")
        for what, value, known in (
            ("strategy", self.strategy, tuple(STRATEGIES)),
            ("codec", self.codec, tuple(CODECS)),
            ("personal", self.personal, PERSONAL),
        ):
            if value not in known:
                raise UserError(
                    f"--{what} is one of {', '.join(known)}; got '{value}'{nearest(value, known)}"
                )


@dataclass(frozen=True)
class Federation(Learning):
    """A simulated federation: who takes part, what befalls them, and how it is measured.

    `alpha`: of the Dirichlet distribution that shares tasks out, infinite where all have alike. `stragglers`, `dead`:
    share of the clients that are late, or die, in each round; `lying`: how many send what is wrong. A round closes at
    the median + `deadline` · MAD of past times, and counts where a share `quorum` of its clients has answered.
    `episodes` of each client's own, `evaluate` of each measurement of each client.
    """

    clients: int = 8
    alpha: float = 0.5
    episodes: int = 20
    evaluate: int = 16
    stragglers: float = 0.0
    dead: float = 0.0
    lying: int = 0
    quorum: float = 0.5
    deadline: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("clients", self.clients, 2, MOST_CLIENTS)
        _whole("episodes", self.episodes, 2, 10_000)
        _whole("evaluate", self.evaluate, 1, 10_000)
        _whole("lying", self.lying, 0, self.clients - 1)
        if not self.alpha > 0:
            raise UserError(
                f"--alpha must be above 0 (inf: all have the same share of tasks), got {self.alpha}"
            )
        for name in ("stragglers", "dead"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name} is a share of the clients, 0 … 1, got {getattr(self, name)}")
        if not 0 < self.quorum <= 1:
            raise UserError(f"--quorum is a share of a round's clients, above 0 up to 1, got {self.quorum}")
        if not (math.isfinite(self.deadline) and self.deadline >= 0):
            raise UserError(f"--deadline counts MADs beyond the median, 0 or more, got {self.deadline}")


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise UserError unless `value` is a whole number in its range."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < least
        or (most is not None and value > most)
    ):
        allowed = f"{least} or more" if most is None else f"{least} … {most}"
        raise UserError(f"--{name.replace('_', '-')} must be a whole number, {allowed}; got {value}")
