"""Training data: pairs of observation and chunk. Free of torch, for the workers that collect them."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.pictures import PREFIX


@dataclass(frozen=True)
class Demonstrations:
    """N pairs: `observations` (N, D) float32, `chunks` (N, H, n) float32 rad, `episodes` (N,) which episode each
    is from. The pairs of one episode are neighbours in time, so they are split by episode, never by pair.

    For policies that see, `pictures` (N, H, W, 3) uint8 by their entries in observations, and `truths` (N, K) what is
    known of the objects (NaN: nothing; None: of none); for policies of states with a history, of the draw."""

    observations: NDArray[np.float32]
    chunks: NDArray[np.float32]
    episodes: NDArray[np.int64]
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    truths: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.observations)
        if self.observations.ndim != 2 or self.chunks.ndim != 3 or self.episodes.shape != (n,):
            raise ValueError(
                "demonstrations need observations (N, D), chunks (N, H, n) and episodes (N,), got "
                f"{self.observations.shape}, {self.chunks.shape}, {self.episodes.shape}"
            )
        if len(self.chunks) != n:
            raise ValueError(f"{n} observations but {len(self.chunks)} chunks")
        for name, part in self._besides().items():
            if len(part) != n:
                raise ValueError(f"{n} observations but {len(part)} of {name}")
        for name in ("observations", "chunks"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"the {name} hold values that are not finite")

    def __len__(self) -> int:
        return len(self.observations)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Demonstrations":
        return Demonstrations(
            self.observations[rows],
            self.chunks[rows],
            self.episodes[rows],
            {name: images[rows] for name, images in self.pictures.items()},
            None if self.truths is None else self.truths[rows],
        )

    def _besides(self) -> dict[str, NDArray[Any]]:
        """Pictures and truths, by the names that a file has for them."""
        return {**self.pictures, **({} if self.truths is None else {"truths": self.truths})}

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
                np.savez(
                    file,
                    observations=self.observations,
                    chunks=self.chunks,
                    episodes=self.episodes,
                    **self._besides(),  # type: ignore[arg-type]  # names of arrays, not options
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Demonstrations":
        """Read what `save` wrote. Raises UserError for a missing or foreign file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                pictures = {name: file[name] for name in file.files if name.startswith(PREFIX)}
                truths = file["truths"] if "truths" in file.files else None
                return cls(file["observations"], file["chunks"], file["episodes"], pictures, truths)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} does not hold training data of this project: {error}") from None

    @classmethod
    def joined(cls, parts: "Sequence[Demonstrations]") -> "Demonstrations":
        """All pairs of several; at least one. Their episodes must be numbered differently."""
        return cls(
            np.concatenate([part.observations for part in parts]),
            np.concatenate([part.chunks for part in parts]),
            np.concatenate([part.episodes for part in parts]),
            {name: np.concatenate([part.pictures[name] for part in parts]) for name in parts[0].pictures},
            None
            if parts[0].truths is None
            else np.concatenate([part.truths for part in parts if part.truths is not None]),
        )
