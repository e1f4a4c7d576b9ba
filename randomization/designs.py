"""Designs: which points of the unit cube to try, before distributions turn them into values.

| design | row i depends on | enlarge later | for |
|---|---|---|---|
| `sobol` | i | yes | default: fills the cube evenly, any number of rows |
| `independent` | i | yes | textbook statistics: rows are independent random points |
| `lhs` | i and the number of rows | no | Latin hypercube: every margin evenly covered at small numbers |
| `oat` | i | yes | one at a time: all at nominal but one |
| `grid` | i | yes | full grid over a few columns, Sobol over the rest: maps |
| `saltelli` | i | yes | pick-freeze pairs for exact Sobol indices (d + 2 rows per base sample) |

A point is a row of probabilities in (0, 1), one per column of the space; NaN leaves that column at its
nominal value. `seed_index` says which rows share their episode noise: rows that differ by one column on
purpose must not differ by noise as well.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]

_EDGE = 2.0**-33
"""Points stay this far inside (0, 1): Sobol points lie on a grid of 2^-30 that includes 0 itself."""


@dataclass(frozen=True)
class Design(ABC):
    """A rule that gives row `i` of a table of points."""

    name: ClassVar[str]
    prefix_stable: ClassVar[bool] = True
    """Whether row i stays the same when more rows are asked for."""

    @abstractmethod
    def points(self, count: int, dimension: int, seed: int) -> Array:
        """The first `count` points, (count, dimension); raises UserError for counts it cannot serve."""

    def seed_index(self, count: int, dimension: int) -> NDArray[np.int64]:
        """(count,) rows with equal numbers get the same episode seed."""
        return np.arange(count, dtype=np.int64)


_BLOCK = 6
"""Columns that form one Sobol sequence; see Sobol."""


@dataclass(frozen=True)
class Sobol(Design):
    """Scrambled Sobol points (scipy.stats.qmc) in blocks of six columns, the blocks randomly aligned.

    One sequence over many columns would not do for sensitivity: at a thousand rows the coarse halves of every
    third column of a hundred are products of those of two others, so that an interaction of two parameters
    shows up as an effect of an innocent third. Within a block of six that does not happen from 512 rows on;
    between blocks the rows are shuffled, within each range 2^k .. 2^(k+1), which keeps every column's even
    coverage and makes row i independent of how many rows are asked for.
    """

    name: ClassVar[str] = "sobol"

    def points(self, count: int, dimension: int, seed: int) -> Array:
        return _sobol(count, dimension, seed)


@dataclass(frozen=True)
class Independent(Design):
    """Independent uniform points."""

    name: ClassVar[str] = "independent"

    def points(self, count: int, dimension: int, seed: int) -> Array:
        return _inside(_generator(seed, 1).random((count, dimension)))


@dataclass(frozen=True)
class LatinHypercube(Design):
    """Latin hypercube: each of `count` equal slices of every column holds exactly one point."""

    name: ClassVar[str] = "lhs"
    prefix_stable: ClassVar[bool] = False

    def points(self, count: int, dimension: int, seed: int) -> Array:
        from scipy.stats import qmc

        if count == 0 or dimension == 0:
            return np.zeros((count, dimension))
        return _inside(qmc.LatinHypercube(dimension, seed=_generator(seed, 2)).random(count))


@dataclass(frozen=True)
class OneAtATime(Design):
    """Row i moves column i mod d and leaves the others at nominal.

    The levels of a column follow the van der Corput sequence (1/2, 1/4, 3/4, 1/8, …), so that any number of
    rows covers the range evenly. All rows share their noise: what changes is the parameter alone.
    """

    name: ClassVar[str] = "oat"

    def points(self, count: int, dimension: int, seed: int) -> Array:
        points = np.full((count, dimension), np.nan)
        if dimension:
            rows = np.arange(count)
            points[rows, rows % dimension] = [_van_der_corput(int(i) // dimension + 1) for i in rows]
        return points

    def seed_index(self, count: int, dimension: int) -> NDArray[np.int64]:
        return np.zeros(count, dtype=np.int64)


@dataclass(frozen=True)
class Grid(Design):
    """Every combination of `levels` values in `columns`, over and over; Sobol in all other columns.

    Levels are the middles of equal slices of probability. With no columns named, all are gridded.
    """

    levels: int = 5
    columns: tuple[int, ...] = ()
    name: ClassVar[str] = "grid"

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise UserError(f"a grid needs at least 2 levels, got {self.levels}")

    def points(self, count: int, dimension: int, seed: int) -> Array:
        columns = self.columns or tuple(range(dimension))
        cells = self.levels ** len(columns)
        if count < cells:
            raise UserError(
                f"a grid of {self.levels} levels over {len(columns)} parameters has {cells} cells, which "
                f"{count} draws do not fill; take at least {cells} draws, fewer levels (--levels), or grid "
                "fewer parameters (those given with --param)"
            )
        points = _sobol(count, dimension, seed)
        cell = np.arange(count) % cells
        for column in columns:
            points[:, column] = (cell % self.levels + 0.5) / self.levels
            cell = cell // self.levels
        return points


@dataclass(frozen=True)
class Saltelli(Design):
    """Pick-freeze: rows A, AB_1 … AB_d, B per base sample, where AB_i is A with column i taken from B.

    `count` should be a multiple of d + 2; a last incomplete block is of no use to the estimators. AB rows
    share A's noise, so noise acts as one more input that the block does not vary. Source: Saltelli et al.,
    Computer Physics Communications 181 (2010), table 2.
    """

    name: ClassVar[str] = "saltelli"

    def points(self, count: int, dimension: int, seed: int) -> Array:
        block = dimension + 2
        bases = -(-count // block)
        pairs = _sobol(bases, 2 * dimension, seed)
        a, b = pairs[:, :dimension], pairs[:, dimension:]
        rows = np.repeat(a[:, None, :], block, axis=1)
        for i in range(dimension):
            rows[:, i + 1, i] = b[:, i]
        rows[:, -1, :] = b
        return rows.reshape(bases * block, dimension)[:count]

    def seed_index(self, count: int, dimension: int) -> NDArray[np.int64]:
        block = dimension + 2
        rows = np.arange(count, dtype=np.int64)
        return 2 * (rows // block) + (rows % block == block - 1)


def saltelli_draws(base: int, dimension: int) -> int:
    """Rows that `base` base samples need."""
    return base * (dimension + 2)


def load_design(name: str, *, levels: int = 5, columns: Sequence[int] = ()) -> Design:
    """The design of this name; `levels` and `columns` are for grids. Raises UserError for unknown names."""
    if name == Grid.name:
        return Grid(levels=levels, columns=tuple(columns))
    if name not in DESIGNS:
        raise UserError(f"unknown design '{name}'; allowed are {', '.join(DESIGNS)}")
    return DESIGNS[name]()


DESIGNS: dict[str, type[Design]] = {
    cls.name: cls for cls in (Sobol, Independent, LatinHypercube, OneAtATime, Grid, Saltelli)
}


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))


def _sobol(count: int, dimension: int, seed: int) -> Array:
    if count == 0 or dimension == 0:
        return np.zeros((count, dimension))
    blocks = range(0, dimension, _BLOCK)
    points = [_sobol_block(count, min(_BLOCK, dimension - j), seed, j // _BLOCK) for j in blocks]
    return _inside(np.concatenate(points, axis=1))


def _sobol_block(count: int, dimension: int, seed: int, block: int) -> Array:
    import warnings

    from scipy.stats import qmc

    rng = _generator(seed, block + 16)
    # Whole powers of two, so that a row's place in its shuffled range does not depend on `count`.
    whole = 1 << (count - 1).bit_length()
    with warnings.catch_warnings():
        # Any number of rows is wanted here; balance at powers of two is documented, not warned about.
        warnings.simplefilter("ignore", UserWarning)
        points = qmc.Sobol(dimension, scramble=True, seed=rng).random(whole)
    if block:
        start = 1
        while start < whole:
            points[start : 2 * start] = rng.permutation(points[start : 2 * start])
            start *= 2
    return np.asarray(points[:count])


def _inside(points: Array) -> Array:
    return np.clip(points, _EDGE, 1 - _EDGE)


def _van_der_corput(i: int) -> float:
    digits = math.ceil(math.log2(i + 1))
    return int(format(i, f"0{digits}b")[::-1], 2) / 2**digits
