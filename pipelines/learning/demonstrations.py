"""Training data: pairs of observation and chunk. Free of torch, for the workers that collect them."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError


@dataclass(frozen=True)
class Demonstrations:
    """N pairs: `observations` (N, D) float32, `chunks` (N, H, n) float32 rad, `episodes` (N,) which episode each
    is from. The pairs of one episode are neighbours in time, so they are split by episode, never by pair."""

    observations: NDArray[np.float32]
    chunks: NDArray[np.float32]
    episodes: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.observations)
        if self.observations.ndim != 2 or self.chunks.ndim != 3 or self.episodes.shape != (n,):
            raise ValueError(
                "demonstrations need observations (N, D), chunks (N, H, n) and episodes (N,), got "
                f"{self.observations.shape}, {self.chunks.shape}, {self.episodes.shape}"
            )
        if len(self.chunks) != n:
            raise ValueError(f"{n} observations but {len(self.chunks)} chunks")
        for name in ("observations", "chunks"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"the {name} hold values that are not finite")

    def __len__(self) -> int:
        return len(self.observations)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Demonstrations":
        return Demonstrations(self.observations[rows], self.chunks[rows], self.episodes[rows])

    def split(self, fraction: float, seed: int) -> tuple["Demonstrations", "Demonstrations"]:
        """(training, held out): about `fraction` of the episodes, at least one of two or more, are held out."""
        episodes = np.unique(self.episodes)
        count = round(fraction * len(episodes))
        if fraction > 0 and len(episodes) > 1:
            count = min(max(count, 1), len(episodes) - 1)
        chosen = np.random.default_rng(seed).permutation(episodes)[:count]
        held_out = np.isin(self.episodes, chosen)
        return self.select(~held_out), self.select(held_out)

    def save(self, path: Path) -> None:
        """Write an .npz file, complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, observations=self.observations, chunks=self.chunks, episodes=self.episodes)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Demonstrations":
        """Read what `save` wrote. Raises UserError for a missing or foreign file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["observations"], file["chunks"], file["episodes"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} does not hold training data of this project: {error}") from None

    @classmethod
    def joined(cls, parts: "Sequence[Demonstrations]") -> "Demonstrations":
        """All pairs of several; at least one. Their episodes must be numbered differently."""
        return cls(
            np.concatenate([part.observations for part in parts]),
            np.concatenate([part.chunks for part in parts]),
            np.concatenate([part.episodes for part in parts]),
        )
